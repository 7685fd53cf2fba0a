"""One measured line as a panel: shared by the figures that show lines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sgdline.figures.grammar import style

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from sgdline.analysis.curves import LineCurves

FloatArray = npt.NDArray[np.float64]

_LOSS_CEILING = 5.0  # nats; the paper's plots end there


@dataclass(frozen=True)
class MeasuredLine:
    """One line of a table, read at the positions of a panel."""

    row: int  # of the table it was taken from
    step: int
    lr: float
    step_length: float  # s_sgd, Euclidean length
    direction_batch_slope: float  # D_b, exact
    step_train_loss: float  # measured at s_sgd itself, nats
    status: str
    positions: FloatArray  # (P,)
    train_loss: FloatArray  # (P,) NaN outside the measured range
    direction_batch_loss: FloatArray  # (P,)
    chunk_loss: FloatArray  # (C, P)
    direction_batch_at_zero: float  # b(0)
    curves: tuple[LineCurves, LineCurves]  # full batch, direction batch: one line each


def choose_lines(steps: npt.NDArray[np.int64], fractions: list[float], *, run_steps: int) -> list[tuple[int, int]]:
    """Choose for each fraction of the run the measured line nearest to it.

    Args:
        steps: Updates at which lines were measured. Shape (T,).
        fractions: Places in the run, 0 to 1.
        run_steps: Updates of the run.

    Returns:
        Pairs (row, wanted update) in the order of the fractions; a line that an earlier fraction took is left out.
    """
    chosen: dict[int, int] = {}
    for fraction in fractions if len(steps) else []:
        wanted = min(round(fraction * run_steps), run_steps - 1)
        chosen.setdefault(int(np.argmin(np.abs(steps - wanted))), wanted)
    return list(chosen.items())


def panel_positions(low: float, high: float, *, resolution: float) -> FloatArray:
    """Return both ends and the multiples of the resolution between them, ascending. Shape (P,)."""
    from sgdline.analysis.curves import common_grid

    grid = common_grid(max(abs(low), abs(high)), resolution)
    # Multiples that touch an end would only double it.
    inside = grid[(grid > low + 1e-3 * resolution) & (grid < high - 1e-3 * resolution)]
    return np.concatenate([[low], inside, [high]])


def read_line(table: pa.Table, row: int, positions: FloatArray) -> MeasuredLine:
    """Read one row of a `line` table at the given positions, ascending, shape (P,)."""
    # Imported lazily: sgdline.analysis brings scipy and pandas, which reading a spec does not need.
    from sgdline.analysis.curves import LineCurves, chunk_curves

    line = table.slice(row, 1)  # one row: a paper-scale table holds ten thousand
    full, batch = LineCurves.from_table(line, "train_loss"), LineCurves.from_table(line, "direction_batch_loss")
    measured = len(line["positions"][0]) > 0
    value: dict[str, Any] = {
        name: line[name][0].as_py()
        for name in ("step", "lr", "step_length", "direction_batch_slope", "step_train_loss", "status")
    }
    return MeasuredLine(
        row=row,
        positions=positions,
        train_loss=full.at(positions)[0],
        direction_batch_loss=batch.at(positions)[0],
        chunk_loss=chunk_curves(line, 0, positions) if measured else np.empty((0, len(positions))),
        direction_batch_at_zero=float(batch.at([0.0])[0, 0]),
        curves=(full, batch),
        **value,
    )


def draw_losses(panel: Axes, line: MeasuredLine) -> bool:
    """Draw chunk spread, direction batch and full batch of a line; False, with words, if no loss is finite."""
    panel.set_xlabel("position s on the line (Euclidean length)")
    panel.set_ylabel("loss (nats)")
    drawn = np.vstack([line.train_loss, line.direction_batch_loss])
    if not np.isfinite(drawn).any():
        reason = "the update direction is zero" if line.status == "zero_direction" else "no loss on it is finite"
        style.say(panel, f"line at update {line.step}: {reason}")
        return False
    # The losses come first in the legend and lie above the spread in the picture.
    full, batch = style.look("full_batch", zorder=3.2), style.look("direction_batch", zorder=3.1)
    panel.plot(line.positions, line.train_loss, **full, label="full batch (f)")
    panel.plot(line.positions, line.direction_batch_loss, **batch, label="direction batch (b)")
    covered = np.isfinite(line.chunk_loss).any(axis=0)
    if covered.any():
        chunks, positions = line.chunk_loss[:, covered], line.positions[covered]
        first, median, third = np.nanquantile(chunks, [0.25, 0.5, 0.75], axis=0)
        panel.plot(positions, median, **style.look("chunk_median"), label="median of the chunk losses")
        panel.plot(positions, first, **style.look("chunk_quartile"), label="quartiles of the chunk losses")
        panel.plot(positions, third, **style.look("chunk_quartile"))
        panel.fill_between(
            positions,
            np.nanmin(chunks, axis=0),
            np.nanmax(chunks, axis=0),
            color=style.ROLES["chunk_range"]["color"],
            linewidth=0,
            zorder=0.5,
            label="smallest to largest chunk loss",
        )
    panel.axvline(0.0, color="#BBBBBB", linewidth=0.7, zorder=0.8)
    return True


def loss_limits(line: MeasuredLine) -> tuple[float, float]:
    """Return the paper's y limits, 0.8*min to min(5, max), opened where a line lies above 5 nats."""
    values = np.concatenate([line.train_loss, line.direction_batch_loss, line.chunk_loss.ravel()])
    values = values[np.isfinite(values)]
    low, high = float(values.min()), float(values.max())
    centre = line.train_loss[np.isfinite(line.train_loss)]
    if centre.size and 1.3 * float(centre.min()) < _LOSS_CEILING:
        high = min(high, _LOSS_CEILING)
    low *= 0.8
    return low, high if high > low else low + 1e-3


def line_title(panel: Axes, line: MeasuredLine, *, wanted: int, run_steps: int, notes: list[str]) -> None:
    """Name the update of a panel, and say where it is not the one that was asked for."""
    special = [] if line.status == "ok" else [f"line status: {line.status}"]
    if line.step != wanted:
        special.insert(0, f"nearest to update {wanted}")
    style.title(panel, f"line at update {line.step} of {run_steps}", [*special, *notes], width=48)


def line_sheet(
    title: str, chosen: int, *, tables: Mapping[str, pa.Table], settings: Mapping[str, Any], legend_entries: int
) -> tuple[Figure, list[Axes]]:
    """Return a sheet with one panel per chosen line, at least one, at most three in a row."""
    count = max(chosen, 1)
    rows = -(-count // 3)
    columns = -(-count // rows)  # 4 lines: two by two, not three and one
    figure = style.new_figure(
        title,
        footer=style.describe_run(tables, settings),
        width=max(3.9 * columns, 7.4),
        height=1.15 + 3.3 * rows,
        legend_entries=legend_entries,
    )
    # Five panels: the last row's two are widened by the grid, no place stays empty.
    grid = figure.add_gridspec(rows, columns * max(count - columns * (rows - 1), 1))
    panels = []
    for index in range(count):
        row, column = divmod(index, columns)
        in_row = columns if row < rows - 1 else count - columns * (rows - 1)
        span = grid.ncols // in_row
        panels.append(figure.add_subplot(grid[row, column * span : (column + 1) * span]))
    return figure, panels
