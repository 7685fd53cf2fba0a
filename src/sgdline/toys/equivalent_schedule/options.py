"""Options of the toy `equivalent_schedule`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from sgdline.declare.faults import Index
from sgdline.declare.run_facts import Fault
from sgdline.declare.vocabulary import Ge, Le, MaxLen, MinLen, Unique
from sgdline.toys.base import Coordinate, EmaDecays, RelativeLr, ToyOptions, UpdateCounts

if TYPE_CHECKING:
    from sgdline.tables import Columns


@dataclass(frozen=True, kw_only=True)
class EquivalentScheduleOptions(ToyOptions):
    """Schedules whose last iterate is an average of SGD's iterates at a constant step, tried on the quadratic model."""

    relative_lr: Annotated[tuple[RelativeLr, ...], MinLen(1), MaxLen(20), Unique()] = (0.05, 0.3, 1.0, 1.4)
    """Learning rates times the eigenvalue, a = lr h."""
    ema_decay: EmaDecays = (0.97,)
    """Decays b of the exponential moving averages."""
    two_point_distance: UpdateCounts = (60,)
    """Updates between the two points of averages of two."""
    swa_count: Annotated[int, Ge(1), Le(100000)] = 60
    """Number of iterates in a mean (SWA)."""
    swa_spacing: UpdateCounts = (1,)
    """Updates between two iterates of such a mean; one mean for each."""
    updates: Annotated[int, Ge(1), Le(100000)] = 400
    """Of each run."""
    start: Coordinate = 3.0
    """Distance of the start from the minimum, in units of the minimisers' standard deviation."""
    chains: Annotated[int, Ge(1), Le(1000000)] = 100
    """Independent runs."""
    seed: Annotated[int, Ge(0)] = 0
    """Of all draws."""

    def faults(self) -> Iterator[Fault]:
        """Yield what is wrong with the options together."""
        reaches = {("two_point_distance", place): distance for place, distance in enumerate(self.two_point_distance)}
        for place, spacing in enumerate(self.swa_spacing):
            reaches["swa_spacing", place] = (self.swa_count - 1) * spacing
        for (key, place), reach in reaches.items():
            if reach > self.updates:
                yield Fault(
                    (key, Index(place)),
                    f"must leave the average within the {self.updates} updates, got one that reaches {reach} back. "
                    "Raise updates, or lower this.",
                )

    def simulate(self) -> Columns:
        """Return the columns of the table `equivalent_schedule`."""
        from sgdline.toys.equivalent_schedule.simulate import simulate

        return simulate(self)
