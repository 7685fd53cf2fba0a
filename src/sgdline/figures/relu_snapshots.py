"""Regression on a line: the fitted functions on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from sgdline.figures import _relu
from sgdline.figures.base import PanelSheet
from sgdline.figures.grammar import style
from sgdline.figures.grammar.sheet import Panel, draw_sheet

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class ReluSnapshots(PanelSheet):
    """Functions fitted on the way.

    Functions that a ReLU network has fitted to points on a line, at some evaluations and at the last one: the published
    chain of each setting, its training losses in their order above. Rings: the training points.
    """

    toy: ClassVar[str | None] = "relu_regression"
    panels: ClassVar[tuple[str, ...]] = ("snapshot_N",)

    def draw(self, tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any]) -> Figure:
        """Draw one panel per snapshot with the published chain of every setting.

        Source: sparse/fig_1d_snapshots, papers.md 4.3.
        """
        toy = _relu.toy_of(tables, settings)
        [rows, *_] = toy.rows(0, "published")
        # Evaluations that the run has; the end always.
        shown = sorted({place for place in settings["snapshots"] if place < len(rows)} | {len(rows) - 1})
        iterations = style.numbers(toy.table, "iteration")[rows]
        panels = [
            Panel(f"snapshot_{number}", f"iteration {int(iterations[place]):,}", partial(_draw, toy, place), height=1.7)
            for number, place in enumerate(shown, start=1)
        ]
        return draw_sheet(self, panels, footer=_relu.footer(toy, published_only=True), columns=3)


def _draw(toy: _relu.Toy, place: int, panel: Axes) -> Sequence[str]:
    _relu.draw_functions(toy, place, panel)
    losses = style.numbers(toy.table, "train_loss")
    found = []
    for run, look in enumerate(toy.looks()):
        panel.plot([], [], **look, label=toy.name(run))
        found.append(f"{losses[toy.rows(run, 'published')[0][place]]:.2g}")
    return [f"training loss {', '.join(found)}"]
