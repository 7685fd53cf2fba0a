"""The core claims of walk as numbers with a verdict, for one run and for runs compared.

Of one run, over its measured intervals of status ok:

W1  The loss between two iterates has its minimum inside: the share of intervals with an interior minimum (W-M2),
    the first 10 updates of the run left out, is above 0.5.
W2  Iterates are not separated by barriers: the share of intervals with a barrier (W-M5) is at most 0.05.

Of runs of one experiment and seed that differ in their batch size, at the same learning rate; n is the smallest number
of updates among them, and runs that diverged do not count:

W3  A larger batch bounces more: Spearman's rank correlation of the batch size with the mean cosine of consecutive
    gradients (W-M3) over the first n updates is at most -0.8.
W4  A larger batch stays nearer: the same with the distance from initialisation (W-M4) after n updates.

Of runs that differ in their learning rate, at the same batch size:

W5  A larger learning rate keeps SGD higher above the valley's floor: Spearman's rank correlation of the learning rate
    with the mean height H (W-M6) of an epoch, the median over the epochs that all runs have, is at least 0.8.

Of full-batch gradient descent and the same with isotropic noise (W-M8), same model, learning rate and seed:

W6-loss      The noise leaves the loss higher: the smallest over the noise levels of the ratio of the mean loss over
             the last tenth of the updates to that of gradient descent is above 1. The batch is the whole training set.
W6-distance  It leads farther away: the same with the distance from initialisation at the last update.

Runs that continue another one are not compared. A rank correlation of -0.8 or 0.8 allows one exchange of neighbours
among four values; of two values it is 1 or -1. A claim whose number does not exist is undetermined, and so are the
claims of a run that diverged.

ASSUME: papers.md says "falls" and "rises"; rank correlations and the 10 updates of W1 are our reading of these words.

Source: papers.md 5.3, claims.
"""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from scipy.stats import spearmanr

from sgdline.analysis.claims.judging import Claim, Statement, judge
from sgdline.analysis.claims.pages import JudgedRun
from sgdline.analysis.columns import as_floats
from sgdline.analysis.divergence import diverged_at

PAPER = "walk"
_EARLY_UPDATES = 10  # W1

STATEMENTS: dict[str, Statement] = {
    statement.claim: statement
    for statement in (
        Statement(
            PAPER,
            "W1",
            "Share of intervals with an interior minimum, the first 10 updates left out",
            "the loss between two iterates has its minimum inside",
            ">",
            0.5,
        ),
        Statement(
            PAPER,
            "W2",
            "Share of intervals with a barrier",
            "consecutive iterates are hardly ever separated by a barrier",
            "<=",
            0.05,
        ),
        Statement(
            PAPER,
            "W3",
            "Rank correlation of batch size and mean cosine of consecutive gradients",
            "the cosine of consecutive gradients falls with the batch size",
            "<=",
            -0.8,
        ),
        Statement(
            PAPER,
            "W4",
            "Rank correlation of batch size and distance from initialisation after the same number of updates",
            "the distance from initialisation falls with the batch size",
            "<=",
            -0.8,
        ),
        Statement(
            PAPER,
            "W5",
            "Rank correlation of learning rate and mean height above the valley's floor, median over epochs",
            "the height above the valley's floor rises with the learning rate",
            ">=",
            0.8,
        ),
        Statement(
            PAPER,
            "W6-loss",
            "Smallest ratio of the loss of the last tenth with isotropic noise to that of gradient descent",
            "isotropic noise leaves the loss higher than gradient descent does",
            ">",
            1.0,
        ),
        Statement(
            PAPER,
            "W6-distance",
            "Smallest ratio of the distance from initialisation with isotropic noise to that of gradient descent",
            "isotropic noise leads farther from initialisation than gradient descent does",
            ">",
            1.0,
        ),
    )
}


@dataclass(frozen=True, kw_only=True, eq=False)
class WalkRun:
    """One run and what its claims are read from."""

    experiment: str
    model: str
    lr: float
    batch_size: int
    seed: int
    optimizer: Mapping[str, Any]  # the config's block
    whole_batches: bool  # every batch is the whole training set
    continued: bool = False  # it started from another run's parameters
    trace: pa.Table  # of kind trace
    intervals: pa.Table | None = None  # of kind intervals, if they were measured
    interval_epochs: pa.Table | None = None  # of kind interval_epochs, likewise
    lr_unit: str = "absolute"  # or sharpness: lr is a multiple of 1/lambda_max at the run's start

    @property
    def diverged(self) -> bool:
        """Whether the run ended at a useless loss; see sgdline.analysis.divergence."""
        return diverged_at(self.trace) is not None


def interval_claims(run: WalkRun) -> tuple[Claim, ...]:
    """Return W1 and W2 of one run; nothing if it has no intervals."""
    if run.intervals is None:
        return ()
    fine = np.array([status == "ok" for status in run.intervals.column("status").to_pylist()], dtype=np.bool_)
    late = fine & (as_floats(run.intervals, "step") >= _EARLY_UPDATES)
    claims = (
        _share("W1", run.intervals, "interior_minimum", late),
        _share("W2", run.intervals, "barrier", fine),
    )
    if not run.diverged:
        return claims
    return tuple(dataclasses.replace(claim, verdict="undetermined") for claim in claims)


def _share(name: str, intervals: pa.Table, column: str, counts: np.ndarray[Any, Any]) -> Claim:
    flags = np.array([bool(flag) for flag in intervals.column(column).to_pylist()], dtype=np.bool_)
    share = float(flags[counts].mean()) if counts.any() else math.nan
    return judge(STATEMENTS[name], share, observations=int(counts.sum()))


def judged_walks(runs: Sequence[WalkRun]) -> list[JudgedRun]:
    """Return all claims of runs and of runs compared.

    Args:
        runs: Runs of any number of experiments, in any order.

    Returns:
        One entry per run with intervals and per comparison, by experiment and in the order of their keys; a
        comparison over a key has None there.
    """
    ordered = sorted(runs, key=_sort_key)
    judged = [_entry(run, interval_claims(run)) for run in ordered if run.intervals is not None]
    fresh = [run for run in ordered if not run.continued]
    for group in _groups(fresh, lambda run: (run.experiment, run.model, run.lr, run.seed, _plain(run))):
        if len({run.batch_size for run in group}) > 1:
            claims = (_batch_claim("W3", group, _mean_cosine), _batch_claim("W4", group, _distance))
            judged.append(_entry(group[0], claims, batch_size=None))
    for group in _groups(fresh, lambda run: (run.experiment, run.model, run.batch_size, run.seed, _plain(run))):
        measured = [run for run in group if run.interval_epochs is not None]
        if len({run.lr for run in measured}) > 1:
            judged.append(_entry(group[0], (_height_claim(measured),), lr=None))
    for group in _groups(fresh, _start):
        noisy = [run for run in group if _noise(run) > 0]
        plain = [run for run in group if _noise(run) == 0 and _plain_gd(run)]
        if group[0].whole_batches and noisy and plain:
            judged.append(_entry(noisy[0], _noise_claims(plain[0], noisy)))
    return judged


def _sort_key(run: WalkRun) -> tuple[Any, ...]:
    return (run.experiment, run.model, run.lr, run.batch_size, run.seed)


def _start(run: WalkRun) -> tuple[Any, ...]:
    return (run.model, run.lr_unit, run.lr, run.batch_size, run.seed, run.whole_batches)


def _entry(run: WalkRun, claims: tuple[Claim, ...], **compared: None) -> JudgedRun:
    key = {name: getattr(run, name) for name in ("experiment", "model", "lr", "batch_size", "seed")}
    return JudgedRun(**{**key, **compared}, claims=claims)


def _groups(runs: Sequence[WalkRun], key: Callable[[WalkRun], tuple[Any, ...]]) -> Iterator[list[WalkRun]]:
    groups: dict[tuple[Any, ...], list[WalkRun]] = defaultdict(list)
    for run in runs:
        groups[key(run)].append(run)
    yield from groups.values()


def _noise(run: WalkRun) -> float:
    return float(run.optimizer.get("noise", {}).get("factor", 0.0))


def _plain(run: WalkRun) -> bool:
    return _noise(run) == 0.0


def _plain_gd(run: WalkRun) -> bool:
    return run.whole_batches and run.optimizer.get("name") == "sgd" and not run.optimizer.get("momentum")


def _rank_correlation(keys: Sequence[float], values: Sequence[float]) -> float:
    """Return Spearman's rank correlation; NaN below two different keys, or where all values are equal."""
    if len(set(keys)) < 2 or len(set(values)) < 2 or not all(map(math.isfinite, values)):
        return math.nan
    # Ranks give a few round numbers; the last bits must not decide whether one of them reaches its threshold.
    return round(float(spearmanr(keys, values).statistic), 12)


def _batch_claim(name: str, group: Sequence[WalkRun], measure: Callable[[WalkRun, int], float]) -> Claim:
    sound = [run for run in group if not run.diverged]
    updates = min((run.trace.num_rows for run in sound), default=0)
    value = math.nan
    if updates:
        value = _rank_correlation([run.batch_size for run in sound], [measure(run, updates) for run in sound])
    return judge(STATEMENTS[name], value, observations=len(sound))


def _mean_cosine(run: WalkRun, updates: int) -> float:
    cosines = as_floats(run.trace, "gradient_cosine")[:updates]
    known = cosines[np.isfinite(cosines)]
    return float(known.mean()) if known.size else math.nan


def _distance(run: WalkRun, updates: int) -> float:
    # At the start of the last of these updates: the trace has no row for what comes after it.
    return float(as_floats(run.trace, "distance_from_start")[updates - 1])


def _height_claim(group: Sequence[WalkRun]) -> Claim:
    sound = [run for run in group if not run.diverged and run.interval_epochs is not None]
    heights: list[dict[int, float]] = []
    for run in sound:
        assert run.interval_epochs is not None
        epochs = run.interval_epochs.column("epoch").to_pylist()
        means = as_floats(run.interval_epochs, "height_mean").tolist()
        heights.append({epoch: mean for epoch, mean in zip(epochs, means, strict=True) if math.isfinite(mean)})
    shared = sorted(set.intersection(*(set(found) for found in heights))) if heights else []
    lrs = [run.lr for run in sound]
    correlations = [_rank_correlation(lrs, [found[epoch] for found in heights]) for epoch in shared]
    known = [value for value in correlations if math.isfinite(value)]
    value = float(np.median(known)) if known else math.nan
    return judge(STATEMENTS["W5"], value, observations=len(sound))


def _noise_claims(plain: WalkRun, noisy: Sequence[WalkRun]) -> tuple[Claim, ...]:
    """Return W6 at the last update that all runs have; a noisy run that diverged has an infinite ratio."""
    updates = min(run.trace.num_rows for run in (plain, *noisy) if run is plain or not run.diverged)
    claims = []
    for name, measure in (("W6-loss", _late_loss), ("W6-distance", _distance)):
        base = measure(plain, updates)
        ratios = [math.inf if run.diverged else measure(run, updates) / base for run in noisy if base > 0.0]
        value = min(ratios) if ratios and not plain.diverged else math.nan
        claims.append(judge(STATEMENTS[name], value, observations=1 + len(noisy)))
    return tuple(claims)


def _late_loss(run: WalkRun, updates: int) -> float:
    return float(as_floats(run.trace, "batch_loss")[updates - max(updates // 10, 1) : updates].mean())
