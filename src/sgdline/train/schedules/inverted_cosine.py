"""Half a cosine, from 0 to lr (no torch)."""

from __future__ import annotations

from dataclasses import dataclass

from sgdline.train.schedules.base import Rates, Schedule
from sgdline.train.schedules.cosine import Cosine


@dataclass(frozen=True, kw_only=True)
class InvertedCosine(Schedule):
    """`lr` less half a cosine: lr (1 - cos(pi x))/2, x = (t + 1)/steps, which is `lr` at the last update.

    Source: papers.md 4.4.
    """

    def rates(self, lr: float, *, steps: int) -> Rates:
        """Return lr less the cosine schedule."""
        falling = Cosine().rates(lr, steps=steps)
        return lambda step: lr - falling(step)
