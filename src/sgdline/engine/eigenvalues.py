"""Both ends of the spectrum of a symmetric operator that is known by its products only (no torch)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

from sgdline.runtime import counting

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Lanczos vectors between two restarts: memory is so many vectors of p float64. With 10 of them and a loose tolerance an
# eigenvalue inside of the spectrum was once taken for the smallest one.
_BASIS = 20
# Products that a Lanczos run of `_BASIS` vectors without a restart may take.
_ONE_RUN = _BASIS + 5
_ANY_ESTIMATE = 1e10  # a tolerance that every Ritz value meets

SMALLEST_BUDGET = 3 * _ONE_RUN


@dataclass(frozen=True)
class Eigenvalue:
    """One eigenvalue: the Rayleigh quotient lambda of the unit vector v that was found for it."""

    value: float
    residual: float | None  # ||H v - lambda v|| / |lambda|; None where lambda is 0
    converged: bool  # ||H v - lambda v|| <= tolerance * spectral norm


@dataclass(frozen=True)
class Spectrum:
    """Both ends of a spectrum. The distance of `value` from the nearest eigenvalue is at most residual * |value|."""

    largest: Eigenvalue  # algebraically
    smallest: Eigenvalue
    products: int  # products with a vector that it took

    @property
    def spectral_norm(self) -> float:
        """Return max |lambda|."""
        return max(abs(self.largest.value), abs(self.smallest.value))


class _ExhaustedError(Exception):
    """No product is left for this end."""


class _NonFiniteError(Exception):
    """A product is not finite."""


def spectrum_ends(
    product: Callable[[Vector], Vector], start: Vector, *, tolerance: float, max_products: int
) -> Spectrum | None:
    """Find the largest and the smallest eigenvalue of a symmetric operator H by Lanczos (scipy's ARPACK).

    First the eigenvalue mu of largest absolute value, then that of H - mu: the other end of the spectrum, to a
    tolerance relative to the whole of it. An end near 0 would not converge relative to itself in float32.

    An end that has not converged within its budget gets the estimate of one Lanczos run without restarts, `converged`
    False. ASSUME: as with any Krylov method a converged value is an eigenvalue, and the outermost one unless the start
    is nearly orthogonal to that one's vector.

    Args:
        product: v -> H v. Shapes (p,), float64.
        start: Where both runs start, generic, not 0. Shape (p,), p at least 2.
        tolerance: Largest residual norm relative to the spectral norm.
        max_products: Most products for each end, at least `SMALLEST_BUDGET`.

    Returns:
        Spectrum; None if a product is not finite.

    Cost: 50 to 150 products as a rule; memory `_BASIS` vectors.

    Source: papers.md 5.2, W-M7 (clean variant). Oracle in the tests: numpy.linalg.eigvalsh of the dense Hessian.
    """
    found = _outermost(product, start, tolerance=tolerance, max_products=max_products, enough=lambda value: False)
    if found is None:
        return None
    ends, count = found
    (smallest, its_residual), (largest, residual) = min(ends), max(ends)
    norm = max(abs(largest), abs(smallest))
    return Spectrum(
        _judged(largest, residual, within=tolerance * norm),
        _judged(smallest, its_residual, within=tolerance * norm),
        count,
    )


def largest_eigenvalue(
    product: Callable[[Vector], Vector], start: Vector, *, tolerance: float, max_products: int
) -> tuple[Eigenvalue, int] | None:
    """Find the algebraically largest eigenvalue alone: half the work of both ends wherever it is positive and largest.

    Args:
        product: As for `spectrum_ends`.
        start: As for `spectrum_ends`.
        tolerance: As for `spectrum_ends`.
        max_products: As for `spectrum_ends`.

    Returns:
        The eigenvalue and the number of products that it took; None if a product is not finite.

    Source: papers.md 5.2, W-M7 (clean variant).
    """
    found = _outermost(product, start, tolerance=tolerance, max_products=max_products, enough=lambda value: value > 0.0)
    if found is None:
        return None
    ends, count = found
    value, residual = max(ends)
    return _judged(value, residual, within=tolerance * max(abs(end) for end, _ in ends)), count


def _judged(value: float, error: float, *, within: float) -> Eigenvalue:
    return Eigenvalue(value, error / abs(value) if value else None, error <= within)


def _outermost(
    product: Callable[[Vector], Vector],
    start: Vector,
    *,
    tolerance: float,
    max_products: int,
    enough: Callable[[float], bool],
) -> tuple[list[tuple[float, float]], int] | None:
    """Return the eigenvalue of largest absolute value and, unless that is enough, the other end, and the products.

    Each comes with the norm of its residual; None if a product is not finite.
    """
    count = 0

    def counted(vector: Vector) -> Vector:
        nonlocal count
        count += 1
        image = product(vector)
        report()
        if not np.isfinite(image).all():
            raise _NonFiniteError
        return image

    found: list[tuple[float, float]] = []
    with counting("Hessian-vector products") as report:
        try:
            if not counted(start).any():  # a generic vector in the kernel: H is 0, and ARPACK has nothing to go on
                return [(0.0, 0.0)], count
            shift = 0.0
            for _ in range(2):
                vector = _dominant_vector(counted, start, shift=shift, tolerance=tolerance, max_products=max_products)
                image = counted(vector)
                shift = float(vector @ image)
                found.append((shift, float(np.linalg.norm(image - shift * vector))))
                if enough(shift):
                    break
        except _NonFiniteError:
            return None
    return found, count


def _dominant_vector(
    product: Callable[[Vector], Vector], start: Vector, *, shift: float, tolerance: float, max_products: int
) -> Vector:
    """Return a unit vector for the eigenvalue of H - shift with the largest absolute value. Shape (p,)."""
    left: float = max_products - _ONE_RUN - 2  # for the estimate, for the first product and the residual's

    def shifted(vector: Vector) -> Vector:
        nonlocal left
        if left <= 0:
            raise _ExhaustedError
        left -= 1
        vector = vector.reshape(-1)
        return product(vector) - shift * vector

    size = len(start)
    operator = LinearOperator((size, size), matvec=shifted, dtype=np.float64)
    options: dict[str, Any] = {"k": 1, "which": "LM", "v0": start, "ncv": min(_BASIS, size)}
    try:
        # Half of it: ARPACK's estimate of the residual is short of float32's noise, and the shifted spectrum is up to
        # twice as long as the spectral norm.
        _, vectors = eigsh(operator, tol=tolerance / 2, maxiter=max_products, **options)
    except (_ExhaustedError, ArpackNoConvergence):
        left = math.inf
        _, vectors = eigsh(operator, tol=_ANY_ESTIMATE, **options)
    vector: Vector = vectors[:, 0]
    return vector / np.linalg.norm(vector)
