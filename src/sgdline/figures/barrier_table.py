"""Table of the barriers between consecutive iterates, by setting and epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from sgdline.figures import _pooled
from sgdline.figures.base import PanelSheet
from sgdline.figures.grammar.sheet import draw_sheet
from sgdline.figures.grammar.table import NO_VALUE, Cell, Row, table_panel

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class BarrierTable(PanelSheet):
    """Barriers between consecutive iterates.

    Each entry is the number of intervals with a barrier, of all that were measured in the epoch, summed over the seeds
    of a setting. An interval has a barrier if the training loss somewhere on the straight way from theta_t to
    theta_{t+1} exceeds that at both ends.
    """

    reads: ClassVar[tuple[str, ...]] = ("interval_epochs", "trace")
    compares: ClassVar[bool] = True
    panels: ClassVar[tuple[str, ...]] = ("barriers",)

    def draw(self, tables: Sequence[Mapping[str, pa.Table]], *, settings: Sequence[Mapping[str, Any]]) -> Figure:
        """Draw a row per setting and a column per measured epoch: barriers of intervals, summed over the seeds.

        Source: walk table1, W-M5 (papers.md 5.2, 5.3).
        """
        found = _pooled.pool(tables, settings)
        epochs, notes = _pooled.choose_epochs(found)
        heads, named = _pooled.names(found)
        panel = table_panel(
            self,
            "barriers",
            "intervals with a barrier, of those measured in the epoch",
            heads=heads,
            columns=[f"epoch {epoch:,}" for epoch in epochs],
            rows=[
                Row(tuple(words), tuple(_cell(setting.epochs.get(epoch)) for epoch in epochs))
                for setting, words in zip(found, named, strict=True)
            ],
            notes=["sums over the seeds of a setting", "—: not measured, or no interval that can be counted", *notes],
            missing="no interval was measured",
        )
        return draw_sheet(self, [panel], footer=_pooled.footer(tables, settings))


def _cell(epoch: _pooled.Epoch | None) -> Cell:
    if epoch is None or not epoch.intervals:
        return NO_VALUE
    return ((f"{epoch.barriers:,}", f" of {epoch.intervals:,}"),)
