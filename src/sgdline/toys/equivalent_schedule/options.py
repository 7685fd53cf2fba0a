"""Options of the toy `equivalent_schedule`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from sgdline.declare.vocabulary import Ge, Le, MaxLen, MinLen, Unique
from sgdline.toys.base import Coordinate, EmaDecays, RelativeLr, ToyOptions, UpdateCounts


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
