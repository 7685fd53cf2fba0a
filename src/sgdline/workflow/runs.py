"""Runs of a checked configuration: which there are, how they hang together, and what their experiments say."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any, cast

from sgdline.declare.build import build_thing
from sgdline.declare.faults import name_hint, value_words
from sgdline.declare.registry import declaration, label
from sgdline.declare.schema import shared_fields
from sgdline.errors import SgdlineError
from sgdline.probes.base import PlannedOptions, ProbeOptions
from sgdline.train.rules.base import UpdateRule
from sgdline.workflow.layout import RunKey, format_lr

Config = Mapping[str, Any]


def runs(config: Config) -> list[RunKey]:
    """Return the runs of all experiments named by `run`, in the order of the configuration."""
    return runs_of(config, config["run"])


def runs_of(config: Config, names: Iterable[str]) -> list[RunKey]:
    """Return the runs of these experiments, in this order; names of toys are passed over."""
    keys = []
    for name in names:
        if name not in config["experiments"]:
            continue
        experiment = config["experiments"][name]
        keys += [
            RunKey(experiment=name, model=model, lr=format_lr(lr), batch_size=batch_size, seed=seed)
            for model in experiment["models"]
            for lr in experiment["lr"]
            for batch_size in experiment["batch_size"]
            for seed in experiment["seed"]
        ]
    return keys


def every_run(config: Config) -> list[RunKey]:
    """Return the runs of all experiments, whether `run` names them or not: runs may continue others."""
    return runs_of(config, config["experiments"])


def toys(config: Config) -> list[str]:
    """Return the names of the toys that `run` names, in its order."""
    return [name for name in config["run"] if name in config["toys"]]


def experiment_of(config: Config, run: RunKey) -> Mapping[str, Any]:
    """Return the block of a run's experiment.

    Raises:
        SgdlineError: If the configuration has no such experiment.
    """
    block: Mapping[str, Any] = named(config, "experiments", run.experiment, kind="experiments")
    return block


def rule_of(config: Config, run: RunKey) -> UpdateRule:
    """Return the declaration of the update rule that a run is trained with.

    Raises:
        SgdlineError: If the configuration has no such experiment.
    """
    rule: UpdateRule = build_thing("update_rule", experiment_of(config, run)["optimizer"], tag="name")
    return rule


def parent_run(config: Config, run: RunKey) -> RunKey | None:
    """Return the run that a run continues; None if it starts from random parameters.

    Raises:
        SgdlineError: If the configuration has no such experiment.
    """
    start = experiment_of(config, run)["start_from"]
    if start is None:
        return None
    own = run.batch_size if start["batch_size"] is None else start["batch_size"]
    return RunKey(start["experiment"], run.model, format_lr(start["lr"]), own, run.seed)


def starting_point(config: Config, run: RunKey) -> dict[str, Any] | None:
    """Return the block `start_from` of a run with the update at which it starts; None for random parameters."""
    start = experiment_of(config, run)["start_from"]
    if start is None:
        return None
    last = config["experiments"][start["experiment"]]["steps"]
    return {**start, "step": last if start["step"] is None else start["step"]}


def run_labels(config: Config, run: RunKey) -> dict[str, Any]:
    """Return what names a run in tables and figures."""
    return {"dataset": experiment_of(config, run)["dataset"], **asdict(run)}


def measures(config: Config, run: RunKey, *probes: str) -> bool:
    """Return whether the experiment of a run has all of these probes."""
    return set(probes) <= set(experiment_of(config, run)["probes"])


def probe_segments(config: Config, experiment: str, probe: str) -> int:
    """Return in how many jobs a probe measures a run: one per segment of the experiment, or one for all.

    Raises:
        SgdlineError: If the configuration has no such experiment.
    """
    segments: int = named(config, "experiments", experiment, kind="experiments")["segments"]
    return 1 if probe_options(probe_named(config, experiment, probe)).sequential else segments


def probe_named(config: Config, experiment: str, probe: str) -> str:
    """Return the name, or the entry, of a probe that an experiment measures.

    Args:
        config: A resolved configuration.
        experiment: Name of the experiment.
        probe: What the probe is called in names of files: its name, or that of an entry's declaration.

    Raises:
        SgdlineError: If the configuration has no such experiment, or the experiment no such probe.
    """
    block = named(config, "experiments", experiment, kind="experiments")
    called = {"probes": {label(name): name for name in block["probes"]}}
    found: str = named(called, "probes", label(probe), kind=f"probes in {experiment}")
    return found


def probe_options(probe: str) -> type[ProbeOptions]:
    """Return the declaration of a probe's name or entry."""
    return cast(type[ProbeOptions], declaration("probe", probe))


def planned_by(config: Config, experiment: str, probe: str) -> str | None:
    """Return the probe whose plan says how a probe makes its forward passes; None if it goes without one.

    A probe that shares the options of another one goes by its plan.

    Raises:
        SgdlineError: If the configuration has no such experiment, or the experiment no such probe.
    """
    asked = probe_named(config, experiment, probe)
    shared = shared_fields(probe_options(asked))
    return next((label(name) for name in (asked, *shared) if issubclass(probe_options(name), PlannedOptions)), None)


def probe_block(config: Config, experiment: str, probe: str) -> dict[str, Any]:
    """Return all settings of a probe, with those that it shares with other probes below their names.

    Raises:
        SgdlineError: If the configuration has no such experiment, or the experiment no such probe.
    """
    asked = probe_named(config, experiment, probe)
    probes = config["experiments"][experiment]

    def block_of(name: str) -> dict[str, Any]:
        return copy.deepcopy(dict(named(probes, "probes", name, kind=f"probes in {experiment}")))

    block = block_of(asked)
    for other, mark in shared_fields(probe_options(asked)).items():
        block[other] = {key: entry for key, entry in block_of(other).items() if key not in mark.without}
    return block


def named(config: Config, section: str, name: str, *, kind: str) -> Any:
    """Return an entry of a section.

    Args:
        config: A configuration, or one of its blocks.
        section: Key of the section.
        name: Of the entry.
        kind: What its entries are, for the message.

    Raises:
        SgdlineError: If there is no such entry; the message names the nearest one.
    """
    entries = config[section]
    if name not in entries:
        raise SgdlineError(
            f"{section} must have an entry for every name asked for, got {value_words(name)}. "
            + name_hint(name, entries, kind=kind)
        )
    return entries[name]
