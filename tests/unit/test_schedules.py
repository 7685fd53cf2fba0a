"""Schedules: closed forms, and their bounds for any setting."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgdline.declare.build import build_thing
from sgdline.errors import SgdlineError
from sgdline.train.schedules.base import Rates, Schedule


def schedule(name: str, *, lr: float = 1.0, steps: int = 100, **options: Any) -> Rates:
    made: Schedule = build_thing("schedule", {"name": name, **options}, tag="name")
    return made.rates(lr, steps=steps)


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


def _averages(iterates: list[np.ndarray], average: str, parameter: float, spacing: int) -> np.ndarray:
    """Return an average of x_0 to x_T by its own definition."""
    if average == "ema":
        mean = iterates[0]
        for iterate in iterates[1:]:
            mean = parameter * mean + (1 - parameter) * iterate
        return mean
    if average == "swa":
        return np.mean(iterates[::-1][: (int(parameter) - 1) * spacing + 1 : spacing], axis=0)
    return (iterates[-1] + iterates[-1 - int(parameter)]) / 2


@pytest.mark.parametrize(
    ("average", "parameter", "spacing"),
    [("ema", 0.97, 1), ("ema", 0.5, 1), ("swa", 60, 1), ("swa", 12, 7), ("two_point", 60, 1), ("two_point", 1, 1)],
)
@pytest.mark.parametrize("relative_lr", [0.05, 0.3, 1.0])
def test_the_last_iterate_of_the_equivalent_schedule_is_the_average(
    average: str, parameter: float, spacing: int, relative_lr: float
) -> None:
    """Linear regression on batches whose inputs all have the same covariance: one eigenvalue, many minimisers."""
    rng = np.random.default_rng(1)
    steps, curvature = 200, 2.5
    lr = relative_lr / curvature
    block = {"average": average, "parameter": parameter, "spacing": spacing, "relative_lr": relative_lr}
    scheduled = schedule("equivalent", lr=lr, steps=steps, **block)
    orthogonal = [np.linalg.qr(rng.standard_normal((4, 3)))[0] * np.sqrt(4 * curvature) for _ in range(steps)]
    answers = rng.standard_normal((steps, 4))

    def descend(rate: Rates) -> list[np.ndarray]:
        path = [np.full(3, 5.0)]
        for step, (inputs, targets) in enumerate(zip(orthogonal, answers, strict=True)):
            gradient = inputs.T @ (inputs @ path[-1] - targets) / len(targets)
            path.append(path[-1] - rate(step) * gradient)
        return path

    expected = _averages(descend(schedule("constant", lr=lr)), average, parameter, spacing)
    np.testing.assert_allclose(descend(scheduled)[-1], expected, rtol=0, atol=1e-12)
    rates = [scheduled(step) for step in range(steps)]
    assert min(rates) >= 0
    assert max(rates) <= lr / relative_lr * (1 + 1e-12)


def test_steps_that_leave_their_bounds_are_refused() -> None:
    block = {"average": "two_point", "parameter": 3, "spacing": 1, "relative_lr": 1.9}
    with pytest.raises(SgdlineError, match=r"must lie in \[0, 2\], got .* at update \d+ for the average two_point"):
        schedule("equivalent", steps=40, **block)
    with pytest.raises(SgdlineError, match="long enough"):
        schedule("equivalent", steps=2, **block | {"relative_lr": 0.5})
