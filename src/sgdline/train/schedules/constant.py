"""A constant learning rate (no torch)."""

from __future__ import annotations

from dataclasses import dataclass

from sgdline.train.schedules.base import Rates, Schedule


@dataclass(frozen=True, kw_only=True)
class Constant(Schedule):
    """The learning rate never changes."""

    def rates(self, lr: float, *, steps: int) -> Rates:
        """Return lr at every update."""
        return lambda step: lr
