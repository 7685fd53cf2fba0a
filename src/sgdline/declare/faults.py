"""Collecting faults of a configuration, and the words in which they are reported."""

from __future__ import annotations

import datetime
import difflib
import itertools
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sgdline.errors import SgdlineError

KeyPath = tuple[Any, ...]  # keys (of any YAML type) and list indices (int) from the top of the configuration

_LISTED_CHARACTERS = 250  # of the names in a hint
_SHOWN_CHARACTERS = 60
_SHOWN_ENTRIES = 6


class ConfigError(SgdlineError):
    """A configuration with faults; `faults` holds one line for each, all found in one go."""

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults: tuple[str, ...] = tuple(faults)
        count = len(self.faults)
        head = f"The configuration has {count} fault{'s' if count != 1 else ''}:"
        super().__init__("\n".join([head, *(f"  {line}" for line in self.faults)]))


@dataclass(frozen=True)
class Place:
    """Where an entry of a configuration is written."""

    source: str  # a file as the user would name it, or --config
    line: int | None  # counted from 1; None on the command line

    def __str__(self) -> str:
        return self.source if self.line is None else f"{self.source}:{self.line}"


class Faults:
    """Faults by path, in the order found; the first one at a path stays unless it is replaced on purpose.

    Attributes:
        places: Where the entry at each path is written, as far as it is known.
    """

    def __init__(self) -> None:
        self.places: dict[tuple[str, ...], Place] = {}
        self._lines: dict[tuple[str, ...], tuple[str, Place | None]] = {}

    def add(self, path: KeyPath, text: str, *, replace: bool = False, place: Place | None = None) -> None:
        """Note that the value at `path` is at fault.

        Args:
            path: Where it is in the configuration.
            text: Follows the key path in the message.
            replace: Replace an earlier fault at this path.
            place: Where it is written, if that is not what `places` says: several files may hold one path.
        """
        key = comparable(path)
        if place is not None and key in self._lines:
            key = (*key, f"place:{place}")
        if replace or key not in self._lines:
            self._lines[key] = f"{path_words(path)} {text}", place or self.place_of(path)

    def place_of(self, path: KeyPath) -> Place | None:
        """Return where the value at `path` is written, or what encloses it; None if that is not known."""
        key = comparable(path)
        enclosing = (key[:length] for length in range(len(key), 0, -1))
        return next((self.places[part] for part in enclosing if part in self.places), None)

    def under(self, path: KeyPath) -> bool:
        """Tell whether the value at `path`, or anything inside it, is at fault already."""
        start = comparable(path)
        return any(key[: len(start)] == start for key in self._lines)

    def any(self) -> bool:
        """Tell whether there is a fault."""
        return bool(self._lines)

    def raise_if_any(self) -> None:
        """Raise all faults at once.

        Raises:
            ConfigError: If there is at least one.
        """
        if self._lines:
            raise ConfigError(f"{place}: {text}" if place else text for text, place in self._lines.values())


def comparable(path: KeyPath) -> tuple[str, ...]:
    """Return a path that can be looked up: a YAML key may be of any type, and True equals 1 in Python."""
    return tuple(f"{type(part).__name__}:{value_words(part)}" for part in path)


class Index(int):
    """A position in a list, told apart from a mapping's key that happens to be a number."""


def path_words(path: KeyPath) -> str:
    """Return a key path as the user would look for it: `experiments.digits.lr[1]`."""
    text = ""
    for part in path:
        if isinstance(part, Index):
            text += f"[{int(part)}]"
        elif isinstance(part, str) and re.fullmatch(r"[\w-]{1,64}", part):
            text += f".{part}" if text else part
        else:
            text += f"[{value_words(part)}]"
    return text or "The configuration"


def value_words(value: Any, *, depth: int = 0) -> str:
    """Return a YAML value in words that fit on a line, whatever its type and size."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        # str() refuses integers of more than 4300 digits.
        return str(int(value)) if value.bit_length() <= 128 else f"a whole number of {value.bit_length()} bits"
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, str):
        return repr(_shortened(value))
    if isinstance(value, datetime.date):  # datetime.datetime is one too
        return f"the date {value.isoformat()}"
    if isinstance(value, Mapping):
        if depth:
            return "{...}" if value else "{}"
        keys = [value_words(key, depth=1) for key in list(value)[:_SHOWN_ENTRIES]]
        more = ", ..." if len(value) > _SHOWN_ENTRIES else ""
        return f"a mapping with the keys {', '.join(keys)}{more}" if value else "an empty mapping"
    if isinstance(value, list | tuple):
        if depth:
            return "[...]" if value else "[]"
        entries = [value_words(entry, depth=1) for entry in value[:_SHOWN_ENTRIES]]
        more = ", ..." if len(value) > _SHOWN_ENTRIES else ""
        return f"the list [{', '.join(entries)}{more}]"
    return f"a value of type {type(value).__name__}"


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 3] + "..."


def literal_words(value: Any) -> str:
    """Return an allowed value as one writes it in YAML."""
    return value if isinstance(value, str) else json.dumps(value)


def listed(words: Iterable[str]) -> str:
    """Join words as in `a, b or c`."""
    *first, last = words
    return f"{', '.join(first)} or {last}" if first else last


def nearest(word: Any, names: Iterable[str]) -> str | None:
    """Return the name that the user most likely meant; None if nothing is near."""
    if not isinstance(word, str) or not word or len(word) > 200:
        return None
    folded = word.casefold()
    by_folded = {name.casefold(): name for name in sorted(names, reverse=True)}
    # A part of a name (fig2 for linesearch/fig2_lines) says more than a similar spelling.
    whole = sorted(
        (name for name in by_folded if len(folded) >= 3 and folded in name), key=lambda name: (len(name), name)
    )
    found = whole or difflib.get_close_matches(folded, by_folded, n=1, cutoff=0.6)
    return by_folded[found[0]] if found else None


def name_hint(word: Any, names: Iterable[str], *, kind: str) -> str:
    """Return the sentence that helps with an unknown name: the nearest one, or all there are."""
    names = sorted(names)
    near = nearest(word, names)
    if near is not None:
        return f"Did you mean {near!r}?"
    if not names:
        return f"There are no {kind}."
    room = itertools.accumulate(len(name) + 2 for name in names)
    shown = names[: max(sum(used <= _LISTED_CHARACTERS for used in room), 1)]
    more = ", ..." if len(names) > len(shown) else ""
    return f"Known {kind}: {', '.join(shown)}{more}."


def number_hint(text: str, *, whole: bool) -> str | None:
    """Return how to write a number that YAML has read as text (`1e-3`, `"0.1"`, `0,1`); None if it is none."""
    compact = text.strip().replace(",", ".")
    exponent = re.fullmatch(r"([+-]?)(\d+\.?\d*|\.\d+)[eE]([+-]?)(\d+)", compact)
    if exponent and not whole:
        sign, mantissa, exponent_sign, digits = exponent.groups()
        mantissa = mantissa if "." in mantissa else f"{mantissa}.0"
        mantissa = f"0{mantissa}" if mantissa.startswith(".") else mantissa
        return f"{sign.replace('+', '')}{mantissa}e{exponent_sign or '+'}{digits}"
    if len(compact) <= 30 and re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,2})?", compact):
        number = float(compact)
        return str(int(number)) if whole and number.is_integer() else None if whole else repr(number)
    return None
