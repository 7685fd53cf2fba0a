"""A table as a picture: names at the left, numbers aligned within their columns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sgdline.figures.grammar import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LETTER_INCHES = 0.082  # of a wide letter at 9 points
_LINE_INCHES = 0.20
_ASCENT_INCHES = 0.13  # from the top of a line to its baseline
_ROW_GAP_INCHES = 0.12
_COLUMN_GAP_INCHES = 0.34
_LEAST_WIDTH_INCHES = 7.6
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Row:
    """One row of a table."""

    names: tuple[str, ...]  # as many as there are columns of names
    cells: tuple[tuple[tuple[str, str], ...], ...]  # column -> line -> what stands left and right of the axis
    ruled: bool = False  # with a thin line above it
    quiet: bool = False  # derived from other rows: in grey


NO_VALUE = (("—", ""),)


def scientific(value: float, *, digits: int = 3) -> str:
    """Return a number in the form 6.25·10⁻², `—` if it is not finite: equal widths in a column."""
    if not math.isfinite(value):
        return "—"
    if value == 0:
        return "0"
    mantissa, _, exponent = f"{value:.{digits - 1}e}".partition("e")
    return f"{mantissa}·10{str(int(exponent)).translate(_SUPERSCRIPTS)}"


def draw_table(
    title: str, heads: Sequence[str], columns: Sequence[str], rows: Sequence[Row], *, text: str, notes: Sequence[str],
    footer: Sequence[str],
) -> Figure:  # fmt: skip
    """Draw a table on a sheet that fits it.

    Args:
        title: One line.
        heads: Heads of the columns of names.
        columns: Heads of the columns of numbers.
        rows: What stands below them.
        text: What the numbers are, one line.
        notes: What there is to know about them, in small letters.
        footer: Lines below, as for `style.new_figure`.
    """
    name_widths = [
        _LETTER_INCHES * max(len(word) for word in (head, *(row.names[place] for row in rows))) + _COLUMN_GAP_INCHES
        for place, head in enumerate(heads)
    ]
    sides = [_sides(head, [row.cells[place] for row in rows]) for place, head in enumerate(columns)]
    needed = sum(name_widths) + sum(left + right + _COLUMN_GAP_INCHES for left, right in sides)
    width = max(needed + 0.3, _LEAST_WIDTH_INCHES)
    heights = [_LINE_INCHES * max(len(cell) for cell in (*row.cells, "·")) + _ROW_GAP_INCHES for row in rows]
    inches = sum(heights) + _LINE_INCHES + 2 * _ROW_GAP_INCHES
    sheet = style.new_figure(title, footer=footer, width=width, height=inches + 1.75)
    panel: Axes = sheet.subplots()
    panel.axis("off")
    panel.set_xlim(0, needed)
    panel.set_ylim(inches, 0)
    style.title(panel, text, notes, width=int(width * 15))
    axes = []
    at = sum(name_widths)
    for left, right in sides:
        axes.append(at + left)
        at += left + right + _COLUMN_GAP_INCHES
    y = _ROW_GAP_INCHES
    _rule(panel, 0.0, needed, thick=True)
    starts = [sum(name_widths[:place]) for place in range(len(heads))]
    for start, head in zip(starts, heads, strict=True):
        panel.text(start, y + _ASCENT_INCHES, head, ha="left", va="baseline", fontweight="bold")
    for axis, (left, right), head in zip(axes, sides, columns, strict=True):
        panel.text(axis + (right - left) / 2, y + _ASCENT_INCHES, head, ha="center", va="baseline", fontweight="bold")
    y += _LINE_INCHES + _ROW_GAP_INCHES / 2
    _rule(panel, y, needed)
    for row, height in zip(rows, heights, strict=True):
        if row.ruled:
            _rule(panel, y, needed)
        look: dict[str, Any] = {"va": "baseline", "color": "#555555" if row.quiet else "black"}
        first = y + _ROW_GAP_INCHES / 2 + _ASCENT_INCHES
        for start, name in zip(starts, row.names, strict=True):
            panel.text(start, first, name, ha="left", **look)
        for axis, cell in zip(axes, row.cells, strict=True):
            for line, (left_text, right_text) in enumerate(cell):
                panel.text(axis, first + line * _LINE_INCHES, left_text, ha="right", **look)
                panel.text(axis, first + line * _LINE_INCHES, right_text, ha="left", **look)
        y += height
    _rule(panel, y, needed, thick=True)
    return sheet


def _sides(head: str, cells: Sequence[Sequence[tuple[str, str]]]) -> tuple[float, float]:
    """Return the widths left and right of a column's axis, inches."""
    lines = [line for cell in cells for line in cell]
    left = _LETTER_INCHES * max((len(words) for words, _ in lines), default=1)
    right = _LETTER_INCHES * max((len(words) for _, words in lines), default=0)
    missing = _LETTER_INCHES * (len(head) + 1) - left - right
    return (left + max(missing, 0.0) / 2, right + max(missing, 0.0) / 2)


def _rule(panel: Axes, y: float, width: float, *, thick: bool = False) -> None:
    panel.plot([0, width], [y, y], color="black", linewidth=1.4 if thick else 0.6, clip_on=False)
