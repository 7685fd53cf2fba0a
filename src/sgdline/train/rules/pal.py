"""PAL, parabolic approximation line search: each step ends in the vertex of a parabola of its own batch's loss.

No torch is imported before an update is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from sgdline.declare.vocabulary import Ge, Gt, Le, Lt
from sgdline.train.rules._parabola import parabola_step, usable_lr
from sgdline.train.rules.base import Move, UpdateRule
from sgdline.train.vectors import inner, norm

if TYPE_CHECKING:
    from torch import Tensor

    from sgdline.train.landscape import Landscape


@dataclass(frozen=True, kw_only=True)
class Pal(UpdateRule):
    """PAL: each step ends in the vertex of a parabola through two losses of its batch."""

    beta: Annotated[float, Ge(0), Lt(1)] = 0.4
    """Share of the last direction that is added to the gradient."""
    adaptation: Annotated[float, Gt(0), Le(1000000)] = 1.6666666666666667
    """What the minimum of the parabola is multiplied by."""
    max_step: Annotated[float, Gt(0), Le(1000000)] = 3.16
    """Longest step (length)."""

    linear_in_gradient: ClassVar[bool] = True
    lr_is_length: ClassVar[bool] = True

    def rule(self) -> PalRule:
        """Return PAL before its first update."""
        return PalRule(beta=self.beta, adaptation=self.adaptation, max_step=self.max_step)


class PalRule:
    """m_t = g_t + beta*m_{t-1}, and a step of the length that the parabola on the batch's line says.

    The line goes from theta_t along -m_t/||m_t||. The parabola has the loss of the batch and its exact slope
    -(g_t . m_t)/||m_t|| at 0, and the loss of the same batch at mu, which is the run's learning rate. A step of
    length 0 is an update like any other: the next one sees another batch.

    Source: papers.md M6, the optimizer itself.
    """

    def __init__(self, *, beta: float, adaptation: float, max_step: float) -> None:
        self._beta = beta
        self._adaptation = adaptation
        self._max_step = max_step
        self._previous: Tensor | None = None

    def move(self, parameters: Tensor, gradient: Tensor, *, step: int, lr: float, landscape: Landscape) -> Move:
        """Return update t. Cost: one forward pass of the batch."""
        direction = gradient.clone()
        if self._previous is not None:
            direction.add_(self._previous, alpha=self._beta)
        self._previous = direction
        length = norm(direction)
        if not length > 0.0:
            return Move(direction, 0.0)
        slope = -inner(gradient, direction) / length
        loss_ahead = landscape.batch_loss_at(direction.double() * (-lr / length))
        step_length = parabola_step(
            landscape.batch_loss, slope, loss_ahead, measuring_step=lr, adaptation=self._adaptation
        )
        return Move(direction, usable_lr(min(step_length, self._max_step), direction, length))

    def state(self) -> dict[str, Tensor]:
        """Return the last direction, if there is one yet."""
        return {} if self._previous is None else {"previous_direction": self._previous.clone()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take up a last direction."""
        self._previous = state["previous_direction"].clone() if "previous_direction" in state else None
