"""Measured lines as functions: values anywhere, derivatives at 0 and minima, for all lines of a table at once.

A line measured adaptively is a polynomial on each of its panels, a line measured on a grid is piecewise linear.
Lines are put together panel by panel: panels with the same nodes share one interpolation matrix, so that the cost is
a handful of matrix products however many lines there are.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from sgdline.errors import SgdlineError
from sgdline.interpolation import interpolation_matrix, panel_slices
from sgdline.runtime import inner_progress

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

# Positions that rounding puts just outside the measured range (3 * 0.1 > 0.3) still belong to it; relative to its size.
_RANGE_TOLERANCE = 1e-9
# Nodes on either side of 0 that a derivative is taken from. Four already make its error negligible; see
# `LineCurves.derivative_at_zero`.
_STENCIL_REACH = 4
# A point of the search grid this close to a node (in units of the spacing) adds nothing but cancellation.
_MERGE_FRACTION = 0.05
# Upper bound on the doubles of one block of curves while minima are searched: 32 MiB.
_BLOCK_VALUES = 1 << 22


class LineMinima(NamedTuple):
    """Minimum of every line over its whole measured range; NaN where no loss is finite."""

    positions: FloatArray  # (T,) arg-min over search grid and nodes, Euclidean length
    vertex: FloatArray  # (T,) vertex of the parabola through the arg-min and its neighbours
    losses: FloatArray  # (T,) loss at the arg-min, nats
    at_edge: BoolArray  # (T,) the arg-min is the first or the last measured position


class FittingPoints(NamedTuple):
    """Lines at the positions that a fit is to go through, the same ones for all of them."""

    rows: IntArray  # (M,) rows of the table
    positions: FloatArray  # (P,) Euclidean lengths
    losses: FloatArray  # (M, P) nats, NaN as in `LineCurves.at`
    covered: BoolArray  # (M, P) the position lies in the line's measured range


@dataclass(frozen=True)
class _Structure:
    """Lines whose nodes and panels are the same."""

    nodes: FloatArray  # (P,) ascending
    edges: FloatArray  # (E,) panel edges; empty: piecewise linear
    rows: IntArray  # (M,) rows of the table
    values: FloatArray  # (M, P)


@dataclass(frozen=True)
class _Panel:
    """One polynomial (or one piecewise linear curve) per row, all of them on the same nodes."""

    nodes: FloatArray  # (n,)
    linear: bool
    rows: IntArray  # (M,)
    values: FloatArray  # (M, n)


def common_grid(half_width: float, resolution: float) -> FloatArray:
    """Return the symmetric grid s_k = k * resolution, k = -K..K, K = floor(half_width / resolution).

    Args:
        half_width: Half of the covered interval, Euclidean length, positive.
        resolution: Spacing, Euclidean length, positive.

    Returns:
        Positions, ascending, 0 in the middle. Shape (2K + 1,), float64.

    Raises:
        ValueError: If a length is not positive and finite.

    Source: linesearch 2.2, the clean grid (papers.md L9 and L10).
    """
    for name, length in (("half_width", half_width), ("resolution", resolution)):
        if not (length > 0 and math.isfinite(length)):
            raise ValueError(f"{name} must be a positive length, got {length}")
    # 0.3 / 0.1 is a little below 3: the quotient must not lose a point to rounding.
    reach = math.floor(half_width / resolution + 1e-9)
    return np.arange(-reach, reach + 1, dtype=np.float64) * resolution


class LineCurves:
    """All lines of a table as curves s -> loss.

    Attributes:
        steps: Update of every line. Shape (T,), int64.
        low: First measured position of every line. Shape (T,); NaN if there is none.
        high: Last measured position of every line. Shape (T,); NaN if there is none.
    """

    steps: IntArray
    low: FloatArray
    high: FloatArray

    def __init__(self, steps: IntArray, structures: list[_Structure]) -> None:
        self.steps = steps
        self.low = np.full(len(steps), np.nan)
        self.high = np.full(len(steps), np.nan)
        for structure in structures:
            if structure.nodes.size:
                self.low[structure.rows] = structure.nodes[0]
                self.high[structure.rows] = structure.nodes[-1]
        self._structures = [structure for structure in structures if structure.nodes.size]
        self._panels = _merge_panels(self._structures)

    @classmethod
    def from_table(cls, table: pa.Table, column: str = "train_loss") -> LineCurves:
        """Take the curves of one loss column from a table of kind `line`.

        Args:
            table: Table with the columns step, positions, panel_edges and `column`.
            column: A list column with one loss per position, in nats; null rows become NaN everywhere.

        Raises:
            SgdlineError: If a line has another number of losses than of positions.
        """
        steps = table.column("step").to_numpy().astype(np.int64)
        nodes, node_offsets = _flatten(table.column("positions"))
        edges, edge_offsets = _flatten(table.column("panel_edges"))
        values, value_offsets = _flatten(table.column(column))
        node_counts, value_counts = np.diff(node_offsets), np.diff(value_offsets)
        null = table.column(column).is_null().to_numpy()
        if np.any(wrong := (node_counts != value_counts) & ~null):
            row = int(np.flatnonzero(wrong)[0])
            raise SgdlineError(
                f"Column {column!r} must hold one loss per position, got {value_counts[row]} for "
                f"{node_counts[row]} positions at step {steps[row]}. Run the rule probe_segment again."
            )
        members: dict[tuple[bytes, bytes], list[int]] = {}
        for row, key in enumerate(zip(_row_bytes(edges, edge_offsets), _row_bytes(nodes, node_offsets), strict=True)):
            members.setdefault(key, []).append(row)
        structures = []
        for (edge_bytes, node_bytes), listed in members.items():
            rows = np.array(listed, dtype=np.int64)
            own_nodes = np.frombuffer(node_bytes)
            filled = ~null[rows]
            if filled.all() and rows[-1] - rows[0] + 1 == len(rows):  # neighbours in the table: nothing to gather
                own_values = values[value_offsets[rows[0]] : value_offsets[rows[-1] + 1]].reshape(
                    len(rows), own_nodes.size
                )
            else:
                own_values = np.full((len(rows), own_nodes.size), np.nan)
                own_values[filled] = values[value_offsets[rows[filled], None] + np.arange(own_nodes.size)]
            structures.append(_Structure(own_nodes, np.frombuffer(edge_bytes), rows, own_values))
        return cls(steps, structures)

    @classmethod
    def units(cls, positions: ArrayLike, panel_edges: ArrayLike) -> LineCurves:
        """Take the P curves that are 1 at one position of a line and 0 at all others.

        Values and derivatives are linear in the losses: what the unit curves give are the weights with which the
        losses of any curve at these positions are to be summed, as long as they are finite.

        Args:
            positions: Where a line was measured, ascending. Shape (P,).
            panel_edges: Its panel edges; empty: piecewise linear.

        Returns:
            One curve per position, in order; `steps` counts them.
        """
        nodes = np.asarray(positions, dtype=np.float64)
        rows = np.arange(nodes.size, dtype=np.int64)
        return cls(rows, [_Structure(nodes, np.asarray(panel_edges, dtype=np.float64), rows, np.eye(nodes.size))])

    def __len__(self) -> int:
        return len(self.steps)

    def covers(self, positions: ArrayLike) -> BoolArray:
        """Return which positions lie in the measured range of which line. Shape (T, P)."""
        points = np.asarray(positions, dtype=np.float64).reshape(1, -1)
        low, high = self.low[:, None], self.high[:, None]
        slack = _RANGE_TOLERANCE * np.maximum(np.abs(low), np.abs(high))
        # Comparisons with NaN are false: a line without positions covers nothing.
        return np.asarray((points >= low - slack) & (points <= high + slack))

    def at(self, positions: ArrayLike) -> FloatArray:
        """Return every line at the same positions.

        Args:
            positions: Euclidean lengths. Shape (P,).

        Returns:
            Losses in nats, shape (T, P): NaN outside the measured range and where the loss is not finite. A panel with
            a node that is not finite has no polynomial; between its finite nodes the curve is then piecewise linear.
        """
        points = np.asarray(positions, dtype=np.float64).reshape(-1)
        losses = np.full((len(self), points.size), np.nan)
        for panel in self._panels:
            inside, clipped = _inside(panel.nodes, points)
            if inside.size:
                losses[np.ix_(panel.rows, inside)] = _evaluate(panel.nodes, panel.values, clipped, linear=panel.linear)
        return losses

    def fitting_points(self, *, window: float, resolution: float) -> list[FittingPoints]:
        """Return the lines where polynomials are to be fitted to them, those at the same positions together.

        An adaptive line is read at the positions of `common_grid`. A line that was measured on a grid keeps its own
        positions within the window: between them it is piecewise linear, above a convex loss.

        Args:
            window: Half-width of the interval, Euclidean length.
            resolution: Spacing of the common grid, Euclidean length. Lines that do not cover it are read there as well.

        Source: linesearch M12.
        """
        grid = common_grid(window, resolution)
        covered = self.covers(grid)
        whole: BoolArray = np.asarray(covered.all(axis=1))
        elsewhere = np.ones(len(self), dtype=np.bool_)
        members: dict[bytes, list[tuple[IntArray, FloatArray]]] = {}
        for structure in self._structures:
            used = whole[structure.rows]
            if structure.edges.size < 2 and used.any():
                inside = np.abs(structure.nodes) <= window * (1 + _RANGE_TOLERANCE)
                entry = structure.rows[used], structure.values[np.ix_(used, inside)]
                members.setdefault(structure.nodes[inside].tobytes(), []).append(entry)
                elsewhere[structure.rows[used]] = False
        groups = []
        for nodes, entries in members.items():
            rows, values = (np.concatenate(parts) for parts in zip(*entries, strict=True))
            groups.append(FittingPoints(rows, np.frombuffer(nodes), values, np.ones(values.shape, dtype=np.bool_)))
        if elsewhere.any():
            rows = np.flatnonzero(elsewhere)
            groups.append(FittingPoints(rows, grid, self.at(grid)[rows], covered[rows]))
        return groups

    def at_each(self, positions: ArrayLike) -> FloatArray:
        """Return every line at a position of its own.

        Args:
            positions: One Euclidean length per line. Shape (T,).

        Returns:
            Losses in nats, shape (T,); NaN as in `at`, and where the position is NaN.

        Raises:
            ValueError: If there is not one position per line.
        """
        points = np.asarray(positions, dtype=np.float64)
        if points.shape != self.steps.shape:
            raise ValueError(f"positions must have the shape {self.steps.shape}, got {points.shape}")
        losses = np.full(len(self), np.nan)
        for panel in self._panels:
            inside, clipped = _inside(panel.nodes, points[panel.rows])
            if inside.size:
                losses[panel.rows[inside]] = _evaluate_each(
                    panel.nodes, panel.values[inside], clipped, linear=panel.linear
                )
        return losses

    def derivative_at_zero(self, order: int) -> FloatArray:
        """Return the first or second derivative of every line at s = 0.

        Grid lines: the second-order finite difference for unequal spacing on 0 and its two neighbours on either side,
        applied once (slope) or twice (curvature).

        Adaptive lines: 0 is the edge of two panels, and at its edge the derivative of a panel's interpolant carries
        the interpolation error times n^2 (slope) or n^4 (curvature). The derivative is taken instead from the
        polynomial through 0 and the up to four nodes nearest to it on either side. The nodes crowd around 0, so its
        error there is f^(9)/9! times the product of their distances, far below that of either panel.

        Args:
            order: 1 (nats per length) or 2 (nats per length squared).

        Returns:
            Shape (T,); NaN where a loss in the stencil is not finite or a grid has not two positions on each side.

        Raises:
            ValueError: If the order is neither 1 nor 2.

        Source: linesearch M3.
        """
        if order not in (1, 2):
            raise ValueError(f"order must be 1 or 2, got {order}")
        derivatives = np.full(len(self), np.nan)
        for structure in self._structures:
            nodes, adaptive = structure.nodes, structure.edges.size > 1
            zero = int(np.argmin(np.abs(nodes)))
            # Without a node at 0 there is no centre to difference around; every measured line has one.
            if abs(nodes[zero]) > _RANGE_TOLERANCE * np.ptp(nodes):
                continue
            reach = _STENCIL_REACH if adaptive else 2
            stencil = np.arange(max(zero - reach, 0), min(zero + reach + 1, nodes.size))
            if adaptive and stencil.size > order:
                weights = _polynomial_weights(nodes[stencil], order=order)
            elif stencil.size == 5:
                weights = _difference_weights(nodes[stencil], order=order)
            else:
                continue
            values = structure.values[:, stencil]
            finite = np.isfinite(values).all(axis=1)
            derivatives[structure.rows[finite]] = values[finite] @ weights
        return derivatives

    def minimum(self, resolution: float) -> LineMinima:
        """Return the minimum of every line over its whole measured range.

        The arg-min is searched among the nodes and, on adaptive lines, the multiples of `resolution` between them
        (the minimum of a piecewise linear curve is one of its nodes). The first one counts on ties; a loss that is
        not finite counts as infinite. The vertex is that of the parabola through the arg-min and its two neighbours;
        it is the arg-min itself at an edge, beside a loss that is not finite, and where the three lie on a straight
        line.

        Args:
            resolution: Spacing of the search grid, Euclidean length.

        Source: linesearch M1 and M2.
        """
        if not (resolution > 0 and math.isfinite(resolution)):
            raise ValueError(f"resolution must be a positive length, got {resolution}")
        count = len(self)
        positions, vertex, losses = (np.full(count, np.nan) for _ in range(3))
        at_edge = np.zeros(count, dtype=np.bool_)
        for structure in inner_progress(self._structures, total=len(self._structures), label="layouts of lines"):
            points = structure.nodes
            if structure.edges.size > 1:
                points = _search_points(structure.nodes, resolution)
            for block in _blocks(len(structure.rows), points.size):
                rows = structure.rows[block]
                curves = _evaluate_structure(structure, block, points)
                curves[~np.isfinite(curves)] = np.inf
                best = np.argmin(curves, axis=1)
                own = np.arange(len(rows))
                lowest = curves[own, best]
                found = np.isfinite(lowest)
                positions[rows] = np.where(found, points[best], np.nan)
                losses[rows] = np.where(found, lowest, np.nan)
                at_edge[rows] = found & ((best == 0) | (best == points.size - 1))
                vertex[rows] = np.where(found, _parabola_vertices(points, curves, best), np.nan)
        return LineMinima(positions, vertex, losses, at_edge)


def chunk_curves(table: pa.Table, row: int, positions: ArrayLike) -> FloatArray:
    """Return the curves of every measuring chunk of one line.

    Args:
        table: Table of kind `line`.
        row: Row of the line in the table.
        positions: Euclidean lengths. Shape (P,).

    Returns:
        Mean loss over each chunk, in nats, shape (C, P), interpolated as in `LineCurves.at`.

    Raises:
        SgdlineError: If the number of chunk losses is no multiple of the number of positions.
    """
    line = table.slice(row, 1)
    nodes, _ = _flatten(line.column("positions"))
    edges, _ = _flatten(line.column("panel_edges"))
    losses, _ = _flatten(line.column("chunk_loss"))
    if nodes.size == 0 or losses.size % nodes.size:
        raise SgdlineError(
            f"Column 'chunk_loss' must hold a whole number of losses per position, got {losses.size} for {nodes.size} "
            f"positions at step {line.column('step')[0].as_py()}. Run the rule probe_segment again."
        )
    values = np.ascontiguousarray(losses.reshape(nodes.size, -1).T)
    rows = np.arange(len(values), dtype=np.int64)
    return LineCurves(rows, [_Structure(nodes, edges, rows, values)]).at(positions)


def _flatten(column: pa.ChunkedArray) -> tuple[FloatArray, IntArray]:
    """Return the values (float64) and the offsets (rows + 1) of a list column."""
    lists = column.combine_chunks()
    lengths = lists.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return lists.flatten().to_numpy(zero_copy_only=False).astype(np.float64, copy=False), offsets


def _row_bytes(values: FloatArray, offsets: IntArray) -> Iterator[bytes]:
    """Yield the bytes of each row's values: equal bytes mean equal nodes or edges."""
    flat, bounds = values.tobytes(), (offsets * values.itemsize).tolist()
    for first, stop in itertools.pairwise(bounds):
        yield flat[first:stop]


def _panel_slices(structure: _Structure) -> list[slice]:
    """Return the nodes of each panel; neighbouring panels share the node at their common edge."""
    if structure.edges.size < 2:
        return [slice(0, structure.nodes.size)]
    return panel_slices(structure.edges, structure.nodes)


def _merge_panels(structures: list[_Structure]) -> list[_Panel]:
    """Put panels with the same nodes together, whatever the other panels of their lines are."""
    merged: dict[tuple[bool, bytes], list[tuple[FloatArray, IntArray, FloatArray]]] = {}
    for structure in structures:
        linear = structure.edges.size < 2
        for part in _panel_slices(structure):
            nodes = structure.nodes[part]
            if nodes.size:
                entry = (nodes, structure.rows, structure.values[:, part])
                merged.setdefault((linear, nodes.tobytes()), []).append(entry)
    return [
        _Panel(
            entries[0][0],
            linear,
            np.concatenate([rows for _, rows, _ in entries]),
            np.ascontiguousarray(entries[0][2] if len(entries) == 1 else np.concatenate([each[2] for each in entries])),
        )
        for (linear, _), entries in merged.items()
    ]


def _inside(nodes: FloatArray, points: FloatArray) -> tuple[IntArray, FloatArray]:
    """Return the indices of the points on the nodes' interval, and these points moved into it."""
    slack = _RANGE_TOLERANCE * max(abs(nodes[0]), abs(nodes[-1]))
    inside = np.flatnonzero((points >= nodes[0] - slack) & (points <= nodes[-1] + slack))
    return inside, np.clip(points[inside], nodes[0], nodes[-1])


def _evaluate(nodes: FloatArray, values: FloatArray, points: FloatArray, *, linear: bool) -> FloatArray:
    """Return curves (M, n) at points (Q,) within the nodes' interval; NaN where not finite. Shape (M, Q)."""
    if linear or nodes.size == 1:
        return _piecewise_linear(nodes, values, points)
    finite = np.isfinite(values).all(axis=1)
    matrix = interpolation_matrix(nodes, points)
    if finite.all():
        return np.asarray(values @ matrix.T, dtype=np.float64)
    curves = np.empty((len(values), points.size))
    curves[finite] = values[finite] @ matrix.T
    curves[~finite] = _piecewise_linear(nodes, values[~finite], points)
    return curves


def _evaluate_each(nodes: FloatArray, values: FloatArray, points: FloatArray, *, linear: bool) -> FloatArray:
    """Return curve j of (M, n) at point j of (M,); NaN where not finite. Shape (M,)."""
    if linear or nodes.size == 1:
        return _piecewise_linear_each(nodes, values, points)
    finite = np.isfinite(values).all(axis=1)
    losses = np.empty(len(points))
    losses[finite] = np.einsum("mn,mn->m", values[finite], interpolation_matrix(nodes, points[finite]))
    losses[~finite] = _piecewise_linear_each(nodes, values[~finite], points[~finite])
    return losses


def _linear_places(nodes: FloatArray, points: FloatArray) -> tuple[IntArray, IntArray, FloatArray]:
    """Return the nodes left and right of each point and the weight of the right one."""
    left = np.clip(np.searchsorted(nodes, points, side="right") - 1, 0, max(nodes.size - 2, 0))
    right = np.minimum(left + 1, nodes.size - 1)
    width = nodes[right] - nodes[left]
    return left, right, np.divide(points - nodes[left], width, out=np.zeros_like(points), where=width > 0)


def _blend(left: FloatArray, right: FloatArray, weight: FloatArray) -> FloatArray:
    # A node that is not finite spoils only the points that really lean on it.
    with np.errstate(invalid="ignore", over="ignore"):
        mixed = np.where(weight == 0.0, left, np.where(weight == 1.0, right, (1.0 - weight) * left + weight * right))
    return np.where(np.isfinite(mixed), mixed, np.nan)


def _piecewise_linear(nodes: FloatArray, values: FloatArray, points: FloatArray) -> FloatArray:
    left, right, weight = _linear_places(nodes, points)
    if np.all((weight == 0.0) | (weight == 1.0)):  # every point is a node, as when a grid is read at its own positions
        curves = values[:, np.where(weight == 1.0, right, left)]
        curves[~np.isfinite(curves)] = np.nan
        return curves
    return _blend(values[:, left], values[:, right], weight)


def _piecewise_linear_each(nodes: FloatArray, values: FloatArray, points: FloatArray) -> FloatArray:
    left, right, weight = _linear_places(nodes, points)
    own = np.arange(len(values))
    return _blend(values[own, left], values[own, right], weight)


def _evaluate_structure(structure: _Structure, block: slice, points: FloatArray) -> FloatArray:
    """Return the lines of one block of a structure at points within the measured range. Shape (M, Q)."""
    linear = structure.edges.size < 2
    curves = np.full((len(structure.rows[block]), points.size), np.nan)
    for part in _panel_slices(structure):
        inside, clipped = _inside(structure.nodes[part], points)
        curves[:, inside] = _evaluate(structure.nodes[part], structure.values[block, part], clipped, linear=linear)
    return curves


def _search_points(nodes: FloatArray, resolution: float) -> FloatArray:
    """Return nodes and multiples of the resolution in their interval, without multiples that touch a node."""
    first, last = math.ceil(nodes[0] / resolution - 1e-9), math.floor(nodes[-1] / resolution + 1e-9)
    multiples = np.arange(first, last + 1, dtype=np.float64) * resolution
    after = np.clip(np.searchsorted(nodes, multiples), 1, nodes.size - 1)
    distance = np.minimum(np.abs(multiples - nodes[after - 1]), np.abs(multiples - nodes[after]))
    return np.sort(np.concatenate([nodes, multiples[distance > _MERGE_FRACTION * resolution]]))


def _blocks(rows: int, columns: int) -> Iterator[slice]:
    height = max(1, _BLOCK_VALUES // max(columns, 1))
    for start in range(0, rows, height):
        yield slice(start, min(start + height, rows))


def _parabola_vertices(points: FloatArray, curves: FloatArray, best: NDArray[np.intp]) -> FloatArray:
    """Return the vertex of the parabola through each row's minimum and its neighbours, between these neighbours."""
    vertices = points[best].copy()
    own = np.arange(len(curves))
    inner = (best > 0) & (best < points.size - 1)
    inner[inner] = (
        np.isfinite(curves[own[inner], best[inner] - 1])
        & np.isfinite(curves[own[inner], best[inner]])
        & np.isfinite(curves[own[inner], best[inner] + 1])
    )
    row, middle = own[inner], best[inner]
    here, behind, ahead = points[middle], points[middle - 1], points[middle + 1]
    left, right = here - behind, ahead - here  # both positive
    rise_left = (curves[row, middle - 1] - curves[row, middle]) / left  # both at least 0: the middle is lowest
    rise_right = (curves[row, middle + 1] - curves[row, middle]) / right
    # The parabola's slope at the middle is (left*rise_right - right*rise_left)/(left + right), its second derivative
    # 2*(rise_left + rise_right)/(left + right).
    bend = 2.0 * (rise_left + rise_right)
    shift = np.divide(right * rise_left - left * rise_right, bend, out=np.zeros_like(bend), where=bend > 0)
    vertices[inner] = np.clip(here + shift, behind, ahead)
    return vertices


def _polynomial_weights(nodes: FloatArray, *, order: int) -> FloatArray:
    """Return weights w with w @ values = the derivative at 0 of the polynomial through the nodes. Shape (n,)."""
    scale = float(np.max(np.abs(nodes)))
    powers = np.vander(nodes / scale, nodes.size, increasing=True).T
    moments = np.zeros(nodes.size)
    moments[order] = math.factorial(order)
    return np.asarray(np.linalg.solve(powers, moments) / scale**order, dtype=np.float64)


def _difference_weights(nodes: FloatArray, *, order: int) -> FloatArray:
    """Return the weights of M3's operator, applied `order` times on five nodes, at the middle one. Shape (5,)."""
    operator = np.eye(nodes.size)
    for _ in range(order):
        operator = np.asarray(np.gradient(operator, nodes, axis=0), dtype=np.float64)
    return np.asarray(operator[nodes.size // 2], dtype=np.float64)
