"""Where a line is measured: closed-form losses in place of a network."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from sgdline.engine.positions import Measure, measure_adaptively, measure_grid
from sgdline.interpolation import interpolate, panel_slices


def counted(*functions: Callable[[float], float]) -> tuple[Measure, list[float]]:
    asked: list[float] = []

    def measure(positions: NDArray[np.float64]) -> NDArray[np.float64]:
        asked.extend(positions.tolist())
        return np.array([[function(position) for position in positions.tolist()] for function in functions])

    return measure, asked


def parabola(minimum: float) -> Callable[[float], float]:
    return lambda s: 1.0 + (s - minimum) ** 2


def test_the_papers_interval_gives_167_grid_points() -> None:
    measure, asked = counted(parabola(0.1))
    line = measure_grid(measure, interval=0.5, resolution=0.006, max_rings=5)
    assert len(line.positions) == len(asked) == 167
    np.testing.assert_array_equal(line.positions, np.arange(-83, 84) * 0.006)
    assert (line.status, line.rings) == ("ok", 1)
    assert line.errors is None


@pytest.mark.parametrize("minimum", [0.77, -0.77])
def test_a_grid_grows_on_both_sides_until_the_minimum_is_inside(minimum: float) -> None:
    measure, asked = counted(parabola(0.0), parabola(minimum))
    line = measure_grid(measure, interval=0.5, resolution=0.1, max_rings=5)
    np.testing.assert_allclose(line.positions, np.arange(-10, 11) * 0.1)
    assert (line.status, line.rings) == ("ok", 2)
    assert len(asked) == len(set(asked))


def test_the_last_ring_with_a_minimum_on_its_edge_is_flagged() -> None:
    measure, _ = counted(lambda s: -s)
    grid = measure_grid(measure, interval=0.5, resolution=0.1, max_rings=3)
    assert (grid.status, grid.rings, grid.positions[-1]) == ("edge", 3, pytest.approx(1.5))
    adaptive = measure_adaptively(measure, interval=0.5, tolerance=1e-6, max_rings=3)
    assert (adaptive.status, adaptive.rings) == ("edge", 3)
    # Panels are added on the side of the minimum only.
    np.testing.assert_array_equal(adaptive.panel_edges, [-0.5, 0.5, 1.0, 1.5])


@pytest.mark.parametrize("curve", [0, 1, 2])
def test_every_curve_can_ask_for_more_panels(curve: int) -> None:
    functions = [parabola(0.0)] * 3
    functions[curve] = parabola(0.8)
    measure, _ = counted(*functions)
    line = measure_adaptively(measure, interval=0.5, tolerance=1e-6, max_rings=5)
    np.testing.assert_array_equal(line.panel_edges, [-0.5, 0.5, 1.0])
    assert line.status == "ok"


def test_a_parabola_needs_one_refinement() -> None:
    measure, asked = counted(parabola(0.1))
    line = measure_adaptively(measure, interval=0.5, tolerance=1e-9, max_rings=5)
    assert len(asked) == len(line.positions) == 9
    assert 0.0 in line.positions
    assert line.errors is not None
    assert line.errors[0] < 1e-14


@given(st.floats(1, 12), st.floats(-3, 3), st.floats(0.05, 2.0), st.sampled_from([1e-2, 1e-3, 1e-5]), st.floats(0.1, 2))
def test_smooth_curves_are_within_the_reported_error(
    frequency: float, phase: float, amplitude: float, tolerance: float, interval: float
) -> None:
    def loss(s: float) -> float:
        return 2 + s * s + amplitude * math.sin(frequency * s + phase)

    measure, _ = counted(loss)
    line = measure_adaptively(measure, interval=interval, tolerance=tolerance, max_rings=3)
    assert line.errors is not None
    assert 0.0 in line.positions
    for part in panel_slices(line.panel_edges, line.positions):
        nodes = line.positions[part]
        points = np.linspace(nodes[0], nodes[-1], 57)
        found = interpolate(nodes, [loss(s) for s in nodes], points)
        assert np.abs(found - [loss(s) for s in points]).max() <= max(line.errors[0], 1e-12)


def test_refinement_follows_the_first_curve_and_reports_the_others() -> None:
    measure, _ = counted(parabola(0.1), lambda s: parabola(0.1)(s) + 0.05 * math.sin(25 * s))
    line = measure_adaptively(measure, interval=0.5, tolerance=1e-4, max_rings=1)
    assert line.errors is not None
    assert len(line.positions) == 9
    assert line.errors[0] < 1e-12
    assert line.errors[1] > 1e-4


def test_a_panel_that_its_finest_level_does_not_resolve_is_flagged() -> None:
    measure, asked = counted(lambda s: 1 + s * s + 0.1 * abs(s - 0.2))
    line = measure_adaptively(measure, interval=0.5, tolerance=1e-9, max_rings=1)
    assert line.status == "unresolved"
    assert len(asked) == 65
    assert line.errors is not None
    assert line.errors[0] > 1e-4


def test_steady_convergence_saves_the_last_level() -> None:
    """|s|**3 improves eightfold a level: the disagreement shows the error of the level before the last."""
    measure, asked = counted(lambda s: abs(s - 0.1) ** 3)
    line = measure_adaptively(measure, interval=0.5, tolerance=1e-5, max_rings=1)
    assert line.errors is not None
    assert 1e-5 < line.errors[0] < 4e-5
    points = np.linspace(-0.5, 0.5, 201)
    found = interpolate(line.positions, [abs(s - 0.1) ** 3 for s in line.positions], points)
    assert np.abs(found - np.abs(points - 0.1) ** 3).max() <= 1e-5
    assert (line.status, len(asked)) == ("ok", len(line.positions))


def test_new_positions_are_asked_for_together() -> None:
    calls: list[int] = []

    def measure(positions: NDArray[np.float64]) -> NDArray[np.float64]:
        calls.append(len(positions))
        return np.array([np.exp(positions)])

    measure_adaptively(measure, interval=0.5, tolerance=1e-9, max_rings=1)
    assert calls == [5, 4, 8]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("method", ["grid", "adaptive"])
@pytest.mark.parametrize("curve", [0, 1])
def test_non_finite_losses(bad: float, method: str, curve: int) -> None:
    """A full-batch loss that is not finite ends the measurement; the other curves may be infinite somewhere."""
    functions: list[Callable[[float], float]] = [parabola(0.2), parabola(0.2)]
    functions[curve] = lambda s: bad if s > 0.3 else parabola(0.2)(s)
    measure, asked = counted(*functions)
    if method == "grid":
        line = measure_grid(measure, interval=0.5, resolution=0.1, max_rings=5)
    else:
        line = measure_adaptively(measure, interval=0.5, tolerance=1e-6, max_rings=5)
    assert (line.status, line.rings) == ("non_finite" if curve == 0 else "ok", 1)
    assert len(asked) < 40
