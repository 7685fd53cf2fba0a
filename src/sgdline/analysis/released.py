"""The released code's rules for one line: its positions, its nearest-point reads, its finite differences.

They differ from the clean rules on purpose and serve `analysis.compat` only, where numbers are held against published
ones. Every function names the row of papers.md 7.1 that it follows.
"""

from __future__ import annotations

import functools
import math
from typing import cast

import numpy as np
from numpy.typing import ArrayLike

from sgdline.analysis.curves import FloatArray, IntArray

# Rounding must neither add a point at the end of a half nor lose one; relative to the spacing.
_SLACK = 1e-9
_STENCIL = 5


def released_positions(
    step_length: float, *, interval: float, resolution: float, low: float, high: float
) -> FloatArray:
    """Return where the released sampler measures one line.

    The left half holds -I, -I + r, ... below 0, the right half 0, r, ... below I: the gap left of 0 is shorter than r
    where I is no multiple of it, and I itself is missing. Later rings repeat this on [-(j + 1)I, -jI) and
    [jI, (j + 1)I). The step s_sgd is one of the positions, twice if it meets another one.

    Args:
        step_length: s_sgd, Euclidean length; left out if it is not finite. It stays where it lies outside the measured
            range, as the sampler measures it there: only the losses of the step itself tell the value then.
        interval: Half-width I of the first ring, Euclidean length, positive.
        resolution: Spacing r, Euclidean length, positive.
        low: First measured position of the line, Euclidean length; positions of the rings below it are left out.
        high: Last measured position of the line, likewise.

    Returns:
        Positions, ascending, 0 among them if low <= 0 <= high. Shape (P,); 169 for I = 0.5 and r = 0.006.

    Source: linesearch 2.2, the released grid; papers.md L9.
    """
    grid = _rings(interval, resolution, low, high)
    if not math.isfinite(step_length):
        return grid.copy()
    return np.insert(grid, int(np.searchsorted(grid, step_length)), step_length)


def nearest(positions: FloatArray, s: ArrayLike) -> IntArray:
    """Return the index of the position nearest to s, the first one on ties.

    Beyond the ends that is the last position: the released code clamps without a word (papers.md L20).

    Args:
        positions: Euclidean lengths. Shape (P,), at least one.
        s: Euclidean lengths, finite. Any shape.

    Returns:
        Indices. The shape of `s`.
    """
    wanted = np.asarray(s, dtype=np.float64)
    return np.asarray(np.argmin(np.abs(positions - wanted[..., None]), axis=-1), dtype=np.int64)


def finite_difference(values: ArrayLike, positions: FloatArray) -> FloatArray:
    """Return the second-order finite difference for unequal spacing, one-sided at both ends.

    Args:
        values: Losses in nats, along the last axis. Shape (..., P).
        positions: Euclidean lengths, ascending. Shape (P,), at least 2.

    Returns:
        Derivatives, nats per length. Shape (..., P); NaN where two positions are the same (papers.md L9).

    Source: linesearch M3.
    """
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        difference = cast(FloatArray, np.gradient(np.asarray(values, dtype=np.float64), positions, axis=-1))
    return np.where(np.isfinite(difference), difference, np.nan)


def derivative_at_zero(values: ArrayLike, positions: FloatArray, *, order: int = 1) -> FloatArray:
    """Return the finite difference at s = 0, taken on the five positions nearest to it, `order` times.

    Args:
        values: Losses in nats, along the last axis. Shape (..., P).
        positions: Euclidean lengths, ascending, 0 among them. Shape (P,).
        order: 1: slope, nats per length; 2: curvature, nats per length squared.

    Returns:
        Shape (...,); NaN where a position of the stencil is doubled, where a loss that counts is not finite, and where
        0 has no position on either side.

    Source: linesearch M3, released.
    """
    found = np.asarray(values, dtype=np.float64)
    zero = int(nearest(positions, 0.0))
    # Two on either side: as r is at least the gap left of 0, no other five are nearer, s_sgd among them or not.
    first, stop = max(zero - _STENCIL // 2, 0), min(zero + _STENCIL // 2 + 1, positions.size)
    if not first < zero < stop - 1 or positions[zero] != 0.0:
        return np.full(found.shape[:-1], np.nan)
    found = found[..., first:stop]
    for _ in range(order):
        found = finite_difference(found, positions[first:stop])
    return found[..., zero - first]


@functools.lru_cache(maxsize=64)
def _rings(interval: float, resolution: float, low: float, high: float) -> FloatArray:
    """Return the rings' positions between low and high, ascending; lines of a run share a few ranges."""
    for name, length in (("interval", interval), ("resolution", resolution)):
        if not (length > 0 and math.isfinite(length)):
            raise ValueError(f"{name} must be a positive length, got {length}")
    if not (math.isfinite(low) and math.isfinite(high)):
        return np.empty(0)
    reach = max(math.ceil(max(abs(low), abs(high)) / interval - _SLACK), 1)
    offsets = np.arange(math.ceil(interval / resolution - _SLACK), dtype=np.float64) * resolution
    starts = np.arange(-reach, reach, dtype=np.float64) * interval  # of the left halves, then of the right ones
    positions = (starts[:, None] + offsets).reshape(-1)
    slack = _SLACK * max(abs(low), abs(high))
    grid = positions[(positions >= low - slack) & (positions <= high + slack)]
    grid.flags.writeable = False
    return grid
