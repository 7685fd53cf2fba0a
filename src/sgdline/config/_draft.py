"""A configuration while it is checked, block by block."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from sgdline.declare.faults import Faults, Index, KeyPath
from sgdline.papers.asked import Asked

Block = Mapping[str, Any]
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A configuration while it is checked.

    Attributes:
        sound: What the schema has passed, defaults filled in; what is at fault is left out, in a list replaced by None.
        raw: As the user wrote it.
        faults: Takes the faults.
        figures: Those that the configuration names, by their places.
    """

    sound: dict[str, Any]
    raw: Block
    faults: Faults
    figures: Mapping[KeyPath, Asked]

    def blocks(self, section: str) -> dict[str, dict[str, Any]]:
        """Return the blocks of a section that are mappings, by their names."""
        blocks = self.sound.get(section)
        return {name: block for name, block in (blocks or {}).items() if isinstance(block, dict)}

    def names(self, section: str) -> list[str]:
        """Return the names in a section as the user gave them: a fault inside a block leaves its name known."""
        return names_given(self.raw).get(section, [])


def names_given(raw: Block) -> dict[str, list[str]]:
    """Return the names of the blocks of each section; one that is no mapping is left out: it is one fault, not many."""
    sections = {section: blocks for section, blocks in raw.items() if isinstance(blocks, Mapping)}
    return {section: [name for name in blocks if isinstance(name, str)] for section, blocks in sections.items()}


def entry(block: Any, *keys: str) -> Any:
    """Return what lies below some keys; None where one of them is missing."""
    for key in keys:
        block = block.get(key) if isinstance(block, Mapping) else None
    return block


def sound_entries(entries: Iterable[Any] | None, kind: type[T]) -> Iterator[tuple[Index, T]]:
    """Yield position and value of the entries of a list that the schema has passed."""
    for position, value in enumerate(entries or []):
        if isinstance(value, kind):
            yield Index(position), value
