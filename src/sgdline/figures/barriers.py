"""Barriers between consecutive iterates: how many in each epoch, and how high."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sgdline.figures.base import PanelSheet
from sgdline.figures.grammar import style
from sgdline.figures.grammar.sheet import NoDataError, Panel, colour_bar, draw_sheet

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_LABELLED_EPOCHS = 8  # more counts than these would run into one another
_SHARE = 0.05  # of the intervals, in claim W2


@dataclass(frozen=True, kw_only=True)
class Barriers(PanelSheet):
    """Barriers between consecutive iterates.

    An interval has a barrier if the training loss somewhere on the straight way from theta_t to theta_{t+1} exceeds
    that at both ends; its height is that excess. (a) Barriers in each epoch that was measured, beside 5 % of its
    intervals. (b) The height of each barrier against the training loss before its update, both logarithmic; the line is
    a barrier as high as the loss.
    """

    reads: ClassVar[tuple[str, ...]] = ("intervals", "interval_epochs", "trace")
    panels: ClassVar[tuple[str, ...]] = ("counts", "heights")

    def draw(self, tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any]) -> Figure:
        """Draw the barriers of each measured epoch, and their heights against the training loss.

        Source: walk fig9, W-M5 (papers.md 5.2, 5.3).
        """
        panels = [
            Panel("counts", "barriers per measured epoch", partial(_draw_counts, tables), height=2.7),
            Panel("heights", "height of the barriers and training loss", partial(_draw_heights, tables), height=2.7),
        ]
        return draw_sheet(self, panels, footer=style.run_facts(tables, settings), columns=2)


def _draw_counts(tables: Mapping[str, pa.Table], panel: Axes) -> Sequence[str]:
    from matplotlib.ticker import MaxNLocator

    panel.set_xlabel("epoch")
    panel.set_ylabel("barriers")
    table = tables["interval_epochs"].sort_by("epoch")
    epochs, intervals, barriers, left_out = (
        style.numbers(table, name) for name in ("epoch", "intervals", "barriers", "left_out")
    )
    lost = int(left_out.sum())
    notes = [f"{style.counted(lost, 'interval')} not counted (not finite, or not resolved)"] if lost else []
    if not intervals.sum():
        words = "no interval was measured" if not lost else "no interval can be counted"
        raise NoDataError(words, tables, notes=notes)
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
            words, look = f"{count:.0f}\nof {total:.0f}", {"ha": "center", "va": "bottom"}
            panel.annotate(words, (place, count), (0, 5), textcoords="offset points", **look)
    else:
        panel.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10))
    panel.set_ylim(0, 1.3 * max(1.0, float(barriers.max()), _SHARE * float(intervals.max())))
    panel.yaxis.set_major_locator(MaxNLocator(integer=True))
    return [f"{barriers.sum():.0f} of {style.counted(int(intervals.sum()), 'interval')}", *notes]


def _draw_heights(tables: Mapping[str, pa.Table], panel: Axes) -> Sequence[str]:
    from matplotlib.ticker import MaxNLocator

    panel.set_xlabel(r"training loss $L(\theta_t)$ before the update (nats)")
    panel.set_ylabel("barrier height (nats)")
    table = tables["intervals"]
    counted = np.array([status == "ok" for status in table["status"].to_pylist()], dtype=bool)
    there = counted & (style.numbers(table, "barrier") == 1.0)
    tolerance = style.numbers(table, "barrier_tolerance")[counted]
    notes = [f"counted from {np.median(tolerance):.1e} nats on (median over intervals)"] if counted.any() else []
    if not there.any():
        all_of_them = style.counted(int(counted.sum()), "interval")
        words = f"none of {all_of_them} has a barrier" if counted.any() else "no interval can be counted"
        raise NoDataError(words, tables, notes=notes)
    losses, heights = style.numbers(table, "start_loss")[there], style.numbers(table, "barrier_height")[there]
    epochs = np.floor(style.numbers(table, "epoch")[there]) + 1
    # The largest ones first, so that none hides another; the edge keeps pale ones apart from the sheet.
    points = panel.scatter(
        losses, heights, c=epochs, cmap=style.COLOR_MAP, s=34, edgecolors="black", linewidths=0.5, label="one barrier",
        zorder=3,
    )  # fmt: skip
    if np.unique(epochs).size > 1:
        colour_bar(panel, points, "epoch")
        panel.child_axes[-1].yaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    ends = np.array([0.7 * losses.min(), 1.4 * losses.max()])
    panel.plot(ends, ends, **style.look("reference", linewidth=1.2), label="as high as the loss")
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.set_xlim(*ends)
    share = np.median(heights / losses)
    return [f"median height {np.median(heights):.2g} nats, {share:.2g} of the loss", *notes]
