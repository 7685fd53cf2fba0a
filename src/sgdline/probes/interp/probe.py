"""The interpolation probe: the full-batch loss between consecutive iterates, L((1-alpha)*theta_t + alpha*theta_{t+1}).

The line probe measures the same segment as a part of its line; this one measures nothing else, at equally spaced alphas
with both ends. The images, their chunks, their augmentation and the random masks are those of the line probe, the same
at every alpha and every update (papers.md K2), and the mean is the sum over all samples divided by N.

Source: papers.md 5.2, W-M1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sgdline.chosen_updates import is_chosen
from sgdline.data.images import ImageData
from sgdline.engine.hessian import cross_entropy
from sgdline.engine.lines import LineEngine, mean_losses
from sgdline.engine.plan import Plan
from sgdline.probes.line.probe import depends_on_parameters_only, unit_direction
from sgdline.probes.measuring_images import measuring_images
from sgdline.tables.kinds.interp import INTERP
from sgdline.train.loop import Trainer, Update
from sgdline.train.settings import TrainingSettings

TABLE = INTERP


def signed_cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the cross-entropy of each sample, nats, with a minus sign where the network is wrong.

    The engine returns one number per sample. A cross-entropy is never negative, so that its sign, that of a zero
    included, is free to say whether the largest output is that of the sample's class: no second forward pass. An
    output that is no number is an answer that is wrong, as in the evaluation probe.

    Args:
        outputs: Logits. Shape (n, classes).
        targets: Classes. Shape (n,).

    Returns:
        Shape (n,).
    """
    right = (outputs.argmax(1) == targets) & ~outputs.isnan().any(1)
    losses = cross_entropy(outputs, targets).abs()  # a perfect answer has -0.0
    return torch.where(right, losses, -losses)


def _summary(found: Tensor) -> NDArray[np.float64]:
    """Return mean loss (nats) and accuracy of signed losses. Shapes (K, N) -> (K, 2)."""
    right = ~torch.signbit(found) & ~found.isnan()
    accuracy = right.sum(dim=-1).double() / found.shape[-1]
    return torch.stack([mean_losses(found.abs()), accuracy], dim=-1).cpu().numpy()


class Probe:
    """Measures the interval of chosen updates of a run; see sgdline.probes.segment for the interface."""

    def __init__(
        self, trainer: Trainer, images: ImageData, run: TrainingSettings, settings: Mapping[str, Any], plan: Plan
    ) -> None:
        """Prepare the measuring set.

        Args:
            trainer: The run to measure.
            images: Its data set.
            run: Its training slice.
            settings: The config's interp block.
            plan: How to make forward passes.

        Raises:
            SgdlineError: If BatchNorm in train mode would see a chunk of one sample, or the network does not allow
                the plan.
        """
        self._trainer = trainer
        self._settings = settings
        count = int(settings["alphas"])
        self._alphas = np.arange(count) / (count - 1)
        loss = signed_cross_entropy if settings["accuracy"] else cross_entropy
        self._engine = LineEngine(trainer.model, loss, batch_norm=settings["batch_norm"], plan=plan)
        measured = measuring_images(images, run, {**settings, "validation": False})
        self._train = self._engine.prepare(
            measured.train.inputs,
            measured.train.targets,
            chunk_size=measured.chunk_size,
            mask_seeds=measured.mask_seeds("train"),
        )
        self._reuses = depends_on_parameters_only(trainer.model, batch_norm=settings["batch_norm"])
        self._next: tuple[int, NDArray[np.float64]] | None = None

    def facts(self) -> dict[str, Any]:
        """Return what the table's metadata has to say about the measurement."""
        return {
            "batch_norm": self._settings["batch_norm"],
            "samples": self._train.samples,
            "chunk_sizes": list(self._train.sizes),
            "updates_per_epoch": self._trainer.updates_per_epoch,
        }

    def due(self, step: int) -> bool:
        """Return whether the interval of this update is to be measured."""
        choice = {key: self._settings[key] for key in ("every", "epochs", "updates")}
        return is_chosen(step, **choice, updates_per_epoch=self._trainer.updates_per_epoch)

    def measure(self, update: Update) -> list[dict[str, Any]]:
        """Measure the interval of one update.

        Returns:
            One row of the table `interp`.

        Cost: one forward pass over the measuring set per alpha; the one at alpha = 1 serves the next interval, if that
            is measured, as its alpha = 0.
        """
        known, self._next = self._next, None
        start = known[1] if known is not None and known[0] == update.step else None
        vector = self._trainer.vector
        step_length = update.lr * update.direction_norm
        # The very parameters that the next update starts from. Before the line: a network that is measured in place
        # moves along it.
        target = vector.value.clone().add_(update.direction, alpha=-update.lr)
        parameters = self._engine.network.flatten(vector.split(target))
        self._engine.require_same()
        with self._engine.line(vector.split(unit_direction(update))) as line:
            # The ends go alone: a position that shares a pass with others may differ in its last bits, and an interval
            # must not show whether it was measured with the one before it.
            if start is None:
                start = _summary(line.losses([0.0], self._train))
            inner = _summary(line.losses((self._alphas[1:-1] * step_length).tolist(), self._train))
            end = _summary(line.losses_at(parameters, self._train))
        if self._reuses and self.due(update.step + 1):
            self._next = (update.step + 1, end)
        found = np.concatenate([start, inner, end])
        status = "zero_direction" if step_length == 0.0 else "ok"
        if not np.isfinite(found[:, 0]).all():
            status = "non_finite"
        row = {
            "step": update.step,
            "epoch": update.epoch,
            "lr": update.lr,
            "step_length": step_length,
            "alphas": self._alphas,
            "train_loss": found[:, 0],
            "train_accuracy": found[:, 1] if self._settings["accuracy"] else None,
            "status": status,
        }
        return [row]
