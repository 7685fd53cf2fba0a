"""Which analyses are made of a run (no torch, no numpy, no pyarrow)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from sgdline.analysis.kinds.base import Analysis, Probes
from sgdline.declare.build import build, build_thing
from sgdline.declare.registry import declaration, label, names
from sgdline.train.rules.base import UpdateRule


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


def analyses_of(
    probes: Probes, extra: Mapping[str, Mapping[str, Any]], *, optimizer: Mapping[str, Any]
) -> dict[str, Analysed]:
    """Return the analyses of a run by the kinds of their tables: each after those whose tables it reads.

    Args:
        probes: Settings of the run's probes by name or entry.
        extra: Options of the user's own analyses by entry.
        optimizer: The block of the update rule.

    Raises:
        EntryError: If an analysis of the user's can no longer be imported.
    """
    probes = {label(name): settings for name, settings in probes.items()}
    waiting: dict[str, Mapping[str, Any]] = {**{name: {} for name in names("analysis")}, **extra}
    rule: UpdateRule = build_thing("update_rule", optimizer, tag="name")
    covered = rule.stationary_theory() is not None
    existing, found = {"trace", *probes}, dict[str, Analysed]()
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


def read_at_any_hand(kinds: Iterable[str], made: Mapping[str, Analysed]) -> set[str]:
    """Return kinds of tables and all that they are made from.

    Args:
        kinds: Kinds of tables.
        made: The analyses of the run, by the kinds of their tables.
    """
    found, waiting = set[str](), list(kinds)
    while waiting:
        kind = waiting.pop()
        if kind not in found:
            found.add(kind)
            waiting += made[kind].reads if kind in made else ()
    return found
