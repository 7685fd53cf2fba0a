"""Variance of the samples' losses at the updates, of all samples and of emulated batches."""

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
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class SampleVariance(Sheet):
    """Variance of the losses of single samples."""

    reads: ClassVar[tuple[str, ...]] = ("line_batch_sizes", "trace")
    uses: ClassVar[tuple[str, ...]] = ("smoothing", "compat")

    def draw(self, tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any]) -> Figure:
        """Draw the variance at s = 0 over the measuring set and over the emulated batches.

        Args:
            tables: `line_batch_sizes` and `trace` of one run.
            settings: As in `sgdline.figures.plot_figure`.

        Source: linesearch M14; in the released code, not in the paper.
        """
        figure = style.new_figure(
            self.heading(),
            footer=[*style.describe_run(tables, settings), *batches.compat_footer(settings)],
            width=8.4,
            height=5.2,
            legend_entries=batches.legend_entries(tables),
        )
        panel = figure.subplots()
        title = "variance over the samples of a set, at s = 0"
        panel.set_ylabel("variance of the loss (nats squared)")
        curves = batches.batch_curves(tables, "loss_variance", settings=settings)
        if not curves:
            batches.say_nothing(panel, tables, title=title)
            return figure
        drawn = batches.draw_averages(panel, curves, window=settings["analysis"]["smoothing"], positive=True)
        panel.set_yscale("log")
        series.mark_run(panel, tables, run_steps=settings["steps"])
        notes = batches.panel_notes(curves, settings=settings)
        zero = int(np.sum(drawn <= 0))
        if zero:
            notes.append(f"{style.counted(zero, 'value')} not positive")
        style.title(panel, title, notes, width=110)
        style.shared_legend(figure, [panel])
        return figure
