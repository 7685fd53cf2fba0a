"""Options of the probe `stationarity`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

from sgdline.declare.run_facts import Fault, RunFacts
from sgdline.declare.vocabulary import Ge, Le
from sgdline.probes.base import EigenpairOptions


@dataclass(frozen=True, kw_only=True)
class StationarityOptions(EigenpairOptions):
    """How far a run moves from where it was at an update, along stiff and along flat directions."""

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
