"""What the paper on large step sizes and sparse features says, as numbers with a verdict: diagonal linear networks.

Settings of one toy `diagonal_networks`: SGD with a small constant step, and with a large one that is decayed at a
fraction f of the run. Of the chains with one and the same index seed in all of these settings:

S1            The test loss at the end is the lower, the longer the large-step phase: the smallest ratio of the constant
              step's to the shortest phase's, the shortest's to the next, ..., is above 1.
S1-ends       The constant step's test loss is above that of the longest large-step phase: their ratio is above 1.
S2-rank       The rank (S-M4) at the end is ordered in the same way: the smallest such ratio is above 1.
S2-support    The support (S-M5) is.
S3-rank       The rank falls in the large-step phase: the largest ratio of the rank at the decay to its highest value
              before is at most 0.9.
S3-support    The support does.
S3-loss       The training loss does not: over the second half of each phase its level (S-M3) moves down by less than
              a factor of 2.
S4-rank       After the decay the rank stays: the largest relative change from 5 % of the run behind the decay to the
              end is at most 0.1.
S4-support    The support does.

Values at the end are those of the last evaluated iteration. A claim that needs a chain that diverged is undetermined.
Perturbed starts are left out: they repeat a seed.

ASSUME: thresholds are ours; the paper shows curves.

Source: papers.md 4.4, claims S1 to S4.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sgdline.analysis.claims.judging import Claim, Statement, judge
from sgdline.analysis.columns import as_floats
from sgdline.analysis.stabilization import DROP_WINDOW, stabilisation

PAPER = "sparse"

FloatArray = npt.NDArray[np.float64]


def _statements(*entries: tuple[str, str, str, str, float]) -> dict[str, Statement]:
    return {claim: Statement(PAPER, claim, *rest) for claim, *rest in entries}  # type: ignore[arg-type]


STATEMENTS = _statements(
    (
        "S1",
        "Smallest ratio of the final test loss to that with the next longer large-step phase",
        "the longer the large-step phase, the lower the test loss",
        ">",
        1.0,
    ),
    (
        "S1-ends",
        "Final test loss with a small constant step over that with the longest large-step phase",
        "a long large-step phase ends at a lower test loss than a small constant step",
        ">",
        1.0,
    ),
    (
        "S2-rank",
        "Smallest ratio of the final rank of the features to that with the next longer large-step phase",
        "the longer the large-step phase, the lower the rank of the features",
        ">",
        1.0,
    ),
    (
        "S2-support",
        "Smallest ratio of the final support to that with the next longer large-step phase",
        "the longer the large-step phase, the smaller the support",
        ">",
        1.0,
    ),
    (
        "S3-rank",
        "Largest ratio of the rank of the features at the decay to its highest value before",
        "the rank of the features falls while steps are large",
        "<=",
        0.9,
    ),
    (
        "S3-support",
        "Largest ratio of the support at the decay to its highest value before",
        "the support shrinks while steps are large",
        "<=",
        0.9,
    ),
    (
        "S3-loss",
        "Smallest drift of log10(training loss) over the second half of a large-step phase",
        "the training loss does not fall while steps are large",
        ">",
        -0.3,
    ),
    (
        "S4-rank",
        "Largest relative change of the rank of the features after the decay",
        "the rank of the features stays after the decay",
        "<=",
        0.1,
    ),
    (
        "S4-support",
        "Largest relative change of the support after the decay",
        "the support stays after the decay",
        "<=",
        0.1,
    ),
)


@dataclass(frozen=True, eq=False)
class _Chain:
    """One chain of one setting, NaN where it has diverged."""

    decay: int | None  # last iteration with the large step
    iterations: FloatArray  # (E,), ascending
    train_loss: FloatArray
    test_loss: FloatArray
    rank: FloatArray
    support: FloatArray


def diagonal_claims(table: pa.Table, *, updates: int) -> dict[int, tuple[Claim, ...]]:
    """Return the claims of every index seed.

    Args:
        table: `diagonal_networks` of one toy.
        updates: T of that toy.

    Returns:
        Index seed -> claims; nothing unless the toy has SGD with a constant step and with two decays at least.
    """
    found = {}
    for seed, chains in _by_seed(table, updates=updates).items():
        constant = [chain for chain in chains if chain.decay is None]
        decayed = sorted((chain for chain in chains if chain.decay is not None), key=lambda chain: chain.decay or 0)
        if len(constant) == 1 and len({chain.decay for chain in decayed}) == len(decayed) >= 2:
            found[seed] = _claims([*constant, *decayed], updates=updates)
    return found


def _by_seed(table: pa.Table, *, updates: int) -> dict[int, list[_Chain]]:
    """Return the chains of SGD with an unchanged start, by index seed and in the order of the settings."""
    names = ("method", "perturbed", "setting", "index_seed", "decay_at")
    columns = [table.column(name).to_pylist() for name in names]
    rows: dict[tuple[int, int, float | None], list[int]] = {}
    for row, (method, perturbed, setting, seed, decay_at) in enumerate(zip(*columns, strict=True)):
        if method == "sgd" and not perturbed:
            rows.setdefault((setting, seed, decay_at), []).append(row)
    measures = ("iteration", "train_loss", "test_loss", "rank", "support")
    values = {name: as_floats(table, name) for name in measures}
    found: dict[int, list[_Chain]] = {}
    for (_, seed, decay_at), own in rows.items():
        ascending = sorted(own, key=lambda row: values["iteration"][row])
        iterations, *rest = (values[name][ascending] for name in measures)
        decay = None if decay_at is None else math.floor(decay_at * updates + 1e-9)
        found.setdefault(seed, []).append(_Chain(decay, iterations, *rest))
    return found


def _claims(chains: Sequence[_Chain], *, updates: int) -> tuple[Claim, ...]:
    """Return the claims of chains in the order of their large-step phases, the constant small step first."""
    decayed = chains[1:]
    values: dict[str, float] = {}
    for claim, column in (("S1", "test_loss"), ("S2-rank", "rank"), ("S2-support", "support")):
        ends = np.array([getattr(chain, column)[-1] for chain in chains])
        values[claim] = _worst(ends[:-1] / ends[1:], np.min)
    values["S1-ends"] = float(chains[0].test_loss[-1] / chains[-1].test_loss[-1])
    for column in ("rank", "support"):
        fallen = [_at(chain, column, chain.decay or 0) / _highest(chain, column) for chain in decayed]
        values[f"S3-{column}"] = _worst(np.array(fallen), np.max)
        changes = [
            abs(getattr(chain, column)[-1] / _at(chain, column, (chain.decay or 0) + DROP_WINDOW * updates) - 1.0)
            for chain in decayed
        ]
        values[f"S4-{column}"] = _worst(np.array(changes), np.max)
    drifts = [
        stabilisation(chain.iterations, chain.train_loss, decay=chain.decay or 0, length=updates).drift
        for chain in decayed
    ]
    values["S3-loss"] = _worst(np.array(drifts), np.min)
    return tuple(
        judge(statement, values[claim], observations=len(chains) if claim[:2] in ("S1", "S2") else len(decayed))
        for claim, statement in STATEMENTS.items()
    )


def _worst(values: FloatArray, chosen: Callable[[FloatArray], np.float64]) -> float:
    """Return the extreme value; NaN if one of them does not exist."""
    return float(chosen(values)) if np.isfinite(values).all() else math.nan


def _highest(chain: _Chain, column: str) -> float:
    """Return the highest value of a measure in the large-step phase; at the start v = 0, and the support is empty."""
    return float(getattr(chain, column)[chain.iterations <= (chain.decay or 0)].max())


def _at(chain: _Chain, column: str, iteration: float) -> float:
    """Return a measure at the last evaluation up to an iteration."""
    places = np.flatnonzero(chain.iterations <= iteration)
    return float(getattr(chain, column)[places[-1]]) if places.size else math.nan
