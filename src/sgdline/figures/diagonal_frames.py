"""Diagonal linear networks: SGD bounces above a valley and moves along it, in frames side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sgdline.figures import _plane
from sgdline.figures.base import Sheet
from sgdline.figures.grammar import style

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.figure import Figure


_SHARES = (0.002, 0.01, 0.05, 0.2, 0.7, 1.0)  # of the run


@dataclass(frozen=True, kw_only=True)
class DiagonalFrames(Sheet):
    """Diagonal linear networks: SGD above the valley, in six frames."""

    toy: ClassVar[str | None] = "diagonal_plane"

    def draw(self, tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any]) -> Figure:
        """Draw the mirror images of the descents up to six updates, over contours of the training loss.

        Args:
            tables: `diagonal_plane` of one toy.
            settings: As in `sgdline.figures.plot_figure`.

        Source: sparse/fig_diag_2d_animation, papers.md 4.2.
        """
        table, updates = tables["diagonal_plane"], settings["updates"]
        found = _plane.descents(table)
        first, second = (settings[f"{name}_range"] for name in ("first", "second"))
        height = 2.0 * 4.0 * (second[1] - second[0]) / (first[1] - first[0]) + 2.3
        figure = style.new_figure(
            self.heading(), footer=_plane.footer(settings, found), width=13.2, height=min(height, 10.0),
            legend_entries=len(_plane.drawn(found)),
        )  # fmt: skip
        panels = figure.subplots(2, 3, sharex=True, sharey=True)
        fills = []
        for place, (panel, share) in enumerate(zip(panels.flat, _SHARES, strict=True)):
            until = max(round(share * updates), 1)
            fills.append(_plane.draw_contours(panel, table, "train_loss", settings=settings))
            words = []
            for descent in _plane.drawn(found):
                _plane.draw_path(panel, descent, mirrored=True, until=until, label=place == 0)
                last = int(np.searchsorted(descent.updates, until, side="right")) - 1
                if last >= 0:
                    panel.plot(
                        *descent.mirrored[:, last], marker="o", markersize=5.5, markeredgecolor="#000000",
                        color=_plane.look(descent.kind)["color"], zorder=4,
                    )  # fmt: skip
                    name = "flow" if descent.kind == "flow" else descent.kind.upper()
                    words.append(f"{name} {descent.losses['train_loss'][last]:.2g}")
            _plane.mark_points(panel, table, found)
            style.title(panel, f"after {until:,} updates", [f"training loss: {', '.join(words)}"])
            if place >= 3:
                panel.set_xlabel("towards the sparse solution (length)")
            if place % 3 == 0:
                panel.set_ylabel("towards the flow's end (length)")
        bar = figure.colorbar(
            fills[0], ax=panels.ravel().tolist(), shrink=0.8, ticks=[10.0**power for power in range(-12, 3, 2)]
        )
        bar.set_label("training loss on the plane")
        style.shared_legend(figure, [panels[0, 0]])
        return figure
