"""Table of the barriers between consecutive iterates, by setting and epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from sgdline.figures import _pooled, _table
from sgdline.figures.base import Sheet
from sgdline.figures.grammar import style

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class BarrierTable(Sheet):
    """Barriers between consecutive iterates."""

    reads: ClassVar[tuple[str, ...]] = ("interval_epochs", "trace")
    compares: ClassVar[bool] = True

    def draw(self, tables: Sequence[Mapping[str, pa.Table]], *, settings: Sequence[Mapping[str, Any]]) -> Figure:
        """Draw a row per setting and a column per measured epoch: barriers of intervals, summed over the seeds.

        Args:
            tables: `interval_epochs` and `trace` of each run.
            settings: As in `sgdline.figures.plot_comparison`.

        Source: walk table1, W-M5 (papers.md 5.2, 5.3).
        """
        found = _pooled.pool(tables, settings)
        epochs, notes = _pooled.choose_epochs(found)
        footer = _pooled.footer(tables, settings)
        if not epochs:
            figure = style.new_figure(self.heading(), footer=footer, width=8.0, height=3.0)
            style.say(figure.subplots(), "no interval was measured")
            return figure
        heads, named = _pooled.names(found)
        rows = [
            _table.Row(tuple(words), tuple(_cell(setting.epochs.get(epoch)) for epoch in epochs))
            for setting, words in zip(found, named, strict=True)
        ]
        notes = ["sums over the seeds of a setting", "—: not measured, or no interval that can be counted", *notes]
        text = "intervals with a barrier, of all that were measured in the epoch"
        columns = [f"epoch {epoch:,}" for epoch in epochs]
        return _table.draw_table(self.heading(), heads, columns, rows, text=text, notes=notes, footer=footer)


def _cell(epoch: _pooled.Epoch | None) -> tuple[tuple[str, str], ...]:
    if epoch is None or not epoch.intervals:
        return _table.NO_VALUE
    return ((f"{epoch.barriers:,}", f" of {epoch.intervals:,}"),)
