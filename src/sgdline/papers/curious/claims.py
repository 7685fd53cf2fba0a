"""What curious says of training trajectories and averages: of single runs, and of runs from one start.

Gains are means over the evaluations of the second half of a run. Runs are compared that continue the same run from the
same update, by the same number of updates.

ASSUME: the paper's text gives no thresholds; all of them are ours.

Source: papers.md 3.1 and 3.4.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from sgdline.analysis.columns import as_floats, finite, median
from sgdline.analysis.equivalent_lr import equivalent_rate
from sgdline.claims.base import DIVERGED, Claim, Compared, EachRun, Value
from sgdline.claims.judging.measured import MeasuredRun, RunSettings
from sgdline.tables import provenance
from sgdline.train.schedules.constant import Constant
from sgdline.train.schedules.equivalent import Equivalent

_SAME_LR = 1e-9  # relative: settings have learning rates as text

Runs = Sequence[MeasuredRun]


# --- single batches ---------------------------------------------------------------------------------------------------


def _median_of(kind: str, column: str, reason: str) -> Callable[[MeasuredRun], Value]:
    """Return the function from a run to the median of a column, over batches and positions where it exists."""

    def value(run: MeasuredRun) -> Value:
        values = finite(as_floats(run.tables[kind], column))
        return Value(median(values), values.size, reason)

    return value


def below_the_trained_network(run: MeasuredRun) -> Value:
    """Return the share of batches whose lowest loss after one step, at the last position, is below that at the end."""
    metrics = run.tables["one_step_metrics"]
    steps = as_floats(metrics, "step")
    last = steps == steps.max() if steps.size else np.zeros(0, dtype=np.bool_)
    lowest, end = as_floats(metrics, "own_min_loss")[last], as_floats(metrics, "end_train_loss")[last]
    known = np.isfinite(lowest) & np.isfinite(end)
    share = float((lowest[known] < end[known]).mean()) if known.any() else math.nan
    return Value(share, int(known.sum()), "no batch has both losses")


def stays_aligned(run: MeasuredRun) -> Value:
    """Return the mean cosine of a batch's gradient with itself at the largest lag, less that with others (C-M4)."""
    alignment = run.tables["alignment"]
    lags = provenance(alignment)["lags"]
    rows = alignment.column("lag_cosines").to_pylist()
    cosines = np.array([[math.nan if cosine is None else cosine for cosine in row] for row in rows], dtype=np.float64)
    own = finite(cosines[:, int(np.argmax(lags))]) if cosines.size and len(lags) else np.zeros(0)
    others = finite(as_floats(alignment, "other_batches_cosine"))
    value = float(own.mean() - others.mean()) if own.size and others.size else math.nan
    return Value(value, own.size, "the largest lag or the cosine with other batches was not reached")


# --- averages of one run ----------------------------------------------------------------------------------------------


class Average(NamedTuple):
    """An average of iterates: ema, swa or two_point, its decay, count or distance, and the spacing of swa."""

    name: str
    parameter: float
    spacing: int | None


def _averages_of(averages: pa.Table) -> list[Average]:
    columns = [averages.column(name).to_pylist() for name in ("average", "parameter", "spacing")]
    return sorted({Average(*row) for row in zip(*columns, strict=True) if row[0] != "iterate"}, key=str)


def _losses(averages: pa.Table, which: Average | None, column: str) -> dict[int, float]:
    """Return a column by update: that of an average, of the iterate if None."""
    columns = [averages.column(name).to_pylist() for name in ("average", "parameter", "spacing", "step")]
    values = as_floats(averages, column).tolist()
    return {
        step: value
        for name, parameter, spacing, step, value in zip(*columns, values, strict=True)
        if math.isfinite(value) and (name == "iterate" if which is None else Average(name, parameter, spacing) == which)
    }


def _late_gain(run: MeasuredRun, which: Average, column: str) -> tuple[float, int]:
    """Return the mean of how far an average is below the iterate in the second half of a run, and of how many."""
    averages = run.tables["averages"]
    iterate, average = _losses(averages, None, column), _losses(averages, which, column)
    gains = [iterate[step] - average[step] for step in average if step in iterate and 2 * step >= run.settings.steps]
    return (float(np.mean(gains)) if gains else math.nan), len(gains)


def _gains_by_distance(run: MeasuredRun) -> tuple[dict[float, float], int]:
    """Return the gain of two points by their distance, ascending, and how many evaluations these rest on."""
    kinds = [kind for kind in _averages_of(run.tables["averages"]) if kind.name == "two_point"]
    pairs = sorted(kinds, key=lambda kind: kind.parameter)
    found = {kind.parameter: _late_gain(run, kind, "train_loss") for kind in pairs}
    gains = {distance: gain for distance, (gain, _) in found.items() if math.isfinite(gain)}
    return gains, sum(number for _, number in found.values())


def gain_grows(run: MeasuredRun) -> Value | None:
    """Return Spearman's rank correlation of the distance of two points with their gain in training loss (C-M6)."""
    # Imported lazily: a workflow that starts reads all claims, and scipy takes a second.
    from scipy.stats import spearmanr

    if not _averages_of(run.tables["averages"]):
        return None
    gains, observations = _gains_by_distance(run)
    if reason := _without_order(gains):
        return Value(math.nan, observations, reason)
    # The last bits of a rank correlation must not decide whether it reaches its threshold.
    return Value(round(float(spearmanr(list(gains), list(gains.values())).statistic), 12), observations)


def gain_saturates(run: MeasuredRun) -> Value | None:
    """Return the gain of two points at the largest distance over that at the one before."""
    if not _averages_of(run.tables["averages"]):
        return None
    gains, observations = _gains_by_distance(run)
    if reason := _without_order(gains):
        return Value(math.nan, observations, reason)
    before, last = list(gains.values())[-2:]
    return Value(last / before if before > 0.0 else math.nan, observations, "the shorter distance gains nothing")


def _without_order(gains: dict[float, float]) -> str:
    """Return why gains have no order by distance; empty where they have."""
    if len(gains) < 2:
        return f"gains at 2 distances needed, {len(gains)} measured"
    return "all distances gain the same" if len(set(gains.values())) < 2 else ""


def averages_generalise(run: MeasuredRun) -> Value | None:
    """Return the smallest gain in accuracy over EMA, SWA and two points, each with its largest parameter.

    On test images, on validation images where there are none.
    """
    averages = run.tables["averages"]
    kinds = _averages_of(averages)
    if not kinds:
        return None
    test = "test_accuracy" if np.isfinite(as_floats(averages, "test_accuracy")).any() else "validation_accuracy"
    gains: dict[str, float] = {}
    for kind in sorted(kinds, key=lambda kind: kind.parameter):
        gain = -_late_gain(run, kind, test)[0]
        if math.isfinite(gain):
            gains[kind.name] = gain
    return Value(min(gains.values(), default=math.nan), len(gains), "no accuracy was measured in the second half")


# --- runs from one start ----------------------------------------------------------------------------------------------


def families(runs: Runs) -> list[list[MeasuredRun]]:
    """Return each run that goes on at the rate of the run before it, then the runs that it is compared with.

    These go on from the same update of the same run at another constant rate, or with the schedule that an average is
    the last iterate of.
    """
    groups: dict[str, list[MeasuredRun]] = defaultdict(list)
    for run in runs:
        if run.settings.continued:
            groups[repr(_setting(run.settings))].append(run)
    found = []
    for group in groups.values():
        base = next((run for run in group if _is_base(run)), None)
        if base is not None:
            others = [run for run in group if _at_other_rates([base, run]) or _scheduled([base, run])]
            found += [[base, *others]] if others else []
    return found


def _setting(own: RunSettings) -> RunSettings:
    """Return what runs that are compared have in common: all but experiment, rate and schedule."""
    return replace(own, experiment="", lr=0.0, schedule=Constant())


def _is_base(run: MeasuredRun) -> bool:
    own = run.settings
    assert own.start_from is not None
    same = math.isclose(own.lr, own.start_from.lr, rel_tol=_SAME_LR)
    return same and isinstance(own.schedule, Constant) and bool(_averages_of(run.tables["averages"]))


def _at_other_rates(family: Runs) -> list[MeasuredRun]:
    base, *others = family
    return [
        run for run in others if isinstance(run.settings.schedule, Constant) and run.settings.lr != base.settings.lr
    ]


def _scheduled(family: Runs) -> list[tuple[MeasuredRun, Equivalent]]:
    base, *others = family
    return [
        (run, run.settings.schedule)
        for run in others
        if isinstance(run.settings.schedule, Equivalent) and run.settings.lr == base.settings.lr
    ]


def _at_end(run: MeasuredRun, which: Average | None) -> float:
    """Return the training loss after the last update; NaN if the run did not get there, and of a run that diverged."""
    losses = _losses(run.tables["averages"], which, "train_loss")
    return math.nan if run.diverged else losses.get(run.settings.steps, math.nan)


def two_points_halve_the_rate(family: Runs) -> Value:
    """Return the equivalent learning rate of two points at the largest distance over the run's own (C-M6).

    Nothing is extrapolated beyond the rates of the runs.
    """
    base, rates = family[0], _at_other_rates(family)
    observations = 1 + len(rates)
    if base.diverged:
        return Value(math.nan, observations, DIVERGED)
    if not rates:
        return Value(math.nan, observations, "no run at another rate")
    pairs = [kind for kind in _averages_of(base.tables["averages"]) if kind.name == "two_point"]
    pairs = [kind for kind in pairs if math.isfinite(_at_end(base, kind))]
    if not pairs:
        return Value(math.nan, observations, "no two points were measured after the last update")
    loss = _at_end(base, max(pairs, key=lambda kind: kind.parameter))
    curve = {run.settings.lr: _at_end(run, None) for run in (base, *rates)}
    equivalent = equivalent_rate(list(curve), list(curve.values()), loss).lr
    return Value(equivalent / base.settings.lr, observations, "no rate that ran ends at the loss of two points")


def schedules_do_what_averages_do(family: Runs) -> Value:
    """Return the largest difference in training loss of a schedule's last iterate from its average (F7).

    It is taken over the average's own gain.
    """
    base, scheduled = family[0], _scheduled(family)
    iterate, gaps = _at_end(base, None), []
    for run, schedule in scheduled:
        spacing = schedule.spacing if schedule.average == "swa" else None
        average = _at_end(base, Average(schedule.average, float(schedule.parameter), spacing))
        gain = iterate - average
        gaps.append(abs(_at_end(run, None) - average) / gain if gain > 0.0 else math.nan)
    known = [gap for gap in gaps if math.isfinite(gap)]
    reason = "no average gains, or none was measured after the last update" if scheduled else "no schedule was run"
    return Value(max(known, default=math.nan), len(known), DIVERGED if base.diverged else reason)


_ONE_STEP = EachRun(reads=("one_step_metrics",))
_AVERAGES = EachRun(reads=("averages",))
_FAMILIES = Compared(reads=("averages",), groups=families, over=("lr",))

CLAIMS = (
    Claim(
        name="A1",
        number="Median ratio of the step size that is best for the step's own batch to the one that is best for other "
        "batches",
        meaning="the best step for a batch's own loss lies far above the best one for other batches",
        relation=">",
        threshold=2.0,
        about=_ONE_STEP,
        value=_median_of("one_step_metrics", "step_size_ratio", "no batch has both best step sizes"),
    ),
    Claim(
        name="A2",
        number="Share of batches whose lowest loss after one step is below the training loss at the run's end",
        meaning="one step brings the loss of its own batch below the mean loss of the trained network",
        relation=">",
        threshold=0.5,
        about=_ONE_STEP,
        value=below_the_trained_network,
    ),
    Claim(
        name="A3",
        number="Median R^2 of a parabola through a batch's loss along its own gradient",
        meaning="a batch's loss is a parabola along its own gradient",
        relation=">=",
        threshold=0.95,
        about=_ONE_STEP,
        value=_median_of("one_step_metrics", "r_squared", "no batch has a parabola"),
    ),
    Claim(
        name="A4",
        number="Median share of second differences of that loss that are not negative",
        meaning="a batch's loss is convex along its own gradient",
        relation=">=",
        threshold=0.9,
        about=_ONE_STEP,
        value=_median_of("one_step_metrics", "convexity_rate", "no batch has second differences"),
    ),
    Claim(
        name="A5",
        number="Median convexity gap of fixed batches between measured iterates, over the range of their loss",
        meaning="the loss of a fixed batch is convex along the trajectory",
        relation="<=",
        threshold=0.05,
        about=EachRun(reads=("fixed_batches",)),
        value=_median_of("fixed_batches", "convexity_gap", "no fixed batch has a convexity gap"),
    ),
    Claim(
        name="A6",
        number="Mean cosine of a batch's gradient with itself at the largest lag, less that with other batches' "
        "gradients",
        meaning="the gradient of a batch stays aligned with itself more than with those of other batches",
        relation=">",
        threshold=0.0,
        about=EachRun(reads=("alignment",)),
        value=stays_aligned,
    ),
    Claim(
        name="A7",
        number="Rank correlation of the distance of two points with the gain of their mean in training loss",
        meaning="the gain of a two-point average grows with the distance",
        relation=">=",
        threshold=0.8,
        about=_AVERAGES,
        value=gain_grows,
    ),
    Claim(
        name="A7-saturates",
        number="Gain in training loss of two points at the largest distance over that at the one before",
        meaning="the gain of a two-point average saturates",
        relation="from",
        threshold=(0.8, 1.25),
        about=_AVERAGES,
        value=gain_saturates,
    ),
    Claim(
        name="A8",
        number="Smallest gain in accuracy on images not trained on among EMA, SWA and two points with their largest "
        "parameter",
        meaning="averages generalise better than the iterate",
        relation=">",
        threshold=0.0,
        about=_AVERAGES,
        value=averages_generalise,
    ),
    Claim(
        name="A9",
        number="Equivalent learning rate of two points at the largest distance over the run's learning rate",
        meaning="two far points act about like half the learning rate",
        relation="from",
        threshold=(1 / 3, 3 / 4),
        about=_FAMILIES,
        value=two_points_halve_the_rate,
    ),
    Claim(
        name="A10",
        number="Largest difference in training loss of the model's schedules from the averages that they stand for, "
        "over the averages' gains",
        meaning="the schedules of the quadratic model do what the averages do",
        relation="<=",
        threshold=0.25,
        about=_FAMILIES,
        value=schedules_do_what_averages_do,
    ),
)
