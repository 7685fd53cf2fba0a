"""SGD with heavy-ball momentum; the step is what the learning rate says (no torch)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from sgdline.declare.run_facts import Fault, RunFacts
from sgdline.train.rules._heavy_ball import HeavyBall, HeavyBallOptions
from sgdline.train.rules.base import Move, NoiseOptions, StationaryTheory

if TYPE_CHECKING:
    from torch import Tensor

    from sgdline.train.landscape import Landscape


@dataclass(frozen=True, kw_only=True)
class Sgd(HeavyBallOptions):
    """SGD with heavy-ball momentum, theta_{t+1} = theta_t - lr_t * m_t."""

    gradient: Literal["mean", "sum"] = "mean"
    """`mean` over the samples of a batch; `sum`: the sum of the mean gradients of its micro-batches, as in the released
    code of `walk`; only with a `micro_batch` that divides every batch, and not beside `mline`."""
    noise: NoiseOptions = NoiseOptions()
    """Isotropic noise on every gradient, see below."""

    takes_noise: ClassVar[bool] = True

    def rule(self) -> SgdRule:
        """Return SGD before its first update."""
        return SgdRule(momentum=self.momentum, weight_decay=self.weight_decay)

    def faults(self, run: RunFacts) -> Iterator[Fault]:
        """Yield what is wrong with noise and summed gradients in this experiment."""
        for fault in self.noise.faults(run):
            yield replace(fault, path=("noise", *fault.path))
        if self.gradient == "mean" or "micro_batch" in run.incomplete:
            return
        needing = [name for name, options in run.probes.items() if options.needs_linear_rule]
        if run.micro_batch is None:
            yield Fault(
                ("gradient",),
                "must be mean without a micro_batch, got sum. Set micro_batch, whose gradients are summed.",
            )
        elif needing:
            yield Fault(
                ("gradient",),
                f"must be mean beside probes.{needing[0]}, got sum. Its directions differ by gradients of the loss.",
            )
        else:
            for size in run.sizes_of_batches():
                if size > run.micro_batch and size % run.micro_batch:
                    yield Fault(
                        ("micro_batch",),
                        f"must divide every batch when optimizer.gradient is sum, got {run.micro_batch} and a batch of "
                        f"{size}. Use another micro_batch.",
                        of_experiment=True,
                    )

    def gradient_noise(self) -> NoiseOptions | None:
        """Return the noise, if there is any."""
        return self.noise if self.noise.factor else None

    def sums_micro_batches(self) -> bool:
        """Return whether `gradient` is `sum`."""
        return self.gradient == "sum"

    def stationary_theory(self) -> StationaryTheory:
        """Return the momentum."""
        return StationaryTheory(momentum=self.momentum)


class SgdRule(HeavyBall):
    """The direction of the heavy ball, with lr_t as scheduled."""

    def move(self, parameters: Tensor, gradient: Tensor, *, step: int, lr: float, landscape: Landscape) -> Move:
        """Return update t, with the learning rate as it is."""
        return Move(self.direction(parameters, gradient), lr)
