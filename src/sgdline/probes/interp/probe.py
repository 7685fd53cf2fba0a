"""The interpolation probe: the full-batch loss between consecutive iterates, L((1-alpha)*theta_t + alpha*theta_{t+1}).

The line probe measures the same segment as a part of its line; this one measures nothing else, at equally spaced alphas
with both ends. The images, their chunks, their augmentation and the random masks are those of the line probe, the same
at every alpha and every update (papers.md K2), and the mean is the sum over all samples divided by N.

Source: papers.md 5.2, W-M1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sgdline.engine.lines import mean_losses
from sgdline.losses.base import LossFunction
from sgdline.probes.interp.options import InterpOptions
from sgdline.probes.interp.table import INTERP
from sgdline.probes.probe import Probe, Rows, place_of
from sgdline.probes.update_lines import NextStart, UpdateLines
from sgdline.train.loop import Update


def signed(loss: LossFunction) -> LossFunction:
    """Return a loss that gives each sample its loss, with a minus sign where the network is wrong.

    The engine returns one number per sample. If no loss is negative, its sign, that of a zero included, is free to say
    whether the largest output is that of the sample's class: no second forward pass. An output that is no number is an
    answer that is wrong, as in the evaluation probe.

    Args:
        loss: Outputs (n, classes) and targets (n,) -> losses (n,), none of them negative.
    """

    def signed_loss(outputs: Tensor, targets: Tensor) -> Tensor:
        right = (outputs.argmax(1) == targets) & ~outputs.isnan().any(1)
        losses = loss(outputs, targets).abs()  # a perfect answer has -0.0
        return torch.where(right, losses, -losses)

    return signed_loss


def _summary(found: Tensor) -> NDArray[np.float64]:
    """Return mean loss (nats) and accuracy of signed losses. Shapes (K, N) -> (K, 2)."""
    right = ~torch.signbit(found) & ~found.isnan()
    accuracy = right.sum(dim=-1).double() / found.shape[-1]
    return torch.stack([mean_losses(found.abs()), accuracy], dim=-1).cpu().numpy()


class InterpProbe(Probe[InterpOptions]):
    """Measures the interval of chosen updates of a run."""

    table = INTERP

    def prepare(self) -> None:
        """Prepare the measuring set.

        Raises:
            SgdlineError: If BatchNorm in train mode would see a chunk of one sample, or the network does not allow
                the plan.
        """
        options, loss = self.options, self.trainer.loss.of_samples()
        self._alphas = np.arange(options.alphas) / (options.alphas - 1)
        self._lines = UpdateLines(
            self.trainer,
            self.images,
            self.run,
            self.plan,
            loss=signed(loss) if options.accuracy else loss,
            batch_norm=options.batch_norm,
            augment=options.augment,
        )
        self._starts: NextStart[NDArray[np.float64]] = NextStart()

    def facts(self) -> dict[str, Any]:
        """Return what the table's metadata has to say about the measurement."""
        return {**self._lines.facts(), "updates_per_epoch": self.trainer.updates_per_epoch}

    def measure(self, update: Update) -> Rows:
        """Measure the interval of one update.

        Returns:
            One row of the table `interp`.

        Cost: one forward pass over the measuring set per alpha; the one at alpha = 1 serves the next interval, if that
            is measured, as its alpha = 0.
        """
        start, train = self._starts.take(update.step), self._lines.train
        step_length = update.lr * update.direction_norm
        with self._lines.opened(update) as (line, parameters):
            # The ends go alone: a position that shares a pass with others may differ in its last bits, and an interval
            # must not show whether it was measured with the one before it.
            if start is None:
                start = _summary(line.losses([0.0], train))
            inner = _summary(line.losses((self._alphas[1:-1] * step_length).tolist(), train))
            end = _summary(line.losses_at(parameters, train))
        if self._lines.end_is_next_start and self.due(update.step + 1):
            self._starts.keep(update.step + 1, end)
        found = np.concatenate([start, inner, end])
        status = "zero_direction" if step_length == 0.0 else "ok"
        if not np.isfinite(found[:, 0]).all():
            status = "non_finite"
        row = {
            **place_of(update),
            "step_length": step_length,
            "alphas": self._alphas,
            "train_loss": found[:, 0],
            "train_accuracy": found[:, 1] if self.options.accuracy else None,
            "status": status,
        }
        return [row]
