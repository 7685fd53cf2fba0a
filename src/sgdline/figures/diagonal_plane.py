"""Diagonal linear networks: a loss on a plane, with gradient flow, GD and SGD projected on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from sgdline.figures import _plane
from sgdline.figures.base import Sheet

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class DiagonalPlane(Sheet):
    """Diagonal linear networks: loss on a plane and three descents."""

    toy: ClassVar[str | None] = "diagonal_plane"

    loss: Literal["train_loss", "test_loss"] = "train_loss"
    """Whose contours are drawn."""

    def draw(self, tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any]) -> Figure:
        """Draw contours with the descents, and the loss over the updates.

        Args:
            tables: `diagonal_plane` of one toy.
            settings: As in `sgdline.figures.plot_figure`.

        Source: sparse fig_diag_2d_train and fig_diag_2d_test, papers.md 4.2.
        """
        name = "training" if self.loss == "train_loss" else "test"
        title = self.title or f"Diagonal linear networks: {name} loss on a plane and three descents"
        figure: Figure = _plane.draw_plane(tables, self.loss, title=title, settings=settings)
        return figure
