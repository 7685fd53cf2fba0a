"""Single lines with the parabolas that SGD implicitly minimises on them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sgdline.figures import series, style
from sgdline.figures.linesearch import _line_panel as lines
from sgdline.figures.spec import FigureSpec

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SPEC = FigureSpec(
    id="linesearch/fig5_lines_parabolas",
    title="Lines and the parabolas of SGD",
    tables=("line", "line_metrics", "trace"),
    probes=("line",),
)

FloatArray = npt.NDArray[np.float64]


def sgd_parabola(positions: FloatArray, *, loss_at_zero: float, slope: float, lr: float) -> FloatArray:
    """Return q(s) = b(0) + D_b*s + s^2/(2*lr), the parabola whose minimum is the SGD step.

    Args:
        positions: Euclidean lengths. Shape (P,).
        loss_at_zero: b(0), nats.
        slope: D_b, nats per length.
        lr: Learning rate; SGD assumes the curvature 1/lr on every line.

    Returns:
        Losses in nats. Shape (P,).

    Source: linesearch M5.
    """
    return loss_at_zero + slope * positions + positions**2 / (2 * lr)


def draw(tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any]) -> Figure:
    """Draw one panel per entry of analysis.figure_lines, with both parabolas and every minimum.

    Args:
        tables: `line`, `line_metrics` and `trace` of one run.
        settings: As in `sgdline.figures.plot_figure`.

    Source: linesearch fig5 (papers.md 2.4), without the PAL parabola.
    """
    table, metrics, run_steps = tables["line"], tables["line_metrics"], settings["steps"]
    chosen = lines.choose_lines(table["step"].to_numpy(), settings["analysis"]["figure_lines"], run_steps=run_steps)
    figure, panels = lines.line_sheet(SPEC.title, len(chosen), tables=tables, settings=settings, legend_entries=12)
    if not chosen:
        style.say(panels[0], style.absence("no line was measured", tables))
        return figure
    half_width = settings["line"]["interval"]
    left, right = -0.2 * half_width, half_width  # -0.1 to 0.5 in the paper
    positions = lines.panel_positions(left, right, resolution=settings["line"]["resolution"])
    adapted = series.adapted_lr(metrics, settings=settings)
    found = [lines.read_line(table, row, positions) for row, _ in chosen]
    scheduled = len({line.lr for line in found}) > 1
    for panel, line, (_, wanted) in zip(panels, found, chosen, strict=True):
        notes = [f"lr {line.lr:.3g}"] if scheduled else []
        if lines.draw_losses(panel, line):
            low, high = lines.loss_limits(line)
            marks = _measured_minima(line, metrics) + _parabolas(panel, line, adapted=adapted, scheduled=scheduled)
            if adapted is None:
                notes.append("no adapted lr: no positive median ratio in mid-run")
            for mark in marks:
                if not np.isfinite(mark.position):
                    notes.append(f"{mark.name} does not exist")
                    continue
                if not left <= mark.position <= right:
                    notes.append(f"{mark.name} = {mark.position:.3g} lies outside the panel")
                    continue
                color = style.ROLES[mark.role]["color"]
                panel.axvline(mark.position, color=color, linestyle="--", linewidth=0.9, zorder=1)
                panel.plot(
                    mark.position, mark.loss, marker=mark.marker, markersize=7, color="white", linestyle="none",
                    zorder=4, markeredgecolor=color, markeredgewidth=1.6, label=mark.label,
                )  # fmt: skip
                # A parabola may dip below every measured loss; all of them together get at most a third of the panel.
                if np.isfinite(mark.loss):
                    low = min(low, max(mark.loss - 0.05 * (high - low), _floor(line)))
            panel.set_xlim(left, right)
            panel.set_ylim(low, high)
        lines.line_title(panel, line, wanted=wanted, run_steps=run_steps, notes=notes)
    style.shared_legend(figure, panels)
    return figure


class _Mark(NamedTuple):
    position: float  # Euclidean length
    loss: float  # nats
    role: str
    marker: str
    name: str  # in notes
    label: str  # in the legend


def _floor(line: lines.MeasuredLine) -> float:
    low, high = lines.loss_limits(line)
    return low - 0.5 * (high - low)


def _measured_minima(line: lines.MeasuredLine, metrics: pa.Table) -> list[_Mark]:
    """Return the minima of full batch and direction batch as the table `line_metrics` has them."""
    columns = (
        ("minimum_position_vertex", "full_batch", "o", "s_opt", "full-batch minimum (s_opt)"),
        ("direction_batch_minimum_position", "direction_batch", "s", "s_dir", "direction-batch minimum (s_dir)"),
    )
    rows = np.flatnonzero(metrics["step"].to_numpy() == line.step)
    marks = []
    for (column, role, marker, name, label), curve in zip(columns, line.curves, strict=True):
        position = metrics[column][int(rows[0])].as_py() if rows.size else None
        if position is not None:
            marks.append(_Mark(position, float(curve.at([position])[0, 0]), role, marker, name, label))
    return marks


def _parabolas(panel: Axes, line: lines.MeasuredLine, *, adapted: float | None, scheduled: bool) -> list[_Mark]:
    """Draw the SGD parabolas and return their minima, and the executed step where it is another one."""
    own = "SGD parabola, the run's lr" + ("" if scheduled else f" {line.lr:.3g}")
    kinds = [("parabola_original", "v", line.lr, own, "plain SGD step, the run's lr")]
    if adapted is not None:
        label = f"SGD parabola, adapted lr {adapted:.3g}"
        kinds.append(("parabola_adapted", "^", adapted, label, "plain SGD step, adapted lr"))
    start, slope = line.direction_batch_at_zero, line.direction_batch_slope
    marks = []
    for role, marker, lr, label, step_label in kinds:
        losses = sgd_parabola(line.positions, loss_at_zero=start, slope=slope, lr=lr)
        panel.plot(line.positions, losses, **style.look(role, zorder=3.3), label=label)
        marks.append(
            _Mark(-lr * slope, start - lr * slope**2 / 2, role, marker, f"plain SGD step for lr {lr:.3g}", step_label)
        )
    # With momentum the executed step is lr*||m_t||, not the minimum of the parabola (papers.md M4).
    if abs(line.step_length + line.lr * slope) > 0.01 * line.step_length:
        label = "executed step (s_sgd)"
        marks.append(_Mark(line.step_length, line.step_train_loss, "executed_step", "D", "s_sgd", label))
    return marks
