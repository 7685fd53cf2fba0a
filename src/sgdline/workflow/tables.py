"""Tables of runs: what probes and analyses make of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from sgdline.analysis.kinds.base import Analysis
from sgdline.declare.build import build, build_thing
from sgdline.declare.registry import declaration, label, names
from sgdline.train.rules.base import UpdateRule
from sgdline.workflow.runs import Config, named


@dataclass(frozen=True)
class Analysed:
    """An analysis of the runs of an experiment.

    Attributes:
        name: Name or entry of its declaration.
        reads: Kinds of the tables that it reads.
        uses: Settings of the run that it uses.
        options: Its own options.
    """

    name: str
    reads: tuple[str, ...]
    uses: tuple[str, ...]
    options: Mapping[str, Any]


def analyses(config: Config, experiment: str) -> dict[str, Analysed]:
    """Return the analyses of an experiment's runs by the kinds of their tables: each after those whose tables it reads.

    Raises:
        SgdlineError: If the configuration has no such experiment.
        EntryError: If an analysis of the user's can no longer be imported.
    """
    block = named(config, "experiments", experiment, kind="experiments")
    probes = {label(name): settings for name, settings in block["probes"].items()}
    waiting: dict[str, Mapping[str, Any]] = {**{name: {} for name in names("analysis")}, **block["analysis"]["extra"]}
    existing, found = {"trace", *probes}, dict[str, Analysed]()
    rule: UpdateRule = build_thing("update_rule", block["optimizer"], tag="name")
    covered = rule.stationary_theory() is not None
    while True:
        made = {}
        for name, options in waiting.items():
            declared = cast(Analysis, build(declaration("analysis", name), options))
            reads = declared.tables(probes) if covered or not declared.needs_stationary_theory else None
            if reads is not None and existing.issuperset(reads):
                made[label(name)] = Analysed(name, reads, declared.uses, options)
        if not made:
            return found
        found |= made
        existing |= set(made)
        waiting = {name: options for name, options in waiting.items() if label(name) not in made}


def kinds_made(config: Config, experiment: str) -> list[str]:
    """Return the kinds of tables of an experiment's runs beside the trace: of its probes, then of its analyses."""
    block = named(config, "experiments", experiment, kind="experiments")
    return [*map(label, block["probes"]), *analyses(config, experiment)]
