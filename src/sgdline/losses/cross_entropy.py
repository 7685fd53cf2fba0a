"""Cross-entropy of a softmax over the outputs, in nats."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from sgdline.losses.base import Loss

if TYPE_CHECKING:
    from sgdline.losses.base import LossFunction


@dataclass(frozen=True, kw_only=True)
class CrossEntropy(Loss):
    """Cross-entropy of a softmax over the outputs, in nats."""

    never_negative: ClassVar[bool] = True
    is_cross_entropy: ClassVar[bool] = True

    def of_samples(self) -> LossFunction:
        """Return the cross-entropy of each sample."""
        from sgdline.engine.hessian import cross_entropy

        return cross_entropy

    def of_batch(self) -> LossFunction:
        """Return the mean cross-entropy."""
        from torch.nn.functional import cross_entropy

        return cross_entropy
