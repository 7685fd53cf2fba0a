"""Options of the toy `teacher_student`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from sgdline.declare.run_facts import Fault
from sgdline.declare.vocabulary import Ge, Gt, Le, Lt, MaxLen, MinLen, Unique, Words
from sgdline.toys.base import StepSizes, ToyOptions, decay_faults

if TYPE_CHECKING:
    from sgdline.tables import Columns


@dataclass(frozen=True, kw_only=True)
class TeacherStudentOptions(ToyOptions):
    """ReLU networks that learn a smaller one from few samples, with step sizes that are small or large."""

    network: Literal["two_layer", "three_layer"] = "two_layer"
    """Teacher 2-3-1 and student 2-20-1, or teacher 5-2-2-1 and student 5-10-10-1."""
    runs: Annotated[
        Annotated[tuple[StepSizes, ...], MinLen(1), MaxLen(5), Unique()] | None,
        Words("a list of step sizes, or null"),
    ] = None
    """Step sizes; `null`: the four published ones."""
    log10_iterations: Annotated[float, Ge(2), Le(6)] | None = None
    """Number q; the updates are T = floor(10^q) + 1; `null`: 4.15 for `two_layer`, 4 for `three_layer`."""
    seed: Annotated[int, Ge(0), Le(1000000)] | None = None
    """Of start and order of samples, in the published chain; samples and teacher have the next one; `null`: 0 for
    `two_layer`, 5 for `three_layer`."""
    other_seeds: Annotated[int, Ge(0), Le(100)] = 8
    """Further chains of every setting with starts and orders of their own."""
    perturbed_starts: Annotated[int, Ge(0), Le(100)] = 4
    """Further chains of every setting whose start is that of the published one, changed a little."""
    perturbation: Annotated[float, Gt(0), Le(0.1)] = 1e-06
    """Standard deviation of that change, relative."""
    rank_every: Annotated[int, Ge(1), Le(1000000)] = 4
    """The rank is measured at every n-th evaluation, and at the last."""
    rank_tolerance: Annotated[float, Ge(1e-06), Lt(1)] = 0.0001
    """Singular values count above this share of the largest."""
    duplicate_threshold: Annotated[float, Ge(0), Le(1)] = 0.99
    """Units are duplicates above this absolute correlation."""

    def faults(self) -> Iterator[Fault]:
        """Yield what is wrong with the options together."""
        yield from decay_faults("runs", self.runs or ())

    def simulate(self) -> Columns:
        """Return the columns of the table `teacher_student`."""
        from sgdline.toys.teacher_student.simulate import simulate

        return simulate(self)
