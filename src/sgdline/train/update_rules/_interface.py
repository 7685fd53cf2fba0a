"""What an update rule gets and what it returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from sgdline.train.landscape import Landscape


@dataclass(frozen=True)
class Move:
    """The update theta_{t+1} = theta_t - lr * direction."""

    direction: Tensor  # (p,), m_t
    lr: float  # lr_t, 0: the parameters stay


class UpdateRule(Protocol):
    """One way to turn gradients into updates; its state is tensors only, so that a checkpoint can hold it."""

    def move(self, parameters: Tensor, gradient: Tensor, *, step: int, lr: float, landscape: Landscape) -> Move:
        """Return update t; advances the rule's state by one update.

        Args:
            parameters: theta_t, not to be changed. Shape (p,).
            gradient: g_t of the batch loss, not to be changed. Shape (p,).
            step: t, from 0.
            lr: What the run's learning rate and schedule say for this update.
            landscape: Measures the loss around theta_t, if the rule wants to know it.
        """

    def state(self) -> dict[str, Tensor]:
        """Return the state that a later `load` takes up, on the device of the parameters."""

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take up a state."""
