"""Power laws y = c * x^k, fitted as straight lines in logarithms."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from sgdline.analysis.curves import FloatArray


@dataclass(frozen=True)
class PowerLaw:
    """y = prefactor * x^exponent."""

    exponent: float  # slope of log y against log x; NaN without a fit
    prefactor: float  # in units of y; NaN without a fit
    points: int  # pairs that the fit rests on

    def at(self, sizes: ArrayLike) -> FloatArray:
        """Return the law at positive sizes. Shape of the sizes; NaN without a fit."""
        return np.asarray(self.prefactor * np.asarray(sizes, dtype=np.float64) ** self.exponent)


def fit_power_law(sizes: ArrayLike, values: ArrayLike) -> PowerLaw:
    """Fit a power law by least squares in log-log coordinates, every pair with the same weight.

    Args:
        sizes: x. Shape (n,).
        values: y. Shape (n,). Pairs of which one is not positive and finite are left out.

    Returns:
        PowerLaw: NaN in exponent and prefactor if fewer than two pairs are left, or all of them have the same size.

    Raises:
        ValueError: If the shapes differ.

    Source: linesearch M13, remark after M14 (papers.md 2.3). Oracle in the tests: numpy.polyfit.
    """
    x, y = np.asarray(sizes, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(f"sizes and values must have the same shape (n,), got {x.shape} and {y.shape}")
    usable = np.isfinite(x) & np.isfinite(y) & (x > 0) & (y > 0)
    points = int(usable.sum())
    x, y = np.log(x[usable]), np.log(y[usable])
    if points < 2 or x.min() == x.max():
        return PowerLaw(float("nan"), float("nan"), points)
    centred = x - x.mean()
    exponent = float(centred @ (y - y.mean()) / (centred @ centred))
    return PowerLaw(exponent, float(np.exp(y.mean() - exponent * x.mean())), points)
