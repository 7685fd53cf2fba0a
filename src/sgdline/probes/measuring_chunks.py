"""The measuring set of a run, cut into chunks of its batch size, for the probes of the Hessian."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sgdline.data.images import ImageData
from sgdline.engine.hessian import Chunk
from sgdline.errors import SgdlineError
from sgdline.probes.measuring_images import measuring_images
from sgdline.train.settings import TrainingSettings


def measuring_chunks(
    images: ImageData, run: TrainingSettings, settings: Mapping[str, Any], *, probe: str
) -> list[Chunk]:
    """Return the chunks that lines are measured on: the same images, draws and masks; of the first samples alone.

    Args:
        images: The run's data set.
        run: Its training slice.
        settings: The probe's block, with `samples` (None: all) and `augment`.
        probe: Its name, for messages.

    Raises:
        SgdlineError: If there are fewer training images than samples.
    """
    measured = measuring_images(images, run, {"validation": False, "augment": settings["augment"]})
    samples = len(measured.train) if settings["samples"] is None else int(settings["samples"])
    if samples > len(measured.train):
        raise SgdlineError(
            f"probes.{probe}.samples must be at most the {len(measured.train)} training images, got {samples}. "
            "Lower it, or set it to null."
        )
    size = measured.chunk_size
    return [
        Chunk(
            measured.train.inputs[first : min(first + size, samples)],
            measured.train.targets[first : min(first + size, samples)],
            seed,
        )
        for first, seed in zip(range(0, samples, size), measured.mask_seeds("train"), strict=False)
    ]
