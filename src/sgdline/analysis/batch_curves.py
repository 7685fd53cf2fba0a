"""What the curve of one batch's loss looks like: its minimum, how quadratic and how convex it is (C-M1 to C-M3)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

# Of the range of a curve; a second difference below minus this is no rounding.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class GridMinimum:
    """The smallest value of a curve on its grid."""

    index: int
    place: float
    value: float
    at_edge: bool  # at 0, or the first or last place behind it: the minimum may lie elsewhere


@dataclass(frozen=True)
class Parabola:
    """A polynomial of degree 2 fitted to a curve."""

    coefficients: FloatArray  # (3,) of u^0, u^1, u^2, u = place / last place
    r_squared: float  # NaN for a curve without range
    largest_residual: float  # absolute, in units of the curve


def grid_minimum(places: npt.ArrayLike, values: npt.ArrayLike) -> GridMinimum | None:
    """Return the first of the smallest finite values; None if none is finite.

    Args:
        places: 0, then the grid, ascending. Shape (E,), at least 3.
        values: Shape (E,).

    Source: papers.md 3.3, C-M1.
    """
    grid, curve = np.asarray(places, dtype=np.float64), np.asarray(values, dtype=np.float64)
    known = np.where(np.isfinite(curve), curve, np.inf)
    index = int(known.argmin())
    if not np.isfinite(known[index]):
        return None
    return GridMinimum(index, float(grid[index]), float(curve[index]), index in (0, 1, len(grid) - 1))


def fit_parabola(places: npt.ArrayLike, values: npt.ArrayLike) -> Parabola | None:
    """Fit a polynomial of degree 2 by least squares; None if a value is not finite.

    Args:
        places: From 0, ascending. Shape (Q,), at least 3.
        values: Shape (Q,).

    Source: papers.md 3.3, C-M2.
    """
    grid, curve = np.asarray(places, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if not np.isfinite(curve).all():
        return None
    powers = np.vander(grid / grid[-1], 3, increasing=True)
    coefficients: FloatArray = np.asarray(np.linalg.lstsq(powers, curve, rcond=None)[0], dtype=np.float64)
    residuals = curve - powers @ coefficients
    spread = float(((curve - curve.mean()) ** 2).sum())
    r_squared = 1.0 - float((residuals**2).sum()) / spread if spread > 0 else np.nan
    return Parabola(coefficients, r_squared, float(np.abs(residuals).max()))


def convexity_rate(places: npt.ArrayLike, values: npt.ArrayLike) -> float:
    """Return the share of the points between the ends at which a curve bends upwards, or by no more than rounding.

    On an even grid that is the share of second differences of at least -1e-6 times the range. On an uneven one the
    second difference is twice the chord's height above the point, which is the same on an even one.

    Args:
        places: Ascending. Shape (Q,), at least 3.
        values: Shape (Q,).

    Returns:
        From 0 to 1; NaN if a value is not finite.

    Source: papers.md 3.3, C-M2.
    """
    grid, curve = np.asarray(places, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if len(curve) < 3 or not np.isfinite(curve).all():
        return float("nan")
    before, after = np.diff(grid)[:-1], np.diff(grid)[1:]
    chord = (after * curve[:-2] + before * curve[2:]) / (before + after)
    return float((2 * (chord - curve[1:-1]) >= -_ROUNDING * np.ptp(curve)).mean())


def convexity_gap(alphas: npt.ArrayLike, losses: npt.ArrayLike) -> float:
    """Return how far a curve rises above the chord between its ends, as a share of its range.

    Args:
        alphas: From 0 to 1, ascending, both included. Shape (A,).
        losses: Shape (A,).

    Returns:
        From 0 to 1: 0 for a convex curve. NaN if a value is not finite or all are the same.

    Source: papers.md 3.3, C-M3.
    """
    places, curve = np.asarray(alphas, dtype=np.float64), np.asarray(losses, dtype=np.float64)
    if not np.isfinite(curve).all() or np.ptp(curve) == 0.0:
        return float("nan")
    chord = (1.0 - places) * curve[0] + places * curve[-1]
    return float(max((curve - chord).max(), 0.0) / np.ptp(curve))
