"""Norms and products of parameter vectors, accumulated in float64 (torch is imported where they are taken)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def norm(vector: Tensor) -> float:
    """Return the Euclidean norm of a vector. Shape (p,)."""
    import torch

    return float(torch.linalg.vector_norm(vector, dtype=torch.float64))


def inner(first: Tensor, second: Tensor) -> float:
    """Return the inner product of two vectors. Shapes (p,)."""
    return float(first.double().dot(second.double()))
