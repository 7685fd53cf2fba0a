"""Chains of the toys: diagonal linear networks and ReLU networks, by seed and in the order of their phases."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from sgdline.analysis.columns import as_floats
from sgdline.analysis.stabilization import DROP_WINDOW, stabilisation
from sgdline.claims.judging.measured import MeasuredToy
from sgdline.papers.sparse._phases import FloatArray, Phases, Setting, ratio
from sgdline.toys._relu_nets import iterations_of
from sgdline.toys.base import StepSizes
from sgdline.toys.diagonal_networks.options import DiagonalNetworksOptions
from sgdline.toys.relu_regression.options import ReluRegressionOptions
from sgdline.toys.teacher_student.options import TeacherStudentOptions
from sgdline.toys.teacher_student.simulate import resolved

_SHORTEST_PHASE = 0.05  # of the run, for claims about the phase itself, of ReLU networks


@dataclass(frozen=True, kw_only=True, eq=False)
class _Chain(Setting):
    """One chain of one setting; a measure is NaN where it was not taken, and from where the chain has diverged."""

    decay: int | None  # iterations with the large step
    length: int  # iterations of the toy
    iterations: FloatArray  # (E,), ascending
    measures: Mapping[str, FloatArray]  # (E,)
    sparse: bool  # a measure is not taken at every evaluation: the last value there is counts
    lost: bool

    @property
    def constant(self) -> bool:
        return self.decay is None

    @property
    def diverged(self) -> bool:
        return self.lost

    def has(self, measure: str) -> bool:
        return measure in self.measures

    def end(self, measure: str) -> float:
        return self._at(measure, self.length)

    def fallen(self, measure: str) -> float:
        iterations, values = self._taken(measure)
        large = values[iterations <= (self.decay or 0)]
        return float(ratio(self._at(measure, self.decay or 0), large.max() if large.size else math.nan))

    def change(self, measure: str) -> float:
        after = self._at(measure, (self.decay or 0) + DROP_WINDOW * self.length)
        return float(abs(ratio(self.end(measure), after) - 1.0))

    def drift(self) -> float:
        losses = self.measures["train_loss"]
        return stabilisation(self.iterations, losses, decay=self.decay or 0, length=self.length).drift

    def _taken(self, measure: str) -> tuple[FloatArray, FloatArray]:
        """Return iterations and values of a measure where it was taken."""
        values = self.measures[measure]
        known = np.isfinite(values) if self.sparse else np.ones(values.shape, dtype=np.bool_)
        return self.iterations[known], values[known]

    def _at(self, measure: str, iteration: float) -> float:
        """Return a measure at the last evaluation up to an iteration."""
        iterations, values = self._taken(measure)
        before = np.flatnonzero(iterations <= iteration)
        return float(values[before[-1]]) if before.size else math.nan


def diagonal_phases(toy: MeasuredToy) -> dict[int, Phases]:
    """Return the chains of SGD of every index seed; perturbed starts are left out: they repeat a seed.

    Nothing unless the toy has SGD with a constant step and with two decays at least.
    """
    length = cast(DiagonalNetworksOptions, toy.options).updates
    names = ("method", "perturbed", "setting", "index_seed", "decay_at")
    columns = [toy.table.column(name).to_pylist() for name in names]
    rows: dict[tuple[int, int, float | None], list[int]] = {}
    for row, (method, perturbed, setting, seed, decay_at) in enumerate(zip(*columns, strict=True)):
        if method == "sgd" and not perturbed:
            rows.setdefault((setting, seed, decay_at), []).append(row)
    values = {name: as_floats(toy.table, name) for name in ("train_loss", "test_loss", "rank", "support")}
    iterations = as_floats(toy.table, "iteration")
    lost = np.array([status == "diverged" for status in toy.table.column("status").to_pylist()], dtype=np.bool_)
    chains: dict[int, list[_Chain]] = {}
    for (_, seed, decay_at), own in rows.items():
        ascending = np.array(sorted(own, key=lambda row: iterations[row]))
        chain = _Chain(
            decay=_phase(decay_at, length),
            length=length,
            iterations=iterations[ascending],
            measures={name: column[ascending] for name, column in values.items()},
            sparse=False,
            lost=bool(lost[ascending].any()),
        )
        chains.setdefault(seed, []).append(chain)
    found = {}
    for seed, settings in chains.items():
        constant = [chain for chain in settings if chain.decay is None]
        decayed = sorted((chain for chain in settings if chain.decay is not None), key=lambda chain: chain.decay or 0)
        if len(constant) == 1 and len({chain.decay for chain in decayed}) == len(decayed) >= 2:
            found[seed] = Phases(settings=[*constant, *decayed], long=decayed, noun="chain")
    return found


def _phase(decay_at: float | None, length: int) -> int | None:
    return None if decay_at is None else math.floor(decay_at * length + 1e-9)


def relu_runs(toy: MeasuredToy) -> tuple[Sequence[StepSizes], int]:
    """Return the settings of a toy of ReLU networks, published values in place of nulls, and its iterations."""
    options = cast(ReluRegressionOptions | TeacherStudentOptions, toy.options)
    known = resolved(options) if isinstance(options, TeacherStudentOptions) else options
    return known.runs, iterations_of(known.log10_iterations)


def relu_phases(toy: MeasuredToy) -> dict[int, Phases]:
    """Return the chains of every seed, the published one or another; perturbed starts are left out: they repeat a seed.

    Nothing unless there are two settings whose phases differ.
    """
    runs, length = relu_runs(toy)
    phases = [_phase(run.decay_at, length) for run in runs]
    if phases.count(None) > 1 or len(set(phases)) < max(len(phases), 2):
        return {}
    order = sorted(range(len(runs)), key=lambda place: -1 if phases[place] is None else phases[place] or 0)
    columns = [toy.table.column(name).to_pylist() for name in ("chain", "seed", "run")]
    rows: dict[tuple[int, int], list[int]] = {}
    for row, (chain, seed, run) in enumerate(zip(*columns, strict=True)):
        if chain != "perturbed":
            rows.setdefault((seed, run), []).append(row)
    taken = [name for name in ("train_loss", "test_loss", "rank") if name in toy.table.column_names]
    values = {name: as_floats(toy.table, name) for name in taken}
    # The mean over the hidden layers.
    layers = toy.table.column("sparsity").to_pylist()
    values["sparsity"] = np.array([math.nan if None in own else float(np.mean(own)) for own in layers])
    iterations, lost = as_floats(toy.table, "iteration"), np.isfinite(as_floats(toy.table, "diverged_at"))
    chains: dict[int, dict[int, _Chain]] = {}
    for (seed, run), own in rows.items():
        ascending = np.array(sorted(own, key=lambda row: iterations[row]))
        chains.setdefault(seed, {})[run] = _Chain(
            decay=phases[run],
            length=length,
            iterations=iterations[ascending],
            measures={name: np.where(lost[ascending], math.nan, column[ascending]) for name, column in values.items()},
            sparse=True,
            lost=bool(lost[ascending].any()),
        )
    found = {}
    for seed, by_run in chains.items():
        settings = [by_run[run] for run in order]
        long = [chain for chain in settings if chain.decay is not None and chain.decay >= _SHORTEST_PHASE * length]
        found[seed] = Phases(settings=settings, long=long, noun="chain", infinite=True)
    return found
