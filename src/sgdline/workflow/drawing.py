"""Figures: which tables they read, and the settings that they are drawn with."""

from __future__ import annotations

import copy
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from sgdline.declare.registry import label
from sgdline.declare.schema import shared_fields
from sgdline.workflow.layout import RunKey
from sgdline.workflow.runs import (
    Config,
    experiment_of,
    probe_block,
    probe_named,
    probe_options,
    rule_of,
    run_labels,
    runs,
    runs_of,
    starting_point,
    toys,
)
from sgdline.workflow.slices import measurement
from sgdline.workflow.tables import kinds_made

if TYPE_CHECKING:
    from sgdline.figures.spec import FigureSpec


def kinds_drawn(config: Config, run: RunKey, spec: FigureSpec) -> list[str]:
    """Return the kinds of tables that a figure reads of a run; optional ones where its experiment measures them."""
    made = kinds_made(config, run.experiment) if spec.optional_tables else ()
    return [*spec.tables, *(kind for kind in spec.optional_tables if kind in made)]


def figure_settings(config: Config, run: RunKey, spec: FigureSpec) -> dict[str, Any]:
    """Return the labels and settings of a run that a figure is drawn with."""
    block = experiment_of(config, run)
    rule = rule_of(config, run)
    measured = set(map(label, block["probes"]))
    theory = rule.stationary_theory()
    return {
        **run_labels(config, run),
        "steps": block["steps"],
        "lr_unit": block["lr_unit"],
        **{key: copy.deepcopy(block[key]) for key in ("optimizer", "schedule", "label_noise")},
        "lr_is_length": rule.lr_is_length,
        "theory": None if theory is None else asdict(theory),
        "start_from": starting_point(config, run),
        "analysis": {key: block["analysis"][key] for key in spec.analysis},
        "probes": {
            probe: _measured_as(config, run, probe)
            for probe in spec.probes
            if probe in measured  # lines of every update are used instead of interp
        },
    }


def _measured_as(config: Config, run: RunKey, probe: str) -> dict[str, Any]:
    """Return how a probe measures a run, what it shares with other probes included."""
    block = measurement(probe_block(config, run.experiment, probe))
    declared = probe_options(probe_named(config, run.experiment, probe))
    shared = [block.pop(name) for name in shared_fields(declared)]
    return {key: entry for part in (*shared, block) for key, entry in part.items()}


def compared_runs(config: Config, comparison: str) -> list[RunKey]:
    """Return the runs of a comparison, in the order of its experiments."""
    return runs_of(config, config["comparisons"][comparison]["experiments"])


def pictures(config: Config) -> list[tuple[str, RunKey | str]]:
    """Return all figures that the configuration asks for, each with the run, the comparison or the toy that it shows.

    Comparisons of experiments that do not run are left out.
    """
    found: list[tuple[str, RunKey | str]] = [
        (figure, run) for run in runs(config) for figure in experiment_of(config, run)["figures"]
    ]
    found += [
        (block["figure"], name)
        for name, block in config["comparisons"].items()
        if set(block["experiments"]) <= set(config["run"])
    ]
    return found + [(figure, toy) for toy in toys(config) for figure in config["toys"][toy]["figures"]]
