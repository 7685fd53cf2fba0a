"""What a measured line says of itself, against functions whose minima, crossings and derivatives are known."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from sgdline.engine.positions import measure_adaptively, measure_grid
from sgdline.measured_line import MeasuredLine

Array = NDArray[np.float64]
Function = Callable[[Array], Array]


def line_of(
    function: Function,
    *,
    step: float = 0.5,
    lr: float | None = 0.1,
    interval: float = 2.0,
    rings: int = 3,
    grid: float | None = None,
    tolerance: float = 1e-4,
) -> MeasuredLine:
    def measure(positions: Array) -> Array:
        return function(positions)[None]

    if grid is None:
        found = measure_adaptively(measure, interval=interval, tolerance=tolerance, max_rings=rings)
    else:
        found = measure_grid(measure, interval=interval, resolution=grid, max_rings=rings)
    return MeasuredLine(
        positions=found.positions,
        losses=found.curves[0],
        panel_edges=found.panel_edges,
        error=None if found.errors is None else float(found.errors[0]),
        status=found.status,
        step_length=step,
        step_loss=float(function(np.array([step]))[0]),
        evaluations=len(found.positions),
        window=0.6,
        step_learning_rate=lr,
    )


def test_a_parabola_gives_its_closed_forms() -> None:
    # f = 2 - 3 s + 2 s^2: minimum at 3/4, back at f(0) at 3/2.
    line = line_of(lambda s: 2 - 3 * s + 2 * s**2, step=0.5, lr=0.1, interval=2.0)
    assert line.minimum is not None
    assert line.minimum.position == pytest.approx(0.75, abs=1e-7)
    assert line.minimum.loss == pytest.approx(2 - 9 / 8, abs=1e-12)
    assert line.overshoot == pytest.approx(0.5 / 0.75)
    assert line.learning_rate == pytest.approx(0.15)
    assert line.critical_position == pytest.approx(1.5)
    assert line.critical_learning_rate == pytest.approx(0.3)
    assert line.slope is not None
    assert line.curvature is not None
    assert (line.slope.value, line.curvature.value) == (pytest.approx(-3.0), pytest.approx(4.0))
    # On a parabola critical and directional sharpness are one: (0.5 / 0.1) * 4 / 3.
    assert line.directional_sharpness == pytest.approx(20 / 3)
    assert line.critical_sharpness == pytest.approx(20 / 3)
    assert all(value.error is not None and value.error < 1e-5 for value in line.values())


WAVY: Function = lambda s: 1 - 0.8 * s + 0.5 * s**2 + 0.05 * np.sin(4 * s)  # noqa: E731
KINKED: Function = lambda s: np.abs(s - 0.37) + 0.4 * np.abs(s + 0.2) + 0.1 * s**2  # noqa: E731
STEEP: Function = lambda s: np.exp(2 * s) - 4 * s + np.cos(9 * s) / 40  # noqa: E731


def truth_of(function: Function) -> dict[str, float]:
    points = np.linspace(0, 2, 2_000_001)
    losses = function(points)
    whole = np.linspace(-2, 2, 4_000_001)
    h = 1e-4
    back, here, ahead = function(np.array([-h, 0.0, h]))
    truth = {
        "minimum_position": float(whole[np.argmin(function(whole))]),
        "minimum_loss": float(function(whole).min()),
        "slope": float(ahead - back) / (2 * h),
        "curvature": float(ahead - 2 * here + back) / h**2,
    }
    above = np.flatnonzero(losses[1:] > losses[0])
    if len(above) and truth["slope"] < 0:
        truth["critical_position"] = float(points[above[0] + 1])
    return truth


@pytest.mark.parametrize("function", [WAVY, KINKED, STEEP], ids=["wavy", "kinked", "steep"])
@pytest.mark.parametrize("grid", [None, 0.05])
def test_errors_cover_the_truth(function: Function, grid: float | None) -> None:
    line = line_of(function, grid=grid, tolerance=3e-3)
    truth = truth_of(function)
    values = {value.name: value for value in line.values()}
    assert truth.keys() <= values.keys()
    for name, true in truth.items():
        value, error = values[name].value, values[name].error
        if error is not None:
            assert abs(value - true) <= error + 2e-6 * (1 + abs(true)), name


def test_what_was_not_measured_is_none() -> None:
    falling = line_of(lambda s: -s, rings=2)
    assert falling.status == "edge"
    assert (falling.minimum, falling.overshoot, falling.learning_rate) == (None, None, None)
    assert falling.critical_position is None  # it stays below
    assert math.isnan(falling.minimum_position)
    rising = line_of(lambda s: (s + 0.5) ** 2)
    assert rising.critical_position is None
    assert rising.directional_sharpness is None
    assert rising.overshoot == pytest.approx(-1.0)
    assert rising.learning_rate is None  # would be negative
    unknown = line_of(lambda s: (s - 0.5) ** 2, lr=None)
    assert unknown.overshoot == pytest.approx(1.0)
    assert (unknown.learning_rate, unknown.critical_learning_rate, unknown.critical_sharpness) == (None, None, None)
    with np.errstate(divide="ignore", invalid="ignore"):
        broken = line_of(lambda s: np.where(s > 0.3, np.nan, (s - 0.1) ** 2))
    assert broken.status == "non_finite"
    assert "nan" not in str(broken)
    for line in (falling, rising, unknown, broken):
        assert {name.removeprefix("line/") for name in line.scalars()} == {value.name for value in line.values()}
        assert all(type(number) is float and math.isfinite(number) for number in line.scalars().values())


def test_numbers_are_written_with_errors_and_units() -> None:
    text = str(line_of(WAVY))
    assert "status ok" in text
    assert any(
        row.split()[0] == "slope" and "±" in row and row.endswith("loss / length") for row in text.splitlines()[1:]
    )
