"""Learning rate schedules: pure functions of the update number."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from sgdline.equivalent_steps import steps_of
from sgdline.errors import SgdlineError

Schedule = Callable[[int], float]

_ROUNDING = 1e-12  # relative: 0.3 of 10 updates is 3 of them


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
        relative = steps_of(block, steps)
    except ValueError as error:
        raise SgdlineError(
            f"schedule.equivalent must be an average that the run is long enough for: {error}."
        ) from error
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


def piecewise(lr: float, settings: Mapping[str, Any], steps: int) -> Schedule:
    """Return a schedule with a phase of large steps: warm-up up to a share of the run, then a tenth, then a hundredth.

    With x = (t + 1) / steps, f = large_phase and w(x) the warm-up: lr * w(x) for x < f; peak / 10 from f on and
    peak / 100 from 0.9 on, peak = lr * w(f). none: w = 1; linear: 1 + (factor - 1) x / 0.5; power:
    1 + (100 x)^exponent; exponential: base^(100 x).

    With `compat` the peak behind a linear warm-up, and behind none, is lr * factor * f / 0.5 as in the released code:
    without a warm-up steps then fall to lr/50, lr/16.7 and lr/10 for f = 0.1, 0.3 and 0.5 (papers.md P1).

    Source: papers.md 4.4, schedules.
    """
    block = settings["piecewise"]
    share, form = float(block["large_phase"]), str(block["warmup"])
    forms: dict[str, Callable[[float], float]] = {
        "none": lambda x: 1.0,
        "linear": lambda x: 1.0 + (float(block["factor"]) - 1.0) * x / 0.5,
        "power": lambda x: 1.0 + math.pow(100.0 * x, float(block["exponent"])),
        "exponential": lambda x: math.pow(float(block["base"]), 100.0 * x),
    }
    growth = forms[form]
    peak = lr * growth(share)
    if block["compat"] and form in ("none", "linear"):
        peak = lr * (float(block["factor"]) if form == "linear" else 1.0) * share / 0.5

    def rate(step: int) -> float:
        x = (step + 1) / steps
        if x < share * (1.0 - _ROUNDING):
            return lr * growth(x)
        return peak / (10.0 if x < 0.9 * (1.0 - _ROUNDING) else 100.0)

    return rate


def cosine(lr: float, settings: Mapping[str, Any], steps: int) -> Schedule:
    """Return lr * (1 + cos(pi x)) / 2 with x = (t + 1) / steps: 0 at the last update (papers.md 4.4)."""
    return lambda step: lr * (1.0 + math.cos(math.pi * (step + 1) / steps)) / 2.0


def inverted_cosine(lr: float, settings: Mapping[str, Any], steps: int) -> Schedule:
    """Return lr less the cosine schedule: `lr` at the last update (papers.md 4.4)."""
    falling = cosine(lr, settings, steps)
    return lambda step: lr - falling(step)


SCHEDULES: dict[str, Callable[[float, Mapping[str, Any], int], Schedule]] = {
    "constant": constant,
    "step": step_decay,
    "cyclical": cyclical,
    "trapezoid": trapezoid,
    "equivalent": equivalent,
    "piecewise": piecewise,
    "cosine": cosine,
    "inverted_cosine": inverted_cosine,
}


def make_schedule(lr: float, settings: Mapping[str, Any], *, steps: int) -> Schedule:
    """Return the function update -> learning rate that the config's `schedule` block describes.

    Args:
        lr: The run's learning rate, the highest one of every schedule but `step` and `piecewise`.
        settings: The `schedule` block; the options of other schedules may be missing.
        steps: Updates of the run.
    """
    return SCHEDULES[settings["name"]](lr, settings, steps)
