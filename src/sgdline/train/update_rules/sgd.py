"""SGD with heavy-ball momentum; the step is what the learning rate says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from sgdline.train.landscape import Landscape
from sgdline.train.update_rules._interface import Move


class Sgd:
    """m_t = mu*m_{t-1} + g_t + wd*theta_t, m_{-1} = 0, no dampening, no Nesterov; lr_t as scheduled.

    Source: papers.md section 1. The first update uses g_0 once (papers.md L13).
    """

    def __init__(self, *, momentum: float, weight_decay: float) -> None:
        self._momentum = momentum
        self._weight_decay = weight_decay
        self._buffer: Tensor | None = None

    def move(self, parameters: Tensor, gradient: Tensor, *, step: int, lr: float, landscape: Landscape) -> Move:
        """Return update t, with the learning rate as it is."""
        return Move(self.direction(parameters, gradient), lr)

    def direction(self, parameters: Tensor, gradient: Tensor) -> Tensor:
        """Return m_t, shape (p,); advances the momentum by one update."""
        step = gradient.clone()
        if self._weight_decay:
            step.add_(parameters, alpha=self._weight_decay)
        if self._momentum == 0.0:
            return step
        self._buffer = step if self._buffer is None else self._buffer.mul_(self._momentum).add_(step)
        return self._buffer.clone()

    def state(self) -> dict[str, Tensor]:
        """Return the momentum buffer, if there is one yet."""
        return {} if self._buffer is None else {"momentum": self._buffer.clone()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take up a momentum buffer."""
        self._buffer = state["momentum"].clone() if "momentum" in state else None


def make(settings: Mapping[str, Any]) -> Sgd:
    """Return the rule that the config's `optimizer` block describes."""
    return Sgd(momentum=float(settings["momentum"]), weight_decay=float(settings["weight_decay"]))
