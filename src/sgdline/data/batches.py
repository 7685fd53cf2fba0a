"""Which images each update sees, as a function of the seed and the update alone."""

from __future__ import annotations

import torch
from torch import Tensor

from sgdline.errors import SgdlineError
from sgdline.seeds import generator


class BatchOrder:
    """The order of training batches: a fresh permutation per epoch, cut into batches.

    The permutation of epoch e depends on (seed, "batch_order", e) and the number of samples only, so a replay may
    start at any update.

    Args:
        samples: Number of training images N.
        batch_size: Images per batch, 1 to N.
        seed: Seed of the run.
        drop_last: Leave out the incomplete last batch of each epoch (another set of images each epoch).

    Raises:
        SgdlineError: If batch_size is below 1 or above N.
    """

    def __init__(self, samples: int, *, batch_size: int, seed: int, drop_last: bool) -> None:
        if not 1 <= batch_size <= samples:
            raise SgdlineError(
                f"batch_size must be from 1 to the {samples} training images, got {batch_size}. "
                "Lower it or enlarge the training split."
            )
        self.samples = samples
        self.batch_size = batch_size
        self.seed = seed
        self.drop_last = drop_last
        self.updates_per_epoch = samples // batch_size if drop_last else -(-samples // batch_size)
        self._cached_epoch = -1
        self._permutation = torch.empty(0, dtype=torch.int64)

    def indices(self, step: int) -> Tensor:
        """Return the rows of the batch of an update.

        Args:
            step: Update t, from 0.

        Returns:
            Rows of the training set. Shape (B,), int64, CPU; B is smaller in an incomplete last batch.

        Raises:
            ValueError: If step is negative.
        """
        epoch, position = self._locate(step)
        if epoch != self._cached_epoch:
            self._permutation = torch.randperm(self.samples, generator=generator(self.seed, "batch_order", epoch))
            self._cached_epoch = epoch
        # A copy, so that nobody can write into the cached permutation.
        return self._permutation[position * self.batch_size : (position + 1) * self.batch_size].clone()

    def epoch(self, step: int) -> float:
        """Return the number of epochs done before an update, fractions by images seen.

        An epoch has drop_last's whole batches or all N images, so that it always begins at a whole number.

        Args:
            step: Update t, from 0.

        Raises:
            ValueError: If step is negative.
        """
        epoch, position = self._locate(step)
        images = self.updates_per_epoch * self.batch_size if self.drop_last else self.samples
        return epoch + position * self.batch_size / images

    def _locate(self, step: int) -> tuple[int, int]:
        if step < 0:
            raise ValueError(f"step must be 0 or above, got {step}.")
        return divmod(step, self.updates_per_epoch)
