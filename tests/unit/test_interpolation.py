"""Chebyshev panels against numpy's polynomials."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgdline.interpolation import chebyshev_nodes, differentiate, interpolate, panel_slices


@pytest.mark.parametrize("count", [5, 9, 17])
def test_levels_are_nested_bit_for_bit(count: int) -> None:
    coarse, fine = chebyshev_nodes(count, -0.5, 0.0), chebyshev_nodes(2 * count - 1, -0.5, 0.0)
    assert np.array_equal(fine[::2], coarse)
    assert fine[0] == -0.5
    assert fine[-1] == 0.0


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=5), st.floats(-3, 3), st.floats(0.01, 5), st.floats(0, 1))
def test_a_polynomial_and_its_derivatives_are_reproduced(
    coefficients: list[float], low: float, width: float, share: float
) -> None:
    polynomial = np.polynomial.Polynomial(coefficients)
    nodes = chebyshev_nodes(9, low, low + width)
    point = nodes[0] + share * (nodes[-1] - nodes[0])
    scale = 1 + np.abs(coefficients).max() * (1 + abs(low) + width) ** 4
    assert abs(interpolate(nodes, polynomial(nodes), [point])[0] - polynomial(point)) <= 1e-12 * scale
    for order in (1, 2):
        found = differentiate(nodes, polynomial(nodes), point, order=order)
        assert abs(found - polynomial.deriv(order)(point)) <= 1e-10 * scale / width**order


def test_nodes_are_hit_exactly_and_a_smooth_function_converges() -> None:
    nodes = chebyshev_nodes(17, -1.0, 1.0)
    assert np.array_equal(interpolate(nodes, np.exp(nodes), nodes), np.exp(nodes))
    points = np.linspace(-1, 1, 101)
    assert np.abs(interpolate(nodes, np.exp(nodes), points) - np.exp(points)).max() < 1e-14


def test_values_may_have_leading_dimensions() -> None:
    nodes = chebyshev_nodes(5, 0.0, 1.0)
    values = np.stack([nodes, nodes**2, 1 - nodes])
    assert np.allclose(interpolate(nodes, values, [0.3]), [[0.3], [0.09], [0.7]], atol=1e-15)


def test_panels_share_their_edges() -> None:
    left, right = chebyshev_nodes(5, -1.0, 0.0), chebyshev_nodes(9, 0.0, 1.0)
    positions = np.concatenate([left, right[1:]])
    slices = panel_slices([-1.0, 0.0, 1.0], positions)
    assert np.array_equal(positions[slices[0]], left)
    assert np.array_equal(positions[slices[1]], right)
    with pytest.raises(ValueError, match="edges"):
        panel_slices([-1.0, 0.1, 1.0], positions)


def test_an_empty_interval_is_refused() -> None:
    with pytest.raises(ValueError, match="low below high"):
        chebyshev_nodes(5, 1.0, 1.0)
