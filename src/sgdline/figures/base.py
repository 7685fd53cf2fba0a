"""What a figure declares (no matplotlib, no pyarrow)."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from sgdline.declare.registry import Declared, are_texts
from sgdline.declare.vocabulary import MaxLen, MinLen, OfKind, Pattern, Unique, Words

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

    def draw(self, tables: Any, *, settings: Any) -> matplotlib.figure.Figure:
        """Return the picture.

        Args:
            tables: Kind of table -> table, for the kinds that `reads` names, and those of `also` that the run has, or
                for the name of the toy. A list of these, one for each run, where it `compares`.
            settings: What `sgdline.figures.plot_figure` says of a run or a toy; a list where it `compares`.
        """
        raise NotImplementedError(f"{type(self).__name__} must define draw(self, tables, *, settings)")


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A number that is marked at the right edge of a panel, such as one that a paper gives."""

    panel: Annotated[str, MinLen(1)]
    """Name of the panel."""
    value: float
    """The number, in the unit of the panel's y axis."""
    text: str = ""
    """A word or two beside it, such as the setting that it belongs to."""
    source: Annotated[str, MinLen(1)] = "published"
    """Where it is from, for the legend."""


@dataclass(frozen=True, kw_only=True)
class PanelSheet(Figure):
    """A figure of panels with a title above and a footer below, drawn at the size that it has in print."""

    title: Annotated[str, MinLen(1), MaxLen(120)] | None = None
    """Its title; `null`: that of its kind."""
    width: Literal["page", "column"] = "page"
    """Its width: `page`, 7 inches; `column`, 3.4 inches, its panels below one another."""
    panel: Annotated[str, MinLen(1)] | None = None
    """The one panel to draw, by its name; `null`: all of them."""
    marks: tuple[Annotated[Mark, Words("a mapping with panel, value and, if need be, text and source")], ...] = ()
    """Numbers to mark beside the curves."""

    def heading(self) -> str:
        """Return the title: that of the options, or else the first line of the docstring."""
        return self.title or inspect.cleandoc(type(self).__doc__ or "").partition("\n")[0].rstrip(".")


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
    if declared.draw is Figure.draw:
        return "must define draw(self, tables, *, settings), got none. Define it."
    for name in ("reads", "also", "uses"):
        kinds = getattr(declared, name)
        if not are_texts(kinds):
            what = "keys" if name == "uses" else "kinds of tables"
            return (
                f'must declare {name} as a tuple of {what}, got {kinds!r}. Write it as {name}: ClassVar = ("trace",).'
            )
    toy: object = declared.toy
    if not isinstance(toy, str | None):
        return f"must name the toy that it draws, or its entry, in a text, got {toy!r}. Write it in quotes."
    if toy is not None and (declared.reads or declared.also or declared.compares):
        return "must draw either a toy or runs, got both. Leave out reads and compares, or toy."
    if toy is None and not declared.reads:
        return 'must read at least one table, got none. Write for example reads: ClassVar = ("trace",).'
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
