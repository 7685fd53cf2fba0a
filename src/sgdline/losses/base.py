"""What a loss declares (no torch)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, TypeAlias

from sgdline.declare.registry import Declared
from sgdline.declare.run_facts import Fault, RunFacts

if TYPE_CHECKING:
    from torch import Tensor

LossFunction: TypeAlias = "Callable[[Tensor, Tensor], Tensor]"


@dataclass(frozen=True, kw_only=True)
class Loss(Declared, ABC):
    """Options of a loss; each loss derives its own in `sgdline.losses.<name>`, or in a file of the user's.

    The module of a loss imports no torch at its top: the check of a configuration reads it.

    Attributes:
        never_negative: No sample has a loss below 0; the interpolation probe then keeps the accuracy in its sign.
        is_cross_entropy: The loss is minus the logarithm of the probability that a softmax over the outputs gives to
            the target; what is known of a Hessian and a covariance of gradients holds for it.
    """

    never_negative: ClassVar[bool] = False
    is_cross_entropy: ClassVar[bool] = False

    def faults(self, run: RunFacts) -> Iterator[Fault]:
        """Yield what is wrong with the options in this experiment, and no bound can say.

        Args:
            run: The experiment; what is at fault in it is left out.
        """
        yield from ()

    @abstractmethod
    def of_samples(self) -> LossFunction:
        """Return the function from outputs (n, classes) and targets (n,), int64, to the loss of each sample (n,).

        It is differentiable twice, draws no random numbers, and gives each sample a loss that no other one changes.
        """

    def of_batch(self) -> LossFunction:
        """Return the function from outputs and targets to their mean loss, a scalar; one call may be faster."""
        of_samples = self.of_samples()
        return lambda outputs, targets: of_samples(outputs, targets).mean()
