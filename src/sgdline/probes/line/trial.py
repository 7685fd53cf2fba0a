"""What plans for the lines of a run are tried on."""

from __future__ import annotations

import math

from sgdline.data.images import ImageData
from sgdline.engine.trial import Subject, Work
from sgdline.probes.line.options import LineOptions
from sgdline.probes.measuring_images import measuring_images
from sgdline.probes.trials import first_line, lines_ahead
from sgdline.train.loop import Trainer, Update
from sgdline.train.settings import TrainingSettings

# Positions of an adaptive line before any was measured: 17 nodes, and some lines take more.
_ADAPTIVE_POSITIONS = 20


def trial(
    trainer: Trainer, images: ImageData, run: TrainingSettings, options: LineOptions, update: Update
) -> tuple[Subject, Work]:
    """Return the first line of a run, and what its largest segment has ahead."""
    measured = measuring_images(images, run, augment=options.augment, validation=options.validation)
    positions = _ADAPTIVE_POSITIONS
    if options.positions == "grid":
        positions = 2 * math.floor(options.interval / options.resolution + 1e-9) + 1
    work = Work(
        lines=lines_ahead(trainer, run, options),
        positions=positions,
        samples=len(measured.train) + len(measured.validation) + len(update.batch.targets),
    )
    return first_line(trainer, measured, options, update, interval=options.interval), work
