"""Short sketches of long vectors that keep their inner products on average."""

from __future__ import annotations

import torch
from torch import Tensor

from sgdline.seeds import generator


class CountSketch:
    """A sparse random projection R^p -> R^m: each coordinate goes, with a random sign, into one random bucket.

    E[<S x, S y>] = <x, y>, with variance at most (||x||^2 ||y||^2 + <x, y>^2)/m: the standard error of a cosine, its
    norms being exact, is at most sqrt((1 + cos^2)/m).

    Cost: O(p) per vector; memory 9 bytes per coordinate.
    """

    def __init__(self, size: int, dimensions: int, *, seed: int, device: torch.device) -> None:
        """Draw buckets and signs.

        Args:
            size: p.
            dimensions: m, at least 1.
            seed: Of the run.
            device: Where the vectors are.
        """
        draws = generator(seed, "count_sketch")
        self._dimensions = dimensions
        self._buckets = torch.randint(dimensions, (size,), generator=draws).to(device)
        self._negative = (torch.randint(2, (size,), generator=draws) == 1).to(device)

    def __call__(self, vector: Tensor) -> Tensor:
        """Return the sketch of a vector. Shapes (p,) -> (m,), float64."""
        signed = torch.where(self._negative, -vector, vector).double()
        return signed.new_zeros(self._dimensions).index_add_(0, self._buckets, signed)
