"""Figures: which tables they read, and the settings that they are drawn with."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from sgdline.declare.schema import shared_fields
from sgdline.figures.base import Figure
from sgdline.papers.asked import Asked, asked
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
from sgdline.workflow.slices import measurement, toy_slice
from sgdline.workflow.tables import kinds_made, probes_read


def kinds_drawn(config: Config, run: RunKey, figure: Figure) -> list[str]:
    """Return the kinds of tables that a figure reads of a run; those of `also` where its experiment makes them."""
    made = kinds_made(config, run.experiment) if figure.also else ()
    return [*figure.reads, *(kind for kind in figure.also if kind in made)]


def figure_settings(config: Config, run: RunKey, figure: Figure) -> dict[str, Any]:
    """Return the labels and settings of a run that a figure is drawn with."""
    block = experiment_of(config, run)
    rule = rule_of(config, run)
    theory = rule.stationary_theory()
    return {
        **run_labels(config, run),
        "steps": block["steps"],
        "lr_unit": block["lr_unit"],
        **{key: copy.deepcopy(block[key]) for key in ("optimizer", "schedule", "label_noise")},
        "lr_is_length": rule.lr_is_length,
        "theory": None if theory is None else asdict(theory),
        "start_from": starting_point(config, run),
        "analysis": {key: block["analysis"][key] for key in figure.uses},
        "probes": {
            probe: _measured_as(config, run, probe)
            for probe in probes_read(config, run.experiment, kinds_drawn(config, run, figure))
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


def settings_of(config: Config, subject: RunKey | str, figure: Figure) -> dict[str, Any] | list[dict[str, Any]]:
    """Return the labels and settings that a figure is drawn with: of a run, of each run compared, or of a toy.

    Args:
        config: A resolved configuration.
        subject: A run, or the name of a comparison or a toy.
        figure: What is drawn of it.
    """
    if isinstance(subject, RunKey):
        return figure_settings(config, subject, figure)
    if figure.compares:
        return [figure_settings(config, run, figure) for run in compared_runs(config, subject)]
    return {"toy": subject, **toy_slice(config, subject)}


def pictures(config: Config) -> list[tuple[Asked, RunKey | str]]:
    """Return all figures that the configuration asks for, each with the run, the comparison or the toy that it shows.

    Comparisons of experiments that do not run are left out.
    """
    figures: Mapping[str, list[Asked]] = {
        name: list(map(asked, config["experiments"][name]["figures"])) for name in config["experiments"]
    }
    found: list[tuple[Asked, RunKey | str]] = [
        (figure, run) for run in runs(config) for figure in figures[run.experiment]
    ]
    found += [
        (asked(block["figure"]), name)
        for name, block in config["comparisons"].items()
        if set(block["experiments"]) <= set(config["run"])
    ]
    return found + [(asked(figure), toy) for toy in toys(config) for figure in config["toys"][toy]["figures"]]
