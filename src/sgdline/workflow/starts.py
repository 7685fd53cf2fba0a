"""Where runs start: those that differ only in how they go on from there share the largest eigenvalue measured there."""

from __future__ import annotations

import sys
from typing import Any

from sgdline.workflow.layout import RunKey
from sgdline.workflow.runs import Config, every_run, experiment_of, parent_run, starting_point
from sgdline.workflow.slices import training_slice

# What says how a run goes on from its start: with fixed values, changes of it measure no start again.
_FIXED: dict[str, Any] = {
    "lr": 1.0,
    "steps": 1,
    "segments": [[0, 1]],
    "drop_last": True,
    "micro_batch": None,
    "optimizer": {"name": "sgd"},
    "schedule": {"name": "constant"},
    "label_noise": {},
    "augmentation": {},
}


def samples_per_pass(config: Config, run: RunKey) -> int:
    """Return how many samples share a forward pass in the training of a run."""
    return min(run.batch_size, experiment_of(config, run)["micro_batch"] or sys.maxsize)


def start_of(config: Config, run: RunKey) -> str:
    """Return the name of where a run starts, as it is written in file names."""
    dataset, chunk = experiment_of(config, run)["dataset"], samples_per_pass(config, run)
    name = f"{dataset}/{run.model}/chunk{chunk}_seed{run.seed}"
    parent, point = parent_run(config, run), starting_point(config, run)
    if parent is None or point is None:
        return name
    return f"{name}_from_{parent.experiment}_lr{parent.lr}_bs{parent.batch_size}_step{point['step']}"


def measured_starts(config: Config) -> dict[str, RunKey]:
    """Return one run for each start that some learning rate is a multiple of the inverse sharpness of."""
    sharp = [run for run in every_run(config) if experiment_of(config, run)["lr_unit"] == "sharpness"]
    return {start_of(config, run): run for run in reversed(sharp)}


def start_slice(config: Config, run: RunKey) -> dict[str, Any]:
    """Return what the start of a run and the chunks to measure it on depend on, as settings of a training."""
    return {**training_slice(config, run), **_FIXED, "batch_size": samples_per_pass(config, run)}
