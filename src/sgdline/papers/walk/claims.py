"""The core claims of walk: of single runs, and of runs compared.

Runs that continue another one are not compared. A rank correlation of -0.8 or 0.8 allows one exchange of neighbours
among four values; of two values it is 1 or -1.

ASSUME: papers.md says "falls" and "rises"; rank correlations and the 10 updates of W1 are our reading of these words.

Source: papers.md 5.3, claims.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence

import numpy as np
import pyarrow as pa

from sgdline.analysis.columns import as_floats, finite
from sgdline.claims.base import DIVERGED, Claim, Compared, EachRun, Value
from sgdline.claims.judging.measured import MeasuredRun
from sgdline.declare.registry import name_of

_EARLY_UPDATES = 10  # W1

Runs = Sequence[MeasuredRun]


# --- single runs ------------------------------------------------------------------------------------------------------


def interior_minima(run: MeasuredRun) -> Value:
    """Return the share of intervals with an interior minimum (W-M2), the first 10 updates of the run left out."""
    intervals = run.tables["intervals"]
    late = _resolved(intervals) & (as_floats(intervals, "step") >= _EARLY_UPDATES)
    return _share(intervals, "interior_minimum", late, f"no interval is resolved after {_EARLY_UPDATES} updates")


def barriers(run: MeasuredRun) -> Value:
    """Return the share of intervals with a barrier (W-M5)."""
    intervals = run.tables["intervals"]
    return _share(intervals, "barrier", _resolved(intervals), "no interval is resolved")


def _resolved(intervals: pa.Table) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    return np.array([status == "ok" for status in intervals.column("status").to_pylist()], dtype=np.bool_)


def _share(intervals: pa.Table, column: str, counts: np.ndarray[tuple[int], np.dtype[np.bool_]], reason: str) -> Value:
    flags = np.array([bool(flag) for flag in intervals.column(column).to_pylist()], dtype=np.bool_)
    return Value(float(flags[counts].mean()) if counts.any() else math.nan, int(counts.sum()), reason)


# --- runs compared ----------------------------------------------------------------------------------------------------


def _grouped(runs: Iterable[MeasuredRun], key: Callable[[MeasuredRun], Hashable]) -> list[list[MeasuredRun]]:
    """Return the runs from random parameters that have the same key."""
    groups: dict[Hashable, list[MeasuredRun]] = defaultdict(list)
    for run in runs:
        if not run.settings.continued:
            groups[key(run)].append(run)
    return list(groups.values())


def _noise(run: MeasuredRun) -> float:
    noise = run.settings.optimizer.gradient_noise()
    return 0.0 if noise is None else noise.factor


def differing_in_batch_size(runs: Runs) -> list[list[MeasuredRun]]:
    """Return runs of one experiment, model, learning rate and seed that differ in their batch size."""
    groups = _grouped(runs, lambda run: (*run.key._replace(batch_size=None), _noise(run) > 0))
    return [group for group in groups if len({run.key.batch_size for run in group}) > 1]


def differing_in_rate(runs: Runs) -> list[list[MeasuredRun]]:
    """Return runs of one experiment, model, batch size and seed that differ in their learning rate."""
    groups = _grouped(runs, lambda run: (*run.key._replace(lr=None), _noise(run) > 0))
    return [group for group in groups if len({run.key.lr for run in group}) > 1]


def with_and_without_noise(runs: Runs) -> list[list[MeasuredRun]]:
    """Return gradient descent with isotropic noise (W-M8), then without, from the same start at the same rate."""

    def start(run: MeasuredRun) -> Hashable:
        own = run.settings
        return own.model, own.lr_unit, own.lr, own.batch_size, own.seed

    groups = []
    for group in _grouped([run for run in runs if run.settings.whole_batches], start):
        noisy, plain = [run for run in group if _noise(run) > 0], [run for run in group if _plain_gd(run)]
        if noisy and plain:
            groups.append([*noisy, plain[0]])
    return groups


def _plain_gd(run: MeasuredRun) -> bool:
    rule = run.settings.optimizer
    return _noise(run) == 0 and name_of(type(rule)) == "sgd" and not getattr(rule, "momentum", 0.0)


def cosine_falls_with_batch_size(group: Runs) -> Value:
    """Return the rank correlation of the batch size with the mean cosine of consecutive gradients (W-M3).

    The cosine is averaged over as many updates as all runs have; runs that diverged do not count.
    """

    def mean_cosine(run: MeasuredRun, updates: int) -> float:
        known = finite(as_floats(run.tables["trace"], "gradient_cosine")[:updates])
        return float(known.mean()) if known.size else math.nan

    return _correlation_with_batch_size(group, mean_cosine)


def distance_falls_with_batch_size(group: Runs) -> Value:
    """Return the rank correlation of the batch size with the distance from initialisation (W-M4).

    The distance is that after as many updates as all runs have; runs that diverged do not count.
    """
    return _correlation_with_batch_size(group, _distance)


def _correlation_with_batch_size(group: Runs, measure: Callable[[MeasuredRun, int], float]) -> Value:
    sound = [run for run in group if not run.diverged]
    updates = min((run.tables["trace"].num_rows for run in sound), default=0)
    values = [measure(run, updates) for run in sound] if updates else []
    return _rank_correlation([run.settings.batch_size for run in sound], values, "batch size")


def _distance(run: MeasuredRun, updates: int) -> float:
    # At the start of the last of these updates: the trace has no row for what comes after it.
    return float(as_floats(run.tables["trace"], "distance_from_start")[updates - 1])


def height_rises_with_rate(group: Runs) -> Value:
    """Return the rank correlation of the learning rate with the mean height H (W-M6) of an epoch.

    It is the median over the epochs that all runs have; runs that diverged do not count.
    """
    sound = [run for run in group if not run.diverged]
    heights: list[dict[int, float]] = []
    for run in sound:
        table = run.tables["interval_epochs"]
        means = zip(table.column("epoch").to_pylist(), as_floats(table, "height_mean").tolist(), strict=True)
        heights.append({epoch: mean for epoch, mean in means if math.isfinite(mean)})
    shared = sorted(set.intersection(*map(set, heights))) if heights else []
    if sound and not shared:
        return Value(math.nan, len(sound), "no epoch has a height in every run")
    rates = [run.key.lr or 0.0 for run in sound]
    correlations = [_rank_correlation(rates, [own[epoch] for own in heights], "learning rate") for epoch in shared]
    known = [value.number for value in correlations if math.isfinite(value.number)]
    if known:
        return Value(float(np.median(known)), len(sound))
    return correlations[0] if correlations else _rank_correlation(rates, [], "learning rate")


def _rank_correlation(keys: Sequence[float], values: Sequence[float], name: str) -> Value:
    """Return Spearman's rank correlation of a key of the runs with a value of theirs."""
    # Imported lazily: a workflow that starts reads all claims, and scipy takes a second.
    from scipy.stats import spearmanr

    correlation, reason = math.nan, ""
    if len(set(keys)) < 2:
        reason = f"2 runs that differ in their {name} needed, {len(set(keys))} did not diverge"
    elif not all(map(math.isfinite, values)):
        reason = "not every run was measured"
    elif len(set(values)) < 2:
        reason = "all runs have the same value"
    else:
        # Ranks give a few round numbers; the last bits must not decide whether one of them reaches its threshold.
        correlation = round(float(spearmanr(keys, values).statistic), 12)
    return Value(correlation, len(keys), reason)


def noise_leaves_loss_higher(group: Runs) -> Value:
    """Return the smallest ratio of the mean loss over the last tenth of the updates with noise to that without.

    The batch is the whole training set. A noisy run that diverged has an infinite ratio.
    """

    def late_loss(run: MeasuredRun, updates: int) -> float:
        return float(as_floats(run.tables["trace"], "batch_loss")[updates - max(updates // 10, 1) : updates].mean())

    return _smallest_ratio(group, late_loss)


def noise_leads_farther(group: Runs) -> Value:
    """Return the smallest ratio of the distance from initialisation with noise to that without.

    A noisy run that diverged has an infinite ratio.
    """
    return _smallest_ratio(group, _distance)


def _smallest_ratio(group: Runs, measure: Callable[[MeasuredRun, int], float]) -> Value:
    """Return the smallest ratio of the noisy runs to the last one, at the last update that all runs have."""
    *noisy, plain = group
    if plain.diverged:
        return Value(math.nan, len(group), DIVERGED)
    updates = min(run.tables["trace"].num_rows for run in group if run is plain or not run.diverged)
    base = measure(plain, updates)
    ratios = [math.inf if run.diverged else measure(run, updates) / base for run in noisy if base > 0.0]
    return Value(min(ratios, default=math.nan), len(group), "gradient descent is at 0, so that there is no ratio")


_BATCH_SIZES = Compared(reads=("trace",), groups=differing_in_batch_size, over=("batch_size",))
_NOISE = Compared(reads=("trace",), groups=with_and_without_noise)

CLAIMS = (
    Claim(
        name="W1",
        number="Share of intervals with an interior minimum, the first 10 updates left out",
        meaning="the loss between two iterates has its minimum inside",
        relation=">",
        threshold=0.5,
        about=EachRun(reads=("intervals",)),
        value=interior_minima,
    ),
    Claim(
        name="W2",
        number="Share of intervals with a barrier",
        meaning="consecutive iterates are hardly ever separated by a barrier",
        relation="<=",
        threshold=0.05,
        about=EachRun(reads=("intervals",)),
        value=barriers,
    ),
    Claim(
        name="W3",
        number="Rank correlation of batch size and mean cosine of consecutive gradients",
        meaning="the cosine of consecutive gradients falls with the batch size",
        relation="<=",
        threshold=-0.8,
        about=_BATCH_SIZES,
        value=cosine_falls_with_batch_size,
    ),
    Claim(
        name="W4",
        number="Rank correlation of batch size and distance from initialisation after the same number of updates",
        meaning="the distance from initialisation falls with the batch size",
        relation="<=",
        threshold=-0.8,
        about=_BATCH_SIZES,
        value=distance_falls_with_batch_size,
    ),
    Claim(
        name="W5",
        number="Rank correlation of learning rate and mean height above the valley's floor, median over epochs",
        meaning="the height above the valley's floor rises with the learning rate",
        relation=">=",
        threshold=0.8,
        about=Compared(reads=("interval_epochs",), groups=differing_in_rate, over=("lr",)),
        value=height_rises_with_rate,
    ),
    Claim(
        name="W6-loss",
        number="Smallest ratio of the loss of the last tenth with isotropic noise to that of gradient descent",
        meaning="isotropic noise leaves the loss higher than gradient descent does",
        relation=">",
        threshold=1.0,
        about=_NOISE,
        value=noise_leaves_loss_higher,
    ),
    Claim(
        name="W6-distance",
        number="Smallest ratio of the distance from initialisation with isotropic noise to that of gradient descent",
        meaning="isotropic noise leads farther from initialisation than gradient descent does",
        relation=">",
        threshold=1.0,
        about=_NOISE,
        value=noise_leads_farther,
    ),
)
