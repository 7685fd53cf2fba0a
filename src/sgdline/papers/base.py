"""What a paper says of its figures, and which papers there are (no matplotlib, no pyarrow)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from sgdline.claims.judging.summary import Published

_ROOT = Path(__file__).parent


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
    return tuple(sorted(file.parent.name for file in _ROOT.glob("[!_]*/figures.py")))


@cache
def figures_of(paper: str) -> Mapping[str, PaperFigure]:
    """Return the figures of a paper by their names within it.

    Args:
        paper: One of `papers()`.
    """
    found: Mapping[str, PaperFigure] = import_module(f"sgdline.papers.{paper}.figures").FIGURES
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
