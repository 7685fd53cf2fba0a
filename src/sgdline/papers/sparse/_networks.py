"""Runs of one network on one data set that differ in their steps alone, in the order of their phases."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from sgdline.analysis.columns import as_floats
from sgdline.analysis.stabilization import stabilisation
from sgdline.claims.judging.measured import MeasuredRun, RunSettings
from sgdline.papers.sparse._phases import FloatArray, Phases, Setting
from sgdline.train.schedules.constant import Constant
from sgdline.train.schedules.piecewise import Piecewise
from sgdline.train.settings import LabelNoiseOptions


@dataclass(frozen=True, eq=False)
class TrainedNetwork(Setting):
    """A run with its errors and its sparsity coefficients (S-M6), the mean over the layers.

    ASSUME: the mean over layers is taken for the network; every layer has the same weight, whatever its size.
    """

    run: MeasuredRun

    @property
    def constant(self) -> bool:
        return isinstance(self.run.settings.schedule, Constant)

    @property
    def diverged(self) -> bool:
        return self.run.diverged

    def end(self, measure: str) -> float:
        """Return the `error` of the last evaluation, 0 to 1, or the last `sparsity`; NaN of a run that diverged.

        The error is that on the validation images where there are no test images.
        """
        if self.diverged:
            return math.nan
        if measure == "sparsity":
            return float(self._coefficients()[1][-1])
        table = self.run.tables["evaluation"].sort_by("step")
        for column in ("test_accuracy", "validation_accuracy"):
            accuracy = as_floats(table, column)
            if np.isfinite(accuracy).any():
                return 1.0 - float(accuracy[-1])
        return math.nan

    def fallen(self, measure: str) -> float:
        steps, values = self._coefficients()
        before = values[steps <= self._decay]
        return float(before[-1] / before[0]) if before.size > 1 and before[0] > 0 and not self.diverged else math.nan

    def change(self, measure: str) -> float:
        steps, values = self._coefficients()
        after = values[steps >= self._decay]
        return abs(float(after[-1] / after[0]) - 1.0) if after.size > 1 and after[0] > 0 else math.nan

    def drift(self) -> float:
        if self.diverged:
            return math.nan
        table = self.run.tables["evaluation"].sort_by("step")
        steps, losses = as_floats(table, "step"), as_floats(table, "train_loss")
        return stabilisation(steps, losses, decay=self._decay, length=self.run.settings.steps).drift

    @property
    def _decay(self) -> float:
        """Number of updates with large steps."""
        return float(large_phase(self.run) or 0.0) * self.run.settings.steps

    def _coefficients(self) -> tuple[FloatArray, FloatArray]:
        """Return the measured updates and the mean sparsity coefficient over the layers. Shape (E,) each."""
        table = self.run.tables["feat"]
        steps, values = as_floats(table, "step"), as_floats(table, "sparsity")
        measured = np.unique(steps)
        if not measured.size:
            return np.full(1, math.nan), np.full(1, math.nan)
        return measured, np.array([values[steps == step].mean() for step in measured])


def large_phase(run: MeasuredRun) -> float | None:
    """Return the share of the run with large steps; None without such a phase."""
    schedule = run.settings.schedule
    return schedule.large_phase if isinstance(schedule, Piecewise) else None


def same_network(runs: Sequence[MeasuredRun]) -> list[list[MeasuredRun]]:
    """Return the runs of each seed that a constant learning rate and at least two phases of large steps share.

    The constant rate comes first, then the phases by their length. Of several constant rates the lowest is taken, of
    several rates of the large steps the highest. Runs with label noise are left out.
    """
    groups: dict[str, list[MeasuredRun]] = defaultdict(list)
    for run in runs:
        if not run.settings.label_noise.probability:
            groups[repr(_setting(run.settings))].append(run)
    found = []
    for group in groups.values():
        constant = [run for run in group if isinstance(run.settings.schedule, Constant)]
        phased = [run for run in group if large_phase(run) is not None]
        highest = max((run.settings.lr for run in phased), default=0.0)
        by_length = {large_phase(run) or 0.0: run for run in phased if run.settings.lr == highest}
        if constant and len(by_length) > 1:
            smallest = min(constant, key=lambda run: run.settings.lr)
            found.append([smallest, *(by_length[length] for length in sorted(by_length))])
    return found


def _setting(own: RunSettings) -> RunSettings:
    """Return what runs that are compared have in common: all but experiment, rate, schedule and start."""
    none = LabelNoiseOptions()
    return replace(own, experiment="", lr=0.0, schedule=Constant(), start_from=None, label_noise=none)


def network_phases(runs: Sequence[MeasuredRun]) -> Phases:
    """Return runs of one network as settings, the constant rate first."""
    settings = [TrainedNetwork(run) for run in runs]
    return Phases(settings=settings, long=settings[1:], noun="run")
