"""Train one run: the trace of every update and a checkpoint at every segment boundary."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from sgdline import __version__
from sgdline.data.images import load_images
from sgdline.errors import SgdlineError
from sgdline.runtime import device_name, file_digest, progress, set_up_torch
from sgdline.tables import Facts, TableWriter
from sgdline.tables.kinds.trace import TRACE
from sgdline.train.checkpoints import checkpoint_path, has_checkpoint, load_checkpoint, save_checkpoint, saved_steps
from sgdline.train.loop import Trainer, Update
from sgdline.train.settings import TrainingSettings
from sgdline.train.vectors import inner, norm

logger = logging.getLogger(__name__)

# Rows of the trace that a kill can lose at most; they are made again from the last checkpoint.
_ROWS_PER_BATCH = 100


def train_run(
    dataset: str | Path,
    *,
    trace: str | Path,
    checkpoints: str | Path,
    settings: TrainingSettings,
    facts: Facts,
    start: str | Path | None = None,
    sharpness: str | Path | None = None,
    threads: int = 1,
) -> None:
    """Train one run and write its trace and its checkpoints.

    A run that continues another one takes over its parameters and buffers; the update rule's state is new, updates
    count from 0, and distances are from where it starts.

    A run that diverges ends at its first update with a non-finite loss or update vector; that update is the last
    row of the trace, with status non_finite. An interrupted training goes on from its last checkpoint, or from the one
    before the first damaged one.

    Args:
        dataset: Prepared data set (table of kind dataset).
        trace: Table to write, one row per update.
        checkpoints: Folder to write, one file per reached segment boundary, the start included.
        settings: What the training depends on.
        facts: Provenance for the table's metadata.
        start: Checkpoints of the run that this one continues; needed if `settings` name a start.
        sharpness: File of rule measure_sharpness; needed if learning rates are multiples of its inverse.
        threads: CPU threads to use.

    Raises:
        SgdlineError: If data set or model are unfit, or the run to continue did not reach the update.
    """
    device = set_up_torch(threads)
    trainer = Trainer(settings, load_images(dataset, device=device), device=device)
    facts = {**facts, **run_facts(dataset, settings, device=device, threads=threads)}
    if settings.in_sharpness:
        if sharpness is None:
            raise ValueError("sharpness must be the file of rule measure_sharpness, got None")
        # Rows of an interrupted job belong to the rates that they were made with.
        largest: float = json.loads(Path(sharpness).read_text(encoding="utf-8"))["largest_eigenvalue"]
        facts["sharpness"] = largest
        trainer.set_sharpness(largest)
    origin = origin_of(start, settings)
    if origin is not None:
        facts["parent_digest"] = file_digest(origin)
    bounds = [0, *(stop for _, stop in settings.segments)]
    unfinished = Path(str(checkpoints) + ".part")
    with TableWriter(trace, TRACE, provenance=facts) as writer:
        known = writer.recovered.num_rows
        reached = _whole_checkpoints(unfinished, [step for step in bounds if step <= known])
        if not known or 0 not in reached:  # nothing to go on from, or leftovers of other settings
            shutil.rmtree(unfinished, ignore_errors=True)
            if origin is not None and settings.start_from is not None:
                trainer.continue_from(load_checkpoint(origin.parent, settings.start_from.step, device=device))
            save_checkpoint(unfinished, trainer.checkpoint(0))
            reached = [0]
        theta_0 = load_checkpoint(unfinished, 0, device=device).parameters
        trainer.load(load_checkpoint(unfinished, reached[-1], device=device))
        if reached[-1] > 0:
            logger.info("Going on from update %d of an interrupted training.", reached[-1])

        rows: list[dict[str, Any]] = []
        diverged_at: int | None = None
        for begin, end in settings.segments:
            if end <= reached[-1]:
                continue
            updates = progress(trainer.updates(begin, end), total=end - begin, label=f"updates {begin} to {end}")
            for update in updates:
                if update.step >= known:
                    rows.append(_trace_row(update, trainer, theta_0))
                if not update.finite:
                    diverged_at = update.step
                if len(rows) >= _ROWS_PER_BATCH:
                    writer.append(rows)
                    rows.clear()
            writer.append(rows)
            rows.clear()
            if diverged_at is not None:
                logger.warning("The run diverged at update %d; this is recorded as its result.", diverged_at)
                break
            save_checkpoint(unfinished, trainer.checkpoint(end))
        writer.put_in_place({"diverged_at": diverged_at, **trainer.facts()})
        # What this job went on from stays, without taking up more space, until `leftovers.forget_training`: Snakemake
        # deletes the outputs of a job that is killed after its work is done, or whose end it did not live to see.
        linked = Path(str(checkpoints) + ".writing")
        for folder in (linked, Path(checkpoints)):
            shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(unfinished, linked, copy_function=_link)
        linked.replace(checkpoints)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # not on every file system
        shutil.copy2(source, target)


def _whole_checkpoints(folder: Path, steps: Sequence[int]) -> list[int]:
    """Return the updates, of those asked for, that have a checkpoint, up to the first one that is damaged."""
    whole: list[int] = []
    for step in saved_steps(folder):
        if step not in steps:
            continue
        try:
            load_checkpoint(folder, step, device=torch.device("cpu"))
        except SgdlineError:
            logger.warning("%s is damaged; the training goes on from before it.", checkpoint_path(folder, step))
            break
        whole.append(step)
    return whole


def origin_of(start: str | Path | None, settings: TrainingSettings) -> Path | None:
    """Return the checkpoint that a run starts from; None if it starts from random parameters."""
    if settings.start_from is None:
        return None
    if start is None:
        raise ValueError("start must be the checkpoints of the run to continue, got None")
    step = settings.start_from.step
    if not has_checkpoint(start, step):
        raise SgdlineError(
            f"The run to continue must have reached update {step}, got no checkpoint {checkpoint_path(start, step)}: "
            "it diverged before. Set start_from.step to an earlier segment boundary, or continue another run."
        )
    return checkpoint_path(start, step)


def run_facts(dataset: str | Path, settings: TrainingSettings, *, device: torch.device, threads: int) -> dict[str, Any]:
    """Return what a table made by a training or probing job has to say about its making.

    Rows left by an interrupted job are kept only if all of this is still the same, hence the digest of the data.
    """
    return {
        "version": __version__,
        "dataset_digest": file_digest(dataset),
        "seed": settings.seed,
        "device": device_name(device),
        "threads": threads,
        "torch": torch.__version__,
    }


def _trace_row(update: Update, trainer: Trainer, theta_0: torch.Tensor) -> dict[str, Any]:
    gradient_norm = norm(update.gradient)
    cosine = None
    if trainer.previous_gradient is not None:
        product = gradient_norm * norm(trainer.previous_gradient)
        cosine = inner(update.gradient, trainer.previous_gradient) / product if product > 0 else None
    return {
        "step": update.step,
        "epoch": update.epoch,
        "lr": update.lr,
        "batch_loss": update.batch_loss,
        "gradient_norm": gradient_norm,
        "direction_norm": update.direction_norm,
        "gradient_cosine": cosine,
        "distance_from_start": norm(trainer.vector.value - theta_0),
        "parameter_norm": norm(trainer.vector.value),
        "status": "ok" if update.finite else "non_finite",
    }
