"""Chebyshev panels: nodes, barycentric evaluation, derivatives. Shared by the probes and the analysis (no torch).

A panel is an interval with Chebyshev-Lobatto nodes (both ends included). Node counts 5, 9, 17, 33 are nested bit
for bit, so that a refinement measures only the new nodes.

Source: Berrut & Trefethen, "Barycentric Lagrange interpolation", SIAM Review 46 (2004).
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def chebyshev_nodes(count: int, low: float, high: float) -> Array:
    """Return Chebyshev-Lobatto nodes, ascending, with exact end points.

    Args:
        count: Number of nodes, at least 2. `2 * count - 1` nodes contain these bit for bit.
        low: Left end.
        high: Right end, above `low`.

    Returns:
        Nodes. Shape (count,), float64.

    Raises:
        ValueError: If count is below 2 or the interval is empty.
    """
    if count < 2 or not low < high:
        raise ValueError(f"count must be at least 2 and low below high, got {count}, [{low}, {high}].")
    j = np.arange(count)
    # The sine form is symmetric and gives the same bits for (j, count) and (2j, 2*count - 1).
    unit = np.sin(np.pi * (2 * j - (count - 1)) / (2 * (count - 1)))
    nodes = low + (high - low) * (1.0 + unit) / 2.0
    nodes[0], nodes[-1] = low, high
    return nodes


def barycentric_weights(count: int) -> Array:
    """Return the barycentric weights of `count` Chebyshev-Lobatto nodes, up to a common factor."""
    weights = np.where(np.arange(count) % 2 == 0, 1.0, -1.0)
    weights[[0, -1]] *= 0.5
    return weights


def interpolation_matrix(nodes: ArrayLike, points: ArrayLike) -> Array:
    """Return the matrix that maps values at Chebyshev-Lobatto nodes to values at points.

    Args:
        nodes: One panel's nodes, ascending. Shape (n,).
        points: Where to evaluate, within the panel. Shape (P,).

    Returns:
        Matrix. Shape (P, n). Its rows sum to 1.
    """
    nodes, points = np.asarray(nodes, dtype=np.float64), np.asarray(points, dtype=np.float64)
    difference = points[:, None] - nodes[None, :]
    hit = np.abs(difference) < np.finfo(np.float64).tiny  # 1 / a smaller difference overflows
    scaled = barycentric_weights(len(nodes)) / np.where(hit, 1.0, difference)
    matrix: Array = scaled / scaled.sum(axis=1, keepdims=True)
    matrix[hit.any(axis=1)] = hit[hit.any(axis=1)].astype(np.float64)
    return matrix


def interpolate(nodes: ArrayLike, values: ArrayLike, points: ArrayLike) -> Array:
    """Evaluate the polynomial through values at Chebyshev-Lobatto nodes.

    Args:
        nodes: One panel's nodes, ascending. Shape (n,).
        values: Values at the nodes. Shape (..., n). Non-finite values spread over their curve.
        points: Where to evaluate. Shape (P,).

    Returns:
        Values at the points. Shape (..., P).
    """
    return np.asarray(values, dtype=np.float64) @ interpolation_matrix(nodes, points).T


def differentiation_matrix(nodes: ArrayLike) -> Array:
    """Return the matrix that maps values at Chebyshev-Lobatto nodes to derivatives there. Shape (n, n)."""
    nodes = np.asarray(nodes, dtype=np.float64)
    weights = barycentric_weights(len(nodes))
    difference = nodes[:, None] - nodes[None, :]
    np.fill_diagonal(difference, 1.0)
    matrix: Array = weights[None, :] / weights[:, None] / difference
    np.fill_diagonal(matrix, 0.0)
    # The negative row sum makes the derivative of a constant exactly zero.
    np.fill_diagonal(matrix, -matrix.sum(axis=1))
    return matrix


def differentiate(nodes: ArrayLike, values: ArrayLike, point: float, *, order: int = 1) -> Array:
    """Differentiate the polynomial through values at Chebyshev-Lobatto nodes.

    Args:
        nodes: One panel's nodes, ascending. Shape (n,).
        values: Values at the nodes. Shape (..., n).
        point: Where to take the derivative, within the panel.
        order: Order of the derivative, at least 1.

    Returns:
        Derivatives. Shape (...,).
    """
    row = interpolation_matrix(nodes, [point]) @ np.linalg.matrix_power(differentiation_matrix(nodes), order)
    derivatives: Array = np.asarray(values, dtype=np.float64) @ row[0]
    return derivatives


def panel_slices(panel_edges: ArrayLike, positions: ArrayLike) -> list[slice]:
    """Return for each panel the slice of `positions` that holds its nodes, both edges included.

    Args:
        panel_edges: Ascending edges e_0 < e_1 < ... Shape (K + 1,).
        positions: Ascending nodes of all panels, shared edges once. Shape (P,).

    Raises:
        ValueError: If an edge is not among the positions.
    """
    edges, positions = np.asarray(panel_edges, dtype=np.float64), np.asarray(positions, dtype=np.float64)
    indices = np.searchsorted(positions, edges)
    if len(edges) < 2 or indices[-1] >= len(positions) or not np.array_equal(positions[indices], edges):
        raise ValueError(f"panel edges must be among the positions, got edges {edges} and positions {positions}.")
    return [slice(a, b + 1) for a, b in pairwise(indices.tolist())]


def interpolate_panels(panel_edges: ArrayLike, positions: ArrayLike, values: ArrayLike, points: ArrayLike) -> Array:
    """Evaluate one curve that is known at the Chebyshev-Lobatto nodes of neighbouring panels.

    Args:
        panel_edges: Ascending edges. Shape (K + 1,).
        positions: Ascending nodes of all panels, shared edges once. Shape (P,).
        values: Values at the nodes. Shape (P,).
        points: Where to evaluate. Shape (n,).

    Returns:
        Values at the points. Shape (n,). NaN outside of the panels.

    Raises:
        ValueError: If an edge is not among the positions.
    """
    nodes, curve = np.asarray(positions, dtype=np.float64), np.asarray(values, dtype=np.float64)
    places = np.asarray(points, dtype=np.float64)
    found = np.full(places.shape, np.nan)
    for part in panel_slices(panel_edges, nodes):
        here = (places >= nodes[part][0]) & (places <= nodes[part][-1])
        found[here] = interpolate(nodes[part], curve[part], places[here])
    return found
