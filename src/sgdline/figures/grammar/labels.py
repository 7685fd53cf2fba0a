"""Labels beside the ends of curves, in the place of a legend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from sgdline.figures.grammar.style import SIZES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LINE = 0.125  # inches from label to label
_AROUND = 0.75  # inches of a panel that its title and its x axis take, on average


class End(NamedTuple):
    """The end of a curve."""

    height: float  # in the data's units
    text: str
    color: str


def label_ends(panel: Axes, ends: Sequence[End], *, height: float) -> None:
    """Write the names of curves at the right of a panel, each as near to its curve's end as the others leave room.

    Args:
        panel: With its scale and its limits.
        ends: One of each curve that has an end; one beyond the limits is labelled at the panel's edge.
        height: Inches of the panel, title and labels included.
    """
    known = [end for end in ends if np.isfinite(end.height)]
    if not known:
        return
    to_axes = panel.transScale + panel.transLimits
    heights = np.clip([to_axes.transform((panel.get_xlim()[1], end.height))[1] for end in known], 0.0, 1.0)
    places = spaced(np.asarray(heights, dtype=np.float64), gap=_LINE / max(height - _AROUND, _LINE))
    for end, start, place in zip(known, heights.tolist(), places.tolist(), strict=True):
        panel.annotate(
            end.text,
            xy=(1.0, start),
            xytext=(1.05, place),
            xycoords="axes fraction",
            textcoords="axes fraction",
            fontsize=SIZES["note"],
            color=end.color,
            va="center",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": end.color, "linewidth": 0.6, "shrinkA": 1.0, "shrinkB": 0.0},
        )


def spaced(heights: npt.NDArray[np.float64], *, gap: float) -> npt.NDArray[np.float64]:
    """Return places for labels: in the order of the heights, a gap apart at least, near to them, between 0 and 1.

    Labels that are too close form a block around their mean; blocks that touch become one. With more labels than fit,
    the gap is what fits.

    Args:
        heights: Where labels belong, from 0 to 1. Shape (N,).
        gap: Between neighbours.
    """
    count = len(heights)
    if not count:
        return heights
    gap = min(gap, 1 / max(count - 1, 1))
    order = np.argsort(-heights, kind="stable")[::-1]
    blocks: list[list[float]] = []  # of heights less the room that those below them take
    for place, height in enumerate(heights[order].tolist()):
        blocks.append([height - place * gap])
        while len(blocks) > 1 and np.mean(blocks[-2]) >= np.mean(blocks[-1]):
            blocks[-2:] = [blocks[-2] + blocks[-1]]
    level = np.concatenate([np.full(len(block), np.mean(block)) for block in blocks])
    places = np.empty(count)
    places[order] = np.clip(level, 0.0, 1.0 - (count - 1) * gap) + np.arange(count) * gap
    return places
