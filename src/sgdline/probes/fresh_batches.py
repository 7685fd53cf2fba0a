"""Batches of a run's training set that the run itself does not see: seeded draws of a purpose of their own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

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
    seed, train = derive_seed(run.seed, purpose), images.train
    order = BatchOrder(len(train), batch_size=run.batch_size, seed=seed, drop_last=True)
    for index in range(first, stop):
        rows = order.indices(index)
        here = rows.to(train.targets.device)
        draws = generator(seed, "augmentation", index)
        inputs = augment(train.inputs[here], **asdict(run.augmentation), fill=images.black, generator=draws)
        yield Batch(inputs, train.targets[here], rows, derive_seed(seed, "dropout", index))
