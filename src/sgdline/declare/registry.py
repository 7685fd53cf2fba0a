"""Names of things that declare themselves, and entries, which work wherever a name does.

A declaration is a frozen dataclass of options that makes the thing which it declares. The package's own things have
names, by the files that they are in; a thing of the user's is named by an entry, `folder/file.py:Name` or
`package.module:Name`, Name being that of its declaration.
"""

from __future__ import annotations

from dataclasses import dataclass, is_dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, TypeGuard

from sgdline.entries import EntryError, named_by, working_directory_importable


class Declared:
    """Base of all declarations that the configuration calls by name; each kind has a base of its own."""


@dataclass(frozen=True)
class KindOfThing:
    """Where the declarations of one kind are found.

    Attributes:
        words: What a message calls a thing of this kind.
        package: Package below sgdline that holds them, each in a module or folder that has its name.
        base: The class that all derive from, in the package's module base.
        module: The module of a thing's folder that holds the declaration; empty where a thing is a single module.
    """

    words: str
    package: str
    base: str
    module: str = ""


KINDS = {
    "probe": KindOfThing("probe", "probes", "ProbeOptions", "options"),
    "toy": KindOfThing("toy", "toys", "ToyOptions", "options"),
    "update_rule": KindOfThing("update rule", "train.rules", "UpdateRule"),
    "schedule": KindOfThing("schedule", "train.schedules", "Schedule"),
}
_ROOT = Path(__file__).parents[1]


@cache
def names(kind: str) -> tuple[str, ...]:
    """Return the names of the package's own things of a kind, sorted."""
    place = KINDS[kind]
    folder = _ROOT.joinpath(*place.package.split("."))
    if place.module:
        return tuple(sorted(file.parent.name for file in folder.glob(f"[!_]*/{place.module}.py")))
    return tuple(sorted(file.stem for file in folder.glob("[!_]*.py") if file.stem != "base"))


def is_entry(name: object) -> TypeGuard[str]:
    """Return whether a name is an entry: the place of a declaration, a colon and its name."""
    return isinstance(name, str) and ":" in name


def label(name: str) -> str:
    """Return what a thing is called in the names of files and tables: its name, or that of an entry's declaration."""
    return name.rpartition(":")[2]


def called(thing: Declared) -> str:
    """Return what a message calls a thing: its name, or that of its declaration if it is the user's."""
    parts = type(thing).__module__.split(".")
    if parts[0] != "sgdline":
        return type(thing).__name__
    return parts[-2] if parts[-1] == "options" else parts[-1]


def code_of(kind: str, name: str) -> str:
    """Return what says which code a thing runs: a module of this package, or the entry.

    Args:
        kind: One of `KINDS`.
        name: A name or an entry.
    """
    return name if is_entry(name) else f"sgdline.{_path(kind, name)}"


@cache
def declaration(kind: str, name: str) -> type[Declared]:
    """Return the declaration of a name or an entry.

    Args:
        kind: One of `KINDS`.
        name: One of `names(kind)`, or an entry, whose module is imported.

    Raises:
        KeyError: If there is no such name.
        EntryError: If an entry cannot be imported, or names no declaration of this kind.
        TypeError: If a module of the package does not declare exactly one thing of the kind.
    """
    base = _base(kind)
    if is_entry(name):
        return _named_by_entry(kind, name, base)
    if name not in names(kind):
        raise KeyError(f"{kind} must be one of {', '.join(names(kind))}, got {name!r}")
    module = import_module(f"sgdline.{_path(kind, name)}")
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, base) and value.__module__ == module.__name__
    ]
    if len(found) != 1:
        raise TypeError(f"{module.__name__} must declare one dataclass of {base.__name__}, got {len(found)}.")
    return found[0]


def _named_by_entry(kind: str, entry: str, base: type[Declared]) -> type[Declared]:
    place = KINDS[kind]
    subject = f"The {place.words} {entry!r}"
    article = "an" if place.words[0] in "aeiou" else "a"
    with working_directory_importable(entry):
        found: Any = named_by(entry, subject=subject, thing=f"declaration of {article} {place.words}")
    declares: bool = isinstance(found, type) and issubclass(found, base) and is_dataclass(found)
    missing = sorted(getattr(found, "__abstractmethods__", ())) if declares else []
    if missing:
        raise EntryError(
            f"must define {', '.join(missing)}, got no such method. See {base.__module__}.{base.__name__}.",
            subject=subject,
        )
    if declares:
        declared: type[Declared] = found
        return declared
    got = found.__name__ if isinstance(found, type) else type(found).__name__
    raise EntryError(
        f"must name a frozen dataclass that derives from {base.__module__}.{base.__name__}, got {got}. "
        "docs/extending.md shows one.",
        subject=subject,
    )


def _path(kind: str, name: str) -> str:
    """Return the module of a name, below sgdline."""
    place = KINDS[kind]
    return ".".join([place.package, name, *([place.module] if place.module else [])])


def _base(kind: str) -> type[Declared]:
    base: type[Declared] = getattr(import_module(f"sgdline.{KINDS[kind].package}.base"), KINDS[kind].base)
    return base
