"""Averages of SGD's iterates and the schedules whose last iterate they are (papers.md F7)."""

from __future__ import annotations

import numpy as np
import pytest

from sgdline.equivalent_steps import (
    ema_step,
    ema_weights,
    equivalent_steps,
    swa_step,
    swa_weights,
    two_point_step,
    two_point_weights,
)


def iterates(start: float, minimisers: np.ndarray, steps: np.ndarray) -> np.ndarray:
    found = [start]
    for minimiser, step in zip(minimisers, steps, strict=True):
        found.append(found[-1] - step * (found[-1] - minimiser))
    return np.array(found)


@pytest.mark.parametrize("relative_lr", [0.02, 0.05, 0.3, 1.0, 1.4])
@pytest.mark.parametrize("average", ["ema", "swa", "swa4", "two_point"])
@pytest.mark.parametrize("steps", [60, 400])
def test_the_last_iterate_of_the_schedule_is_the_average(relative_lr: float, average: str, steps: int) -> None:
    minimisers = np.random.default_rng(3).normal(size=steps)
    weights = {
        "ema": ema_weights(0.97, steps),
        "swa": swa_weights(60, steps),
        "swa4": swa_weights(15, steps, spacing=4),
        "two_point": two_point_weights(60, steps),
    }[average]
    constant = iterates(2.5, minimisers, np.full(steps, relative_lr))
    schedule = equivalent_steps(weights, relative_lr)
    assert np.isfinite(schedule).all()
    assert iterates(2.5, minimisers, schedule)[-1] == pytest.approx(weights @ constant, abs=1e-12)


def test_weights_are_those_of_the_averages() -> None:
    values = np.random.default_rng(0).normal(size=101)
    average = values[0]
    for value in values[1:]:
        average = 0.9 * average + 0.1 * value
    assert ema_weights(0.9, 100) @ values == pytest.approx(average, abs=1e-14)
    assert swa_weights(5, 100, spacing=3) @ values == pytest.approx(values[[88, 91, 94, 97, 100]].mean(), abs=1e-14)
    assert two_point_weights(7, 100) @ values == pytest.approx((values[100] + values[93]) / 2, abs=1e-14)
    with pytest.raises(ValueError, match="at least 140"):
        swa_weights(15, 100, spacing=10)


@pytest.mark.parametrize("relative_lr", [0.03, 0.05, 0.3, 0.9, 1.4])
def test_closed_forms_are_the_steps_after_a_long_history(relative_lr: float) -> None:
    steps, shown = 3000, 200
    cases = [
        (ema_weights(0.97, steps), lambda m: ema_step(relative_lr, 0.97, m)),  # 1 - 0.03: both rates equal
        (swa_weights(60, steps), lambda m: swa_step(relative_lr, 60, m)),
        (two_point_weights(60, steps), lambda m: two_point_step(relative_lr, 60, m)),
    ]
    for weights, closed in cases:
        found = equivalent_steps(weights, relative_lr)[::-1][:shown]
        assert found == pytest.approx([closed(m) for m in range(shown)], rel=1e-10, abs=1e-12)


def test_ends_of_the_schedules() -> None:
    assert ema_step(0.3, 0.9, 0) == pytest.approx(0.3 * 0.1)
    assert [ema_step(a, 0.9, 5000) for a in (0.3, 0.05)] == pytest.approx([0.1, 0.05])
    assert [ema_step(1.0, 0.9, m) for m in range(5)] == pytest.approx([0.1] * 5)
    assert swa_step(0.3, 50, 0) == pytest.approx(0.3 / 50)
    assert [swa_step(1.0, 50, m) for m in range(50)] == pytest.approx([1 / (50 - m) for m in range(50)])
    assert two_point_step(0.3, 50, 0) == pytest.approx(0.15)
    assert two_point_step(0.3, 50, 49) < 1e-7
    assert two_point_step(0.3, 50, 50) == 0.3


def test_above_a_step_of_1_weights_may_be_negative_and_steps_leave_the_unit_interval() -> None:
    found = equivalent_steps(two_point_weights(3, 200), 1.6)
    assert found.min() < 0.0 or found.max() > 1.0


@pytest.mark.parametrize("relative_lr", [0.02, 0.3, 0.5])
def test_long_runs_do_not_end_in_the_smallest_numbers(relative_lr: float) -> None:
    """Far back r^m is below the smallest float64: the closed forms still hold."""
    steps = 40_000
    remaining = np.arange(steps - 1, -1, -1)
    for weights, closed in (
        (swa_weights(50, steps), swa_step(relative_lr, 50, steps)),
        (two_point_weights(50, steps), two_point_step(relative_lr, 50, steps)),
    ):
        found = equivalent_steps(weights, relative_lr)
        np.testing.assert_allclose(found[remaining >= 50], closed, rtol=1e-12)
    found = equivalent_steps(ema_weights(0.999, steps), relative_lr)
    expected = [ema_step(relative_lr, 0.999, int(left)) for left in remaining]
    # The first update's share of x_0 is small by then; a = 0.02 is the slowest.
    np.testing.assert_allclose(found, expected, rtol=1e-9)
