"""How much the shapes of measured lines differ from one another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sgdline.figures.base import PanelSheet
from sgdline.figures.grammar import series, style
from sgdline.figures.grammar.sheet import NoDataError, Panel, colour_bar, draw_sheet
from sgdline.figures.grammar.style import FloatArray

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class DistanceMatrix(PanelSheet):
    """Distances between the shapes of lines.

    Each line is shifted so that its minimum is 0; the distance of two lines is the mean absolute difference near s = 0,
    in nats. The panels show the first lines among themselves, a subset of the later lines, and each line's distance to
    the next one on a logarithmic axis. The two colour scales differ. Pale rows are lines whose loss is not finite.
    """

    reads: ClassVar[tuple[str, ...]] = ("line_distances", "line_metrics", "trace")
    uses: ClassVar[tuple[str, ...]] = ("smoothing", "distance_every", "window")
    panels: ClassVar[tuple[str, ...]] = ("first", "rest", "consecutive")

    def draw(self, tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any]) -> Figure:
        """Draw the matrices of the first and of the later lines, and the distance from line to line.

        Source: linesearch fig3, M11 (papers.md 2.4).
        """
        analysis = settings["analysis"]
        every, first = analysis["distance_every"], tables["line_distances"]["panel"].to_pylist().count("first")
        later = "later lines" if every == 1 else f"later lines, 1 in {every}"
        panels = [
            *(
                Panel(kind, text, partial(_draw_matrix, tables, kind, analysis["window"]), height=3.0)
                for kind, text in (("first", f"first {first} lines"), ("rest", later))
            ),
            Panel("consecutive", "consecutive lines", partial(_draw_consecutive, tables, settings), height=2.3, span=2),
        ]
        return draw_sheet(self, panels, footer=style.run_facts(tables, settings), columns=2)


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


def _draw_matrix(tables: Mapping[str, pa.Table], kind: str, window: float, panel: Axes) -> Sequence[str]:
    steps, square = matrix(tables["line_distances"], kind)
    panel.set_xlabel("update t")
    panel.set_ylabel("update t")
    if len(steps) < 2:
        which = "first lines" if kind == "first" else "later lines"
        words = f"no {which} were measured" if len(steps) == 0 else f"one of the {which} only: nothing to compare"
        raise NoDataError(words, tables)
    if not np.isfinite(square).any():
        raise NoDataError("no distance is finite", tables)
    # Cells end half-way between neighbouring lines, so that the axes are true updates even where lines are missing.
    half = np.diff(steps) / 2
    edges = np.concatenate([[steps[0] - half[0]], steps[:-1] + half, [steps[-1] + half[-1]]])
    panel.set_facecolor(style.NO_VALUE)
    mesh = panel.pcolormesh(edges, edges, np.ma.masked_invalid(square), cmap=style.COLOR_MAP, vmin=0.0, rasterized=True)
    panel.set_aspect("equal")
    colour_bar(panel, mesh, f"MAE on |s| < {window:g} (nats)")
    # A line without a finite loss has no distance to any line, itself included.
    missing = int(np.isnan(np.diag(square)).sum())
    return [f"{style.counted(missing, 'line')} not finite (pale)"] if missing else []


def _draw_consecutive(tables: Mapping[str, pa.Table], settings: Mapping[str, Any], panel: Axes) -> Sequence[str]:
    metrics = tables["line_metrics"].sort_by("step")
    steps, distances = style.numbers(metrics, "step"), style.numbers(metrics, "consecutive_distance")
    panel.set_ylabel("distance to the next, MAE (nats)")
    panel.set_xlabel("update t")
    positive = np.where(distances > 0, distances, np.nan)  # a log axis has no place for equal lines
    if not np.isfinite(positive).any():
        words = "fewer than two lines were measured" if len(steps) < 2 else "no distance between lines is finite"
        raise NoDataError(words, tables)
    window = settings["analysis"]["smoothing"]
    series.mark_run(panel, tables, run_steps=settings["steps"])
    series.draw_series(panel, steps, positive, window=window, role="measured", label=None)
    panel.set_yscale("log")
    equal = int((distances == 0).sum())
    return [
        series.average_note(len(steps), window),
        *([f"{style.counted(equal, 'distance')} of 0 left out"] if equal else []),
    ]
