"""Curvature along the line at the updates, of the full batch and of emulated batches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sgdline.figures import _batch_curves as batches
from sgdline.figures.base import Sheet
from sgdline.figures.grammar import series, style

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class CurvatureByBatch(Sheet):
    """Curvature along the line by batch size."""

    reads: ClassVar[tuple[str, ...]] = ("line_batch_sizes", "trace")
    uses: ClassVar[tuple[str, ...]] = ("smoothing", "compat")

    def draw(self, tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any]) -> Figure:
        """Draw the curvature at s = 0 of every batch size, and its ratio to that of the run's own.

        Args:
            tables: `line_batch_sizes` and `trace` of one run.
            settings: As in `sgdline.figures.plot_figure`.

        Source: linesearch M3, M13; in the released code, not in the paper.
        """
        figure = style.new_figure(
            self.heading(),
            footer=[*style.describe_run(tables, settings), *batches.compat_footer(settings)],
            width=11.5,
            height=5.0,
            legend_entries=batches.legend_entries(tables),
        )
        left, right = figure.subplots(1, 2)
        curves = batches.batch_curves(tables, "curvature", settings=settings)
        _draw_curvatures(left, curves, tables, settings=settings)
        _draw_ratios(right, curves, tables, settings=settings)
        style.shared_legend(figure, [left, right])
        return figure


def _draw_curvatures(
    panel: Axes, curves: list[batches.BatchCurve], tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any]
) -> None:
    title = "curvature at s = 0, along the line"
    panel.set_ylabel("second derivative (nats per length squared)")
    if not curves:
        batches.say_nothing(panel, tables, title=title)
        return
    panel.axhline(0.0, color="#BBBBBB", linewidth=0.7, zorder=0)
    drawn = batches.draw_averages(panel, curves, window=settings["analysis"]["smoothing"], positive=False)
    series.mark_run(panel, tables, run_steps=settings["steps"])
    limits = style.readable_limits(drawn, keep=[0.0])
    if limits:
        panel.set_ylim(*limits)
    notes = batches.panel_notes(curves, settings=settings)
    style.title(panel, title, notes + style.outside_note(drawn, limits))


def _draw_ratios(
    panel: Axes, curves: list[batches.BatchCurve], tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any]
) -> None:
    title = "curvature relative to that of the run's batch size"
    panel.set_ylabel("ratio of curvatures")
    own = batches.own_curve(curves, settings=settings)
    if own is None:
        batches.say_nothing(panel, tables, title=title)
        return
    panel.axhline(0.0, color="#BBBBBB", linewidth=0.7, zorder=0)
    drawn = []
    for curve in curves:
        steps, ratio = batches.ratio_to_own(curve, own, window=settings["analysis"]["smoothing"])
        drawn.append(ratio)
        batches.draw_curve(panel, curve, steps, ratio)
    series.mark_run(panel, tables, run_steps=settings["steps"])
    limits = style.readable_limits(np.concatenate(drawn), keep=[0.0, 1.0], stretch=4.0)
    if limits:
        panel.set_ylim(*limits)
    style.title(panel, title, ["ratio of the smoothed curves", *style.outside_note(np.concatenate(drawn), limits)])
