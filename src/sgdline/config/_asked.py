"""Ask things what is wrong with them; what the code of the user's raises meanwhile is a fault as well."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sgdline.declare.faults import Faults, KeyPath
from sgdline.declare.registry import is_entry
from sgdline.declare.run_facts import Fault
from sgdline.entries import where_words
from sgdline.errors import cause_words


def made_soundly(
    make: Callable[[], Any], name: str, path: KeyPath, faults: Faults, *, what: str = "take its options"
) -> Any:
    """Return a declaration filled with its options; None, and a fault, if that of the user's raises.

    Args:
        make: Fills it.
        name: Its name or entry.
        path: The key that names it.
        faults: Takes the fault.
        what: What it does there, in words.
    """
    try:
        return make()
    except Exception as error:
        if not is_entry(name):
            raise
        got = f"{cause_words(error)}{where_words(error)}"
        faults.add(path, f"must {what} without an error, got {got}. Correct {name}.")
        return None


def faults_of(thing: Any, *facts: Any, named_at: KeyPath = ()) -> list[Fault]:
    """Return what a thing says is wrong with it.

    Args:
        thing: A declaration with a method `faults`.
        facts: What the method takes.
        named_at: Key of the block that names it.
    """
    try:
        found = list(thing.faults(*facts))
        for fault in found:
            if not isinstance(fault, Fault) or not isinstance(fault.path, tuple):
                raise TypeError("faults must yield Fault(path, text), its path a tuple of keys")
        return found
    except Exception as error:
        declared = type(thing)
        if declared.__module__.partition(".")[0] == "sgdline":
            raise
        got = f"{cause_words(error)}{where_words(error)}"
        return [
            Fault(named_at, f"must check its options without an error, got {got}. Correct {declared.__name__}.faults.")
        ]
