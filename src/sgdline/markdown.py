"""Words, numbers and tables of Markdown pages (no numpy)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence


def number(value: float | None, digits: int = 3) -> str:
    """Return a number for a cell; a dash if it does not exist."""
    return "-" if value is None or math.isnan(value) else f"{value:.{digits}g}"


def count(number: int, noun: str) -> str:
    """Return a number with its noun in the singular or plural."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def sentence(words: str) -> str:
    """Return words with a capital at their start and without a full stop at their end."""
    return f"{words[:1].upper()}{words[1:]}".rstrip(".")


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table."""
    # A vertical bar would end the cell.
    lines = [[cell.replace("|", "\\|") for cell in row] for row in (header, *rows)]
    rule = ["---"] * len(header)
    return ["| " + " | ".join(row) + " |" for row in (lines[0], rule, *lines[1:])]
