"""Sparsity of features against a scan that deletes one row and column at a time, and against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sgdline.sparsity import (
    active_share,
    effective_rank,
    nuclear_norm,
    numerical_rank,
    pattern_distance,
    sparsity_coefficient,
)

Array = NDArray[np.float64]


def naive(activations: Array, *, threshold: float, normalize_rows: bool = False) -> float:
    """Return the coefficient by the five steps of papers.md S-M6, written down as they stand there."""
    phi = np.array(activations, dtype=float)
    n, m = phi.shape
    if normalize_rows:
        for row in phi:
            length = math.sqrt(math.fsum(value * value for value in row))
            if length:
                row /= length
    phi = phi[:, [j for j in range(m) if any(phi[:, j] != 0)]]
    units = phi.shape[1]
    correlation = np.zeros((units, units))
    for i in range(units):
        for j in range(units):
            if i == j or np.ptp(phi[:, i]) < 1e-13 or np.ptp(phi[:, j]) < 1e-13:
                continue
            correlation[i, j] = np.corrcoef(phi[:, i], phi[:, j])[0, 1]
    i = 0
    while i < len(correlation):
        if (np.abs(correlation[i]) > threshold).any():
            correlation = np.delete(np.delete(correlation, i, axis=0), i, axis=1)
            phi = np.delete(phi, i, axis=1)
        else:
            i += 1
    return float((phi != 0).sum() / (n * m))


def degenerate(seed: int, *, samples: int = 12, units: int = 15) -> Array:
    """Return ReLU outputs with all-zero, constant, duplicate, scaled and nearly equal units, in a random order."""
    draws = np.random.default_rng(seed)
    phi = np.maximum(draws.normal(size=(samples, units)), 0.0)
    phi[:, 0] = 0.0
    phi[:, 1], phi[:, 2] = 0.7, 0.3
    phi[:, 3] = phi[:, 4]
    phi[:, 5] = 3.0 * phi[:, 4]
    phi[:, 6] = np.where(phi[:, 7] > 0, phi[:, 7] + 0.05 * draws.random(samples), 0.0)
    phi[0] = 0.0
    return phi[:, draws.permutation(units)]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("threshold", [0.3, 0.6, 0.95, 0.999])
@pytest.mark.parametrize("normalize_rows", [False, True])
def test_it_is_the_naive_scan(seed: int, threshold: float, normalize_rows: bool) -> None:
    phi = degenerate(seed)
    assert sparsity_coefficient(phi, threshold=threshold, normalize_rows=normalize_rows) == pytest.approx(
        naive(phi, threshold=threshold, normalize_rows=normalize_rows), abs=1e-15
    )


def test_the_last_member_of_a_group_of_duplicates_stays() -> None:
    """Of three equal units and one of its own, the middle of a chain goes only if a twin is still there."""
    base, other = np.array([1.0, 2.0, 0.0, 4.0]), np.array([0.0, 0.0, 1.0, 0.0])
    phi = np.stack([base, 2 * base, other, base], axis=1)
    # 3 of base and 1 of other are active in what stays; all four columns of four samples count below.
    assert sparsity_coefficient(phi, threshold=0.99) == 4 / 16
    assert sparsity_coefficient(phi, threshold=0.99, remove_duplicates=False) == 10 / 16


def test_a_chain_is_scanned_in_the_order_of_its_units() -> None:
    """a ~ b and b ~ c, but not a ~ c: a goes for b, b for c. In the order b, a, c only b goes."""
    t = np.deg2rad([0.0, 20.0, 40.0])
    draws = np.random.default_rng(0)
    plane = draws.normal(size=(50, 2))
    plane = np.linalg.qr(plane - plane.mean(axis=0))[0]
    a, b, c = (plane @ [math.cos(angle), math.sin(angle)] + 1.0 for angle in t)
    for columns, kept in (([a, b, c], 1), ([b, a, c], 2)):
        phi = np.stack(columns, axis=1)
        assert (phi > 0).all()
        assert sparsity_coefficient(phi, threshold=0.9) == pytest.approx(kept / 3)  # cos 20 = 0.94, cos 40 = 0.77


def test_opposite_units_are_duplicates_and_constant_ones_are_not() -> None:
    x = np.array([1.0, 2.0, 3.0, 5.0])
    assert sparsity_coefficient(np.stack([x, 6.0 - x], axis=1), threshold=0.99) == 1 / 2
    assert sparsity_coefficient(np.full((3, 4), 0.1), threshold=0.0) == 1.0


def test_a_constant_unit_stays_whatever_rounding_makes_of_its_mean() -> None:
    phi = np.full((1001, 2), 0.1)
    phi[:, 1] = 1 / 3
    with np.errstate(all="raise"):
        assert sparsity_coefficient(phi, threshold=0.0) == 1.0


@pytest.mark.parametrize("remove", [False, True])
def test_units_without_activity_count_below_only(remove: bool) -> None:
    assert sparsity_coefficient(np.zeros((5, 3)), threshold=0.95, remove_duplicates=remove) == 0.0
    one = np.zeros((4, 5))
    one[0, 2] = 1.0
    assert sparsity_coefficient(one, threshold=0.95, remove_duplicates=remove) == 1 / 20
    assert sparsity_coefficient([[2.0]], threshold=0.95, remove_duplicates=remove) == 1.0  # one sample: constant


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.0, 1.0), st.integers(1, 9), st.integers(1, 9))
def test_it_lies_between_zero_and_the_active_share(seed: int, threshold: float, samples: int, units: int) -> None:
    draws = np.random.default_rng(seed)
    phi = np.maximum(draws.integers(-2, 4, size=(samples, units)).astype(float), 0.0)
    with_all = sparsity_coefficient(phi, threshold=threshold, remove_duplicates=False)
    found = sparsity_coefficient(phi, threshold=threshold)
    assert 0.0 <= found <= with_all == (phi != 0).mean()
    assert found == sparsity_coefficient(2.0 * phi, threshold=threshold)
    assert sparsity_coefficient(phi, threshold=1.0) <= with_all


def test_activations_are_left_as_they_are() -> None:
    phi = degenerate(3)
    before = phi.copy()
    sparsity_coefficient(phi, threshold=0.5, normalize_rows=True)
    assert (phi == before).all()


def test_numbers_that_are_not_finite_give_no_number() -> None:
    phi = degenerate(0)
    for bad in (math.nan, math.inf):
        phi[2, 3] = bad
        assert math.isnan(sparsity_coefficient(phi, threshold=0.95))
        assert math.isnan(sparsity_coefficient(phi, threshold=0.95, remove_duplicates=False))
        assert math.isnan(active_share(phi))
        assert math.isnan(pattern_distance(phi, phi))
        assert numerical_rank(phi, tolerance=1e-4) is None
        assert math.isnan(effective_rank(phi))
        assert math.isnan(nuclear_norm(phi))


def test_misuse_says_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"\(samples, units\).*\(2, 3, 4\)"):
        sparsity_coefficient(np.ones((2, 3, 4)), threshold=0.9)
    with pytest.raises(ValueError, match=r"threshold must be from 0 to 1, got 1\.5"):
        sparsity_coefficient(np.ones((2, 3)), threshold=1.5)
    with pytest.raises(ValueError, match="tolerance must be at least 0"):
        numerical_rank([1.0], tolerance=-1.0)
    with pytest.raises(ValueError, match="one shape"):
        pattern_distance(np.ones(3), np.ones(4))
    with pytest.raises(ValueError, match="vector"):
        effective_rank(np.ones((1, 2, 3)))


def test_ranks_and_norms_of_known_singular_values() -> None:
    values = np.array([1.0, 0.5, 1e-3, 0.0])
    rows = np.linalg.qr(np.random.default_rng(1).normal(size=(6, 6)))[0]
    columns = np.linalg.qr(np.random.default_rng(2).normal(size=(4, 4)))[0]
    matrix = rows[:, :4] @ np.diag(values) @ columns
    for operand in (values, matrix, matrix.T, values[::-1]):
        assert numerical_rank(operand, tolerance=1e-4) == 3
        assert numerical_rank(operand, tolerance=1e-2) == 2
        assert nuclear_norm(operand) == pytest.approx(1.501)
        shares = values[:3] / 1.501
        assert effective_rank(operand) == pytest.approx(-(shares * np.log(shares)).sum())
    assert numerical_rank(values, tolerance=0.5) == 1  # strictly above


def test_effective_rank_is_the_entropy_of_equal_values() -> None:
    assert effective_rank(np.eye(7)) == pytest.approx(math.log(7))
    assert effective_rank(np.outer([1.0, 2.0], [3.0, 4.0])) == pytest.approx(0.0, abs=1e-14)
    assert effective_rank(np.full(3, 1e308)) == pytest.approx(math.log(3))


@pytest.mark.parametrize("empty", [np.zeros((3, 2)), np.zeros((0, 2)), np.zeros(0)])
def test_a_matrix_of_zeros_has_no_rank(empty: Array) -> None:
    assert (numerical_rank(empty, tolerance=0.0), effective_rank(empty), nuclear_norm(empty)) == (0, 0.0, 0.0)


def test_pattern_distance_counts_changed_signs() -> None:
    assert pattern_distance([[1.0, -1.0], [0.0, 2.0]], [[5.0, 1.0], [-3.0, 0.0]]) == 2 / 4
    assert pattern_distance([[1.0, 0.0]], [[3.0, -2.0]]) == 0.0  # 0 and below are both inactive


def test_active_share() -> None:
    assert active_share([[1.0, 0.0, -1.0, 2.0]]) == 1 / 2
