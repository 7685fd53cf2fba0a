"""What a paper says of its figures, and which papers there are (no matplotlib, no pyarrow)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from sgdline.claims.judging.summary import Published
from sgdline.declare.faults import value_words
from sgdline.declare.registry import names
from sgdline.entries import where_words
from sgdline.errors import SgdlineError, cause_words
from sgdline.workflow.layout import OWN_FIGURES

_ROOT = Path(__file__).parent
_NAME = "[a-z0-9_]+"  # of papers and their figures, for names of files and wildcards


@dataclass(frozen=True)
class PaperFigure:
    """A figure of a paper: a kind of figure with options.

    Attributes:
        kind: Name of the kind, one of `sgdline.figures`.
        caption: What the paper shows, and what to look for.
        options: Options of the kind.
        toy_settings: What the settings of the toy that it draws must be.
    """

    kind: str
    caption: str
    options: Mapping[str, Any] = field(default_factory=dict)
    toy_settings: Mapping[str, Any] = field(default_factory=dict)


@cache
def papers() -> tuple[str, ...]:
    """Return the names of the papers that have figures, sorted: the folders beside this module."""
    return papers_with("figures")


def papers_with(part: str) -> tuple[str, ...]:
    """Return the names of the papers that have a module of that name, sorted.

    Raises:
        SgdlineError: If a paper has a name that cannot be used.
    """
    found = sorted(file.parent.name for file in _ROOT.glob(f"[!_]*/{part}.py"))
    for paper in found:
        if not re.fullmatch(_NAME, paper) or paper in (OWN_FIGURES, *names("figure")):
            rule = "must be of small letters, digits and _, neither own nor the name of a kind of figure"
            raise SgdlineError(f"The name of a paper {rule}, got the folder sgdline/papers/{paper}. Rename it.")
    return tuple(found)


def has_part(paper: str, part: str) -> bool:
    """Return whether a paper has a module of that name."""
    return _ROOT.joinpath(paper, f"{part}.py").is_file()


def part_of(paper: str, part: str) -> Mapping[str, Any]:
    """Return what a module of a paper holds.

    Raises:
        SgdlineError: If it cannot be imported.
    """
    try:
        return vars(import_module(f"sgdline.papers.{paper}.{part}"))
    except Exception as error:  # what code that is being written can raise is open
        got = f"{cause_words(error)}{where_words(error)}"
        rule = f"The module sgdline/papers/{paper}/{part}.py must be importable, got {got}."
        raise SgdlineError(f"{rule} Correct it.") from error


@cache
def figures_of(paper: str) -> Mapping[str, PaperFigure]:
    """Return the figures of a paper by their names within it.

    Args:
        paper: One of `papers()`.

    Raises:
        SgdlineError: If its module does not hold them.
    """
    found = part_of(paper, "figures").get("FIGURES")
    place = f"FIGURES of sgdline/papers/{paper}/figures.py"
    if not isinstance(found, Mapping):
        rule = f"{place} must be a mapping from names to PaperFigure, got {value_words(found)}."
        raise SgdlineError(f'{rule} Write FIGURES = {{"fig1": PaperFigure(...)}}.')
    for name, figure in found.items():
        if not isinstance(name, str) or not re.fullmatch(_NAME, name):
            rule = f"{place} must have names of small letters, digits and _, got {value_words(name)}."
            raise SgdlineError(f"{rule} Rename it.")
        if not isinstance(figure, PaperFigure):
            raise SgdlineError(f"{place} must hold a PaperFigure as {name}, got {value_words(figure)}. Correct it.")
    return found


@cache
def figure_ids() -> Mapping[str, PaperFigure]:
    """Return the figures of all papers by their ids, paper/figure."""
    return {f"{paper}/{name}": figure for paper in papers() for name, figure in figures_of(paper).items()}


def marks(
    published: Iterable[Published],
    quantity: str,
    *,
    where: str,
    panel: str,
    factor: float = 1.0,
    settings_named: bool = True,
) -> list[dict[str, Any]]:
    """Return the marks of a figure, see `sgdline.figures.base.Mark`, for published numbers of one quantity.

    Args:
        published: Numbers of a paper.
        quantity: Which of them, as they call it.
        where: Figure or table of the paper.
        panel: Of the figure.
        factor: From the unit of the numbers to that of the panel.
        settings_named: Whether the source of a mark is the setting of its number.
    """
    return [
        {
            "panel": panel,
            "value": factor * number.value,
            "text": number.series,
            "source": f"{number.setting if settings_named else 'published'} [{number.evidence}]",
        }
        for number in published
        if (number.quantity, number.where) == (quantity, where)
    ]
