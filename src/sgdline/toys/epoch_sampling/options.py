"""Options of the toy `epoch_sampling`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from sgdline.declare.vocabulary import Ge, Le, MaxLen, MinLen, Unique
from sgdline.toys.base import EmaDecays, RelativeLr, ToyOptions, UpdateCounts

if TYPE_CHECKING:
    from sgdline.tables import Columns


@dataclass(frozen=True, kw_only=True)
class EpochSamplingOptions(ToyOptions):
    """Stationary variances on the quadratic model with batches drawn with and without replacement."""

    batches_per_epoch: Annotated[int, Ge(2), Le(100000)] = 100
    """N/B, fixed batches that each epoch takes once, in a new order."""
    relative_lr: Annotated[tuple[RelativeLr, ...], MinLen(1), MaxLen(20), Unique()] = (
        0.002,
        0.005,
        0.01,
        0.02,
        0.05,
        0.1,
        0.2,
        0.5,
        1.0,
        1.5,
    )
    """Learning rates times the eigenvalue, a = lr h."""
    ema_decay: EmaDecays = (0.95,)
    """Decays b of the exponential moving averages."""
    two_point_distance: UpdateCounts = (50,)
    """Updates between the two points of averages of two."""
    swa_count: Annotated[int, Ge(1), Le(100000)] = 50
    """Number of iterates in a mean (SWA)."""
    swa_spacing: UpdateCounts = (1,)
    """Updates between two iterates of such a mean; one mean for each."""
    chains: Annotated[int, Ge(2), Le(1000000)] = 4000
    """Independent runs."""
    snapshots: Annotated[int, Ge(1), Le(10000)] = 20
    """How often every average is taken of each run."""
    seed: Annotated[int, Ge(0)] = 0
    """Of all draws."""

    def simulate(self) -> Columns:
        """Return the columns of the table `epoch_sampling`."""
        from sgdline.toys.epoch_sampling.simulate import simulate

        return simulate(self)
