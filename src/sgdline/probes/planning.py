"""Choose once per run how a probe makes its forward passes; every segment of the run reads the choice."""

from __future__ import annotations

import logging
from importlib import import_module
from pathlib import Path
from typing import cast

from sgdline.data.images import ImageData, load_images
from sgdline.engine.network import draws_random_numbers
from sgdline.engine.plan import Plan, PlanReport, write_plan
from sgdline.engine.trial import Wishes, choose_plan
from sgdline.probes.base import PlannedOptions
from sgdline.probes.settings import PlanSettings
from sgdline.runtime import set_up_torch
from sgdline.train.checkpoints import load_checkpoint
from sgdline.train.loop import Trainer

logger = logging.getLogger(__name__)


def plan_probe(
    dataset: str | Path, checkpoints: str | Path, *, output: str | Path, settings: PlanSettings, threads: int = 1
) -> None:
    """Choose a plan by a trial on the run's first line and write it.

    The timings of the trial go to the log and not into the file: an equal choice gives equal bytes, and Snakemake,
    which compares small inputs by their content, then measures nothing again. A run whose first line cannot be
    measured gets the simplest plan.

    Args:
        dataset: Prepared data set.
        checkpoints: The run's folder of checkpoints.
        output: Plan to write, JSON.
        settings: What the choice depends on; the options of the probe are `PlannedOptions`.
        threads: CPU threads to use.

    Raises:
        SgdlineError: If data set, model or checkpoints are unfit, or pinned entries do not suit the network.

    Cost: some seconds, at most a few percent of the measuring ahead; see sgdline.engine.trial.choose_plan.
    """
    device = set_up_torch(threads)
    images = load_images(dataset, device=device)
    training, options = settings.training, cast(PlannedOptions, settings.options)
    trainer = Trainer(training, images, device=device)
    trainer.load(load_checkpoint(checkpoints, 0, device=device))
    update = next(trainer.updates(0, 1))
    if not update.finite or update.direction_norm == 0.0:
        note = "the first update has no direction: the simplest plan, untried"
        logger.warning("Plan: %s.", note)
        write_plan(output, PlanReport(_simplest(trainer, images, options), notes=(note,)))
        return
    tried_on = import_module(f"sgdline.probes.{settings.probe}.trial")
    subject, work = tried_on.trial(trainer, images, training, options, update)
    wishes = Wishes(
        precision=options.precision,
        precision_tolerance=options.precision_tolerance,
        memory_gb=None if options.memory_gb == "auto" else options.memory_gb,
        threads=threads,
        pinned=options.plan,
    )
    report = choose_plan(subject, wishes, work)
    write_plan(output, PlanReport(report.plan, report.precision_error))


def _simplest(trainer: Trainer, images: ImageData, options: PlannedOptions) -> Plan:
    """Return the default plan with what the configuration pins."""
    some = images.train.inputs[:2]
    reseed = draws_random_numbers(trainer.model, some, train_mode=options.batch_norm == "train")
    forced = {} if options.precision == "auto" else {"precision": options.precision}
    return Plan(**{"reseed": reseed, **forced, **options.plan.pinned()})
