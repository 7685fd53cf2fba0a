"""Runs of a resolved configuration, and the slices of it that rules depend on.

A slice is a plain JSON-able dict and goes into a rule's params: Snakemake makes again what has another slice, and
nothing else. So a slice holds values, never the names by which the configuration calls them.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from itertools import pairwise
from typing import Any

from sgdline.declare.faults import name_hint, value_words
from sgdline.digests import names_in
from sgdline.errors import SgdlineError

Config = Mapping[str, Any]

# Entries of a probe's block that say how forward passes are made, not what is measured: rule plan_probe reads them,
# and whatever comes of them stands in the plan that it writes.
_PLANNING = ("precision", "precision_tolerance", "check_slope", "memory_gb", "plan")


@dataclass(frozen=True)
class RunKey:
    """One run: the wildcards of its files.

    Attributes:
        experiment: Name of the experiment.
        model: Name of the model.
        lr: Learning rate as it stands in file names, see `format_lr`.
        batch_size: Samples per batch.
        seed: Seed of the run.
    """

    experiment: str
    model: str
    lr: str
    batch_size: int
    seed: int


def runs(config: Config) -> list[RunKey]:
    """Return the runs of all experiments named by `run`, in the order of the configuration."""
    keys = []
    for name in config["run"]:
        if name not in config["experiments"]:
            continue  # a toy
        experiment = config["experiments"][name]
        keys += [
            RunKey(experiment=name, model=model, lr=format_lr(lr), batch_size=batch_size, seed=seed)
            for model in experiment["models"]
            for lr in experiment["lr"]
            for batch_size in experiment["batch_size"]
            for seed in experiment["seed"]
        ]
    return keys


def toys(config: Config) -> list[str]:
    """Return the names of the toys that `run` names, in its order."""
    return [name for name in config["run"] if name in config["toys"]]


def format_lr(lr: float) -> str:
    """Return the shortest text that reads back as the same float: 0.1 -> '0.1', 1.0 -> '1', 1e-5 -> '1e-05'."""
    return repr(float(lr)).removesuffix(".0").replace("e+", "e")


def run_path(key: RunKey) -> str:
    """Return the folder of a run, below the results folder."""
    return f"{key.experiment}/{key.model}/lr{key.lr}_bs{key.batch_size}_seed{key.seed}"


def run_label(key: RunKey) -> str:
    """Return the name of a run in the names of files that lie side by side: figures and logs."""
    return f"{key.experiment}_{key.model}_lr{key.lr}_bs{key.batch_size}_seed{key.seed}"


def measured_steps(steps: int, every: int) -> range:
    """Return the updates whose line is measured: 0, every, 2 * every, ... below `steps`."""
    return range(0, steps, every)


def segment_bounds(steps: int, segments: int) -> list[tuple[int, int]]:
    """Cut the updates 0 .. steps - 1 into equal parts.

    Args:
        steps: Number of updates.
        segments: Number of parts, from 1 to `steps`.

    Returns:
        list[tuple[int, int]]: First update and the one after the last, per part. Lengths differ by one at most.

    Raises:
        SgdlineError: If there are more segments than updates, or none.
    """
    if not 1 <= segments <= steps:
        raise SgdlineError(
            f"segments must be from 1 to steps ({steps}), got {segments}. A segment holds at least one update."
        )
    edges = [steps * part // segments for part in range(segments + 1)]
    return list(pairwise(edges))


def probe_segments(config: Config, experiment: str, probe: str) -> int:
    """Return in how many jobs a probe measures a run: one per segment of the experiment, or one for all.

    Raises:
        SgdlineError: If the configuration has no such experiment.
    """
    segments: int = _named(config, "experiments", experiment, kind="experiments")["segments"]
    return 1 if _is_sequential(probe) else segments


@cache
def _is_sequential(probe: str) -> bool:
    """Tell whether a probe goes along with the whole run, from its source: probes import torch."""
    return "SEQUENTIAL" in (names_in(f"sgdline.probes.{probe}.probe") or [])


def dataset_slice(config: Config, dataset: str) -> dict[str, Any]:
    """Return what a prepared data set depends on: its block, `random` being None unless the source is random.

    Raises:
        SgdlineError: If the configuration has no such data set.
    """
    block: dict[str, Any] = copy.deepcopy(_named(config, "datasets", dataset, kind="data sets"))
    if block["source"] != "random":
        block["random"] = None
    return block


def training_slice(
    config: Config, experiment: str, model: str, lr: str | float, batch_size: str | int, seed: str | int
) -> dict[str, Any]:
    """Return what a training run depends on, apart from the prepared data set.

    Args:
        config: A resolved configuration.
        experiment: Name of the experiment.
        model: Name of the model.
        lr: Learning rate, a number or its text in a file name.
        batch_size: Samples per batch, a number or its text in a file name.
        seed: Seed of the run, a number or its text in a file name.

    Returns:
        dict: `model` (entry, kwargs), `lr`, `batch_size`, `seed`, `steps`, `segments` (list of [first, after last]),
            `threads`, `drop_last`, `optimizer`, `schedule`, `augmentation`; where they are not null, `micro_batch`, and
            `start_from`: `training` (the training slice of the run that this one continues) and `step`; and `lr_unit`
            unless it is absolute; and `label_noise` with a probability above 0.

    Raises:
        SgdlineError: If the configuration has no such experiment or model.
    """
    block = _named(config, "experiments", experiment, kind="experiments")
    bounds = segment_bounds(block["steps"], block["segments"])
    kept = ("steps", "threads", "drop_last", "augmentation")
    parent = parent_run(config, experiment, model, lr, batch_size, seed)
    start = None if parent is None else _start(config, block["start_from"], parent)
    return {
        "model": copy.deepcopy(_named(config, "models", model, kind="models")),
        "lr": float(lr),
        "batch_size": int(batch_size),
        "seed": int(seed),
        "segments": [list(bound) for bound in bounds],
        "optimizer": optimizer_in_use(block["optimizer"]),
        "schedule": _named_options(block["schedule"]),
        **{key: copy.deepcopy(block[key]) for key in kept},
        **({} if block["micro_batch"] is None else {"micro_batch": block["micro_batch"]}),
        **({} if block["lr_unit"] == "absolute" else {"lr_unit": block["lr_unit"]}),
        **({} if start is None else {"start_from": start}),
        **({} if label_noise_in_use(block) is None else {"label_noise": label_noise_in_use(block)}),
    }


def parent_run(
    config: Config, experiment: str, model: str, lr: str | float, batch_size: str | int, seed: str | int
) -> RunKey | None:
    """Return the run that a run continues; None if it starts from random parameters.

    Args:
        config: A resolved configuration.
        experiment: As for `training_slice`.
        model: As for `training_slice`.
        lr: As for `training_slice`.
        batch_size: As for `training_slice`.
        seed: As for `training_slice`.

    Raises:
        SgdlineError: If the configuration has no such experiment.
    """
    start = _named(config, "experiments", experiment, kind="experiments")["start_from"]
    if start is None:
        return None
    own = batch_size if start["batch_size"] is None else start["batch_size"]
    return RunKey(start["experiment"], model, format_lr(start["lr"]), int(own), int(seed))


def _start(config: Config, block: Mapping[str, Any], parent: RunKey) -> dict[str, Any]:
    training = training_slice(config, **asdict(parent))
    return {"training": training, "step": training["steps"] if block["step"] is None else block["step"]}


def label_noise_in_use(experiment: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a copy of an experiment's block of label noise; None with the probability 0, which changes nothing."""
    block: dict[str, Any] = copy.deepcopy(experiment["label_noise"])
    return block if block["probability"] else None


def optimizer_in_use(block: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of an optimizer block without what does not touch the updates.

    These are the options of the update rules that it does not name, noise with the factor 0, and the plain meaning of
    a gradient.
    """
    used = _named_options(block)
    if used.get("gradient") == "mean":
        del used["gradient"]
    noise = block.get("noise")
    return used if not noise or noise["factor"] == 0 else {**used, "noise": copy.deepcopy(noise)}


def _named_options(block: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of a block without the options of the choices that its `name` does not name."""
    return {
        key: copy.deepcopy(entry)
        for key, entry in block.items()
        if not isinstance(entry, Mapping) or key == block["name"]
    }


def probe_slice(
    config: Config,
    experiment: str,
    probe: str,
    *,
    model: str,
    lr: str | float,
    batch_size: str | int,
    seed: str | int,
) -> dict[str, Any]:
    """Return what a probe of a run depends on, apart from its plan.

    Args:
        config: A resolved configuration.
        experiment: Name of the experiment.
        probe: Name of a probe that the experiment measures.
        model: Name of the model.
        lr: As for `training_slice`.
        batch_size: As for `training_slice`.
        seed: As for `training_slice`.

    Returns:
        dict: `training` (the training slice), `probe` (its name), `settings` (its block without the entries that
            only the choice of a plan reads) and `replay_tolerance`.

    Raises:
        SgdlineError: If the configuration has no such experiment or model, or the experiment no such probe.
    """
    whole = plan_slice(config, experiment, probe, model=model, lr=lr, batch_size=batch_size, seed=seed)
    tolerance = config["experiments"][experiment]["replay_tolerance"]
    return {**whole, "settings": measurement(whole["settings"]), "replay_tolerance": tolerance}


def plan_slice(
    config: Config,
    experiment: str,
    probe: str,
    *,
    model: str,
    lr: str | float,
    batch_size: str | int,
    seed: str | int,
) -> dict[str, Any]:
    """Return what the choice of a plan for a probe of a run depends on.

    Args:
        config: A resolved configuration.
        experiment: As for `probe_slice`.
        probe: As for `probe_slice`.
        model: As for `training_slice`.
        lr: As for `training_slice`.
        batch_size: As for `training_slice`.
        seed: As for `training_slice`.

    Returns:
        dict: `training` (the training slice), `probe` (its name) and `settings` (its whole block, null where
            an entry does not touch the measurement).

    Raises:
        SgdlineError: If the configuration has no such experiment or model, or the experiment no such probe.
    """
    block = probe_block(config, experiment, probe)
    if "positions" in block:
        # The spacing of a grid and the tolerance of adaptive positions do not touch each other's measurement.
        block["resolution" if block["positions"] == "adaptive" else "tolerance"] = None
    return {
        "training": training_slice(config, experiment, model, lr, batch_size, seed),
        "probe": probe,
        "settings": block,
    }


def planned_by(config: Config, experiment: str, probe: str) -> str | None:
    """Return the probe whose plan says how a probe makes its forward passes; None if it goes without one.

    Raises:
        SgdlineError: If the configuration has no such experiment, or the experiment no such probe.
    """
    if "plan" not in probe_block(config, experiment, probe):
        return None
    return "line" if probe == "mline" else probe


def measurement(block: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of a probe's block with the entries that say what is measured, not how."""
    return {key: copy.deepcopy(entry) for key, entry in block.items() if key not in _PLANNING}


def probe_block(config: Config, experiment: str, probe: str) -> dict[str, Any]:
    """Return all settings of a probe; `mline` measures as `line` does, but where and how often it says itself.

    Raises:
        SgdlineError: If the configuration has no such experiment, or the experiment no such probe.
    """
    probes = _named(config, "experiments", experiment, kind="experiments")
    block: dict[str, Any] = copy.deepcopy(_named(probes, "probes", probe, kind=f"probes in {experiment}"))
    if probe == "mline":
        line = _named(probes, "probes", "line", kind=f"probes in {experiment}")
        shared = {key: entry for key, entry in line.items() if key not in ("every", "validation", "sample_losses")}
        block = {**copy.deepcopy(shared), **block}
    return block


def analysis_slice(config: Config, experiment: str, *, keys: Collection[str] | None = None) -> dict[str, Any]:
    """Return what the analysis of an experiment's lines depends on.

    Args:
        config: A resolved configuration.
        experiment: Name of the experiment.
        keys: Keys of the result to keep, for a rule that uses only some; all if None.

    Returns:
        dict: The analysis block, and `interval` and `resolution` of the line probe (None without one).

    Raises:
        SgdlineError: If the configuration has no such experiment, or the analysis no such key.
    """
    block = _named(config, "experiments", experiment, kind="experiments")
    line = block["probes"].get("line", {})
    whole = {
        **copy.deepcopy(block["analysis"]),
        "interval": line.get("interval"),
        "resolution": line.get("resolution"),
    }
    return whole if keys is None else {key: _named({"analysis": whole}, "analysis", key, kind="keys") for key in keys}


def toy_slice(config: Config, toy: str) -> dict[str, Any]:
    """Return what a toy depends on, apart from its kind: its block without `toy` and `figures`.

    Raises:
        SgdlineError: If the configuration has no such toy.
    """
    block = _named(config, "toys", toy, kind="toys")
    return {key: copy.deepcopy(entry) for key, entry in block.items() if key not in ("toy", "figures")}


def _named(config: Config, section: str, name: str, *, kind: str) -> Any:
    entries = config[section]
    if name not in entries:
        raise SgdlineError(
            f"{section} must have an entry for every name asked for, got {value_words(name)}. "
            + name_hint(name, entries, kind=kind)
        )
    return entries[name]
