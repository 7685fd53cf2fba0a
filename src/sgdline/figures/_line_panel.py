"""One measured line as a panel: shared by the figures that show lines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sgdline.figures.base import PanelSheet
from sgdline.figures.grammar import style
from sgdline.figures.grammar.sheet import NoDataError, Panel, draw_sheet, nothing
from sgdline.figures.grammar.style import FloatArray

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from sgdline.analysis.curves import LineCurves


_COLUMNS = 6
# Of the panels, by their number: no place of a row stays empty.
_SPANS = ((), (6,), (3, 3), (2, 2, 2), (3, 3, 3, 3), (2, 2, 2, 3, 3), (2, 2, 2, 2, 2, 2))
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


def draw_lines(
    options: PanelSheet,
    tables: Mapping[str, pa.Table],
    *,
    window: tuple[float, float],
    draw_on: Callable[[MeasuredLine, Axes], Sequence[str]],
    settings: Mapping[str, Any],
) -> Figure:
    """Draw a panel for each entry of analysis.figure_lines.

    Args:
        options: The figure.
        tables: With `line`.
        window: Ends of the panels, Euclidean lengths.
        draw_on: Adds its own to a panel with the losses of a line, sets its limits and returns notes.
        settings: As in `sgdline.figures.plot_figure`.
    """
    table, run_steps = tables["line"], settings["steps"]
    steps = table["step"].to_numpy()
    chosen = choose_lines(steps, settings["analysis"]["figure_lines"], run_steps=run_steps)
    positions = panel_positions(*window, resolution=settings["probes"]["line"]["resolution"])
    panels = [
        Panel(
            f"line_{place}",
            f"update {steps[row]} of {run_steps}",
            partial(_draw_line, table, row, wanted, positions, draw_on),
            height=2.6,
            span=span,
        )
        for place, ((row, wanted), span) in enumerate(zip(chosen, _SPANS[len(chosen)], strict=True), start=1)
    ]
    if not panels:
        panels = [nothing(options, "no line was measured", tables, height=2.6)]
    return draw_sheet(options, panels, footer=style.run_facts(tables, settings), columns=_COLUMNS)


def _draw_line(
    table: pa.Table,
    row: int,
    wanted: int,
    positions: FloatArray,
    draw_on: Callable[[MeasuredLine, Axes], Sequence[str]],
    panel: Axes,
) -> Sequence[str]:
    """Draw one line, and say where it is not the one that was asked for."""
    line = read_line(table, row, positions)
    notes = [f"status {line.status.replace('_', ' ')}"] if line.status != "ok" else []
    if line.step != wanted:
        notes.insert(0, f"nearest to update {wanted}")
    _draw_losses(panel, line, notes)
    panel.set_xlim(positions[0], positions[-1])
    return [*notes, *draw_on(line, panel)]


def _draw_losses(panel: Axes, line: MeasuredLine, notes: Sequence[str]) -> None:
    """Draw chunk spread, direction batch and full batch of a line."""
    panel.set_xlabel("position s (Euclidean length)")
    panel.set_ylabel("loss (nats)")
    if not np.isfinite(np.vstack([line.train_loss, line.direction_batch_loss])).any():
        reason = "the update direction is zero" if line.status == "zero_direction" else "no loss on it is finite"
        raise NoDataError(f"line at update {line.step}: {reason}", notes=notes)
    # The losses come first in the legend and lie above the spread in the picture.
    full, batch = style.look("full_batch", zorder=3.2), style.look("direction_batch", zorder=3.1)
    panel.plot(line.positions, line.train_loss, **full, label="full batch (f)")
    if np.isfinite(line.direction_batch_loss).any():
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
