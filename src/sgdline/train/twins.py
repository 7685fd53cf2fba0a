"""Copies of a run that leave it at an update and go on beside it, with other batches or with the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from sgdline.data.images import ImageData
from sgdline.seeds import kept_generators
from sgdline.train.checkpoints import Checkpoint
from sgdline.train.loop import Trainer, Update
from sgdline.train.settings import TrainingSettings


def checkpoint_after(trainer: Trainer, update: Update) -> Checkpoint:
    """Return the state before the update that follows one, while the trainer is still at that one.

    The same bits as `Trainer.checkpoint` gives one update later, before its batch is seen.

    Args:
        trainer: Has yielded `update` last.
        update: A finite update.
    """
    found = trainer.checkpoint(update.step + 1)
    with torch.no_grad():
        found.parameters.add_(update.direction, alpha=-update.lr)
    return replace(found, previous_gradient=update.gradient.clone())


class Twin:
    """A second trainer of a run's settings, one update at a time; random generators are left as they were."""

    def __init__(
        self,
        settings: TrainingSettings,
        images: ImageData,
        start: Checkpoint,
        *,
        stop: int,
        device: torch.device,
        draws: int | None = None,
    ) -> None:
        """Take the state before an update; `step` makes the first move.

        Args:
            settings: Settings of the run's training.
            images: Its data set.
            start: Where to start, and before which update.
            stop: The run's number of updates.
            device: Where to train.
            draws: Seed of other batches, augmentation, masks and noise; those of the run if None.
        """
        self._device = device
        with kept_generators(device):
            self._trainer = Trainer(settings, images, device=device, draws=draws)
            self._trainer.load(start)
        self._updates: Iterator[Update] = self._trainer.updates(start.step, stop)
        self._last: Update | None = None

    @property
    def parameters(self) -> Tensor:
        """Its present parameters. Shape (p,); valid until the next step."""
        return self._trainer.vector.value

    @property
    def lost(self) -> bool:
        """Whether it diverged: its last loss or update vector was not finite."""
        return self._last is not None and not self._last.finite

    def step(self) -> None:
        """Move on, to the parameters before the next update; the first time stay where it starts.

        At the end of the run and after a divergence nothing moves any more.

        Cost: one training step.
        """
        if self.lost:
            return
        with kept_generators(self._device):
            self._last = next(self._updates, self._last)

    def checkpoint_after(self) -> Checkpoint:
        """Return the state before its next update.

        Raises:
            RuntimeError: If it made no step yet or is lost.
        """
        if self._last is None or self.lost:
            raise RuntimeError("a twin must have made a finite step first")
        with kept_generators(self._device):
            return checkpoint_after(self._trainer, self._last)
