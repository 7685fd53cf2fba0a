"""Variance of the samples' losses at the updates, of all samples and of emulated batches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from sgdline.figures import _batch_curves as batches
from sgdline.figures.base import PanelSheet
from sgdline.figures.grammar.sheet import Panel, draw_sheet

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class SampleVariance(PanelSheet):
    """Variance of the losses of single samples.

    The variance at s = 0, that is at the parameters of each update, over the whole measuring set and over batches of
    several sizes, which are put together from the direction batch and random other samples. Each is the population
    variance of its set, smoothed over lines; for random sets it is the mean over the draws. A random set has on average
    the variance of the measuring set, less one part in its size: where the direction batch has less, it is not typical.
    """

    reads: ClassVar[tuple[str, ...]] = ("line_batch_sizes", "trace")
    uses: ClassVar[tuple[str, ...]] = ("smoothing", "compat")
    panels: ClassVar[tuple[str, ...]] = ("variance",)

    def draw(self, tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any]) -> Figure:
        """Draw the variance at s = 0 over the measuring set and over the emulated batches.

        Source: linesearch M14; in the released code, not in the paper.
        """
        curves = batches.batch_curves(tables, "loss_variance", settings=settings)
        draw = partial(batches.draw_values, curves, tables, settings, r"variance of the loss (nats$^2$)", True)
        panel = Panel("variance", "variance over the samples of a set, at s = 0", draw, height=3.0)
        return draw_sheet(self, [panel], footer=batches.footer(tables, settings))
