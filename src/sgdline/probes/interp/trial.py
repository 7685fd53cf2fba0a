"""What plans for the intervals of a run are tried on."""

from __future__ import annotations

from sgdline.data.images import ImageData
from sgdline.engine.trial import Subject, Work
from sgdline.probes.interp.options import InterpOptions
from sgdline.probes.measuring_images import measuring_images
from sgdline.probes.trials import first_line, lines_ahead
from sgdline.train.loop import Trainer, Update
from sgdline.train.settings import TrainingSettings


def trial(
    trainer: Trainer, images: ImageData, run: TrainingSettings, options: InterpOptions, update: Update
) -> tuple[Subject, Work]:
    """Return the first interval of a run, and what its largest segment has ahead."""
    measured = measuring_images(images, run, augment=options.augment)
    # A schedule may begin at a rate of 0.
    interval = (update.lr or trainer.in_unit(run.lr)) * update.direction_norm
    work = Work(lines=lines_ahead(trainer, run, options), positions=options.alphas, samples=len(measured.train))
    return first_line(trainer, measured, options, update, interval=interval), work
