"""Choose once per run how a probe makes its forward passes; every segment of the run reads the choice.

A probe gets a plan if its block of the configuration has the entry `plan`; it then has an entry in `TRIALS` as well,
which says what plans are tried on. Any other probe needs neither.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sgdline.chosen_updates import is_chosen
from sgdline.data.images import ImageData, load_images
from sgdline.declare.build import build
from sgdline.engine.hessian import cross_entropy
from sgdline.engine.network import draws_random_numbers
from sgdline.engine.plan import Plan, PlanReport, write_plan
from sgdline.engine.trial import Subject, Wishes, Work, choose_plan
from sgdline.probes.line.probe import unit_direction
from sgdline.probes.measuring_images import measuring_images
from sgdline.runtime import set_up_torch
from sgdline.train.checkpoints import load_checkpoint
from sgdline.train.loop import Trainer, Update
from sgdline.train.settings import TrainingSettings

logger = logging.getLogger(__name__)

# Positions of an adaptive line before any was measured: 17 nodes, and some lines take more.
_ADAPTIVE_POSITIONS = 20

# The run, its images, its settings, the probe's block, its first update -> what plans are tried on, what is ahead
Trial = Callable[[Trainer, ImageData, TrainingSettings, Mapping[str, Any], Update], tuple[Subject, Work]]


def plan_probe(
    dataset: str | Path, checkpoints: str | Path, *, output: str | Path, settings: Mapping[str, Any], threads: int = 1
) -> None:
    """Choose a plan by a trial on the run's first line and write it.

    The timings of the trial go to the log and not into the file: an equal choice gives equal bytes, and Snakemake,
    which compares small inputs by their content, then measures nothing again. A run whose first line cannot be
    measured gets the simplest plan.

    Args:
        dataset: Prepared data set.
        checkpoints: The run's folder of checkpoints.
        output: Plan to write, JSON.
        settings: The slice of the config (sgdline.config.plan_slice).
        threads: CPU threads to use.

    Raises:
        SgdlineError: If data set, model or checkpoints are unfit, or pinned entries do not suit the network.

    Cost: some seconds, at most a few percent of the measuring ahead; see sgdline.engine.trial.choose_plan.
    """
    device = set_up_torch(threads)
    images = load_images(dataset, device=device)
    training, block = build(TrainingSettings, settings["training"]), settings["settings"]
    trainer = Trainer(training, images, device=device)
    trainer.load(load_checkpoint(checkpoints, 0, device=device))
    update = next(trainer.updates(0, 1))
    if not update.finite or update.direction_norm == 0.0:
        note = "the first update has no direction: the simplest plan, untried"
        logger.warning("Plan: %s.", note)
        write_plan(output, PlanReport(_simplest(trainer, images, block), notes=(note,)))
        return
    subject, work = TRIALS[settings["probe"]](trainer, images, training, block, update)
    wishes = Wishes(
        precision=block["precision"],
        precision_tolerance=block["precision_tolerance"],
        memory_gb=None if block["memory_gb"] == "auto" else block["memory_gb"],
        threads=threads,
        pinned=_pinned(block),
    )
    report = choose_plan(subject, wishes, work)
    write_plan(output, PlanReport(report.plan, report.precision_error))


def _pinned(block: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries of the plan that the configuration names."""
    return {key: entry for key, entry in block["plan"].items() if entry is not None}


def _simplest(trainer: Trainer, images: ImageData, block: Mapping[str, Any]) -> Plan:
    """Return the default plan with what the configuration pins."""
    some = images.train.inputs[:2]
    reseed = draws_random_numbers(trainer.model, some, train_mode=block["batch_norm"] == "train")
    forced = {} if block["precision"] == "auto" else {"precision": block["precision"]}
    return Plan(**{"reseed": reseed, **forced, **_pinned(block)})


def _first_line(
    trainer: Trainer, images: ImageData, run: TrainingSettings, block: Mapping[str, Any], update: Update
) -> tuple[Subject, Work]:
    """Return the first line of the line probe, and what its largest segment has ahead."""
    measured = measuring_images(images, run, block)
    subject = Subject(
        model=trainer.model,
        loss=cross_entropy,
        batch_norm=block["batch_norm"],
        inputs=measured.train.inputs,
        targets=measured.train.targets,
        chunk_size=measured.chunk_size,
        mask_seeds=measured.mask_seeds("train"),
        direction=trainer.vector.split(unit_direction(update)),
        interval=block["interval"],
        check_slope=block["check_slope"],
    )
    positions = _ADAPTIVE_POSITIONS
    if block["positions"] == "grid":
        positions = 2 * math.floor(block["interval"] / block["resolution"] + 1e-9) + 1
    work = Work(
        lines=max(sum(step % block["every"] == 0 for step in range(start, stop)) for start, stop in run.segments),
        positions=positions,
        samples=len(measured.train) + len(measured.validation) + len(update.batch.targets),
    )
    return subject, work


def _first_interval(
    trainer: Trainer, images: ImageData, run: TrainingSettings, block: Mapping[str, Any], update: Update
) -> tuple[Subject, Work]:
    """Return the first interval of the interpolation probe, and what its largest segment has ahead."""
    measured = measuring_images(images, run, {**block, "validation": False})
    subject = Subject(
        model=trainer.model,
        loss=cross_entropy,
        batch_norm=block["batch_norm"],
        inputs=measured.train.inputs,
        targets=measured.train.targets,
        chunk_size=measured.chunk_size,
        mask_seeds=measured.mask_seeds("train"),
        direction=trainer.vector.split(unit_direction(update)),
        # A schedule may begin at a rate of 0.
        interval=(update.lr or trainer.in_unit(run.lr)) * update.direction_norm,
        check_slope=block["check_slope"],
    )
    choice = {key: block[key] for key in ("every", "epochs", "updates")}
    lines = [
        sum(is_chosen(step, **choice, updates_per_epoch=trainer.updates_per_epoch) for step in range(start, stop))
        for start, stop in run.segments
    ]
    return subject, Work(lines=max(lines), positions=int(block["alphas"]), samples=len(measured.train))


TRIALS: dict[str, Trial] = {"line": _first_line, "interp": _first_interval}
