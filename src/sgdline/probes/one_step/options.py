"""Options of the probe `one_step`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from sgdline.declare.run_facts import Fault, RunFacts
from sgdline.declare.vocabulary import Ge, Gt, Le
from sgdline.probes.base import EveryOptions, MeasuresValidation

if TYPE_CHECKING:
    from sgdline.probes.one_step.probe import OneStepProbe


@dataclass(frozen=True, kw_only=True)
class OneStepOptions(MeasuresValidation, EveryOptions):
    """One step on one batch: what it does to the batch's own loss, to other batches and to the validation set."""

    sequential: ClassVar[bool] = True

    batches: Annotated[int, Ge(1), Le(10000)] = 8
    """Fixed batches of the run's batch size."""
    other_batches: Annotated[int, Ge(1), Le(10000)] = 8
    """Batches that share no image with a fixed one, for each of them."""
    step_sizes: Annotated[int, Ge(5), Le(10000)] = 25
    """Of the logarithmic grid; 0 comes on top."""
    lowest: Annotated[float, Ge(1e-30)] = 0.0001
    """First step size of the grid, as a multiple of the learning rate."""
    highest: Annotated[float, Gt(0), Le(1e30)] = 100.0
    """Last one."""
    quadratic_points: Annotated[int, Ge(5), Le(10000)] = 21
    """Of the even grid from 0 to twice the best step size, in float64; an odd number has that one among them."""

    def faults(self, run: RunFacts) -> Iterator[Fault]:
        """Yield what is wrong: a batch and the others that it is compared with share no image."""
        from sgdline.workflow.layout import format_lr

        yield from super().faults(run)
        if self.lowest >= self.highest:
            yield Fault(
                ("lowest",),
                f"must be below highest ({format_lr(self.highest)}), got {format_lr(self.lowest)}. Lower it.",
            )
        images, largest = run.training_images, max(run.batch_sizes.values(), default=0)
        if images is not None and (self.other_batches + 1) * largest > images:
            yield Fault(
                ("other_batches",),
                f"must leave {self.other_batches + 1} batches of {largest} within the {images} training images, got "
                f"{self.other_batches}. Lower it, or use smaller batches.",
            )

    def measured_by(self) -> type[OneStepProbe]:
        """Return the class of the probe."""
        from sgdline.probes.one_step.probe import OneStepProbe

        return OneStepProbe
