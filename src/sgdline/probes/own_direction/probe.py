"""Gradient norms of fresh batches of several sizes at the positions of a run, and the full-batch gradient beside them.

Law, with N samples and C the covariance of their gradients g_i: a batch of B of them, drawn without replacement, has
E||g_B||^2 = ||g||^2 + tr(C)/B * (N - B)/(N - 1), tr(C) = (1/N) sum_i ||g_i - g||^2. It is exact without augmentation,
BatchNorm and dropout; with BatchNorm the gradient of a sample depends on the batch that it is in.

Source: papers.md 2.3, remark after M14; 2.4, ext_own_direction.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch

from sgdline.errors import SgdlineError
from sgdline.probes.fresh_batches import batch_of_rows
from sgdline.probes.gradients import batch_gradient
from sgdline.probes.measuring_images import training_chunks
from sgdline.probes.own_direction.options import OwnDirectionOptions
from sgdline.probes.own_direction.table import OWN_DIRECTION
from sgdline.probes.probe import Probe, Rows
from sgdline.runtime import inner_progress
from sgdline.seeds import derive_seed, generator
from sgdline.train.batch import Batch
from sgdline.train.landscape import Landscape
from sgdline.train.loop import Update
from sgdline.train.vectors import inner, norm


class OwnDirectionProbe(Probe[OwnDirectionOptions]):
    """Measures gradients at every n-th update of a run."""

    table = OWN_DIRECTION

    def prepare(self) -> None:
        """Cut the training set into the chunks of the full-batch gradient.

        Raises:
            SgdlineError: If a batch is larger than the training set, or that is too small for two sizes.
        """
        samples = len(self.images.train)
        self._sizes = _batch_sizes(self.options.batch_sizes, samples)
        if self._sizes[-1] > samples:
            raise SgdlineError(
                f"probes.own_direction.batch_sizes must be at most the {samples} training images, got "
                f"{self._sizes[-1]}. Remove it."
            )
        self._chunks = training_chunks(self.images, self.run)

    def facts(self) -> dict[str, Any]:
        """Return what the table's metadata has to say about the measurement."""
        sizes = [len(chunk.targets) for chunk in self._chunks]
        return {"batch_norm": "train", "samples": sum(sizes), "chunk_sizes": sizes}

    def measure(self, update: Update) -> Rows:
        """Measure gradients at the position of one update.

        Returns:
            One row of the table `own_direction` per batch size and draw.

        Raises:
            SgdlineError: If BatchNorm would see a chunk of one sample.

        Cost: one gradient of the training set, and one per batch.
        """
        trainer, draws = self.trainer, self.options.draws
        here = Landscape(
            trainer.model,
            trainer.vector,
            update.batch,
            update.batch_loss,
            loss=trainer.loss,
            chunks=lambda: self._chunks,
        )
        _, full = here.full_gradient()
        full_norm = norm(full)
        rows = []
        for size in self._sizes:
            for draw in inner_progress(range(draws), total=draws, label=f"batches of {size}"):
                _, gradient = batch_gradient(trainer, self._fresh_batch(update.step, size, draw))
                own_norm = norm(gradient)
                finite = math.isfinite(own_norm) and math.isfinite(full_norm)
                turned = finite and own_norm > 0 and full_norm > 0
                rows.append(
                    {
                        "step": update.step,
                        "batch_size": size,
                        "draw": draw,
                        "gradient_norm": own_norm,
                        "full_gradient_norm": full_norm,
                        "cosine": inner(gradient, full) / own_norm / full_norm if turned else None,
                        "status": "ok" if finite else "non_finite",
                    }
                )
        return rows

    def _fresh_batch(self, step: int, size: int, draw: int) -> Batch:
        """Draw a batch of the training set without replacement, augmented as in training."""
        # A function of the three numbers alone: other sizes or more draws in the configuration change no batch.
        at_step = derive_seed(self.run.seed, "own_direction", step)
        seed = derive_seed(derive_seed(at_step, "batch_size", size), "draw", draw)
        rows = torch.randperm(len(self.images.train), generator=generator(seed, "rows"))[:size]
        return batch_of_rows(self.images, self.run, rows, seed)


def _batch_sizes(asked: Literal["auto"] | Sequence[int], samples: int) -> list[int]:
    """Return the sizes of fresh batches, ascending; auto: powers of 2 from 8 to 2,048 that the training set holds."""
    if asked != "auto":
        return sorted(asked)
    sizes = [2**power for power in range(3, 12) if 2**power <= samples]
    if len(sizes) < 2:
        raise SgdlineError(
            f"The training set must hold 16 images for probes.own_direction.batch_sizes: auto, got {samples}. List the "
            "sizes yourself."
        )
    return sizes
