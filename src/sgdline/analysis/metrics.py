"""Minima, derivatives and the line-search ratio of every line (linesearch M1, M2, M3, M10, M11)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike

from sgdline.analysis.columns import as_floats, inherited_provenance, measurable, nullable
from sgdline.analysis.curves import FloatArray, LineCurves
from sgdline.analysis.distances import consecutive_distances, line_shapes
from sgdline.probes.line.table import LINE
from sgdline.tables import Facts, read_table, write_table
from sgdline.tables.kinds.line_metrics import LINE_METRICS

_COPIED = ("step", "epoch", "lr", "step_length", "direction_norm", "direction_batch_slope", "status")


def line_search_ratio(minima: ArrayLike, direction_norms: ArrayLike) -> FloatArray:
    """Return s_opt / ||m_t||: the learning rate with which the update would end in the full-batch minimum.

    Without momentum and weight decay ||m_t|| is |D_b|, the slope of the direction batch. With momentum the update is
    not along the batch gradient; the paper then uses ||m_t|| as well (papers.md 2.4, supp7).

    Args:
        minima: s_opt of every line, Euclidean length. Shape (T,).
        direction_norms: ||m_t|| of every line. Shape (T,).

    Returns:
        Shape (T,); NaN where s_opt is NaN or the norm is 0 or not finite.

    Source: linesearch M10.
    """
    positions = np.asarray(minima, dtype=np.float64)
    norms = np.asarray(direction_norms, dtype=np.float64)
    usable = np.isfinite(norms) & (norms > 0)
    ratio = np.full(positions.shape, np.nan)
    ratio[usable] = positions[usable] / norms[usable]
    return ratio


def measure_lines(
    line_path: str | Path,
    output: str | Path,
    *,
    window: float,
    resolution: float,
    provenance: Facts,
) -> None:
    """Measure every line of a run and write a table `line_metrics`, one row per line.

    Minima are those over the whole measured range (on a line that is not finite everywhere: over its finite part).
    A line without a direction has no minimum, no derivative and no shape. The ratio exists for lines of status ok or
    edge only.

    Args:
        line_path: Table of kind `line`.
        output: Table of kind `line_metrics`.
        window: Half-width of the interval in which consecutive lines are compared, Euclidean length.
        resolution: Spacing of the search for minima and of the compared positions, Euclidean length.
        provenance: Facts for the metadata; they join and override those of the line table.

    Raises:
        SgdlineError: If the line table is missing or damaged.

    Source: linesearch M1, M2, M3, M10, M11.
    """
    columns = [*_COPIED, "panel_edges", "positions", "train_loss", "direction_batch_loss"]
    lines = read_table(line_path, LINE, columns=columns)
    status = np.array(lines.column("status").to_pylist(), dtype=object)
    directed = status != "zero_direction"

    def where_directed(values: FloatArray) -> pa.Array:
        return nullable(np.where(directed, values, np.nan))

    train = LineCurves.from_table(lines)
    batch = LineCurves.from_table(lines, "direction_batch_loss")
    train_minimum, batch_minimum = train.minimum(resolution), batch.minimum(resolution)
    shapes = line_shapes(train, window=window, resolution=resolution)
    shapes[~directed] = np.nan
    ratio = line_search_ratio(train_minimum.vertex, as_floats(lines, "direction_norm"))
    ratio[~measurable(lines)] = np.nan
    measured = {
        "loss_at_zero": nullable(train.at([0.0])[:, 0]),
        "minimum_position": where_directed(train_minimum.positions),
        "minimum_position_vertex": where_directed(train_minimum.vertex),
        "minimum_loss": where_directed(train_minimum.losses),
        "direction_batch_minimum_position": where_directed(batch_minimum.positions),
        "direction_batch_minimum_loss": where_directed(batch_minimum.losses),
        "train_slope": where_directed(train.derivative_at_zero(1)),
        "train_curvature": where_directed(train.derivative_at_zero(2)),
        "direction_batch_slope_curve": where_directed(batch.derivative_at_zero(1)),
        "direction_batch_curvature": where_directed(batch.derivative_at_zero(2)),
        "line_search_ratio": nullable(ratio),
        "consecutive_distance": nullable(consecutive_distances(shapes)),
    }
    copied = {name: lines.column(name) for name in _COPIED}
    schema = LINE_METRICS.schema
    table = pa.Table.from_arrays([{**copied, **measured}[field.name] for field in schema], schema=schema)
    write_table(output, LINE_METRICS, table, provenance=inherited_provenance(lines, provenance))
