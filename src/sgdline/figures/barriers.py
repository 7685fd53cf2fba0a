"""Barriers between consecutive iterates: how many in each epoch, and how high."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sgdline.figures.base import Sheet
from sgdline.figures.grammar import style

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_LABELLED_EPOCHS = 12  # more counts than these would run into one another
_SHARE = 0.05  # of the intervals, in claim W2


@dataclass(frozen=True, kw_only=True)
class Barriers(Sheet):
    """Barriers between consecutive iterates."""

    reads: ClassVar[tuple[str, ...]] = ("intervals", "interval_epochs", "trace")

    def draw(self, tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any]) -> Figure:
        """Draw the barriers of each measured epoch, and their heights against the training loss.

        Args:
            tables: `intervals`, `interval_epochs` and `trace` of one run.
            settings: As in `sgdline.figures.plot_figure`.

        Source: walk fig9, W-M5 (papers.md 5.2, 5.3).
        """
        figure = style.new_figure(
            self.heading(), footer=style.describe_run(tables, settings), width=11.5, height=5.2, legend_entries=4
        )
        panels: list[Axes] = list(figure.subplots(1, 2))
        _draw_counts(panels[0], tables)
        _draw_heights(figure, panels[1], tables)
        style.shared_legend(figure, panels)
        return figure


def _draw_counts(panel: Axes, tables: Mapping[str, pa.Table]) -> None:
    from matplotlib.ticker import MaxNLocator

    text = "barriers per measured epoch"
    panel.set_xlabel("epoch")
    panel.set_ylabel("barriers")
    table = tables["interval_epochs"].sort_by("epoch")
    epochs, intervals, barriers, left_out = (
        style.numbers(table, name) for name in ("epoch", "intervals", "barriers", "left_out")
    )
    lost = int(left_out.sum())
    notes = [f"{style.counted(lost, 'interval')} not counted (not finite, or not resolved)"] if lost else []
    if not intervals.sum():
        style.title(panel, text, notes)
        words = "no interval was measured" if not lost else "no interval can be counted"
        style.say(panel, style.absence(words, tables))
        return
    known = intervals > 0
    epochs, intervals, barriers = epochs[known], intervals[known], barriers[known]
    few = len(epochs) <= _LABELLED_EPOCHS
    # A few epochs stand side by side, however far apart they are.
    places = np.arange(len(epochs), dtype=np.float64) if few else epochs
    look = style.look("full_batch", linewidth=3.0 if few else 1.5)
    panel.vlines(places, 0, barriers, color=look["color"], linewidth=look["linewidth"])
    panel.plot(
        places, barriers, "o", color=look["color"], markersize=6.0 if few else 3.5, clip_on=False, label="barriers"
    )
    panel.plot(
        places, _SHARE * intervals, color=style.ROLES["reference"]["color"], linestyle="", marker="_",
        markersize=16.0 if few else 5.0, markeredgewidth=1.6, label=f"{100 * _SHARE:.0f} % of the epoch's intervals",
    )  # fmt: skip
    if few:
        panel.set_xticks(places, [f"{epoch:.0f}" for epoch in epochs])
        panel.set_xlim(-0.6, len(epochs) - 0.4)
        for place, count, total in zip(places, barriers, intervals, strict=True):
            words, look = f"{count:.0f}\nof {total:.0f}", {"ha": "center", "va": "bottom", "fontsize": 8}
            panel.annotate(words, (place, count), (0, 5), textcoords="offset points", **look)
    else:
        panel.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10))
    panel.set_ylim(0, 1.3 * max(1.0, float(barriers.max()), _SHARE * float(intervals.max())))
    panel.yaxis.set_major_locator(MaxNLocator(integer=True))
    style.title(panel, text, [f"{barriers.sum():.0f} of {style.counted(int(intervals.sum()), 'interval')}", *notes])


def _draw_heights(figure: Figure, panel: Axes, tables: Mapping[str, pa.Table]) -> None:
    from matplotlib.ticker import MaxNLocator

    text = "height of the barriers and training loss"
    panel.set_xlabel(r"training loss $L(\theta_t)$ before the update (nats)")
    panel.set_ylabel("height above the higher end (nats)")
    table = tables["intervals"]
    counted = np.array([status == "ok" for status in table["status"].to_pylist()], dtype=bool)
    there = counted & (style.numbers(table, "barrier") == 1.0)
    tolerance = style.numbers(table, "barrier_tolerance")[counted]
    notes = [f"counted from {np.median(tolerance):.1e} nats on (median over intervals)"] if counted.any() else []
    if not there.any():
        style.title(panel, text, notes)
        all_of_them = style.counted(int(counted.sum()), "interval")
        words = f"none of {all_of_them} has a barrier" if counted.any() else "no interval can be counted"
        style.say(panel, style.absence(words, tables))
        return
    losses, heights = style.numbers(table, "start_loss")[there], style.numbers(table, "barrier_height")[there]
    epochs = np.floor(style.numbers(table, "epoch")[there]) + 1
    # The largest ones first, so that none hides another; the edge keeps pale ones apart from the sheet.
    points = panel.scatter(
        losses, heights, c=epochs, cmap=style.COLOR_MAP, s=34, edgecolors="black", linewidths=0.5, label="one barrier",
        zorder=3,
    )  # fmt: skip
    if np.unique(epochs).size > 1:
        figure.colorbar(
            points, ax=panel, label="epoch", fraction=0.046, pad=0.03, ticks=MaxNLocator(integer=True, nbins=8)
        )
    ends = np.array([0.7 * losses.min(), 1.4 * losses.max()])
    panel.plot(ends, ends, **style.look("reference", linewidth=1.2), label="as high as the loss")
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.set_xlim(*ends)
    share = np.median(heights / losses)
    style.title(panel, text, [f"median height {np.median(heights):.2g} nats, {share:.2g} of the loss", *notes])
