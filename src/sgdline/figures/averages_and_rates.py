"""Averages of one kind against reduced learning rates and against the schedule that has the average as its iterate."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from sgdline.figures import _continuations
from sgdline.figures._continuations import ITERATE, Family, Kind
from sgdline.figures.base import Sheet
from sgdline.figures.grammar import comparing, style

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from sgdline.analysis.equivalent_lr import EquivalentRate, EquivalentRates


_RAW: dict[str, Any] = {"color": "#555555", "linestyle": "-", "linewidth": 1.5}
_RATE_COLOR = "#D55E00"
_RATE_STYLES: tuple[Any, ...] = ((0, (6, 1.5)), (0, (3, 1.2)), (0, (6, 1.5, 1, 1.5)), (0, (1, 1)))
_MODEL: dict[str, Any] = {"linestyle": (0, (1, 2.5)), "linewidth": 1.1, "zorder": 1}
_START_SHARE = 0.1  # weight of the first iterate from which on an EMA has no stationary variance yet
_MOST_RATES = 4  # curves over the updates; all rates are points of the curve over lr'
_NOTE_WIDTH = 92
_STATUSES = {
    "below": "its loss is below that of every measured rate",
    "above": "its loss is above that of every measured rate",
    "too_few": "fewer than two rates were measured",
    "non_finite": "it has no finite loss",
}


@dataclass(frozen=True, kw_only=True)
class AveragesAndRates(Sheet):
    """Averages of iterates at a constant learning rate, and reduced rates."""

    reads: ClassVar[tuple[str, ...]] = ("averages", "trace")
    compares: ClassVar[bool] = True

    average: Literal["ema", "swa"] = "ema"
    """Which averages are drawn."""

    def draw(self, tables: Sequence[Mapping[str, pa.Table]], *, settings: Sequence[Mapping[str, Any]]) -> Figure:
        """Draw, a row of panels per network, loss and accuracy over the updates and over the constant learning rate.

        Args:
            tables: `averages` and `trace` of each run.
            settings: As in `sgdline.figures.plot_comparison`.

        Source: papers.md 3.3, C-M6; 3.4; 3.2, F3, F4, F6 and F7.
        """
        found = _continuations.families(tables, settings)
        everything = [run for family in found for run in family.runs]
        split = _continuations.tested_split(everything)
        rates = {
            family.name: {kind: _equivalent(family, kind) for kind in family.kinds(self.average)} for family in found
        }
        notes = [
            f"{family.name + ': ' if len(found) > 1 else ''}{_outcome(family, kind, rates[family.name][kind][1])}"
            for family in found
            for kind in family.kinds(self.average)
        ]
        entries = max(
            (len(family.kinds(self.average)) * 2 + min(len(family.rates), _MOST_RATES) + 5 for family in found),
            default=1,
        )
        figure = style.new_figure(
            self.heading(),
            footer=[*_continuations.footer(everything, split), *notes],
            width=11.0,
            height=7.6 * len(found) + 1.2,
            legend_entries=entries,
        )
        panels = figure.subplots(2 * len(found), 2, squeeze=False)
        for place, family in enumerate(found):
            own = panels[2 * place : 2 * place + 2]
            name = f"{family.name}: " if len(found) > 1 else ""
            looks = dict(
                zip(family.kinds(self.average), comparing.ordered_looks(len(family.kinds(self.average))), strict=True)
            )
            for column, (loss, over_lr) in enumerate(zip(own[0], own[1], strict=True)):
                _draw_updates(loss, family, looks, column, split, name)
                _draw_rates(over_lr, family, looks, rates[family.name], column, split, name)
        style.shared_legend(figure, panels.ravel().tolist())
        return figure


def _measure(column: int, split: str) -> tuple[str, float, str]:
    """Return the table's column, the factor on it and the axis' label of a column of panels."""
    if column == 0:
        return "train_loss", 1.0, "training loss (nats)"
    return f"{split}_accuracy", 100.0, f"{split} accuracy (%)"


def _draw_updates(
    panel: Axes, family: Family, looks: Mapping[Kind, Mapping[str, Any]], column: int, split: str, name: str
) -> None:
    value, factor, label = _measure(column, split)
    drawn = _medians(panel, family.baseline, ITERATE, value, factor, _RAW, label="iterate", seeds=True)
    for kind, look in looks.items():
        drawn |= _medians(panel, family.baseline, kind, value, factor, look, label=_continuations.kind_text(kind))
    for place, lr in enumerate(_chosen_rates(family)):
        look = {"color": _RATE_COLOR, "linestyle": _RATE_STYLES[place % len(_RATE_STYLES)], "linewidth": 1.2}
        text = family.rates[lr][0].label
        drawn |= _medians(panel, family.rates[lr], ITERATE, value, factor, look, label=text)
    for kind, runs in family.scheduled.items():
        if kind in looks:
            look = {**looks[kind], "linestyle": (0, (1, 1.2)), "linewidth": 1.3}
            text = f"schedule for {_continuations.kind_text(kind)}"
            drawn |= _medians(panel, runs, ITERATE, value, factor, look, label=text, end="D")
    panel.set_xlabel("update t")
    panel.set_ylabel(label)
    panel.set_xlim(-0.02 * family.steps, 1.02 * family.steps)
    if not drawn:
        style.say(panel, "nothing was evaluated")
    elif column == 0:
        style.plain_log(panel)
    what = "loss over the training set" if column == 0 else f"accuracy over the {split} set"
    seeds = len(family.baseline)
    notes = [f"medians over {style.counted(seeds, 'seed')}, where all have a value; of the iterate each seed thin"]
    style.title(panel, f"{name}{what}", notes if seeds > 1 and drawn else [], width=_NOTE_WIDTH)


def _chosen_rates(family: Family) -> list[float]:
    """Return the constant rates drawn over the updates, ascending where there are too many for a panel."""
    lrs = list(family.rates)
    if len(lrs) <= _MOST_RATES:
        return lrs
    places = np.unique(np.linspace(0, len(lrs) - 1, _MOST_RATES).round().astype(int))
    return [lrs[place] for place in places]


def _medians(
    panel: Axes, runs: Sequence[comparing.Run], kind: Kind, column: str, factor: float, look: Mapping[str, Any], *,
    label: str, seeds: bool = False, end: str | None = None,
) -> bool:  # fmt: skip
    """Draw the median over the seeds of an average against the update; return whether there is anything."""
    curves = [_continuations.series(run, kind, column, factor=factor) for run in runs]
    curves = [curve for curve in curves if np.isfinite(curve.values).any()]
    if not curves:
        return False
    if seeds and len(curves) > 1:
        for curve in curves:
            panel.plot(curve.places, curve.values, color=look["color"], linewidth=0.6, alpha=0.45)
    middle = curves[0] if len(curves) == 1 else comparing.median(curves)
    panel.plot(
        middle.places, middle.values, **look, marker=end, markevery=[-1] if end else None, markersize=6.0,
        markerfacecolor="white", label=label,
    )  # fmt: skip
    return True


def _draw_rates(
    panel: Axes, family: Family, looks: Mapping[Kind, Mapping[str, Any]],
    rates: Mapping[Kind, tuple[list[EquivalentRate], EquivalentRates]], column: int, split: str, name: str,
) -> None:  # fmt: skip
    value, factor, label = _measure(column, split)
    lrs = sorted([*family.rates, family.lr])
    groups = [family.baseline if lr == family.lr else family.rates[lr] for lr in lrs]
    ends = [[_continuations.at_end(run, ITERATE, value, factor=factor) for run in group] for group in groups]
    seeds = sorted({int(run.settings["seed"]) for group in groups for run in group})
    for seed in seeds if len(seeds) > 1 else []:
        line = [
            next((end for run, end in zip(group, own, strict=True) if run.settings["seed"] == seed), math.nan)
            for group, own in zip(groups, ends, strict=True)
        ]
        panel.plot(lrs, line, color=_RATE_COLOR, linewidth=0.6, alpha=0.5)
    middles = [_median(own) for own in ends]
    panel.plot(lrs, middles, color=_RATE_COLOR, linewidth=1.7, marker="o", label="iterate at constant lr'")
    panel.set_xscale("log")
    _rate_ticks(panel, lrs)
    for kind, look in looks.items():
        _draw_equivalent(panel, family, kind, look, rates[kind], value, factor)
        predicted = _predicted(family, kind)
        if predicted is not None:
            panel.axvline(predicted, color=look["color"], **_MODEL)
    relatives = {family.relative_lr(kind) for kind in looks if _predicted(family, kind) is not None}
    if relatives:
        listed = ", ".join(f"{relative:g}" for relative in sorted(filter(None, relatives)))
        panel.plot([], [], color="#555555", **_MODEL, label=f"rate in the model at a = {listed}")
    panel.set_xlabel("constant learning rate lr'" + style.lr_unit(family.runs[0].settings))
    panel.set_ylabel(label)
    if not np.isfinite(middles).any():
        style.say(panel, "no run reached its end")
    elif column == 0:
        style.plain_log(panel)
    what = "training loss" if column == 0 else f"{split} accuracy"
    notes = [
        "square: an average where a constant rate has its training loss, bar: spread over the seeds",
        "small: each seed; line across: not every seed has such a rate",
    ]
    if column:
        notes = [
            "squares and diamonds at the rates found from the training loss",
            "diamond: the schedule's last iterate",
        ]
    style.title(panel, f"{name}{what} after {family.steps} updates", notes, width=_NOTE_WIDTH)


def _rate_ticks(panel: Axes, lrs: Sequence[float]) -> None:
    from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator

    panel.xaxis.set_major_locator(FixedLocator(lrs))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.xaxis.set_minor_formatter(NullFormatter())
    panel.set_xticks(lrs, [f"{lr:g}" for lr in lrs])


def _draw_equivalent(
    panel: Axes, family: Family, kind: Kind, look: Mapping[str, Any],
    found: tuple[list[EquivalentRate], EquivalentRates], column: str, factor: float,
) -> None:  # fmt: skip
    """Draw an average at its equivalent rate, and the schedule that stands for it at its own."""
    plain = {"color": look["color"], "linestyle": ""}
    each, mean = found
    values = [_continuations.at_end(run, kind, column, factor=factor) for run in family.baseline]
    middle = _median(values)
    if not math.isfinite(middle):
        return
    for rate, value in zip(each, values, strict=True):
        if math.isfinite(rate.lr) and len(each) > 1:
            panel.plot(rate.lr, value, **plain, marker=".", markersize=4.0, alpha=0.8)
    if mean.found == mean.seeds:
        bars = None
        if math.isfinite(mean.spread):
            bars = [[mean.lr - mean.lr / mean.spread], [mean.lr * mean.spread - mean.lr]]
        panel.errorbar(
            [mean.lr], [middle], xerr=bars, color=look["color"], marker="s", markersize=6.5, capsize=3.0,
            elinewidth=1.1, zorder=4, linestyle="",
        )  # fmt: skip
    else:
        panel.axhline(middle, color=look["color"], linestyle=look["linestyle"], linewidth=1.0, zorder=1)
    runs = family.scheduled.get(kind, [])
    ends = [_continuations.at_end(run, ITERATE, column, factor=factor) for run in runs]
    if not math.isfinite(_median(ends)):
        return
    own = _equivalent(family, kind, runs=runs)[1]
    if own.found == own.seeds:
        panel.plot(
            own.lr, _median(ends), **plain, marker="D", markersize=9.0, markerfacecolor="none", markeredgewidth=1.4,
            zorder=5,
        )  # fmt: skip
    else:
        panel.axhline(_median(ends), color=look["color"], linestyle=(0, (1, 1.2)), linewidth=1.3, zorder=1)


def _equivalent(
    family: Family, kind: Kind, *, runs: Sequence[comparing.Run] | None = None
) -> tuple[list[EquivalentRate], EquivalentRates]:
    """Return the equivalent rate of each seed, and over the seeds: of an average, or of scheduled runs' iterates."""
    # Imported lazily: reading a spec does not need it.
    from sgdline.analysis.equivalent_lr import equivalent_rate, over_seeds

    found = []
    for run in family.baseline if runs is None else runs:
        curve = {
            lr: _continuations.at_end(other, ITERATE, "train_loss")
            for lr, group in [(family.lr, family.baseline), *family.rates.items()]
            for other in group
            if other.settings["seed"] == run.settings["seed"]
        }
        loss = _continuations.at_end(run, kind if runs is None else ITERATE, "train_loss")
        found.append(equivalent_rate(list(curve), list(curve.values()), loss))
    return found, over_seeds(found)


def _predicted(family: Family, kind: Kind) -> float | None:
    """Return the equivalent rate in the quadratic model; None where a = lr*h is not known or the start still counts."""
    from sgdline.analysis.equivalent_lr import predicted_rate

    relative_lr = family.relative_lr(kind)
    if relative_lr is None or kind.parameter is None:
        return None
    if kind.average == "ema" and kind.parameter**family.steps > _START_SHARE:
        return None
    spacing = kind.spacing or 1
    return predicted_rate(kind.average, kind.parameter, lr=family.lr, relative_lr=relative_lr, spacing=spacing)


def _outcome(family: Family, kind: Kind, rate: EquivalentRates) -> str:
    """Return the equivalent rate of an average in words, with what is known of its uncertainty."""
    name = _continuations.kind_text(kind)
    others = [
        f"{_STATUSES[status]} ({style.counted(count, 'seed')})"
        for status, count in rate.statuses.items()
        if status in _STATUSES
    ]
    if rate.found:
        seeds = style.counted(rate.seeds, "seed")
        spread = f" (a factor of {rate.spread:.2f} either way)" if math.isfinite(rate.spread) else ""
        words = (
            f"equivalent lr {rate.lr:.3g}{spread} in {rate.found} of {seeds}, measured rates beside it "
            f"{rate.lower:g} and {rate.upper:g}"
        )
        if rate.statuses.get("several"):
            words += f", the largest of several in {style.counted(rate.statuses['several'], 'seed')}"
        others.insert(0, words)
    predicted = _predicted(family, kind)
    if predicted is not None:
        others.append(f"quadratic model {predicted:.3g} at a = {family.relative_lr(kind):g}")
    return f"{name}: {'; '.join(others)}" if others else f"{name}: no run reached its end"


def _median(values: Sequence[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return float(np.median(finite)) if finite else math.nan
