"""Teacher and student: losses, rank and sparsity with small and large step sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sgdline.figures._relu import ReluSheet


@dataclass(frozen=True, kw_only=True)
class TeacherStudent(ReluSheet):
    """A student with large step sizes.

    Training and test loss of a network that learns a smaller one (mean squared error; 1,000 test samples), rank of the
    Jacobian on as many test inputs as there are parameters, and the feature sparsity coefficient of each hidden layer:
    the share of activations that are not 0, duplicates of a unit counted as zero; lower is sparser. Of a student with
    several hidden layers also the nuclear norm of the last one's features times the output weights. Notes: where the
    published chain ends, and the median. Thick: median over the published chain and other seeds that do not diverge;
    band: from the lowest to the highest; thin: the published chain; ticks at the end: starts that are changed a little.
    Dashed: the division of the step.
    """

    toy: ClassVar[str | None] = "teacher_student"
    panels: ClassVar[tuple[str, ...]] = ("train_loss", "test_loss", "rank", "sparsity_N", "nuclear_norm")
