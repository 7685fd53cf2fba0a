"""How much the shapes of measured lines differ from one another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from sgdline.figures.base import Sheet
from sgdline.figures.grammar import series, style

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class DistanceMatrix(Sheet):
    """Distances between the shapes of lines."""

    reads: ClassVar[tuple[str, ...]] = ("line_distances", "line_metrics", "trace")
    uses: ClassVar[tuple[str, ...]] = ("smoothing", "distance_first", "distance_every", "window")

    def draw(self, tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any]) -> Figure:
        """Draw the three panels of one run, see `draw_distances`."""
        return draw_distances(tables, settings=settings, title=self.heading())


def draw_distances(tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any], title: str) -> Figure:
    """Draw the matrices of the first and of the later lines, and the distance from line to line.

    Args:
        tables: `line_distances`, `line_metrics` and `trace` of one run.
        settings: As in `sgdline.figures.plot_figure`.
        title: One line.

    Source: linesearch fig3, M11 (papers.md 2.4).
    """
    analysis = settings["analysis"]
    figure = style.new_figure(title, footer=style.describe_run(tables, settings), width=13.2, height=4.9)
    first, rest, consecutive = figure.subplots(1, 3, width_ratios=[1.15, 1.15, 1.1])
    every = analysis["distance_every"]
    later = "later lines" if every == 1 else f"later lines, 1 in {every}"
    for panel, kind, text in ((first, "first", f"first {analysis['distance_first']} lines"), (rest, "rest", later)):
        _draw_matrix(figure, panel, tables, kind=kind, text=text, window=analysis["window"])
    _draw_consecutive(consecutive, tables, settings=settings)
    return figure


def matrix(distances: pa.Table, kind: str) -> tuple[FloatArray, FloatArray]:
    """Return the distances of one panel as a square matrix over its lines.

    Args:
        distances: Table `line_distances`.
        kind: `first` or `rest`.

    Returns:
        Updates (T,), ascending, and distances (T, T) in nats, NaN where the table has none.
    """
    rows = [row for row in distances.to_pylist() if row["panel"] == kind]
    steps = np.unique(np.array([step for row in rows for step in (row["step"], *row["other_steps"])], dtype=np.int64))
    square = np.full((len(steps), len(steps)), np.nan)
    for row in rows:
        square[np.searchsorted(steps, row["step"]), np.searchsorted(steps, row["other_steps"])] = row["distances"]
    return steps.astype(np.float64), square


def _draw_matrix(
    figure: Figure, panel: Axes, tables: Mapping[str, pa.Table], *, kind: str, text: str, window: float
) -> None:
    steps, square = matrix(tables["line_distances"], kind)
    style.title(panel, text)
    panel.set_xlabel("update t")
    panel.set_ylabel("update t")
    if len(steps) < 2:
        which = "first lines" if kind == "first" else "later lines"
        words = f"no {which} were measured" if len(steps) == 0 else f"one of the {which} only: nothing to compare"
        style.say(panel, style.absence(words, tables))
        return
    if not np.isfinite(square).any():
        style.say(panel, style.absence("no distance is finite", tables))
        return
    # Cells end half-way between neighbouring lines, so that the axes are true updates even where lines are missing.
    half = np.diff(steps) / 2
    edges = np.concatenate([[steps[0] - half[0]], steps[:-1] + half, [steps[-1] + half[-1]]])
    panel.set_facecolor(style.NO_VALUE)
    mesh = panel.pcolormesh(edges, edges, np.ma.masked_invalid(square), cmap=style.COLOR_MAP, vmin=0.0, rasterized=True)
    panel.set_aspect("equal")
    figure.colorbar(mesh, ax=panel, label="distance of shapes, MAE (nats)", fraction=0.046, pad=0.03)
    # A line without a finite loss has no distance to any line, itself included.
    missing = int(np.isnan(np.diag(square)).sum())
    notes = [f"mean |difference| on |s| < {window:g}, minima shifted to 0"]
    style.title(panel, text, [*notes, *([f"{style.counted(missing, 'line')} not finite (pale)"] if missing else [])])


def _draw_consecutive(panel: Axes, tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any]) -> None:
    metrics = tables["line_metrics"].sort_by("step")
    window = settings["analysis"]["smoothing"]
    steps, distances = style.numbers(metrics, "step"), style.numbers(metrics, "consecutive_distance")
    panel.set_ylabel("distance to the next line, MAE (nats)")
    panel.set_xlabel("update t")
    positive = np.where(distances > 0, distances, np.nan)  # a log axis has no place for equal lines
    if not np.isfinite(positive).any():
        style.title(panel, "consecutive lines")
        words = "fewer than two lines were measured" if len(steps) < 2 else "no distance between lines is finite"
        style.say(panel, style.absence(words, tables))
        return
    series.mark_run(panel, tables, run_steps=settings["steps"])
    series.draw_series(panel, steps, positive, window=window, role="measured", label=None)
    panel.set_yscale("log")
    equal = int((distances == 0).sum())
    notes = [
        series.average_note(len(steps), window),
        *([f"{style.counted(equal, 'distance')} of 0 left out"] if equal else []),
    ]
    style.title(panel, "consecutive lines", notes)
