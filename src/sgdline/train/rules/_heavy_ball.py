"""Heavy-ball momentum with weight decay: the direction that several rules share (no torch)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from sgdline.declare.vocabulary import Ge, Le, Lt
from sgdline.train.rules.base import UpdateRule

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class HeavyBallOptions(UpdateRule):
    """Options of the rules whose direction is that of SGD."""

    linear_in_gradient: ClassVar[bool] = True

    momentum: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Heavy ball, m_t = momentum * m_{t-1} + g_t (no dampening, no Nesterov)."""
    weight_decay: Annotated[float, Ge(0), Le(1e30)] = 0.0
    """Adds weight_decay * theta_t to the gradient."""


class HeavyBall:
    """m_t = mu*m_{t-1} + g_t + wd*theta_t, m_{-1} = 0, no dampening, no Nesterov.

    Source: papers.md section 1. The first update uses g_0 once (papers.md L13).
    """

    def __init__(self, *, momentum: float, weight_decay: float) -> None:
        self._momentum = momentum
        self._weight_decay = weight_decay
        self._buffer: Tensor | None = None

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
