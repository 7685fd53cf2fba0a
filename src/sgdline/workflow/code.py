"""Modules of what the configuration names: a rule puts a digest of those that its job runs into its params."""

from __future__ import annotations

from sgdline.declare import registry
from sgdline.table_modules import table_modules
from sgdline.workflow.layout import RunKey
from sgdline.workflow.runs import Config, experiment_of


def source_code(config: Config, dataset: str) -> str:
    """Return the module of a data set's source, or its entry."""
    return registry.code_of("source", config["datasets"][dataset]["source"])


def update_rule_module(config: Config, run: RunKey) -> str:
    """Return the module of the update rule that a run is trained with."""
    return f"sgdline.train.update_rules.{experiment_of(config, run)['optimizer']['name']}"


def probe_module(probe: str) -> str:
    """Return the module of a probe: its options, which import what measures."""
    return f"sgdline.probes.{probe}.options"


def trial_module(probe: str) -> str:
    """Return the module that says what plans of a probe are tried on."""
    return f"sgdline.probes.{probe}.trial"


def table_module(kind: str) -> str:
    """Return the module of a kind of table."""
    return table_modules()[kind]


def figure_module(figure: str) -> str:
    """Return the module of a figure, "paper/figure"."""
    return f"sgdline.figures.{figure.replace('/', '.')}"
