"""Gradient descent on a two-dimensional quadratic: which learning rates creep, bounce and diverge.

L(theta) = 1/2 theta^T H theta, theta_{t+1} = theta_t - lr * H theta_t.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sgdline.runtime import inner_progress
from sgdline.toys.quadratic_descent.options import QuadraticDescentOptions

FloatArray = npt.NDArray[np.float64]

# ASSUME: H is diagonal, that is, coordinates are those along its eigenvectors: gradient descent, losses and angles are
# the same in every rotated frame.


class Intervals(NamedTuple):
    """The straight way from each iterate to the next one."""

    floor_position: FloatArray  # (R, T), alpha in [0, 1]; NaN where the gradient is 0
    floor_loss: FloatArray  # (R, T)
    height: FloatArray  # (R, T)
    height_of_start: FloatArray  # (R, T)


def regime(relative_lr: float) -> str:
    """Return how gradient descent moves along the eigenvector of the largest eigenvalue.

    Its coordinate is multiplied by 1 - lr * lambda_max in every step.

    Args:
        relative_lr: lr * lambda_max, above 0.

    Returns:
        `over_damped` (below 1: keeps its sign), `critical` (1: at the minimum after one step), `under_damped` (between
        1 and 2: alternates and shrinks), `edge` (2: alternates for ever) or `diverging` (above 2).

    Source: walk fig36 (papers.md 5.3).
    """
    if relative_lr < 1.0:
        return "over_damped"
    if relative_lr == 1.0:
        return "critical"
    if relative_lr < 2.0:
        return "under_damped"
    return "edge" if relative_lr == 2.0 else "diverging"


def descend(start: Sequence[float], *, eigenvalues: Sequence[float], lr: FloatArray, steps: int) -> FloatArray:
    """Run gradient descent once per learning rate.

    Args:
        start: theta_0, along the eigenvectors. Two entries.
        eigenvalues: Of H, above 0. Two entries.
        lr: Learning rates. Shape (R,).
        steps: Number of updates.

    Returns:
        theta_0 to theta_steps, float64. Shape (R, steps + 1, 2); infinite or NaN beyond the range of float64.
    """
    curvatures = np.asarray(eigenvalues, dtype=np.float64)
    iterates = np.empty((len(lr), steps + 1, 2))
    iterates[:, 0] = start
    with np.errstate(over="ignore", invalid="ignore"):
        for step in inner_progress(range(steps), total=steps, label="steps"):
            gradients = curvatures * iterates[:, step]
            iterates[:, step + 1] = iterates[:, step] - lr[:, None] * gradients
    return iterates


def losses(iterates: FloatArray, *, eigenvalues: Sequence[float]) -> FloatArray:
    """Return 1/2 theta^T H theta of every point. Shape (..., 2) to (...)."""
    with np.errstate(over="ignore", invalid="ignore"):
        found: FloatArray = 0.5 * (np.asarray(eigenvalues) * iterates**2).sum(axis=-1)
    return found


def gradient_cosines(iterates: FloatArray, *, eigenvalues: Sequence[float]) -> FloatArray:
    """Return cos(g_{t-1}, g_t).

    Args:
        iterates: theta_0 to theta_T. Shape (R, T + 1, 2).
        eigenvalues: Of H. Two entries.

    Returns:
        Shape (R, T + 1), in [-1, 1]; NaN at t = 0 and where one of the gradients is 0 or not finite.

    Source: walk W-M3, without its 1e-6 in the denominator: gradients here shrink far below its square root.
    """
    units = _units(np.asarray(eigenvalues) * iterates)
    cosines = np.full(iterates.shape[:2], np.nan)
    cosines[:, 1:] = np.clip((units[:, :-1] * units[:, 1:]).sum(axis=-1), -1.0, 1.0)
    return cosines


def measure_intervals(iterates: FloatArray, *, eigenvalues: Sequence[float], lr: FloatArray) -> Intervals:
    """Return the lowest point between consecutive iterates, and how high these lie above it.

    With u the gradient's direction, L(theta_t - alpha * lr * g_t) is a parabola in alpha whose vertex is at
    1 / (lr * u^T H u); on the interval the minimum is there, or at its end.

    Args:
        iterates: theta_0 to theta_T. Shape (R, T + 1, 2).
        eigenvalues: Of H. Two entries.
        lr: Learning rates. Shape (R,).

    Returns:
        Intervals, NaN where values are not finite.

    Source: walk W-M2 and W-M6, with the exact minimum instead of the lowest of ten points.
    """
    curvatures = np.asarray(eigenvalues, dtype=np.float64)
    starts, ends = iterates[:, :-1], iterates[:, 1:]
    units = _units(curvatures * starts)
    with np.errstate(over="ignore", invalid="ignore"):
        floor_position = np.minimum(1.0 / (lr[:, None] * (curvatures * units**2).sum(axis=-1)), 1.0)
        # A gradient of 0 moves nothing: every point of the interval is the lowest.
        shares = np.where((starts == 0.0).all(axis=-1), 0.0, floor_position)[..., None]
        # Not by subtracting from L(theta_t): the floor may lie many orders of magnitude below it.
        floor_loss = losses((1.0 - shares) * starts + shares * ends, eigenvalues=eigenvalues)
        before, after = losses(starts, eigenvalues=eigenvalues), losses(ends, eigenvalues=eigenvalues)
        return Intervals(
            floor_position=floor_position,
            floor_loss=floor_loss,
            height=(before - floor_loss + (after - floor_loss)) / 2,
            height_of_start=before - floor_loss,
        )


def simulate(options: QuadraticDescentOptions) -> dict[str, list[Any]]:
    """Run gradient descent with every learning rate and measure it.

    Args:
        options: Of the toy.

    Returns:
        dict: Columns of the table `quadratic_descent`, the rows of one learning rate after those of the other.

    Source: walk fig36 (papers.md 5.3), W-M2, W-M3, W-M6. The text at hand gives neither eigenvalues nor rates.
    """
    eigenvalues, steps = options.eigenvalues, options.steps
    rates = [float(relative_lr) for relative_lr in options.relative_lr]
    lr = np.array(rates) / max(eigenvalues)
    iterates = descend(options.start, eigenvalues=eigenvalues, lr=lr, steps=steps)
    intervals = measure_intervals(iterates, eigenvalues=eigenvalues, lr=lr)
    columns: dict[str, list[Any]] = {
        "relative_lr": np.repeat(rates, steps + 1).tolist(),
        "lr": np.repeat(lr, steps + 1).tolist(),
        "status": [regime(relative_lr) for relative_lr in rates for _ in range(steps + 1)],
        "step": list(range(steps + 1)) * len(rates),
    }
    measured = {
        "first_coordinate": iterates[..., 0],
        "second_coordinate": iterates[..., 1],
        "loss": losses(iterates, eigenvalues=eigenvalues),
        "gradient_cosine": gradient_cosines(iterates, eigenvalues=eigenvalues),
    }
    last = np.full((len(rates), 1), np.nan)  # no interval starts there
    measured |= {name: np.hstack([values, last]) for name, values in intervals._asdict().items()}
    return columns | {name: _nullable(values) for name, values in measured.items()}


def _units(vectors: FloatArray) -> FloatArray:
    """Return vectors of length 1 along the last axis, NaN for those of length 0 and those that are not finite."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        # In two steps: the squares of very short and very long vectors leave the range of float64.
        scaled = vectors / np.abs(vectors).max(axis=-1, keepdims=True)
        units: FloatArray = scaled / np.sqrt((scaled**2).sum(axis=-1, keepdims=True))
    return units


def _nullable(values: FloatArray) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values.ravel()]
