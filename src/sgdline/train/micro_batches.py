"""Micro-batches: how many samples share a forward pass, and with it BatchNorm's statistics.

A batch larger than the run's `micro_batch` is computed in parts of that many samples, the last one smaller: memory is
that of a part, and BatchNorm has the statistics of each part (papers.md 5.1). Whatever else is measured on a run, its
full-batch loss first of all, is cut in the same way.
"""

from __future__ import annotations

from dataclasses import replace

from sgdline.seeds import derive_seed
from sgdline.train.batch import Batch


def mask_seeds(batch: Batch, size: int) -> list[int]:
    """Return the seed of the random masks of each micro-batch; an undivided batch keeps its own."""
    count = -(-len(batch.targets) // size)
    if count == 1:
        return [batch.mask_seed]
    return [derive_seed(batch.mask_seed, "micro_batch", index) for index in range(count)]


def micro_batches(batch: Batch, size: int) -> list[Batch]:
    """Cut a batch, in its own order, into micro-batches of `size` samples; the last one may be smaller."""
    seeds = mask_seeds(batch, size)
    if len(seeds) == 1:
        return [batch]
    parts = [slice(index * size, (index + 1) * size) for index in range(len(seeds))]
    return [
        replace(batch, inputs=batch.inputs[part], targets=batch.targets[part], rows=batch.rows[part], mask_seed=seed)
        for part, seed in zip(parts, seeds, strict=True)
    ]
