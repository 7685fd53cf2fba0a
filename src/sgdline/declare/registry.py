"""Names of things that declare themselves, and entries, which work wherever a name does.

A declaration is a frozen dataclass of options that makes the thing which it declares. The package's own things have
names, by the files that they are in; a thing of the user's is named by an entry, `folder/file.py:Name` or
`package.module:Name`, Name being that of its declaration.
"""

from __future__ import annotations

from dataclasses import dataclass, is_dataclass
from functools import cache
from importlib import import_module
from inspect import get_annotations
from pathlib import Path
from typing import Any, TypeGuard

from sgdline.entries import EntryError, keep_importable, named_by, working_directory_importable


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
    "loss": KindOfThing("loss", "losses", "Loss"),
    "claim": KindOfThing("claim", "claims", "ClaimOptions"),
    "source": KindOfThing("source", "data.sources", "Source"),
    "update_rule": KindOfThing("update rule", "train.rules", "UpdateRule"),
    "schedule": KindOfThing("schedule", "train.schedules", "Schedule"),
    "analysis": KindOfThing("analysis of runs", "analysis.kinds", "Analysis"),
    "figure": KindOfThing("figure", "figures", "Figure"),
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


def are_texts(said: object) -> bool:
    """Return whether a declaration says something, such as the kinds of tables that it reads, as a tuple of texts."""
    return isinstance(said, tuple) and all(isinstance(text, str) for text in said)


def label(name: str) -> str:
    """Return what a thing is called in the names of files and tables: its name, or that of an entry's declaration."""
    return name.rpartition(":")[2]


def name_of(declaration: type[Declared]) -> str:
    """Return what a declared thing is called: the name that the configuration uses, or `label` of its entry."""
    root, _, module = declaration.__module__.partition(".")
    if root != "sgdline":
        return declaration.__name__
    return next((name for kind in KINDS for name in names(kind) if module == _path(kind, name)), declaration.__name__)


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
    parent = base(kind)
    if is_entry(name):
        return declared_at(name, parent, words=KINDS[kind].words)
    if name not in names(kind):
        raise KeyError(f"{kind} must be one of {', '.join(names(kind))}, got {name!r}")
    module = import_module(f"sgdline.{_path(kind, name)}")
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, parent) and value.__module__ == module.__name__
    ]
    if len(found) != 1:
        raise TypeError(f"{module.__name__} must declare one dataclass of {parent.__name__}, got {len(found)}.")
    return found[0]


def declared_at(entry: str, parent: type[Declared], *, words: str) -> type[Declared]:
    """Return the declaration that an entry names.

    Args:
        entry: Its module is imported.
        parent: The class that all declarations of the kind derive from.
        words: What a message calls a thing of the kind.

    Raises:
        EntryError: If the entry cannot be imported, or names no declaration of this kind.
    """
    subject = f"The {words} {entry!r}"
    if not entry.isprintable():  # no path can be made of it
        raise EntryError("must be a text on one line, without control characters.", subject=f"The {words}")
    with working_directory_importable(entry):
        found: Any = named_by(
            entry,
            subject=subject,
            thing=f"declaration of {_with_article(words)}",
            fits=lambda thing: isinstance(thing, type) and issubclass(thing, parent) and thing is not parent,
        )
    keep_importable(entry)
    declares: bool = isinstance(found, type) and issubclass(found, parent) and is_dataclass(found)
    missing = sorted(getattr(found, "__abstractmethods__", ())) if declares else []
    if missing:
        raise EntryError(
            f"must define {', '.join(missing)}, got no such method. See {parent.__module__}.{parent.__name__}.",
            subject=subject,
        )
    if declares:
        undecorated = [
            part for part in found.__mro__ if get_annotations(part) and "__dataclass_fields__" not in vars(part)
        ]
        if undecorated:
            # It would pass for its base, and its options would be unknown keys.
            raise EntryError(
                f"must name a frozen dataclass, got {undecorated[0].__name__} with options and no decorator. Write "
                "@dataclass(frozen=True, kw_only=True) above it.",
                subject=subject,
            )
        declared: type[Declared] = found
        return declared
    got = found.__name__ if isinstance(found, type) else type(found).__name__
    raise EntryError(
        f"must name a frozen dataclass that derives from {parent.__module__}.{parent.__name__}, got {got}. "
        "docs/extending.md shows one.",
        subject=subject,
    )


def declared_by(entry: str) -> type[Declared]:
    """Return the declaration that an entry names, of whatever kind.

    Raises:
        EntryError: If the entry cannot be imported, or names no declaration.
    """
    subject = f"The entry {entry!r}"
    with working_directory_importable(entry):
        found: Any = named_by(entry, subject=subject, thing="declaration")
    if isinstance(found, type) and issubclass(found, Declared):
        return found
    raise EntryError("must name the declaration of a probe, a toy or the like, got another object.", subject=subject)


def _with_article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _path(kind: str, name: str) -> str:
    """Return the module of a name, below sgdline."""
    place = KINDS[kind]
    return ".".join([place.package, name, *([place.module] if place.module else [])])


def base(kind: str) -> type[Declared]:
    """Return the class that all declarations of a kind derive from."""
    found: type[Declared] = getattr(import_module(f"sgdline.{KINDS[kind].package}.base"), KINDS[kind].base)
    return found
