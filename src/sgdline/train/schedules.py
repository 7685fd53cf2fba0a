"""Learning rate schedules: pure functions of the update number."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

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


SCHEDULES: dict[str, Callable[[float, Mapping[str, Any], int], Schedule]] = {
    "constant": constant,
    "step": step_decay,
    "cyclical": cyclical,
    "trapezoid": trapezoid,
}


def make_schedule(lr: float, settings: Mapping[str, Any], *, steps: int) -> Schedule:
    """Return the function update -> learning rate that the config's `schedule` block describes.

    Args:
        lr: The run's learning rate, the highest one of every schedule but `step`.
        settings: The `schedule` block; the options of other schedules may be missing.
        steps: Updates of the run.
    """
    return SCHEDULES[settings["name"]](lr, settings, steps)
