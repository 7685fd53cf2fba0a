"""Options of the probe `interp`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from sgdline.chosen_updates import is_chosen
from sgdline.declare.run_facts import Fault, RunFacts
from sgdline.declare.vocabulary import Ge, Gt, Le, MinLen, Unique, Words
from sgdline.engine.plan_options import PlanOptions
from sgdline.probes.base import EveryOptions, MeasuresInChunks, MeasuresWithAugmentation, PlannedOptions

if TYPE_CHECKING:
    from sgdline.probes.interp.probe import InterpProbe


@dataclass(frozen=True, kw_only=True)
class InterpOptions(MeasuresWithAugmentation, MeasuresInChunks, PlannedOptions, EveryOptions):
    """The full-batch loss between consecutive iterates, L((1 - alpha) theta_t + alpha theta_{t+1})."""

    every: Annotated[int, Ge(1)] = 1
    epochs: Annotated[
        Annotated[tuple[Annotated[int, Ge(1)], ...], MinLen(1), Unique()] | None,
        Words("null, or a list of epochs counted from 1"),
    ] = None
    """Of these epochs only, counted from 1; `null`: of all."""
    updates: Annotated[int, Ge(1)] | None = None
    """Of each epoch only the first so many updates; `null`: all."""
    alphas: Annotated[int, Ge(3), Le(1001)] = 11
    """Equally spaced points from 0 to 1, both ends included."""
    accuracy: bool = False
    """Keep the training accuracy at every alpha as well; it comes from the same passes."""
    precision: Literal["auto", "float32", "float64", "tf32", "bfloat16", "float16"] = "float32"
    """As for `line`, but not chosen unless asked for: a barrier has to exceed the rounding, see below."""
    precision_tolerance: Annotated[float, Gt(0)] = 3e-05
    """As for `line`; the plan is the probe's own."""
    check_slope: bool = True
    """As for `line`; the plan is the probe's own."""
    memory_gb: Literal["auto"] | Annotated[float, Gt(0), Le(1000000)] = "auto"
    """As for `line`; the plan is the probe's own."""
    plan: PlanOptions = PlanOptions()
    """As for `line`; the plan is the probe's own."""

    def faults(self, run: RunFacts) -> Iterator[Fault]:
        """Yield what is wrong: the epochs must be reached, and have an update that is due; the plan may be at odds."""
        from sgdline.chosen_updates import any_chosen
        from sgdline.declare.faults import Index

        yield from super().faults(run)
        if self.accuracy and run.loss is not None and not run.loss.never_negative:
            rule = "must be false with a loss that may be negative, got true"
            yield Fault(("accuracy",), f"{rule}. Set it to false; probes.evaluation measures the accuracy.")
        yield from self.plan.faults(run, precision=self.precision)
        images, steps, sizes = run.training_images, run.steps, run.batch_sizes.values()
        # A batch size that is left out may be the one with which an epoch is reached.
        if images is None or steps is None or run.drop_last is None or "batch_size" in run.incomplete or not sizes:
            return
        lengths = [images // size if run.drop_last else -(-images // size) for size in sizes]
        most = -(-steps // min(lengths))
        late = [(position, epoch) for position, epoch in enumerate(self.epochs or ()) if epoch > most]
        for position, epoch in late:
            yield Fault(
                ("epochs", Index(position)),
                f"must be at most the epochs of the run ({most}), got {epoch}. Raise steps, or remove it.",
            )
        if late:
            return
        choices = (
            any_chosen(steps, every=self.every, epochs=self.epochs, updates=self.updates, updates_per_epoch=length)
            for length in lengths
        )
        if not any(choices):
            rule = "must leave an update to measure in the chosen epochs"
            yield Fault(("every",), f"{rule}, got {self.every} with {steps} steps. Lower it, or choose other epochs.")

    def due(self, step: int, *, updates_per_epoch: int) -> bool:
        """Return whether an update is to be measured."""
        return is_chosen(
            step, every=self.every, epochs=self.epochs, updates=self.updates, updates_per_epoch=updates_per_epoch
        )

    def measured_by(self) -> type[InterpProbe]:
        """Return the class of the probe."""
        from sgdline.probes.interp.probe import InterpProbe

        return InterpProbe
