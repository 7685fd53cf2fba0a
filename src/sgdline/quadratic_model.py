"""SGD on quadratic batch losses with one Hessian: variances of its iterates and of their averages (no torch).

Every batch loss is quadratic with the same Hessian, of eigenvalues h, and its own minimiser c_t; these are independent
of each other and of theta, with mean c* and variance sigma^2 along the eigenvector. There, with a = lr*h, r = 1 - a,
e = theta - c* and xi_t = c_t - c*,

    e_{t+1} = r e_t + a xi_t,    stable for 0 < a < 2.

Throughout, `relative_lr` is a and `noise_variance` is sigma^2; both broadcast against each other and against what else
is an array. a = 0 stands for its limit, a direction in which nothing has moved: its variances are 0. Outside [0, 2)
there is no stationary state, and the variances are NaN.

Source: papers.md 3.2, F1 to F6 and F8 to F13; F7 is `sgdline.equivalent_steps`. `sgdline.toys._chains` simulates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
Floats = float | Sequence[float] | npt.NDArray[Any]


@dataclass(frozen=True)
class Average:
    """The iterate itself (none of the numbers), its EMA (`decay`), or a mean of `count` iterates, `spacing` apart."""

    name: str  # iterate | ema | two_point | swa
    decay: float | None = None
    count: int | None = None  # 2 for two points
    spacing: int | None = None  # updates

    @property
    def reach(self) -> int:
        """Updates from its first iterate to its last one; 0 for what is updated along the way."""
        return 0 if self.count is None or self.spacing is None else (self.count - 1) * self.spacing

    def variance(self, relative_lr: Floats, noise_variance: Floats = 1.0, *, momentum: float = 0.0) -> FloatArray:
        """Return its stationary variance, by default in units of sigma^2.

        Args:
            relative_lr: a = lr*h.
            noise_variance: sigma^2.
            momentum: beta.

        Returns:
            Of the broadcast shape; NaN where there is no stationary state.
        """
        if momentum == 0.0:
            if self.decay is not None:
                return ema_variance(relative_lr, noise_variance, decay=self.decay)
            if self.count is not None and self.spacing is not None:
                return swa_variance(relative_lr, noise_variance, count=self.count, spacing=self.spacing)
            return stationary_variance(relative_lr, noise_variance)
        if self.decay is not None:
            return momentum_ema_variance(relative_lr, noise_variance, momentum=momentum, decay=self.decay)
        if self.count is not None and self.spacing is not None:
            return momentum_swa_variance(
                relative_lr, noise_variance, momentum=momentum, count=self.count, spacing=self.spacing
            )
        return momentum_variance(relative_lr, noise_variance, momentum=momentum)


# -- one run at a constant learning rate ------------------------------------------------------------------------------


def transient_mean(relative_lr: Floats, start: Floats, *, updates: Floats) -> FloatArray:
    """Return E[e_t] = r^t e_0. Any relative_lr: beyond 2 it grows.

    Source: papers.md 3.2, F1.
    """
    found: FloatArray = (1.0 - np.asarray(relative_lr, dtype=np.float64)) ** _whole("updates", updates, 0) * start
    return found


def transient_variance(
    relative_lr: Floats, noise_variance: Floats, *, updates: Floats, start_variance: Floats = 0.0
) -> FloatArray:
    """Return the variance of e_t, V + r^(2t) (V_0 - V), V_0 that of e_0.

    Source: papers.md 3.2, F1, solved.
    """
    stationary = stationary_variance(relative_lr, noise_variance)
    left = _power(_stable(relative_lr), 2 * _whole("updates", updates, 0))
    found: FloatArray = stationary * (1.0 - left) + left * start_variance
    return found


def stationary_variance(relative_lr: Floats, noise_variance: Floats) -> FloatArray:
    """Return the variance V = sigma^2 a/(2 - a) that the iterates reach.

    Args:
        relative_lr: a = lr*h.
        noise_variance: sigma^2, of the batches' minimisers along the eigenvector.

    Returns:
        Of the broadcast shape; NaN outside [0, 2).

    Source: papers.md 3.2, F2.
    """
    a = _stable(relative_lr)
    found: FloatArray = np.asarray(noise_variance, dtype=np.float64) * a / (2.0 - a)
    return found


def equivalent_relative_lr(variance: Floats, noise_variance: Floats) -> FloatArray:
    """Return the constant a = 2W/(sigma^2 + W) whose stationary variance is W.

    Source: papers.md 3.2, F2 (inverse) and F6.
    """
    reached = np.asarray(variance, dtype=np.float64)
    found: FloatArray = 2.0 * reached / (np.asarray(noise_variance, dtype=np.float64) + reached)
    return found


def autocorrelation(relative_lr: Floats, *, lag: Floats) -> FloatArray:
    """Return the correlation r^k of stationary iterates k updates apart.

    Source: papers.md 3.2, F2.
    """
    return _power(_stable(relative_lr), _whole("lag", lag, 0))


def excess_loss(eigenvalues: Floats, variances: Floats) -> FloatArray:
    """Return the mean full-batch loss above its minimum, 1/2 sum_i h_i V_i, over the last axis.

    Args:
        eigenvalues: h_i. Shape (..., D).
        variances: Of iterates or of averages along the eigenvectors. Shape (..., D).

    Source: papers.md 3.2, F11.
    """
    return np.asarray(0.5 * np.sum(np.asarray(eigenvalues) * np.asarray(variances), axis=-1), dtype=np.float64)


# -- averages of the stationary iterates ------------------------------------------------------------------------------


def ema_variance(relative_lr: Floats, noise_variance: Floats, *, decay: Floats) -> FloatArray:
    """Return the variance of the EMA y_{t+1} = b y_t + (1 - b) x_{t+1} in the stationary state.

    V (1 - b)/(1 + b) (1 + b r)/(1 - b r)

    Args:
        relative_lr: a = lr*h.
        noise_variance: sigma^2.
        decay: b, from 0 (the iterate itself) to below 1.

    Returns:
        Of the broadcast shape; NaN where relative_lr is outside [0, 2).

    Source: papers.md 3.2, F3.
    """
    a, b = _stable(relative_lr), _decay(decay)
    # 1 - b r, without the cancellation near b = r = 1.
    found: FloatArray = stationary_variance(a, noise_variance) * (
        (1.0 - b) / (1.0 + b) * (1.0 + b * (1.0 - a)) / ((1.0 - b) + b * a)
    )
    return found


def swa_variance(relative_lr: Floats, noise_variance: Floats, *, count: Floats, spacing: Floats = 1) -> FloatArray:
    """Return the variance of the mean of stationary iterates (SWA).

    With q = r^c: V/k^2 [k (1 + q)/(1 - q) - 2 q (1 - q^k)/(1 - q)^2]

    Args:
        relative_lr: a = lr*h.
        noise_variance: sigma^2.
        count: k, number of iterates in the mean, at least 1.
        spacing: c, updates between two of them, at least 1.

    Returns:
        Of the broadcast shape; NaN where relative_lr is outside [0, 2).

    Source: papers.md 3.2, F4.
    """
    a, k, c = _stable(relative_lr), _whole("count", count, 1), _whole("spacing", spacing, 1)
    q, rest = _power(a, c), _rest(a, c)
    # sum_{j=1}^{k-1} (k - j) q^j, which is q (k (1 - q) - (1 - q^k))/(1 - q)^2.
    with np.errstate(divide="ignore", invalid="ignore"):
        closed = q * (k * rest - _rest(a, c * k)) / rest**2
    # Where q is close to 1 that is a small difference of large numbers; its series converges there.
    series = 1.0 - (k - 2.0) / 3.0 * rest * (
        1.0 - (k - 3.0) / 4.0 * rest * (1.0 - (k - 4.0) / 5.0 * rest * (1.0 - (k - 5.0) / 6.0 * rest))
    )
    pairs = np.where(k * rest < 1e-3, q * k * (k - 1.0) / 2.0 * series, closed)
    found: FloatArray = stationary_variance(a, noise_variance) * (k + 2.0 * pairs) / k**2
    return found


def two_point_variance(relative_lr: Floats, noise_variance: Floats, *, distance: Floats) -> FloatArray:
    """Return the variance of (x_t + x_{t-k})/2 in the stationary state, V (1 + r^k)/2.

    Args:
        relative_lr: a = lr*h.
        noise_variance: sigma^2.
        distance: k, updates between the two points, at least 0 (the iterate itself).

    Returns:
        Of the broadcast shape; NaN where relative_lr is outside [0, 2).

    Source: papers.md 3.2, F5.
    """
    correlation = autocorrelation(relative_lr, lag=_whole("distance", distance, 0))
    found: FloatArray = stationary_variance(relative_lr, noise_variance) * (1.0 + correlation) / 2.0
    return found


# -- steps of another size --------------------------------------------------------------------------------------------


def variance_after_step(relative_lr: Floats, noise_variance: Floats, *, step: Floats) -> FloatArray:
    """Return the variance after one step of another size from the stationary state, (1 - a')^2 V + a'^2 sigma^2.

    Times h/2 it is the full-batch excess loss, and that of batches held out of the step. It is lowest at a' = a/2, half
    the training's step, and unchanged at a' = a.

    Args:
        relative_lr: a of the run before.
        noise_variance: sigma^2.
        step: a' of the one step; any number.

    Source: papers.md 3.2, F8.
    """
    moved = np.asarray(step, dtype=np.float64)
    found: FloatArray = (1.0 - moved) ** 2 * stationary_variance(relative_lr, noise_variance) + moved**2 * np.asarray(
        noise_variance
    )
    return found


def own_batch_variance_after_step(relative_lr: Floats, noise_variance: Floats, *, step: Floats) -> FloatArray:
    """Return the mean square distance from the step's own batch's minimiser, (1 - a')^2 (V + sigma^2).

    Times h/2 it is the excess of the own batch's loss: 0 at a' = 1, the learning rate 1/h.

    Args:
        relative_lr: a of the run before.
        noise_variance: sigma^2.
        step: a' of the one step; any number.

    Source: papers.md 3.2, F8.
    """
    before = stationary_variance(relative_lr, noise_variance) + np.asarray(noise_variance)
    found: FloatArray = (1.0 - np.asarray(step, dtype=np.float64)) ** 2 * before
    return found


def best_schedule(start_variance: Floats, noise_variance: Floats, *, updates: Floats) -> tuple[FloatArray, FloatArray]:
    """Return the step of update t that leaves the least variance, and the variance before it.

    a_t = V_t/(V_t + sigma^2), with 1/V_t = 1/V_0 + t/sigma^2.

    Args:
        start_variance: V_0, mean square of e_0, at least 0.
        noise_variance: sigma^2, above 0.
        updates: t, number of updates before this one.

    Returns:
        The steps a_t and the variances V_t, of the broadcast shape.

    Source: papers.md 3.2, F9.
    """
    start, noise = np.asarray(start_variance, dtype=np.float64), np.asarray(noise_variance, dtype=np.float64)
    variances: FloatArray = start * noise / (noise + _whole("updates", updates, 0) * start)
    steps: FloatArray = variances / (variances + noise)
    return steps, variances


# -- momentum ---------------------------------------------------------------------------------------------------------


def momentum_variance(relative_lr: Floats, noise_variance: Floats, *, momentum: Floats) -> FloatArray:
    """Return the stationary variance with heavy-ball momentum, sigma^2 a (1 + beta)/((1 - beta)(2 (1 + beta) - a)).

    e_{t+1} = (1 + beta - a) e_t - beta e_{t-1} + a xi_t

    Args:
        relative_lr: a = lr*h.
        noise_variance: sigma^2.
        momentum: beta, from 0 to below 1.

    Returns:
        Of the broadcast shape; NaN outside [0, 2 (1 + beta)).

    Source: papers.md 3.2, F10.
    """
    beta = _decay(momentum, name="momentum")
    a = _stable(relative_lr, below=2.0 * (1.0 + beta))
    found: FloatArray = (
        np.asarray(noise_variance, dtype=np.float64) * a * (1.0 + beta) / ((1.0 - beta) * (2.0 * (1.0 + beta) - a))
    )
    return found


def momentum_autocorrelation(relative_lr: Floats, *, momentum: Floats, lags: int) -> FloatArray:
    """Return the correlations of stationary iterates 0 to `lags` updates apart, by the AR(2) recursion.

    rho_0 = 1, rho_1 = (1 + beta - a)/(1 + beta), rho_k = (1 + beta - a) rho_{k-1} - beta rho_{k-2}

    Args:
        relative_lr: a = lr*h.
        momentum: beta, from 0 to below 1.
        lags: Largest lag, at least 0.

    Returns:
        Shape (lags + 1, ...), the broadcast shape of the others behind; NaN outside [0, 2 (1 + beta)).

    Source: papers.md 3.2, F10.
    """
    beta = _decay(momentum, name="momentum")
    a = _stable(relative_lr, below=2.0 * (1.0 + beta))
    last = int(_whole("lags", lags, 0))
    kept = 1.0 + beta - a
    correlations = np.empty((max(last, 1) + 1, *np.shape(kept)))
    correlations[0] = np.where(np.isnan(a), np.nan, 1.0)
    correlations[1] = kept / (1.0 + beta)
    for lag in range(2, last + 1):
        correlations[lag] = kept * correlations[lag - 1] - beta * correlations[lag - 2]
    return correlations[: last + 1]


def momentum_ema_variance(
    relative_lr: Floats, noise_variance: Floats, *, momentum: Floats, decay: Floats
) -> FloatArray:
    """Return the variance of the EMA of iterates with momentum.

    V (1 - b)/(1 + b) (2 G(b) - 1), with G(b) = sum_k b^k rho_k = (1 + b (rho_1 - phi))/(1 - phi b + beta b^2) and
    phi = 1 + beta - a.

    Args:
        relative_lr: a = lr*h.
        noise_variance: sigma^2.
        momentum: beta, from 0 to below 1.
        decay: b of the EMA, from 0 to below 1.

    Source: papers.md 3.2, F10 with F3; G sums the AR(2) recursion.
    """
    beta, b = _decay(momentum, name="momentum"), _decay(decay)
    a = _stable(relative_lr, below=2.0 * (1.0 + beta))
    kept = 1.0 + beta - a
    # 1 - phi b + beta b^2 and 1 + b (rho_1 - phi), without the cancellation near b = 1, a = 0.
    summed = (1.0 - b * beta * kept / (1.0 + beta)) / ((1.0 - b) * (1.0 - beta * b) + a * b)
    found: FloatArray = (
        momentum_variance(a, noise_variance, momentum=beta) * (1.0 - b) / (1.0 + b) * (2.0 * summed - 1.0)
    )
    return found


def momentum_swa_variance(
    relative_lr: Floats, noise_variance: Floats, *, momentum: Floats, count: int, spacing: int = 1
) -> FloatArray:
    """Return the variance of the mean of `count` iterates with momentum, `spacing` updates apart.

    V/k^2 [k + 2 sum_{j=1}^{k-1} (k - j) rho_{jc}]

    Args:
        relative_lr: a = lr*h.
        noise_variance: sigma^2.
        momentum: beta, from 0 to below 1.
        count: k, at least 1.
        spacing: c, at least 1.

    Source: papers.md 3.2, F10 with F4.
    """
    k, c = int(_whole("count", count, 1)), int(_whole("spacing", spacing, 1))
    correlations = momentum_autocorrelation(relative_lr, momentum=momentum, lags=(k - 1) * c)[::c]
    weights = np.arange(k, 0.0, -1.0)
    weights[1:] *= 2.0
    summed = np.tensordot(weights, correlations, axes=1)
    found: FloatArray = momentum_variance(relative_lr, noise_variance, momentum=momentum) * summed / k**2
    return found


def momentum_two_point_variance(
    relative_lr: Floats, noise_variance: Floats, *, momentum: Floats, distance: int
) -> FloatArray:
    """Return the variance of (x_t + x_{t-k})/2 with momentum, V (1 + rho_k)/2.

    Args:
        relative_lr: a = lr*h.
        noise_variance: sigma^2.
        momentum: beta, from 0 to below 1.
        distance: k, at least 0.

    Source: papers.md 3.2, F10 with F5.
    """
    apart = momentum_autocorrelation(relative_lr, momentum=momentum, lags=int(_whole("distance", distance, 0)))[-1]
    found: FloatArray = momentum_variance(relative_lr, noise_variance, momentum=momentum) * (1.0 + apart) / 2.0
    return found


# -- many directions: shells and pairs of runs ------------------------------------------------------------------------


def shell_radius(variances: Floats, stationary: Floats) -> tuple[FloatArray, FloatArray]:
    """Return mean and standard deviation of y^T diag(V)^{-1} y, for Gaussian y of independent coordinates.

    Args:
        variances: Of y along the eigenvectors: V itself for iterates, whose mean is the number of directions, or those
            of an average. Shape (..., D).
        stationary: V, stationary variances of the iterates, above 0. Shape (D,).

    Returns:
        sum_i W_i/V_i and sqrt(2 sum_i (W_i/V_i)^2). Shape (...).

    Source: papers.md 3.2, F12; the standard deviation is that of a weighted sum of chi-squared variables.
    """
    shares = np.asarray(variances, dtype=np.float64) / np.asarray(stationary, dtype=np.float64)
    return shares.sum(axis=-1), np.sqrt(2.0 * (shares**2).sum(axis=-1))


def same_batches_distance(relative_lr: Floats, start_difference: Floats, *, updates: Floats) -> FloatArray:
    """Return the squared distance along one eigenvector of two runs that see the same batches, r^(2t) d_0^2.

    Args:
        relative_lr: a = lr*h. Beyond 2 it grows.
        start_difference: d_0, between the starts.
        updates: t.

    Source: papers.md 3.2, F13.
    """
    return transient_mean(relative_lr, start_difference, updates=updates) ** 2


def different_batches_distance(
    relative_lr: Floats, noise_variance: Floats, *, updates: Floats, start_difference: Floats = 0.0
) -> FloatArray:
    """Return the mean squared distance along one eigenvector of two runs with batches of their own.

    2 V (1 - r^(2t)) + r^(2t) d_0^2, which tends to 2 V.

    Args:
        relative_lr: a = lr*h.
        noise_variance: sigma^2.
        updates: t.
        start_difference: d_0; 0 from one checkpoint.

    Source: papers.md 3.2, F13 with F1.
    """
    return transient_variance(
        relative_lr,
        2.0 * np.asarray(noise_variance, dtype=np.float64),
        updates=updates,
        start_variance=np.asarray(start_difference, dtype=np.float64) ** 2,
    )


# -- epochs without replacement ---------------------------------------------------------------------------------------


def epochwise_variance(
    relative_lr: Floats, noise_variance: Floats, *, batches_per_epoch: int, updates: Floats | None = None
) -> FloatArray:
    """Return the stationary variance if every epoch takes each of n fixed batches once, in a new order.

    Two minimisers of one epoch have the covariance -sigma^2/(n - 1). After p updates of an epoch, with
    S_m = sum_{j<p} r^(mj), V_p = r^(2p) V_n + a^2 sigma^2 (n S_2 - S_1^2)/(n - 1), and V_n is its fixed point at p = n.

    Args:
        relative_lr: a = lr*h.
        noise_variance: sigma^2, mean square of the n minimisers' distances from their mean.
        batches_per_epoch: n, at least 2.
        updates: p, from 0 to n; None: the mean over p = 1, ..., n.

    Returns:
        Of the broadcast shape; NaN where relative_lr is outside [0, 2).

    Source: ours, for the caveat of papers.md 3.2.
    """
    n = int(_whole("batches_per_epoch", batches_per_epoch, 2))
    a, noise = np.broadcast_arrays(_stable(relative_lr), np.asarray(noise_variance, dtype=np.float64))
    if updates is None:
        each = [epochwise_variance(a, noise, batches_per_epoch=n, updates=p) for p in range(1, n + 1)]
        mean: FloatArray = np.mean(each, axis=0)
        return mean

    def added(p: FloatArray) -> FloatArray:
        """Of p updates to a start at c*: a^2 (n S_2 - S_1^2), a S_1 = 1 - r^p, a S_2 = (1 - r^(2p))/(2 - a)."""
        found: FloatArray = noise * (n * a * _rest(a, 2 * p) / (2.0 - a) - _rest(a, p) ** 2) / (n - 1.0)
        return found

    p = _whole("updates", updates, 0)
    if np.any(p > n):
        raise ValueError(f"updates must be at most batches_per_epoch = {n}, got {np.max(p):g}")
    with np.errstate(divide="ignore", invalid="ignore"):
        whole = np.asarray(n, dtype=np.float64)
        ends = added(whole) / _rest(a, 2 * whole)
    found: FloatArray = _power(a, 2 * p) * np.where(a == 0.0, 0.0, ends) + added(p)
    return found


# ---------------------------------------------------------------------------------------------------------------------


def _stable(relative_lr: Floats, *, below: Floats = 2.0) -> FloatArray:
    """Return a, NaN where there is no stationary state."""
    a = np.asarray(relative_lr, dtype=np.float64)
    return np.where((a >= 0.0) & (a < below), a, np.nan)


def _power(a: FloatArray, exponent: FloatArray) -> FloatArray:
    """Return r^n for stable a and whole n: |r| = 1 - min(a, 2 - a), which is exact near both ends."""
    sign = np.where((a > 1.0) & (exponent % 2 == 1), -1.0, 1.0)
    return sign * np.exp(_log_power(a, exponent))


def _rest(a: FloatArray, exponent: FloatArray) -> FloatArray:
    """Return 1 - r^n for stable a and whole n, accurate where r^n is close to 1."""
    odd = (a > 1.0) & (exponent % 2 == 1)
    logarithm = _log_power(a, exponent)
    return np.where(odd, 1.0 + np.exp(logarithm), -np.expm1(logarithm))


def _log_power(a: FloatArray, exponent: FloatArray) -> FloatArray:
    with np.errstate(divide="ignore", invalid="ignore"):  # log 0 at a = 1
        found = exponent * np.log1p(-np.minimum(a, 2.0 - a))
    return np.where((exponent == 0) & ~np.isnan(a), 0.0, found)


def _decay(decay: Floats, *, name: str = "decay") -> FloatArray:
    values = np.asarray(decay, dtype=np.float64)
    if not np.all((values >= 0.0) & (values < 1.0)):
        raise ValueError(f"{name} must be from 0 to below 1, got {decay}")
    return values


def _whole(name: str, values: Floats, least: int) -> FloatArray:
    found = np.asarray(values, dtype=np.float64)
    if not np.all((found >= least) & (found == np.floor(found))):
        raise ValueError(f"{name} must be a whole number of at least {least}, got {values}")
    return found
