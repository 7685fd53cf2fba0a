"""Options of the toy `quadratic_descent`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from sgdline.declare.faults import Index
from sgdline.declare.run_facts import Fault
from sgdline.declare.vocabulary import Ge, Le, MaxLen, MinLen, Unique
from sgdline.toys.base import Coordinate, ToyOptions

if TYPE_CHECKING:
    from sgdline.tables import Columns


@dataclass(frozen=True, kw_only=True)
class QuadraticDescentOptions(ToyOptions):
    """Gradient descent on a two-dimensional quadratic: which learning rates creep, bounce and diverge."""

    eigenvalues: Annotated[tuple[Annotated[float, Ge(1e-06), Le(1000000)], ...], MinLen(2), MaxLen(2)] = (1.0, 0.08)
    """Of H."""
    start: Annotated[tuple[Coordinate, ...], MinLen(2), MaxLen(2)] = (1.0, 3.0)
    """Theta_0, its coordinates along the eigenvectors of the two."""
    relative_lr: Annotated[tuple[Annotated[float, Ge(0.0005), Le(1000000)], ...], MinLen(1), MaxLen(9), Unique()] = (
        0.5,
        1.0,
        1.5,
        1.9,
        2.0,
        2.1,
    )
    """Learning rates as multiples of 1 / largest eigenvalue: below 1 over-damped, between 1 and 2 under-damped, above 2
    diverging."""
    steps: Annotated[int, Ge(1), Le(1000000)] = 30
    """Number of updates."""

    def faults(self) -> Iterator[Fault]:
        """Yield what is wrong with the options together."""
        steepest = [place for place, value in enumerate(self.eigenvalues) if value == max(self.eigenvalues)]
        if all(self.start[place] == 0.0 for place in steepest):
            yield Fault(
                ("start", Index(steepest[0])),
                "must not be 0 along the largest eigenvalue, got 0. Every learning rate looks over-damped from there.",
            )

    def simulate(self) -> Columns:
        """Return the columns of the table `quadratic_descent`."""
        from sgdline.toys.quadratic_descent.simulate import simulate

        return simulate(self)
