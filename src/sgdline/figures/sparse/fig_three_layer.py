"""Teacher and student with three layers: losses, rank and sparsity with small and large step sizes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sgdline.figures.sparse import _teacher
from sgdline.figures.spec import FigureSpec

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.figure import Figure

SPEC = FigureSpec(
    id="sparse/fig_three_layer",
    title="A three-layer student with large step sizes",
    tables=("teacher_student",),
    toy="teacher_student",
)


def draw(tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any]) -> Figure:
    """Draw training and test loss, rank and sparsity.

    Args:
        tables: `teacher_student` of one toy.
        settings: As in `sgdline.figures.plot_figure`.

    Source: sparse/fig_three_layer, papers.md 4.3.
    """
    return _teacher.draw_panels(SPEC.title, tables, settings)
