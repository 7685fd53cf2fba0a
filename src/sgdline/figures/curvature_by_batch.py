"""Curvature along the line at the updates, of the full batch and of emulated batches."""

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
class CurvatureByBatch(PanelSheet):
    """Curvature along the line by batch size.

    The curvature along the line at s = 0 for batches of several sizes, put together from the losses of single samples,
    and its ratio to that of the run's own batch size. Smaller batches are random parts of the direction batch, larger
    ones add random other samples; the line stays that of the direction batch. Curves are smoothed over lines and
    averaged over the draws. Where the curvature falls with the batch size like the slope does, the position of the
    batch's minimum does not depend on the batch size.
    """

    reads: ClassVar[tuple[str, ...]] = ("line_batch_sizes", "trace")
    uses: ClassVar[tuple[str, ...]] = ("smoothing", "compat")
    panels: ClassVar[tuple[str, ...]] = ("curvature", "ratio")

    def draw(self, tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any]) -> Figure:
        """Draw the curvature at s = 0 of every batch size, and its ratio to that of the run's own.

        Source: linesearch M3, M13; in the released code, not in the paper.
        """
        data = (batches.batch_curves(tables, "curvature", settings=settings), tables, settings)
        unit = r"second derivative (nats per length$^2$)"
        panels = [
            Panel("curvature", "curvature at s = 0", partial(batches.draw_values, *data, unit, False), height=2.6),
            Panel(
                "ratio",
                "relative to the run's batch size",
                partial(batches.draw_ratios, *data, "ratio of curvatures", False),
                height=2.6,
            ),
        ]
        return draw_sheet(self, panels, footer=batches.footer(tables, settings), columns=2)
