"""The whole training set in chunks of a run's forward passes, for full-batch gradients."""

from __future__ import annotations

import torch

from sgdline.data.images import ImageData
from sgdline.probes.measuring_images import measuring_images
from sgdline.train.batch import Batch
from sgdline.train.settings import TrainingSettings


def training_chunks(images: ImageData, run: TrainingSettings) -> list[Batch]:
    """Return the training set in chunks of the run's forward passes, as lines are measured on it.

    ASSUME: the full-batch gradient is one of what batches are drawn from. Where the run augments its batches, every
    image comes with one fixed draw, the same as on lines with `augment: true`.
    """
    measured = measuring_images(images, run, {"validation": False, "augment": True})
    size, seeds = measured.chunk_size, measured.mask_seeds("train")
    rows = torch.arange(len(measured.train))
    return [
        Batch(
            measured.train.inputs[index * size : (index + 1) * size],
            measured.train.targets[index * size : (index + 1) * size],
            rows[index * size : (index + 1) * size],
            seed,
        )
        for index, seed in enumerate(seeds)
    ]
