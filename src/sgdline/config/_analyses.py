"""Rules for the user's own analyses of a configuration that no schema can state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from sgdline.analysis.kinds.base import OF_THE_RUN, Analysis
from sgdline.analysis.made import analyses_of
from sgdline.config._asked import faults_of
from sgdline.declare.build import build
from sgdline.declare.faults import Faults, KeyPath, name_hint
from sgdline.declare.registry import declaration, label, names

Block = Mapping[str, Any]


def check_analyses(experiment: Block, path: KeyPath, faults: Faults) -> None:
    """Note what is wrong with the analyses that an experiment adds.

    Args:
        experiment: Its resolved block.
        path: Its key path.
        faults: Takes the faults.
    """
    extra, probes = experiment.get("analysis", {}).get("extra", {}), experiment.get("probes", {})
    if (
        not extra
        or "optimizer" not in experiment
        or faults.under((*path, "analysis", "extra"))
        or faults.under((*path, "probes"))
    ):
        return
    known = [*(key for key in experiment["analysis"] if key != "extra"), *OF_THE_RUN]
    taken = {"trace", *map(label, probes), *names("analysis")}
    made = analyses_of(probes, extra, optimizer=experiment["optimizer"])
    for entry, options in extra.items():
        here = (*path, "analysis", "extra", entry)
        declared = cast(Analysis, build(declaration("analysis", entry), options))
        missing = _undefined(type(declared))
        if missing:
            faults.add(here, f"must define {' and '.join(missing)}, got an analysis without. Define it.")
        if label(entry) in taken:
            faults.add(here, f"must have a name of its own, got another table {label(entry)}. Rename the class.")
        taken.add(label(entry))
        for key in declared.uses:
            if key not in known:
                faults.add(here, f"must use settings of a run, got {key!r}. {name_hint(key, known, kind='settings')}")
        existing = {"trace", *map(label, probes), *made} - {label(entry)}
        for kind in declared.reads if label(entry) not in made else ():
            if kind not in existing:
                hint = name_hint(kind, existing, kind="tables")
                faults.add(here, f"must read tables of this experiment, got {kind!r}. {hint}")
        for fault in faults_of(declared):
            faults.add((*path, *fault.path) if fault.of_experiment else (*here, *fault.path), fault.text)


def _undefined(analysis: type[Analysis]) -> list[str]:
    """Return the methods that an analysis of the user's still needs."""
    missing = [] if analysis.table is not Analysis.table else ["table(self)"]
    if analysis.analyse is Analysis.analyse and analysis.columns is Analysis.columns:
        missing.append("columns(self, tables, settings)")
    return missing
