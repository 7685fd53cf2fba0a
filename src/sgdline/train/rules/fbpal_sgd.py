"""FBPAL&SGD: SGD whose step comes, now and then, from a parabola of the full-batch loss.

No torch is imported before an update is made.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from sgdline.declare.vocabulary import Ge
from sgdline.train.rules._heavy_ball import HeavyBall, HeavyBallOptions
from sgdline.train.rules._parabola import parabola_step, usable_lr
from sgdline.train.rules.base import Move
from sgdline.train.vectors import inner, norm

if TYPE_CHECKING:
    from torch import Tensor

    from sgdline.train.landscape import Landscape


@dataclass(frozen=True, kw_only=True)
class FbpalSgd(HeavyBallOptions):
    """FBPAL&SGD: now and then a parabola of the full-batch loss, SGD in between."""

    every: Annotated[int, Ge(1)] = 100
    """Measure the full-batch parabola at updates 0, 1, n, 2n, ..."""
    average: Annotated[int, Ge(1)] = 15
    """Values in the mean that is used from update n on, the last ones measured from there on."""
    reuse: Literal["lr", "step_length"] = "lr"
    """What is carried to the next update: the learning rate (`lr`) or the length of the step (`step_length`)."""

    lr_is_length: ClassVar[bool] = True

    def rule(self) -> FbpalSgdRule:
        """Return FBPAL&SGD before its first update."""
        sgd = HeavyBall(momentum=self.momentum, weight_decay=self.weight_decay)
        return FbpalSgdRule(sgd, every=self.every, average=self.average, reuse=self.reuse)


class FbpalSgdRule:
    """The direction m_t of SGD; the step comes from parabolas of the full-batch loss at some updates.

    A parabola is measured at the updates 0, 1, n, 2n, ..., along the update's own line, with the exact slope of the
    full-batch loss and its value at mu, which is the run's learning rate. It gives either the learning rate s/|D_b|,
    D_b the slope of the update's own batch, which each update multiplies by its own |D_b|, or the step length s.
    Before update n the newest value is used as it is. From update n on, the mean of the last values measured from
    there on is used: the first updates are the least typical ones, and their values never enter it.

    A line on which the full-batch loss does not descend has the value 0, and that counts (papers.md M6). While what is
    in use is not positive, mu replaces it, as a learning rate or as a length.

    Source: papers.md M7, L21.
    """

    # ASSUME: a measurement that is not finite is left out, and mu replaces a value that is not positive: the paper says
    # nothing about either. A run without a step would measure the same again and again.

    def __init__(self, sgd: HeavyBall, *, every: int, average: int, reuse: Literal["lr", "step_length"]) -> None:
        self._sgd = sgd
        self._every = every
        self._average = average
        self._reuse = reuse
        # Float64, on the device of the parameters; None: nothing was measured.
        self._first: Tensor | None = None  # (1,) the newest value from before update n
        self._values: Tensor | None = None  # the last `average` ones from update n on

    def move(self, parameters: Tensor, gradient: Tensor, *, step: int, lr: float, landscape: Landscape) -> Move:
        """Return update t. Cost: where it measures, two forward and one backward pass of the training set."""
        direction = self._sgd.direction(parameters, gradient)
        length = norm(direction)
        if not length > 0.0:
            return Move(direction, 0.0)
        batch_slope = abs(inner(gradient, direction)) / length
        if step == 1 or step % self._every == 0:
            found = self._measured(direction, length, batch_slope, measuring_step=lr, landscape=landscape)
            self._take(found, gradient, step=step)
        value = self._in_use()
        value = value if value > 0.0 else lr
        step_length = value * batch_slope if self._reuse == "lr" else value
        return Move(direction, usable_lr(step_length, direction, length))

    def _measured(
        self, direction: Tensor, length: float, batch_slope: float, *, measuring_step: float, landscape: Landscape
    ) -> float:
        loss, full_gradient = landscape.full_gradient()
        loss_ahead = landscape.full_loss_at(direction.double() * (-measuring_step / length))
        slope = -inner(full_gradient, direction) / length
        if not all(map(math.isfinite, (loss, slope, loss_ahead))):
            return math.nan
        step_length = parabola_step(loss, slope, loss_ahead, measuring_step=measuring_step)
        if self._reuse == "step_length":
            return step_length
        return step_length / batch_slope if batch_slope > 0.0 else math.nan

    def _take(self, value: float, like: Tensor, *, step: int) -> None:
        import torch  # no module of a declaration imports it at the top

        if not math.isfinite(value):
            return
        new = torch.tensor([value], dtype=torch.float64, device=like.device)
        if step < self._every:
            self._first = new
        else:
            known = new[:0] if self._values is None else self._values
            self._values = torch.cat([known, new])[-self._average :]

    def _in_use(self) -> float:
        # On the host: a sum over few numbers that is the same on every device.
        held = self._first if self._values is None else self._values
        values = [] if held is None else held.tolist()
        return math.fsum(values) / len(values) if values else 0.0

    def state(self) -> dict[str, Tensor]:
        """Return the momentum and the measured values, as far as there are any yet."""
        held = {"first_value": self._first, "values": self._values}
        return self._sgd.state() | {name: values.clone() for name, values in held.items() if values is not None}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take up momentum and values."""
        self._sgd.load(state)
        self._first, self._values = (
            state[name].clone() if name in state else None for name in ("first_value", "values")
        )
