"""Averages of one kind against reduced learning rates and against the schedule that has the average as its iterate."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from sgdline.figures import _continuations
from sgdline.figures._continuations import ITERATE, Family, Kind, Measure, median
from sgdline.figures.base import PanelSheet
from sgdline.figures.grammar import comparing, series, style
from sgdline.figures.grammar.sheet import NoDataError, Panel, draw_sheet
from sgdline.figures.grammar.table import BESIDE_LABELS, Row, table_panel

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from sgdline.analysis.equivalent_lr import EquivalentRate, EquivalentRates


_RAW: dict[str, Any] = {"color": "#555555", "linestyle": "-", "linewidth": 1.4}
_RATE_COLOR = "#D55E00"
_RATE_STYLES: tuple[Any, ...] = ((0, (6, 1.5)), (0, (3, 1.2)), (0, (6, 1.5, 1, 1.5)), (0, (1, 1)))
_MODEL: dict[str, Any] = {"linestyle": (0, (1, 2.5)), "linewidth": 1.1, "zorder": 1}
_DOTTED: dict[str, Any] = {"linestyle": (0, (1, 1.2)), "linewidth": 1.3}
_START_SHARE = 0.1  # weight of the first iterate from which on an EMA has no stationary variance yet
_MOST_RATES = 4  # curves over the updates; all rates are points of the curve over lr'
_STATUSES = {
    "several": "the largest of several",
    "below": "below every rate",
    "above": "above every rate",
    "too_few": "fewer than two rates",
    "non_finite": "no finite loss",
}


@dataclass(frozen=True, kw_only=True)
class AveragesAndRates(PanelSheet):
    """Averages of iterates at a constant learning rate, and reduced rates.

    Averages of the iterates of SGD at a constant learning rate, beside runs at reduced constant rates and a run whose
    schedule is made so that its last iterate is the average. All runs go on from one checkpoint with the same batches.
    First, training loss and accuracy over the updates; a mean of iterates exists once the run is long enough. Lines are
    medians over the seeds, bands, of the iterate alone, go from the lowest to the highest. Then the same at the end,
    over the constant rate. Squares: an average at its equivalent learning rate, where the curve through the measured
    rates, linear in log lr' and taken for each seed apart, has the average's training loss; bar: spread over the seeds,
    small: each seed. Outside of the measured rates there is none: a line across then shows the average. Diamonds: the
    schedule's last iterate. In the panel of the accuracy both are at the rates found from the training loss. Dotted
    upright: the rate of equal stationary variance in the quadratic model with one eigenvalue h, a = lr h. Last: these
    rates, their factor of uncertainty over the seeds, and the measured rates on both sides. BatchNorm's statistics are
    re-estimated on the training set before every evaluation, for the raw iterate as well.
    """

    reads: ClassVar[tuple[str, ...]] = ("averages", "trace")
    compares: ClassVar[bool] = True
    panels: ClassVar[tuple[str, ...]] = (
        "loss_updates",
        "accuracy_updates",
        "loss_rates",
        "accuracy_rates",
        "equivalent_rates",
    )

    average: Literal["ema", "swa"] = "ema"
    """Which averages are drawn."""

    def draw(self, tables: Sequence[Mapping[str, pa.Table]], *, settings: Sequence[Mapping[str, Any]]) -> Figure:
        """Draw, for each network, loss and accuracy over the updates and over the constant rate, and a table of rates.

        Source: papers.md 3.3, C-M6; 3.4; 3.2, F3, F4, F6 and F7.
        """
        found = _continuations.families(tables, settings)
        everything = [run for family in found for run in family.runs]
        split = comparing.tested_split(everything, "averages")
        panels: list[Panel] = []
        rows: list[Row] = []
        for family in found:
            name = f"{family.name}: " if len(found) > 1 else ""
            kinds = family.kinds(self.average)
            averages = {
                kind: _Average(look, *_equivalent(family, kind, family.baseline), _predicted(family, kind))
                for kind, look in zip(kinds, comparing.ordered_looks(len(kinds)), strict=True)
            }
            rows += [_row(family, kind, average, named=len(found) > 1) for kind, average in averages.items()]
            for draw, title in ((_draw_updates, "over the updates"), (_draw_rates, f"after {family.steps} updates")):
                panels += [
                    Panel(
                        ("loss" if measure.factor == 1.0 else "accuracy") + draw.__name__.removeprefix("_draw"),
                        f"{name}{measure.what} {title}",
                        partial(draw, family, averages, measure),
                        height=2.2 if len(found) == 1 else 1.8,
                    )
                    for measure in _continuations.measures(split)
                ]
        rates = table_panel(
            self,
            "equivalent_rates",
            "constant learning rates of the averages' training losses",
            heads=("average",),
            columns=("equivalent lr", "factor", "seeds", "between", "model", "remarks"),
            rows=rows,
            missing="no average was taken",
            inset=0.0 if self.panel else BESIDE_LABELS,
        )
        return draw_sheet(self, [*panels, rates], footer=_continuations.facts(everything, split), columns=2)


@dataclass(frozen=True)
class _Average:
    """How an average is drawn, and the constant rate that it is worth."""

    look: Mapping[str, Any]
    rates: list[EquivalentRate]  # of each seed
    rate: EquivalentRates  # over the seeds
    predicted: float | None  # by the quadratic model


def _draw_updates(family: Family, averages: Mapping[Kind, _Average], measure: Measure, panel: Axes) -> Sequence[str]:
    drawn = [measure.draw(panel, family.baseline, ITERATE, _RAW, "iterate")]
    for kind, average in averages.items():
        drawn.append(measure.draw(panel, family.baseline, kind, average.look, kind.text))
    for lr, dashes in zip(_continuations.spread_out(list(family.rates), _MOST_RATES), _RATE_STYLES, strict=False):
        look = {"color": _RATE_COLOR, "linestyle": dashes, "linewidth": 1.2}
        drawn.append(measure.draw(panel, family.rates[lr], ITERATE, look, family.rates[lr][0].label))
    diamond: dict[str, Any] = {"marker": "D", "markevery": [-1], "markersize": 5.0, "markerfacecolor": "white"}
    for kind, runs in family.scheduled.items():
        if kind in averages:
            look = {**averages[kind].look, **_DOTTED, **diamond}
            drawn.append(measure.draw(panel, runs, ITERATE, look, f"schedule for {kind.text}"))
    panel.set_xlabel("update t")
    panel.set_ylabel(measure.label)
    if not any(drawn):
        raise NoDataError("nothing was evaluated")
    panel.set_xlim(-0.02 * family.steps, 1.02 * family.steps)
    measure.scale(panel)
    return []


def _draw_rates(family: Family, averages: Mapping[Kind, _Average], measure: Measure, panel: Axes) -> Sequence[str]:
    panel.set_xlabel("constant learning rate lr'" + style.lr_unit(family.runs[0].settings))
    panel.set_ylabel(measure.label)
    groups = {**family.rates, family.lr: family.baseline}
    lrs = sorted(groups)
    ends = [
        dict(zip([run.settings["seed"] for run in groups[lr]], measure.ends(groups[lr], ITERATE), strict=True))
        for lr in lrs
    ]
    seeds = sorted({seed for own in ends for seed in own})
    values = np.array([[own.get(seed, math.nan) for own in ends] for seed in seeds]).reshape(len(seeds), len(lrs))
    if not np.isfinite(values).any():
        raise NoDataError("no run reached its end")
    look: dict[str, Any] = {"color": _RATE_COLOR, "linewidth": 1.5, "marker": "o", "markersize": 3.5}
    series.draw_spread(panel, np.array(lrs), values, {**look, "label": "iterate at constant lr'"})
    panel.set_xscale("log")
    panel.set_xticks(lrs, [f"{lr:g}" for lr in lrs])
    panel.set_xticks([], minor=True)
    relatives = set()
    for kind, average in averages.items():
        _draw_average(panel, family, kind, average, measure)
        if average.predicted is not None:
            panel.axvline(average.predicted, color=average.look["color"], **_MODEL)
            relatives.add(family.relative_lr(kind))
    if relatives:
        listed = ", ".join(f"{relative:g}" for relative in sorted(filter(None, relatives)))
        panel.plot([], [], color="#555555", **_MODEL, label=f"rate in the model at a = {listed}")
    measure.scale(panel)
    return []


def _draw_average(panel: Axes, family: Family, kind: Kind, average: _Average, measure: Measure) -> None:
    """Draw an average at its equivalent rate, and the schedule that is made for it at its own."""
    color, mean = average.look["color"], average.rate
    values = measure.ends(family.baseline, kind)
    middle = median(values)
    if not math.isfinite(middle):
        return
    for rate, value in zip(average.rates, values, strict=True):
        if math.isfinite(rate.lr) and len(average.rates) > 1:
            panel.plot(rate.lr, value, color=color, linestyle="", marker=".", markersize=4.0, alpha=0.8)
    if mean.found == mean.seeds:
        known = math.isfinite(mean.spread)
        bars = [[mean.lr - mean.lr / mean.spread], [mean.lr * mean.spread - mean.lr]] if known else None
        square: dict[str, Any] = {"marker": "s", "markersize": 5.0, "capsize": 2.5, "elinewidth": 1.1, "linestyle": ""}
        panel.errorbar([mean.lr], [middle], xerr=bars, color=color, **square, zorder=4)
    else:
        panel.axhline(middle, color=color, linestyle=average.look["linestyle"], linewidth=1.0, zorder=1)
    runs = family.scheduled.get(kind, [])
    end = median(measure.ends(runs, ITERATE))
    if not math.isfinite(end):
        return
    own = _equivalent(family, ITERATE, runs)[1]
    if own.found == own.seeds:
        hollow: dict[str, Any] = {"marker": "D", "markersize": 7.0, "markerfacecolor": "none", "markeredgewidth": 1.3}
        panel.plot(own.lr, end, color=color, linestyle="", **hollow, zorder=5)
    else:
        panel.axhline(end, color=color, **_DOTTED, zorder=1)


def _equivalent(
    family: Family, kind: Kind, runs: Sequence[comparing.Run]
) -> tuple[list[EquivalentRate], EquivalentRates]:
    """Return the constant rate with the training loss of an average of some runs: of each seed, and over the seeds."""
    # Imported lazily: reading a spec does not need it.
    from sgdline.analysis.equivalent_lr import equivalent_rate, over_seeds

    found = []
    for run in runs:
        curve = {
            lr: _continuations.at_end(other, ITERATE, "train_loss")
            for lr, group in [(family.lr, family.baseline), *family.rates.items()]
            for other in group
            if other.settings["seed"] == run.settings["seed"]
        }
        loss = _continuations.at_end(run, kind, "train_loss")
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


def _row(family: Family, kind: Kind, average: _Average, *, named: bool) -> Row:
    """Return the equivalent rate of an average, with what is known of its uncertainty."""
    rate, found = average.rate, bool(average.rate.found)
    remarks = [
        f"{_STATUSES[status]} ({style.counted(count, 'seed')})"
        for status, count in rate.statuses.items()
        if status in _STATUSES
    ]
    words = (
        f"{rate.lr:.3g}" if found else "—",
        f"{rate.spread:.2f}" if found and math.isfinite(rate.spread) else "—",
        f"{rate.found} of {rate.seeds}",
        f"{rate.lower:g} and {rate.upper:g}" if found else "—",
        "—" if average.predicted is None else f"{average.predicted:.3g}",
    )
    name = kind.text
    cells = [((word, ""),) for word in words]
    return Row(
        (f"{family.name}: {name}" if named else name,),
        (*cells, tuple(("", remark) for remark in remarks) or (("", ""),)),
    )
