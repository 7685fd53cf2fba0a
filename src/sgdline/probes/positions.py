"""Where to measure along a line: the paper's equal spacing, or Chebyshev panels refined to a tolerance (no torch).

Both start with the interval [-I, I] and enlarge it by the clean rule of papers.md 2.2: as long as the minimum of the
full-batch, the validation or the direction batch's mean loss lies on the outer edge of everything measured so far.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sgdline.interpolation import chebyshev_nodes, interpolate

Array = NDArray[np.float64]

# Means at one position, in nats. The first curve is the one that decides refinement.
Means = tuple[float, ...]
Measure = Callable[[float], Means]

_LEVELS = (5, 9, 17, 33)


@dataclass(frozen=True)
class Positions:
    """Where a line was measured and how well the measurement resolves it."""

    positions: Array  # (P,), ascending, 0 among them
    panel_edges: Array  # (K + 1,), empty for a grid
    errors: Array | None  # (curves,), largest disagreement between the last two levels, nats; None for a grid
    rings: int  # widest side, in units of the interval
    status: str  # ok | edge | unresolved | non_finite (the first curve)


class _Measured:
    """Every position is measured once, however often a strategy asks for it."""

    def __init__(self, measure: Measure) -> None:
        self._measure = measure
        self._means: dict[float, Means] = {}

    def __call__(self, positions: Array) -> Array:
        """Return the means at the positions. Shape (curves, P)."""
        for position in positions.tolist():
            if position not in self._means:
                self._means[position] = self._measure(position)
        return np.array([self._means[position] for position in positions.tolist()]).T

    def positions(self) -> Array:
        return np.array(sorted(self._means))

    def edge_minima(self) -> tuple[bool, bool]:
        """Return whether a curve has its minimum on the left and on the right outer edge."""
        positions = self.positions()
        curves = self(positions)
        lowest = [
            int(np.argmin(curve)) for curve in np.where(np.isnan(curves), np.inf, curves) if np.isfinite(curve).any()
        ]
        return 0 in lowest, len(positions) - 1 in lowest

    def finite(self) -> bool:
        """Return whether the first curve is finite everywhere."""
        return bool(np.isfinite(self(self.positions())[0]).all())


def _multiples(first: int, last: int, spacing: float) -> Array:
    return np.arange(first, last + 1, dtype=np.float64) * np.float64(spacing)


def measure_grid(measure: Measure, *, interval: float, resolution: float, max_rings: int) -> Positions:
    """Measure at s_k = k * resolution, symmetric around 0 (papers.md 2.2 and L9).

    Args:
        measure: Returns the mean losses of all curves at a position, in nats.
        interval: Half-width I of the first ring, Euclidean length.
        resolution: Spacing.
        max_rings: Rings at most; ring j adds [-jI, -(j-1)I) and ((j-1)I, jI].

    Returns:
        Positions without panels. Status edge if the last ring still has a minimum on its edge.
    """
    measured = _Measured(measure)
    for ring in range(1, max_rings + 1):
        count = math.floor(ring * interval / resolution + 1e-9)
        measured(_multiples(-count, count, resolution))
        at_edge = any(measured.edge_minima())
        if not at_edge or not measured.finite():
            break
    status = "non_finite" if not measured.finite() else "edge" if at_edge else "ok"
    return Positions(measured.positions(), np.empty(0), None, ring, status)


def _refine_panel(measured: _Measured, low: float, high: float, *, tolerance: float) -> Array:
    """Measure a panel on nested levels until two agree; return the last disagreement of each curve."""
    nodes = chebyshev_nodes(_LEVELS[0], low, high)
    curves = measured(nodes)
    errors = np.full(len(curves), np.nan)
    for count in _LEVELS[1:]:
        if not np.isfinite(curves[0]).all():
            break
        finer = chebyshev_nodes(count, low, high)
        expected = interpolate(nodes, np.where(np.isfinite(curves), curves, np.nan), finer)
        nodes, curves = finer, measured(finer)
        errors = np.abs(curves - expected).max(axis=1)
        if errors[0] <= tolerance:
            break
    return errors


def measure_adaptively(measure: Measure, *, interval: float, tolerance: float, max_rings: int) -> Positions:
    """Measure on Chebyshev panels [-I, 0], [0, I], ... until the interpolant is within the tolerance.

    The tolerance binds the first curve (the full-batch loss); the other curves come along on the same nodes and
    have their errors reported. The disagreement between the last two levels bounds the error of the last one.

    Args:
        measure: Returns the mean losses of all curves at a position, in nats.
        interval: Width I of a panel, Euclidean length.
        tolerance: Largest disagreement between two levels, nats.
        max_rings: Panels on one side of 0 at most; a panel is added on the side where a minimum lies on the edge.

    Returns:
        Positions with panel edges. Status edge if a side is full and still has a minimum on its edge; unresolved if
        33 nodes do not bring a panel within the tolerance.
    """
    measured = _Measured(measure)
    left = right = 1
    errors = [
        _refine_panel(measured, low, high, tolerance=tolerance) for low, high in ((-interval, 0.0), (0.0, interval))
    ]
    at_edge = False
    while measured.finite():
        at_left, at_right = measured.edge_minima()
        at_edge = at_left or at_right
        grow_left, grow_right = at_left and left < max_rings, at_right and right < max_rings
        if not (grow_left or grow_right):
            break
        if grow_left:
            errors.append(_refine_panel(measured, -(left + 1) * interval, -left * interval, tolerance=tolerance))
            left += 1
        if grow_right:
            errors.append(_refine_panel(measured, right * interval, (right + 1) * interval, tolerance=tolerance))
            right += 1
    largest = np.max(errors, axis=0)
    status = "edge" if at_edge else "ok"
    if not measured.finite():
        status = "non_finite"
    elif largest[0] > tolerance:
        status = "unresolved"
    edges = _multiples(-left, right, interval)
    return Positions(measured.positions(), edges, largest, max(left, right), status)


def choose_positions(measure: Measure, settings: Mapping[str, Any]) -> Positions:
    """Measure a line the way that the config's line block asks for."""
    if settings["positions"] == "grid":
        return measure_grid(
            measure,
            interval=settings["interval"],
            resolution=settings["resolution"],
            max_rings=settings["max_rings"],
        )
    return measure_adaptively(
        measure,
        interval=settings["interval"],
        tolerance=settings["tolerance"],
        max_rings=settings["max_rings"],
    )
