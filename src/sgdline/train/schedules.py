"""Learning rate schedules: pure functions of the update number."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Schedule = Callable[[int], float]


def constant(lr: float, settings: Mapping[str, Any]) -> Schedule:
    """Return a schedule that never changes."""
    return lambda step: lr


def step_decay(lr: float, settings: Mapping[str, Any]) -> Schedule:
    """Return a schedule multiplied by `factor` at each milestone; several may fall on one update."""
    milestones, factor = tuple(settings["milestones"]), float(settings["factor"])
    return lambda step: lr * factor ** sum(step >= milestone for milestone in milestones)


SCHEDULES: dict[str, Callable[[float, Mapping[str, Any]], Schedule]] = {"constant": constant, "step": step_decay}


def make_schedule(lr: float, settings: Mapping[str, Any]) -> Schedule:
    """Return the function update -> learning rate that the config's `schedule` block describes."""
    return SCHEDULES[settings["name"]](lr, settings)
