"""A learning rate that rises, stays and falls (no torch)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from sgdline.declare.run_facts import Fault, RunFacts
from sgdline.declare.vocabulary import Ge
from sgdline.train.schedules.base import Rates, Schedule


@dataclass(frozen=True, kw_only=True)
class Trapezoid(Schedule):
    """The learning rate rises, stays, and falls to 0.

    Source: papers.md 5.3, walk fig7 and fig8.
    """

    warmup: Annotated[int, Ge(0)] = 0
    """Updates over which the rate rises linearly to `lr`, from lr / warmup."""
    cooldown: Annotated[int, Ge(0)] = 0
    """Updates at the end over which it falls linearly, to lr / cooldown at the last one."""

    def rates(self, lr: float, *, steps: int) -> Rates:
        """Return lr * min(1, (t + 1)/warmup, (steps - t)/cooldown).

        Both ends are alike, and no update has the rate 0, which the fall reaches after the last one.
        """
        warmup, cooldown = self.warmup, self.cooldown

        def rate(step: int) -> float:
            up = (step + 1) / warmup if warmup else 1.0
            down = (steps - step) / cooldown if cooldown else 1.0
            return lr * min(1.0, up, down)

        return rate

    def faults(self, run: RunFacts) -> Iterator[Fault]:
        """Yield ends that overlap, or that are both missing."""
        both = self.warmup + self.cooldown
        if run.steps is not None and not 1 <= both <= run.steps:
            yield Fault(
                (),
                f"must have a warmup and a cooldown of 1 to steps ({run.steps}) updates together, got {self.warmup} "
                f"and {self.cooldown}. "
                + ("Shorten one of them." if both else "Lengthen one, or set schedule.name: constant."),
            )
