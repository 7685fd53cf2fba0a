"""Figures: which tables they read, and the settings that they are drawn with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sgdline.workflow.layout import RunKey
from sgdline.workflow.runs import Config, experiment_of, probe_block, run_labels, runs, runs_of, starting_point, toys
from sgdline.workflow.slices import label_noise_in_use, measurement, optimizer_in_use
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
    noise = label_noise_in_use(block)
    return {
        **run_labels(config, run),
        "steps": block["steps"],
        "lr_unit": block["lr_unit"],
        "optimizer": optimizer_in_use(block["optimizer"]),
        "schedule": optimizer_in_use(block["schedule"]),
        "start_from": starting_point(config, run),
        "analysis": {key: block["analysis"][key] for key in spec.analysis},
        "probes": {
            probe: measurement(probe_block(config, run.experiment, probe))
            for probe in spec.probes
            if probe in block["probes"]  # lines of every update are used instead of interp
        },
        **({} if noise is None else {"label_noise": noise}),
    }


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
