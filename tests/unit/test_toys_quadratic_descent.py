"""Gradient descent on a quadratic against its closed form, theta_t = (1 - lr lambda)^t theta_0 per eigenvector."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from declared import toy_of
from hypothesis import given
from hypothesis import strategies as st

from sgdline.tables import provenance, read_table
from sgdline.toys import simulate_toy
from sgdline.toys.quadratic_descent.simulate import regime
from sgdline.toys.quadratic_descent.table import QUADRATIC_DESCENT

DEFAULT = {
    "eigenvalues": [1.0, 0.08],
    "start": [1.0, 3.0],
    "relative_lr": [0.5, 1.0, 1.5, 1.9, 2.0, 2.1],
    "steps": 30,
}


def columns(**changes: Any) -> dict[str, np.ndarray]:
    """Return the columns of a simulation, numbers of shape (rates, steps + 1), nulls as NaN."""
    settings = {**copy.deepcopy(DEFAULT), **changes}
    found = dict(toy_of("quadratic_descent", settings).simulate())
    shape = (len(settings["relative_lr"]), settings["steps"] + 1)
    texts = {"status": np.array(found.pop("status")).reshape(shape)}
    return texts | {name: np.array(values, dtype=np.float64).reshape(shape) for name, values in found.items()}


def along_the_top(relative_lr: float, *, steps: int = 12, eigenvalue: float = 1.0) -> dict[str, np.ndarray]:
    """Return the columns of one rate from a start on the eigenvector of the largest eigenvalue. Shape (steps + 1,)."""
    found = columns(relative_lr=[relative_lr], steps=steps, eigenvalues=[eigenvalue / 8, eigenvalue], start=[0.0, -1.5])
    return {name: values[0] for name, values in found.items()}


@pytest.mark.parametrize("eigenvalues", [[1.0, 0.08], [0.3, 7.0], [2.0, 2.0]])
def test_every_coordinate_is_a_power(eigenvalues: list[float]) -> None:
    found = columns(eigenvalues=eigenvalues, start=[-0.7, 3.0])
    lr = np.array(DEFAULT["relative_lr"])[:, None] / max(eigenvalues)
    steps = np.arange(31)
    np.testing.assert_array_equal(found["step"], np.broadcast_to(steps, (6, 31)))
    np.testing.assert_array_equal(found["lr"], np.broadcast_to(lr, (6, 31)))
    first = (1 - lr * eigenvalues[0]) ** steps * -0.7
    second = (1 - lr * eigenvalues[1]) ** steps * 3.0
    np.testing.assert_allclose(found["first_coordinate"], first, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(found["second_coordinate"], second, rtol=1e-12, atol=1e-15)
    loss = 0.5 * (eigenvalues[0] * first**2 + eigenvalues[1] * second**2)
    np.testing.assert_allclose(found["loss"], loss, rtol=1e-11, atol=1e-30)


def test_the_order_of_the_eigenvalues_does_not_matter() -> None:
    one, other = columns(), columns(eigenvalues=[0.08, 1.0], start=[3.0, 1.0])
    assert np.array_equal(one["first_coordinate"], other["second_coordinate"])
    for name in ("loss", "gradient_cosine", "height", "floor_loss", "lr"):
        np.testing.assert_allclose(one[name], other[name], rtol=1e-14, err_msg=name)


@pytest.mark.parametrize(
    ("relative_lr", "name"),
    [
        (1e-3, "over_damped"), (math.nextafter(1, 0), "over_damped"), (1.0, "critical"),
        (math.nextafter(1, 2), "under_damped"), (math.nextafter(2, 0), "under_damped"), (2.0, "edge"),
        (math.nextafter(2, 3), "diverging"), (1e6, "diverging"),
    ],
)  # fmt: skip
def test_regimes_end_where_the_closed_form_says(relative_lr: float, name: str) -> None:
    assert regime(relative_lr) == name
    assert set(columns(relative_lr=[relative_lr], steps=2)["status"].ravel()) == {name}


@given(st.floats(0.01, 1.99))
def test_rates_below_the_edge_come_closer_by_the_factor(relative_lr: float) -> None:
    path = along_the_top(relative_lr, steps=4)["second_coordinate"]
    np.testing.assert_allclose(path[1:], (1 - relative_lr) * path[:-1], rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("relative_lr", [0.1, 0.5, 0.99])
def test_over_damped_rates_creep_down_their_side(relative_lr: float) -> None:
    found = along_the_top(relative_lr)
    assert (np.diff(found["second_coordinate"]) > 0).all()  # from -1.5 towards 0
    assert (found["second_coordinate"] < 0).all()
    assert (np.diff(found["loss"]) < 0).all()
    assert (found["gradient_cosine"][1:] == 1.0).all()
    assert (found["floor_position"][:-1] == 1.0).all()  # the lowest point of an interval is its end


def test_the_critical_rate_is_at_the_minimum_after_one_step() -> None:
    found = along_the_top(1.0, eigenvalue=4.0)
    assert (found["second_coordinate"][1:] == 0.0).all()
    assert (found["loss"][1:] == 0.0).all()
    assert np.isnan(found["gradient_cosine"]).all()  # no direction in a gradient of 0
    assert np.isnan(found["floor_position"][1:]).all()
    assert (found["floor_loss"][1:-1] == 0.0).all()
    assert (found["height"][1:-1] == 0.0).all()


@pytest.mark.parametrize("relative_lr", [1.0001, 1.5, 1.9, 2.0, 2.1, 3.0])
@pytest.mark.parametrize("eigenvalue", [1.0, 0.37])
def test_bouncing_gradients_are_opposite(relative_lr: float, eigenvalue: float) -> None:
    found = along_the_top(relative_lr, eigenvalue=eigenvalue)
    assert np.isnan(found["gradient_cosine"][0])
    assert (found["gradient_cosine"][1:] == -1.0).all()
    signs = np.sign(found["second_coordinate"])
    assert (signs[1:] == -signs[:-1]).all()


def test_the_edge_keeps_the_loss() -> None:
    found = along_the_top(2.0, steps=200, eigenvalue=4.0)
    assert (found["loss"] == 4.5).all()  # 4 / 2 * 1.5^2
    assert (found["height"][:-1] == 4.5).all()
    assert (found["floor_position"][:-1] == 0.5).all()


def test_diverging_rates_grow_and_under_damped_ones_shrink() -> None:
    growing, shrinking = along_the_top(2.1), along_the_top(1.9)
    np.testing.assert_allclose(growing["loss"][1:] / growing["loss"][:-1], 1.1**2)
    np.testing.assert_allclose(shrinking["loss"][1:] / shrinking["loss"][:-1], 0.9**2)
    assert (np.diff(growing["height"][:-1]) > 0).all()


@pytest.mark.parametrize("relative_lr", [1.2, 1.5, 2.0, 2.4])
def test_heights_of_a_bounce_in_closed_form(relative_lr: float) -> None:
    """Along the top eigenvector the floor is 0, at alpha = 1 / (lr lambda)."""
    found = along_the_top(relative_lr, eigenvalue=0.7)
    before, after = found["loss"][:-1], found["loss"][:-1] * (1 - relative_lr) ** 2
    np.testing.assert_allclose(found["floor_position"][:-1], 1 / relative_lr)
    np.testing.assert_allclose(found["floor_loss"][:-1], 0.0, atol=1e-30 * before.max() + 1e-32)
    np.testing.assert_allclose(found["height"][:-1], (before + after) / 2)
    np.testing.assert_allclose(found["height_of_start"][:-1], before)
    for name in ("floor_position", "floor_loss", "height", "height_of_start"):
        assert np.isnan(found[name][-1])  # no interval starts at the last step


def test_floors_and_heights_are_those_of_a_fine_search() -> None:
    """W-M2 and W-M6 by brute force, from the recorded iterates alone."""
    found = columns(steps=12)
    theta = np.stack([found["first_coordinate"], found["second_coordinate"]], axis=-1)
    alphas = np.linspace(0, 1, 20_001)[:, None]
    for rate in range(6):
        for step in range(12):
            points = (1 - alphas) * theta[rate, step] + alphas * theta[rate, step + 1]
            curve = 0.5 * points[:, 0] ** 2 + 0.04 * points[:, 1] ** 2
            here = (rate, step)
            assert found["floor_loss"][here] == pytest.approx(curve.min(), rel=1e-6)
            assert found["floor_loss"][here] <= curve.min() * (1 + 1e-12)
            height = (curve[0] + curve[-1] - 2 * curve.min()) / 2
            assert found["height"][here] == pytest.approx(height, rel=1e-6)
            assert found["height_of_start"][here] == pytest.approx(curve[0] - curve.min(), rel=1e-6)
            assert found["floor_position"][here] == pytest.approx(alphas[curve.argmin(), 0], abs=2e-4)


def test_cosines_are_those_of_the_recorded_gradients() -> None:
    found = columns()
    gradients = np.stack([found["first_coordinate"], 0.08 * found["second_coordinate"]], axis=-1)
    for rate in range(6):
        for step in range(1, 31):
            before, now = gradients[rate, step - 1], gradients[rate, step]
            expected = before @ now / math.sqrt((before @ before) * (now @ now))
            assert found["gradient_cosine"][rate, step] == pytest.approx(expected, abs=1e-12)


def test_the_flat_direction_decides_the_cosine_in_the_end() -> None:
    """Bouncing at 1.5 dies out before the way along the valley is done; at 1.9 it outlives it."""
    cosine = columns()["gradient_cosine"]
    assert cosine[2, 1] < -0.7
    assert cosine[2, -1] > 0.999
    assert cosine[3, -1] < -0.99
    assert cosine[4, -1] < -0.99


def test_heights_rise_with_the_learning_rate() -> None:
    assert (np.diff(columns()["height"][:, 0]) > 0).all()


@pytest.mark.parametrize("relative_lr", [1e200, 1e5])
def test_what_leaves_the_range_of_float64_is_null(relative_lr: float) -> None:
    found = columns(relative_lr=[relative_lr, 0.5], steps=200)
    numbers = {name: values for name, values in found.items() if name != "status"}
    assert all(np.isfinite(values[~np.isnan(values)]).all() for values in numbers.values())
    assert found["loss"][0, 0] == columns()["loss"][0, 0]
    assert np.isnan(found["loss"][0, -1])
    assert np.isnan(found["gradient_cosine"][0, -1])
    assert np.isfinite(found["loss"][1]).all()


def test_very_small_gradients_keep_their_direction() -> None:
    """Their squares are below the range of float64."""
    found = columns(start=[1e-200, 0.0], relative_lr=[1.5], steps=3)
    assert (found["gradient_cosine"][0, 1:] == -1.0).all()
    np.testing.assert_allclose(found["floor_position"][0, :-1], 1 / 1.5)


def test_the_table_has_one_row_per_rate_and_step(tmp_path: Path) -> None:
    path = tmp_path / "toys" / "q.arrow"
    simulate_toy("quadratic_descent", path, settings=DEFAULT, provenance={"toy": "q", "slice": DEFAULT})
    table = read_table(path, QUADRATIC_DESCENT)
    pairs = list(zip(table["relative_lr"].to_pylist(), table["step"].to_pylist(), strict=True))
    assert pairs == [(rate, step) for rate in DEFAULT["relative_lr"] for step in range(31)]
    assert provenance(table) == {"kind": "quadratic_descent", "toy": "q", "slice": DEFAULT}
    assert table["gradient_cosine"].null_count == 6
    assert table["height"].null_count == 6
    again = tmp_path / "again.arrow"
    simulate_toy("quadratic_descent", again, settings=DEFAULT, provenance={"toy": "q", "slice": DEFAULT})
    assert again.read_bytes() == path.read_bytes()
