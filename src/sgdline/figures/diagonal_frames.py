"""Diagonal linear networks: SGD bounces above a valley and moves along it, in frames side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sgdline.figures import _plane
from sgdline.figures.base import PanelSheet
from sgdline.figures.grammar.sheet import Panel, draw_sheet

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SHARES = (0.002, 0.01, 0.05, 0.2, 0.7, 1.0)  # of the run
_HIGHEST = 2.4  # inches of a frame


@dataclass(frozen=True, kw_only=True)
class DiagonalFrames(PanelSheet):
    """Diagonal linear networks: SGD above the valley, in six frames.

    The first chain of each setting up to six updates, projected on the plane through the start, the sparse solution and
    the end of gradient flow, over contours of the training loss. White: gradient flow. Black rings: where the others
    are. Pairs (u_j, v_j) with a negative sum are multiplied by -1, which no loss sees. Points that were kept are joined
    by straight lines: of late updates only some are.
    """

    toy: ClassVar[str | None] = "diagonal_plane"
    panels: ClassVar[tuple[str, ...]] = ("frame_N", "scale")

    def draw(self, tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any]) -> Figure:
        """Draw the mirror images of the descents up to six updates, over contours of the training loss.

        Source: sparse/fig_diag_2d_animation, papers.md 4.2.
        """
        plane = _plane.plane_of(tables, "train_loss", settings)
        first, second = (settings[f"{name}_range"] for name in ("first", "second"))
        height = min(2.7 * (second[1] - second[0]) / (first[1] - first[0]) + 0.85, _HIGHEST)
        moments = [max(round(share * settings["updates"]), 1) for share in _SHARES]
        panels = [
            Panel(f"frame_{place}", f"after {until:,} updates", partial(_draw_frame, plane, until), height=height)
            for place, until in enumerate(moments, start=1)
        ]
        return draw_sheet(self, [*panels, _plane.scale_panel(plane)], footer=_plane.footer(plane), columns=2)


def _draw_frame(plane: _plane.Plane, until: int, panel: Axes) -> Sequence[str]:
    _plane.draw_contours(plane, panel)
    words = []
    for descent in plane.drawn:
        _plane.draw_path(descent, panel, mirrored=True, until=until)
        last = int(np.searchsorted(descent.updates, until, side="right")) - 1
        if last >= 0:
            look: dict[str, Any] = {"markersize": 4.5, "markeredgecolor": "#000000", "zorder": 4}
            color = descent.color if descent.setting else "#FFFFFF"
            panel.plot(*descent.mirrored[:, last], marker="o", color=color, **look)
            words.append(f"{descent.method} {descent.losses['train_loss'][last]:.2g}")
    return [f"training loss: {', '.join(words)}"]
