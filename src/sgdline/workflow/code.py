"""Modules of what the configuration names: a rule puts a digest of those that its job runs into its params."""

from __future__ import annotations

from sgdline.table_modules import table_modules
from sgdline.workflow.layout import RunKey
from sgdline.workflow.runs import Config, experiment_of


def update_rule_module(config: Config, run: RunKey) -> str:
    """Return the module of the update rule that a run is trained with."""
    return f"sgdline.train.update_rules.{experiment_of(config, run)['optimizer']['name']}"


def probe_module(probe: str) -> str:
    """Return the module of a probe."""
    return f"sgdline.probes.{probe}.probe"


def table_module(kind: str) -> str:
    """Return the module of a kind of table."""
    return f"sgdline.{table_modules()[kind]}"


def figure_module(figure: str) -> str:
    """Return the module of a figure, "paper/figure"."""
    return f"sgdline.figures.{figure.replace('/', '.')}"
