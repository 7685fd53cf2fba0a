"""Schedules: closed forms, and their bounds for any setting."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgdline.train.schedules import Schedule, make_schedule


def schedule(name: str, *, lr: float = 1.0, steps: int = 100, **options: Any) -> Schedule:
    return make_schedule(lr, {"name": name, name: options, "milestones": [], "factor": 0.1}, steps=steps)


def test_a_cycle_is_a_triangle() -> None:
    rates = [schedule("cyclical", lr=2.0, lowest=0.1, period=4)(t) for t in range(9)]
    assert rates == pytest.approx([0.2, 1.1, 2.0, 1.1, 0.2, 1.1, 2.0, 1.1, 0.2])
    # Of an odd period no update is in the middle; the two beside it are alike.
    assert [schedule("cyclical", lowest=0.0, period=5)(t) for t in range(6)] == pytest.approx(
        [0, 0.4, 0.8, 0.8, 0.4, 0]
    )


def test_a_trapezoid_rises_stays_and_falls() -> None:
    rates = [schedule("trapezoid", lr=4.0, steps=9, warmup=4, cooldown=2)(t) for t in range(10)]
    assert rates == pytest.approx([1, 2, 3, 4, 4, 4, 4, 4, 2, 0])  # 0 behind the last update


def test_a_trapezoid_may_lack_either_end() -> None:
    assert [schedule("trapezoid", steps=4, warmup=0, cooldown=4)(t) for t in range(4)] == pytest.approx(
        [1, 0.75, 0.5, 0.25]
    )
    assert [schedule("trapezoid", steps=4, warmup=2, cooldown=0)(t) for t in range(4)] == pytest.approx([0.5, 1, 1, 1])


@given(st.data())
def test_a_cycle_repeats_and_stays_within_its_bounds(data: st.DataObject) -> None:
    period, lowest = data.draw(st.integers(2, 200)), data.draw(st.floats(0, 0.99))
    step = data.draw(st.integers(0, 10_000))
    rate = schedule("cyclical", lr=0.3, lowest=lowest, period=period)
    assert rate(step) == rate(step + period)
    assert 0.3 * lowest * (1 - 1e-9) <= rate(step) <= 0.3 * (1 + 1e-9)
    phase = step % period
    assert rate(step) == pytest.approx(rate(period - phase))  # the fall mirrors the rise


@given(st.data())
def test_a_trapezoid_turned_round_is_one_with_its_ends_exchanged(data: st.DataObject) -> None:
    steps = data.draw(st.integers(1, 300))
    warmup = data.draw(st.integers(0, steps))
    cooldown = data.draw(st.integers(0, steps - warmup))
    rate = schedule("trapezoid", lr=0.3, steps=steps, warmup=warmup, cooldown=cooldown)
    other = schedule("trapezoid", lr=0.3, steps=steps, warmup=cooldown, cooldown=warmup)
    rates = [rate(step) for step in range(steps)]
    assert rates == [other(steps - 1 - step) for step in range(steps)]
    assert rates.count(0.3) >= steps - warmup - cooldown
    assert 0 < min(rates) <= max(rates) == 0.3
