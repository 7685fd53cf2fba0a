"""The quadratic model (papers.md 3.2): its table, its limits, and sums over the autocorrelation written out."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgdline import quadratic_model as model
from sgdline.equivalent_steps import ema_weights, equivalent_steps, swa_weights, two_point_weights

RATES = np.array([0.02, 0.1, 0.5, 1.0, 1.5])
STABLE = st.floats(1e-3, 1.99)


def averaged(weights: np.ndarray, relative_lr: float, momentum: float = 0.0) -> float:
    """Return the variance of sum_i w_i e_i in units of sigma^2, e_i stationary, by the double sum over pairs."""
    correlations = naive_correlations(relative_lr, momentum, len(weights))
    places = np.arange(len(weights))
    variance = relative_lr**2 * float(np.sum(impulse(relative_lr, momentum, 20_000) ** 2))
    return variance * float(weights @ correlations[abs(places[:, None] - places)] @ weights)


def impulse(relative_lr: float, momentum: float, updates: int) -> np.ndarray:
    """Return what one minimiser leaves of itself, over a: the run of e with a single xi = 1/a."""
    found, velocity, position = np.empty(updates), 0.0, 0.0
    for update in range(updates):
        velocity = momentum * velocity + position - (1.0 / relative_lr if update == 0 else 0.0)
        position -= relative_lr * velocity
        found[update] = position
    return found


def naive_correlations(relative_lr: float, momentum: float, count: int) -> np.ndarray:
    response = impulse(relative_lr, momentum, 20_000)
    covariances = [response[: len(response) - lag] @ response[lag:] for lag in range(count)]
    return np.array(covariances) / covariances[0]


def test_the_table_of_the_paper_summary() -> None:
    """Theory columns of papers.md 3.2, to their digits."""
    variances = model.stationary_variance(RATES, 1.0)
    ema = model.ema_variance(RATES, 1.0, decay=0.95)
    two = model.two_point_variance(RATES, 1.0, distance=50)
    swa = model.swa_variance(RATES, 1.0, count=50)
    spaced = model.swa_variance(RATES, 1.0, count=50, spacing=4)
    assert variances == pytest.approx([0.01010, 0.05263, 0.33333, 1.0, 3.0], abs=6e-6)
    assert ema == pytest.approx([0.00725, 0.01727, 0.02401, 0.02564, 0.02738], abs=6e-6)
    assert two == pytest.approx([0.00689, 0.02645, 0.16667, 0.5, 1.5], abs=6e-6)
    assert swa == pytest.approx([0.00741, 0.01623, 0.01947, 0.02, 0.02053], abs=6e-6)
    assert spaced == pytest.approx([0.00379, 0.00484, 0.00754, 0.02, 0.06783], abs=6e-6)
    equivalent = [model.equivalent_relative_lr(values, 1.0) for values in (ema, two, swa)]
    assert equivalent[0] == pytest.approx([0.0144, 0.0339, 0.0469, 0.05, 0.0533], abs=6e-5)
    assert equivalent[1] == pytest.approx([0.0137, 0.0515, 0.2857, 0.6667, 1.2], abs=6e-5)
    assert equivalent[2] == pytest.approx([0.0147, 0.0319, 0.0382, 0.0392, 0.0402], abs=6e-5)
    momentum = model.momentum_variance([0.02, 0.1, 0.5], 1.0, momentum=[0.9, 0.9, 0.5])
    assert momentum == pytest.approx([0.10053, 0.51351, 0.6], abs=6e-6)


def test_the_spectrum_of_the_paper_summary() -> None:
    eigenvalues = np.geomspace(1e-3, 10.0, 30)
    a, noise = 0.15 * eigenvalues, 1.0 / eigenvalues

    def excess(variances: np.ndarray) -> float:
        return float(model.excess_loss(eigenvalues, variances))

    assert excess(model.stationary_variance(a, noise)) == pytest.approx(3.078, abs=6e-4)
    assert excess(model.stationary_variance(a, noise)) == pytest.approx(0.5 * np.sum(a / (2 - a)), rel=1e-12)  # F11
    two = excess(model.two_point_variance(a, noise, distance=2000))
    assert two == pytest.approx(1.539, abs=6e-4)
    assert excess(model.ema_variance(a, noise, decay=0.999)) == pytest.approx(0.00579, abs=6e-6)
    # As good as 0.72 of the learning rate, not one half: steep directions dominate.
    assert excess(model.stationary_variance(0.72 * a, noise)) == pytest.approx(two, rel=0.02)


@pytest.mark.parametrize("relative_lr", [0.01, 0.3, 1.0, 1.7])
@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_variances_are_double_sums_over_the_autocorrelation(relative_lr: float, momentum: float) -> None:
    reach = 2000
    mean = np.full(5, 0.2)
    spaced = swa_weights(4, 20, spacing=3)
    two = two_point_weights(7, 20)
    ema = ema_weights(0.9, reach)[1:]  # what is older weighs 1e-92
    wanted = [averaged(weights, relative_lr, momentum) for weights in (np.ones(1), mean, spaced, two, ema)]
    averages = [
        model.Average("iterate"),
        model.Average("swa", count=5, spacing=1),
        model.Average("swa", count=4, spacing=3),
        model.Average("two_point", count=2, spacing=7),
        model.Average("ema", decay=0.9),
    ]
    found = [float(average.variance(relative_lr, momentum=momentum)) for average in averages]
    assert found == pytest.approx(wanted, rel=1e-9)
    distance = model.momentum_two_point_variance(relative_lr, 1.0, momentum=momentum, distance=7)
    assert float(distance) == pytest.approx(wanted[3], rel=1e-9)
    if momentum == 0.0:
        assert float(model.two_point_variance(relative_lr, 1.0, distance=7)) == pytest.approx(wanted[3], rel=1e-9)
        for place, count, spacing in ((1, 5, 1), (2, 4, 3)):
            with_momentum = model.momentum_swa_variance(relative_lr, 1.0, momentum=0.0, count=count, spacing=spacing)
            assert float(with_momentum) == pytest.approx(wanted[place], rel=1e-9)
        assert float(model.momentum_ema_variance(relative_lr, 1.0, momentum=0.0, decay=0.9)) == pytest.approx(wanted[4])
    correlations = model.momentum_autocorrelation(relative_lr, momentum=momentum, lags=30)
    np.testing.assert_allclose(correlations, naive_correlations(relative_lr, momentum, 31), atol=1e-9)


@given(STABLE, st.floats(0.0, 0.999), st.integers(1, 200), st.integers(1, 20))
def test_averages_never_vary_more_than_the_iterate(relative_lr: float, decay: float, count: int, spacing: int) -> None:
    whole = float(model.stationary_variance(relative_lr, 1.0)) * (1.0 + 1e-12)
    assert float(model.ema_variance(relative_lr, 1.0, decay=decay)) <= whole
    assert 0.0 <= float(model.swa_variance(relative_lr, 1.0, count=count, spacing=spacing)) <= whole
    assert 0.0 <= float(model.two_point_variance(relative_lr, 1.0, distance=count)) <= whole


@given(st.floats(1e-6, 1.999), st.floats(1e-6, 1e6))
def test_the_equivalent_learning_rate_inverts_the_stationary_variance(relative_lr: float, noise: float) -> None:
    variance = model.stationary_variance(relative_lr, noise)
    assert float(model.equivalent_relative_lr(variance, noise)) == pytest.approx(relative_lr, rel=1e-9)


@pytest.mark.parametrize("relative_lr", [0.0, 1e-14, 1e-9, 1e-6, 9e-6, 1e-4, 1e-3, 1.0, 2 - 1e-6])
@pytest.mark.parametrize(("count", "spacing"), [(1, 1), (2, 1), (3, 2), (5, 1), (6, 3), (40, 2)])
def test_swa_keeps_its_digits_near_both_ends(relative_lr: float, count: int, spacing: int) -> None:
    """The bracket of F4 is a small difference of large numbers there; the sum over pairs is not."""
    correlation = np.power(1.0 - relative_lr, spacing * np.abs(np.subtract.outer(range(count), range(count))))
    wanted = relative_lr / (2.0 - relative_lr) * correlation.mean()
    assert float(model.swa_variance(relative_lr, 1.0, count=count, spacing=spacing)) == pytest.approx(wanted, rel=1e-9)


def test_degenerate_averages() -> None:
    whole = model.stationary_variance(RATES, 2.0)
    np.testing.assert_array_equal(model.ema_variance(RATES, 2.0, decay=0.0), whole)
    np.testing.assert_allclose(model.swa_variance(RATES, 2.0, count=1, spacing=7), whole, rtol=1e-14)
    np.testing.assert_array_equal(model.two_point_variance(RATES, 2.0, distance=0), whole)
    # a = 1: iterates are the minimisers themselves.
    assert float(model.swa_variance(1.0, 2.0, count=8)) == 0.25
    assert float(model.two_point_variance(1.0, 2.0, distance=1)) == 1.0
    assert float(model.ema_variance(1.0, 1.0, decay=0.9)) == pytest.approx(0.1 / 1.9)
    assert float(model.autocorrelation(1.0, lag=0)) == 1.0
    assert float(model.autocorrelation(1.0, lag=1)) == 0.0
    # Odd distances above a = 1 gain more than half.
    assert float(model.two_point_variance(1.9, 1.0, distance=1)) < 0.1 * float(model.stationary_variance(1.9, 1.0))
    # Nothing moves without a step: no variance, whatever is averaged.
    for average in (
        model.Average("iterate"),
        model.Average("ema", decay=0.9),
        model.Average("swa", count=5, spacing=2),
    ):
        assert float(average.variance(0.0)) == 0.0
    # Wide means of independent samples: sigma^2/k whatever the step.
    np.testing.assert_allclose(model.swa_variance(RATES[1:], 1.0, count=10**6), 1e-6, rtol=2e-5)


@pytest.mark.parametrize(
    "variance",
    [
        lambda a: model.stationary_variance(a, 1.0),
        lambda a: model.ema_variance(a, 1.0, decay=0.9),
        lambda a: model.swa_variance(a, 1.0, count=3, spacing=2),
        lambda a: model.two_point_variance(a, 1.0, distance=4),
        lambda a: model.transient_variance(a, 1.0, updates=3),
        lambda a: model.variance_after_step(a, 1.0, step=0.1),
        lambda a: model.epochwise_variance(a, 1.0, batches_per_epoch=5),
        lambda a: model.momentum_variance(a, 1.0, momentum=0.0),
    ],
)
def test_without_a_stationary_state_there_is_no_value(variance: Callable[[np.ndarray], np.ndarray]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = variance(np.array([-0.5, 0.5, 2.0, 3.0, np.nan, np.inf, 2 - 1e-9]))
    assert np.isnan(found).tolist() == [True, False, True, True, True, True, False]


def test_momentum_is_stable_further_out() -> None:
    found = model.momentum_variance(np.array([1.9, 2.5, 2.99, 3.0]), 1.0, momentum=0.5)
    assert np.isnan(found).tolist() == [False, False, False, True]
    ends = model.momentum_two_point_variance(np.array([2.5, 3.0]), 1.0, momentum=0.5, distance=3)
    assert np.isnan(ends).tolist() == [False, True]


@pytest.mark.parametrize(
    "call",
    [
        lambda: model.ema_variance(0.1, 1.0, decay=1.0),
        lambda: model.ema_variance(0.1, 1.0, decay=-0.1),
        lambda: model.swa_variance(0.1, 1.0, count=0),
        lambda: model.swa_variance(0.1, 1.0, count=2, spacing=0),
        lambda: model.swa_variance(0.1, 1.0, count=2.5),
        lambda: model.two_point_variance(0.1, 1.0, distance=-1),
        lambda: model.momentum_variance(0.1, 1.0, momentum=1.0),
        lambda: model.epochwise_variance(0.1, 1.0, batches_per_epoch=1),
        lambda: model.epochwise_variance(0.1, 1.0, batches_per_epoch=5, updates=6),
    ],
)
def test_misuse_is_told(call: Callable[[], object]) -> None:
    with pytest.raises(
        ValueError, match=r"^(decay|count|spacing|distance|momentum|batches_per_epoch|updates) must be "
    ):
        call()


def test_everything_broadcasts() -> None:
    rates, noise = RATES[:, None], np.array([1.0, 2.0, 0.0])
    for found in (
        model.stationary_variance(rates, noise),
        model.ema_variance(rates, noise, decay=np.array([0.1, 0.5, 0.9])),
        model.swa_variance(rates, noise, count=np.array([1, 5, 9]), spacing=np.array([4, 1, 2])),
        model.two_point_variance(rates, noise, distance=np.array([0, 1, 50])),
        model.momentum_swa_variance(rates, noise, momentum=0.5, count=4),
        model.epochwise_variance(rates, noise, batches_per_epoch=6),
    ):
        assert found.shape == (5, 3)
        assert (found[:, 2] == 0.0).all()
    several = model.two_point_variance(0.3, 1.0, distance=np.arange(6))
    assert several == pytest.approx([float(model.two_point_variance(0.3, 1.0, distance=k)) for k in range(6)])


def test_limits_of_the_averages() -> None:
    a, decay = 1e-4, 1 - 1e-4
    harmonic = model.equivalent_relative_lr(model.ema_variance(a, 1.0, decay=decay), 1.0)
    assert 1.0 / harmonic == pytest.approx(1 / a + 1 / (1 - decay), rel=1e-3)  # F3: time scales add up
    far = model.equivalent_relative_lr(model.two_point_variance(0.3, 1.0, distance=10_000), 1.0)
    assert float(far) == pytest.approx(2 * 0.3 / (4 - 0.3), rel=1e-12)  # F6


# -- transient, one more step, best schedule -------------------------------------------------------------------------


@pytest.mark.parametrize("relative_lr", [0.05, 1.0, 1.6])
def test_the_transient_follows_its_recursion(relative_lr: float) -> None:
    mean, variance = 3.0, 0.7
    for update in range(12):
        assert float(model.transient_mean(relative_lr, 3.0, updates=update)) == pytest.approx(mean, abs=1e-12)
        found = model.transient_variance(relative_lr, 2.0, updates=update, start_variance=0.7)
        assert float(found) == pytest.approx(variance, rel=1e-12)
        mean, variance = (1 - relative_lr) * mean, (1 - relative_lr) ** 2 * variance + relative_lr**2 * 2.0
    assert float(model.transient_mean(2.5, 1.0, updates=3)) == pytest.approx(-3.375)  # grows beyond 2


@pytest.mark.parametrize("relative_lr", [0.1, 0.5, 1.2])
def test_one_more_step(relative_lr: float) -> None:
    steps = np.linspace(0.0, 1.5, 3001)
    held_out = model.variance_after_step(relative_lr, 1.0, step=steps)
    own = model.own_batch_variance_after_step(relative_lr, 1.0, step=steps)
    assert steps[held_out.argmin()] == pytest.approx(relative_lr / 2)
    assert held_out.min() == pytest.approx(relative_lr / 2)
    assert steps[own.argmin()] == pytest.approx(1.0)
    unchanged = float(model.variance_after_step(relative_lr, 1.0, step=relative_lr))
    assert unchanged == pytest.approx(float(model.stationary_variance(relative_lr, 1.0)))
    # By simulation: a stationary point and a batch of its own.
    generator = np.random.default_rng(5)
    points = generator.normal(scale=np.sqrt(relative_lr / (2 - relative_lr)), size=200_000)
    minimisers = generator.normal(size=200_000)
    for step in (0.05, relative_lr, 1.0):
        after = points - step * (points - minimisers)
        wanted = float(model.variance_after_step(relative_lr, 1.0, step=step))
        assert np.mean(after**2) == pytest.approx(wanted, rel=0.02)
        wanted = float(model.own_batch_variance_after_step(relative_lr, 1.0, step=step))
        assert np.mean((after - minimisers) ** 2) == pytest.approx(wanted, rel=0.02, abs=1e-12)


def test_no_step_is_better_than_that_of_the_best_schedule() -> None:
    variance = 5.0
    for update in range(20):
        steps, variances = model.best_schedule(5.0, 2.0, updates=update)
        assert float(variances) == pytest.approx(variance, rel=1e-12)
        tried = np.append(np.linspace(0.0, 2.0, 401), steps)
        after = (1 - tried) ** 2 * variance + tried**2 * 2.0
        assert after[-1] <= after.min() * (1 + 1e-12)
        variance = after[-1]
    assert float(model.best_schedule(0.0, 1.0, updates=3)[0]) == 0.0


# -- shells, pairs, epochs -------------------------------------------------------------------------------------------


def test_shells() -> None:
    stationary = np.geomspace(0.1, 10.0, 40)
    assert model.shell_radius(stationary, stationary) == pytest.approx((40.0, np.sqrt(80.0)))
    two = model.two_point_variance(0.5, 3.0, distance=200) * np.ones(40)
    assert model.shell_radius(two, model.stationary_variance(0.5, 3.0) * np.ones(40))[0] == pytest.approx(20.0)
    generator = np.random.default_rng(0)
    variances = stationary * generator.uniform(0.1, 1.0, size=40)
    squares = (generator.normal(size=(40_000, 40)) ** 2 * variances / stationary).sum(axis=1)
    radius, deviation = model.shell_radius(variances, stationary)
    assert squares.mean() == pytest.approx(radius, rel=0.01)
    assert squares.std() == pytest.approx(deviation, rel=0.02)


def test_two_runs() -> None:
    rates = np.array([0.05, 0.8, 1.5])
    generator = np.random.default_rng(1)
    one, other = np.ones((20_000, 3)), np.ones((20_000, 3))
    same = np.zeros(3), np.array([2.0, -1.0, 0.5])
    for update in range(1, 21):
        one += rates * (generator.normal(size=one.shape) - one)
        other += rates * (generator.normal(size=other.shape) - other)
        minimisers = generator.normal(size=3)
        same = same[0] + rates * (minimisers - same[0]), same[1] + rates * (minimisers - same[1])
        apart = model.same_batches_distance(rates, [2.0, -1.0, 0.5], updates=update)
        np.testing.assert_allclose(
            (same[1] - same[0]) ** 2, apart, rtol=1e-9, atol=1e-20
        )  # the difference of both rounds
    wanted = model.different_batches_distance(rates, 1.0, updates=20)
    np.testing.assert_allclose(((one - other) ** 2).mean(axis=0), wanted, rtol=0.05)
    limit = model.different_batches_distance(rates, 1.0, updates=10_000, start_difference=7.0)
    np.testing.assert_allclose(limit, 2 * model.stationary_variance(rates, 1.0), rtol=1e-12)


@pytest.mark.parametrize("relative_lr", [1e-5, 0.002, 0.3, 1.0, 1.8])
@pytest.mark.parametrize("batches", [2, 3, 7])
def test_epochs_without_replacement_by_their_covariance_matrix(relative_lr: float, batches: int) -> None:
    covariance = (batches * np.eye(batches) - 1.0) / (batches - 1.0)  # of the minimisers of one epoch, in any order
    np.testing.assert_allclose(covariance.sum(axis=0), 0.0, atol=1e-12)
    kept = 1.0 - relative_lr

    def added(updates: int) -> float:
        weights = relative_lr * kept ** np.arange(updates - 1.0, -1.0, -1.0)
        return float(weights @ covariance[:updates, :updates] @ weights)

    ends = added(batches) / (1.0 - kept ** (2 * batches))
    wanted = [kept ** (2 * updates) * ends + added(updates) for updates in range(batches + 1)]
    found = [
        float(model.epochwise_variance(relative_lr, 1.0, batches_per_epoch=batches, updates=updates))
        for updates in range(batches + 1)
    ]
    assert found == pytest.approx(wanted, rel=1e-6)
    assert found[0] == pytest.approx(found[-1])  # the next epoch begins where this one ends
    mean = float(model.epochwise_variance(relative_lr, 1.0, batches_per_epoch=batches))
    assert mean == pytest.approx(np.mean(wanted[1:]), rel=1e-6)


def test_the_caveat_of_the_paper_summary() -> None:
    found = model.epochwise_variance([0.002, 0.02, 0.2], 1.0, batches_per_epoch=100)
    assert found == pytest.approx([6.4e-5, 4.4e-3, 0.1026], rel=0.01)
    # With a new set of many batches nothing is taken twice, and F2 holds.
    many = model.epochwise_variance(0.3, 1.0, batches_per_epoch=20_000, updates=10_000)
    assert float(many) == pytest.approx(float(model.stationary_variance(0.3, 1.0)), rel=1e-3)


@pytest.mark.parametrize("relative_lr", [0.05, 0.3, 1.4])
def test_the_schedule_of_an_average_reaches_its_variance(relative_lr: float) -> None:
    """F7 and F3 to F5 belong together: the schedule's steps give the average's variance."""
    cases = [
        (ema_weights(0.9, 2000), model.ema_variance(relative_lr, 1.0, decay=0.9)),
        (swa_weights(30, 2000), model.swa_variance(relative_lr, 1.0, count=30)),
        (swa_weights(10, 2000, spacing=4), model.swa_variance(relative_lr, 1.0, count=10, spacing=4)),
        (two_point_weights(25, 2000), model.two_point_variance(relative_lr, 1.0, distance=25)),
    ]
    for weights, wanted in cases:
        variance = 0.0
        for step in equivalent_steps(weights, relative_lr):
            variance = (1 - step) ** 2 * variance + step**2
        assert variance == pytest.approx(float(wanted), rel=1e-9)
