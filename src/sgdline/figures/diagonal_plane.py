"""Diagonal linear networks: a loss on a plane, with gradient flow, GD and SGD projected on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from sgdline.figures import _plane
from sgdline.figures.base import PanelSheet
from sgdline.figures.grammar.sheet import Panel, draw_sheet

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class DiagonalPlane(PanelSheet):
    """Diagonal linear networks: loss on a plane and descents.

    Training or test loss of a diagonal linear network on the plane through the start, the sparse solution and the end
    of gradient flow (gradient descent with a small step), logarithmic and clipped at 100, with the first chain of each
    setting projected on it; and the loss of all chains over the updates, first chains thick, crosses where one
    diverges. In the first panel u and v have their signs; in the second, pairs (u_j, v_j) with a negative sum are
    multiplied by -1, which no loss sees.
    """

    toy: ClassVar[str | None] = "diagonal_plane"
    panels: ClassVar[tuple[str, ...]] = ("signed", "mirrored", "scale", "over")

    loss: Literal["train_loss", "test_loss"] = "train_loss"
    """Whose contours are drawn."""

    def draw(self, tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any]) -> Figure:
        """Draw contours with signed and with mirrored descents, and the loss over the updates.

        Source: sparse fig_diag_2d_train and fig_diag_2d_test, papers.md 4.2.
        """
        plane = _plane.plane_of(tables, self.loss, settings)
        heading = self.title or f"Diagonal linear networks: {plane.loss} on a plane and descents"
        panels = [
            Panel("signed", "projected descents", partial(_draw_plane, plane, False), height=3.2),
            Panel("mirrored", "their mirror images", partial(_draw_plane, plane, True), height=3.2),
            _plane.scale_panel(plane),
            Panel("over", f"{plane.loss} of the descents", partial(_draw_losses, plane), height=2.1, span=2),
        ]
        return draw_sheet(self, panels, footer=_plane.footer(plane), columns=2, heading=heading)


def _draw_plane(plane: _plane.Plane, mirrored: bool, panel: Axes) -> Sequence[str]:
    _plane.draw_contours(plane, panel)
    for descent in plane.drawn:
        _plane.draw_path(descent, panel, mirrored=mirrored)
    return ["pairs with a negative sum times -1: the same losses" if mirrored else "u and v with their signs"]


def _draw_losses(plane: _plane.Plane, panel: Axes) -> Sequence[str]:
    for descent in plane.descents:
        first = descent.chain == 0
        losses = descent.losses[plane.measure]
        shown = np.where(losses > 0.0, np.minimum(losses, _plane.HIGHEST), np.nan)
        look = {**descent.look, "linewidth": 1.3 if first else 0.4, "alpha": 1.0 if first else 0.5}
        panel.plot(descent.updates + 1, shown, **look, zorder=3 if first else 2)
        if descent.diverged:
            panel.plot(
                descent.updates[-1] + 1, _plane.HIGHEST, color=descent.color, marker="x", linestyle="", markersize=4.5
            )
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.set_xlim(1, 1.2 * (plane.settings["updates"] + 1))
    panel.set_xlabel("updates done + 1")
    panel.set_ylabel(plane.loss)
    return ["thin: other index seeds and starts"]
