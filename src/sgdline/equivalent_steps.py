"""Step sizes with which SGD's last iterate is the average of the iterates of SGD at a constant step (no torch).

On losses with one Hessian eigenvalue h and minimisers c_t, SGD at the learning rate a/h is
x_{t+1} = x_t - a (x_t - c_t). Every average of its iterates is sum_i W_i c_i + W_init x_0 with weights that add up to
1, and so is the last iterate of SGD with the same batches and the steps a_i = W_i / (W_init + sum_{j <= i} W_j). This
holds per eigenvalue: one h, one schedule.

Source: papers.md 3.2, F7.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


def ema_weights(decay: float, steps: int) -> FloatArray:
    """Return the weights of x_0 to x_steps in the EMA y_{t+1} = decay*y_t + (1 - decay)*x_{t+1}, y_0 = x_0.

    Args:
        decay: From 0 to below 1.
        steps: Number of updates T.

    Returns:
        Shape (T + 1,), adding up to 1.
    """
    weights = (1.0 - decay) * decay ** np.arange(steps, -1.0, -1.0)
    weights[0] = decay**steps
    return weights


def swa_weights(count: int, steps: int, *, spacing: int = 1) -> FloatArray:
    """Return the weights of x_0 to x_steps in the mean of the last `count` of them, `spacing` updates apart.

    Args:
        count: Number of iterates, at least 1.
        steps: Number of updates T, at least (count - 1) * spacing.
        spacing: Updates between two of them, at least 1.

    Returns:
        Shape (T + 1,), adding up to 1.

    Raises:
        ValueError: If the run is shorter than the average.
    """
    first = steps - (count - 1) * spacing
    if first < 0:
        raise ValueError(f"steps must be at least {(count - 1) * spacing} for this average, got {steps}")
    weights = np.zeros(steps + 1)
    weights[first::spacing] = 1.0 / count
    return weights


def two_point_weights(distance: int, steps: int) -> FloatArray:
    """Return the weights of x_0 to x_steps in (x_steps + x_{steps - distance})/2.

    Args:
        distance: Updates between the two, at least 1.
        steps: Number of updates T, at least `distance`.

    Returns:
        Shape (T + 1,), adding up to 1.

    Raises:
        ValueError: If the run is shorter than the distance.
    """
    return swa_weights(2, steps, spacing=distance)


def equivalent_steps(weights: FloatArray, relative_lr: float) -> FloatArray:
    """Return the steps with which SGD's last iterate is an average of the iterates at a constant step.

    Before the first iterate that counts, steps are the constant one, also where nothing of the average depends on them.
    An iterate whose weight is below the smallest float64 does not count: in an EMA of decay b those more than
    745/(-ln b) updates back.

    Args:
        weights: Of x_0 to x_T in the average, adding up to 1. Shape (T + 1,).
        relative_lr: The constant step a = lr*h.

    Returns:
        a_0 to a_{T-1}, that of update t at t. Shape (T,). Outside [0, 1] where a weight W_i is negative, which happens
        above a = 1; infinite or NaN where no schedule gives the average.

    Source: papers.md 3.2, F7.
    """
    kept = 1.0 - relative_lr
    steps = len(weights) - 1
    # x_i = r^i x_0 + a sum_{j <= i} r^(i - j) c_j. From the last one back: u_j = sum_{i >= j} w_i r^(i - j).
    later = np.empty(steps + 1)
    tail = 0.0
    for index in range(steps, -1, -1):
        tail = weights[index] + kept * tail
        later[index] = tail
    # S_t is the weight of everything up to x_{t+1}, which the iterates before x_{t+1} share with later[t + 1]. Summing
    # up W_j instead would add the smallest float64 many times over in a long run.
    before = np.cumsum(weights)[:-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        found: FloatArray = relative_lr * later[1:] / (later[1:] + before)
    return np.where(before == 0.0, relative_lr, found)


def ema_step(relative_lr: float, decay: float, remaining: int) -> float:
    """Return the step that makes the last iterate the EMA, after a long history.

    Args:
        relative_lr: The constant step a = lr*h, above 0 and below 2.
        decay: Of the EMA, from 0 to below 1.
        remaining: Updates after this one.

    Source: papers.md 3.2, F7.
    """
    kept, power = 1.0 - relative_lr, remaining + 1
    if kept == decay:  # 0/0: the limit
        return relative_lr**2 * power / (relative_lr * power + decay)
    # By the larger of the two powers: far back both are below the smallest float64.
    larger = max(abs(kept), decay)
    of_kept, of_decay = (kept / larger) ** power, (decay / larger) ** power
    return relative_lr * (1.0 - decay) * (of_kept - of_decay) / ((1.0 - decay) * of_kept - relative_lr * of_decay)


def swa_step(relative_lr: float, count: int, remaining: int) -> float:
    """Return the step that makes the last iterate the mean of the last `count` ones, after a long history.

    Args:
        relative_lr: As for `ema_step`.
        count: Number of iterates in the mean, one update apart.
        remaining: Updates after this one.

    Source: papers.md 3.2, F7.
    """
    if remaining >= count:
        return relative_lr
    kept = 1.0 - relative_lr
    # ASSUME: the step into the first iterate of the mean (remaining = count - 1) has the same formula.
    return (1.0 - kept ** (remaining + 1)) / (count - remaining + kept * (1.0 - kept**remaining) / relative_lr)


def two_point_step(relative_lr: float, distance: int, remaining: int) -> float:
    """Return the step that makes the last iterate the mean of itself and one far before, after a long history.

    Args:
        relative_lr: As for `ema_step`.
        distance: Updates between the two.
        remaining: Updates after this one.

    Source: papers.md 3.2, F7.
    """
    if remaining >= distance:
        return relative_lr
    power = (1.0 - relative_lr) ** remaining
    return math.nan if power == -1.0 else relative_lr * power / (1.0 + power)
