"""Norms and products of parameter vectors, accumulated in float64."""

import torch
from torch import Tensor


def norm(vector: Tensor) -> float:
    """Return the Euclidean norm of a vector. Shape (p,)."""
    return float(torch.linalg.vector_norm(vector, dtype=torch.float64))


def inner(first: Tensor, second: Tensor) -> float:
    """Return the inner product of two vectors. Shapes (p,)."""
    return float(torch.dot(first.double(), second.double()))
