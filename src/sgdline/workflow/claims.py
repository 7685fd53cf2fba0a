"""Claims of papers: on which runs they are tested, and what they have to know of a run beside its tables."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from sgdline.config import training_images
from sgdline.declare.registry import declaration, label
from sgdline.papers.asked import asked
from sgdline.workflow.layout import RunKey
from sgdline.workflow.runs import Config, experiment_of, runs, runs_of, starting_point, toys
from sgdline.workflow.slices import toy_slice

# Papers whose claims are tested, by rules judge_<paper>, and the facts that their claims need of a run.
JUDGED: Mapping[str, tuple[str, ...]] = {
    "linesearch": (),
    "walk": ("lr_unit", "optimizer", "whole_batches", "continued"),
    "curious": ("dataset", "lr_unit", "steps", "optimizer", "schedule", "start_from"),
    "sparse": ("dataset", "lr_unit", "steps", "optimizer", "schedule", "label_noise"),
}


def _entry(key: str) -> Callable[[Config, RunKey], Any]:
    return lambda config, run: experiment_of(config, run)[key]


_FACTS: Mapping[str, Callable[[Config, RunKey], Any]] = {
    "dataset": _entry("dataset"),
    "lr_unit": _entry("lr_unit"),
    "steps": _entry("steps"),
    "optimizer": _entry("optimizer"),
    "schedule": _entry("schedule"),
    "label_noise": _entry("label_noise"),
    "start_from": starting_point,
    "continued": lambda config, run: starting_point(config, run) is not None,
    "whole_batches": lambda config, run: run.batch_size == training_images(config, run.experiment),
}


def run_facts(config: Config, run: RunKey, paper: str) -> dict[str, Any]:
    """Return what the claims of a paper have to know of a run beside its tables: its key, and what `JUDGED` names."""
    return asdict(run) | {"lr": float(run.lr)} | {name: _FACTS[name](config, run) for name in JUDGED[paper]}


def paper_runs(config: Config, paper: str) -> list[RunKey]:
    """Return the runs of the experiments that figures of a paper draw, alone or compared."""
    drawn = {name: list(block["figures"]) for name, block in config["experiments"].items()}
    for block in config["comparisons"].values():
        for name in block["experiments"]:
            drawn[name].append(block["figure"])
    of_paper = {name for name, figures in drawn.items() if any(asked(figure).is_of == paper for figure in figures)}
    return [run for run in runs(config) if run.experiment in of_paper]


def own_claims(config: Config) -> dict[str, str]:
    """Return the claims about experiments that run, by what they are called."""
    running = set(config["run"])
    return {label(name): name for name, block in config["claims"].items() if set(block["experiments"]) <= running}


def tables_read(name: str) -> tuple[str, ...]:
    """Return the kinds of tables that a claim of the configuration reads of every run."""
    claim: Any = declaration("claim", name)
    kinds: tuple[str, ...] = claim.reads
    return kinds


def claimed_runs(config: Config, name: str) -> list[RunKey]:
    """Return the runs that a claim of the configuration is about."""
    return runs_of(config, config["claims"][name]["experiments"])


def places(chosen: Collection[RunKey], among: Sequence[RunKey]) -> list[int]:
    """Return the indices of the chosen runs among others."""
    known = set(chosen)
    return [index for index, run in enumerate(among) if run in known]


def toys_of(config: Config, *kinds: str) -> list[str]:
    """Return the names of the toys of these kinds."""
    return [toy for toy in toys(config) if config["toys"][toy]["toy"] in kinds]


def toy_facts(config: Config, toy: str) -> dict[str, Any]:
    """Return what claims have to know of a toy beside its table."""
    return {"name": toy, "toy": config["toys"][toy]["toy"], "settings": toy_slice(config, toy)}
