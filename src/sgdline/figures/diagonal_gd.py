"""Diagonal linear networks, gradient descent beside SGD: both stabilise, only SGD finds the sparse solution."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from sgdline.figures import _diagonal
from sgdline.figures.base import Sheet
from sgdline.figures.grammar import style

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.figure import Figure


_MEASURES = ("train_loss", "test_loss", "rank", "coarse_rank", "support", "coarse_support", "norm")
_DOTS = (0, (1, 1.2))
_LEAST = 1e-8  # of the axis of training losses: those of gradient descent end at rounding


@dataclass(frozen=True, kw_only=True)
class DiagonalGd(Sheet):
    """Diagonal linear networks: gradient descent and SGD with large steps."""

    toy: ClassVar[str | None] = "diagonal_networks"

    def draw(self, tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any]) -> Figure:
        """Draw losses and support over the iterations, and the numbers at the end.

        Args:
            tables: `diagonal_networks` of one toy.
            settings: As in `sgdline.figures.plot_figure`.

        Source: sparse/fig_diag_gd, papers.md 4.2.
        """
        updates = settings["updates"]
        found = _diagonal.by_setting(tables["diagonal_networks"], measures=_MEASURES, updates=updates)
        below = _diagonal.number_inches(found)
        figure = style.new_figure(
            self.heading(),
            footer=_diagonal.footer(settings, found),
            width=13.2,
            height=5.2 + below,
            legend_entries=len(found),
        )
        halves = figure.add_gridspec(2, 1, height_ratios=[4.2, below])
        top = halves[0].subgridspec(1, 3)
        train, test, support = (figure.add_subplot(top[place]) for place in range(3))
        for panel, measure in ((train, "train_loss"), (test, "test_loss")):
            _diagonal.draw_measure(panel, found, measure, positive=True, label=panel is train)
        _diagonal.mark_phases(train, found, updates=updates)
        train.set_ylim(_LEAST, 3.0)
        train.set_ylabel(r"$\|X(u\circ v) - y\|^2/(2n)$")
        notes = ["bars: level of the stabilised phase; further down: see the numbers"]
        style.title(train, "training loss", notes, width=70)
        style.plain_log(test)
        style.title(test, "test loss", [f"on {settings['test_samples']:,} samples"])
        _diagonal.draw_measure(support, found, "support")
        _diagonal.draw_measure(support, found, "coarse_support", linestyle=_DOTS, single=False)
        support.set_ylim(0.0, 1.05 * settings["dimensions"])
        support.set_ylabel(r"number of $|u_j v_j|$ above the threshold")
        style.title(support, "support", ["threshold 1e-50; dotted: 1e-6 of the largest"])
        for panel in (train, test, support):
            _diagonal.mark_decays(panel, found)
            _diagonal.over_iterations(panel, updates=updates)
        _diagonal.draw_numbers(figure.add_subplot(halves[1]), found, updates=updates)
        style.shared_legend(figure, [train])
        return figure
