"""Regression on a line: short and long large-step phases of one ReLU network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from sgdline.figures import _relu
from sgdline.figures.base import PanelSheet
from sgdline.figures.grammar.sheet import draw_sheet

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class ReluRegression(PanelSheet):
    """Regression on a line with large step sizes.

    Training loss (mean squared error), functions fitted at the last evaluation (faint: other seeds), rank of the
    Jacobian on 300 points between the outermost ones, and feature sparsity coefficient: the share of activations that
    are not 0 in units of their own; lower is sparser. Notes: where the published chain ends, and the median. Thick:
    median over the published chain and other seeds that do not diverge; band: from the lowest to the highest; thin: the
    published chain; ticks at the end: starts that are changed a little. Dashed: the division of the step.
    """

    toy: ClassVar[str | None] = "relu_regression"

    def draw(self, tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any]) -> Figure:
        """Draw training loss, fitted functions, rank and sparsity.

        Args:
            tables: `relu_regression` of one toy.
            settings: As in `sgdline.figures.plot_figure`.

        Source: sparse fig_1d_regression and fig_1d_overregularized, papers.md 4.3.
        """
        toy = _relu.toy_of(tables, settings)
        return draw_sheet(self, _relu.panels_of(toy), footer=_relu.footer(toy), columns=2)
