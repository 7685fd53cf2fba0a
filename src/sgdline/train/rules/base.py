"""What an update rule declares, what it gets and what it returns (no torch)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Protocol

from sgdline.declare.registry import Declared
from sgdline.declare.run_facts import Fault, RunFacts
from sgdline.declare.vocabulary import Ge, Le, Words

if TYPE_CHECKING:
    from torch import Tensor

    from sgdline.train.landscape import Landscape

_WHOLE_SET_MINI_BATCH = 100  # samples


@dataclass(frozen=True)
class Move:
    """The update theta_{t+1} = theta_t - lr * direction."""

    direction: Tensor  # (p,), m_t
    lr: float  # lr_t, 0: the parameters stay


class Rule(Protocol):
    """One way to turn gradients into updates; its state is tensors only, so that a checkpoint can hold it."""

    def move(self, parameters: Tensor, gradient: Tensor, *, step: int, lr: float, landscape: Landscape) -> Move:
        """Return update t; advances the rule's state by one update.

        Args:
            parameters: theta_t, not to be changed. Shape (p,).
            gradient: g_t of the batch loss, not to be changed. Shape (p,).
            step: t, from 0.
            lr: What the run's learning rate and schedule say for this update.
            landscape: Measures the loss around theta_t, if the rule wants to know it.
        """

    def state(self) -> dict[str, Tensor]:
        """Return the state that a later `load` takes up, on the device of the parameters."""

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take up a state; an empty one is that before the first update."""


@dataclass(frozen=True)
class StationaryTheory:
    """What the quadratic model of the stationary state has to know of an update rule: heavy-ball SGD at lr."""

    momentum: float


@dataclass(frozen=True, kw_only=True)
class NoiseOptions:
    """Isotropic noise in the gradient."""

    factor: Annotated[float, Ge(0), Le(1e30)] = 0.0
    """Times v_max; 0: no noise."""
    reading: Literal["variance", "standard_deviation"] = "variance"
    """What factor * v_max is of the noise; `standard_deviation`: as in the released code."""
    batch_size: Annotated[Literal["auto"] | Annotated[int, Ge(1)], Words("a number of samples, or auto")] = "auto"
    """Samples of the mini-batches that v_max is measured on; `auto`: the run's batch size, 100 where that is the whole
    training set."""

    def mini_batch(self, batch_size: int, *, images: int) -> int:
        """Return the samples of the mini-batches that v_max is measured on.

        Args:
            batch_size: The run's own batch size.
            images: Of the training set.
        """
        # ASSUME: the paper does not say B. The run's own one, as its gradient noise is what the isotropic noise stands
        # in for; a run on the whole set has none, and takes the paper's batch size of SGD.
        whole = _WHOLE_SET_MINI_BATCH if batch_size >= images else batch_size
        return whole if self.batch_size == "auto" else self.batch_size

    def faults(self, run: RunFacts) -> Iterator[Fault]:
        """Yield what is wrong with the noise in this experiment, and no bound can say."""
        images = run.training_images
        if not self.factor or images is None:
            return
        for batch_size in run.batch_sizes.values():
            size = self.mini_batch(batch_size, images=images)
            if 2 * size > images:
                got = f"auto, which is {size} here" if self.batch_size == "auto" else size
                yield Fault(
                    ("batch_size",),
                    f"must be at most half of the {images} training images, got {got}. A variance needs two "
                    "mini-batches; set a smaller one.",
                )
                return


@dataclass(frozen=True, kw_only=True)
class UpdateRule(Declared, ABC):
    """Options of an update rule, and what other parts of a run may ask of it.

    Attributes:
        linear_in_gradient: m_t is g_t plus what earlier updates and theta_t have left: another gradient in the place of
            g_t changes m_t by the difference of the two.
        takes_noise: Noise in the labels leaves its meaning: it steps along the gradient and trusts no measured loss.
        lr_is_length: The run's lr is the length at which the rule measures the loss ahead; the rates are its own.
    """

    linear_in_gradient: ClassVar[bool] = False
    takes_noise: ClassVar[bool] = False
    lr_is_length: ClassVar[bool] = False

    @abstractmethod
    def rule(self) -> Rule:
        """Return a new rule with these options, before its first update."""

    def faults(self, run: RunFacts) -> Iterator[Fault]:
        """Yield what is wrong with the options in this experiment, and no bound can say.

        Args:
            run: The experiment; what is at fault in it is left out.
        """
        yield from ()

    def gradient_noise(self) -> NoiseOptions | None:
        """Return the isotropic noise that every gradient gets before the rule sees it; None without noise."""
        return None

    def sums_micro_batches(self) -> bool:
        """Return whether the rule is given the sum of the gradients of a batch's micro-batches, not their mean."""
        return False

    def stationary_theory(self) -> StationaryTheory | None:
        """Return what the theory of the stationary state needs; None where it says nothing about this rule."""
        return None
