"""Numbers from elsewhere beside the curves of a panel: thin marks at its right edge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

from sgdline.figures.base import Mark, literal
from sgdline.figures.grammar import style

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
    groups: list[tuple[float, list[str]]] = []
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
        if groups and height - groups[-1][0] < _APART:
            groups[-1][1].append(mark.text)
        else:
            groups.append((height, [mark.text]))
    axes.set_ylim(low, high)
    if len(groups) == 1 and len(marks) == len(inside) > 2:
        groups = [(groups[0][0], ["all"])]
    for height, words in groups:
        axes.annotate(
            ", ".join(dict.fromkeys(literal(word) for word in words if word)),
            xy=(1.0, height),
            xytext=(2, 0),
            xycoords="axes fraction",
            textcoords="offset points",
            va="center",
            fontsize=size,
            color="#444444",
            annotation_clip=False,
        )
    outside = len(marks) - len(inside)
    return [f"{style.counted(outside, 'mark')} outside the y range"] if outside else []


def _legend_words(source: str) -> str:
    """Return a source for the legend; matplotlib leaves out labels that begin with an underscore."""
    return literal(f" {source}" if source.startswith("_") else source)
