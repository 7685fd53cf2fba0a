"""Teacher and student: losses, rank and sparsity with small and large step sizes."""

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
class TeacherStudent(PanelSheet):
    """A student of a smaller teacher with large step sizes.

    Training and test loss (mean squared error; 1,000 test samples), rank of the Jacobian on as many test inputs as
    there are parameters, and the feature sparsity coefficient of each hidden layer: the share of activations that are
    not 0, duplicates of a unit counted as zero; lower is sparser. Of a student with several hidden layers also the
    nuclear norm of the last one's features times the output weights. Notes: where the published chain ends, and the
    median. Thick: median over the published chain and other seeds that do not diverge; band: from the lowest to the
    highest; thin: the published chain; ticks at the end: starts that are changed a little. Dashed: the division of the
    step.
    """

    toy: ClassVar[str | None] = "teacher_student"

    def draw(self, tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any]) -> Figure:
        """Draw training and test loss, rank and sparsity.

        Args:
            tables: `teacher_student` of one toy.
            settings: As in `sgdline.figures.plot_figure`.

        Source: sparse fig_two_layer and fig_three_layer, papers.md 4.3.
        """
        toy = _relu.toy_of(tables, settings)
        layers = "three" if settings["network"] == "three_layer" else "two"
        heading = self.title or f"A {layers}-layer student with large step sizes"
        return draw_sheet(self, _relu.panels_of(toy), footer=_relu.footer(toy), columns=2, heading=heading)
