"""Diagonal linear networks: the training loss on a plane, with gradient flow, GD and SGD projected on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sgdline.figures.sparse import _plane
from sgdline.figures.spec import FigureSpec

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.figure import Figure

SPEC = FigureSpec(
    id="sparse/fig_diag_2d_train",
    title="Diagonal linear networks: training loss on a plane and three descents",
    tables=("diagonal_plane",),
    toy="diagonal_plane",
)


def draw(tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any]) -> Figure:
    """Draw contours with the descents, and the loss over the updates.

    Args:
        tables: `diagonal_plane` of one toy.
        settings: As in `sgdline.figures.plot_figure`.

    Source: sparse/fig_diag_2d_train, papers.md 4.2.
    """
    figure: Figure = _plane.draw_plane(tables, "train_loss", title=SPEC.title, settings=settings)
    return figure
