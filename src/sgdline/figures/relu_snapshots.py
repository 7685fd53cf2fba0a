"""Regression on a line: the fitted functions on the way."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from sgdline.figures import _regression, _relu
from sgdline.figures.base import Sheet
from sgdline.figures.grammar import style

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.figure import Figure


_COLUMNS = 3


@dataclass(frozen=True, kw_only=True)
class ReluSnapshots(Sheet):
    """Functions fitted on the way."""

    toy: ClassVar[str | None] = "relu_regression"

    def draw(self, tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any]) -> Figure:
        """Draw one panel per snapshot with the published chain of every setting.

        Args:
            tables: `relu_regression` of one toy.
            settings: As in `sgdline.figures.plot_figure`.

        Source: sparse/fig_1d_snapshots, papers.md 4.3.
        """
        toy = _regression.toy_of(tables, settings)
        [rows, *_] = toy.rows(0, "published")
        # Evaluations that the run has; the end always.
        shown = sorted({place for place in settings["snapshots"] if place < len(rows)} | {len(rows) - 1})
        columns = min(len(shown), _COLUMNS)
        lines = math.ceil(len(shown) / columns)
        footer = _relu.footer(toy, settings, what=_regression.WHAT, published_only=True)
        figure = style.new_figure(
            self.heading(), footer=footer, width=max(3.5 * columns, 8.0),
            height=2.6 * lines + 1.2, legend_entries=len(toy.runs) + 1,
        )  # fmt: skip
        panels = figure.subplots(lines, columns, squeeze=False)
        iterations = style.numbers(toy.table, "iteration")[rows]
        losses = style.numbers(toy.table, "train_loss")
        for panel, place in zip(panels.ravel(), shown, strict=False):
            _regression.draw_functions(panel, toy, evaluation=place, others=False)
            found = [losses[toy.rows(run, "published")[0][place]] for run in range(len(toy.runs))]
            words = ", ".join(f"{loss:.2g}" for loss in found)
            style.title(panel, f"iteration {int(iterations[place]):,}", [f"training loss {words}"], width=44)
            if not panel.get_subplotspec().is_first_col():
                panel.set_ylabel("")
        for panel in panels.ravel()[len(shown) :]:
            panel.remove()
        for run, look in zip(toy.runs, _relu.looks(toy), strict=True):
            panels[0, 0].plot([], [], **look, label=_relu.setting_name(run, iterations=toy.iterations))
        style.shared_legend(figure, [panels[0, 0]])
        return figure
