"""Regression on a line: a short and a long large-step phase of one ReLU network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from sgdline.figures import _regression
from sgdline.figures.base import Sheet

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class ReluRegression(Sheet):
    """Regression on a line with large step sizes."""

    toy: ClassVar[str | None] = "relu_regression"

    def draw(self, tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any]) -> Figure:
        """Draw training loss, fitted functions, rank and sparsity.

        Args:
            tables: `relu_regression` of one toy.
            settings: As in `sgdline.figures.plot_figure`.

        Source: sparse fig_1d_regression and fig_1d_overregularized, papers.md 4.3.
        """
        return _regression.draw_four(self.heading(), tables, settings)
