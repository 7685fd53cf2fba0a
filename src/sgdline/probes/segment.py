"""Replay one segment of a run and measure one kind of probe on it (`sgdline.probes.probe` is the interface)."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import torch
from torch import Tensor

from sgdline.data.images import load_images
from sgdline.engine.plan import Plan, PlanReport, read_plan
from sgdline.errors import SgdlineError
from sgdline.probes.settings import ProbeSettings
from sgdline.runtime import file_digest, progress, set_up_torch
from sgdline.tables import Facts, TableWriter
from sgdline.train.checkpoints import Checkpoint, checkpoint_path, load_checkpoint, saved_steps
from sgdline.train.loop import Trainer
from sgdline.train.run import run_facts

logger = logging.getLogger(__name__)


def probe_segment(
    dataset: str | Path,
    checkpoints: str | Path,
    *,
    plan: str | Path | None = None,
    output: str | Path,
    settings: ProbeSettings,
    segment: int,
    facts: Facts,
    threads: int = 1,
) -> None:
    """Replay the updates of one segment from its checkpoint and measure a probe where it is due.

    An interrupted segment keeps the rows that it has. A run that diverged before or within the segment gives the
    rows up to there, none if it never reached the segment.

    Args:
        dataset: Prepared data set.
        checkpoints: The run's folder of checkpoints.
        plan: How to make forward passes (rule plan_probe); the simplest way if None.
        output: Table to write.
        settings: What the measurement depends on.
        segment: Number of the segment, from 0; a sequential probe has the whole run in one.
        facts: Provenance for the table's metadata.
        threads: CPU threads to use.

    Raises:
        SgdlineError: If data set, model or checkpoints are unfit, or the replay drifts.
    """
    device = set_up_torch(threads)
    images = load_images(dataset, device=device)
    training, options, tolerance = settings.training, settings.options, settings.replay_tolerance
    trainer = Trainer(training, images, device=device)
    start, stop = (0, training.steps) if options.sequential else training.segments[segment]
    report = PlanReport(Plan()) if plan is None else read_plan(plan)
    measuring = options.probe(trainer, images, training, report.plan)
    facts = {**facts, **run_facts(dataset, training, device=device, threads=threads), **measuring.facts()}
    facts |= {"plan": report.plan.to_json(), "precision_error": report.precision_error}
    reached = _reached(checkpoints, start)
    if reached:
        # Rows of an interrupted job belong to the parameters that it started from.
        facts["start_digest"] = file_digest(checkpoint_path(checkpoints, start))
    with TableWriter(output, measuring.table, provenance=facts) as writer:
        if not reached:
            logger.warning("The run diverged before update %d: nothing to measure in this segment.", start)
            writer.finish({"replay_drift": None})
            return
        checkpoint = load_checkpoint(checkpoints, start, device=device)
        trainer.load(checkpoint)
        measuring.begin(checkpoint)
        known = set(writer.recovered["step"].to_pylist())
        if known:
            logger.info("Keeping %d rows of an interrupted job.", len(known))
        label = f"{settings.probe} {start} to {stop}"
        diverged = False
        for update in progress(trainer.updates(start, stop), total=stop - start, label=label):
            if not update.finite:
                diverged = True
                break
            measuring.observe(update)
            if measuring.due(update.step) and update.step not in known:
                writer.append(measuring.measure(update))
        else:
            last = measuring.finish() if stop not in known else []
            if last:
                writer.append(last)
        drift = None
        if _reached(checkpoints, stop, certain=not diverged):
            drift = _drift(trainer.checkpoint(stop), load_checkpoint(checkpoints, stop, device=device))
            if not drift <= tolerance:
                writer.discard()
                raise SgdlineError(
                    f"The replay of updates {start} to {stop} must end within replay_tolerance = {tolerance:g} "
                    f"of the checkpoint, got {drift:g}. Train and probe on the same kind of machine with the same "
                    "number of threads, or raise the experiment's replay_tolerance. If it is the same machine, the "
                    "network keeps something outside of its parameters, buffers and attributes: make that a buffer."
                )
        writer.finish({"replay_drift": drift})


def _reached(checkpoints: str | Path, step: int, *, certain: bool = False) -> bool:
    """Return whether a run came to an update, as its checkpoints tell.

    Args:
        checkpoints: The run's folder of checkpoints.
        step: The update.
        certain: It came there, as its replay has shown.

    Raises:
        SgdlineError: If a checkpoint is missing: that of an update that the run came to, or that of its start.
    """
    saved = saved_steps(checkpoints)
    if step not in saved and (certain or 0 not in saved or saved[-1] > step):
        raise SgdlineError(
            f"Checkpoints {checkpoints} must be those of the whole run, got none of update {step}. Delete the folder "
            "and start snakemake: it trains the run again and measures it anew."
        )
    return step in saved


def _drift(replayed: Checkpoint, saved: Checkpoint) -> float:
    """Return the largest absolute difference over parameters, buffers, attributes and the update rule's state."""
    pairs = [(replayed.parameters, saved.parameters)]
    both = replayed.attributes.keys() & saved.attributes.keys()
    pairs += [(replayed.attributes[name], saved.attributes[name]) for name in both]
    pairs += [(replayed.buffers[name], tensor) for name, tensor in saved.buffers.items()]
    pairs += [(replayed.rule[name], tensor) for name, tensor in saved.rule.items()]
    return max(_largest_difference(a.double(), b.double()) for a, b in pairs if a.numel())


def _largest_difference(first: Tensor, second: Tensor) -> float:
    """Return the largest absolute difference; infinite where one of two entries is no number, or another infinity."""
    same = (first == second) | (first.isnan() & second.isnan())
    difference = torch.where(same, 0.0, (first - second).abs())
    return float(difference.nan_to_num(nan=math.inf, posinf=math.inf).max())
