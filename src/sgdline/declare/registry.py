"""Names of things that declare themselves, and entries `folder/file.py:Name` of a user's own."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import ClassVar


class Declared:
    """Base of all declarations that a name of the configuration stands for; each kind has a base of its own."""

    name: ClassVar[str]  # given by the registry: the name of the module or folder


@dataclass(frozen=True)
class KindOfThing:
    """Where the declarations of one kind are found."""

    title: str  # in messages
    base: str  # package.module:class that they derive from
    package: str  # holds a module, or a folder with options.py, for each of them


KINDS = {
    "probe": KindOfThing("probes", "sgdline.probes.base:ProbeOptions", "sgdline.probes"),
    "toy": KindOfThing("toys", "sgdline.toys.base:ToyOptions", "sgdline.toys"),
}
_ROOT = Path(__file__).parents[1]


@cache
def names(kind: str) -> tuple[str, ...]:
    """Return the names of the package's own things of a kind, sorted."""
    return tuple(sorted(_modules(kind)))


@cache
def declaration(kind: str, name: str) -> type[Declared]:
    """Return the declaration that a name stands for.

    Args:
        kind: One of `KINDS`.
        name: One of `names(kind)`.

    Raises:
        KeyError: If there is no such name.
        TypeError: If its module does not declare exactly one thing of the kind.
    """
    modules = _modules(kind)
    if name not in modules:
        raise KeyError(f"{kind} must be one of {', '.join(sorted(modules))}, got {name!r}")
    module = import_module(modules[name])
    base = _base(kind)
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, base) and value.__module__ == module.__name__
    ]
    if len(found) != 1:
        raise TypeError(f"{module.__name__} must declare one dataclass of {base.__name__}, got {len(found)}.")
    found[0].name = name
    return found[0]


def _base(kind: str) -> type[Declared]:
    module, _, name = KINDS[kind].base.partition(":")
    base: type[Declared] = getattr(import_module(module), name)
    return base


@cache
def _modules(kind: str) -> dict[str, str]:
    package = KINDS[kind].package
    folder = _ROOT.joinpath(*package.split(".")[1:])
    return {file.parent.name: f"{package}.{file.parent.name}.options" for file in folder.glob("[!_]*/options.py")}
