"""What the lines of a run are measured on: the same images, chunks and random masks at every update."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sgdline.data.augmentation import augment
from sgdline.data.images import ImageData, ImageSet
from sgdline.seeds import derive_seed, generator
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


def measuring_images(images: ImageData, run: TrainingSettings, settings: Mapping[str, Any]) -> MeasuringImages:
    """Return what the lines of a run are measured on.

    Args:
        images: Its data set.
        run: Its training slice.
        settings: The config's line block.
    """
    # The run's own seed also where it continues another run: both are measured on the same images.
    seed = run.seed
    parts = {"train": images.train, "validation": images.validation}
    if not settings["validation"]:
        parts["validation"] = ImageSet(images.validation.inputs[:0], images.validation.targets[:0])
    for name, part in parts.items():
        if settings["augment"]:
            draws = generator(seed, f"probe_augmentation_{name}")
            inputs = augment(part.inputs, **asdict(run.augmentation), fill=images.black, generator=draws)
            parts[name] = ImageSet(inputs, part.targets)
    return MeasuringImages(parts["train"], parts["validation"], run.chunk_size, seed)
