"""The sheet of every figure: panels in columns, a title above, a legend and a footer below.

A figure says what its panels are (`Panel`); everything else is here: sizes in print, letters, notes, the room that a
legend needs, panels without data, and what is left out of a narrow sheet.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from sgdline.errors import SgdlineError
from sgdline.extras import extra_packages
from sgdline.figures.base import Mark, PanelSheet, is_panel
from sgdline.figures.grammar import style
from sgdline.figures.grammar.marks import draw_marks, looks_of
from sgdline.figures.grammar.style import SIZES

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

    Tables = Mapping[str, pa.Table]

INCHES = {"page": 7.0, "column": 3.4}
_LETTER = 0.0515  # inches that a letter of a note takes, on average
_ACROSS = 0.86  # share of a sheet that a panel has where it is alone in its row, its labels left out
_LINE = 0.135  # inches of a line of notes
_EDGE = 0.06
_X_AXIS = 0.38  # inches that the tick labels and the label of an x axis take
_LEGEND: Any = {
    "fontsize": SIZES["legend"],
    "borderaxespad": 0.0,
    "borderpad": 0.1,
    "labelspacing": 0.3,
}
_LEGEND_LINE = 0.15  # inches
_KEY = 0.45  # inches of an entry of a legend beside its letters
_FOOTER_LINES = 2
_MOST_NOTES = 4  # lines of notes of a panel
LONGEST = 9.0  # inches of a page
_LOWEST = 0.78  # of their heights, to which panels may shrink for a sheet to fit on a page


@dataclass(frozen=True)
class Panel:
    """One panel of a sheet.

    Attributes:
        name: What the option `panel` calls it.
        title: A few words; a letter goes before them where a sheet has several panels.
        draw: Draws into the axes, sets labels and limits, and returns notes: short facts, the most important first, for
            below the title. It raises `NoDataError` where there is nothing to draw.
        notes: Those that it has with and without data, before the ones that `draw` returns.
        height: Inches, on a page.
        below: Inches below its axes that it draws into as well.
        span: Columns of a page that it takes.
        legend: Whether its labelled curves go into the legend of the sheet; `own`: into one below the panel itself, for
            curves that other panels do not have.
        new_row: Whether it begins a row.
        same_y: Panels that name the same here have one range of y values.
        own_marks: Whether `draw` draws the marks of the panel itself.
    """

    name: str
    title: str
    draw: Callable[[Axes], Sequence[str]]
    notes: Sequence[str] = ()
    height: float = 1.9
    below: float = 0.0
    span: int = 1
    legend: bool | Literal["own"] = True
    new_row: bool = False
    same_y: str = ""
    own_marks: bool = False


class NoDataError(Exception):
    """A panel has no data."""

    def __init__(self, words: str, tables: Tables | None = None, *, notes: Sequence[str] = ()) -> None:
        """Take what the panel says.

        Args:
            words: A few words in the place of the data.
            tables: Of the run; where it diverged, the words go on with that.
            notes: As of a panel with data.
        """
        super().__init__(words if tables is None else style.absence(words, tables))
        self.notes = notes


def absent(words: str, tables: Tables | None = None) -> Callable[[Axes], Sequence[str]]:
    """Return the `draw` of a panel that has no data, with the arguments of `NoDataError`."""

    def draw(_: Axes) -> Sequence[str]:
        raise NoDataError(words, tables)

    return draw


def nothing(options: PanelSheet, words: str, tables: Tables | None = None, *, height: float = 1.9) -> Panel:
    """Return the panel of a sheet without data: the one that is asked for, or else the first.

    Args:
        options: The figure.
        words: As in `NoDataError`.
        tables: As in `NoDataError`.
        height: As of any panel.
    """
    name = options.panel or options.panels[0]
    return Panel(name.replace("_N", "_1"), "", absent(words, tables), height=height)


def colour_bar(axes: Axes, mesh: ScalarMappable, label: str) -> None:
    """Put the scale of a panel's colours beside it; panels of a column stay equally wide."""
    beside = axes.inset_axes((1.04, 0.0, 0.05, 1.0))
    axes.figure.colorbar(mesh, cax=beside)
    beside.tick_params(labelsize=SIZES["tick"])
    beside.set_ylabel(label, fontsize=SIZES["label"])


def draw_sheet(
    options: PanelSheet,
    panels: Sequence[Panel],
    *,
    footer: Sequence[str],
    columns: int = 1,
    heading: str | None = None,
    share_x: bool = False,
) -> Figure:
    """Draw panels on a sheet.

    Args:
        options: The figure: its title, its width, and the one panel that it is asked for, if any.
        panels: In the order of reading. One that raises `NoDataError` says why in its place.
        footer: Short facts about what is shown, the most important first: those that two lines hold are printed.
        columns: Of a page; a sheet as wide as a column has one.
        heading: The title, if it is not that of the figure.
        share_x: Whether all panels of a column have one x axis, labelled at the lowest.

    Raises:
        SgdlineError: If the figure does not declare a panel that it draws.
    """
    with extra_packages():
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine

    _check_declared(options, panels)
    chosen, marks, looks = _chosen(options, panels), _marks(options), looks_of(options.marks)
    left_out = sum(len(own) for name, own in marks.items() if name not in {panel.name for panel in chosen})
    footer = [*footer, *([f"{style.counted(left_out, 'mark')} of panels without data"] if left_out else [])]
    width = INCHES[options.width]
    across = 1 if options.width == "column" or len(chosen) == 1 else columns
    rows = list(_rows(chosen, across))
    title = textwrap.wrap(heading or options.heading(), int(width / (_LETTER * 1.55)))
    facts = _fitting(footer, int(width / _LETTER))
    top = _EDGE + 0.17 * len(title) + 0.04
    foot = _EDGE + _LINE * len(facts)
    heights = [max(panel.height for panel in row) for row in rows]

    figure = Figure(figsize=(width, top + sum(heights) + foot))
    FigureCanvasAgg(figure)  # keeps its renderer: without one, each look at a text's size sets all formulas again
    grid = figure.add_gridspec(len(rows), across, height_ratios=heights)
    axes: list[Axes] = []
    for place, row in enumerate(rows):
        column = 0
        for panel in row:
            span = across if len(row) == 1 and panel.span >= across else min(panel.span, across)
            above = axes[0] if share_x and axes else None
            axes.append(figure.add_subplot(grid[place, column : column + span], sharex=above))
            column += span
    room = [width * _share(panel, across) for panel in chosen]
    ranges: dict[str, list[Axes]] = {}
    for place, (panel, own) in enumerate(zip(chosen, axes, strict=True)):
        letter = f"({chr(ord('a') + place)}) " if len(chosen) > 1 else ""
        drawn = _fill(panel, own, letter, inches=room[place], marks=marks.get(panel.name, []), looks=looks)
        if drawn and panel.same_y:
            ranges.setdefault(panel.same_y, []).append(own)
    for same in ranges.values():
        ends = [end for own in same for end in own.get_ylim()]
        for own in same:
            own.set_ylim(min(ends), max(ends))
            if own.get_yscale() == "log":
                style.plain_log(own)
    if share_x:
        for own in axes[:-1]:
            own.set_xlabel("")
            own.tick_params(labelbottom=False)

    legend = _legend(figure, chosen, axes, width=width)
    below = {
        id(panel): panel.below + (_own_legend(own, inches) if panel.legend == "own" else 0.0)
        for panel, own, inches in zip(chosen, axes, room, strict=True)
    }
    fixed = top + sum(max(below[id(panel)] for panel in row) for row in rows) + foot + legend
    # Neither tables nor panels of equal units can be lower.
    stiff = {id(panel) for panel, own in zip(chosen, axes, strict=True) if panel.below or own.get_aspect() != "auto"}
    heights = _shrunk(heights, [any(id(panel) in stiff for panel in row) for row in rows], room=LONGEST - fixed)
    grid.set_height_ratios(heights)
    height = fixed + sum(heights)
    figure.set_size_inches(width, height)
    bottom = (foot + legend + 0.04) / height
    figure.set_layout_engine(
        ConstrainedLayoutEngine(
            rect=(0, bottom, 1, 1 - top / height - bottom), w_pad=0.04, h_pad=0.04, wspace=0.02, hspace=0.02
        )
    )
    for shared in figure.legends:
        shared.set_bbox_to_anchor((0.5, bottom))
    left = _EDGE / width
    figure.text(left, 1 - _EDGE / height, "\n".join(title), fontsize=SIZES["title"], fontweight="bold", va="top")
    figure.text(
        left, _EDGE / height, "\n".join(facts), fontsize=SIZES["note"], color="#444444", va="bottom", linespacing=1.3
    )
    return figure


def _shrunk(heights: Sequence[float], stiff: Sequence[bool], *, room: float) -> list[float]:
    """Return the heights of rows, those not stiff a little lower if the sheet then fits on a page."""
    flexible = sum(height for height, fixed in zip(heights, stiff, strict=True) if not fixed)
    scale = (room - (sum(heights) - flexible)) / flexible if flexible else 1.0
    scale = scale if _LOWEST <= scale < 1.0 else 1.0
    return [height if fixed else scale * height for height, fixed in zip(heights, stiff, strict=True)]


def _check_declared(options: PanelSheet, panels: Sequence[Panel]) -> None:
    # The check of a configuration knows the declared ones only. Without any, it refuses `panel` and `marks`.
    unknown = [panel.name for panel in panels if not is_panel(type(options), panel.name)]
    if options.panels and unknown:
        name = type(options).__name__
        rule = f"panels of {name} must name every panel that it draws, got {', '.join(options.panels)}"
        raise SgdlineError(f"{rule} without {unknown[0]!r}. Add it.")


def _chosen(options: PanelSheet, panels: Sequence[Panel]) -> list[Panel]:
    if options.panel is None:
        return list(panels)
    found = [replace(panel, legend=True) for panel in panels if panel.name == options.panel]
    return found or [nothing(options, "there are no data for this panel")]


def _marks(options: PanelSheet) -> dict[str, list[Mark]]:
    found: dict[str, list[Mark]] = {}
    for mark in options.marks:
        found.setdefault(mark.panel, []).append(mark)
    return found


def _rows(panels: Sequence[Panel], across: int) -> Iterator[list[Panel]]:
    row: list[Panel] = []
    for panel in panels:
        taken = sum(min(other.span, across) for other in row)
        if row and (panel.new_row or taken + min(panel.span, across) > across):
            yield row
            row = []
        row.append(panel)
    if row:
        yield row


def _share(panel: Panel, across: int) -> float:
    """Return the share of the width that a panel has, its labels left out: the narrower, the less."""
    beside = across / min(panel.span, across)
    return (_ACROSS - 0.045 * (beside - 1) ** 2) / beside


def _fill(
    panel: Panel,
    axes: Axes,
    letter: str,
    *,
    inches: float,
    marks: Sequence[Mark],
    looks: Mapping[str, Mapping[str, Any]],
) -> bool:
    """Draw a panel with its title and notes; return whether it has data."""
    import matplotlib

    notes: Sequence[str] = ()
    drawn = True
    with matplotlib.rc_context({"font.size": SIZES["tick"]}):
        try:
            notes = panel.draw(axes)
            if axes.axison and not panel.own_marks:  # a table has rows for its marks
                notes = [*notes, *draw_marks(axes, marks, looks=looks, size=SIZES["note"])]
        except NoDataError as absent:
            style.say(axes, str(absent))
            notes, drawn = absent.notes, False
            if marks:
                notes = [*notes, f"{style.counted(len(marks), 'mark')} not drawn"]
    axes.tick_params(which="both", labelsize=SIZES["tick"])
    for axis in (axes.xaxis, axes.yaxis):
        axis.label.set_fontsize(SIZES["label"])
    text, lines = _head(letter + panel.title, [*panel.notes, *notes], inches)
    axes.set_title(text, fontsize=SIZES["panel"], pad=4 + 9.3 * len(lines))
    if lines:
        axes.annotate(
            "\n".join(lines),
            xy=(0, 1),
            xytext=(0, 2.5),
            xycoords="axes fraction",
            textcoords="offset points",
            fontsize=SIZES["note"],
            color="#444444",
            va="bottom",
            linespacing=1.2,
        )
    return drawn


def head_inches(title: str, notes: Sequence[str], *, width: float) -> float:
    """Return the height of a panel's title and notes on a sheet of that width, for panels that know theirs."""
    text, lines = _head(title, notes, _ACROSS * width)
    return 0.18 * (text.count("\n") + 1) + _LINE * len(lines) + 0.1


def _head(title: str, notes: Sequence[str], inches: float) -> tuple[str, list[str]]:
    """Return a panel's title, and the lines of its notes, as many a line as fit."""
    letters = int(inches / _LETTER)
    lines: list[str] = []
    for note in notes:
        if lines and len(lines[-1]) + len(note) + 2 <= letters:
            lines[-1] += f"; {note}"
        else:
            lines += textwrap.wrap(note, letters, break_on_hyphens=False)
    return textwrap.fill(title, int(letters / 1.2), break_on_hyphens=False), lines[:_MOST_NOTES]


def _fitting(facts: Sequence[str], letters: int) -> list[str]:
    """Return the facts that the lines of a footer hold, in their order; one longer than a line is cut."""
    lines = [""]
    for fact in facts:
        joined = f"{lines[-1]}  ·  {fact}" if lines[-1] else fact
        if len(joined) <= letters:
            lines[-1] = joined
        elif len(lines) < _FOOTER_LINES or not lines[0]:
            lines = [*filter(None, lines), textwrap.shorten(fact, letters, placeholder=" …")]
    return [line for line in lines if line]


def _legend(figure: Figure, panels: Sequence[Panel], axes: Sequence[Axes], *, width: float) -> float:
    """Put one legend for all panels below them, each label once; return the inches that it takes."""
    entries: dict[str, Any] = {}
    for panel, own in zip(panels, axes, strict=True):
        if panel.legend is True:
            for handle, label in zip(*own.get_legend_handles_labels(), strict=True):
                entries.setdefault(label, handle)
    if not entries:
        return 0.0
    labels = [_wrapped(label, width) for label in entries]
    longest = max(len(line) for label in labels for line in label)
    columns = max(min(int(width / (_KEY + _LETTER * longest)), len(entries)), 1)
    names = ["\n".join(label) for label in labels]
    figure.legend(list(entries.values()), names, loc="upper center", ncols=columns, columnspacing=1.2, **_LEGEND)
    lines = [
        sum(map(len, labels[start : start + -(-len(labels) // columns)]))
        for start in range(0, len(labels), -(-len(labels) // columns))
    ]
    return _LEGEND_LINE * max(lines) + 0.08


def _wrapped(label: str, inches: float) -> list[str]:
    return textwrap.wrap(label, int((inches - _KEY) / _LETTER))


def _own_legend(axes: Axes, inches: float) -> float:
    """Put a legend below the labels of a panel's x axis, so many inches wide; return those that it is high."""
    from matplotlib.transforms import ScaledTranslation

    handles, labels = axes.get_legend_handles_labels()
    if not handles:
        return 0.0
    below = axes.transAxes + ScaledTranslation(0, -_X_AXIS, axes.figure.dpi_scale_trans)
    lines = [_wrapped(label, inches) for label in labels]
    names = ["\n".join(label) for label in lines]
    axes.legend(handles, names, loc="upper left", bbox_to_anchor=(0, 0), bbox_transform=below, **_LEGEND)
    return _LEGEND_LINE * sum(map(len, lines)) + 0.04
