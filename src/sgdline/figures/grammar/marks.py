"""Numbers from elsewhere beside the curves of a panel: thin marks at its right edge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sgdline.figures.base import Mark
from sgdline.figures.grammar import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LENGTH = 0.035  # of a mark, in the width of the panel
_APART = 0.075  # of the height of the panel: words nearer than that are joined


def draw_marks(axes: Axes, marks: Sequence[Mark], *, size: float) -> list[str]:
    """Draw marks where their numbers lie within the y range, which stays as it is.

    Args:
        axes: With all curves drawn.
        marks: Of this panel.
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
            color="#444444",
            linewidth=1.3,
            solid_capstyle="butt",
            label=mark.source,
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
            ", ".join(dict.fromkeys(word for word in words if word)),
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
