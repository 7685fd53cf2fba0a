"""Losses along single update directions: full batch, direction batch and the spread of the measuring chunks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sgdline.figures import _line_panel as lines
from sgdline.figures.base import Sheet
from sgdline.figures.grammar import style

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class Lines(Sheet):
    """Loss along the update direction."""

    reads: ClassVar[tuple[str, ...]] = ("line", "trace")
    uses: ClassVar[tuple[str, ...]] = ("figure_lines",)

    def draw(self, tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any]) -> Figure:
        """Draw one panel per entry of analysis.figure_lines.

        Args:
            tables: `line` and `trace` of one run.
            settings: As in `sgdline.figures.plot_figure`.

        Source: linesearch fig2 (papers.md 2.4).
        """
        table, run_steps, probe = tables["line"], settings["steps"], settings["probes"]["line"]
        half_width, resolution = probe["interval"], probe["resolution"]
        chosen = lines.choose_lines(table["step"].to_numpy(), settings["analysis"]["figure_lines"], run_steps=run_steps)
        figure, panels = lines.line_sheet(
            self.heading(), len(chosen), tables=tables, settings=settings, legend_entries=7
        )
        if not chosen:
            style.say(panels[0], style.absence("no line was measured", tables))
            return figure
        positions = lines.panel_positions(-half_width, half_width, resolution=resolution)
        for panel, (row, wanted) in zip(panels, chosen, strict=True):
            line = lines.read_line(table, row, positions)
            notes: list[str] = []
            if lines.draw_losses(panel, line):
                minimum = line.curves[0].minimum(resolution)
                best, loss = float(minimum.vertex[0]), float(line.curves[0].at(minimum.vertex)[0, 0])
                marks = [
                    (best, loss, "o", 9, "full-batch minimum (s_opt)", "s_opt"),
                    (line.step_length, line.step_train_loss, "D", 5, "executed SGD step (s_sgd)", "s_sgd"),
                ]
                panel.set_xlim(-half_width, half_width)
                panel.set_ylim(*lines.loss_limits(line))
                for position, height, marker, size, label, name in marks:
                    if abs(position) <= half_width:
                        panel.plot(
                            position, height, marker=marker, markersize=size, color="white", linestyle="none", zorder=4,
                            markeredgecolor=style.ROLES["full_batch"]["color"], markeredgewidth=1.6, label=label,
                        )  # fmt: skip
                        panel.axvline(position, **style.look("executed_step", linewidth=0.9), zorder=1)
                    else:
                        where = (
                            f"= {position:.3g} lies outside the panel" if np.isfinite(position) else "does not exist"
                        )
                        notes.append(f"{name} {where}")
            lines.line_title(panel, line, wanted=wanted, run_steps=run_steps, notes=notes)
        style.shared_legend(figure, panels)
        return figure
