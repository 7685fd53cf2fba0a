"""What the lines of a run are measured on: the same images, chunks and random masks at every update."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch

from sgdline.data.augmentation import augment as augmented
from sgdline.data.images import ImageData, ImageSet
from sgdline.engine.hessian import Chunk
from sgdline.engine.lines import LineEngine
from sgdline.engine.network import MeasuringSet
from sgdline.errors import SgdlineError
from sgdline.seeds import derive_seed, generator
from sgdline.train.batch import Batch
from sgdline.train.settings import TrainingSettings


@dataclass(frozen=True)
class MeasuringImages:
    """What the lines of a run are measured on: the same images at every update."""

    train: ImageSet
    validation: ImageSet  # empty unless it is to be measured
    chunk_size: int  # as the run's own forward passes, see sgdline.train.micro_batches
    seed: int

    def mask_seeds(self, part: str) -> list[int]:
        """Return the seeds of the random masks of each chunk of a part, train or validation."""
        purpose = {"train": "probe_masks", "validation": "probe_masks_validation"}[part]
        samples = len(getattr(self, part))
        return [derive_seed(self.seed, purpose, index) for index in range(-(-samples // self.chunk_size))]

    def prepared(self, engine: LineEngine, part: str = "train") -> MeasuringSet:
        """Hand a part, train or validation, over to an engine."""
        images: ImageSet = getattr(self, part)
        return engine.prepare(
            images.inputs, images.targets, chunk_size=self.chunk_size, mask_seeds=self.mask_seeds(part)
        )


def measuring_images(
    images: ImageData, run: TrainingSettings, *, augment: bool, validation: bool = False
) -> MeasuringImages:
    """Return what the lines of a run are measured on.

    Args:
        images: Its data set.
        run: Its training slice.
        augment: Augment the images as the run's batches are, each with one fixed draw.
        validation: Take the validation set as well.
    """
    # The run's own seed also where it continues another run: both are measured on the same images.
    seed = run.seed
    parts = {"train": images.train, "validation": images.validation}
    if not validation:
        parts["validation"] = ImageSet(images.validation.inputs[:0], images.validation.targets[:0])
    for name, part in parts.items():
        if augment:
            draws = generator(seed, f"probe_augmentation_{name}")
            inputs = augmented(part.inputs, **asdict(run.augmentation), fill=images.black, generator=draws)
            parts[name] = ImageSet(inputs, part.targets)
    return MeasuringImages(parts["train"], parts["validation"], run.chunk_size, seed)


def first_samples(images: ImageData, asked: int | None, *, probe: str) -> int:
    """Return the number of training images that a probe takes, the first so many; all if None.

    Raises:
        SgdlineError: If there are fewer.
    """
    there = len(images.train)
    if asked is not None and asked > there:
        raise SgdlineError(
            f"probes.{probe}.samples must be at most the {there} training images, got {asked}. Lower it."
        )
    return there if asked is None else asked


def measuring_chunks(
    images: ImageData, run: TrainingSettings, *, probe: str, samples: int | None = None, augment: bool = False
) -> list[Chunk]:
    """Return the chunks that lines are measured on: the same images, draws and masks; of the first samples alone.

    Args:
        images: The run's data set.
        run: Its training slice.
        probe: Name of the probe, for messages.
        samples: The first so many; all if None.
        augment: As for `measuring_images`.

    Raises:
        SgdlineError: If there are fewer training images than samples.
    """
    measured = measuring_images(images, run, augment=augment)
    count, size = first_samples(images, samples, probe=probe), measured.chunk_size
    return [
        Chunk(
            measured.train.inputs[first : min(first + size, count)],
            measured.train.targets[first : min(first + size, count)],
            seed,
        )
        for first, seed in zip(range(0, count, size), measured.mask_seeds("train"), strict=False)
    ]


def training_chunks(images: ImageData, run: TrainingSettings) -> list[Batch]:
    """Return the training set in chunks of the run's forward passes, as lines are measured on it.

    ASSUME: the full-batch gradient is one of what batches are drawn from. Where the run augments its batches, every
    image comes with one fixed draw, the same as on lines with `augment: true`.
    """
    measured = measuring_images(images, run, augment=True)
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
