"""Triangles between a lowest rate and lr (no torch)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from sgdline.declare.run_facts import Fault, RunFacts
from sgdline.declare.vocabulary import Ge, Lt
from sgdline.train.schedules.base import Rates, Schedule


@dataclass(frozen=True, kw_only=True)
class Cyclical(Schedule):
    """Triangles between a lowest rate and `lr`.

    Source: papers.md 5.3, walk fig7 and fig8.
    """

    lowest: Annotated[float, Ge(0), Lt(1)] = 0.1
    """The rate at updates 0, period, 2 period, ..., in units of `lr`; half a period later it is `lr`."""
    period: Annotated[int, Ge(2)] = 100
    """Updates of a cycle."""

    def rates(self, lr: float, *, steps: int) -> Rates:
        """Return lowest * lr at updates 0, period, ..., lr half a period later, and linear between the two."""
        lowest, period = self.lowest, self.period

        def rate(step: int) -> float:
            height = 1.0 - abs(2 * (step % period) - period) / period  # 0 at the ends of a period, 1 in its middle
            return lr * (lowest + (1.0 - lowest) * height)

        return rate

    def faults(self, run: RunFacts) -> Iterator[Fault]:
        """Yield a cycle that is longer than the run."""
        if run.steps is not None and self.period > run.steps:
            yield Fault(
                ("period",), f"must be at most steps ({run.steps}), got {self.period}. Otherwise no cycle is whole."
            )
