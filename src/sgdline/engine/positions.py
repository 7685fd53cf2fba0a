"""Where to measure along a line: the paper's equal spacing, or Chebyshev panels refined to a tolerance (no torch).

Both start with the interval [-I, I] and enlarge it by the clean rule of papers.md 2.2: as long as the minimum of the
full-batch, the validation or the direction batch's mean loss lies on the outer edge of everything measured so far.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sgdline.interpolation import chebyshev_nodes, interpolate
from sgdline.runtime import counting

Array = NDArray[np.float64]

# Positions (P,) -> mean losses of all curves there, in nats. Shape (curves, P). The first curve decides refinement.
Measure = Callable[[Array], Array]

# Nodes of a panel; the panel around 0 is twice as wide as the others and may go one level further.
_LEVELS = (5, 9, 17, 33, 65)
_LEAST_IMPROVEMENT = 0.25


@dataclass(frozen=True)
class Positions:
    """Where a line was measured and how well the measurement resolves it."""

    positions: Array  # (P,), ascending, 0 among them
    curves: Array  # (curves, P), mean losses there, nats
    panel_edges: Array  # (K + 1,), empty for a grid
    errors: Array | None  # (curves,), largest disagreement between the last two levels, nats; None for a grid
    rings: int  # widest side, in units of the interval
    status: str  # ok | edge | unresolved | non_finite (the first curve)


class _Measured:
    """Every position is measured once, however often a strategy asks for it."""

    def __init__(self, measure: Measure) -> None:
        self._measure = measure
        self._means: dict[float, Array] = {}

    def __call__(self, positions: Array) -> Array:
        """Return the means at the positions, measuring all new ones in one call. Shape (curves, P)."""
        missing = [position for position in positions.tolist() if position not in self._means]
        if missing:
            found = self._measure(np.array(missing))
            self._means.update(zip(missing, found.T, strict=True))
        return np.stack([self._means[position] for position in positions.tolist()], axis=1)

    def positions(self) -> Array:
        return np.array(sorted(self._means))

    def result(self, panel_edges: Array, errors: Array | None, *, rings: int, status: str) -> Positions:
        positions = self.positions()
        return Positions(positions, self(positions), panel_edges, errors, rings, status)

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
        measure: Returns the mean losses of all curves at positions, in nats. Shape (curves, P).
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
    return measured.result(np.empty(0), None, rings=ring, status=status)


def _refine_panel(
    measured: _Measured, low: float, high: float, *, tolerance: float, levels: Sequence[int]
) -> tuple[Array, bool]:
    """Measure a panel on nested levels until the first curve is resolved.

    Returns:
        The last disagreement of each curve and whether the first curve's estimated error is within the tolerance.
    """
    nodes = chebyshev_nodes(levels[0], low, high)
    curves = measured(nodes)
    disagreement = np.full(len(curves), np.nan)
    for count in levels[1:]:
        if not np.isfinite(curves[0]).all():
            break
        finer = chebyshev_nodes(count, low, high)
        expected = interpolate(nodes, np.where(np.isfinite(curves), curves, np.nan), finer)
        nodes, curves = finer, measured(finer)
        before, disagreement = disagreement, np.abs(curves - expected).max(axis=1)
        if disagreement[0] * _improvement(before[0], disagreement[0]) <= tolerance:
            return disagreement, True
    return disagreement, False


def _improvement(before: float, now: float) -> float:
    """Return by how much the newest level is expected to be better than the disagreement that it revealed.

    The disagreement is the error of the level before. Losses of networks with kinks converge like a power of the
    number of nodes, so a doubling improves by about the same factor each time; a factor below 1/4 is not trusted.
    """
    ratio = now / before if before > 0 else 1.0  # no ratio yet: before is NaN
    return min(max(ratio, _LEAST_IMPROVEMENT), 1.0)


def measure_adaptively(measure: Measure, *, interval: float, tolerance: float, max_rings: int) -> Positions:
    """Measure on Chebyshev panels [-I, I], [I, 2I] or [-2I, -I], ... until the interpolant is within the tolerance.

    The tolerance binds the first curve (the full-batch loss): the last two levels' disagreement, which is the error
    of the one before the last, times the improvement from level to level. The other curves come along on the same
    nodes. What is reported for every curve is the disagreement itself, which errs on the safe side.

    Args:
        measure: Returns the mean losses of all curves at positions, in nats. Shape (curves, P).
        interval: Half-width I of the panel around 0 and width of the others, Euclidean length.
        tolerance: Largest estimated error, nats.
        max_rings: Widths I on one side of 0 at most; a panel is added on the side where a minimum lies on the edge.

    Returns:
        Positions with panel edges. Status edge if a side is full and still has a minimum on its edge; unresolved if
        the finest level (65 nodes around 0, 33 elsewhere) does not bring a panel within the tolerance.
    """
    measured = _Measured(measure)
    left = right = 1
    panels = [_refine_panel(measured, -interval, interval, tolerance=tolerance, levels=_LEVELS)]
    at_edge = False

    def add_panel(low: float, high: float) -> None:
        panels.append(_refine_panel(measured, low, high, tolerance=tolerance, levels=_LEVELS[:-1]))

    while measured.finite():
        at_left, at_right = measured.edge_minima()
        at_edge = at_left or at_right
        grow_left, grow_right = at_left and left < max_rings, at_right and right < max_rings
        if not (grow_left or grow_right):
            break
        if grow_left:
            add_panel(-(left + 1) * interval, -left * interval)
            left += 1
        if grow_right:
            add_panel(right * interval, (right + 1) * interval)
            right += 1
    status = "edge" if at_edge else "ok"
    if not measured.finite():
        status = "non_finite"
    elif not all(resolved for _, resolved in panels):
        status = "unresolved"
    edges = _multiples(-left, right, interval)
    errors = np.max([disagreement for disagreement, _ in panels], axis=0)
    return measured.result(edges[edges != 0.0], errors, rings=max(left, right), status=status)


def choose_positions(
    measure: Measure, *, grid: bool, interval: float, max_rings: int, resolution: float, tolerance: float
) -> Positions:
    """Measure a line on a grid or adaptively; arguments as for `measure_grid` and `measure_adaptively`."""
    with counting("positions of a line") as report:

        def counted(positions: Array) -> Array:
            found = measure(positions)
            report(len(positions))
            return found

        if grid:
            return measure_grid(counted, interval=interval, resolution=resolution, max_rings=max_rings)
        return measure_adaptively(counted, interval=interval, tolerance=tolerance, max_rings=max_rings)
