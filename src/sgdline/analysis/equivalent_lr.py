"""The constant learning rate that does to the training loss what an average of iterates does (no torch).

From one checkpoint a run goes on at several constant rates, the same number of updates each. Its loss at the end over
the logarithm of the rate is a curve, and the equivalent learning rate of an average is where that curve has the
average's loss. Nothing is extrapolated.

Source: papers.md 3.3, C-M6; in the quadratic model 3.2, F3 and F6.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sgdline.quadratic_model import ema_variance, equivalent_relative_lr, swa_variance, two_point_variance


@dataclass(frozen=True)
class EquivalentRate:
    """The equivalent learning rate of one seed."""

    lr: float  # NaN unless the status is ok or several
    lower: float  # the measured rates on both sides, NaN without an lr
    upper: float
    status: str  # ok | several | below | above | too_few | non_finite


@dataclass(frozen=True)
class EquivalentRates:
    """Equivalent learning rates over the seeds."""

    lr: float  # geometric mean over the seeds that have one, NaN without any
    spread: float  # factor exp(standard deviation of log lr, n - 1), at least 1; NaN with fewer than two
    lower: float  # the lowest and the highest of the brackets
    upper: float
    found: int  # seeds that have one
    seeds: int
    statuses: dict[str, int]  # status -> seeds


def equivalent_rate(rates: npt.ArrayLike, losses: npt.ArrayLike, loss: float) -> EquivalentRate:
    """Return the rate at which the interpolated curve of one seed has a loss.

    The curve is linear in log(lr') between neighbouring rates. Rates whose loss is not finite (a run that diverged)
    are left out.

    Args:
        rates: Constant learning rates of the continuations, above 0, in any order, all different. Shape (R,).
        losses: Training losses at their ends, nats. Shape (R,).
        loss: Of the average, nats.

    Returns:
        Status `ok`: one crossing. `several`: the curve has that loss more than once; the largest such rate is taken.
        `below`, `above`: the loss lies below or above all of the curve. `too_few`: fewer than two rates. `non_finite`:
        the average has no loss.

    Raises:
        ValueError: If shapes differ, or rates are not positive and different.
    """
    places, values = np.asarray(rates, dtype=np.float64), np.asarray(losses, dtype=np.float64)
    if places.ndim != 1 or places.shape != values.shape:
        raise ValueError(f"rates and losses must be lists of one length, got {places.shape} and {values.shape}")
    if not bool((places > 0).all()) or len(np.unique(places)) < len(places):
        raise ValueError(f"rates must be above 0 and all different, got {places.tolist()}")
    order = np.argsort(places)
    order = order[np.isfinite(values[order])]
    places, values = places[order], values[order]
    if not math.isfinite(loss):
        return _without("non_finite")
    if len(places) < 2:
        return _without("too_few")
    if loss < values.min():
        return _without("below")
    if loss > values.max():
        return _without("above")
    logs = np.log(places)
    crossings: list[tuple[float, int]] = []  # log of the rate, index of the rate below it
    for index in range(len(places) - 1):
        first, second = values[index], values[index + 1]
        if not min(first, second) <= loss <= max(first, second):
            continue
        # A level piece has the loss everywhere; its upper end counts.
        share = 1.0 if first == second else (loss - first) / (second - first)
        at = float(logs[index] + share * (logs[index + 1] - logs[index]))
        if not crossings or at > crossings[-1][0] + 1e-12:  # a crossing at a measured rate belongs to both pieces
            crossings.append((at, index))
    # ASSUME: below some rate a short continuation no longer arrives, and the loss rises again. An average is compared
    # with the rate that is cut least to have its loss.
    at, index = crossings[-1]
    status = "ok" if len(crossings) == 1 else "several"
    return EquivalentRate(math.exp(at), float(places[index]), float(places[index + 1]), status)


def over_seeds(found: Sequence[EquivalentRate]) -> EquivalentRates:
    """Return mean and spread of the equivalent rates of several seeds, with the outermost measured rates beside them.

    Args:
        found: One per seed.
    """
    known = [rate for rate in found if math.isfinite(rate.lr)]
    statuses = dict(Counter(rate.status for rate in found))
    if not known:
        return EquivalentRates(math.nan, math.nan, math.nan, math.nan, 0, len(found), statuses)
    logs = np.log([rate.lr for rate in known])
    return EquivalentRates(
        lr=math.exp(float(logs.mean())),
        spread=math.exp(float(logs.std(ddof=1))) if len(known) > 1 else math.nan,
        lower=min(rate.lower for rate in known),
        upper=max(rate.upper for rate in known),
        found=len(known),
        seeds=len(found),
        statuses=statuses,
    )


def predicted_rate(average: str, parameter: float, *, lr: float, relative_lr: float, spacing: int = 1) -> float:
    """Return the equivalent learning rate of the quadratic model with one eigenvalue: the same stationary variance.

    Args:
        average: ema, swa or two_point.
        parameter: Decay, count or distance.
        lr: Learning rate of the averaged run.
        relative_lr: a = lr*h, above 0 and below 2.
        spacing: Of swa, in updates.

    Source: papers.md 3.2, F2 to F6.
    """
    if average == "ema":
        averaged = ema_variance(relative_lr, 1.0, decay=parameter)
    elif average == "swa":
        averaged = swa_variance(relative_lr, 1.0, count=parameter, spacing=spacing)
    elif average == "two_point":
        averaged = two_point_variance(relative_lr, 1.0, distance=parameter)
    else:
        raise ValueError(f"average must be ema, swa or two_point, got {average!r}")
    return lr * float(equivalent_relative_lr(averaged, 1.0)) / relative_lr


def _without(status: str) -> EquivalentRate:
    return EquivalentRate(math.nan, math.nan, math.nan, status)
