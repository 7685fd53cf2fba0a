"""Numbers from elsewhere beside the curves of a panel: thin marks at its right edge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from sgdline.figures.base import Mark
from sgdline.figures.grammar import style
from sgdline.figures.grammar.labels import spaced

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LENGTH = 0.035  # of a mark, in the width of the panel
_APART = 0.075  # of the height of the panel: words nearer than that are joined
_COLORS = ("#444444", "#909090", "#BDBDBD")  # of sources


def draw_marks(axes: Axes, marks: Sequence[Mark], *, size: float, sources: Sequence[str]) -> list[str]:
    """Draw marks where their numbers lie within the y range, which stays as it is.

    Args:
        axes: With all curves drawn.
        marks: Of this panel.
        size: Of the words beside them, points.
        sources: Of all marks of the figure: each has a colour.

    Returns:
        A note that counts the marks outside the y range, or none.
    """
    if not marks:
        return []
    low, high = axes.get_ylim()
    inside = sorted((mark for mark in marks if min(low, high) <= mark.value <= max(low, high)), key=lambda m: m.value)
    across = axes.get_yaxis_transform()
    groups: list[tuple[float, str, list[str]]] = []  # height, colour, words
    for mark in inside:
        color = _COLORS[sources.index(mark.source) % len(_COLORS)]
        axes.plot(
            [1 - _LENGTH, 1.0],
            [mark.value] * 2,
            transform=across,
            color=color,
            linewidth=1.3,
            solid_capstyle="butt",
            label=mark.source,
        )
        height = float(axes.transAxes.inverted().transform(axes.transData.transform((0.0, mark.value)))[1])
        if groups and height - groups[-1][0] < _APART and groups[-1][1] == color:
            groups[-1][2].append(mark.text)
        else:
            groups.append((height, color, [mark.text]))
    axes.set_ylim(low, high)
    if len(groups) == 1 and len(marks) == len(inside) > 2:
        groups = [(*groups[0][:2], ["all"])]
    places = spaced(np.clip([height for height, _, _ in groups], 0.0, 1.0), gap=_APART)
    for (_, color, words), place in zip(groups, places.tolist(), strict=True):
        axes.annotate(
            ", ".join(dict.fromkeys(word for word in words if word)),
            xy=(1.0, place),
            xytext=(2, 0),
            xycoords="axes fraction",
            textcoords="offset points",
            va="center",
            fontsize=size,
            color=color,
            annotation_clip=False,
        )
    outside = len(marks) - len(inside)
    return [f"{style.counted(outside, 'mark')} outside the y range"] if outside else []
