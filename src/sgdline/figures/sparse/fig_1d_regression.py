"""Regression on a line: a short and a long large-step phase of one ReLU network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sgdline.figures.sparse import _regression
from sgdline.figures.spec import FigureSpec

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.figure import Figure

SPEC = FigureSpec(
    id="sparse/fig_1d_regression",
    title="Regression on a line with large step sizes",
    tables=("relu_regression",),
    toy="relu_regression",
)


def draw(tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any]) -> Figure:
    """Draw training loss, fitted functions, rank and sparsity.

    Args:
        tables: `relu_regression` of one toy.
        settings: As in `sgdline.figures.plot_figure`.

    Source: sparse/fig_1d_regression, papers.md 4.3.
    """
    return _regression.draw_four(SPEC.title, tables, settings)
