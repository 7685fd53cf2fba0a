"""Options of the toy `averaged_variance`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from sgdline.declare.vocabulary import Ge, Le, MaxLen, MinLen, Unique
from sgdline.toys.base import EmaDecays, RelativeLr, ToyOptions, UpdateCounts

if TYPE_CHECKING:
    from sgdline.tables import Columns


@dataclass(frozen=True, kw_only=True)
class AveragedVarianceOptions(ToyOptions):
    """Stationary variances of SGD's iterates and of their averages on the quadratic model: predicted and simulated."""

    relative_lr: Annotated[tuple[RelativeLr, ...], MinLen(1), MaxLen(20), Unique()] = (0.02, 0.1, 0.5, 1.0, 1.5)
    """Learning rates times the eigenvalue, a = lr h."""
    ema_decay: EmaDecays = (0.95,)
    """Decays b of the exponential moving averages."""
    two_point_distance: UpdateCounts = (50,)
    """Updates between the two points of averages of two."""
    swa_count: Annotated[int, Ge(1), Le(100000)] = 50
    """Number of iterates in a mean (SWA)."""
    swa_spacing: UpdateCounts = (1, 4)
    """Updates between two iterates of such a mean; one mean for each."""
    chains: Annotated[int, Ge(2), Le(1000000)] = 4000
    """Independent runs."""
    snapshots: Annotated[int, Ge(1), Le(10000)] = 20
    """How often every average is taken of each run."""
    seed: Annotated[int, Ge(0)] = 0
    """Of all draws."""

    def simulate(self) -> Columns:
        """Return the columns of the table `averaged_variance`."""
        from sgdline.toys.averaged_variance.simulate import simulate

        return simulate(self)
