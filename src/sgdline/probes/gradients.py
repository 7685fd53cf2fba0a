"""Gradients at the present position of a run that leave the run as it was."""

from __future__ import annotations

from torch import Tensor

from sgdline.models.state import restored
from sgdline.runtime import beat
from sgdline.seeds import kept_generators
from sgdline.train.batch import Batch
from sgdline.train.loop import Trainer


def batch_gradient(trainer: Trainer, batch: Batch) -> tuple[float, Tensor]:
    """Return what `Trainer.gradient` returns, and put back parameters, buffers, modes and random generators.

    Every batch therefore finds the same buffers. Only the gradients that the model's parameters hold change.

    Args:
        trainer: The run.
        batch: Any batch on its device.

    Returns:
        L_B(theta) in nats, and g_B. Shape (p,).
    """
    with kept_generators(batch.inputs.device), restored(trainer.model):
        found = trainer.gradient(batch)
    beat()
    return found
