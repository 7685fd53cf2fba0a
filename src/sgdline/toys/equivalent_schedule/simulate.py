"""Schedules whose last iterate is an average of SGD's iterates at a constant step, tried on the quadratic model."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from sgdline import equivalent_steps as equivalent
from sgdline.quadratic_model import Average
from sgdline.runtime import inner_progress
from sgdline.toys import _chains
from sgdline.toys.equivalent_schedule.options import EquivalentScheduleOptions
from sgdline.toys.equivalent_schedule.table import EQUIVALENT_SCHEDULE

FloatArray = npt.NDArray[np.float64]


def run(start: float, minimisers: FloatArray, steps: FloatArray) -> FloatArray:
    """Return x_1 to x_T of x_{t+1} = x_t - a_t (x_t - c_t).

    Args:
        start: x_0.
        minimisers: c_t. Shape (T, chains).
        steps: a_t. Shape (T,).

    Returns:
        Shape (T, chains).
    """
    iterates = np.empty_like(minimisers)
    position = np.full(minimisers.shape[1], start)
    for update, step in enumerate(steps):
        position = position - step * (position - minimisers[update])
        iterates[update] = position
    return iterates


def simulate(options: EquivalentScheduleOptions) -> dict[str, list[Any]]:
    """Average a run at a constant step, and run the schedule with the same batches, for every step and average.

    Args:
        options: Of the toy.

    Returns:
        dict: Columns of the table `equivalent_schedule`, by learning rate, average and update.

    Source: papers.md 3.2, F7.
    """
    updates, start = options.updates, float(options.start)
    minimisers = np.random.default_rng(options.seed).standard_normal((updates, options.chains))
    averages = _chains.averages_of(options)[1:]  # of the iterate itself there is nothing to show
    remaining = list(range(updates - 1, -1, -1))
    columns: dict[str, list[Any]] = {name: [] for name in EQUIVALENT_SCHEDULE.schema.names}
    rates = [float(rate) for rate in options.relative_lr]
    for rate in inner_progress(rates, total=len(rates), label="learning rates"):
        constant = run(start, minimisers, np.full(updates, rate))
        for average in averages:
            weights = _weights(average, updates)
            steps = equivalent.equivalent_steps(weights, rate)
            value = weights[0] * start + weights[1:] @ constant
            with np.errstate(over="ignore", invalid="ignore"):
                scheduled = run(start, minimisers, steps)
            difference = float(np.abs(scheduled[-1] - value).max())
            block: dict[str, list[Any]] = {
                "relative_lr": [rate] * updates,
                "average": [average.name] * updates,
                "decay": [average.decay] * updates,
                "count": [average.count] * updates,
                "spacing": [average.spacing] * updates,
                "update": list(range(updates)),
                "remaining": remaining,
                "status": [_status(step) for step in steps],
                "step": _nullable(steps),
                "closed_form": _nullable(np.array([_closed_form(average, rate, left) for left in remaining])),
                "constant_iterate": _nullable(constant[:, 0]),
                "schedule_iterate": _nullable(scheduled[:, 0]),
                "average_value": [float(value[0])] * updates,
                "difference": _nullable(np.full(updates, difference)),
            }
            for name, values in block.items():
                columns[name] += values
    return columns


def _weights(average: Average, updates: int) -> FloatArray:
    if average.decay is not None:
        return equivalent.ema_weights(average.decay, updates)
    assert average.count is not None
    assert average.spacing is not None
    return equivalent.swa_weights(average.count, updates, spacing=average.spacing)


def _closed_form(average: Average, relative_lr: float, remaining: int) -> float:
    if average.decay is not None:
        return equivalent.ema_step(relative_lr, average.decay, remaining)
    assert average.count is not None
    assert average.spacing is not None
    if average.count == 2:
        return equivalent.two_point_step(relative_lr, average.spacing, remaining)
    return equivalent.swa_step(relative_lr, average.count, remaining) if average.spacing == 1 else np.nan


def _status(step: float) -> str:
    if not np.isfinite(step):
        return "none"
    return "ok" if 0.0 <= step <= 2.0 else "outside"


def _nullable(values: FloatArray) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]
