"""Networks with longer and shorter phases of large steps side by side: losses, errors and sparsity of features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from sgdline.figures import _deep
from sgdline.figures.base import PanelSheet
from sgdline.figures.grammar import comparing
from sgdline.figures.grammar.sheet import draw_sheet

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class LargeStepPhases(PanelSheet):
    """Small steps and phases of large ones.

    Training loss (logarithmic) and test error of runs with a constant learning rate and with phases of large steps of
    several lengths, and, where it was measured, the sparsity coefficient of every layer: the share of active entries,
    duplicates of a unit (by the size of correlation) counted as zero; lower is sparser. Lines: median over the seeds;
    bands: from the lowest to the highest. Dotted: the end of a phase, after which the learning rate falls to a tenth of
    its peak, from 90 % of the run on to a hundredth, unless the footer says otherwise; thick bars: the level of the
    training loss in its second half, with the numbers in a table: the level, by how many decades the loss drifts
    meanwhile, and by which factor it falls just after the phase.
    """

    reads: ClassVar[tuple[str, ...]] = ("evaluation", "trace")
    also: ClassVar[tuple[str, ...]] = ("feat",)
    compares: ClassVar[bool] = True
    panels: ClassVar[tuple[str, ...]] = ("loss", "error", "sparsity_N", "levels")

    features: bool = True
    """Whether the sparsity of features is drawn, of runs that measure it."""

    def draw(self, tables: Sequence[Mapping[str, pa.Table]], *, settings: Sequence[Mapping[str, Any]]) -> Figure:
        """Draw training loss, test error and the sparsity of every layer against the epoch, rows for each network.

        Source: sparse fig1 and the figures of deep networks in papers.md 4.4.
        """
        runs = _deep.runs_of(tables, settings)
        split = comparing.tested_split(runs, "evaluation")
        measured = [run for run in runs if self.features and "feat" in run.tables]
        quantities = {}
        for network, own in comparing.by_network(runs).items():
            featured = [run for run in own if run in measured]
            quantities[network] = [*_deep.training_quantities(own, split), *_deep.sparsity_quantities(featured)]
        panels = _deep.panels_of(quantities, runs)
        levels = _deep.level_panel(self, runs)
        footer = _deep.footer(runs, "evaluation", split)
        return draw_sheet(self, [*panels, *levels], footer=footer, columns=3 if measured else 2)
