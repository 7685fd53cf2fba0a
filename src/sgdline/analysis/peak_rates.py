"""The peak learning rate of each schedule that did best on the validation set (no torch)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pyarrow as pa

from sgdline.analysis.columns import as_floats

_DIGITS = 12  # accuracies that agree so far are equal: means of fractions k/N differ in rounding


@dataclass(frozen=True)
class GridRun:
    """One run of a grid of schedules and learning rates."""

    schedule: str  # what the choice is made for
    lr: float  # peak learning rate
    evaluation: pa.Table  # of kind evaluation
    lost: bool  # it diverged


@dataclass(frozen=True)
class Candidate:
    """One peak learning rate of a schedule, over its seeds."""

    lr: float
    runs: int
    lost: int  # of the runs
    accuracy: float  # mean of the last validation accuracies, 0 to 1; NaN where one is missing
    accuracy_std: float  # over the seeds, n - 1 in the denominator; NaN with a single one
    loss: float  # mean of the last validation losses, nats; NaN where one is missing

    @property
    def eligible(self) -> bool:
        """Whether it can be chosen: no run was lost, and each has a validation accuracy."""
        return not self.lost and math.isfinite(self.accuracy)


@dataclass(frozen=True)
class Choice:
    """The peak learning rate of a schedule."""

    lr: float | None  # None: no candidate can be chosen
    candidates: tuple[Candidate, ...]  # ascending learning rates

    @property
    def chosen(self) -> Candidate | None:
        """The candidate of the chosen learning rate."""
        return next((candidate for candidate in self.candidates if candidate.lr == self.lr), None)


def choose_peak_rates(runs: Iterable[GridRun]) -> dict[str, Choice]:
    """Choose each schedule's learning rate by the mean over seeds of the last validation accuracy.

    The test set has no say: its columns are not read. A learning rate at which a run diverged is not chosen, however
    good its other seeds are. Equal accuracies are decided by the smaller mean validation loss, then by the smaller
    learning rate.

    Args:
        runs: Any number of seeds of each schedule and learning rate.

    Returns:
        A choice per schedule, in the order of appearance.

    Source: walk fig7, fig8 (papers.md 5.3: each schedule tuned by grid search).
    """
    # ASSUME: the paper does not say by which quantity it tuned. The last evaluation and not the best one of a run:
    # picking an epoch as well would be early stopping, which favours schedules whose accuracy fluctuates.
    grid: dict[str, dict[float, list[GridRun]]] = {}
    for run in runs:
        grid.setdefault(run.schedule, {}).setdefault(run.lr, []).append(run)
    choices = {}
    for schedule, rates in grid.items():
        candidates = tuple(_candidate(lr, rates[lr]) for lr in sorted(rates))
        best = min((candidate for candidate in candidates if candidate.eligible), key=_rank, default=None)
        choices[schedule] = Choice(None if best is None else best.lr, candidates)
    return choices


def last_value(evaluation: pa.Table, column: str) -> float:
    """Return a column's value at the last evaluated update; NaN where there is none.

    Args:
        evaluation: Table of kind evaluation, in any order.
        column: A numeric one.
    """
    if len(evaluation) == 0:
        return math.nan
    return float(as_floats(evaluation.sort_by("step"), column)[-1])


def mean_and_std(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean, NaN of no values, and the standard deviation with n - 1, NaN of fewer than two."""
    if not values:
        return math.nan, math.nan
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return mean, math.nan
    return mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


def _candidate(lr: float, runs: Sequence[GridRun]) -> Candidate:
    accuracy, spread = mean_and_std([last_value(run.evaluation, "validation_accuracy") for run in runs])
    loss, _ = mean_and_std([last_value(run.evaluation, "validation_loss") for run in runs])
    return Candidate(lr, len(runs), sum(run.lost for run in runs), accuracy, spread, loss)


def _rank(candidate: Candidate) -> tuple[float, float, float]:
    loss = candidate.loss if math.isfinite(candidate.loss) else math.inf
    return -round(candidate.accuracy, _DIGITS), loss, candidate.lr
