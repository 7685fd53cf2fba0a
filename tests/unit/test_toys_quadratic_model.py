"""Toys of the quadratic model: simulation against prediction (papers.md 3.2), and against runs written out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from declared import default_settings, toy_of

from sgdline.equivalent_steps import ema_step
from sgdline.quadratic_model import Average, epochwise_variance
from sgdline.tables import read_table
from sgdline.tables.kind import kind_of
from sgdline.toys import _chains, simulate_toy
from sgdline.toys.quadratic_spectrum import simulate as quadratic_spectrum

TOYS = ["averaged_variance", "momentum_variance", "epoch_sampling", "equivalent_schedule", "quadratic_spectrum"]
SMALL: dict[str, dict[str, Any]] = {
    "averaged_variance": {"chains": 20, "snapshots": 2},
    "momentum_variance": {"chains": 20, "snapshots": 2},
    "epoch_sampling": {"relative_lr": [0.1, 1.0], "chains": 20, "snapshots": 2},
    "equivalent_schedule": {"chains": 3},
    "quadratic_spectrum": {"updates": 40, "two_point_distance": 10, "chains": 7, "points": 9, "directions": 4},
}


def settings(toy: str, **changes: Any) -> dict[str, Any]:
    """Return a toy's default settings with these changes."""
    defaults = default_settings("toy", toy)
    return {**defaults, **changes}


def columns(found: Mapping[str, list[Any]], **values: Any) -> dict[str, np.ndarray]:
    """Return the rows with these values, numbers as float64 and nulls as NaN."""
    names = list(found)
    chosen = [place for place in range(len(found[names[0]])) if all(found[key][place] == values[key] for key in values)]
    picked = {name: [found[name][place] for place in chosen] for name in names}
    return {
        name: np.array(rows) if any(isinstance(row, str) for row in rows) else np.array(rows, dtype=np.float64)
        for name, rows in picked.items()
    }


@pytest.mark.parametrize("toy", TOYS)
def test_a_toy_fills_its_table_and_repeats_itself(toy: str, tmp_path: Path) -> None:
    names = [tmp_path / f"{name}.arrow" for name in ("one", "two", "other")]
    for path, seed in zip(names, (0, 0, 1), strict=True):
        simulate_toy(toy, path, settings=settings(toy, **SMALL[toy], seed=seed), provenance={})
    one, two, other = (read_table(path, kind_of(toy)) for path in names)
    assert one.num_rows > 5
    assert one.equals(two)
    assert not one.equals(other)


@pytest.mark.slow
def test_all_cells_of_the_table_agree_with_their_prediction() -> None:
    """papers.md 3.2: 3 % with at least 20 snapshots of at least 4 000 chains."""
    block = settings("averaged_variance", seed=11)
    assert block["chains"] >= 4000
    assert block["snapshots"] >= 20
    averages, rates = _chains.averages_of(toy_of("averaged_variance", block)), np.array(block["relative_lr"])
    found = _chains.simulate_averages(block["relative_lr"], averages, chains=block["chains"], snapshots=20, seed=11)
    predicted = np.array([average.variance(rates) for average in averages])
    assert predicted.shape == (5, 5)
    np.testing.assert_allclose(found.variances, predicted, rtol=0.03)
    apart = (found.variances - predicted) / found.standard_errors
    assert np.abs(apart).max() < 4.0
    assert 0.5 < np.sqrt(np.mean(apart**2)) < 1.6  # standard errors are what they say


@pytest.mark.parametrize("momentum", [0.5, 0.9])
@pytest.mark.slow
def test_momentum_agrees_with_its_prediction(momentum: float) -> None:
    block = settings("momentum_variance")
    averages = _chains.averages_of(
        toy_of("momentum_variance", {**block, "two_point_distance": [1, 5, 20], "swa_spacing": [1, 3]})
    )
    rates = np.array([0.02, 0.1, 0.5, 2.4])
    found = _chains.simulate_averages(rates, averages, chains=4000, snapshots=20, seed=2, momentum=momentum)
    predicted = np.array([average.variance(rates, momentum=momentum) for average in averages])
    np.testing.assert_allclose(found.variances, predicted, rtol=0.03)


def test_averages_are_those_of_the_iterates_one_by_one() -> None:
    """The same draws, all iterates kept."""
    averages = [
        Average("iterate"),
        Average("ema", decay=0.8),
        Average("two_point", count=2, spacing=4),
        Average("swa", count=3, spacing=2),
    ]
    a, beta, chains, snapshots = np.array([0.7, 1.2]), 0.3, 5, 3
    found = _chains.simulate_averages(a, averages, chains=chains, snapshots=snapshots, seed=9, momentum=beta)
    generator = np.random.default_rng(9)
    start = _chains._burn_in(a, beta, 0.8)
    position, velocity, ema = np.zeros((chains, 2)), np.zeros((chains, 2)), np.zeros((chains, 2))
    iterates, emas = [position], [ema]
    for _ in range(start + snapshots * 5):
        velocity = beta * velocity + position - generator.standard_normal((chains, 2))
        position = position - a * velocity
        ema = 0.8 * ema + 0.2 * position
        iterates.append(position)
        emas.append(ema)
    squares = np.zeros((4, chains, 2))
    for snapshot in range(1, snapshots + 1):
        t = start + 5 * snapshot
        values = [
            iterates[t],
            emas[t],
            (iterates[t] + iterates[t - 4]) / 2,
            (iterates[t] + iterates[t - 2] + iterates[t - 4]) / 3,
        ]
        squares += np.array(values) ** 2 / snapshots
    np.testing.assert_allclose(found.variances, squares.mean(axis=1), rtol=1e-10)
    np.testing.assert_allclose(found.standard_errors, squares.std(axis=1, ddof=1) / np.sqrt(chains), rtol=1e-10)


def test_an_epoch_takes_every_minimiser_once() -> None:
    epochs = _chains._Epochs(np.random.default_rng(0), 7, 2, 5)
    drawn = np.array([epochs(update) for update in range(1, 26)])  # (updates, chains, directions)
    for chain in range(7):
        first = -(chain + 1) % 5  # where this chain's epoch begins
        whole = [drawn[start : start + 5, chain] for start in range(first, 20, 5)]
        for epoch in whole:
            np.testing.assert_array_equal(np.sort(epoch, axis=0), np.sort(whole[0], axis=0))
            np.testing.assert_allclose(epoch.mean(axis=0), 0.0, atol=1e-12)
            np.testing.assert_allclose((epoch**2).mean(axis=0), 1.0)
        assert any(not np.array_equal(epoch, whole[0]) for epoch in whole[1:])  # in new orders


@pytest.mark.slow
def test_without_replacement_flat_directions_vary_less() -> None:
    rates, averages = [0.01, 0.1, 1.0], [Average("iterate"), Average("two_point", count=2, spacing=200)]
    found = _chains.simulate_averages(rates, averages, chains=4000, snapshots=20, seed=3, batches_per_epoch=20)
    wanted = epochwise_variance(rates, 1.0, batches_per_epoch=20)
    np.testing.assert_allclose(found.variances[0], wanted, rtol=0.03)
    plain = averages[0].variance(np.array(rates))
    assert found.variances[0, 0] < 0.1 * plain[0]
    assert found.variances[0, 2] == pytest.approx(plain[2], rel=0.03)
    np.testing.assert_allclose(found.variances[1], wanted / 2, rtol=0.15)  # iterates ten epochs apart


# -- schedules -------------------------------------------------------------------------------------------------------


def test_last_iterates_are_the_averages() -> None:
    found = toy_of("equivalent_schedule", settings("equivalent_schedule")).simulate()
    whole = columns(found)
    assert len(whole["step"]) == 4 * 3 * 400
    assert whole["difference"].max() < 1e-12
    for rate in (0.05, 0.3, 1.0, 1.4):
        rows = columns(found, relative_lr=rate, average="ema")
        assert rows["schedule_iterate"][-1] == pytest.approx(rows["average_value"][-1], abs=1e-12)
        assert rows["constant_iterate"][-1] != pytest.approx(rows["average_value"][-1], abs=1e-3)
        assert rows["remaining"].tolist() == list(range(399, -1, -1))
        assert rows["closed_form"][-5:] == pytest.approx([ema_step(rate, 0.97, m) for m in range(4, -1, -1)])
        late = rows["remaining"] < 100
        assert rows["step"][late] == pytest.approx(rows["closed_form"][late], rel=1e-9)
        ema = 3.0
        for iterate in rows["constant_iterate"]:
            ema = 0.97 * ema + 0.03 * iterate
        assert rows["average_value"][0] == pytest.approx(ema, abs=1e-12)
    two = columns(found, relative_lr=0.3, average="two_point")
    value = (two["constant_iterate"][-1] + two["constant_iterate"][-61]) / 2
    assert two["average_value"][0] == pytest.approx(value, abs=1e-12)
    swa = columns(found, relative_lr=1.0, average="swa")
    assert swa["average_value"][0] == pytest.approx(swa["constant_iterate"][-60:].mean(), abs=1e-12)


def test_negative_weights_are_told_not_clipped() -> None:
    found = toy_of("equivalent_schedule", settings("equivalent_schedule")).simulate()
    rows = columns(found, relative_lr=1.4, average="two_point")
    outside = rows["status"] == "outside"
    np.testing.assert_array_equal(outside, (rows["step"] < 0.0) | (rows["step"] > 2.0))
    assert outside.any()
    assert (columns(found, relative_lr=0.3)["status"] == "ok").all()
    spaced = toy_of("equivalent_schedule", settings("equivalent_schedule", swa_count=5, swa_spacing=[3])).simulate()
    rows = columns(spaced, relative_lr=0.3, average="swa")
    assert np.isnan(rows["closed_form"]).all()  # none is known
    assert rows["difference"].max() < 1e-12


# -- a spectrum ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("noise", ["hessian", "equal"])
def test_a_spectrum_does_what_is_predicted(noise: str) -> None:
    block = settings(
        "quadratic_spectrum", noise=noise, updates=1500, two_point_distance=300, smallest_eigenvalue=0.05, chains=1000,
        points=25, seed=4,
    )  # fmt: skip
    found = toy_of("quadratic_spectrum", block).simulate()
    rows = columns(found)
    random = rows["standard_error"] > 1e-9 * rows["predicted"]
    apart = (rows["simulated"] - rows["predicted"])[random] / rows["standard_error"][random]
    assert np.abs(apart).max() < 5.0
    assert np.mean(np.abs(apart) <= 2.0) > 0.85
    same = columns(found, quantity="same_batches")
    np.testing.assert_allclose(same["simulated"], same["predicted"], rtol=1e-9, atol=1e-20)
    last = columns(found, update=1500)
    for quantity, radius in (("shell_iterate", 30.0), ("shell_two_point", 15.0)):
        [place] = np.flatnonzero(last["quantity"] == quantity)
        assert last["simulated"][place] == pytest.approx(radius, rel=0.05)
        assert last["predicted"][place] == pytest.approx(last["stationary"][place], rel=0.03)
        assert last["deviation"][place] == pytest.approx(last["predicted_deviation"][place], rel=0.15)
    # Two iterates far apart on the shell; the EMA is inside of their mean.
    [ema] = np.flatnonzero(last["quantity"] == "shell_ema")
    assert last["simulated"][ema] < 15.0
    directions = columns(found, quantity="variance_iterate")
    assert directions["relative_lr"] == pytest.approx(0.15 * np.geomspace(10.0, 0.05, 30))
    start = columns(found, update=0)
    eigenvalues = np.geomspace(10.0, 0.05, 30)
    sigma = 1.0 / eigenvalues if noise == "hessian" else np.ones(30)
    a = 0.15 * eigenvalues
    wanted = 0.5 * float(np.sum(eigenvalues * 100.0 * sigma * a / (2 - a)))
    assert start["simulated"][start["quantity"] == "loss"] == pytest.approx([wanted])
    assert start["simulated"][start["quantity"] == "different_batches"] == pytest.approx([0.0])


def test_moments_of_a_spectrum_by_a_recursion() -> None:
    """Mean and covariance of (x, EMA) step by step."""
    a, noise, start, decay = np.array([0.3, 1.0, 1.7]), np.array([1.0, 2.0, 0.5]), np.array([4.0, -1.0, 0.0]), 0.8
    moments = quadratic_spectrum._Moments(a, noise, start, decay=decay, updates=30)
    mean, ema_mean = start.copy(), start.copy()
    variance, shared, ema_variance = np.zeros(3), np.zeros(3), np.zeros(3)
    history = []
    for update in range(31):
        history.append((mean, variance))
        for found, wanted in zip(
            (*moments.iterate(update), *moments.ema(update)), (mean, variance, ema_mean, ema_variance), strict=True
        ):
            np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=1e-13)
        new_variance = (1 - a) ** 2 * variance + a**2 * noise
        new_shared = decay * (1 - a) * shared + (1 - decay) * new_variance
        ema_variance = (
            decay**2 * ema_variance + 2 * decay * (1 - decay) * (1 - a) * shared + (1 - decay) ** 2 * new_variance
        )
        mean = (1 - a) * mean
        ema_mean = decay * ema_mean + (1 - decay) * mean
        variance, shared = new_variance, new_shared
    (mean, variance), (old_mean, old_variance) = history[30], history[23]
    two_mean, two_variance = moments.two_point(30, 7)
    np.testing.assert_allclose(two_mean, (mean + old_mean) / 2, rtol=1e-12)
    covariance = (1 - a) ** 7 * old_variance
    np.testing.assert_allclose(two_variance, (variance + old_variance + 2 * covariance) / 4, rtol=1e-12)
