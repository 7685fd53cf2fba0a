"""Isotropic noise: the same variance for every coordinate of the gradient, new at every update."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from sgdline.errors import SgdlineError
from sgdline.seeds import generator
from sgdline.train.rules.base import NoiseOptions


def largest_variance(gradients: Iterable[Tensor], *, batch_size: int) -> float:
    """Return v_max = max_j v_j, v_j = B*(E_b[g_bj^2] - (E_b[g_bj])^2).

    Args:
        gradients: g_b of each mini-batch, at least one. Shape (p,), any floating-point dtype.
        batch_size: B, samples per mini-batch.

    Returns:
        v_max in the units of a squared gradient, at least 0; NaN if a gradient is not finite.

    Source: papers.md W-M8. Memory: two sums of shape (p,) in float64, whatever the number of mini-batches.
    """
    parts = iter(gradients)
    count, sums = 1, next(parts).to(torch.float64, copy=True)
    squares = sums.square()
    for gradient in parts:
        exact = gradient.double()
        sums += exact
        squares.addcmul_(exact, exact)
        count += 1
    variance = (squares / count - (sums / count).square()).clamp_min(0.0)  # rounding can leave less than nothing
    largest = batch_size * float(variance.max())
    return largest if math.isfinite(largest) else math.nan


class IsotropicNoise:
    """Noise of one run: N(0, factor * v_max) per coordinate, a function of (seed, "noise", update).

    v_max is a number of the run, taken once at its first parameters; with `reading: standard_deviation` the same
    product is the noise's standard deviation instead, as in the released code (papers.md K7).

    Source: papers.md W-M8.
    """

    def __init__(self, options: NoiseOptions, *, seed: int, batch_size: int, samples: int) -> None:
        """Take the options.

        Args:
            options: What the update rule declares.
            seed: Seed of the run's draws.
            batch_size: The run's own batch size.
            samples: Training images.

        Raises:
            SgdlineError: If the training set does not hold two mini-batches.
        """
        self._factor, self._reading = options.factor, options.reading
        self._seed = seed
        self.variance: float | None = None  # v_max; None: not measured yet
        self.batch_size = options.mini_batch(batch_size, images=samples)
        if samples < 2 * self.batch_size:
            raise SgdlineError(
                f"optimizer.noise.batch_size must be at most half of the {samples} training images, got "
                f"{self.batch_size}. A variance needs two mini-batches; set a smaller one."
            )

    @property
    def deviation(self) -> float:
        """Standard deviation of each coordinate's noise."""
        if self.variance is None:
            raise RuntimeError("the variance of the gradients has to be measured first")
        product = self._factor * self.variance
        return product if self._reading == "standard_deviation" else math.sqrt(product)

    def added(self, gradient: Tensor, *, step: int) -> Tensor:
        """Return g_t plus the noise of update t. Shape (p,), as the gradient.

        Drawn on the CPU in float32, so that every device sees the same noise.
        """
        draws = torch.randn(len(gradient), generator=generator(self._seed, "noise", step))
        return gradient + self.deviation * draws.to(gradient)

    def state(self, device: torch.device) -> dict[str, Tensor]:
        """Return v_max for a checkpoint, on the device of the parameters."""
        if self.variance is None:
            raise RuntimeError("the variance of the gradients has to be measured first")
        return {"noise_variance": torch.tensor([self.variance], dtype=torch.float64, device=device)}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take up v_max; without one it is to be measured."""
        self.variance = float(state["noise_variance"]) if "noise_variance" in state else None

    def facts(self) -> dict[str, Any]:
        """Return what the trace's metadata has to say about the noise; null for a number that is not finite."""
        numbers = {"noise_variance": self.variance, "noise_deviation": self.deviation}
        known = {name: value if value is not None and math.isfinite(value) else None for name, value in numbers.items()}
        return {**known, "noise_batch_size": self.batch_size}
