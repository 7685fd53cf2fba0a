"""Slices of a checked configuration, which rules depend on.

A slice is a plain JSON-able dict and goes into a rule's params: Snakemake makes again what has another slice, and
nothing else. So a slice holds values, never the names by which the configuration calls them.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from typing import Any

from sgdline.declare.schema import shared_fields
from sgdline.probes.base import PlannedOptions
from sgdline.workflow.layout import RunKey
from sgdline.workflow.runs import (
    Config,
    experiment_of,
    named,
    parent_run,
    probe_block,
    probe_named,
    probe_options,
    starting_point,
)
from sgdline.workflow.segments import segment_bounds

# Keys of an experiment that a training depends on as they are.
_TRAINED_WITH = (
    "lr_unit", "micro_batch", "steps", "threads", "drop_last", "loss", "optimizer", "schedule", "label_noise",
    "augmentation",
)  # fmt: skip


def dataset_slice(config: Config, dataset: str) -> dict[str, Any]:
    """Return what a prepared data set depends on: its block.

    Raises:
        SgdlineError: If the configuration has no such data set.
    """
    block: dict[str, Any] = copy.deepcopy(named(config, "datasets", dataset, kind="data sets"))
    return block


def training_slice(config: Config, run: RunKey) -> dict[str, Any]:
    """Return what a training run depends on, apart from the prepared data set.

    Returns:
        dict: The fields of `sgdline.train.settings.TrainingSettings`, as JSON.

    Raises:
        SgdlineError: If the configuration has no such experiment or model.
    """
    block = experiment_of(config, run)
    return {
        "model": copy.deepcopy(named(config, "models", run.model, kind="models")),
        "lr": float(run.lr),
        "batch_size": run.batch_size,
        "seed": run.seed,
        "segments": [list(bound) for bound in segment_bounds(block["steps"], block["segments"])],
        **{key: copy.deepcopy(block[key]) for key in _TRAINED_WITH},
        "start_from": _start(config, run),
    }


def _start(config: Config, run: RunKey) -> dict[str, Any] | None:
    parent, point = parent_run(config, run), starting_point(config, run)
    if parent is None or point is None:
        return None
    return {"training": training_slice(config, parent), "step": point["step"]}


def probe_slice(config: Config, run: RunKey, probe: str) -> dict[str, Any]:
    """Return what a probe of a run depends on, apart from its plan.

    Args:
        config: A resolved configuration.
        run: A run.
        probe: Name of a probe that its experiment measures.

    Returns:
        dict: `training` (the training slice), `probe` (its name or entry), `settings` (its block without the entries
            that only the choice of a plan reads) and `replay_tolerance`.

    Raises:
        SgdlineError: If the configuration has no such experiment or model, or the experiment no such probe.
    """
    whole = plan_slice(config, run, probe)
    tolerance = experiment_of(config, run)["replay_tolerance"]
    return {**whole, "settings": measurement(whole["settings"]), "replay_tolerance": tolerance}


def plan_slice(config: Config, run: RunKey, probe: str) -> dict[str, Any]:
    """Return what the choice of a plan for a probe of a run depends on.

    Args:
        config: A resolved configuration.
        run: A run.
        probe: As for `probe_slice`.

    Returns:
        dict: `training` (the training slice), `probe` (its name or entry) and `settings` (its whole block without what
            does not touch the measurement).

    Raises:
        SgdlineError: If the configuration has no such experiment or model, or the experiment no such probe.
    """
    block, asked = probe_block(config, run.experiment, probe), probe_named(config, run.experiment, probe)
    for lines in (block, *(block[name] for name in shared_fields(probe_options(asked)))):
        if "positions" in lines:
            # The spacing of a grid and the tolerance of adaptive positions do not touch each other's measurement.
            del lines["resolution" if lines["positions"] == "adaptive" else "tolerance"]
    return {"training": training_slice(config, run), "probe": asked, "settings": block}


def import_slice(config: Config, run: RunKey) -> dict[str, Any]:
    """Return what an import of lines depends on, the files apart."""
    line = experiment_of(config, run)["probes"]["line"]
    return {
        "interval": line["interval"],
        "sample_losses": line["sample_losses"],
        "batch_size": run.batch_size,
        "lr": float(run.lr),
    }


def analysis_slice(config: Config, run: RunKey, *, keys: Collection[str] | None = None) -> dict[str, Any]:
    """Return what analyses of a run depend on, apart from the tables that they read and their own options.

    Args:
        config: A resolved configuration.
        run: A run.
        keys: Keys of the result to keep, for an analysis that uses only some; all if None.

    Returns:
        dict: The shared entries of the analysis block, `interval` and `resolution` of the line probe (None without
            one), and `steps`, `batch_size` and `seed` of the run.

    Raises:
        SgdlineError: If the configuration has no such experiment, or the analysis no such key.
    """
    block = experiment_of(config, run)
    line = block["probes"].get("line", {})
    whole = {
        **{key: copy.deepcopy(entry) for key, entry in block["analysis"].items() if key != "extra"},
        "interval": line.get("interval"),
        "resolution": line.get("resolution"),
        "steps": block["steps"],
        "batch_size": run.batch_size,
        "seed": run.seed,
    }
    return whole if keys is None else {key: named({"analysis": whole}, "analysis", key, kind="keys") for key in keys}


def toy_slice(config: Config, toy: str) -> dict[str, Any]:
    """Return what a toy depends on, apart from its kind: its block without `toy` and `figures`.

    Raises:
        SgdlineError: If the configuration has no such toy.
    """
    block = named(config, "toys", toy, kind="toys")
    return {key: copy.deepcopy(entry) for key, entry in block.items() if key not in ("toy", "figures")}


def measurement(block: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of a probe's block, and of those below it, with the entries that say what is measured, not how."""
    return {
        key: measurement(entry) if isinstance(entry, Mapping) else copy.deepcopy(entry)
        for key, entry in block.items()
        if key not in PlannedOptions.planning
    }
