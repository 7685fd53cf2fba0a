"""Losses along single update directions: full batch, direction batch and the spread of the measuring chunks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sgdline.figures import _line_panel as lines
from sgdline.figures.base import PanelSheet
from sgdline.figures.grammar import style

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class Lines(PanelSheet):
    """Loss along the update direction.

    One panel for each update of analysis.figure_lines. Red is the full-batch loss f(s) at distance s along the update,
    green the loss of the batch that gave the direction. Black are the median and the quartiles of the measuring chunks,
    grey is the range from the lowest to the highest of them. The circle marks the full-batch minimum s_opt, the diamond
    the step that was made; a note below the panel's title names a mark that lies outside of it.
    """

    reads: ClassVar[tuple[str, ...]] = ("line", "trace")
    uses: ClassVar[tuple[str, ...]] = ("figure_lines",)
    panels: ClassVar[tuple[str, ...]] = ("line_N",)

    def draw(self, tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any]) -> Figure:
        """Draw one panel per entry of analysis.figure_lines.

        Source: linesearch fig2 (papers.md 2.4).
        """
        probe = settings["probes"]["line"]
        window = (-probe["interval"], probe["interval"])
        draw_on = partial(_draw_marks, probe["resolution"])
        return lines.draw_lines(self, tables, window=window, draw_on=draw_on, settings=settings)


def _draw_marks(resolution: float, line: lines.MeasuredLine, panel: Axes) -> Sequence[str]:
    """Mark the minimum and the executed step."""
    minimum = line.curves[0].minimum(resolution)
    best, loss = float(minimum.vertex[0]), float(line.curves[0].at(minimum.vertex)[0, 0])
    marks = [
        (best, loss, "o", 7, "full-batch minimum (s_opt)", "s_opt"),
        (line.step_length, line.step_train_loss, "D", 4.5, "executed step (s_sgd)", "s_sgd"),
    ]
    panel.set_ylim(*lines.loss_limits(line))
    half_width, notes = panel.get_xlim()[1], []
    for position, height, marker, size, label, name in marks:
        if abs(position) <= half_width:
            panel.plot(
                position, height, marker=marker, markersize=size, color="white", linestyle="none", zorder=4,
                markeredgecolor=style.ROLES["full_batch"]["color"], markeredgewidth=1.4, label=label,
            )  # fmt: skip
            panel.axvline(position, **style.look("executed_step", linewidth=0.9), zorder=1)
        else:
            notes.append(f"{name} = {position:.3g} is outside" if np.isfinite(position) else f"no {name}")
    return notes
