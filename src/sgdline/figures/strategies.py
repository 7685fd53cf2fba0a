"""Line-search strategies over a run: how far they step, how far they miss, what they gain."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from sgdline.declare import registry
from sgdline.figures.base import Sheet
from sgdline.figures.grammar import series, style
from sgdline.tables import provenance

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


FloatArray = npt.NDArray[np.float64]
# Strategy -> its look and its rows, by step.
Drawn = Mapping[str, tuple[series.StrategyLook, "pa.Table"]]

_LINEAR_BELOW = 1e-4  # of the symlog axes, as in the paper
_OWN_STATUS = ("ok", "out_of_range", "no_step")  # anything else is a status of the line
_RATIO_ENTRIES = 4


@dataclass(frozen=True, kw_only=True)
class Strategies(Sheet):
    """Line-search strategies on the measured lines."""

    reads: ClassVar[tuple[str, ...]] = ("line_strategies", "line_metrics", "trace")
    uses: ClassVar[tuple[str, ...]] = ("smoothing",)

    def draw(self, tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any]) -> Figure:
        """Draw the six panels of one run, see `draw_metrics`."""
        return draw_metrics(tables, settings=settings, title=self.heading())


def draw_metrics(tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any], title: str) -> Figure:
    """Draw steps, distances to the minimum, improvements, the sums of both, and the ratio s_opt/||m_t||.

    Args:
        tables: `line_strategies`, `line_metrics` and `trace` of one run.
        settings: As in `sgdline.figures.plot_figure`.
        title: One line.

    Source: linesearch fig6 (papers.md 2.4), M8 to M10; the variant of FBPAL&SGD as `series.strategy_looks` says.
    """
    # Imported late: reading a spec does not need it.
    from sgdline.analysis.rates import constant_rate
    from sgdline.analysis.strategies import accumulate, common_improvement, rows_by_strategy

    table = tables["line_strategies"]
    scheduled = constant_rate(tables["line_metrics"]) is None
    looks = series.strategy_looks(table, settings=settings, scheduled=scheduled)
    rows = rows_by_strategy(table)
    gains, lines = common_improvement(table, list(looks)) if looks else ({}, 0)
    # The legend lists the strategies by what they gain on the lines that all of them have, the best one first.
    order = sorted(looks, key=lambda name: -gains[name]) if lines else list(looks)
    strategies = {name: (looks[name], rows[name]) for name in order}
    compat = ["strategies by the released code's rules (analysis.compat)"] if provenance(table).get("compat") else []
    figure = style.new_figure(
        title,
        footer=[*style.describe_run(tables, settings), *compat],
        width=13.6,
        height=8.4,
        legend_entries=len(looks) + _RATIO_ENTRIES + (style.divergence_step(tables) is not None),
    )
    panels = figure.subplots(2, 3).ravel().tolist()
    steps, distances, improvements, distance_sum, improvement_sum, ratio = panels
    _draw_values(steps, strategies, tables, settings=settings, column="step_length")
    _draw_values(distances, strategies, tables, settings=settings, column="distance")
    _draw_values(improvements, strategies, tables, settings=settings, column="improvement")
    sums = {name: own for name, own in accumulate(table).items() if name in looks}
    every = settings["probes"]["line"]["every"]
    summed = "sum over the measured lines" + ("" if every == 1 else f", 1 in {every}")
    _draw_sums(
        distance_sum,
        {name: (looks[name], sums[name].steps, sums[name].distance) for name in order if name != "optimum"},
        tables,
        settings=settings,
        text="accumulated distance |s_opt - s|",
        unit="Euclidean length",
        notes=[summed],
    )
    missing = any(own.missing_improvements for own in sums.values())
    listed = ", ".join(f"{looks[name].name}: {gains[name]:.3g}" for name in order) if lines else ""
    _draw_sums(
        improvement_sum,
        {name: (looks[name], sums[name].steps, sums[name].improvement) for name in order},
        tables,
        settings=settings,
        text="accumulated improvement",
        unit="nats",
        notes=[f"sums {f'over the {lines} lines that all have' if missing else 'at the end'} - {listed}"]
        if lines
        else [],
    )
    _draw_ratio(ratio, tables, settings=settings)
    style.shared_legend(figure, panels)
    return figure


_VALUES = {
    "step_length": ("step s", "s (Euclidean length)", False),
    "distance": ("distance to the full-batch minimum, s_opt - s", "s_opt - s (Euclidean length)", True),
    "improvement": ("improvement f(0) - f(s)", "f(0) - f(s) (nats)", True),
}


def _draw_values(
    panel: Axes, strategies: Drawn, tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any], column: str
) -> None:
    """Draw one column of the table for every strategy, smoothed."""
    text, label, symlog = _VALUES[column]
    panel.set_ylabel(label)
    panel.set_xlabel("update t")
    # The optimum's own distance is 0 on every line.
    shown = {name: own for name, own in strategies.items() if column != "distance" or name != "optimum"}
    values = {name: style.numbers(own, column) for name, (_, own) in shown.items()}
    if not any(np.isfinite(found).any() for found in values.values()):
        style.title(panel, text)
        words = "no line was measured" if not strategies else "no strategy has a value"
        style.say(panel, style.absence(words, tables))
        return
    window = settings["analysis"]["smoothing"]
    panel.axhline(0.0, color="#BBBBBB", linewidth=0.7, zorder=0)
    drawn = []
    for name, (look, own) in shown.items():
        steps = style.numbers(own, "step")
        series.draw_series(panel, steps, values[name], window=window, role=look.role, label=look.label, measured=False)
        drawn.append(np.asarray(panel.lines[-1].get_ydata(), dtype=np.float64))
    series.mark_run(panel, tables, run_steps=settings["steps"])
    count = max(len(found) for found in values.values())
    notes = [series.average_note(count, window, measured=False)] if column == "step_length" else []
    if symlog:
        panel.set_yscale("symlog", linthresh=_LINEAR_BELOW)
        notes = [f"linear between ±{_LINEAR_BELOW:g}"]
    else:
        limits = style.readable_limits(np.concatenate(drawn), keep=[0.0])
        if limits:
            panel.set_ylim(*limits)
        notes += style.outside_note(np.concatenate(drawn), limits)
    style.title(panel, text, notes + _missing_notes(strategies, column))


def _missing_notes(strategies: Drawn, column: str) -> list[str]:
    """Return the notes that say which lines a panel lacks, and why."""
    counts = {look.name: Counter(own["status"].to_pylist()) for look, own in strategies.values()}
    if column == "step_length":
        lines = next(iter(counts.values()))
        without = {status: number for status, number in lines.items() if status not in _OWN_STATUS}
        return [
            *(f"{style.counted(number, 'line')} {status.replace('_', ' ')}" for status, number in without.items()),
            *_listed("no step", counts, "no_step"),
        ]
    return _listed("beyond the measured range", counts, "out_of_range") if column == "improvement" else []


def _listed(words: str, counts: Mapping[str, Counter[str]], status: str) -> list[str]:
    named = [f"{name} on {style.counted(own[status], 'line')}" for name, own in counts.items() if own[status]]
    return [f"{words}: {', '.join(named)}"] if named else []


def _draw_sums(
    panel: Axes,
    sums: Mapping[str, tuple[series.StrategyLook, npt.NDArray[np.int64], FloatArray]],
    tables: Mapping[str, pa.Table],
    *,
    settings: Mapping[str, Any],
    text: str,
    unit: str,
    notes: Sequence[str],
) -> None:
    """Draw accumulated values, not smoothed."""
    panel.set_xlabel("update t")
    panel.set_ylabel(f"sum ({unit})")
    if not any(np.any(values != 0) for _, _, values in sums.values()):
        style.title(panel, text)
        words = "no line was measured" if not sums else "no strategy has a value"
        style.say(panel, style.absence(words, tables))
        return
    panel.axhline(0.0, color="#BBBBBB", linewidth=0.7, zorder=0)
    for look, steps, values in sums.values():
        marker = {"marker": "o", "markersize": 3.0} if len(steps) == 1 else {}
        panel.plot(steps, values, **style.look(look.role, **marker), label=look.label)
    series.mark_run(panel, tables, run_steps=settings["steps"])
    style.title(panel, text, notes)


def _draw_ratio(panel: Axes, tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any]) -> None:
    """Draw s_opt/||m_t|| with its median, its quartiles and the run's own learning rate (M10)."""
    from sgdline.analysis.rates import constant_rate
    from sgdline.analysis.strategies import middle_half

    metrics, window = tables["line_metrics"].sort_by("step"), settings["analysis"]["smoothing"]
    steps, ratios = style.numbers(metrics, "step"), style.numbers(metrics, "line_search_ratio")
    text = "learning rate of an exact line search"
    panel.set_xlabel("update t")
    panel.set_ylabel("s_opt / ||m||  (a learning rate)")
    finite = np.isfinite(ratios)
    if not finite.any():
        style.title(panel, text)
        words = "no line was measured" if len(steps) == 0 else "no line has a ratio"
        style.say(panel, style.absence(words, tables))
        return
    notes = [series.average_note(len(steps), window)]
    lr, constant = style.numbers(metrics, "lr"), constant_rate(metrics)
    half = middle_half(len(steps))
    middle = ratios[half][finite[half]]
    if middle.size >= 4:
        low, high = np.quantile(middle, [0.25, 0.75])
        panel.fill_between(
            [steps[half][0], steps[half][-1]], low, high, color=style.ROLES["spread"]["color"], linewidth=0, zorder=0,
            label=f"ratio, middle half: quartiles {low:.3g} to {high:.3g}",
        )  # fmt: skip
        median, span = float(np.median(middle)), "middle half"
    else:
        notes.append("fewer than 4 ratios in the middle half: no quartiles")
        median, span = float(np.median(ratios[finite])), "run"
    panel.axhline(0.0, color="#BBBBBB", linewidth=0.7, zorder=0)
    series.draw_series(panel, steps, ratios, window=window, role="measured", label="ratio, measured")
    panel.axhline(median, **style.look("median", zorder=1.5), label=f"ratio, median of the {span}: {median:.3g}")
    changing = registry.label(settings["optimizer"]["name"]) if settings["lr_is_length"] else "scheduled"
    if constant is None:
        panel.step(steps, lr, where="post", **style.look("reference"), label=f"the run's lr ({changing})")
    else:
        panel.axhline(constant, **style.look("reference"), label=f"the run's lr: {constant:g}")
    series.mark_run(panel, tables, run_steps=settings["steps"])
    limits = style.readable_limits(ratios, keep=[0.0, float(np.nanmin(lr)), float(np.nanmax(lr))], stretch=1.5)
    if limits:
        panel.set_ylim(*limits)
    notes += style.outside_note(ratios, limits)
    missing = int((~finite).sum())
    if missing:
        notes.append(f"no ratio on {missing} of {style.counted(len(steps), 'line')}")
    style.title(panel, text, notes)
