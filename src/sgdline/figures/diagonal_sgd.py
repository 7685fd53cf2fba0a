"""Diagonal linear networks, SGD: losses, rank and support with small, large and decayed steps."""

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


@dataclass(frozen=True, kw_only=True)
class DiagonalSgd(Sheet):
    """Diagonal linear networks: SGD with small and large steps."""

    toy: ClassVar[str | None] = "diagonal_networks"

    def draw(self, tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any]) -> Figure:
        """Draw losses, rank and support over the iterations, and the numbers at the end.

        Args:
            tables: `diagonal_networks` of one toy.
            settings: As in `sgdline.figures.plot_figure`.

        Source: sparse/fig_diag_sgd, papers.md 4.2.
        """
        updates = settings["updates"]
        found = _diagonal.by_setting(tables["diagonal_networks"], measures=_MEASURES, updates=updates)
        below = _diagonal.number_inches(found)
        figure = style.new_figure(
            self.heading(),
            footer=_diagonal.footer(settings, found),
            width=13.2,
            height=5.0 + below,
            legend_entries=len(found),
        )
        halves = figure.add_gridspec(2, 1, height_ratios=[4.0, below])
        top = halves[0].subgridspec(1, 4)
        train, test, rank, support = (figure.add_subplot(top[place]) for place in range(4))
        for panel, measure in ((train, "train_loss"), (test, "test_loss")):
            _diagonal.draw_measure(panel, found, measure, positive=True, label=panel is train)
        _diagonal.mark_phases(train, found, updates=updates)
        train.set_ylim(1e-5, 1.0)  # that of the paper; a small step falls below
        train.set_ylabel(r"$\|X(u\circ v) - y\|^2/(2n)$")
        style.title(train, "training loss", ["bars: level of the stabilised phase"], width=40)
        style.title(test, "test loss", [f"on {settings['test_samples']:,} samples"], width=40)
        for panel, measure in ((rank, "rank"), (support, "support")):
            _diagonal.draw_measure(panel, found, measure)
            _diagonal.draw_measure(panel, found, f"coarse_{measure}", linestyle=_DOTS, single=False)
            panel.set_ylim(0.0, 1.05 * settings["dimensions"])
        rank.set_ylabel("rank of the features")
        style.title(rank, "rank", ["tolerance 1e-15; dotted: 1e-6"], width=40)
        support.set_ylabel(r"number of $|u_j v_j|$ above the threshold")
        style.title(support, "support", ["threshold 1e-50; dotted: 1e-6 of the largest"], width=44)
        for panel in (train, test, rank, support):
            _diagonal.mark_decays(panel, found)
            _diagonal.over_iterations(panel, updates=updates)
        _diagonal.draw_numbers(figure.add_subplot(halves[1]), found, updates=updates)
        style.shared_legend(figure, [train])
        return figure
