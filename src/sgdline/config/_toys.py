"""Toys of a configuration: their declarations are asked, and their figures must draw them."""

from __future__ import annotations

from functools import partial

from sgdline.config._asked import faults_of, made_soundly
from sgdline.config._draft import Draft
from sgdline.config._figures import check_figures_of_toy
from sgdline.declare.build import build_thing
from sgdline.declare.faults import KeyPath
from sgdline.toys.base import ToyOptions


def check_toys(draft: Draft) -> None:
    """Note what is wrong with figures and settings of toys."""
    for name, block in draft.blocks("toys").items():
        path: KeyPath = ("toys", name)
        if not draft.faults.under(path):
            make = partial(build_thing, "toy", block, tag="toy")
            options = made_soundly(make, block["toy"], (*path, "toy"), draft.faults)
            if options is None:
                continue
            for method in _undefined(type(options)):
                draft.faults.add((*path, "toy"), f"must name a toy that defines {method}(self), got none. Define it.")
            for fault in faults_of(options):
                draft.faults.add((*path, *fault.path), fault.text)
        check_figures_of_toy(draft, name, block["toy"])


def _undefined(toy: type) -> list[str]:
    """Return the methods that a toy of the user's still needs."""
    # Those of this package have a module with their table.
    methods = ["simulate"] if toy.__module__.startswith("sgdline.") else ["simulate", "table"]
    return [method for method in methods if getattr(toy, method) is getattr(ToyOptions, method)]
