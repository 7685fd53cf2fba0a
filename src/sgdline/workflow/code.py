"""Modules of what the configuration names: a rule puts a digest of those that its job runs into its params."""

from __future__ import annotations

from sgdline.declare.registry import code_of
from sgdline.workflow.layout import RunKey
from sgdline.workflow.runs import Config, experiment_of

# The update rule and the schedule of the trainer that measures the sharpness of a start.
START = ("sgdline.train.rules.sgd", "sgdline.train.schedules.constant")


def training_modules(config: Config, run: RunKey) -> tuple[str, str]:
    """Return the modules, or entries, of the update rule and of the schedule that a run is trained with."""
    block = experiment_of(config, run)
    return code_of("update_rule", block["optimizer"]["name"]), code_of("schedule", block["schedule"]["name"])


def probe_module(probe: str) -> str:
    """Return the module of a probe."""
    return f"sgdline.probes.{probe}.probe"


def table_module(kind: str) -> str:
    """Return the module of a kind of table."""
    return f"sgdline.tables.kinds.{kind}"


def toy_module(config: Config, toy: str) -> str:
    """Return the module of a toy's kind."""
    return f"sgdline.toys.{config['toys'][toy]['toy']}.simulate"


def figure_module(figure: str) -> str:
    """Return the module of a figure, "paper/figure"."""
    return f"sgdline.figures.{figure.replace('/', '.')}"
