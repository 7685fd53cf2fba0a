"""Which values the wildcards of rules may take, as regular expressions."""

from __future__ import annotations

import re
from collections.abc import Iterable

from sgdline.declare.registry import label, names
from sgdline.workflow.layout import OWN_CLAIMS, format_lr
from sgdline.workflow.runs import Config


def one_of(names: Iterable[str]) -> str:
    """Return a regular expression that matches exactly these names."""
    # An empty expression would match an empty name.
    return "|".join(map(re.escape, sorted(set(names)))) or "(?!)"


def wildcard_constraints(config: Config) -> dict[str, str]:
    """Return the constraints of all rules, by wildcard."""
    experiments = config["experiments"]
    return {
        "dataset": one_of(config["datasets"]),
        "experiment": one_of(experiments),
        "model": one_of(config["models"]),
        "lr": one_of(format_lr(lr) for block in experiments.values() for lr in block["lr"]),
        "batch_size": r"\d+",
        "seed": r"\d+",
        "segment": r"\d+",
        "probe": one_of(label(probe) for block in experiments.values() for probe in block["probes"]),
        "judged": r"[a-z0-9_]+|" + f"{OWN_CLAIMS}/" + r"\w+",
        "analysis": one_of(_analyses(config)),
        "comparison": one_of(config["comparisons"]),
        "toy": one_of(config["toys"]),
        "start": r"[^/]+/[^/]+/[^/]+",
        "subject": "[^/]+",
    }


def _analyses(config: Config) -> list[str]:
    own = [label(name) for block in config["experiments"].values() for name in block["analysis"]["extra"]]
    return [*names("analysis"), *own]


def experiments_with(config: Config, *, imported_lines: bool, several_segments: bool | None = None) -> str:
    """Return a regular expression of the experiments whose lines are imported, or of the others.

    Args:
        config: A resolved configuration.
        imported_lines: Whether the lines are imported.
        several_segments: Whether there is more than one segment; None for either.
    """
    return one_of(
        name
        for name, block in config["experiments"].items()
        if (block["import_lines"] is not None) == imported_lines and several_segments in (None, block["segments"] > 1)
    )
