"""Batches of a run's training set that the run itself does not see: seeded draws of a purpose of their own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

from torch import Tensor

from sgdline.data.augmentation import augment
from sgdline.data.batches import BatchOrder
from sgdline.data.images import ImageData
from sgdline.seeds import derive_seed, generator
from sgdline.train.batch import Batch
from sgdline.train.settings import TrainingSettings


def fresh_batches(images: ImageData, run: TrainingSettings, *, purpose: str, first: int, stop: int) -> Iterator[Batch]:
    """Yield whole batches of the run's size, those of an epoch without a common sample, augmented as in training.

    Args:
        images: The run's data set.
        run: Its training slice.
        purpose: What they are for; another purpose, other draws.
        first: Number of the first batch; an epoch has N // B of them.
        stop: Number of the batch after the last one.
    """
    seed = derive_seed(run.seed, purpose)
    order = BatchOrder(len(images.train), batch_size=run.batch_size, seed=seed, drop_last=True)
    for index in range(first, stop):
        yield batch_of_rows(images, run, order.indices(index), seed, index)


def batch_of_rows(images: ImageData, run: TrainingSettings, rows: Tensor, seed: int, *key: int) -> Batch:
    """Return a batch of the training set, augmented as in training: a function of the rows, the seed and the key.

    Args:
        images: The run's data set.
        run: Its training slice.
        rows: Of the training set. Shape (B,).
        seed: Of augmentation and masks.
        key: More numbers that the draws are to depend on.
    """
    train, here = images.train, rows.to(images.train.targets.device)
    draws = generator(seed, "augmentation", *key)
    inputs = augment(train.inputs[here], **asdict(run.augmentation), fill=images.black, generator=draws)
    return Batch(inputs, train.targets[here], rows, derive_seed(seed, "dropout", *key))
