"""Table of the heights of the walls above the valley floor, by setting and epoch, with the ratios of learning rates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar

from sgdline.figures import _pooled, _table
from sgdline.figures.base import Sheet
from sgdline.figures.grammar import style

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class HeightTable(Sheet):
    """Height of the iterates above the valley floor."""

    reads: ClassVar[tuple[str, ...]] = ("interval_epochs", "trace")
    compares: ClassVar[bool] = True

    def draw(self, tables: Sequence[Mapping[str, pa.Table]], *, settings: Sequence[Mapping[str, Any]]) -> Figure:
        """Draw a row per setting and a column per measured epoch: mean height, standard deviation and variance.

        Below settings that differ in their learning rate only is the ratio of their mean heights, and the power of
        the learning rate that it amounts to.

        Args:
            tables: `interval_epochs` and `trace` of each run.
            settings: As in `sgdline.figures.plot_comparison`.

        Source: walk table2 and table3, W-M6 (papers.md 5.2, 5.3).
        """
        groups = _pooled.lr_pairs(_pooled.pool(tables, settings))
        found = [setting for group in groups for setting in group]
        epochs, notes = _pooled.choose_epochs(found)
        footer = _pooled.footer(tables, settings)
        if not epochs:
            figure = style.new_figure(self.heading(), footer=footer, width=8.0, height=3.0)
            style.say(figure.subplots(), "no interval was measured")
            return figure
        heads, named = _pooled.names(found)
        words = iter(named)
        rows: list[_table.Row] = []
        for group in groups:
            for place, setting in enumerate(group):
                cells = tuple(_cell(setting.epochs.get(epoch)) for epoch in epochs)
                rows.append(_table.Row(tuple(next(words)), cells, ruled=bool(rows) and place == 0))
            for larger, smaller in pairwise(group):
                cells = tuple(_ratio(larger, smaller, epoch) for epoch in epochs)
                names = (
                    "ratio",
                    f"{style.lr_text(larger.block)} : {style.lr_text(smaller.block)}",
                    *[""] * (len(heads) - 2),
                )
                rows.append(_table.Row(names, cells, quiet=True))
        shown = [setting.epochs[epoch].intervals for setting in found for epoch in epochs if epoch in setting.epochs]
        counts = sorted({count for count in shown if count}) or [0]
        notes = [
            "the intervals of all seeds of a setting together, divided by their number",
            " to ".join(f"{count:,}" for count in dict.fromkeys((counts[0], counts[-1]))) + " intervals an entry",
            "exponent p: the ratio is that of the learning rates to the power p",
            *notes,
        ]
        text = (
            r"H = $(L(\theta_t) + L(\theta_{t+1}))/2-$ the least loss between them: "
            "mean ± standard deviation (nats), variance (nats²)"
        )
        columns = [f"epoch {epoch:,}" for epoch in epochs]
        return _table.draw_table(self.heading(), heads, columns, rows, text=text, notes=notes, footer=footer)


def _cell(epoch: _pooled.Epoch | None) -> tuple[tuple[str, str], ...]:
    if epoch is None or not math.isfinite(epoch.mean):
        return _table.NO_VALUE
    heights = (_table.scientific(epoch.mean), f" ± {_table.scientific(epoch.std)}")
    return (heights, (_table.scientific(epoch.variance), " variance"))


def _ratio(larger: _pooled.Setting, smaller: _pooled.Setting, epoch: int) -> tuple[tuple[str, str], ...]:
    """Return the ratio of two mean heights and the power of the learning rates that it amounts to."""
    means = [setting.epochs[epoch].mean if epoch in setting.epochs else math.nan for setting in (larger, smaller)]
    if not all(math.isfinite(mean) and mean > 0 for mean in means):
        return _table.NO_VALUE
    ratio = means[0] / means[1]
    power = math.log(ratio) / math.log(larger.lr / smaller.lr)
    return ((f"{ratio:.2f}", ""), (f"{power:.2f}".replace("-", "\N{MINUS SIGN}"), " exponent"))
