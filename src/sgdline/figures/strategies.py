"""Line-search strategies over a run: what they gain, where their steps end, and which learning rate would be exact."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from sgdline.declare import registry
from sgdline.figures.base import Mark, PanelSheet
from sgdline.figures.grammar import series, style
from sgdline.figures.grammar.labels import End, label_ends
from sgdline.figures.grammar.sheet import NoDataError, Panel, draw_sheet
from sgdline.figures.grammar.style import FloatArray
from sgdline.tables import provenance

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_OWN_STATUS = ("ok", "out_of_range", "no_step")  # anything else is a status of the line
_SUMS, _OVER_RUN, _ROW, _AROUND_ROWS = 2.5, 2.4, 0.17, 0.95  # inches
# Curves over the run leave out these: where they end is known, at the minimum or close to it.
_AT_THE_MINIMUM = ("optimum", "fbpal")
_STEP_LIMITS = (1 / 16, 16.0)  # of s/s_opt
_ADAPTED = {"sgd_adapted": "sgd_auto"}  # a published rate was chosen by the ratio, as ours is


class _Strategy(NamedTuple):
    """A strategy, its rows by step, and its sums over them."""

    look: series.StrategyLook
    rows: pa.Table
    distance: FloatArray  # accumulated |s_opt - s|, Euclidean length
    improvement: FloatArray  # accumulated f(0) - f(s), nats
    gain: float  # nats, over the lines that all strategies have; NaN without any
    share: float  # of the optimum's gain

    @property
    def label(self) -> str:
        """That of its curves; no legend lists it, as their ends are named."""
        return f"_{self.look.label}"

    @property
    def color(self) -> str:
        """Its colour."""
        return str(style.ROLES[self.look.role]["color"])

    def numbers(self, column: str) -> FloatArray:
        """Return a column of its rows."""
        return style.numbers(self.rows, column)


@dataclass(frozen=True, kw_only=True)
class Strategies(PanelSheet):
    """Line-search strategies on the measured lines.

    What each strategy would have done on every measured line, by itself: the lines stay those of the run. Strategies:
    the full-batch minimum s_opt itself (optimum); the minimum of the direction batch; PAL, a parabola through two
    losses and the slope of the direction batch, and FBPAL, the same on the full-batch loss; FBPAL&SGD, which finds an
    FBPAL step now and then and reuses its learning rate s/abs(D_b), a mean of the last ones after the start of the run
    (the released code reuses the step length [code], and so does this figure with analysis.compat); SGD as it was run,
    and SGD with the learning rates of analysis.sgd_lr. A strategy with a single value is left out. Above: the
    improvement f(0) - f(s) and the distance abs(s_opt - s) to the minimum, summed over the lines; the best strategy
    comes first, the numbers are the sums at the end. In the middle: the gain on a line as a share of the optimum's, and
    where the step ends, s/s_opt, where 1 is the minimum and beyond 2 a parabola gives a loss; dots are medians over the
    lines, bars the middle half, and the shares in per cent are those of the sums. Below: s/s_opt over the run, as ratio
    of moving averages, without the two that end at the minimum or close to it; and the ratio s_opt/norm(m_t), the
    learning rate with which the update would have ended in the minimum. It is constant where its curve stays inside the
    band, the quartiles of its middle half. A step that ends where its line was not measured has no improvement. Curves
    of sums are over the lines that the strategy has, numbers over those that all of them have.
    """

    reads: ClassVar[tuple[str, ...]] = ("line_strategies", "line_metrics", "trace")
    uses: ClassVar[tuple[str, ...]] = ("smoothing", "fbpal_every")
    panels: ClassVar[tuple[str, ...]] = ("gain", "distance", "share", "position", "steps", "ratio")

    def draw(self, tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any]) -> Figure:
        """Draw gains, distances, where steps end, and the ratio s_opt/||m_t||.

        Source: linesearch fig6 (papers.md 2.4), M8 to M10; the variant of FBPAL&SGD as `series.strategy_looks` says.
        """
        strategies, lines, once = _read(tables, settings=settings)
        rows = _AROUND_ROWS + _ROW * max(len(strategies), 4)
        data = (strategies, tables, settings)
        draws = {
            "gain": ("accumulated improvement", partial(_draw_gains, lines, *data), _SUMS),
            "distance": ("accumulated distance", partial(_draw_distances, *data), _SUMS),
            "share": ("share of the optimum's gain", partial(_draw_shares, self.marks, *data), rows),
            "position": ("where the step ends", partial(_draw_positions, *data), rows),
            "steps": ("where the step ends, over the run", partial(_draw_steps, *data), _OVER_RUN),
            "ratio": ("exact learning rate", partial(_draw_ratio, self.marks, tables, settings), _OVER_RUN),
        }
        panels = [
            Panel(name, title, draw, height=height, own_marks=name in ("share", "ratio"))
            for name, (title, draw, height) in draws.items()
        ]
        compat = provenance(tables["line_strategies"]).get("compat")
        footer = [
            *(["strategies by the released code's rules"] if compat else []),
            *([f"left out, with one value: {', '.join(once)}"] if once else []),
            *style.run_facts(tables, settings),
        ]
        return draw_sheet(self, panels, footer=footer, columns=2)


def _read(
    tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any]
) -> tuple[dict[str, _Strategy], int, list[str]]:
    """Return the strategies, the best one first, on how many lines they are compared, and the names of those left out.

    Left out is what was measured once: FBPAL&SGD where its first step was all that it reused, and what has one step.
    """
    # Imported late: reading a spec does not need it.
    from sgdline.analysis.rates import constant_rate
    from sgdline.analysis.strategies import accumulate, common_improvement, rows_by_strategy

    table = tables["line_strategies"]
    scheduled = constant_rate(tables["line_metrics"]) is None
    looks = series.strategy_looks(table, settings=settings, scheduled=scheduled)
    rows = rows_by_strategy(table)
    steps = {name: int(np.isfinite(style.numbers(rows[name], "step_length")).sum()) for name in looks}
    reused = settings["analysis"]["fbpal_every"] >= max((len(rows[name]) for name in looks), default=0)
    if max(steps.values(), default=0) < 2:  # one line: all there is
        kept = list(looks)
    else:
        kept = [
            name for name in looks if steps[name] != 1 and not (reused and name in ("fbpal_sgd_lr", "fbpal_sgd_step"))
        ]
    gains, lines = common_improvement(table, kept) if kept else ({}, 0)
    sums = accumulate(table)
    order = sorted(kept, key=lambda name: -gains[name]) if lines else kept
    best = gains.get("optimum", np.nan)
    strategies = {
        name: _Strategy(
            looks[name],
            rows[name],
            sums[name].distance,
            sums[name].improvement,
            gains[name],
            gains[name] / best if best > 0 else np.nan,
        )
        for name in order
    }
    return strategies, lines, [looks[name].name for name in looks if name not in kept]


Found = Mapping[str, _Strategy]


def _draw_gains(
    lines: int, strategies: Found, tables: Mapping[str, pa.Table], settings: Mapping[str, Any], panel: Axes
) -> Sequence[str]:
    panel.set_ylabel("sum of f(0) - f(s) (nats)")
    sums = {name: own.improvement for name, own in strategies.items()}
    labels = {name: f"{own.look.name} {own.gain:.3g}" if lines else own.look.name for name, own in strategies.items()}
    _draw_sums(panel, strategies, sums, labels, tables, settings=settings)
    missing = any(np.isnan(own.numbers("improvement")).any() for own in strategies.values())
    beyond = _listed("beyond the measured range", strategies, "out_of_range")
    common = [f"numbers: over the {lines} lines that all have"] if missing and lines else []
    return [*common, *beyond, *series.sum_note(settings)]


def _draw_distances(
    strategies: Found, tables: Mapping[str, pa.Table], settings: Mapping[str, Any], panel: Axes
) -> Sequence[str]:
    panel.set_ylabel("sum of |s_opt - s| (length)")
    sums = {name: own.distance for name, own in strategies.items() if name != "optimum"}  # its own distance is 0
    labels = {name: f"{strategies[name].look.name} {values[-1]:.3g}" for name, values in sums.items() if values.size}
    _draw_sums(panel, strategies, sums, labels, tables, settings=settings)
    return series.sum_note(settings)


def _draw_sums(
    panel: Axes,
    strategies: Found,
    sums: Mapping[str, FloatArray],
    labels: Mapping[str, str],
    tables: Mapping[str, pa.Table],
    *,
    settings: Mapping[str, Any],
) -> None:
    """Draw accumulated values, not smoothed."""
    panel.set_xlabel("update t")
    if not any(np.any(values != 0) for values in sums.values()):
        raise NoDataError("no line was measured" if not strategies else "no strategy has a value", tables)
    panel.axhline(0.0, color="#BBBBBB", linewidth=0.7, zorder=0)
    for name, values in sums.items():
        own = strategies[name]
        marker = {"marker": "o", "markersize": 3.0} if len(values) == 1 else {}
        panel.plot(own.numbers("step"), values, **style.look(own.look.role, **marker), label=own.label)
    series.mark_run(panel, tables, run_steps=settings["steps"])
    ends = [End(sums[name][-1], text, strategies[name].color) for name, text in labels.items()]
    label_ends(panel, ends, height=_SUMS)


def _draw_shares(
    marks: Sequence[Mark], strategies: Found, tables: Mapping[str, pa.Table], settings: Mapping[str, Any], panel: Axes
) -> Sequence[str]:
    panel.set_xlabel("(f(0) - f(s)) / (f(0) - f(s_opt))")
    others = {name: own for name, own in strategies.items() if name != "optimum"}
    values = {name: own.numbers("relative_improvement") for name, own in others.items()}
    marked = {_ADAPTED.get(mark.text, mark.text): mark for mark in marks if mark.panel == "share"}
    names = {
        name: own.look.name
        + (f" {100 * own.share:.0f} %" if np.isfinite(own.share) else "")
        + (f" ({100 * marked[name].value:.0f} %)" if name in marked else "")
        for name, own in others.items()
    }
    quartiles = _draw_rows(panel, strategies, names, values, tables)
    panel.set_xlim(max(-1.0, min(0.0, float(np.nanmin(quartiles)))) - 0.06, 1.06)
    panel.axvline(0.0, color="#BBBBBB", linewidth=0.7, zorder=0)
    panel.axvline(1.0, **style.look("optimum", linewidth=0.9, zorder=0))
    lower = int((quartiles[:, 1] < -1.0).sum())
    sources = dict.fromkeys(marked[name].source for name in names if name in marked)
    return [
        *([f"{style.counted(lower, 'median')} below -1"] if lower else []),
        *(f"in brackets: {source}" for source in sources),
    ]


def _draw_positions(
    strategies: Found, tables: Mapping[str, pa.Table], settings: Mapping[str, Any], panel: Axes
) -> Sequence[str]:
    panel.set_xlabel("s / s_opt")
    values = {name: _relative_steps(strategies, name) for name in strategies if name != "optimum"}
    names = {name: strategies[name].look.name for name in values}
    quartiles = _draw_rows(panel, strategies, names, values, tables)
    panel.set_xscale("log", base=2)
    low, high = np.clip([np.nanmin(quartiles) / 1.2, np.nanmax(quartiles) * 1.2], *_STEP_LIMITS)
    panel.set_xlim(min(low, 0.45), max(high, 2.2))
    _mark_minimum(panel, panel.axvline)
    _plain_powers_of_two(panel.xaxis, panel.get_xlim())
    not_ahead = 0
    if "optimum" in strategies:
        not_ahead = int((strategies["optimum"].numbers("step_length") <= 0).sum())
    return [
        *_line_notes(strategies),
        *([f"s_opt ≤ 0 on {style.counted(not_ahead, 'line')}: left out"] if not_ahead else []),
    ]


def _draw_rows(
    panel: Axes,
    strategies: Found,
    names: Mapping[str, str],
    values: Mapping[str, FloatArray],
    tables: Mapping[str, pa.Table],
) -> FloatArray:
    """Draw a row for each strategy, the first one on top; return the quartiles of each. Shape (rows, 3)."""
    quartiles = np.full((len(values), 3), np.nan)
    for place, found in enumerate(values.values()):
        found = found[np.isfinite(found)]
        if found.size:
            quartiles[place] = np.quantile(found, [0.25, 0.5, 0.75])
    if not np.isfinite(quartiles).any():
        raise NoDataError("no line was measured" if not strategies else "no strategy has a value", tables)
    for place, name in enumerate(values):
        low, middle, high = quartiles[place]
        color = strategies[name].color
        panel.plot([low, high], [-place, -place], color=color, linewidth=3.2, alpha=0.45, solid_capstyle="butt")
        panel.plot([middle], [-place], "o", color=color, markersize=4.5, label=strategies[name].label)
    panel.set_ylim(0.6 - len(values), 0.6)
    panel.set_yticks([-place for place in range(len(values))], list(names.values()))
    for label, name in zip(panel.get_yticklabels(), values, strict=True):
        label.set_color(strategies[name].color)
    # At the right, as the names of curves: the panels of a column stay as wide as they can be.
    panel.yaxis.tick_right()
    panel.tick_params(axis="y", length=0)
    panel.spines["left"].set_visible(False)
    return quartiles


def _relative_steps(strategies: Found, name: str) -> FloatArray:
    """Return s/s_opt of each line, NaN where the minimum is not ahead."""
    steps, best = strategies[name].numbers("step_length"), strategies[name].numbers("distance")
    best = steps + best
    return np.divide(steps, best, out=np.full_like(steps, np.nan), where=best > 0)


def _draw_steps(
    strategies: Found, tables: Mapping[str, pa.Table], settings: Mapping[str, Any], panel: Axes
) -> Sequence[str]:
    panel.set_xlabel("update t")
    panel.set_ylabel("s / s_opt")
    window, ends, outside = settings["analysis"]["smoothing"], [], []
    for name, own in strategies.items():
        if name in _AT_THE_MINIMUM:
            continue
        centres, ratio = _smoothed_ratio(own, window=window)
        if not (ratio > 0).any():
            continue
        shown = np.where(ratio > 0, ratio, np.nan)
        marker = {"marker": "o", "markersize": 3.0} if np.isfinite(shown).sum() < 3 else {}
        panel.plot(centres, shown, **style.look(own.look.role, **marker), label=own.label)
        ends.append(End(shown[np.isfinite(shown)][-1], own.look.name, own.color))
        outside.append(shown)
    if not ends:
        raise NoDataError("no line was measured" if not strategies else "no strategy has a value", tables)
    series.mark_run(panel, tables, run_steps=settings["steps"])
    panel.set_yscale("log", base=2)
    every = np.concatenate(outside)
    low, high = np.clip([np.nanmin(every) / 1.1, np.nanmax(every) * 1.1], *_STEP_LIMITS)
    limits = (float(min(low, 0.45)), float(max(high, 2.2)))
    panel.set_ylim(*limits)
    _mark_minimum(panel, panel.axhline)
    _plain_powers_of_two(panel.yaxis, limits)
    label_ends(panel, ends, height=_OVER_RUN)
    count = len(next(iter(strategies.values())).rows)
    return [series.average_note(count, window, measured=False), *style.outside_note(every, limits)]


def _smoothed_ratio(own: _Strategy, *, window: int) -> tuple[FloatArray, FloatArray]:
    """Return updates and the moving average of s over that of s_opt, as measured with fewer lines than the window."""
    updates, steps = own.numbers("step"), own.numbers("step_length")
    best = steps + own.numbers("distance")  # NaN where one of them is
    steps = np.where(np.isfinite(best), steps, np.nan)
    above, below = (series.moving_average(updates, found, window=window) for found in (steps, best))
    if not np.isfinite(above[1]).any():
        above, below = (updates, steps), (updates, best)
    ratio = np.divide(above[1], below[1], out=np.full_like(above[1], np.nan), where=below[1] > 0)
    return above[0], ratio


def _mark_minimum(panel: Axes, line: Any) -> None:
    """Mark s_opt, and twice it, beyond which a parabola gives a loss."""
    line(1.0, **style.look("optimum", linewidth=0.9, zorder=0))
    line(2.0, color="#888888", linewidth=0.8, linestyle=(0, (2, 2)), zorder=0)


def _plain_powers_of_two(axis: Any, limits: tuple[float, float]) -> None:
    low, high = np.ceil(np.log2(limits[0])), np.floor(np.log2(limits[1]))
    powers = np.arange(low, high + 1)
    powers = powers if len(powers) <= 6 else powers[powers % 2 == 0]
    axis.set_ticks(2.0**powers, [f"{2.0**power:g}" if power >= 0 else f"1/{2.0**-power:g}" for power in powers])
    axis.set_ticks([], minor=True)


def _line_notes(strategies: Found) -> list[str]:
    """Return the notes that say which lines have no steps, and why."""
    lines = Counter(next(iter(strategies.values())).rows["status"].to_pylist())
    without = {status: number for status, number in lines.items() if status not in _OWN_STATUS}
    return [
        *(f"{style.counted(number, 'line')} {status.replace('_', ' ')}" for status, number in without.items()),
        *_listed("no step", strategies, "no_step"),
    ]


def _listed(words: str, strategies: Found, status: str) -> list[str]:
    counts = {own.look.name: own.rows["status"].to_pylist().count(status) for own in strategies.values()}
    named = [f"{name} on {style.counted(count, 'line')}" for name, count in counts.items() if count]
    return [f"{words}: {', '.join(named)}"] if named else []


def _draw_ratio(
    marks: Sequence[Mark], tables: Mapping[str, pa.Table], settings: Mapping[str, Any], panel: Axes
) -> Sequence[str]:
    """Draw s_opt/||m_t|| with its median, its quartiles and the run's own learning rate (M10)."""
    from sgdline.analysis.rates import constant_rate
    from sgdline.analysis.strategies import middle_half

    metrics, window = tables["line_metrics"].sort_by("step"), settings["analysis"]["smoothing"]
    steps, ratios = style.numbers(metrics, "step"), style.numbers(metrics, "line_search_ratio")
    panel.set_xlabel("update t")
    panel.set_ylabel("s_opt / ‖m‖ (a learning rate)")
    finite = np.isfinite(ratios)
    if not finite.any():
        raise NoDataError("no line was measured" if len(steps) == 0 else "no line has a ratio", tables)
    notes = [series.average_note(len(steps), window)]
    lr, constant = style.numbers(metrics, "lr"), constant_rate(metrics)
    half = middle_half(len(steps))
    middle = ratios[half][finite[half]]
    if middle.size >= 4:
        low, high = np.quantile(middle, [0.25, 0.75])
        panel.fill_between(
            [steps[half][0], steps[half][-1]], low, high, color=style.ROLES["spread"]["color"], linewidth=0, zorder=0
        )
        median = float(np.median(middle))
        notes = [f"middle half: median {median:.3g}, quartiles {low:.3g} to {high:.3g}", *notes]
    else:
        notes.append("fewer than 4 ratios in the middle half: no quartiles")
        median = float(np.median(ratios[finite]))
    panel.axhline(0.0, color="#BBBBBB", linewidth=0.7, zorder=0)
    series.draw_series(panel, steps, ratios, window=window, role="measured", label="_ratio")
    panel.axhline(median, **style.look("median", zorder=1.5), label="_median")
    changing = registry.label(settings["optimizer"]["name"]) if settings["lr_is_length"] else "scheduled"
    named = f"lr {constant:g} (run)" if constant is not None else f"lr (run, {changing})"
    panel.step(steps, lr, where="post", **style.look("reference"), label=f"_{named}")
    series.mark_run(panel, tables, run_steps=settings["steps"])
    limits = style.readable_limits(ratios, keep=[0.0, float(np.nanmin(lr)), float(np.nanmax(lr))], stretch=1.5)
    if limits:
        panel.set_ylim(*limits)
    ends = [(median, f"median {median:.3g}", "median"), (lr[np.isfinite(lr)][-1], named, "reference")]
    ends += [(ratios[finite][-1], "s_opt / ‖m‖", "measured")]
    labels = [End(at, text, style.ROLES[role]["color"]) for at, text, role in ends]
    own = [mark for mark in marks if mark.panel == "ratio"]
    low, high = panel.get_ylim()
    inside = [mark for mark in own if low <= mark.value <= high]
    labels += [End(mark.value, f"paper {mark.value:g}, {mark.text}", "#444444") for mark in inside]
    label_ends(panel, labels, height=_OVER_RUN)
    notes += [f"paper: {source}" for source in dict.fromkeys(mark.source for mark in inside)]
    notes += [f"{style.counted(len(own) - len(inside), 'mark')} outside the y range"] if len(own) > len(inside) else []
    notes += style.outside_note(ratios, limits)
    missing = int((~finite).sum())
    return [*notes, *([f"no ratio on {missing} of {style.counted(len(steps), 'line')}"] if missing else [])]
