"""Names of things that declare themselves."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path


class Declared:
    """Base of all declarations that the configuration calls by name; each kind has a base of its own."""


@dataclass(frozen=True)
class KindOfThing:
    """Where the declarations of one kind are found: each in its folder of a package, in options.py."""

    package: str  # below sgdline; its module base holds the class that all derive from
    base: str  # that class


KINDS = {"probe": KindOfThing("probes", "ProbeOptions"), "toy": KindOfThing("toys", "ToyOptions")}
_ROOT = Path(__file__).parents[1]


@cache
def names(kind: str) -> tuple[str, ...]:
    """Return the names of the package's own things of a kind, sorted."""
    folder = _ROOT / KINDS[kind].package
    return tuple(sorted(file.parent.name for file in folder.glob("[!_]*/options.py")))


@cache
def declaration(kind: str, name: str) -> type[Declared]:
    """Return the declaration of a name.

    Args:
        kind: One of `KINDS`.
        name: One of `names(kind)`.

    Raises:
        KeyError: If there is no such name.
        TypeError: If its module does not declare exactly one thing of the kind.
    """
    if name not in names(kind):
        raise KeyError(f"{kind} must be one of {', '.join(names(kind))}, got {name!r}")
    module = import_module(f"sgdline.{KINDS[kind].package}.{name}.options")
    base = _base(kind)
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, base) and value.__module__ == module.__name__
    ]
    if len(found) != 1:
        raise TypeError(f"{module.__name__} must declare one dataclass of {base.__name__}, got {len(found)}.")
    return found[0]


def _base(kind: str) -> type[Declared]:
    base: type[Declared] = getattr(import_module(f"sgdline.{KINDS[kind].package}.base"), KINDS[kind].base)
    return base
