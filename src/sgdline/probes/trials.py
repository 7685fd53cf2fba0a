"""What trials of plans share: the first line of a run, and how many lines a process has ahead."""

from __future__ import annotations

from sgdline.engine.trial import Subject
from sgdline.probes.base import PlannedOptions
from sgdline.probes.measuring_images import MeasuringImages
from sgdline.probes.update_lines import unit_direction
from sgdline.train.loop import Trainer, Update
from sgdline.train.settings import TrainingSettings


def first_line(
    trainer: Trainer, measured: MeasuringImages, options: PlannedOptions, update: Update, *, interval: float
) -> Subject:
    """Return the line of a run's first update.

    Args:
        trainer: The run.
        measured: What its lines are measured on.
        options: The probe's.
        update: Its first update.
        interval: Largest length of interest.
    """
    return Subject(
        model=trainer.model,
        loss=trainer.loss.of_samples(),
        batch_norm=options.batch_norm,
        inputs=measured.train.inputs,
        targets=measured.train.targets,
        chunk_size=measured.chunk_size,
        mask_seeds=measured.mask_seeds("train"),
        direction=trainer.vector.split(unit_direction(update)),
        interval=interval,
        check_slope=options.check_slope,
    )


def lines_ahead(trainer: Trainer, run: TrainingSettings, options: PlannedOptions) -> int:
    """Return how many lines the segment of a run with the most of them has."""
    each = trainer.updates_per_epoch
    return max(
        sum(options.due(step, updates_per_epoch=each) for step in range(start, stop)) for start, stop in run.segments
    )
