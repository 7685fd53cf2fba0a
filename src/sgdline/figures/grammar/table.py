"""A table as a panel: names at the left, numbers aligned within their columns."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sgdline.figures.base import Mark, PanelSheet, literal
from sgdline.figures.grammar import style
from sgdline.figures.grammar.sheet import INCHES, NoDataError, Panel, head_inches
from sgdline.figures.grammar.style import SIZES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ROW_GAP, _BLOCK_GAP = 0.07, 0.13  # inches
_AXES = 0.1  # inches of axes, at the top of the table
BESIDE_LABELS = 0.6  # inches of the labels of a y axis
_WORD = 16  # letters; longer words of names may be broken
_NAMES_SHARE = 0.5  # of the width, at most, for the columns of names
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


class _Fit(NamedTuple):
    size: float  # of letters, points
    gap: float  # between columns, inches
    letters: int  # of a line of a column's head


# From generous to tight: the first one that takes the fewest blocks.
_FITS = (_Fit(SIZES["label"], 0.17, 16), _Fit(SIZES["tick"], 0.17, 16), _Fit(SIZES["tick"], 0.09, 8))

Cell = tuple[tuple[str, str], ...]  # line -> words to the left and to the right of the column's axis
NO_VALUE: Cell = (("—", ""),)


@dataclass(frozen=True)
class Row:
    """One row of a table."""

    names: tuple[str, ...]  # as many as there are columns of names, of one line or several
    cells: tuple[Cell, ...]  # one for each column of numbers
    ruled: bool = False  # with a thin line above it
    quiet: bool = False  # derived from other rows: in grey


class _Text(NamedTuple):
    x: float  # inches from the upper left corner
    y: float  # of the baseline
    words: str
    align: str  # left, center or right
    look: dict[str, Any]


class _Rule(NamedTuple):
    y: float
    end: float
    thick: bool


class _Layout(NamedTuple):
    parts: list[_Text | _Rule]
    height: float
    blocks: int


def scientific(value: float, *, digits: int = 3) -> str:
    """Return a number in the form 6.25·10⁻², `—` if it is not finite: equal widths in a column."""
    if not math.isfinite(value):
        return "—"
    if value == 0:
        return "0"
    mantissa, _, exponent = f"{value:.{digits - 1}e}".partition("e")
    return f"{mantissa}·10{str(int(exponent)).translate(_SUPERSCRIPTS)}"


def table_panel(
    options: PanelSheet,
    name: str,
    title: str,
    *,
    heads: Sequence[str],
    columns: Sequence[str],
    rows: Sequence[Row],
    notes: Sequence[str] = (),
    missing: str = "nothing was measured",
    inset: float = 0.0,
) -> Panel:
    """Return a panel that is a table.

    Where the columns need more than the width of the sheet, they go on in blocks below, each with the names again.

    Args:
        options: The figure, for its width.
        name: Of the panel.
        title: Of the panel: what the numbers are.
        heads: Heads of the columns of names.
        columns: Heads of the columns of numbers.
        rows: What is below them.
        notes: What there is to know about the numbers.
        missing: A few words in the place of a table without rows or columns.
        inset: Inches left of its axes: `BESIDE_LABELS` on a sheet with panels that have a y axis.
    """
    if not rows or not columns:
        return Panel(name, title, partial(_say, missing), notes)
    marks = [mark for mark in options.marks if mark.panel == name]
    marked, left_out = _marked(marks, columns, heads=heads), sum(mark.text not in columns for mark in marks)
    notes = [
        *notes,
        *(["last rows: published"] if marked else []),
        *([f"{style.counted(left_out, 'mark')} of no column here"] if left_out else []),
    ]
    rows = [*rows, *marked]
    width = INCHES[options.width]
    layouts = [_lay_out(heads, columns, rows, room=width - inset - 0.1, fit=fit) for fit in _FITS]
    layout = min(layouts, key=lambda own: own.blocks)
    height = head_inches(title, notes, width=width) + _AXES
    return Panel(name, title, partial(_draw, layout), notes, height=height, below=layout.height - _AXES, span=4)


def _marked(marks: Sequence[Mark], columns: Sequence[str], *, heads: Sequence[str]) -> list[Row]:
    """Return a row for each source of marks, with the numbers in the columns that their words name."""
    found: dict[str, dict[str, Mark]] = {}
    for mark in marks:
        found.setdefault(mark.source, {})[mark.text] = mark
    shown = {source: own for source, own in found.items() if own.keys() & set(columns)}
    return [
        Row(
            tuple(literal(part) for part in _named(source, heads)),
            tuple(((f"{own[column].value:.4g}", ""),) if column in own else NO_VALUE for column in columns),
            ruled=place == 0,
            quiet=True,
        )
        for place, (source, own) in enumerate(shown.items())
    ]


def _named(source: str, heads: Sequence[str]) -> tuple[str, ...]:
    """Return the source of marks in the columns of names: `lr 0.1` in a column lr, all else in the first one."""
    words, bracket, tag = source.partition(" [")
    parts = words.split(", ")
    known = {head: part.removeprefix(f"{head} ") for head in heads[1:] for part in parts if part.startswith(f"{head} ")}
    rest = [part for part in parts if part.partition(" ")[0] not in known]
    return (", ".join(rest) + bracket + tag, *(known.get(head, "") for head in heads[1:]))


def _say(missing: str, _: Axes) -> Sequence[str]:
    raise NoDataError(missing)


def _draw(layout: _Layout, panel: Axes) -> Sequence[str]:
    from matplotlib.transforms import ScaledTranslation

    panel.axis("off")
    corner: Any = panel.transAxes  # Any: matplotlib's annotation names one of its subclasses
    inches = panel.figure.dpi_scale_trans + ScaledTranslation(0, 1, corner)
    for part in layout.parts:
        if isinstance(part, _Text) and part.words:
            panel.text(part.x, -part.y, part.words, ha=part.align, va="baseline", transform=inches, **part.look)
        elif isinstance(part, _Rule):
            look: dict[str, Any] = {"color": "black", "linewidth": 1.2 if part.thick else 0.5, "clip_on": False}
            panel.plot([0, part.end], [-part.y, -part.y], transform=inches, scalex=False, scaley=False, **look)
    for artist in (*panel.texts, *panel.lines):
        artist.set_in_layout(False)
    panel.plot([0, 0], [0, -layout.height], transform=inches, scalex=False, scaley=False, alpha=0, clip_on=False)
    return []


def _lay_out(heads: Sequence[str], columns: Sequence[str], rows: Sequence[Row], *, room: float, fit: _Fit) -> _Layout:
    """Return where the words and rules of a table are, on a sheet of `room` inches."""
    size = fit.size
    lines = [textwrap.wrap(column, fit.letters, break_long_words=False) for column in columns]
    sides = [_sides(own, [row.cells[place] for row in rows], size) for place, own in enumerate(lines)]
    widths = [left + right + fit.gap for left, right in sides]
    words = [[head, *(row.names[place] for row in rows)] for place, head in enumerate(heads)]
    letters = _letters(words, max(_NAMES_SHARE * room, room - sum(widths)) / _width("n", size))
    names = [[_wrapped(name, most) for name, most in zip(row.names, letters, strict=True)] for row in rows]
    name_widths = [
        max(_width(head, size, bold=True), *(_width(line, size) for own in names for line in own[place])) + fit.gap
        for place, head in enumerate(heads)
    ]
    blocks = _blocks(widths, room - sum(name_widths) + fit.gap)
    step = 1.3 * size / 72
    parts: list[_Text | _Rule] = []
    y = 0.02
    for block in blocks:
        end = sum(name_widths) + sum(widths[place] for place in block) - fit.gap
        axes = [
            sum(name_widths) + sum(widths[other] for other in block if other < place) + sides[place][0]
            for place in block
        ]
        starts = [sum(name_widths[:place]) for place in range(len(heads))]
        parts.append(_Rule(y, end, thick=True))
        deepest = max(len(lines[place]) for place in block)
        look: dict[str, Any] = {"fontsize": size, "fontweight": "bold"}
        y += _ROW_GAP / 2
        for start, head in zip(starts, heads, strict=True):
            parts.append(_Text(start, y + (deepest - 0.25) * step, head, "left", look))
        for axis, place in zip(axes, block, strict=True):
            left, right = sides[place]
            first = deepest - len(lines[place])
            parts += [
                _Text(axis + (right - left) / 2, y + (first + line + 0.75) * step, words, "center", look)
                for line, words in enumerate(lines[place])
            ]
        y += deepest * step + _ROW_GAP / 2
        parts.append(_Rule(y, end, thick=False))
        for row, own in zip(rows, names, strict=True):
            if row.ruled:
                parts.append(_Rule(y, end, thick=False))
            look = {"fontsize": size, "color": "#555555" if row.quiet else "black"}
            first_line = y + _ROW_GAP / 2 + 0.75 * step
            for start, name in zip(starts, own, strict=True):
                parts += [
                    _Text(start, first_line + line * step, words, "left", look) for line, words in enumerate(name)
                ]
            for axis, place in zip(axes, block, strict=True):
                for line, (before, after) in enumerate(row.cells[place]):
                    parts.append(_Text(axis, first_line + line * step, before, "right", look))
                    parts.append(_Text(axis, first_line + line * step, after, "left", look))
            y += step * max(len(own_lines) for own_lines in (*own, *(row.cells[place] for place in block))) + _ROW_GAP
        parts.append(_Rule(y, end, thick=True))
        y += _BLOCK_GAP
    return _Layout(parts, y - _BLOCK_GAP + 0.04, len(blocks))


def _letters(columns: Sequence[Sequence[str]], room: float) -> list[int]:
    """Return the most letters of a line of each column of names: short ones have theirs, long ones share the rest."""
    # With the gap to the next column.
    longest = [max(len(line) for name in names for line in name.splitlines() or [""]) + 2 for names in columns]
    found = [0] * len(columns)
    for done, place in enumerate(sorted(range(len(columns)), key=lambda place: longest[place])):
        word = min(max(len(word) for name in columns[place] for word in name.split()), _WORD)
        found[place] = max(min(longest[place], int(room / (len(columns) - done))) - 2, word)
        room -= found[place] + 2
    return found


def _wrapped(words: str, letters: int) -> list[str]:
    return [line for part in words.split("\n") for line in textwrap.wrap(part, letters) or [""]]


def _sides(head: Sequence[str], cells: Sequence[Cell], size: float) -> tuple[float, float]:
    """Return the widths to the left and to the right of a column's axis, inches."""
    lines = [line for cell in cells for line in cell]
    left = max(_width(before, size) for before, _ in lines)
    right = max(_width(after, size) for _, after in lines)
    missing = max(max(_width(line, size, bold=True) for line in head) - left - right, 0.0)
    return left + missing / 2, right + missing / 2


def _blocks(widths: Sequence[float], room: float) -> list[list[int]]:
    """Return the columns of each block: as few blocks as fit, with about equally many columns."""
    for count in range(1, len(widths) + 1):
        blocks = [block.tolist() for block in np.array_split(np.arange(len(widths)), count)]
        if all(sum(widths[place] for place in block) <= room for block in blocks):
            break
    return blocks


@cache
def _width(words: str, size: float, *, bold: bool = False) -> float:
    """Return the width of some words, inches."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(family="DejaVu Sans", size=size, weight="bold" if bold else "normal")
    width: float = text_to_path.get_text_width_height_descent(words, font, ismath=False)[0]
    return width / 72
