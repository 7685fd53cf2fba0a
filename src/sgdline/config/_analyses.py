"""The user's own analyses in a configuration: what they must define, and that a run has what they read."""

from __future__ import annotations

from functools import partial

from sgdline.analysis.kinds.base import OF_THE_RUN, Analysis
from sgdline.analysis.made import analyses_of
from sgdline.config._asked import faults_of, made_soundly
from sgdline.config._draft import Block, entry
from sgdline.declare.build import build
from sgdline.declare.faults import Faults, KeyPath, name_hint, value_words
from sgdline.declare.registry import are_texts, declaration, label, names


def check_analyses(experiment: Block, path: KeyPath, faults: Faults) -> None:
    """Note what is wrong with the analyses that an experiment adds.

    Args:
        experiment: Its resolved block.
        path: Its key path.
        faults: Takes the faults.
    """
    extra, probes = entry(experiment, "analysis", "extra") or {}, experiment.get("probes", {})
    needed = (("analysis", "extra"), ("probes",), ("optimizer",))
    if not extra or "optimizer" not in experiment or any(faults.under((*path, *keys)) for keys in needed):
        return
    declared = {name: _declared(name, options, experiment, path, faults) for name, options in extra.items()}
    if None in declared.values():
        return
    taken = {name.casefold() for name in ("trace", *map(label, probes), *names("analysis"))}
    made = analyses_of(probes, extra, optimizer=experiment["optimizer"])
    for name, analysis in declared.items():
        here = (*path, "analysis", "extra", name)
        if label(name).casefold() in taken:
            faults.add(here, f"must have a name of its own, got another table {label(name)}. Rename the class.")
        taken.add(label(name).casefold())
        existing = {"trace", *map(label, probes), *made} - {label(name)}
        for kind in analysis.reads if analysis is not None and label(name) not in made else ():
            if kind not in existing:
                hint = name_hint(kind, existing, kind="tables")
                faults.add(here, f"must read tables of this experiment, got {kind!r}. {hint}")


def _declared(name: str, options: Block, experiment: Block, path: KeyPath, faults: Faults) -> Analysis | None:
    """Return an analysis of the user's with its options; None, and a fault, if it cannot be asked what it reads."""
    here = (*path, "analysis", "extra", name)
    analysis: Analysis | None = made_soundly(partial(build, declaration("analysis", name), options), name, here, faults)
    if analysis is None:
        return None
    missing = _undefined(type(analysis))
    if missing:
        faults.add(here, f"must define {' and '.join(missing)}, got an analysis without. Define it.")
    for key, what in (("reads", "kinds of tables"), ("uses", "settings of a run")):
        said = getattr(analysis, key)
        if not are_texts(said):
            faults.add(here, f"must declare {key} as a tuple of {what}, got {value_words(said)}. Correct it.")
            return None
    if not analysis.reads:
        faults.add(here, 'must read at least one table, got none. Write for example reads: ClassVar = ("trace",).')
        return None
    known = [*(key for key in experiment["analysis"] if key != "extra"), *OF_THE_RUN]
    for key in analysis.uses:
        if key not in known:
            faults.add(here, f"must use settings of a run, got {key!r}. {name_hint(key, known, kind='settings')}")
    for fault in faults_of(analysis):
        faults.add((*path, *fault.path) if fault.of_experiment else (*here, *fault.path), fault.text)
    own = {label(probe): settings for probe, settings in experiment["probes"].items()}
    asked = made_soundly(lambda: (analysis.tables(own),), name, here, faults, what="answer tables(self, probes)")
    if asked is None:
        return None
    if asked[0] is not None and not are_texts(asked[0]):
        got = f"got {value_words(asked[0])}. Correct {name}."
        faults.add(here, f"must return a tuple of kinds of tables, or None, from tables(self, probes), {got}")
        return None
    return analysis


def _undefined(analysis: type[Analysis]) -> list[str]:
    """Return the methods that an analysis of the user's still needs."""
    missing = [] if analysis.table is not Analysis.table else ["table(self)"]
    if analysis.analyse is Analysis.analyse and analysis.columns is Analysis.columns:
        missing.append("columns(self, tables, settings)")
    return missing
