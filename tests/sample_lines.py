"""Synthetic tables of kind `line` with the losses of single samples, and the `line_metrics` that go with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from line_tables import grid_positions, panel_positions
from numpy.typing import ArrayLike, NDArray

from sgdline.analysis.metrics import measure_lines
from sgdline.tables import write_table

FloatArray = NDArray[np.float64]
Samples = Callable[[FloatArray], FloatArray]  # positions (P,) -> losses (P, n)


def polynomials(coefficients: ArrayLike) -> Samples:
    """Return samples whose losses are polynomials in s; coefficients in ascending powers. Shape (n, degree + 1)."""
    table = np.asarray(coefficients, dtype=np.float64)
    return lambda s: np.vander(s, table.shape[1], increasing=True) @ table.T


def sample_line(
    samples: Samples,
    batch: Samples,
    *,
    step: int = 0,
    rows: ArrayLike | None = None,
    layout: str | FloatArray = "panels",
    half_width: float = 0.5,
    lr: float = 0.1,
    step_length: float = 0.05,
    exact_slope: float = -1.0,
    status: str = "ok",
) -> dict[str, Any]:
    """Return one row of a table `line`.

    Args:
        samples: The measuring set.
        batch: The direction batch.
        step: Its update.
        rows: Rows of the direction batch in the measuring set; null if None.
        layout: panels, grid (resolution 0.02), or explicit positions (then piecewise linear).
        half_width: Half-width of the measured interval.
        lr: Learning rate.
        step_length: The executed step.
        exact_slope: Of the direction batch.
        status: Of the line.
    """
    edges = np.empty(0)
    if isinstance(layout, str) and layout == "panels":
        edges, positions = panel_positions(half_width, panels=(1, 1), nodes=17)
    else:
        positions = grid_positions(half_width, 0.02) if isinstance(layout, str) else np.asarray(layout)
    losses, own = samples(positions), batch(positions)
    executed = np.array([step_length])
    return {
        "step": step, "epoch": step / 10, "lr": lr, "direction_norm": step_length / lr, "step_length": step_length,
        "direction_batch_slope": exact_slope, "panel_edges": edges, "positions": positions,
        "train_loss": losses.mean(axis=1), "direction_batch_loss": own.mean(axis=1),
        "chunk_loss": losses.mean(axis=1).astype(np.float32), "sample_loss": losses.astype(np.float32).reshape(-1),
        "direction_batch_sample_loss": own.astype(np.float32).reshape(-1),
        "direction_batch_rows": None if rows is None else np.asarray(rows, dtype=np.int64),
        "step_train_loss": samples(executed).mean(), "step_direction_batch_loss": batch(executed).mean(),
        "evaluations": positions.size + 1, "rings": 1, "status": status,
    }  # fmt: skip


def write_sample_lines(
    folder: Path, lines: Sequence[Mapping[str, Any]], *, provenance: Mapping[str, Any] | None = None
) -> tuple[Path, Path]:
    """Write the tables `line` and `line_metrics` of these rows and return their paths."""
    line, metrics = folder / "line.arrow", folder / "line_metrics.arrow"
    names = [*sample_line(polynomials([[0.0]]), polynomials([[0.0]]))]
    write_table(line, "line", {name: [row[name] for row in lines] for name in names}, provenance=provenance or {})
    measure_lines(line, metrics, window=0.2, resolution=0.02, provenance={})
    return line, metrics
