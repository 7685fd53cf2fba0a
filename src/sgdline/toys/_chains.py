"""SGD on the quadratic model, many independent chains at once; shared by the toys of its variances.

Source: papers.md 3.2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from sgdline.quadratic_model import Average
from sgdline.runtime import inner_progress

FloatArray = npt.NDArray[np.float64]

# What is left of the start, relative to the stationary variance, when the first average is taken.
_FORGOTTEN = 1e-6


@dataclass(frozen=True)
class Simulated:
    """Mean squares of averages over chains and snapshots, in units of sigma^2."""

    variances: FloatArray  # (averages, D)
    standard_errors: FloatArray  # (averages, D), from the spread over the chains


class AveragesAsked(Protocol):
    """Options of a toy that takes averages."""

    @property
    def ema_decay(self) -> Sequence[float]:
        """Decays of the exponential moving averages."""

    @property
    def two_point_distance(self) -> Sequence[int]:
        """Updates between the two points of averages of two."""

    @property
    def swa_count(self) -> int:
        """Number of iterates in a mean."""

    @property
    def swa_spacing(self) -> Sequence[int]:
        """Updates between two iterates of such a mean."""


def averages_of(options: AveragesAsked) -> list[Average]:
    """Return the iterate and the averages that a toy's options ask for."""
    return [
        Average("iterate"),
        *(Average("ema", decay=float(decay)) for decay in options.ema_decay),
        *(Average("two_point", count=2, spacing=distance) for distance in options.two_point_distance),
        *(Average("swa", count=options.swa_count, spacing=spacing) for spacing in options.swa_spacing),
    ]


def names(averages: Sequence[Average], relative_lr: Sequence[float]) -> dict[str, list[Any]]:
    """Return the columns that say which row is what: all averages of one learning rate after those of the other."""
    every = len(relative_lr)
    return {
        "relative_lr": [rate for rate in relative_lr for _ in averages],
        "average": [average.name for average in averages] * every,
        "decay": [average.decay for average in averages] * every,
        "count": [average.count for average in averages] * every,
        "spacing": [average.spacing for average in averages] * every,
    }


def simulate_averages(
    relative_lr: Sequence[float],
    averages: Sequence[Average],
    *,
    chains: int,
    snapshots: int,
    seed: int,
    momentum: float = 0.0,
    batches_per_epoch: int | None = None,
) -> Simulated:
    """Run SGD from c* until the start is forgotten, then take every average several times.

    m_t = beta m_{t-1} + (x_t - c_t), x_{t+1} = x_t - a m_t, one direction per relative_lr, each with sigma = 1.
    Snapshots share no iterate.

    Args:
        relative_lr: a of each direction, above 0 and below 2 (1 + momentum).
        averages: What is taken.
        chains: Independent runs.
        snapshots: How often each average is taken of every chain.
        seed: Of all draws.
        momentum: beta.
        batches_per_epoch: None: minimisers c_t are drawn anew at every update, normal ones. A number n, at least 2: n
            fixed minimisers, each taken once an epoch in an order that every chain draws anew. Chains stand at all
            places of an epoch in equal numbers, so that variances are means over the epoch.

    Returns:
        Simulated.
    """
    a = np.array(relative_lr, dtype=np.float64)
    generator = np.random.default_rng(seed)
    draw: _Drawn | _Epochs = _Drawn(generator, chains, len(a))
    if batches_per_epoch is not None:
        draw = _Epochs(generator, chains, len(a), batches_per_epoch)
    positions, velocity, scratch = (np.zeros((chains, len(a))) for _ in range(3))
    emas = {decay: np.zeros((chains, len(a))) for decay in [x.decay for x in averages] if decay is not None}
    sums = np.zeros((len(averages), chains, len(a)))
    squares = np.zeros((len(averages), chains, len(a)))
    period = 1 + max(average.reach for average in averages)
    start = _burn_in(a, momentum, max(emas, default=0.0))
    last = start + snapshots * period
    for update in inner_progress(range(1, last + 1), total=last, label="updates"):
        velocity *= momentum
        velocity += positions
        velocity -= draw(update)
        np.multiply(velocity, a, out=scratch)
        positions -= scratch
        for decay, ema in emas.items():
            ema *= decay
            np.multiply(positions, 1.0 - decay, out=scratch)
            ema += scratch
        if update <= start:
            continue
        left = -(update - start) % period  # updates to the snapshot
        for place, average in enumerate(averages):
            if average.count is not None and average.spacing is not None:
                if left % average.spacing == 0 and left <= average.reach:
                    sums[place] += positions
                if left == 0:
                    squares[place] += (sums[place] / average.count) ** 2
                    sums[place] = 0.0
            elif left == 0:
                squares[place] += (positions if average.decay is None else emas[average.decay]) ** 2
    squares /= snapshots
    return Simulated(squares.mean(axis=1), squares.std(axis=1, ddof=1) / math.sqrt(chains))


class _Drawn:
    """Minimisers that are new at every update."""

    def __init__(self, generator: np.random.Generator, chains: int, directions: int) -> None:
        self._generator = generator
        self._minimisers = np.empty((chains, directions))

    def __call__(self, update: int) -> FloatArray:
        return self._generator.standard_normal(out=self._minimisers)


class _Epochs:
    """Minimisers of a fixed set, each once an epoch."""

    def __init__(self, generator: np.random.Generator, chains: int, directions: int, count: int) -> None:
        self._generator = generator
        minimisers = generator.standard_normal((count, directions))
        minimisers -= minimisers.mean(axis=0)
        self._minimisers = minimisers / np.sqrt((minimisers**2).mean(axis=0))
        self._orders = generator.permuted(np.tile(np.arange(count), (chains, 1)), axis=1)
        self._chains, self._count = np.arange(chains), count

    def __call__(self, update: int) -> FloatArray:
        # Chain j is at place (update + j) mod n of its epoch.
        beginning = slice(-update % self._count, None, self._count)
        self._orders[beginning] = self._generator.permuted(self._orders[beginning], axis=1)
        found: FloatArray = self._minimisers[self._orders[self._chains, (update + self._chains) % self._count]]
        return found


def _burn_in(relative_lr: FloatArray, momentum: float, decay: float) -> int:
    """Return the updates after which the start is forgotten."""
    kept = 1.0 + momentum - relative_lr
    # Roots of z^2 - kept z + momentum: e_t is a sum of their powers.
    roots = np.abs(kept[:, None] + np.sqrt((kept**2 - 4.0 * momentum).astype(np.complex128))[:, None] * [1.0, -1.0]) / 2
    slowest = max(float(roots.max()), decay)
    return math.ceil(math.log(_FORGOTTEN) / (2.0 * math.log(slowest))) if slowest > 0.0 else 1
