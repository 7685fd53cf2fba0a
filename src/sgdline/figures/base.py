"""What a figure declares (no matplotlib, no pyarrow)."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, get_type_hints

from sgdline.declare.faults import Index, name_hint, value_words
from sgdline.declare.registry import Declared, are_texts, declaration, is_entry, names
from sgdline.declare.run_facts import Fault
from sgdline.declare.vocabulary import MaxLen, MinLen, OfKind, Pattern, Unique, Words
from sgdline.entries import EntryError

if TYPE_CHECKING:
    import matplotlib.figure


@dataclass(frozen=True, kw_only=True)
class Figure(Declared):
    """A figure: a picture of one run, of several runs, or of a toy.

    The docstring of the class, or else that of its file, is the caption. The module imports neither torch, matplotlib
    nor pyarrow at its top: the check of a configuration reads it.

    Attributes:
        reads: Kinds of the tables of a run that it draws: `trace`, those of probes, those of analyses.
        also: Kinds that it draws as well, of runs that have them.
        uses: Keys of the experiment's `analysis` that it uses; no other key draws it anew.
        compares: It draws all runs of an entry of `comparisons` at once, and not one run of an experiment.
        toy: Name or entry of the toy that it draws, and no run; it then reads the toy's table and no other.
        toy_settings: What the settings of that toy must be.
    """

    reads: ClassVar[tuple[str, ...]] = ()
    also: ClassVar[tuple[str, ...]] = ()
    uses: ClassVar[tuple[str, ...]] = ()
    compares: ClassVar[bool] = False
    toy: ClassVar[str | None] = None
    toy_settings: ClassVar[Mapping[str, Any]] = MappingProxyType({})

    called: Annotated[
        Annotated[str, Pattern("^[A-Za-z0-9][A-Za-z0-9_-]*$"), MaxLen(64)] | None,
        Words('a name used in file names, letters, digits, "_" and "-" only, or null'),
    ] = None
    """What the folder of its pictures is called; `null`: by its name."""

    @property
    def subject(self) -> str:
        """What one picture is of: `run`, `comparison` (of runs) or `toy`."""
        if self.toy is not None:
            return "toy"
        return "comparison" if self.compares else "run"

    def faults(self) -> Iterator[Fault]:
        """Yield what is wrong with the options and no bound can say."""
        yield from ()

    def draw(self, tables: Any, *, settings: Any) -> matplotlib.figure.Figure:
        """Return the picture.

        Args:
            tables: Kind of table -> table, for the kinds that `reads` names, and those of `also` that the run has, or
                for the name of the toy. A list of these, one for each run, where it `compares`.
            settings: What `sgdline.figures.plot_figure` says of a run or a toy; a list where it `compares`.
        """
        raise NotImplementedError(f"{type(self).__name__} must define draw(self, tables, *, settings)")


MOST_SOURCES = 16  # of the marks of a figure: so many look different


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A number that is marked at the right edge of a panel, such as one that a paper gives."""

    panel: Annotated[str, MinLen(1)]
    """Name of the panel."""
    value: float
    """The number, in the unit of the panel's y axis."""
    text: Annotated[str, MaxLen(24)] = ""
    """A word or two beside it, such as the setting that it belongs to; at most 24 characters."""
    source: Annotated[str, MinLen(1), MaxLen(80)] = "published"
    """Where it is from, for the legend; at most 80 characters."""


@dataclass(frozen=True, kw_only=True)
class PanelSheet(Figure):
    """A figure of panels with a title above and a footer below, drawn at the size that it has in print.

    Attributes:
        panels: Names of the panels that it may draw, for the options `panel` and `marks`; in `line_N` N is a number.
    """

    panels: ClassVar[tuple[str, ...]] = ()

    title: Annotated[str, MinLen(1), MaxLen(120)] | None = None
    """Its title; `null`: that of its kind."""
    width: Literal["page", "column"] = "page"
    """Its width: `page`, 7 inches; `column`, 3.4 inches, its panels below one another."""
    panel: Annotated[str, MinLen(1)] | None = None
    """The one panel to draw, by its name (N in a name is a number, as in line_2); `null`: all of them."""
    marks: Annotated[
        tuple[Annotated[Mark, Words("a mapping with panel, value and, if need be, text and source")], ...], MaxLen(60)
    ] = ()
    """Numbers to mark beside the curves, at most 60."""

    def heading(self) -> str:
        """Return the title: that of the options, letter by letter, or else the first line of the docstring."""
        if self.title is not None:
            return literal(self.title)
        return inspect.cleandoc(type(self).__doc__ or "").partition("\n")[0].rstrip(".")

    def faults(self) -> Iterator[Fault]:
        """Yield names of panels that it does not draw, and marks of a panel that is left out."""
        sources = len({mark.source for mark in self.marks})
        if sources > MOST_SOURCES:
            rule = f"must be of at most {MOST_SOURCES} sources, got {sources}. Remove some: they would look alike."
            yield Fault(("marks",), rule)
        if self.panel is not None and not is_panel(type(self), self.panel):
            yield Fault(("panel",), _no_panel(type(self), self.panel))
            return
        for place, mark in enumerate(self.marks):
            path = ("marks", Index(place), "panel")
            if not is_panel(type(self), mark.panel):
                yield Fault(path, _no_panel(type(self), mark.panel))
            elif self.panel not in (None, mark.panel):
                rule = f"must be {self.panel}, the one panel that is drawn, got {value_words(mark.panel)}."
                yield Fault(path, f"{rule} Remove the mark, or leave out panel.")


def is_panel(declared: type[PanelSheet], name: str) -> bool:
    """Return whether a figure declares a panel of that name."""
    return any(re.fullmatch(re.sub("_N$", "_[1-9][0-9]*", panel), name) for panel in declared.panels)


def _no_panel(declared: type[PanelSheet], name: str) -> str:
    if not declared.panels:
        rule = f"must be left out where a figure declares no panels, got {value_words(name)}."
        return f'{rule} Add panels: ClassVar = ("a_name",) to {declared.__name__}, with the names that it draws.'
    hint = name_hint(name, declared.panels, kind="panels of it")
    return f"must be the name of a panel of the figure, got {value_words(name)}. {hint}"


def literal(words: str) -> str:
    """Return a text of the user's so that matplotlib draws it letter by letter: a dollar sign begins no formula."""
    return words.replace("$", r"\$")


# How a configuration names a figure: by its kind, by an id of a paper, by an entry, or with options.
FigureName = Annotated[
    str,
    Pattern("^([a-z0-9_]+(/[a-z0-9_]+)?|.*:.*)$"),
    Words("the name of a figure, an id, paper/figure, or an entry, folder/file.py:Name"),
]
FigureChoice = Annotated[
    FigureName | Annotated[Figure, OfKind("figure", tag="name")],
    Words(
        "the name of a figure, an id, paper/figure, an entry, folder/file.py:Name, or a mapping with name and options"
    ),
]
FigureChoices = Annotated[tuple[FigureChoice, ...], Unique()]


def wrong_with(declared: type[Figure]) -> str | None:
    """Return what the declaration of a user's figure says wrongly; None if it can be drawn."""
    return (
        _wrong_method(declared)
        or _wrong_lists(declared)
        or _wrong_subject(declared)
        or _wrong_toy(declared)
        or _wrong_options(declared)
    )


def _wrong_method(declared: type[Figure]) -> str | None:
    draw: Any = declared.draw
    if draw is Figure.draw:
        return "must define draw(self, tables, *, settings), got none. Define it."
    try:
        inspect.signature(draw).bind(None, {}, settings={})
    except TypeError:
        got = f"draw{inspect.signature(draw)}" if callable(draw) else f"draw = {value_words(draw)}"
        return f"must define draw(self, tables, *, settings), got {got}. Correct it."
    return None


def _wrong_lists(declared: type[Figure]) -> str | None:
    for name in ("reads", "also", "uses", "panels"):
        said = getattr(declared, name, ())
        if not are_texts(said):
            what = {"uses": "keys of analysis", "panels": "names of panels"}.get(name, "kinds of tables")
            example = {"uses": "smoothing", "panels": "loss"}.get(name, "trace")
            return (
                f"must declare {name} as a tuple of {what}, got {value_words(said)}. "
                f'Write it as {name}: ClassVar = ("{example}",).'
            )
    wrong = next((panel for panel in getattr(declared, "panels", ()) if not re.fullmatch(r"\w+", panel)), None)
    if wrong is not None:
        return f"must give its panels names of letters, digits and _, got {value_words(wrong)}. Rename the panel."
    read = [*declared.reads, *declared.also]
    twice = next((kind for place, kind in enumerate(read) if kind in read[:place]), None)
    if twice is not None:
        return f"must name a table once in reads and also, got {value_words(twice)} twice. Remove one of them."
    return None


def _wrong_subject(declared: type[Figure]) -> str | None:
    compares: object = declared.compares
    if not isinstance(compares, bool):
        return f"must declare compares as True or False, got {value_words(compares)}. Correct it."
    if declared.toy is not None and (declared.reads or declared.also or compares):
        return "must draw either a toy or runs, got both. Leave out reads, also and compares, or toy."
    if declared.toy is None and not declared.reads:
        return 'must read at least one table, got none. Write for example reads: ClassVar = ("trace",).'
    return None


def _wrong_toy(declared: type[Figure]) -> str | None:
    toy: object = declared.toy
    if not isinstance(toy, str | None):
        return f"must name the toy that it draws, or its entry, in a text, got {value_words(toy)}. Write it in quotes."
    if toy is not None and not is_entry(toy) and toy not in names("toy"):
        hint = name_hint(toy, names("toy"), kind="toys")
        return f"must draw a toy that exists, got toy = {value_words(toy)}. {hint}"
    if is_entry(toy):
        try:
            declaration("toy", toy)
        except EntryError as error:
            return f"must draw a toy that exists, got toy = {value_words(toy)}: its entry {error.rule}"
    said: object = declared.toy_settings
    if not isinstance(said, Mapping) or not all(isinstance(key, str) for key in said):
        rule = f"must declare toy_settings as a mapping from options of the toy, got {value_words(said)}."
        return f'{rule} Write it as toy_settings: ClassVar = {{"seed": 1}}.'
    return None


def _wrong_options(declared: type[Figure]) -> str | None:
    """Return which options cannot be used: `name` is the figure's, and those of all figures keep their types."""
    options = {field.name for field in fields(declared)}
    if "name" in options:
        return "must not declare an option called name, which names the figure. Rename the option."
    try:
        hints = get_type_hints(declared, include_extras=True)
    except Exception:  # what an annotation of the user's can raise is open; their schema reports it
        return None
    common = next(part for part in (PanelSheet, Figure) if issubclass(declared, part))
    kept = get_type_hints(common, include_extras=True)
    changed = next((field.name for field in fields(common) if hints[field.name] != kept[field.name]), None)
    if changed is not None:
        return (
            f"must keep the option {changed} as all figures have it, got one of another type. "
            "Rename the option, or keep its type."
        )
    return None


def needed_options(declared: type[Figure]) -> list[str]:
    """Return the options without a default."""
    return [field.name for field in fields(declared) if field.default is field.default_factory is MISSING]


def caption(declared: type[Figure]) -> str:
    """Return what a figure shows, in words: the docstring of its class, or else of its file."""
    written = declared.__doc__ or ""
    if written.startswith(f"{declared.__name__}("):  # dataclasses write the signature where there is none
        written = sys.modules[declared.__module__].__doc__ or declared.__name__
    return inspect.cleandoc(written)
