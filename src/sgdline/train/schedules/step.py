"""A learning rate that is multiplied at milestones (no torch)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from sgdline.declare.faults import Index
from sgdline.declare.run_facts import Fault, RunFacts
from sgdline.declare.vocabulary import Ge, Gt, MinLen, Unique
from sgdline.train.schedules.base import Rates, Schedule, growth_faults


@dataclass(frozen=True, kw_only=True)
class StepDecay(Schedule):
    """The learning rate is multiplied at milestones."""

    milestones: Annotated[tuple[Annotated[int, Ge(1)], ...], MinLen(1), Unique()]
    """Updates from which on the learning rate is multiplied."""
    factor: Annotated[float, Gt(0)] = 0.1
    """The multiplier."""

    def rates(self, lr: float, *, steps: int) -> Rates:
        """Return lr times `factor` for each milestone that is reached."""
        milestones, factor = self.milestones, self.factor
        return lambda step: lr * factor ** sum(step >= milestone for milestone in milestones)

    def faults(self, run: RunFacts) -> Iterator[Fault]:
        """Yield milestones that the run does not reach, and rates that are no numbers any more."""
        for position, milestone in enumerate(self.milestones):
            if run.steps is not None and milestone >= run.steps:
                yield Fault(
                    ("milestones", Index(position)),
                    f"must be below steps ({run.steps}), got {milestone}. Updates are counted from 0.",
                )
        yield from growth_faults(run, ("factor",), decades=len(self.milestones) * math.log10(self.factor))
