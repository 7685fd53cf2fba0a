"""Teacher and student: losses, rank and sparsity with small and large step sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from sgdline.figures import _teacher
from sgdline.figures.base import Sheet

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class TeacherStudent(Sheet):
    """A student of a wider teacher with large step sizes."""

    toy: ClassVar[str | None] = "teacher_student"

    def draw(self, tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any]) -> Figure:
        """Draw training and test loss, rank and sparsity.

        Args:
            tables: `teacher_student` of one toy.
            settings: As in `sgdline.figures.plot_figure`.

        Source: sparse fig_two_layer and fig_three_layer, papers.md 4.3.
        """
        layers = "three" if settings["network"] == "three_layer" else "two"
        title = self.title or f"A {layers}-layer student with large step sizes"
        return _teacher.draw_panels(title, tables, settings)
