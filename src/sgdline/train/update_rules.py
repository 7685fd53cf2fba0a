"""Update rules: from a gradient to the vector m_t of theta_{t+1} = theta_t - lr_t * m_t."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from torch import Tensor


class UpdateRule(Protocol):
    """One way to turn gradients into updates; its state is tensors only, so that a checkpoint can hold it."""

    def direction(self, parameters: Tensor, gradient: Tensor) -> Tensor:
        """Return m_t, shape (p,); advances the rule's state by one update."""

    def state(self) -> dict[str, Tensor]:
        """Return the state that a later `load` takes up."""

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take up a state."""


class Sgd:
    """SGD with heavy-ball momentum: m_t = mu*m_{t-1} + g_t + wd*theta_t, m_{-1} = 0, no dampening, no Nesterov.

    Source: papers.md section 1. The first update uses g_0 once (papers.md L13).
    """

    def __init__(self, *, momentum: float, weight_decay: float) -> None:
        self._momentum = momentum
        self._weight_decay = weight_decay
        self._buffer: Tensor | None = None

    def direction(self, parameters: Tensor, gradient: Tensor) -> Tensor:
        """Return m_t, shape (p,)."""
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


def _sgd(settings: Mapping[str, Any]) -> UpdateRule:
    return Sgd(momentum=float(settings["momentum"]), weight_decay=float(settings["weight_decay"]))


UPDATE_RULES: dict[str, Callable[[Mapping[str, Any]], UpdateRule]] = {"sgd": _sgd}


def make_update_rule(settings: Mapping[str, Any]) -> UpdateRule:
    """Return the update rule that the config's `optimizer` block describes."""
    return UPDATE_RULES[settings["name"]](settings)
