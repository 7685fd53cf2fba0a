"""Modules of what the configuration names: a rule puts a digest of those that its job runs into its params."""

from __future__ import annotations

from sgdline.declare.registry import code_of
from sgdline.table_modules import table_modules
from sgdline.workflow.layout import RunKey
from sgdline.workflow.runs import Config, experiment_of, probe_named

# The update rule and the schedule of the trainer that measures the sharpness of a start.
START = ("sgdline.train.rules.sgd", "sgdline.train.schedules.constant")


def source_code(config: Config, dataset: str) -> str:
    """Return the module of a data set's source, or its entry."""
    return code_of("source", config["datasets"][dataset]["source"])


def loss_code(config: Config, run: RunKey) -> str:
    """Return the module of the loss that a run minimises, or its entry."""
    return code_of("loss", experiment_of(config, run)["loss"]["name"])


def training_modules(config: Config, run: RunKey) -> tuple[str, ...]:
    """Return the modules, or entries, of what a run is trained with: update rule, schedule and loss."""
    block = experiment_of(config, run)
    return (
        code_of("update_rule", block["optimizer"]["name"]),
        code_of("schedule", block["schedule"]["name"]),
        loss_code(config, run),
    )


def probe_code(config: Config, experiment: str, probe: str) -> str:
    """Return the module of a probe, that of its options, which import what measures; or its entry."""
    return code_of("probe", probe_named(config, experiment, probe))


def trial_module(probe: str) -> str:
    """Return the module that says what plans of a probe are tried on."""
    return f"sgdline.probes.{probe}.trial"


def table_modules_of(kind: str) -> list[str]:
    """Return the module of a kind of table; none for a kind of the user's, which the table itself tells."""
    return [f"sgdline.{table_modules()[kind]}"] if kind in table_modules() else []
