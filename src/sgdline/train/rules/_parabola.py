"""The parabolic step: from a slope and one loss ahead to the vertex of a parabola (no torch before it is used)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def parabola_step(
    loss: float, slope: float, loss_ahead: float, *, measuring_step: float, adaptation: float = 1.0
) -> float:
    """Return where the parabola through a loss, its slope and the loss at the measuring step has its vertex.

    With q(s) = c + D*s + a*s^2, q(mu) the loss ahead: the vertex -D/(2a) times `adaptation` if a > 0 and D < 0, mu if
    a <= 0 and D < 0, 0 where the line does not descend or a value is not finite.

    Args:
        loss: c at s = 0, nats.
        slope: D at s = 0, nats per length.
        loss_ahead: q(mu), nats.
        measuring_step: mu > 0, Euclidean length.
        adaptation: Factor on the vertex.

    Returns:
        Step, Euclidean length; infinite where a is so small that the vertex is out of reach.

    Source: papers.md M6.
    """
    mu = measuring_step
    bend = ((loss_ahead - loss) / mu - slope) / mu
    if not (math.isfinite(bend) and slope < 0.0):  # not finite: a slope of NaN or infinity shows in a as well
        return 0.0
    if bend <= 0.0:
        # ASSUME: the adaptation loosens the fitted parabola; where there is none, mu is taken as it is.
        return mu
    return adaptation * -slope / (2.0 * bend)


def usable_lr(step_length: float, direction: Tensor, direction_norm: float) -> float:
    """Return the lr_t with lr_t*||m_t|| = step_length; 0 where the direction vanishes or the parameters' dtype cannot.

    Args:
        step_length: Euclidean length.
        direction: m_t, shape (p,).
        direction_norm: ||m_t||.
    """
    import torch  # no module of a declaration imports it at the top

    if not (math.isfinite(direction_norm) and direction_norm > 0.0):
        return 0.0
    lr = step_length / direction_norm
    # A gradient of denormals would need a factor that float32 takes for infinite, and 0 times that is NaN.
    return lr if abs(lr) <= torch.finfo(direction.dtype).max else 0.0
