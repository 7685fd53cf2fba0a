"""How many products the search for the k largest eigenvalues needs at least (neither torch nor scipy)."""

from __future__ import annotations

_FEWEST_VECTORS = 20
_SPARE_PRODUCTS = 5


def lanczos_vectors(count: int) -> int:
    """Return the Lanczos vectors between two restarts for so many eigenvalues: scipy's advice, at least 20."""
    return max(_FEWEST_VECTORS, 2 * count + 1)


def one_run(count: int) -> int:
    """Return the products that a Lanczos run without a restart may take."""
    return lanczos_vectors(count) + _SPARE_PRODUCTS


def smallest_budget(count: int) -> int:
    """Return the fewest products that `sgdline.engine.top_eigenpairs` can do with for so many eigenvalues."""
    return 2 * one_run(count) + count + 1
