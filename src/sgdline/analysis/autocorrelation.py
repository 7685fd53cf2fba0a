"""Autocorrelation of a run's projections on eigenvectors, beside r^lag of the quadratic model (no torch)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


def autocorrelation(series: npt.ArrayLike, lags: npt.ArrayLike) -> FloatArray:
    """Return the correlation of a series with itself, some places apart.

    rho(k) = sum_t (x_t - m)(x_{t+k} - m) / sum_t (x_t - m)^2, both sums divided by their number of terms, m the mean of
    the whole series. ASSUME: the mean does not move; where a direction still drifts, the value stays near 1 for long.
    The mean is that of the same series, which lowers every value by about the variance of that mean over the series'.

    Args:
        series: Equally spaced, without gaps. Shape (T,), or (T, k): column by column.
        lags: Whole places, at least 0. Shape (L,).

    Returns:
        Shape (L,) or (L, k); NaN for lags of T/2 and more, of which too few terms are independent, and for a constant.

    Source: papers.md 3.3, C-M5; 3.2, F2.
    """
    values = np.asarray(series, dtype=np.float64)
    places = np.asarray(lags, dtype=np.int64)
    if places.ndim != 1 or (places < 0).any():
        raise ValueError(f"lags must be a list of whole numbers of at least 0, got {lags!r}")
    count = len(values)
    found = np.full((len(places), *values.shape[1:]), np.nan)
    if count == 0:
        return found
    centred = values - values.mean(axis=0)
    # As large as rounding makes the spread of a constant.
    spread = (centred**2).mean(axis=0)
    moves = spread > (1e-14 * np.abs(values).max(axis=0)) ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        for place, lag in enumerate(places):
            if 2 * lag < count:
                products = (centred[: count - lag] * centred[lag:]).mean(axis=0)
                found[place] = np.where(moves, products / spread, np.nan)
    return found
