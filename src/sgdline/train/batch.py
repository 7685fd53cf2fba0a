"""What one forward pass of a training sees."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Samples that share a forward pass and its random masks."""

    inputs: Tensor  # (B, C, H, W), augmented
    targets: Tensor  # (B,), some of them at random with label noise
    rows: Tensor  # (B,), rows of the training set, int64, CPU
    mask_seed: int  # seed of the dropout masks
