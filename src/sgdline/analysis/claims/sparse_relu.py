"""What the paper on large step sizes and sparse features says, as numbers with a verdict: the toys of ReLU networks.

Settings of one toy are told by the length of their large-step phase, f T; a constant learning rate has none and comes
first. Of all chains of one seed, the published one or another:

S1, S1-ends, S2-rank, S3-rank, S3-loss and S4-rank as in `sgdline.analysis.claims.sparse`, S1 and S1-ends only where
there is a test loss. Beside them, of the feature sparsity coefficient (S-M6), its mean over the hidden layers:

S2-sparsity   At the end it is the lower, the longer the large-step phase: the smallest ratio of one setting's to that
              of the next longer phase is above 1.
S3-sparsity   It falls in the large-step phase: the largest ratio of its value at the decay to its highest one before
              is at most 0.9.
S4-sparsity   After the decay it stays: the largest relative change from 5 % of the run behind the decay to the end is
              at most 0.1.

S3 and S4 are about settings whose large-step phase is at least a twentieth of the run. A claim that needs a chain that
diverged is undetermined. Perturbed starts are left out: they repeat a seed.

ASSUME: thresholds are ours; the paper shows curves.

Source: papers.md 4.4, claims S1 to S4.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sgdline.analysis.claims import sparse
from sgdline.analysis.claims.judging import Claim, Statement, judge
from sgdline.analysis.columns import as_floats
from sgdline.analysis.stabilization import DROP_WINDOW, stabilisation

FloatArray = npt.NDArray[np.float64]

_SHORTEST_PHASE = 0.05  # of the run, for S3 and S4

STATEMENTS = {
    name: sparse.STATEMENTS[name] for name in ("S1", "S1-ends", "S2-rank", "S3-rank", "S3-loss", "S4-rank")
} | {
    "S2-sparsity": Statement(
        sparse.PAPER,
        "S2-sparsity",
        "Smallest ratio of the final feature sparsity coefficient to that with the next longer large-step phase",
        "the longer the large-step phase, the sparser the features",
        ">",
        1.0,
    ),
    "S3-sparsity": Statement(
        sparse.PAPER,
        "S3-sparsity",
        "Largest ratio of the feature sparsity coefficient at the decay to its highest value before",
        "features become sparser while steps are large",
        "<=",
        0.9,
    ),
    "S4-sparsity": Statement(
        sparse.PAPER,
        "S4-sparsity",
        "Largest relative change of the feature sparsity coefficient after the decay",
        "the sparsity of the features stays after the decay",
        "<=",
        0.1,
    ),
}


@dataclass(frozen=True, eq=False)
class _Chain:
    """One chain of one setting; a measure that diverged is NaN at its end."""

    decay: int | None  # first iteration with the small step
    iterations: FloatArray  # (E,), ascending
    measures: Mapping[str, FloatArray]  # (E,), NaN where there is none

    def measured(self, name: str) -> tuple[FloatArray, FloatArray]:
        """Return iterations and values of a measure where it was taken."""
        values = self.measures[name]
        known = np.isfinite(values)
        return self.iterations[known], values[known]

    def at(self, name: str, iteration: float) -> float:
        """Return a measure at the last evaluation up to an iteration."""
        places, values = self.measured(name)
        before = np.flatnonzero(places <= iteration)
        return float(values[before[-1]]) if before.size else math.nan

    def highest(self, name: str) -> float:
        """Return the highest value of a measure in the large-step phase."""
        places, values = self.measured(name)
        return float(values[places <= (self.decay or 0)].max(initial=-math.inf))


def relu_claims(table: pa.Table, *, runs: Sequence[Mapping[str, Any]], iterations: int) -> dict[int, tuple[Claim, ...]]:
    """Return the claims of every seed.

    Args:
        table: `relu_regression` or `teacher_student` of one toy.
        runs: Its settings, published values in place of nulls.
        iterations: T of the toy.

    Returns:
        Seed -> claims; nothing unless there are two settings whose phases differ.
    """
    phases = [None if run["decay_at"] is None else math.floor(run["decay_at"] * iterations + 1e-9) for run in runs]
    constant = [place for place, phase in enumerate(phases) if phase is None]
    order = sorted(range(len(runs)), key=lambda place: -1 if phases[place] is None else phases[place] or 0)
    if len(constant) > 1 or len(set(phases)) < max(len(phases), 2):
        return {}
    return {
        seed: _claims([chains[place] for place in order], length=iterations)
        for seed, chains in _by_seed(table, phases).items()
    }


def _by_seed(table: pa.Table, phases: Sequence[int | None]) -> dict[int, dict[int, _Chain]]:
    """Return the chains with an unchanged start, by seed and place of the setting."""
    columns = [table.column(name).to_pylist() for name in ("chain", "seed", "run")]
    rows: dict[tuple[int, int], list[int]] = {}
    for row, (chain, seed, run) in enumerate(zip(*columns, strict=True)):
        if chain != "perturbed":
            rows.setdefault((seed, run), []).append(row)
    taken = [name for name in ("train_loss", "test_loss", "rank") if name in table.column_names]
    values = {name: as_floats(table, name) for name in taken}
    values["sparsity"] = np.array(
        [math.nan if None in layers else float(np.mean(layers)) for layers in table.column("sparsity").to_pylist()]
    )
    iterations, lost = as_floats(table, "iteration"), as_floats(table, "diverged_at")
    found: dict[int, dict[int, _Chain]] = {}
    for (seed, run), own in rows.items():
        places = np.array(sorted(own, key=lambda row: iterations[row]))
        gone = np.isfinite(lost[places])
        measures = {name: np.where(gone, math.nan, column[places]) for name, column in values.items()}
        found.setdefault(seed, {})[run] = _Chain(phases[run], iterations[places], measures)
    return found


def _claims(chains: Sequence[_Chain], *, length: int) -> tuple[Claim, ...]:
    """Return the claims of chains in the order of their large-step phases."""
    long = [chain for chain in chains if chain.decay is not None and chain.decay >= _SHORTEST_PHASE * length]
    numbers: dict[str, tuple[float, int]] = {}
    with_test = "test_loss" in chains[0].measures
    ordered = {"S1": "test_loss"} if with_test else {}
    for claim, name in (ordered | {"S2-rank": "rank", "S2-sparsity": "sparsity"}).items():
        ends = np.array([chain.at(name, length) for chain in chains])
        numbers[claim] = _worst(_ratios(ends[:-1], ends[1:]), np.min), len(chains)
    if with_test and chains[0].decay is None:
        ends = np.array([chain.at("test_loss", length) for chain in (chains[0], chains[-1])])
        numbers["S1-ends"] = float(_ratios(ends[:1], ends[1:])[0]), len(chains)
    for name in ("rank", "sparsity"):
        fallen = [_ratios(chain.at(name, chain.decay or 0), chain.highest(name)) for chain in long]
        numbers[f"S3-{name}"] = _worst(np.array(fallen), np.max), len(long)
        behind = [chain.at(name, (chain.decay or 0) + DROP_WINDOW * length) for chain in long]
        changes = [abs(_ratios(chain.at(name, length), value) - 1.0) for chain, value in zip(long, behind, strict=True)]
        numbers[f"S4-{name}"] = _worst(np.array(changes), np.max), len(long)
    drifts = [
        stabilisation(chain.iterations, chain.measures["train_loss"], decay=chain.decay or 0, length=length).drift
        for chain in long
    ]
    numbers["S3-loss"] = _worst(np.array(drifts), np.min), len(long)
    return tuple(
        judge(statement, numbers[claim][0], observations=numbers[claim][1])
        for claim, statement in STATEMENTS.items()
        if claim in numbers
    )


def _ratios(numerators: Any, denominators: Any) -> Any:
    """Return quotients; infinite where only the denominator is 0, NaN where both are or a number does not exist."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(numerators, dtype=np.float64) / np.asarray(denominators, dtype=np.float64)


def _worst(values: FloatArray, chosen: Callable[[FloatArray], np.float64]) -> float:
    """Return the extreme value; NaN if there is none, or one of them does not exist."""
    return float(chosen(values)) if values.size and not np.isnan(values).any() else math.nan
