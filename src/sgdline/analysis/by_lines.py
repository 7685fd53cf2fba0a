"""What `auto` is for the options of `analysis` that go by the number of measured lines (no numpy, no pyarrow).

10,000 lines give the values of Mutschler and Zell (2021): 25, 50, 10, 100.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    import pyarrow as pa

Lines: TypeAlias = int | Literal["auto"]

_AUTO: Mapping[str, Callable[[int], int]] = {
    # An eighth of the lines, and odd: then a window's centre is a line.
    "smoothing": lambda lines: min(25, (lines // 8) | 1),
    # A third of them: so that later ones are left to compare with.
    "distance_first": lambda lines: min(50, max(lines // 3, 2)),
    # As many as a picture of a matrix has room for.
    "distance_every": lambda lines: max(math.ceil(lines / 1000), 1),
    # About as many finds as lines that reuse each of them.
    "fbpal_every": lambda lines: max(round(math.sqrt(lines)), 1),
}


def number(key: str, asked: Lines, *, lines: int) -> int:
    """Return the value of an option.

    Args:
        key: Of `analysis`.
        asked: Its value in the configuration.
        lines: How many lines were measured.
    """
    return _AUTO[key](lines) if asked == "auto" else int(asked)


def settled(settings: Mapping[str, Any], tables: Mapping[str, pa.Table]) -> dict[str, Any]:
    """Return settings with a number for each option that is `auto` and goes by the number of lines.

    Args:
        settings: Keys of `analysis`, and any others.
        tables: Of the run, by kind. Lines are counted in those of the probe `line` and of its analyses; without one,
            updates are counted in the trace.
    """
    auto = [key for key in _AUTO if settings.get(key) == "auto"]
    lines = _measured(tables) if auto else 0
    return {**settings, **{key: number(key, "auto", lines=lines) for key in auto}}


def _measured(tables: Mapping[str, pa.Table]) -> int:
    of_lines = [table for kind, table in tables.items() if kind == "line" or kind.startswith("line_")]
    counted = of_lines or [tables[kind] for kind in ("trace",) if kind in tables]
    return max((len(table["step"].unique()) for table in counted), default=0)
