"""Options of the probe `stationarity`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from sgdline.declare.run_facts import Fault, RunFacts
from sgdline.declare.vocabulary import Ge, Le
from sgdline.probes.base import EigenpairOptions, EveryOptions

if TYPE_CHECKING:
    from sgdline.probes.stationarity.probe import StationarityProbe


@dataclass(frozen=True, kw_only=True)
class StationarityOptions(EigenpairOptions, EveryOptions):
    """How far a run moves from where it was at an update, along stiff and along flat directions."""

    sequential: ClassVar[bool] = True

    searched: ClassVar[str] = "eigenvectors"

    start: Annotated[int, Ge(0)] = 0
    """Update t0."""
    every: Annotated[int, Ge(1)] = 1
    """Measure at updates t0, t0 + n, ..., and at the end; autocorrelations need 1 where lr times eigenvalue is large.
    """
    eigenvectors: Annotated[int, Ge(1), Le(10000)] = 5
    """How many."""

    def faults(self, run: RunFacts) -> Iterator[Fault]:
        """Yield what is wrong: the run may end before its start."""
        yield from super().faults(run)
        if run.steps is not None and self.start >= run.steps:
            yield Fault(("start",), f"must be below the experiment's steps ({run.steps}), got {self.start}. Lower it.")

    def due(self, step: int, *, updates_per_epoch: int) -> bool:
        """Return whether an update is to be measured."""
        return step >= self.start and (step - self.start) % self.every == 0

    def measured_by(self) -> type[StationarityProbe]:
        """Return the class of the probe."""
        from sgdline.probes.stationarity.probe import StationarityProbe

        return StationarityProbe
