"""Options of the probe `fixed_batches`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from sgdline.declare.vocabulary import Ge, Le
from sgdline.probes.base import EveryOptions

if TYPE_CHECKING:
    from sgdline.probes.fixed_batches.probe import FixedBatchesProbe


@dataclass(frozen=True, kw_only=True)
class FixedBatchesOptions(EveryOptions):
    """Losses of a few fixed batches along the run, and on the straight way from the iterate measured before."""

    sequential: ClassVar[bool] = True

    every: Annotated[int, Ge(1)] = 10
    first: Annotated[int, Ge(0)] = 0
    """And at each of the first so many updates."""
    batches: Annotated[int, Ge(1), Le(10000)] = 8
    """Fixed batches of the run's batch size."""
    alphas: Annotated[int, Ge(3), Le(1001)] = 11
    """Equally spaced points of each segment, both ends included."""

    def due(self, step: int, *, updates_per_epoch: int) -> bool:
        """Return whether an update is to be measured."""
        return step < self.first or step % self.every == 0

    def measured_by(self) -> type[FixedBatchesProbe]:
        """Return the class of the probe."""
        from sgdline.probes.fixed_batches.probe import FixedBatchesProbe

        return FixedBatchesProbe
