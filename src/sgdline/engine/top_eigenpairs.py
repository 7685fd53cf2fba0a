"""The largest eigenvalues of a symmetric operator that is known by its products only, with their vectors (no torch)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

from sgdline.engine.eigenvalues import Matrix, Vector
from sgdline.engine.lanczos_budget import lanczos_vectors, one_run
from sgdline.runtime import counting

_ANY_ESTIMATE = 1e10  # a tolerance that every Ritz value meets


@dataclass(frozen=True)
class Eigenpairs:
    """The k largest eigenvalues, descending: Rayleigh quotients of the orthonormal vectors found for them."""

    values: Vector  # (k,)
    vectors: Matrix  # (p, k), columns of norm 1
    residuals: Vector  # (k,), ||H v - lambda v||, in the unit of the eigenvalues
    converged: bool  # every residual is at most tolerance * the largest absolute value
    products: int  # products with a vector that it took


class _ExhaustedError(Exception):
    """No product is left."""


class _NonFiniteError(Exception):
    """A product is not finite."""


def top_eigenpairs(
    product: Callable[[Vector], Vector], start: Vector, count: int, *, tolerance: float, max_products: int
) -> Eigenpairs | None:
    """Find the algebraically largest eigenvalues of a symmetric operator H by Lanczos (scipy's ARPACK).

    What has not converged within the budget is the estimate of one Lanczos run without restarts, `converged` False.

    Args:
        product: v -> H v. Shapes (p,), float64.
        start: Where Lanczos starts, generic, not 0. Shape (p,).
        count: Number of eigenvalues k, at least 1 and below p.
        tolerance: Largest residual norm relative to the largest absolute eigenvalue among the k.
        max_products: Most products, at least `smallest_budget(count)`.

    Returns:
        Eigenpairs; None if a product is not finite.

    Raises:
        ValueError: If count is out of range.

    Cost: 40 to 200 products for 5 to 20 eigenvalues as a rule, plus one for each eigenvalue; memory 2 k + 1 vectors.

    Source: papers.md 3.3, C-M5, and 5.2, W-M7 (clean variant). Oracle in the tests: numpy.linalg.eigh.
    """
    size = len(start)
    if not 1 <= count < size:
        raise ValueError(f"count must be from 1 to {size - 1}, got {count}")
    products = 0

    def counted(vector: Vector) -> Vector:
        nonlocal products
        products += 1
        image = product(vector)
        report()
        if not np.isfinite(image).all():
            raise _NonFiniteError
        return image

    left: float = max_products - one_run(count) - count - 1  # for the estimate, the images and the first product

    def limited(vector: Vector) -> Vector:
        nonlocal left
        if left <= 0:
            raise _ExhaustedError
        left -= 1
        return counted(vector.reshape(-1))

    operator = LinearOperator((size, size), matvec=limited, dtype=np.float64)
    options = {"k": count, "which": "LA", "v0": start, "ncv": min(lanczos_vectors(count), size)}
    with counting("Hessian-vector products") as report:
        try:
            if not counted(start).any():  # a generic vector in the kernel: H is 0, and ARPACK has nothing to go on
                return Eigenpairs(np.zeros(count), np.eye(size, count), np.zeros(count), True, products)
            try:
                # Half of it: ARPACK's estimate of the residual is short of the noise of products in float32.
                _, vectors = eigsh(operator, tol=tolerance / 2, maxiter=max_products, **options)
            except (_ExhaustedError, ArpackNoConvergence):
                left = math.inf
                _, vectors = eigsh(operator, tol=_ANY_ESTIMATE, **options)
            vectors, _ = np.linalg.qr(vectors)
            images = np.stack([counted(np.ascontiguousarray(vector)) for vector in vectors.T], axis=1)
        except _NonFiniteError:
            return None
    values = np.einsum("pk,pk->k", vectors, images)
    residuals = np.linalg.norm(images - vectors * values, axis=0)
    order = np.argsort(-values, kind="stable")
    converged = bool((residuals <= tolerance * np.abs(values).max()).all())
    return Eigenpairs(values[order], vectors[:, order], residuals[order], converged, products)
