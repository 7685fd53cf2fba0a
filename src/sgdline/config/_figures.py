"""Figures of a configuration: whether they draw what they are named for, and find what they read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import combinations, product
from typing import Any, cast

from sgdline.analysis.kinds.base import Analysis
from sgdline.analysis.made import analyses_of, read_at_any_hand
from sgdline.config._asked import faults_of, made_soundly
from sgdline.config._draft import Block, Draft, entry, sound_entries
from sgdline.config.declarations import AnalysisOptions
from sgdline.declare.faults import (
    Faults,
    Index,
    KeyPath,
    literal_words,
    name_hint,
    nearest,
    path_words,
    value_words,
)
from sgdline.declare.registry import declaration, is_entry, label, names
from sgdline.declare.run_facts import RunFacts
from sgdline.declare.schema import as_json, schema_of
from sgdline.declare.walker import Walker
from sgdline.entries import EntryError
from sgdline.errors import cause_words
from sgdline.figures import base
from sgdline.papers.asked import Asked, Named, asked, figures_named, known
from sgdline.papers.base import figure_ids, papers
from sgdline.probes.base import ProbeOptions
from sgdline.workflow.layout import OWN_FIGURES
from sgdline.workflow.segments import measured_steps


def known_figures(config: Block, faults: Faults) -> dict[KeyPath, Asked]:
    """Return the figures that a configuration names, by place, and note names of none and those that share a folder.

    Args:
        config: The configuration, checked against its schema.
        faults: Takes the faults.
    """
    found: dict[KeyPath, Asked] = {}
    first: dict[object, KeyPath] = {}  # the first figure of a folder, and of it in each block
    tables = _tables_named(config)
    for here, named in figures_named(config):
        if faults.under(here):
            continue
        figure = _figure(named, here, faults, tables)
        if figure is None:
            continue
        folder = figure.folder.casefold()
        block = (here[1], folder)  # comparisons and toys may have names of experiments
        others = [first[key] for key in (block, folder) if key in first]
        twin = next((at for at in others if at[1] == here[1] or _kind(found[at]) != _kind(figure)), None)
        if twin is not None:
            faults.add(*_shared_folder(figure, here, found[twin], twin))
            continue
        first.setdefault(block, here)
        first.setdefault(folder, here)
        found[here] = figure
    return found


def _kind(figure: Asked) -> object:
    return figure.block["name"]


def _tables_named(config: Block) -> list[str]:
    """Return the kinds of tables that there are: those of the package, and of what experiments name of the user's."""
    blocks = [block for block in entry(config, "experiments").values()] if entry(config, "experiments") else []
    own = [entry(block, *keys) or () for block in blocks for keys in (("probes",), ("analysis", "extra"))]
    named = (label(name) for things in own for name in things)
    return list(dict.fromkeys(["trace", *names("probe"), *names("analysis"), *named]))


def _shared_folder(figure: Asked, here: KeyPath, other: Asked, there: KeyPath) -> tuple[KeyPath, str]:
    """Return the key at fault and the words for a figure whose pictures would lie among those of another one."""
    got = f"{figure.named}, whose pictures would lie in the folder of {other.named} at {path_words(there)}"
    if figure.block.get("called"):
        return (*here, "called"), f"must give a folder of its own, got {figure.block['called']}: {got}. Choose another."
    written = f"Write {{name: {figure.named}, called: a_name}}." if len(figure.block) == 1 else "Add called: a_name."
    return here, f"must have a folder of its own, got {got}. {written}"


def _figure(named: Named, here: KeyPath, faults: Faults, tables: Iterable[str]) -> Asked | None:
    """Return the figure of a name; None, and a fault, if there is none or it cannot be drawn."""
    name = named if isinstance(named, str) else named["name"]
    if not is_entry(name) and name not in known():
        return None  # it is said where it is known what the place is for
    try:
        figure = asked(named)
    except EntryError as error:
        faults.add(here, error.rule)
        return None
    if is_entry(name):
        _check_own(name, figure.block, here, faults, tables)
    called = figure.block.get("called")
    if called and not faults.under(here) and called.casefold() in (OWN_FIGURES, *papers(), *names("figure")):
        rule = f"must not be the name of a paper or a kind of figure, nor {OWN_FIGURES}, got {called}."
        faults.add((*here, "called"), f"{rule} Choose another: pictures of others lie in the folder of that name.")
    if not faults.under(here):
        made = made_soundly(lambda: figure.figure, name, here, faults)
        for fault in faults_of(made) if made is not None else ():
            faults.add((*here, *fault.path), fault.text)
    return None if faults.under(here) else figure


def _check_own(name: str, block: Block, here: KeyPath, faults: Faults, tables: Iterable[str]) -> None:
    """Note what is wrong with the declaration of a figure of the user's."""
    declared: Any = declaration("figure", name)
    wrong = base.wrong_with(declared) or _unknown_uses(declared) or _unknown_also(declared, tables)
    needed = [option for option in base.needed_options(declared) if option not in block]
    if not wrong and needed:
        wrong = f"must have its options, got none for {needed[0]}. Write {{name: {name}, {needed[0]}: ...}}."
    if wrong:
        faults.add(here, wrong)
        return
    try:
        schema = schema_of(declared)
        json.dumps(schema)  # defaults too: they go into the params of jobs
    except Exception as error:  # what an annotation of the user's can raise is open
        got = f"{value_words(name)}: {cause_words(error)}"
        faults.add(here, f"must declare options of known types, got {got}. Correct its fields.")
        return
    options = {key: value for key, value in block.items() if key != "name"}
    Walker(schema, faults, own=name).walk(options, schema, here)  # defaults too


def _unknown_also(declared: Any, tables: Iterable[str]) -> str | None:
    known_tables = list(tables)
    # An experiment of another configuration may have the probe or the analysis of the user's: the name of a class.
    unknown = next((kind for kind in declared.also if kind not in known_tables and not kind[:1].isupper()), None)
    if unknown is None:
        return None
    return f"must name tables that exist in also, got {unknown!r}. {name_hint(unknown, known_tables, kind='tables')}"


def _unknown_uses(declared: Any) -> str | None:
    keys = [field.name for field in fields(AnalysisOptions)]
    unknown = next((key for key in declared.uses if key not in keys), None)
    if unknown is None:
        return None
    return f"must use keys of analysis, got {unknown!r}. {name_hint(unknown, keys, kind='keys of analysis')}"


def check_figures_of_runs(draft: Draft, name: str, experiment: Block, run: RunFacts) -> None:
    """Note figures of an experiment that do not draw a run, or not one of its runs.

    Args:
        draft: The configuration.
        name: Of the experiment.
        experiment: Its block.
        run: What is known of it.
    """
    path: KeyPath = ("experiments", name)
    tables = _tables_of(draft, name)
    for here, figure in _drawing(draft, entry(draft.raw, *path, "figures"), (*path, "figures"), "run"):
        if tables is None:
            continue
        missing = tables.missing(figure)
        if missing is not None:
            draft.faults.add(here, tables.words(missing, figure.named))
            continue
        every, where = entry(experiment, "probes", "line", "every"), (*path, "probes", "line", "every")
        lines = None if run.steps is None or every is None else len(measured_steps(run.steps, every))
        if "line" in tables.read_by(figure) and lines is not None and lines < 2 and not draft.faults.under(where):
            rule = f"must leave at least two lines for the figures, got {every} with {run.steps} steps."
            draft.faults.add(where, f"{rule} Lower it, or raise steps.")


def check_comparisons(draft: Draft) -> None:
    """Note comparisons whose figure compares nothing, or reads what an experiment of theirs does not make."""
    for name, block in draft.blocks("comparisons").items():
        path: KeyPath = ("comparisons", name)
        figure = _fitting(draft, entry(draft.raw, *path, "figure"), (*path, "figure"), "comparison")
        if figure is None:
            continue
        for position, experiment in sound_entries(block.get("experiments"), str):
            tables = _tables_of(draft, experiment)
            missing = tables and tables.missing(figure)
            if tables and missing and not draft.faults.under(("experiments", experiment)):
                draft.faults.add((*path, "experiments", position), tables.words(missing, figure.named, compared=True))


def check_figures_of_toy(draft: Draft, name: str, toy: str) -> None:
    """Note figures of a toy that do not draw it.

    Args:
        draft: The configuration.
        name: Of the toy.
        toy: Name or entry of its declaration.
    """
    path: KeyPath = ("toys", name, "figures")
    block = draft.blocks("toys")[name]
    for here, figure in _drawing(draft, entry(draft.raw, *path), path, toy):
        for key, needed in figure.toy_settings.items():
            if key not in block and not draft.faults.under(("toys", name)):
                rule = f"must name options of the toy {toy} in toy_settings, got {key!r} of {figure.named}."
                options = [option for option in block if option not in ("toy", "figures")]
                draft.faults.add(here, f"{rule} {name_hint(key, options, kind='options of it')}")
            if key in block and block[key] != needed:
                rule = f"must be a figure of a toy with {key}: {block[key]}, got {figure.named}, which draws {needed}."
                draft.faults.add(here, f"{rule} Move it to another toy, or change {key}.")


def check_tables(draft: Draft, kinds: Sequence[str], reader: str, experiment: str, here: KeyPath) -> None:
    """Note a table that a claim of the configuration reads and an experiment does not make.

    Args:
        draft: The configuration.
        kinds: Kinds of tables that it reads.
        reader: The entry of the claim.
        experiment: Name of the experiment.
        here: Where the experiment is named.
    """
    tables = _tables_of(draft, experiment)
    for kind in kinds:
        if tables and kind not in tables.made:
            draft.faults.add(here, tables.unknown_words(kind, reader))


@dataclass(frozen=True)
class _Tables:
    """Tables of the runs of an experiment, and what would make others.

    Attributes:
        experiment: Its name.
        probes: Settings of its probes, by name or entry.
        extra: Options of the user's own analyses, by entry.
        optimizer: The block of its update rule.
    """

    experiment: str
    probes: Mapping[str, Mapping[str, Any]]
    extra: Mapping[str, Mapping[str, Any]]
    optimizer: Mapping[str, Any]

    @property
    def made(self) -> list[str]:
        """Kinds of the tables."""
        return self._made(self.probes)

    def _made(self, probes: Mapping[str, Mapping[str, Any]]) -> list[str]:
        return ["trace", *map(label, probes), *analyses_of(probes, self.extra, optimizer=self.optimizer)]

    def missing(self, figure: Asked) -> str | None:
        """Return a kind that a figure reads and the experiment does not make; None if there is none."""
        made = self.made
        return next((kind for kind in figure.figure.reads if kind not in made), None)

    def read_by(self, figure: Asked) -> set[str]:
        """Return the kinds of tables that a figure reads, at first or second hand."""
        return read_at_any_hand(figure.figure.reads, analyses_of(self.probes, self.extra, optimizer=self.optimizer))

    def words(self, kind: str, figure: str, *, compared: bool = False) -> str:
        """Return what is missing for a kind of table, and what to do about it.

        Args:
            kind: One that the experiment does not make.
            figure: Name of the figure that reads it.
            compared: Whether the message is at the experiment in a comparison.
        """
        if kind in names("analysis"):
            analysis = cast("type[Analysis]", declaration("analysis", kind))
            if analysis.needs_stationary_theory and set(analysis.reads) <= set(self.made):
                rule = label(self.optimizer["name"])
                return (
                    f"must be of a run whose optimizer has a theory of its stationary state, got {figure} with {rule}. "
                    "Remove the figure, or use sgd."
                )
        probe = next(self._probes_that_make(kind), None)
        if probe is not None:
            if compared:
                return (
                    f"must measure what the figure draws, got no probes.{probe} in {self.experiment}. Add it there, or "
                    "remove the experiment here."
                )
            return (
                f"must have its probe measured, got no probes.{probe} in this experiment. Add it, or remove the figure "
                f"{figure}."
            )
        option = next(self._options_that_make(kind), None)
        if option is not None:
            key, value = option
            return (
                f"must have what it draws measured, got {figure} with probes.{key}: {literal_words(value)}. Set it to "
                f"{literal_words(not value)}, or remove the figure."
            )
        return self.unknown_words(kind, figure)

    def unknown_words(self, kind: str, reader: str) -> str:
        """Return what to say of a kind of table that no probe makes."""
        rule = f"must read tables that experiments.{self.experiment} makes, got {kind!r} in {reader}."
        hint = name_hint(kind, self.made, kind="tables of it")
        return f"{rule} {hint} Add the probe that measures it, or correct reads."

    def _probes_that_make(self, kind: str) -> Iterator[str]:
        """Yield the probes that, alone or two together, would make a kind of table."""
        absent = {probe: list(_variants(_defaults(probe))) for probe in names("probe") if probe not in self.probes}
        for count in (1, 2):
            for added in combinations(absent, count):
                for settings in product(*(absent[probe] for probe in added)):
                    if kind in self._made({**self.probes, **dict(zip(added, settings, strict=True))}):
                        yield from added

    def _options_that_make(self, kind: str) -> Iterator[tuple[str, bool]]:
        """Yield the options of probes, with their values, that keep a kind of table from being made."""
        for probe, block in self.probes.items():
            for changed in _variants(block):
                if kind in self._made({**self.probes, probe: changed}):
                    yield from ((f"{probe}.{key}", block[key]) for key in block if changed[key] != block[key])


def _variants(block: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the settings of a probe, as they are and with each of its switches the other way."""
    yield block
    for key, value in block.items():
        if isinstance(value, bool):
            yield {**block, key: not value}


def _defaults(probe: str) -> dict[str, Any]:
    declared = cast("type[ProbeOptions]", declaration("probe", probe))
    try:
        settings: dict[str, Any] = as_json(declared(), complete=True)
    except TypeError:  # an option without a default: analyses ask for none of these
        settings = {}
    return settings


def _tables_of(draft: Draft, experiment: str) -> _Tables | None:
    """Return the tables of an experiment; None where what makes them is at fault."""
    block = draft.blocks("experiments").get(experiment)
    keys = ("probes", "analysis", "optimizer")
    if block is None or any(draft.faults.under(("experiments", experiment, key)) for key in keys):
        return None
    if any(key not in block for key in keys):
        return None
    return _Tables(experiment, block["probes"], block["analysis"]["extra"], block["optimizer"])


def _drawing(draft: Draft, named: object, path: KeyPath, wanted: str) -> list[tuple[KeyPath, Asked]]:
    """Return place and figure of those in a list that draw what the list is for, and note the others."""
    figures = named if isinstance(named, list | tuple) else ()
    # One that comes again is one fault.
    places = [(*path, Index(place)) for place, figure in enumerate(figures) if figure not in figures[:place]]
    found = [(here, _fitting(draft, figures[here[-1]], here, wanted)) for here in places]
    return [(here, figure) for here, figure in found if figure is not None]


def _fitting(draft: Draft, named: object, here: KeyPath, wanted: str) -> Asked | None:
    """Return a figure that draws what its place is for; None, and a fault, of another one.

    Args:
        draft: The configuration.
        named: The figure, as the user wrote it.
        here: Its place.
        wanted: `run`, `comparison`, or the name or entry of a toy.
    """
    if isinstance(named, Mapping) and isinstance(named.get("name"), str):
        name = named["name"]
        if name in figure_ids():
            rule = f"must be the name of a kind or an entry, got {name}, an id that has its options. Write it alone, or"
            fault = f"{rule} its kind: {{name: {figure_ids()[name].kind}, ...}}."
            draft.faults.add((*here, "name"), fault, replace=True)
            return None
        if not is_entry(name) and name not in names("figure"):
            alone = " An id is written alone, without options." if "/" in name and not name.endswith(".py") else ""
            draft.faults.add((*here, "name"), _unknown(name, wanted) + alone, replace=True)
            return None
    found, faulty = draft.figures.get(here), draft.faults.under(here)
    if found is not None and _draws(found, wanted):
        return None if faulty else found
    if found is not None:
        if not faulty:
            draft.faults.add(here, _draws_other(found, wanted))
    elif isinstance(named, str) and not is_entry(named) and named not in known():
        # Better than the schema's words about the form of a name.
        draft.faults.add(here, _unknown(named, wanted), replace=True)
    return None


def _draws(figure: Asked, wanted: str) -> bool:
    drawn = figure.figure
    return drawn.subject == wanted if wanted in ("run", "comparison") else drawn.toy == wanted


def _may_draw(name: str, wanted: str) -> bool:
    try:
        return _draws(asked(name), wanted)
    except EntryError:  # of a paper that is being written
        return False


def _unknown(name: str, wanted: str) -> str:
    fitting = [other for other in known() if wanted == "run" or _may_draw(other, wanted)]
    rule, kind = {
        "run": ("the name of a figure", "figures"),
        "comparison": ("the name of a figure that compares runs", "figures that compare runs"),
    }.get(wanted, (f"the name of a figure that draws the toy {wanted}", f"figures of the toy {wanted}"))
    return f"must be {rule}, got {value_words(name)}. {_hint(name, fitting, kind=kind)}"


def _hint(name: str, fitting: Iterable[str], *, kind: str) -> str:
    if name.endswith(".py"):
        return f"A figure of your own is named by its file and its class: {name}:Name."
    fitting, paper = list(fitting), name.partition("/")[0]
    of_paper = [other for other in fitting if "/" in name and other.startswith(f"{paper}/")]
    if of_paper and nearest(name, of_paper) is None:
        starts = {other[: len(name)]: other for other in reversed(of_paper)}  # fig9 for fig9_gd_vgg11
        near = nearest(name, starts)
        return f"Did you mean {starts[near]!r}?" if near else name_hint(name, of_paper, kind=f"figures of {paper}")
    return name_hint(name, of_paper or fitting, kind=kind)


def _draws_other(figure: Asked, wanted: str) -> str:
    name, drawn = figure.named, figure.figure
    rule, change = {
        "run": ("a figure of a single run", "set neither compares nor toy in it"),
        "comparison": ("a figure that compares runs", "set compares = True in it"),
    }.get(wanted, (f"a figure of the toy {wanted}", f"set toy = {wanted!r} in it"))
    what, place = {
        "run": ("draws a single run", "the figures of an experiment"),
        "comparison": (
            "compares runs",
            f"the top level's comparisons: {{a_name: {{figure: {name}, experiments: [...]}}}}",
        ),
        "toy": (
            f"draws the toy {drawn.toy}",
            f"the top level's toys: {{a_name: {{toy: {drawn.toy}, figures: [{name}]}}}}",
        ),
    }[drawn.subject]
    own = f", or {change}" if is_entry(name) else ""
    fitting = [] if wanted in ("run", "comparison") else [other for other in known() if _may_draw(other, wanted)]
    others = f" Figures of that toy: {', '.join(fitting)}." if fitting else ""
    return f"must be {rule}, got {name}, which {what}. Move it to {place}{own}.{others}"
