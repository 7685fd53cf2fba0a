"""Gains predicted from a spectrum: closed forms, a dense covariance, simulated SGD; joined with the measured ones."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from walk_runs import as_table

from sgdline.analysis.autocorrelation import autocorrelation
from sgdline.analysis.predicted_gains import (
    Average,
    Directions,
    average_variance,
    directions_of,
    epochwise_average_variance,
    epochwise_gain,
    gain_rows,
    iterate_variance,
    predict_gains,
    stationary_gain,
    weights_of,
)
from sgdline.quadratic_model import epochwise_variance
from sgdline.tables import provenance, read_table, write_table

FACTS: dict[str, Any] = {"momentum": 0.0, "batch_size": 32, "training_samples": 1024, "updates_per_epoch": 32}
FACTS |= {"batch_norm": "train", "samples": 1024, "model": "mlp"}
AVERAGES = [Average("ema", 0.95), Average("two_point", 50), Average("swa", 50, 1), Average("swa", 50, 4)]


def directions(*eigenvalues: float, lr: float = 0.1, **changes: Any) -> Directions:
    noise = changes.pop("noise", np.ones(len(eigenvalues)))
    options: dict[str, Any] = {"step": 0, "momentum": 0.0, "batch_share": 0.0, "updates_per_epoch": 10} | changes
    return Directions(eigenvalues=np.array(eigenvalues), noise_variances=np.asarray(noise, float), lr=lr, **options)


@pytest.mark.parametrize(
    ("a", "variance", "averaged"),
    [  # papers.md 3.2, table: V and the variances of EMA, two points, SWA with c = 1 and c = 4
        (0.02, 0.01010, (0.00725, 0.00689, 0.00741, 0.00379)),
        (0.1, 0.05263, (0.01727, 0.02645, 0.01623, 0.00484)),
        (0.5, 0.33333, (0.02401, 0.16667, 0.01947, 0.00754)),
        (1.5, 3.00000, (0.02738, 1.50000, 0.02053, 0.06783)),
    ],
)
def test_a_stationary_gain_is_that_of_the_table(a: float, variance: float, averaged: tuple[float, ...]) -> None:
    sharp = directions(10 * a, lr=0.1)
    for average, own in zip(AVERAGES, averaged, strict=True):
        assert stationary_gain(sharp, average) == pytest.approx(5 * a * (variance - own), abs=5 * a * 1e-5)


def test_gains_add_up_over_directions() -> None:
    parts = [directions(value, noise=[noise]) for value, noise in ((8.0, 0.3), (1.0, 2.0))]
    both = directions(8.0, 1.0, noise=[0.3, 2.0])
    for average in AVERAGES:
        assert stationary_gain(both, average) == pytest.approx(sum(stationary_gain(part, average) for part in parts))
        assert epochwise_gain(both, average, steps=300) == pytest.approx(
            sum(epochwise_gain(part, average, steps=300) for part in parts)
        )


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("average", AVERAGES)
def test_a_long_run_with_replacement_is_stationary(average: Average, momentum: float) -> None:
    sharp = directions(0.5, 2.0, 9.0, 15.0, momentum=momentum)
    found = epochwise_average_variance(sharp, weights_of(average, 3000))
    np.testing.assert_allclose(found, average_variance(sharp, average), rtol=1e-9)
    iterate = np.eye(1, 3001, 3000)[0]
    np.testing.assert_allclose(epochwise_average_variance(sharp, iterate), iterate_variance(sharp), rtol=1e-9)


@pytest.mark.parametrize("average", [*AVERAGES, Average("ema", 0.0)])
@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_epochs_of_samples_against_a_dense_covariance(average: Average, momentum: float) -> None:
    """Every iterate as a row of coefficients on the batches, their covariance written out."""
    steps, epoch, share = 203, 7, 1 / 7.5  # an incomplete last epoch; some samples left out of each epoch
    sharp = directions(0.3, 4.0, 13.0, momentum=momentum, batch_share=share, updates_per_epoch=epoch, noise=[1, 2, 0.5])
    weights = weights_of(average, steps)
    covariance = np.eye(steps)
    for first in range(steps):
        for second in range(steps):
            if first // epoch == second // epoch:
                covariance[first, second] -= share
    for place, (a, noise) in enumerate(zip(sharp.relative_lr, sharp.noise_variances, strict=True)):
        rows, velocity = [np.zeros(steps)], np.zeros(steps)
        for step in range(steps):
            velocity = momentum * velocity + a * (rows[-1] - np.eye(1, steps, step)[0])
            rows.append(rows[-1] - velocity)
        mean = weights @ np.array(rows)
        expected = noise * mean @ covariance @ mean
        assert epochwise_average_variance(sharp, weights)[place] == pytest.approx(expected, rel=1e-9)


def test_the_last_iterate_of_epochs_is_that_of_the_quadratic_model() -> None:
    count, noise = 16, 2.0  # the model's sigma^2 is one batch's own mean square, ours that of a batch with replacement
    sharp = directions(0.02, 0.2, 2.0, 15.0, batch_share=1 / count, updates_per_epoch=count, noise=[noise] * 4)
    for updates in (1, 5, 16):
        steps = count * 400 + updates
        found = epochwise_average_variance(sharp, np.eye(1, steps + 1, steps)[0])
        expected = epochwise_variance(
            sharp.relative_lr, noise * (1 - 1 / count), batches_per_epoch=count, updates=updates
        )
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_simulated_sgd_over_samples_gains_what_is_predicted() -> None:
    """SGD on quadratic losses of 24 samples with minimisers of their own, batches of 4, shuffled every epoch."""
    rng = np.random.default_rng(3)
    samples, size, steps, chains, h, lr = 24, 4, 63, 40_000, 3.0, 0.1
    minimisers = rng.standard_normal(samples)
    minimisers -= minimisers.mean()
    own = directions(
        h, lr=lr, noise=[minimisers.var(ddof=1) / size], batch_share=size / samples, updates_per_epoch=samples // size
    )
    iterates = np.zeros((steps + 1, chains))
    for step in range(steps):
        place = step % (samples // size)
        if place == 0:
            order = rng.permuted(np.tile(minimisers, (chains, 1)), axis=1)
        centre = order[:, place * size : (place + 1) * size].mean(axis=1)
        iterates[step + 1] = iterates[step] - lr * h * (iterates[step] - centre)
    for average in (Average("ema", 0.9), Average("two_point", 10), Average("swa", 10, 2)):
        gains = 0.5 * h * (iterates[-1] ** 2 - (weights_of(average, steps) @ iterates) ** 2)
        error = gains.std() / math.sqrt(chains)
        predicted = epochwise_gain(own, average, steps=steps)
        assert abs(gains.mean() - predicted) < 4 * error
        assert 4 * error < 0.1 * predicted
        assert abs(stationary_gain(own, average) - predicted) > 8 * error  # the sampling matters here


def spectrum_row(step: int, **changes: Any) -> dict[str, Any]:
    row: dict[str, Any] = {"step": step, "epoch": step / 32, "lr": 0.5, "train_loss": 0.3, "status": "ok"}
    row |= {"eigenvalues": [3.0, 1.0, 0.2], "noise_variances": [0.01, 0.02, 0.4], "batches": 32, "products": 40}
    return row | {"converged": True} | changes


def average_row(step: int, average: str, parameter: float | None, loss: float, **changes: Any) -> dict[str, Any]:
    row: dict[str, Any] = {"step": step, "epoch": step / 32, "average": average, "parameter": parameter}
    row |= {"train_loss": loss, "train_accuracy": 0.9, "distance_from_iterate": 0.1, "status": "ok"}
    return row | changes


def test_measured_and_predicted_gains_stand_side_by_side(tmp_path: Path) -> None:
    rows = [
        average_row(100, "iterate", None, 0.50),
        average_row(100, "ema", 0.9, 0.42),
        average_row(100, "swa", 10, 0.44, spacing=2),
        average_row(200, "iterate", None, 0.40),
        average_row(200, "two_point", 10, 0.47),
    ]
    write_table(tmp_path / "averages", "averages", as_table("averages", rows), provenance={"batch_norm": "eval"})
    spectra = as_table("spectrum", [spectrum_row(0, eigenvalues=[9.0, 1.0, 0.2]), spectrum_row(160)])
    write_table(tmp_path / "spectrum", "spectrum", spectra, provenance=FACTS)
    predict_gains(tmp_path / "averages", tmp_path / "spectrum", tmp_path / "gains", provenance={"code": "c"})
    table = read_table(tmp_path / "gains", "predicted_gains")
    known = provenance(table)
    assert (known["code"], known["samples"], known["averages_batch_norm"]) == ("c", 1024, "eval")
    ema, swa, two = table.to_pylist()
    assert [row["measured_gain"] for row in (ema, swa, two)] == pytest.approx([0.08, 0.06, -0.07])
    # Update 100 is nearer to 160 than to 0.
    assert [row["spectrum_step"] for row in (ema, swa, two)] == [160, 160, 160]
    assert (swa["average"], swa["parameter"], swa["spacing"]) == ("swa", 10.0, 2)
    a, noise = 0.5 * np.array([3.0, 1.0, 0.2]), np.array([0.01, 0.02, 0.4])
    variance = noise * a / (2 - a)
    assert two["stationary_gain"] == pytest.approx(0.5 * (a / 0.5) @ (variance * (1 - (1 - a) ** 10) / 2))
    assert two["iterate_excess"] == pytest.approx(0.5 * (a / 0.5) @ variance)
    assert two["smallest_scale"] == pytest.approx(0.1 * 32)
    assert 0 < two["epochwise_gain"] < two["stationary_gain"]  # noise adds up to little over an epoch
    assert (two["directions"], two["left_out"], two["status"]) == (3, 0, "ok")


def test_directions_without_a_stationary_state_are_left_out() -> None:
    unstable = spectrum_row(0, eigenvalues=[4.0, 1.0, -0.1], noise_variances=[0.01, 0.02, None])  # a = 2
    [found] = directions_of(as_table("spectrum", [unstable], FACTS))
    assert found.eigenvalues.tolist() == [1.0]
    assert found.left_out == 2
    # Momentum is stable up to 2 (1 + beta).
    [found] = directions_of(as_table("spectrum", [unstable], FACTS | {"momentum": 0.5}))
    assert found.eigenvalues.tolist() == [4.0, 1.0]


def test_what_cannot_be_predicted_says_so() -> None:
    rows = [average_row(0, "iterate", None, 0.5), average_row(0, "ema", 0.9, 0.4)]
    lost = spectrum_row(0, eigenvalues=None, noise_variances=None, status="non_finite")
    assert directions_of(as_table("spectrum", [lost], FACTS)) == []
    [row] = gain_rows(as_table("averages", rows), [])
    assert (row["status"], row["measured_gain"]) == ("no_spectrum", pytest.approx(0.1))
    none = as_table("spectrum", [spectrum_row(0, eigenvalues=[5.0], noise_variances=[0.1])], FACTS)
    [row] = gain_rows(as_table("averages", rows), directions_of(none))
    assert (row["status"], row["directions"], row["left_out"]) == ("no_direction", 0, 1)
    broken = [average_row(0, "iterate", None, 0.5), average_row(0, "ema", 0.9, math.nan, status="non_finite")]
    sound = directions_of(as_table("spectrum", [spectrum_row(0)], FACTS))
    [row] = gain_rows(as_table("averages", broken), sound)
    assert row["status"] == "non_finite"
    assert "measured_gain" not in row
    with pytest.raises(ValueError, match="average must be ema, swa or two_point"):
        stationary_gain(sound[0], Average("mean", 3))


def test_autocorrelation_against_a_naive_loop_and_the_model() -> None:
    rng = np.random.default_rng(0)
    lags, stiff = [0, 1, 5, 40], 0.8
    series = np.zeros((20_000, 2))
    for step in range(len(series) - 1):
        series[step + 1] = np.array([stiff, -0.3]) * series[step] + rng.standard_normal(2)
    short = series[:300] + 100.0
    found = autocorrelation(short, lags)
    for column in range(2):
        mean = sum(short[:, column]) / 300
        moved = [value - mean for value in short[:, column]]
        spread = sum(value**2 for value in moved) / 300
        for place, lag in enumerate(lags):
            terms = [moved[step] * moved[step + lag] for step in range(300 - lag)]
            assert found[place, column] == pytest.approx(sum(terms) / len(terms) / spread, abs=1e-9)
    expected = np.array([[stiff**lag, (-0.3) ** lag] for lag in lags])
    np.testing.assert_allclose(autocorrelation(series, lags), expected, atol=0.05)


def test_autocorrelation_without_a_value() -> None:
    assert np.isnan(autocorrelation(np.full(20, 0.1), [0, 1])).all()
    assert np.isnan(autocorrelation(np.arange(10.0), [5])).all()  # too few terms
    assert autocorrelation(np.empty((0, 3)), [0, 1]).shape == (2, 3)
    with pytest.raises(ValueError, match="whole numbers of at least 0"):
        autocorrelation(np.arange(10.0), [-1])
