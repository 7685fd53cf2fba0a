"""Synthetic tables of kind `line`: any callable measured as the line probe would measure it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sgdline.interpolation import chebyshev_nodes
from sgdline.tables import kind_of, write_table

FloatArray = NDArray[np.float64]
Curve = Callable[[FloatArray], Any]


def panel_positions(half_width: float, *, panels: tuple[int, int], nodes: int) -> tuple[FloatArray, FloatArray]:
    """Return panel edges and the nodes of all panels, shared edges once.

    Args:
        half_width: Width of one panel.
        panels: Number of panels left and right of 0.
        nodes: Nodes of each panel, both edges included.
    """
    edges = np.arange(-panels[0], panels[1] + 1, dtype=np.float64) * half_width
    parts = [chebyshev_nodes(nodes, low, high)[:-1] for low, high in itertools.pairwise(edges)]
    return edges, np.concatenate([*parts, edges[-1:]])


def grid_positions(half_width: float, resolution: float) -> FloatArray:
    """Return the grid k * resolution, k = -K..K."""
    reach = int(np.floor(half_width / resolution + 1e-9))
    return np.arange(-reach, reach + 1) * resolution


def _per_line(given: Any, count: int) -> list[Any]:
    values = list(given) if isinstance(given, Sequence | np.ndarray) and not isinstance(given, str) else [given] * count
    assert len(values) == count, f"one value per line is needed, got {len(values)} for {count} lines"
    return values


def make_line_table(
    functions: Sequence[Curve],
    *,
    steps: Sequence[int] | None = None,
    positions: Literal["adaptive", "grid"] | FloatArray = "adaptive",
    half_width: float = 0.5,
    resolution: float = 0.006,
    panels: tuple[int, int] | Sequence[tuple[int, int]] = (1, 1),
    nodes: int | Sequence[int] = 17,
    direction_batch: Sequence[Curve] | None = None,
    validation: Sequence[Curve] | None = None,
    chunk_offsets: Sequence[float] = (-0.1, 0.1),
    direction_norm: float | Sequence[float] = 1.0,
    direction_batch_slope: float | Sequence[float] = -1.0,
    lr: float = 0.1,
    steps_per_epoch: float = 10.0,
    status: str | Sequence[str] = "ok",
    interpolation_error: float | Sequence[float | None] | None = 1e-5,
) -> pa.Table:
    """Build a table of kind `line` from one callable per line.

    Args:
        functions: Full-batch loss of each line; takes positions (P,) and returns losses (P,).
        steps: Update of each line; 0, 1, 2... if None.
        positions: adaptive, grid, or explicit positions (then piecewise linear) for all lines.
        half_width: Half-width of the interval; of one panel if adaptive.
        resolution: Spacing of the grid.
        panels: Number of panels left and right of 0, for all lines or one pair per line.
        nodes: Nodes of each panel, for all lines or one number per line.
        direction_batch: Loss of B_t of each line; `functions` minus 0.2*s if None.
        validation: Validation loss of each line; null if None.
        chunk_offsets: The curve of chunk c is the full-batch curve plus chunk_offsets[c].
        direction_norm: ||m_t||, for all lines or one value per line.
        direction_batch_slope: Exact D_b, for all lines or one value per line.
        lr: Learning rate of every line.
        steps_per_epoch: For the column epoch.
        status: For all lines or one per line.
        interpolation_error: Nats, for all lines or one per line; null on a grid.
    """
    count = len(functions)
    batch_curves = direction_batch or [lambda s, f=f: np.asarray(f(s)) - 0.2 * s for f in functions]
    panel_counts = _per_line(panels if not isinstance(panels, tuple) else [panels] * count, count)
    rows: list[dict[str, Any]] = []
    for index, (function, batch_curve) in enumerate(zip(functions, batch_curves, strict=True)):
        if isinstance(positions, str) and positions == "adaptive":
            edges, points = panel_positions(
                half_width, panels=panel_counts[index], nodes=_per_line(nodes, count)[index]
            )
        else:
            edges = np.empty(0)
            points = grid_positions(half_width, resolution) if isinstance(positions, str) else np.asarray(positions)
        losses = np.asarray(function(points), dtype=np.float64) * np.ones_like(points)
        batch_losses = np.asarray(batch_curve(points), dtype=np.float64) * np.ones_like(points)
        step = index if steps is None else int(steps[index])
        norm = float(_per_line(direction_norm, count)[index])
        executed = np.array([lr * norm])
        rows.append(
            {
                "step": step,
                "epoch": step / steps_per_epoch,
                "lr": lr,
                "direction_norm": norm,
                "step_length": lr * norm,
                "direction_batch_slope": float(_per_line(direction_batch_slope, count)[index]),
                "panel_edges": edges,
                "positions": points,
                "train_loss": losses,
                "direction_batch_loss": batch_losses,
                "validation_loss": None if validation is None else np.asarray(validation[index](points)),
                "chunk_loss": (losses[:, None] + np.asarray(chunk_offsets)).astype(np.float32).reshape(-1),
                "sample_loss": None,
                "step_train_loss": float(np.asarray(function(executed)).reshape(-1)[0]),
                "step_direction_batch_loss": float(np.asarray(batch_curve(executed)).reshape(-1)[0]),
                "interpolation_error": _per_line(interpolation_error, count)[index] if edges.size else None,
                "direction_batch_interpolation_error": (
                    _per_line(interpolation_error, count)[index] if edges.size else None
                ),
                "evaluations": points.size + 1,
                "rings": max(panel_counts[index]),
                "status": _per_line(status, count)[index],
            }
        )
    schema = kind_of("line").schema
    columns = [pa.array([row.get(field.name) for row in rows], type=field.type) for field in schema]
    return pa.Table.from_arrays(columns, schema=schema)


def write_line_table(
    path: str | Path, functions: Sequence[Curve], *, provenance: Mapping[str, Any] | None = None, **options: Any
) -> Path:
    """Write the table of `make_line_table` and return its path."""
    write_table(path, "line", make_line_table(functions, **options), provenance=provenance or {})
    return Path(path)
