"""Distances between the shapes of lines (linesearch M11)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike
from scipy.spatial.distance import cdist

from sgdline.analysis import by_lines
from sgdline.analysis.by_lines import Lines
from sgdline.analysis.columns import inherited_provenance
from sgdline.analysis.curves import FloatArray, IntArray, LineCurves, common_grid
from sgdline.probes.line.table import LINE
from sgdline.tables import Facts, read_table, write_table
from sgdline.tables.kinds.line_distances import LINE_DISTANCES


def line_shapes(curves: LineCurves, *, window: float, resolution: float) -> FloatArray:
    """Return f~(s) = f(s) - min f on the grid points |s| < window.

    Args:
        curves: Lines of one run.
        window: Half-width of the compared interval, Euclidean length, excluded itself.
        resolution: Spacing of the compared positions and of the search for the minimum over the WHOLE measured line.

    Returns:
        Losses above the line's minimum, in nats. Shape (T, P); NaN where the line was not measured or is not finite.

    Source: linesearch M11.
    """
    grid = common_grid(window, resolution)
    grid = grid[np.abs(grid) < window * (1 - 1e-9)]
    return curves.at(grid) - curves.minimum(resolution).losses[:, None]


def curve_distances(shapes: ArrayLike) -> FloatArray:
    """Return the mean absolute difference of every two curves.

    Args:
        shapes: One curve per row, all at the same positions. Shape (T, P).

    Returns:
        Symmetric matrix, zeros on the diagonal; NaN in rows and columns of curves that are not finite. Shape (T, T).

    Cost: T^2 * P additions; no memory besides the result.

    Source: linesearch M11.
    """
    curves = np.asarray(shapes, dtype=np.float64)
    if curves.ndim != 2 or curves.shape[1] == 0:
        raise ValueError(f"shapes must be (T, P) with at least one position, got the shape {curves.shape}")
    count, points = curves.shape
    distances = np.full((count, count), np.nan)
    finite = np.flatnonzero(np.isfinite(curves).all(axis=1))
    if finite.size:
        distances[np.ix_(finite, finite)] = cdist(curves[finite], curves[finite], "cityblock") / points
    return distances


def consecutive_distances(shapes: ArrayLike) -> FloatArray:
    """Return the mean absolute difference of each curve to the next one. Shape (T,); NaN for the last one.

    Args:
        shapes: One curve per row, all at the same positions. Shape (T, P).

    Source: linesearch M11.
    """
    curves = np.asarray(shapes, dtype=np.float64)
    distances = np.full(len(curves), np.nan)
    if len(curves) > 1:
        distances[:-1] = np.abs(np.diff(curves, axis=0)).mean(axis=1)
    return distances


def measure_distances(
    line_path: str | Path,
    output: str | Path,
    *,
    window: float,
    resolution: float,
    distance_first: Lines,
    distance_every: Lines,
    provenance: Facts,
) -> None:
    """Compare the shapes of the lines of a run with one another and write a table `line_distances`.

    Args:
        line_path: Table of kind `line`.
        output: Table of kind `line_distances`. Panel `first` holds the first `distance_first` lines, panel `rest`
            every `distance_every`-th of the later ones; each is compared within its panel. A distance to a line whose
            shape is not finite or not measured in the whole window is NaN.
        window: Half-width of the compared interval, Euclidean length.
        resolution: Spacing of the compared positions, Euclidean length.
        distance_first: Number of lines of the first panel, at least 1, or `auto`; see `sgdline.analysis.by_lines`.
        distance_every: Stride of the second panel, at least 1, or `auto`.
        provenance: Facts for the metadata; they join and override those of the line table.

    Raises:
        SgdlineError: If the line table is missing or damaged.
        ValueError: If `distance_first` or `distance_every` is below 1.

    Source: linesearch M11, fig. 3.
    """
    lines = read_table(line_path, LINE, columns=["step", "panel_edges", "positions", "train_loss"])
    first = by_lines.number("distance_first", distance_first, lines=len(lines))
    every = by_lines.number("distance_every", distance_every, lines=len(lines))
    if first < 1 or every < 1:
        raise ValueError(f"distance_first and distance_every must be at least 1, got {first} and {every}")
    curves = LineCurves.from_table(lines)
    shapes = line_shapes(curves, window=window, resolution=resolution)
    parts = [
        _panel_table("first", curves.steps[:first], shapes[:first]),
        _panel_table("rest", curves.steps[first::every], shapes[first::every]),
    ]
    write_table(output, LINE_DISTANCES, pa.concat_tables(parts), provenance=inherited_provenance(lines, provenance))


def _panel_table(panel: str, steps: IntArray, shapes: FloatArray) -> pa.Table:
    count = len(steps)
    offsets = pa.array((np.arange(count + 1) * count).astype(np.int32))
    return pa.Table.from_arrays(
        [
            pa.array([panel] * count, type=pa.string()),
            pa.array(steps),
            pa.ListArray.from_arrays(offsets, pa.array(np.tile(steps, count))),
            pa.ListArray.from_arrays(offsets, pa.array(curve_distances(shapes).reshape(-1))),
        ],
        schema=LINE_DISTANCES.schema,
    )
