"""Rules for the toys of a configuration that no schema can state."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from typing import Any

from sgdline.config._asked import faults_of, made_soundly
from sgdline.config._figures import draws, figure_hint
from sgdline.declare.build import build_thing
from sgdline.declare.faults import Faults, Index, KeyPath, value_words
from sgdline.declare.registry import is_entry
from sgdline.figures.spec import FigureSpec
from sgdline.toys.base import ToyOptions

Block = Mapping[str, Any]


def check_toys(
    toys: Block,
    raw: Block,
    faults: Faults,
    *,
    experiments: Collection[str],
    known: Collection[str] | None,
    drawn: Mapping[str, str] | None,
    own: Mapping[str, FigureSpec],
) -> None:
    """Note what is wrong with names, figures and settings of toys.

    Args:
        toys: The resolved section; blocks of an unknown kind are not in it.
        raw: The section as the user wrote it.
        faults: Takes the faults.
        experiments: Names of the experiments: `run` names both.
        known: Ids of the figures that can be drawn; None leaves the ids unchecked.
        drawn: Figure id -> kind of toy that it draws; None leaves unchecked whether a figure draws its toy.
        own: What figures of the user's say about themselves, by their entries; faulty ones are left out.
    """
    folded = {name.casefold(): name for name in experiments}
    for name in raw:
        twin = folded.get(name.casefold()) if isinstance(name, str) else None
        if twin is not None:
            faults.add(
                ("toys", name),
                f"must differ from the names of the experiments, got {name!r} beside experiments.{twin}. Rename one of "
                "them: run names both.",
            )
    for name, block in toys.items():
        path: KeyPath = ("toys", name)
        if not faults.under(path):
            make = partial(build_thing, "toy", block, tag="toy")
            options = made_soundly(make, block["toy"], (*path, "toy"), faults)
            if options is None:
                continue
            for method in _undefined(type(options)):
                faults.add((*path, "toy"), f"must name a toy that defines {method}(self), got none. Define it.")
            for fault in faults_of(options):
                faults.add((*path, *fault.path), fault.text)
        _check_figures(block, raw[name].get("figures"), path, faults, known=known, drawn=drawn)
        for place, figure in enumerate(block.get("figures", ())):
            here = (*path, "figures", Index(place))
            if figure in own and not faults.under(here):
                draws(own[figure], block["toy"], here, faults)


def _undefined(toy: type) -> list[str]:
    """Return the methods that a toy of the user's still needs."""
    # Those of this package have a module with their table.
    methods = ["simulate"] if toy.__module__.startswith("sgdline.") else ["simulate", "table"]
    return [method for method in methods if getattr(toy, method) is getattr(ToyOptions, method)]


def _check_figures(
    block: Block,
    raw_figures: Any,
    path: KeyPath,
    faults: Faults,
    *,
    known: Collection[str] | None,
    drawn: Mapping[str, str] | None,
) -> None:
    if known is None or not isinstance(raw_figures, list | tuple):
        return
    kind = block["toy"]
    own = known if drawn is None else [figure for figure in known if drawn.get(figure) == kind]
    for position, figure in enumerate(raw_figures):
        if isinstance(figure, str) and not is_entry(figure) and figure not in own:
            hint = figure_hint(figure, own, kind=f"figures of the toy {kind}")
            text = f"must be the id of a figure that draws the toy {kind}, got {value_words(figure)}. {hint}"
            # Better than the schema's words about the form of an id.
            faults.add((*path, "figures", Index(position)), text, replace=True)
