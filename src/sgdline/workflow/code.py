"""Modules of what the configuration names: a rule puts a digest of those that its job runs into its params."""

from __future__ import annotations

from sgdline.declare import registry
from sgdline.table_modules import table_modules
from sgdline.workflow.layout import RunKey
from sgdline.workflow.runs import Config, experiment_of


def source_code(config: Config, dataset: str) -> str:
    """Return the module of a data set's source, or its entry."""
    return registry.code_of("source", config["datasets"][dataset]["source"])


def training_code(config: Config, run: RunKey) -> list[str]:
    """Return the modules, or entries, of what a run is trained with: its update rule and its loss."""
    block = experiment_of(config, run)
    return [f"sgdline.train.update_rules.{block['optimizer']['name']}", loss_code(config, run)]


def loss_code(config: Config, run: RunKey) -> str:
    """Return the module of the loss that a run minimises, or its entry."""
    return registry.code_of("loss", experiment_of(config, run)["loss"]["name"])


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
