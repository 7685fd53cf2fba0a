"""Numbers from elsewhere beside the curves of a panel: thin marks at its right edge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from sgdline.figures.base import Mark, literal
from sgdline.figures.grammar import style
from sgdline.figures.grammar.labels import spaced

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LENGTH = 0.035  # of a mark, in the width of the panel
_APART = 0.075  # of the height of the panel: words nearer than that are joined
# Of sources, which a mark of a few points tells apart by the shape at its inner end; then by its grey.
_SHAPES = ("", "o", "s", "^", "D", "v", "X", "P")
_LOOKS = tuple(product(("#444444", "#999999"), _SHAPES))  # MOST_SOURCES


def looks_of(marks: Sequence[Mark]) -> dict[str, dict[str, Any]]:
    """Return the look of each source: the same in all panels.

    Args:
        marks: Of the whole sheet.
    """
    sources = dict.fromkeys(mark.source for mark in marks)
    return {
        source: {"color": colour, "marker": shape, "markersize": 3.5, "markevery": [0]}
        for source, (colour, shape) in zip(sources, _LOOKS, strict=False)
    }


def draw_marks(axes: Axes, marks: Sequence[Mark], *, looks: Mapping[str, Mapping[str, Any]], size: float) -> list[str]:
    """Draw marks where their numbers lie within the y range, which stays as it is.

    Args:
        axes: With all curves drawn.
        marks: Of this panel.
        looks: Of their sources.
        size: Of the words beside them, points.

    Returns:
        A note that counts the marks outside the y range, or none.
    """
    if not marks:
        return []
    low, high = axes.get_ylim()
    inside = sorted((mark for mark in marks if min(low, high) <= mark.value <= max(low, high)), key=lambda m: m.value)
    across = axes.get_yaxis_transform()
    groups: list[tuple[float, str, list[str]]] = []  # height, source, words
    for mark in inside:
        axes.plot(
            [1 - _LENGTH, 1.0],
            [mark.value] * 2,
            transform=across,
            linewidth=1.3,
            solid_capstyle="butt",
            label=_legend_words(mark.source),
            **looks[mark.source],
        )
        height = float(axes.transAxes.inverted().transform(axes.transData.transform((0.0, mark.value)))[1])
        if groups and height - groups[-1][0] < _APART and groups[-1][1] == mark.source:
            groups[-1][2].append(mark.text)
        else:
            groups.append((height, mark.source, [mark.text]))
    axes.set_ylim(low, high)
    if len(groups) == 1 and len(marks) == len(inside) > 2:
        groups = [(*groups[0][:2], ["all"])]
    places = spaced(np.clip([height for height, _, _ in groups], 0.0, 1.0), gap=_APART)
    for (_, source, words), place in zip(groups, places.tolist(), strict=True):
        axes.annotate(
            ", ".join(dict.fromkeys(literal(word) for word in words if word)),
            xy=(1.0, place),
            xytext=(2, 0),
            xycoords="axes fraction",
            textcoords="offset points",
            va="center",
            fontsize=size,
            color=looks[source]["color"],
            annotation_clip=False,
        )
    outside = len(marks) - len(inside)
    return [f"{style.counted(outside, 'mark')} outside the y range"] if outside else []


def _legend_words(source: str) -> str:
    """Return a source for the legend; matplotlib leaves out labels that begin with an underscore."""
    return literal(f" {source}" if source.startswith("_") else source)
