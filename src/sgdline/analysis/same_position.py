"""Lines of many directions from one position: minima, shapes compared with one another, fits (M1, M10, M11, M12)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from sgdline.analysis.columns import as_floats, inherited_provenance, measurable, nullable
from sgdline.analysis.curves import LineCurves
from sgdline.analysis.distances import curve_distances, line_shapes
from sgdline.analysis.fits import fit_curves
from sgdline.analysis.metrics import line_search_ratio
from sgdline.probes.mline.table import MLINE
from sgdline.tables import Facts, read_table, write_table
from sgdline.tables.kinds.mline_metrics import MLINE_METRICS

_COPIED = ("step", "direction", "direction_norm", "status")


def measure_same_position(
    mline_path: str | Path,
    output: str | Path,
    *,
    window: float,
    resolution: float,
    same_position_degrees: Sequence[int],
    provenance: Facts,
) -> None:
    """Compare the lines of each position with one another and write a table `mline_metrics`, one row per line.

    Minimum, ratio, shape and fits exist for lines of status ok or edge only.

    Args:
        mline_path: Table of kind `mline`.
        output: Table of kind `mline_metrics`. Each line is compared with all lines of its position, itself included.
        window: Half-width of the interval in which lines are compared (excluded itself) and fitted, Euclidean length.
        resolution: Spacing of the compared and fitted positions and of the search for minima, Euclidean length.
        same_position_degrees: Polynomial degrees, each at least 1.
        provenance: Facts for the metadata; they join and override those of the mline table.

    Raises:
        SgdlineError: If the mline table is missing or damaged, or the window holds too few positions for a degree.

    Source: linesearch M1, M10, M11, M12, fig. 8.
    """
    lines = read_table(mline_path, MLINE, columns=[*_COPIED, "panel_edges", "positions", "train_loss"])
    measured = measurable(lines)
    curves = LineCurves.from_table(lines)
    ordered, key = sorted(set(same_position_degrees)), "analysis.same_position_degrees"
    fits = fit_curves(curves, window=window, resolution=resolution, degrees=ordered, key=key)
    minimum = curves.minimum(resolution)
    ratio = line_search_ratio(minimum.vertex, as_floats(lines, "direction_norm"))
    ratio[~measured] = np.nan
    shapes = line_shapes(curves, window=window, resolution=resolution)
    shapes[~measured] = np.nan
    mae = np.stack([np.where(measured, fit.mae, np.nan) for fit in fits], axis=1)

    directions = lines.column("direction").to_numpy()
    others: list[Any] = [None] * len(curves)
    distances: list[Any] = [None] * len(curves)
    for step in np.unique(curves.steps):
        rows = np.flatnonzero(curves.steps == step)
        for row, found in zip(rows.tolist(), curve_distances(shapes[rows]), strict=True):
            others[row], distances[row] = directions[rows], found
    columns = {
        **{name: lines.column(name) for name in _COPIED},
        "minimum_position": nullable(np.where(measured, minimum.vertex, np.nan)),
        "minimum_loss": nullable(np.where(measured, minimum.losses, np.nan)),
        "line_search_ratio": nullable(ratio),
        "other_directions": others,
        "distances": distances,
        "degrees": [ordered] * len(curves),
        "mae": list(mae),
    }
    schema = MLINE_METRICS.schema
    arrays = [
        column if isinstance(column, pa.Array | pa.ChunkedArray) else pa.array(column, type=schema.field(name).type)
        for name, column in ((field.name, columns[field.name]) for field in schema)
    ]
    table = pa.Table.from_arrays(arrays, schema=schema)
    write_table(output, MLINE_METRICS, table, provenance=inherited_provenance(lines, provenance))
