"""What the paper on large step sizes and sparse features says of networks, as numbers with a verdict.

Runs of one network on one data set that differ in their steps alone: a small constant learning rate, and a larger one
with a phase of large steps (schedule piecewise) of several lengths. Of each seed that all of them have:

S1-network      The test error at the end is the lower, the longer the phase: the smallest difference from a setting to
                the next longer phase, the constant rate being the shortest, is above 0.
S1-ends-network The constant rate's test error is above that of the longest phase.
S2-network      The sparsity coefficient (S-M6, mean over the layers) at the end is ordered in the same way.
S2-ends-network The constant rate's coefficient is above that of the longest phase.
S3-network      Features become sparser while steps are large: the largest ratio of the coefficient at the phase's end
                to that at the run's start is at most 0.9.
S3-loss-network The training loss does not fall meanwhile: over the second half of each phase its level (S-M3) moves
                down by less than a factor of 2.
S4-network      After the decay the coefficient stays: the largest relative change from the first measurement behind it
                to the end is at most 0.1.

Errors are those of the last evaluation, on the validation images where there are no test images. A claim that needs a
run that diverged, or a value that was not measured, is undetermined.

ASSUME: thresholds are ours; the paper shows curves. A mean over layers stands for them all, as they have the same
weight whatever their size.

Source: papers.md 4.4, claims S1 to S4.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sgdline.analysis.claims.judging import Claim, Statement, judge
from sgdline.analysis.claims.pages import JudgedRun
from sgdline.analysis.columns import as_floats
from sgdline.analysis.divergence import diverged_at
from sgdline.analysis.stabilization import stabilisation

PAPER = "sparse"

FloatArray = npt.NDArray[np.float64]


def _statements(*entries: tuple[str, str, str, str, float]) -> dict[str, Statement]:
    return {claim: Statement(PAPER, claim, *rest) for claim, *rest in entries}  # type: ignore[arg-type]


STATEMENTS = _statements(
    (
        "S1-network",
        "Smallest decrease of the final test error to that with the next longer phase of large steps",
        "the longer the phase of large steps, the lower the network's test error",
        ">",
        0.0,
    ),
    (
        "S1-ends-network",
        "Final test error with a small constant step less that with the longest phase of large steps",
        "a long phase of large steps ends at a lower test error than a small constant step",
        ">",
        0.0,
    ),
    (
        "S2-network",
        "Smallest decrease of the final sparsity coefficient to that with the next longer phase of large steps",
        "the longer the phase of large steps, the sparser the network's features",
        ">",
        0.0,
    ),
    (
        "S2-ends-network",
        "Final sparsity coefficient with a small constant step less that with the longest phase of large steps",
        "a long phase of large steps ends at sparser features than a small constant step",
        ">",
        0.0,
    ),
    (
        "S3-network",
        "Largest ratio of the sparsity coefficient at the end of a phase of large steps to that at the start",
        "the network's features become sparser while steps are large",
        "<=",
        0.9,
    ),
    (
        "S3-loss-network",
        "Smallest drift of log10(training loss) over the second half of a phase of large steps",
        "the network's training loss does not fall while steps are large",
        ">",
        -0.3,
    ),
    (
        "S4-network",
        "Largest relative change of the sparsity coefficient after the decay",
        "the network's features stay as sparse after the decay",
        "<=",
        0.1,
    ),
)


@dataclass(frozen=True, kw_only=True, eq=False)
class SparseRun:
    """One run and what its claims are read from."""

    experiment: str
    dataset: str
    model: str
    lr: float
    batch_size: int
    seed: int
    steps: int
    optimizer: Mapping[str, Any]  # the config's block, as the two below
    schedule: Mapping[str, Any]
    label_noise: Mapping[str, Any]
    lr_unit: str = "absolute"
    trace: pa.Table  # of the kinds of these names, as the two below
    evaluation: pa.Table
    feat: pa.Table

    @property
    def diverged(self) -> bool:
        """Whether the run ended at a useless loss; see sgdline.analysis.divergence."""
        return diverged_at(self.trace) is not None

    @property
    def large_phase(self) -> float | None:
        """Share of the run with large steps; None with a constant learning rate."""
        return float(self.schedule["large_phase"]) if self.schedule["name"] == "piecewise" else None


def judged_networks(runs: Sequence[SparseRun]) -> list[JudgedRun]:
    """Return the claims of each network and seed.

    Args:
        runs: Of any number of experiments, in any order.

    Returns:
        One entry per seed that a constant learning rate and at least two phases of large steps share, with the constant
        rate's experiment and with None for the learning rate, which they are compared over. Of several constant rates
        the lowest stands for the small one, of several rates of the large steps the highest.
    """
    groups: dict[str, list[SparseRun]] = defaultdict(list)
    for run in runs:
        same = (run.dataset, run.model, run.batch_size, run.seed, run.steps, run.lr_unit, run.optimizer)
        if not run.label_noise["probability"]:
            groups[json.dumps(same, sort_keys=True)].append(run)
    judged = []
    for group in groups.values():
        settings = _settings(group)
        if settings is not None:
            key = {name: getattr(settings[0], name) for name in ("experiment", "model", "batch_size", "seed")}
            judged.append(JudgedRun(**key, lr=None, claims=_claims(settings)))
    return sorted(judged, key=lambda entry: (entry.experiment, entry.model, entry.batch_size, entry.seed))


def _settings(group: Sequence[SparseRun]) -> list[SparseRun] | None:
    """Return the constant rate and then the phases by their length; None without two of them."""
    constant = [run for run in group if run.schedule["name"] == "constant"]
    phased = [run for run in group if run.large_phase is not None]
    if not constant or not phased:
        return None
    highest = max(run.lr for run in phased)
    by_length = {run.large_phase: run for run in phased if run.lr == highest}
    if len(by_length) < 2:
        return None
    ordered = sorted(by_length.items(), key=lambda entry: entry[0] or 0.0)
    return [min(constant, key=lambda run: run.lr), *(run for _, run in ordered)]


def _claims(settings: Sequence[SparseRun]) -> tuple[Claim, ...]:
    phased = settings[1:]
    errors = np.array([final_error(run) for run in settings])
    ends = np.array([final_sparsity(run) for run in settings])
    fallen, changes, drifts = (np.array([measure(run) for run in phased]) for measure in (_fallen, _change, _drift))
    values = {
        "S1-network": _extreme(errors[:-1] - errors[1:], "min"),
        "S1-ends-network": float(errors[0] - errors[-1]),
        "S2-network": _extreme(ends[:-1] - ends[1:], "min"),
        "S2-ends-network": float(ends[0] - ends[-1]),
        "S3-network": _extreme(fallen, "max"),
        "S3-loss-network": _extreme(drifts, "min"),
        "S4-network": _extreme(changes, "max"),
    }
    return tuple(
        judge(statement, values[claim], observations=len(settings) if claim[:2] in ("S1", "S2") else len(phased))
        for claim, statement in STATEMENTS.items()
    )


def _extreme(values: FloatArray, which: str) -> float:
    """Return the smallest or the largest value; NaN if one of them does not exist."""
    if not np.isfinite(values).all():
        return math.nan
    return float(values.min() if which == "min" else values.max())


def final_error(run: SparseRun) -> float:
    """Return the error of the last evaluation, 0 to 1; NaN of a run that diverged."""
    table = run.evaluation.sort_by("step")
    for column in ("test_accuracy", "validation_accuracy"):
        accuracy = as_floats(table, column)
        if np.isfinite(accuracy).any():
            return math.nan if run.diverged else 1.0 - float(accuracy[-1])
    return math.nan


def final_sparsity(run: SparseRun) -> float:
    """Return the last sparsity coefficient, mean over the layers; NaN of a run that diverged."""
    return math.nan if run.diverged else float(_coefficients(run)[1][-1])


def _coefficients(run: SparseRun) -> tuple[FloatArray, FloatArray]:
    """Return the measured updates and the mean sparsity coefficient over the layers. Shape (E,) each."""
    steps, values = as_floats(run.feat, "step"), as_floats(run.feat, "sparsity")
    measured = np.unique(steps)
    if not measured.size:
        return np.full(1, math.nan), np.full(1, math.nan)
    return measured, np.array([values[steps == step].mean() for step in measured])


def _decay(run: SparseRun) -> float:
    """Return the number of updates with large steps."""
    return float(run.large_phase or 0.0) * run.steps


def _fallen(run: SparseRun) -> float:
    steps, values = _coefficients(run)
    before = values[steps <= _decay(run)]
    return float(before[-1] / before[0]) if before.size > 1 and before[0] > 0 and not run.diverged else math.nan


def _change(run: SparseRun) -> float:
    steps, values = _coefficients(run)
    behind = values[steps >= _decay(run)]
    return abs(float(behind[-1] / behind[0]) - 1.0) if behind.size > 1 and behind[0] > 0 else math.nan


def _drift(run: SparseRun) -> float:
    table = run.evaluation.sort_by("step")
    steps, losses = as_floats(table, "step"), as_floats(table, "train_loss")
    return math.nan if run.diverged else stabilisation(steps, losses, decay=_decay(run), length=run.steps).drift
