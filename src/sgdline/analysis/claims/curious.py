"""What the paper on training trajectories and averages says, as numbers with a verdict, for single and compared runs.

Of one run, from whichever of these it measures:

A1  A batch's own loss wants a far larger step than other batches do: the median over fixed batches and positions of
    the ratio of the two best step sizes (C-M1) is above 2.
A2  One step on a batch beats the trained network: the share of fixed batches whose lowest loss after one step, at the
    last measured position, lies below the mean training loss at the run's end is above 0.5.
A3  A batch's loss is a parabola along its own gradient: the median R^2 of the fit (C-M2) is at least 0.95.
A4  It is convex there: the median convexity rate (C-M2) is at least 0.9.
A5  A fixed batch's loss is convex along the trajectory: the median convexity gap (C-M3) is at most 0.05.
A6  A batch's gradient stays aligned with itself: its mean cosine at the largest lag is above the mean cosine with other
    batches (C-M4).
A7  The gain of two points grows with their distance: Spearman's rank correlation of the distance with the mean gain in
    training loss over the iterate (C-M6) is at least 0.8.
A7-saturates  It saturates: the gain at the largest distance over that at the one before is 0.8 to 1.25.
A8  Averages generalise better than the iterate: the smallest over EMA, SWA and two points, each with its largest
    parameter, of the mean gain in test accuracy (of validation accuracy without test images) is above 0.

Gains are means over the evaluations of the second half of a run.

Of runs that continue the same run from the same update, by the same number of updates:

A9   Two far points act like half the learning rate: the equivalent learning rate of two points at the largest distance
     over the run's own (C-M6) is 1/3 to 3/4.
A10  The schedule that an average is the last iterate of in the quadratic model (F7) does what the average does: the
     largest over such runs of the absolute difference of the two training losses, over the average's own gain, is at
     most 0.25.

A claim whose number does not exist is undetermined, and so are the claims of a run that diverged.

ASSUME: the paper's text gives no thresholds; all of them are ours.

Source: papers.md 3.1 and 3.4.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from scipy.stats import spearmanr

from sgdline.analysis.claims.judging import Claim, Statement, judge
from sgdline.analysis.claims.pages import JudgedRun, finite, median
from sgdline.analysis.columns import as_floats
from sgdline.analysis.divergence import diverged_at
from sgdline.analysis.equivalent_lr import equivalent_rate

PAPER = "curious"
_SAME_LR = 1e-9  # relative: settings have learning rates as text


def _statements(*entries: tuple[str, str, str, str, float | tuple[float, float]]) -> dict[str, Statement]:
    return {claim: Statement(PAPER, claim, *rest) for claim, *rest in entries}  # type: ignore[arg-type]


STATEMENTS = _statements(
    (
        "A1",
        "Median ratio of the step size that is best for the step's own batch to the one that is best for other batches",
        "the best step for a batch's own loss lies far above the best one for other batches",
        ">",
        2.0,
    ),
    (
        "A2",
        "Share of batches whose lowest loss after one step is below the training loss at the run's end",
        "one step brings the loss of its own batch below the mean loss of the trained network",
        ">",
        0.5,
    ),
    (
        "A3",
        "Median R^2 of a parabola through a batch's loss along its own gradient",
        "a batch's loss is a parabola along its own gradient",
        ">=",
        0.95,
    ),
    (
        "A4",
        "Median share of second differences of that loss that are not negative",
        "a batch's loss is convex along its own gradient",
        ">=",
        0.9,
    ),
    (
        "A5",
        "Median convexity gap of fixed batches between measured iterates, over the range of their loss",
        "the loss of a fixed batch is convex along the trajectory",
        "<=",
        0.05,
    ),
    (
        "A6",
        "Mean cosine of a batch's gradient with itself at the largest lag, less that with other batches' gradients",
        "the gradient of a batch stays aligned with itself more than with those of other batches",
        ">",
        0.0,
    ),
    (
        "A7",
        "Rank correlation of the distance of two points with the gain of their mean in training loss",
        "the gain of a two-point average grows with the distance",
        ">=",
        0.8,
    ),
    (
        "A7-saturates",
        "Gain in training loss of two points at the largest distance over that at the one before",
        "the gain of a two-point average saturates",
        "from",
        (0.8, 1.25),
    ),
    (
        "A8",
        "Smallest gain in accuracy on images not trained on among EMA, SWA and two points with their largest parameter",
        "averages generalise better than the iterate",
        ">",
        0.0,
    ),
    (
        "A9",
        "Equivalent learning rate of two points at the largest distance over the run's learning rate",
        "two far points act about like half the learning rate",
        "from",
        (1 / 3, 3 / 4),
    ),
    (
        "A10",
        "Largest difference in training loss of the model's schedules from the averages that they stand for, over the "
        "averages' gains",
        "the schedules of the quadratic model do what the averages do",
        "<=",
        0.25,
    ),
)


class Average(NamedTuple):
    """An average of iterates: ema, swa or two_point, its decay, count or distance, and the spacing of swa."""

    name: str
    parameter: float
    spacing: int | None


@dataclass(frozen=True, kw_only=True, eq=False)
class CuriousRun:
    """One run and what its claims are read from; None: not measured."""

    experiment: str
    dataset: str
    model: str
    lr: float
    batch_size: int
    seed: int
    steps: int
    optimizer: Mapping[str, Any]  # the config's block, as the three below
    schedule: Mapping[str, Any]
    start_from: Mapping[str, Any] | None
    lr_unit: str = "absolute"
    trace: pa.Table  # of the kinds of these names, as all below
    one_step_metrics: pa.Table | None = None
    fixed_batches: pa.Table | None = None
    alignment: pa.Table | None = None
    averages: pa.Table | None = None
    lags: Sequence[int] = ()  # of the cosines in alignment

    @property
    def diverged(self) -> bool:
        """Whether the run ended at a useless loss; see sgdline.analysis.divergence."""
        return diverged_at(self.trace) is not None


def run_claims(run: CuriousRun) -> tuple[Claim, ...]:
    """Return the claims of one run; nothing of what it does not measure."""
    claims: list[Claim] = []
    if run.one_step_metrics is not None:
        claims += _one_step_claims(run.one_step_metrics)
    if run.fixed_batches is not None:
        gaps = finite(as_floats(run.fixed_batches, "convexity_gap"))
        claims.append(judge(STATEMENTS["A5"], median(gaps), observations=gaps.size))
    if run.alignment is not None:
        claims.append(_alignment_claim(run.alignment, run.lags))
    if run.averages is not None and _has_averages(run.averages):
        claims += _average_claims(run.averages, steps=run.steps)
    if run.diverged:
        claims = [dataclasses.replace(claim, verdict="undetermined") for claim in claims]
    return tuple(claims)


def _one_step_claims(metrics: pa.Table) -> list[Claim]:
    steps = as_floats(metrics, "step")
    last = steps == steps.max() if steps.size else np.zeros(0, dtype=np.bool_)
    lowest, end = as_floats(metrics, "own_min_loss")[last], as_floats(metrics, "end_train_loss")[last]
    known = np.isfinite(lowest) & np.isfinite(end)
    share = float((lowest[known] < end[known]).mean()) if known.any() else math.nan
    found = [judge(STATEMENTS["A2"], share, observations=int(known.sum()))]
    for name, column in (("A1", "step_size_ratio"), ("A3", "r_squared"), ("A4", "convexity_rate")):
        values = finite(as_floats(metrics, column))
        found.append(judge(STATEMENTS[name], median(values), observations=values.size))
    return sorted(found, key=lambda claim: claim.claim)


def _alignment_claim(alignment: pa.Table, lags: Sequence[int]) -> Claim:
    rows = alignment.column("lag_cosines").to_pylist()
    cosines = np.array([[math.nan if cosine is None else cosine for cosine in row] for row in rows], dtype=np.float64)
    own = finite(cosines[:, int(np.argmax(lags))]) if cosines.size and len(lags) else np.zeros(0)
    others = finite(as_floats(alignment, "other_batches_cosine"))
    value = float(own.mean() - others.mean()) if own.size and others.size else math.nan
    return judge(STATEMENTS["A6"], value, observations=own.size)


def _has_averages(averages: pa.Table) -> bool:
    return any(name != "iterate" for name in averages.column("average").to_pylist())


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


def _late_gain(averages: pa.Table, which: Average, column: str, *, steps: int) -> tuple[float, int]:
    """Return the mean of how far an average is below the iterate in the second half of a run, and of how many."""
    iterate, average = _losses(averages, None, column), _losses(averages, which, column)
    gains = [iterate[step] - average[step] for step in average if step in iterate and 2 * step >= steps]
    return (float(np.mean(gains)) if gains else math.nan), len(gains)


def _average_claims(averages: pa.Table, *, steps: int) -> list[Claim]:
    kinds = _averages_of(averages)
    pairs = sorted((kind for kind in kinds if kind.name == "two_point"), key=lambda kind: kind.parameter)
    found = {kind.parameter: _late_gain(averages, kind, "train_loss", steps=steps) for kind in pairs}
    gains = {distance: gain for distance, (gain, _) in found.items() if math.isfinite(gain)}
    count = sum(number for _, number in found.values())
    correlation = saturation = math.nan
    if len(gains) > 1 and len(set(gains.values())) > 1:
        # The last bits of a rank correlation must not decide whether it reaches its threshold.
        correlation = round(float(spearmanr(list(gains), list(gains.values())).statistic), 12)
        before, last = list(gains.values())[-2:]
        saturation = last / before if before > 0.0 else math.nan
    test = "test_accuracy" if np.isfinite(as_floats(averages, "test_accuracy")).any() else "validation_accuracy"
    largest: dict[str, Average] = {}
    for kind in sorted(kinds, key=lambda kind: kind.parameter):
        if math.isfinite(_late_gain(averages, kind, test, steps=steps)[0]):
            largest[kind.name] = kind
    better = [-_late_gain(averages, kind, test, steps=steps)[0] for kind in largest.values()]
    return [
        judge(STATEMENTS["A7"], correlation, observations=count),
        judge(STATEMENTS["A7-saturates"], saturation, observations=count),
        judge(STATEMENTS["A8"], min(better, default=math.nan), observations=len(better)),
    ]


def judged_runs(runs: Sequence[CuriousRun]) -> list[JudgedRun]:
    """Return all claims of runs and of runs compared.

    Args:
        runs: Runs of any number of experiments, in any order.

    Returns:
        One entry per run that measures something, by experiment and in the order of their keys, then one per group of
        runs that go on from one start, with None for the learning rate, which they are compared over.
    """
    ordered = sorted(runs, key=lambda run: (run.experiment, run.model, run.lr, run.batch_size, run.seed))
    judged = [_entry(run, claims) for run in ordered if (claims := run_claims(run))]
    compared = [
        _entry(base, claims, lr=None) for base, others in _families(ordered) if (claims := _compared(base, others))
    ]
    return judged + sorted(compared, key=lambda entry: (entry.experiment, entry.model, entry.batch_size, entry.seed))


def _entry(run: CuriousRun, claims: tuple[Claim, ...], **compared: None) -> JudgedRun:
    key = {name: getattr(run, name) for name in ("experiment", "model", "lr", "batch_size", "seed")}
    return JudgedRun(**{**key, **compared}, claims=claims)


def _families(runs: Iterable[CuriousRun]) -> list[tuple[CuriousRun, list[CuriousRun]]]:
    """Return each run with averages that goes on at the rate of the run before it, and the others from its start."""
    groups: dict[str, list[CuriousRun]] = defaultdict(list)
    for run in runs:
        if run.start_from is not None and run.averages is not None:
            same = (
                run.dataset,
                run.model,
                run.batch_size,
                run.seed,
                run.steps,
                run.lr_unit,
                run.optimizer,
                run.start_from,
            )
            groups[json.dumps(same, sort_keys=True)].append(run)
    found = []
    for group in groups.values():
        bases = [run for run in group if _is_base(run)]
        if bases:
            found.append((bases[0], [run for run in group if run is not bases[0]]))
    return found


def _is_base(run: CuriousRun) -> bool:
    assert run.start_from is not None
    assert run.averages is not None
    same = math.isclose(run.lr, float(run.start_from["lr"]), rel_tol=_SAME_LR)
    return same and run.schedule["name"] == "constant" and _has_averages(run.averages)


def _compared(base: CuriousRun, others: Sequence[CuriousRun]) -> tuple[Claim, ...]:
    rates = [run for run in others if run.schedule["name"] == "constant" and run.lr != base.lr]
    scheduled = [run for run in others if run.schedule["name"] == "equivalent" and run.lr == base.lr]
    if not rates and not scheduled:
        return ()
    # Both of every seed, whatever it was compared with: claims are pooled over seeds.
    claims = [_two_point_claim(base, rates), _schedule_claim(base, scheduled)]
    if base.diverged:
        claims = [dataclasses.replace(claim, verdict="undetermined") for claim in claims]
    return tuple(claims)


def _at_end(run: CuriousRun, which: Average | None) -> float:
    """Return the training loss behind the last update; NaN if the run did not get there, and of a run that diverged."""
    assert run.averages is not None
    return math.nan if run.diverged else _losses(run.averages, which, "train_loss").get(run.steps, math.nan)


def _two_point_claim(base: CuriousRun, rates: Sequence[CuriousRun]) -> Claim:
    assert base.averages is not None
    pairs = [kind for kind in _averages_of(base.averages) if kind.name == "two_point"]
    pairs = [kind for kind in pairs if math.isfinite(_at_end(base, kind))]
    value = math.nan
    if pairs:
        loss = _at_end(base, max(pairs, key=lambda kind: kind.parameter))
        curve = {run.lr: _at_end(run, None) for run in (base, *rates)}
        value = equivalent_rate(list(curve), list(curve.values()), loss).lr / base.lr
    return judge(STATEMENTS["A9"], value, observations=1 + len(rates))


def _schedule_claim(base: CuriousRun, scheduled: Sequence[CuriousRun]) -> Claim:
    iterate, gaps = _at_end(base, None), []
    for run in scheduled:
        block = run.schedule
        spacing = int(block["spacing"]) if block["average"] == "swa" else None
        average = _at_end(base, Average(block["average"], float(block["parameter"]), spacing))
        gain = iterate - average
        gaps.append(abs(_at_end(run, None) - average) / gain if gain > 0.0 else math.nan)
    known = [gap for gap in gaps if math.isfinite(gap)]
    return judge(STATEMENTS["A10"], max(known, default=math.nan), observations=len(known))
