"""Single lines with the parabolas that SGD and PAL minimise on them, and the step of every strategy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from sgdline.figures import _line_panel as lines
from sgdline.figures.base import PanelSheet
from sgdline.figures.grammar import series, style
from sgdline.figures.grammar.style import FloatArray
from sgdline.tables import provenance

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_MARKERS = {
    "optimum": "o",
    "direction_batch_minimum": "s",
    "fbpal": "p",
    "fbpal_sgd_lr": "h",
    "fbpal_sgd_step": "h",
    "sgd_original": "v",
    "sgd_1": "^",
    "sgd_2": "<",
    "sgd_3": ">",
    "sgd_4": "d",
    "pal": "X",
    "executed_step": "D",
}


class _Step(NamedTuple):
    """Where a strategy steps on one line, and what its mark sits on."""

    position: float  # Euclidean length
    loss: float  # nats, of the curve under the mark
    look: series.StrategyLook
    bend: float | None = None  # a of the strategy's parabola, nats per length squared; None: it has none


def parabola(positions: FloatArray, *, loss_at_zero: float, slope: float, bend: float) -> FloatArray:
    """Return q(s) = b(0) + D_b*s + a*s^2: with a = 1/(2*lr) its minimum is the SGD step.

    Args:
        positions: Euclidean lengths. Shape (P,).
        loss_at_zero: b(0), nats.
        slope: D_b, nats per length.
        bend: a, nats per length squared. SGD assumes the curvature 2a = 1/lr on every line, PAL measures it.

    Returns:
        Losses in nats. Shape (P,).

    Source: linesearch M5 and M6.
    """
    return loss_at_zero + slope * positions + bend * positions**2


@dataclass(frozen=True, kw_only=True)
class Parabolas(PanelSheet):
    """Lines, the parabolas of SGD and PAL, and the step of every strategy.

    One panel for each update of analysis.figure_lines, with the losses of its line as in the kind `lines`. SGD with
    learning rate lr steps to the minimum of b(0) + D_b*s + s^2/(2*lr), with the direction batch's exact slope D_b: it
    assumes the curvature 1/lr on every line. PAL measures the curvature, with one more loss of the batch at
    analysis.pal_measuring_step. Blue is the parabola of the run's learning rate, orange and what follows those of
    analysis.sgd_lr (auto: the median of s_opt/abs(D_b) over the middle half of the lines), magenta that of PAL. A
    dashed line shows the step of every strategy: a marker is on its parabola, or on the loss that it minimises.
    """

    reads: ClassVar[tuple[str, ...]] = ("line", "line_strategies", "trace")
    uses: ClassVar[tuple[str, ...]] = ("figure_lines", "pal_measuring_step")
    panels: ClassVar[tuple[str, ...]] = ("line_N",)

    def draw(self, tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any]) -> Figure:
        """Draw one panel per entry of analysis.figure_lines, with all parabolas and a dashed line at every step.

        Source: linesearch fig5 (papers.md 2.4).
        """
        # Imported late: reading a spec does not need it.
        from sgdline.analysis.rates import constant_rate

        interval = settings["probes"]["line"]["interval"]
        scheduled = constant_rate(tables["line"]) is None
        looks = series.strategy_looks(tables["line_strategies"], settings=settings, scheduled=scheduled)
        draw_on = partial(_draw_steps, tables["line_strategies"], looks, scheduled, settings)
        window = (-0.2 * interval, interval)  # -0.1 to 0.5 in the paper
        return lines.draw_lines(self, tables, window=window, draw_on=draw_on, settings=settings)


def _draw_steps(
    strategies: pa.Table,
    looks: Mapping[str, series.StrategyLook],
    scheduled: bool,
    settings: Mapping[str, Any],
    line: lines.MeasuredLine,
    panel: Axes,
) -> Sequence[str]:
    """Draw the parabolas and the steps of a line."""
    notes = [f"lr {line.lr:.3g}"] if scheduled else []
    left, right = panel.get_xlim()
    low, high = lines.loss_limits(line)
    floor = low - 0.5 * (high - low)
    steps = _steps(line, strategies, looks, settings=settings)
    if not any(np.isfinite(step.position) for step in steps):
        notes, steps = [*notes, "no strategy steps on this line"], []
    for step in steps:
        _draw_step(panel, line, step, window=(left, right))
        # A parabola may dip below every measured loss; all together get at most a third of the panel.
        if left <= step.position <= right and np.isfinite(step.loss):
            low = min(low, max(step.loss - 0.05 * (high - low), floor))
    panel.set_xlim(left, right)
    panel.set_ylim(low, high)
    notes += _absent(steps, window=(left, right))
    facts = provenance(strategies)
    if facts.get("sgd_lr", {}).get("sgd_auto", 0.0) is None:
        notes.append("no SGD with the median ratio: it is not positive")
    return [*notes, *(["steps by the released code's rules"] if facts.get("compat") else [])]


def _steps(
    line: lines.MeasuredLine,
    strategies: pa.Table,
    looks: Mapping[str, series.StrategyLook],
    *,
    settings: Mapping[str, Any],
) -> list[_Step]:
    """Return the steps of a line as the table has them, NaN where it has none, with the parabola they come from."""
    own = strategies.filter(np.asarray(strategies["step"].to_numpy() == line.step))
    found = dict(zip(own["strategy"].to_pylist(), style.numbers(own, "step_length").tolist(), strict=True))
    rates = provenance(strategies).get("sgd_lr", {})
    full, batch = line.curves
    start, slope, mu = (
        line.direction_batch_at_zero,
        line.direction_batch_slope,
        settings["analysis"]["pal_measuring_step"],
    )
    bends: dict[str, float] = {name: 1 / (2 * rate) for name, rate in rates.items() if rate is not None}
    bends["pal"] = (float(batch.at([mu])[0, 0]) - start - slope * mu) / mu**2

    steps = []
    for name, look in looks.items():
        position = found.get(name, np.nan)
        if name == "sgd_original":
            steps += _executed(line, position, look, plain=settings["optimizer"]["name"] == "sgd")
        elif name in bends:
            loss = float(parabola(np.array([position]), loss_at_zero=start, slope=slope, bend=bends[name])[0])
            steps.append(_Step(position, loss, look, bends[name]))
        else:
            curve = batch if name == "direction_batch_minimum" else full
            steps.append(_Step(position, float(curve.at([position])[0, 0]), look))
    return steps


def _executed(line: lines.MeasuredLine, position: float, look: series.StrategyLook, *, plain: bool) -> list[_Step]:
    """Return the run's own step, and the minimum of its SGD parabola where that is another one."""
    steps: list[_Step] = []
    vertex = -line.lr * line.direction_batch_slope
    if plain and np.isfinite(position):
        # With momentum the executed step is lr*||m_t||, not the minimum of the parabola (papers.md M4).
        same = abs(position - vertex) <= 0.01 * abs(position)
        own = look if same else look._replace(label=look.label.replace("SGD original", "plain SGD"), name="plain SGD")
        loss = line.direction_batch_at_zero + line.direction_batch_slope * vertex / 2
        steps.append(_Step(vertex, loss, own, 1 / (2 * line.lr)))
        if same:
            return steps
    executed = series.StrategyLook("executed_step", "executed step (s_sgd)", "executed step")
    return [*steps, _Step(position, line.step_train_loss, executed)]


def _draw_step(panel: Axes, line: lines.MeasuredLine, step: _Step, *, window: tuple[float, float]) -> None:
    """Draw a step's parabola, mark and dashed line, as far as they lie in the panel."""
    look, color = step.look, style.ROLES[step.look.role]["color"]
    inside = window[0] <= step.position <= window[1]
    mark = {
        "marker": _MARKERS[look.role], "markersize": 5.5, "markerfacecolor": "white", "markeredgecolor": color,
        "markeredgewidth": 1.2, "label": look.label,
    }  # fmt: skip
    if inside:
        panel.axvline(step.position, color=color, linestyle="--", linewidth=0.9, zorder=1)
    if step.bend is not None and np.isfinite(step.bend):
        # The mark is a point of the curve, so that the legend shows both as one.
        place = int(np.searchsorted(line.positions, step.position)) if inside else 0
        positions = np.insert(line.positions, place, step.position) if inside else line.positions
        losses = parabola(
            positions, loss_at_zero=line.direction_batch_at_zero, slope=line.direction_batch_slope, bend=step.bend
        )
        panel.plot(positions, losses, **style.look(look.role, zorder=3.3), **mark, markevery=[place] if inside else [])
    elif inside:
        panel.plot(step.position, step.loss, color=color, linestyle="none", zorder=4, **mark)


def _absent(steps: Sequence[_Step], *, window: tuple[float, float]) -> list[str]:
    """Return the notes on the steps that are not in the panel."""
    outside = [step for step in steps if np.isfinite(step.position) and not window[0] <= step.position <= window[1]]
    missing = [step.look.name for step in steps if not np.isfinite(step.position)]
    # Names alone where there are many: a panel has room for three lines.
    listed = ", ".join(step.look.name + (f" {step.position:.3g}" if len(outside) < 3 else "") for step in outside)
    return [
        *([f"outside: {listed}"] if outside else []),
        *([f"no step: {', '.join(missing)}"] if missing else []),
    ]
