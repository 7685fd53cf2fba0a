"""FBPAL&SGD: SGD whose step comes, now and then, from a parabola of the full-batch loss."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from sgdline.train.landscape import Landscape
from sgdline.train.update_rules._interface import Move
from sgdline.train.update_rules._parabola import parabola_step, usable_lr
from sgdline.train.update_rules.sgd import Sgd
from sgdline.train.vectors import inner, norm


class FbpalSgd:
    """The direction m_t of SGD; the step is reused from full-batch parabolas on every n-th update.

    Updates counted from 1, a parabola is measured on update 1 and on every n-th one, along the update's own line, with
    the exact slope of the full-batch loss and its value at mu, which is the run's learning rate. The mean of the last
    values is in use from the measured update itself on. Reused is either the learning rate s/|D_b|, D_b the slope of
    the update's own batch, which a later update multiplies with its own |D_b|, or the step length s as it is.

    A line on which the full-batch loss does not descend has the value 0, and that counts (papers.md M6). While no
    value is positive, mu stands in for them, as a learning rate or as a length.

    Source: papers.md M7, L21.
    """

    # ASSUME: a measurement that is not finite is left out, and mu stands in: the paper says nothing about either. A run
    # that stood still instead would measure the same again and again.

    def __init__(self, sgd: Sgd, *, every: int, average: int, reuse: Literal["lr", "step_length"]) -> None:
        self._sgd = sgd
        self._every = every
        self._average = average
        self._reuse = reuse
        self._values: Tensor | None = None  # the last `average` ones, float64, on the device of the parameters

    def move(self, parameters: Tensor, gradient: Tensor, *, step: int, lr: float, landscape: Landscape) -> Move:
        """Return update t. Cost: where it measures, two forward and one backward pass of the training set."""
        direction = self._sgd.direction(parameters, gradient)
        length = norm(direction)
        if not length > 0.0:
            return Move(direction, 0.0)
        batch_slope = abs(inner(gradient, direction)) / length
        if step == 0 or (step + 1) % self._every == 0:
            self._take(self._measured(direction, length, batch_slope, measuring_step=lr, landscape=landscape), gradient)
        value = self._mean()
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

    def _take(self, value: float, like: Tensor) -> None:
        if math.isfinite(value):
            new = torch.tensor([value], dtype=torch.float64, device=like.device)
            known = new[:0] if self._values is None else self._values
            self._values = torch.cat([known, new])[-self._average :]

    def _mean(self) -> float:
        # On the host: a sum over few numbers that is the same on every device.
        values = [] if self._values is None else self._values.tolist()
        return math.fsum(values) / len(values) if values else 0.0

    def state(self) -> dict[str, Tensor]:
        """Return the momentum and the values in use, as far as there are any yet."""
        values = {} if self._values is None else {"values": self._values.clone()}
        return self._sgd.state() | values

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take up momentum and values."""
        self._sgd.load(state)
        self._values = state["values"].clone() if "values" in state else None


def make(settings: Mapping[str, Any]) -> FbpalSgd:
    """Return the rule that the config's `optimizer` block describes."""
    block = settings["fbpal_sgd"]
    sgd = Sgd(momentum=float(settings["momentum"]), weight_decay=float(settings["weight_decay"]))
    return FbpalSgd(sgd, every=int(block["every"]), average=int(block["average"]), reuse=block["reuse"])
