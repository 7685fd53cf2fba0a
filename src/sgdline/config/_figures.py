"""Rules for the figures of a configuration that no schema can state."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sgdline.declare.faults import Faults, KeyPath, name_hint
from sgdline.declare.registry import is_entry, label
from sgdline.entries import EntryError
from sgdline.figures.base import figures_named, own_spec
from sgdline.figures.spec import FigureSpec
from sgdline.workflow.tables import kinds_made

Block = Mapping[str, Any]


def own_figures(config: Block, faults: Faults) -> dict[str, FigureSpec]:
    """Return what the figures that a configuration names by entry say, and note those that cannot be drawn.

    Args:
        config: The configuration, checked against its schema.
        faults: Takes the faults.
    """
    found: dict[str, FigureSpec] = {}
    called: dict[str, str] = {}
    for here, figure in figures_named(config):
        if not is_entry(figure) or faults.under(here):
            continue
        try:
            spec = found.get(figure) or own_spec(figure)
        except EntryError as error:
            faults.add(here, error.rule)
            continue
        twin = called.setdefault(label(figure).casefold(), figure)
        if twin != figure:
            rule = f"must be called otherwise than {twin}, got {figure}: their pictures share a folder. Rename one."
            faults.add(here, rule)
            continue
        found[figure] = spec
    return found


def figure_hint(figure: str, known: Iterable[str], *, kind: str) -> str:
    """Return the sentence that helps with an unknown figure.

    Args:
        figure: What the configuration names.
        known: Ids of the figures that fit there.
        kind: What they are.
    """
    if figure.endswith(".py"):
        return f"A figure of your own is named by its file and its class: {figure}:Name."
    return name_hint(figure, known, kind=kind)


def draws(figure: FigureSpec, wanted: str, here: KeyPath, faults: Faults) -> bool:
    """Return whether a figure of the user's draws what its place is for, and note it if not.

    Args:
        figure: A figure named by an entry.
        wanted: What figures draw at this place: `run`, `comparison`, or the name or entry of a toy.
        here: The place.
        faults: Takes the faults.
    """
    if (figure.toy or figure.subject) == wanted:
        return True
    rule, change = {
        "run": ("a figure of a single run", "set neither compares nor toy in it"),
        "comparison": ("a figure that compares runs", "set compares = True in it"),
    }.get(wanted, (f"a figure of the toy {wanted}", f"set toy = {wanted!r} in it"))
    drawn, place = {
        "run": ("a single run", "the figures of an experiment"),
        "comparison": ("several runs", "an entry of comparisons"),
        "toy": (f"the toy {figure.toy}", f"the figures of a toy {figure.toy}"),
    }[figure.subject]
    faults.add(here, f"must be {rule}, got {figure.id}, which draws {drawn}. Move it to {place}, or {change}.")
    return False


def check_tables(
    kinds: Sequence[str], reader: str, experiment: Block, name: str, here: KeyPath, faults: Faults
) -> None:
    """Note a table that a thing of the user's reads and an experiment does not make.

    Args:
        kinds: Kinds of tables that it reads.
        reader: The entry of a figure of runs, or of a claim.
        experiment: The resolved block of the experiment.
        name: Of the experiment.
        here: Where it, or the experiment that it is about, is named.
        faults: Takes the faults.
    """
    if any(faults.under(("experiments", name, key)) for key in ("probes", "analysis", "optimizer")):
        return
    made = ["trace", *kinds_made({"experiments": {name: experiment}}, name)]
    for kind in kinds:
        if kind not in made:
            text = f"must read tables that experiments.{name} makes, got {kind!r} in {reader}."
            hint = name_hint(kind, made, kind="tables of it")
            faults.add(here, f"{text} {hint} Add the probe that measures it, or correct reads.")
