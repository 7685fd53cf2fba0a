"""Learning rate schedules: pure functions of the update number."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from sgdline.equivalent_steps import ema_weights, equivalent_steps, swa_weights, two_point_weights
from sgdline.errors import SgdlineError

Schedule = Callable[[int], float]


def constant(lr: float, settings: Mapping[str, Any], steps: int) -> Schedule:
    """Return a schedule that never changes."""
    return lambda step: lr


def step_decay(lr: float, settings: Mapping[str, Any], steps: int) -> Schedule:
    """Return a schedule multiplied by `factor` at each milestone; several may fall on one update."""
    milestones, factor = tuple(settings["milestones"]), float(settings["factor"])
    return lambda step: lr * factor ** sum(step >= milestone for milestone in milestones)


def cyclical(lr: float, settings: Mapping[str, Any], steps: int) -> Schedule:
    """Return a triangular schedule: lowest * lr at updates 0, period, ..., lr half a period later, linear in between.

    Source: papers.md 5.3, walk fig7 and fig8.
    """
    lowest, period = float(settings["cyclical"]["lowest"]), int(settings["cyclical"]["period"])

    def rate(step: int) -> float:
        height = 1.0 - abs(2 * (step % period) - period) / period  # 0 at the ends of a period, 1 in its middle
        return lr * (lowest + (1.0 - lowest) * height)

    return rate


def trapezoid(lr: float, settings: Mapping[str, Any], steps: int) -> Schedule:
    """Return a schedule that rises linearly over `warmup` updates, stays, and falls to 0 over the last `cooldown`.

    lr_t = lr * min(1, (t + 1)/warmup, (steps - t)/cooldown): both ends are alike, and no update has the rate 0, which
    the fall reaches behind the last one.

    Source: papers.md 5.3, walk fig7 and fig8.
    """
    warmup, cooldown = int(settings["trapezoid"]["warmup"]), int(settings["trapezoid"]["cooldown"])

    def rate(step: int) -> float:
        up = (step + 1) / warmup if warmup else 1.0
        down = (steps - step) / cooldown if cooldown else 1.0
        return lr * min(1.0, up, down)

    return rate


def equivalent(lr: float, settings: Mapping[str, Any], steps: int) -> Schedule:
    """Return the schedule whose last iterate is an average of the iterates at the constant rate `lr`.

    lr_t = lr * a_t / a, a_t the steps of `sgdline.equivalent_steps` for the constant step a = relative_lr. Exact for
    plain SGD with the same batches where the loss is quadratic with the one eigenvalue h = a / lr.

    Raises:
        SgdlineError: If the run is shorter than the average, or a step leaves [0, 2], where SGD is unstable.

    Source: papers.md 3.2, F7.
    """
    block = settings["equivalent"]
    relative_lr, parameter = float(block["relative_lr"]), float(block["parameter"])
    try:
        if block["average"] == "ema":
            weights = ema_weights(parameter, steps)
        elif block["average"] == "swa":
            weights = swa_weights(int(parameter), steps, spacing=int(block["spacing"]))
        else:
            weights = two_point_weights(int(parameter), steps)
    except ValueError as error:
        raise SgdlineError(
            f"schedule.equivalent must be an average that the run is long enough for: {error}."
        ) from error
    relative = equivalent_steps(weights, relative_lr)
    outside = np.flatnonzero(~((relative >= 0.0) & (relative <= 2.0)))  # NaN is outside
    if outside.size:
        first = int(outside[0])
        raise SgdlineError(
            f"The steps of schedule.equivalent must lie in [0, 2], got {relative[first]:.3g} at update {first} for the "
            f"average {block['average']} with parameter {parameter:g} and relative_lr {relative_lr:g}. Set relative_lr "
            "to at most 1."
        )
    rates: list[float] = (lr * relative / relative_lr).tolist()
    return lambda step: rates[step]


SCHEDULES: dict[str, Callable[[float, Mapping[str, Any], int], Schedule]] = {
    "constant": constant,
    "step": step_decay,
    "cyclical": cyclical,
    "trapezoid": trapezoid,
    "equivalent": equivalent,
}


def make_schedule(lr: float, settings: Mapping[str, Any], *, steps: int) -> Schedule:
    """Return the function update -> learning rate that the config's `schedule` block describes.

    Args:
        lr: The run's learning rate, the highest one of every schedule but `step`.
        settings: The `schedule` block; the options of other schedules may be missing.
        steps: Updates of the run.
    """
    return SCHEDULES[settings["name"]](lr, settings, steps)
