"""Half a cosine, from lr to 0 (no torch)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sgdline.train.schedules.base import Rates, Schedule


@dataclass(frozen=True, kw_only=True)
class Cosine(Schedule):
    """Half a cosine: lr (1 + cos(pi x))/2, x = (t + 1)/steps, which is 0 at the last update.

    Source: papers.md 4.4.
    """

    def rates(self, lr: float, *, steps: int) -> Rates:
        """Return lr * (1 + cos(pi x)) / 2."""
        return lambda step: lr * (1.0 + math.cos(math.pi * (step + 1) / steps)) / 2.0
