"""Equivalent learning rates: closed forms, and everything that has none."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgdline.analysis.equivalent_lr import EquivalentRate, equivalent_rate, over_seeds, predicted_rate

RATES = [0.03, 0.3, 0.1, 0.01]


@given(st.floats(0.0101, 0.2999), st.floats(-3, 3).filter(lambda slope: abs(slope) > 1e-3))
def test_a_straight_line_over_the_logarithm_is_inverted_exactly(lr: float, slope: float) -> None:
    losses = 2.0 + slope * np.log(RATES)
    found = equivalent_rate(RATES, losses, 2.0 + slope * math.log(lr))
    assert found.status == "ok"
    assert found.lr == pytest.approx(lr, rel=1e-9)
    assert found.lower <= lr * (1 + 1e-9)
    assert lr <= found.upper * (1 + 1e-9)
    ladder = sorted(RATES)
    assert ladder.index(found.upper) == ladder.index(found.lower) + 1


def test_between_two_rates_the_curve_is_linear_in_the_logarithm() -> None:
    found = equivalent_rate([0.1, 0.4], [1.0, 3.0], 2.0)
    assert found == EquivalentRate(pytest.approx(0.2), 0.1, 0.4, "ok")
    quarter = equivalent_rate([0.4, 0.1], [3.0, 1.0], 1.5)
    assert quarter.lr == pytest.approx(0.1 * 4**0.25)


@pytest.mark.parametrize("rate", RATES)
def test_the_loss_of_a_measured_rate_gives_that_rate_once(rate: float) -> None:
    found = equivalent_rate(RATES, RATES, rate)
    assert found.status == "ok"
    assert found.lr == pytest.approx(rate, rel=1e-12)


def test_nothing_is_extrapolated() -> None:
    for loss, status in ((0.005, "below"), (0.31, "above")):
        found = equivalent_rate(RATES, RATES, loss)
        assert found.status == status
        assert all(math.isnan(value) for value in (found.lr, found.lower, found.upper))


def test_of_several_crossings_the_largest_rate_counts() -> None:
    # Too small a rate does not arrive: the curve is 4, 1, 2, 4.
    found = equivalent_rate([0.01, 0.1, 0.2, 0.4], [4.0, 1.0, 2.0, 4.0], 3.0)
    assert found == EquivalentRate(pytest.approx(0.2 * 2**0.5), 0.2, 0.4, "several")
    # A minimum that is just touched is one crossing.
    assert equivalent_rate([0.1, 0.2, 0.4], [2.0, 1.0, 2.0], 1.0).status == "ok"
    level = equivalent_rate([0.1, 0.2, 0.4], [1.0, 1.0, 2.0], 1.0)
    assert (level.lr, level.status) == (pytest.approx(0.2), "ok")


def test_runs_that_diverged_are_left_out() -> None:
    found = equivalent_rate([0.1, 0.2, 0.4, 0.8], [1.0, math.nan, 3.0, math.inf], 2.0)
    assert found == EquivalentRate(pytest.approx(0.2), 0.1, 0.4, "ok")
    assert equivalent_rate([0.1, 0.2], [1.0, math.nan], 1.0).status == "too_few"
    assert equivalent_rate([0.1, 0.2], [1.0, 2.0], math.nan).status == "non_finite"


@pytest.mark.parametrize("rates", [[0.1, 0.1], [0.0, 0.1], [0.1]])
def test_misuse_is_refused(rates: list[float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        equivalent_rate(rates, [1.0, 2.0], 1.5)


def test_over_seeds_the_mean_is_that_of_the_logarithms() -> None:
    found = [
        EquivalentRate(0.1, 0.05, 0.2, "ok"),
        EquivalentRate(0.4, 0.2, 0.5, "several"),
        EquivalentRate(math.nan, math.nan, math.nan, "below"),
    ]
    together = over_seeds(found)
    assert together.lr == pytest.approx(0.2)
    assert together.spread == pytest.approx(math.exp(math.log(4) / math.sqrt(2)))  # two values log(4) apart
    assert (together.lower, together.upper) == (0.05, 0.5)
    assert (together.found, together.seeds) == (2, 3)
    assert together.statuses == {"ok": 1, "several": 1, "below": 1}
    alone = over_seeds(found[:1])
    assert alone.lr == pytest.approx(0.1)
    assert math.isnan(alone.spread)
    assert math.isnan(over_seeds(found[2:]).lr)


def test_the_models_rates_are_those_of_the_table() -> None:
    # papers.md 3.2, numeric check: b = 0.95, k = 50, c = 4; last column.
    for a, ema, two, swa in ((0.02, 0.0144, 0.0137, 0.0147), (0.1, 0.0339, 0.0515, 0.0319), (1.5, 0.0533, 1.2, 0.0402)):
        assert predicted_rate("ema", 0.95, lr=a, relative_lr=a) == pytest.approx(ema, abs=6e-5)
        assert predicted_rate("two_point", 50, lr=a, relative_lr=a) == pytest.approx(two, abs=6e-5)
        assert predicted_rate("swa", 50, lr=a, relative_lr=a) == pytest.approx(swa, abs=6e-5)
    # Two far points: 2a/(4 - a), and lr' scales with lr at fixed a. k = 50, c = 4 at a = 0.1: variance 0.00484.
    assert predicted_rate("two_point", 10_000, lr=0.3, relative_lr=0.1) == pytest.approx(0.3 * 2 / 3.9)
    spaced = predicted_rate("swa", 50, lr=0.1, relative_lr=0.1, spacing=4)
    assert spaced / (2 - spaced) == pytest.approx(0.00484, abs=6e-6)
    with pytest.raises(ValueError, match="average must be"):
        predicted_rate("median", 3, lr=0.1, relative_lr=0.1)
