"""Regression on a line: short and long large-step phases of one ReLU network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sgdline.figures._relu import ReluSheet


@dataclass(frozen=True, kw_only=True)
class ReluRegression(ReluSheet):
    """Regression on a line with large step sizes.

    Training loss (mean squared error), functions fitted at the last evaluation (faint: other seeds), rank of the
    Jacobian on 300 points between the outermost ones, and feature sparsity coefficient: the share of activations that
    are not 0 in units of their own; lower is sparser. Notes: where the published chain ends, and the median. Thick:
    median over the published chain and other seeds that do not diverge; band: from the lowest to the highest; thin: the
    published chain; ticks at the end: starts that are changed a little. Dashed: the division of the step.
    """

    toy: ClassVar[str | None] = "relu_regression"
    panels: ClassVar[tuple[str, ...]] = ("train_loss", "functions", "rank", "sparsity_N")
