"""Table of the heights of the walls above the valley floor, by setting and epoch, with the ratios of learning rates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar

from sgdline.figures import _pooled
from sgdline.figures.base import PanelSheet
from sgdline.figures.grammar import style
from sgdline.figures.grammar.sheet import draw_sheet
from sgdline.figures.grammar.table import NO_VALUE, Cell, Row, scientific, table_panel

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class HeightTable(PanelSheet):
    """Height of the iterates above the valley floor.

    The height H of an interval is the mean of the loss at its two ends less the least loss between them. Each entry has
    the mean over the intervals of an epoch with its standard deviation, and below it the variance; the seeds of a
    setting are pooled. Grey rows: the ratio of the mean heights of two learning rates, and the exponent p for which it
    is (ratio of the learning rates)^p.
    """

    reads: ClassVar[tuple[str, ...]] = ("interval_epochs", "trace")
    compares: ClassVar[bool] = True
    panels: ClassVar[tuple[str, ...]] = ("heights",)

    def draw(self, tables: Sequence[Mapping[str, pa.Table]], *, settings: Sequence[Mapping[str, Any]]) -> Figure:
        """Draw a row per setting and a column per measured epoch, and the ratios of the learning rates in grey.

        Source: walk table2 and table3, W-M6 (papers.md 5.2, 5.3).
        """
        groups = _pooled.lr_pairs(_pooled.pool(tables, settings))
        found = [setting for group in groups for setting in group]
        epochs, notes = _pooled.choose_epochs(found)
        heads, named = _pooled.names(found)
        words = iter(named)
        rows: list[Row] = []
        for group in groups:
            for place, setting in enumerate(group):
                cells = tuple(_cell(setting.epochs.get(epoch)) for epoch in epochs)
                rows.append(Row(tuple(next(words)), cells, ruled=bool(rows) and place == 0))
            for larger, smaller in pairwise(group):
                rates = f"{style.lr_text(larger.block)} : {style.lr_text(smaller.block)}"
                names = ("ratio", rates, *[""] * (len(heads) - 2))
                rows.append(Row(names, tuple(_ratio(larger, smaller, epoch) for epoch in epochs), quiet=True))
        counts = [setting.epochs[epoch].intervals for setting in found for epoch in epochs if epoch in setting.epochs]
        counts = [count for count in counts if count] or [0]
        ends = " to ".join(f"{count:,}" for count in sorted({min(counts), max(counts)}))
        panel = table_panel(
            self,
            "heights",
            "height H: mean ± standard deviation (nats), variance (nats²)",
            heads=heads,
            columns=[f"epoch {epoch:,}" for epoch in epochs],
            rows=rows,
            notes=[
                f"{ends} intervals an entry, of all seeds of a setting",
                "exponent p: the ratio is that of the learning rates to the power p",
                *notes,
            ],
            missing="no interval was measured",
        )
        return draw_sheet(self, [panel], footer=_pooled.footer(tables, settings))


def _cell(epoch: _pooled.Epoch | None) -> Cell:
    if epoch is None or not math.isfinite(epoch.mean):
        return NO_VALUE
    return ((scientific(epoch.mean), f" ± {scientific(epoch.std)}"), (scientific(epoch.variance), " variance"))


def _ratio(larger: _pooled.Setting, smaller: _pooled.Setting, epoch: int) -> Cell:
    """Return the ratio of two mean heights and the power of the learning rates that it amounts to."""
    means = [setting.epochs[epoch].mean if epoch in setting.epochs else math.nan for setting in (larger, smaller)]
    if not all(math.isfinite(mean) and mean > 0 for mean in means):
        return NO_VALUE
    ratio = means[0] / means[1]
    power = math.log(ratio) / math.log(larger.lr / smaller.lr)
    return ((f"{ratio:.2f}", ""), (f"{power:.2f}".replace("-", "\N{MINUS SIGN}"), " exponent"))
