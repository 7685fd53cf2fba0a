"""What a probe declares (no torch).

A probe is a folder of this package: `options.py` declares what the config calls it by, `probe.py` measures
(`sgdline.probes.probe`), `table.py` is the kind of table that it fills.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, cast

from sgdline.declare.build import build
from sgdline.declare.registry import Declared, declaration
from sgdline.declare.vocabulary import Ge

if TYPE_CHECKING:
    from sgdline.data.images import ImageData
    from sgdline.engine.plan import Plan
    from sgdline.engine.plan_options import PlanOptions
    from sgdline.probes.probe import Probe
    from sgdline.train.loop import Trainer


@dataclass(frozen=True, kw_only=True)
class ProbeOptions(Declared, ABC):
    """Options of a probe; each probe derives its own in `sgdline.probes.<name>.options`."""

    # The whole run is one segment, whatever the experiment's `segments`: rows need earlier updates, or the run's end.
    sequential: ClassVar[bool] = False
    # Directions of other batches are made of the run's own: the update rule must be linear in the gradient.
    needs_linear_rule: ClassVar[bool] = False

    @abstractmethod
    def due(self, step: int, *, updates_per_epoch: int) -> bool:
        """Return whether an update is to be measured.

        Args:
            step: The update, from 0.
            updates_per_epoch: Updates of an epoch of the run.
        """

    @abstractmethod
    def measured_by(self) -> type[Probe[Any]]:
        """Return the class of the probe; imports its module lazily, as that needs torch."""

    def probe(self, trainer: Trainer, images: ImageData, run: Mapping[str, Any], plan: Plan) -> Probe[Any]:
        """Return what measures a run with these options.

        Args:
            trainer: The run to measure.
            images: Its data set.
            run: Its training slice.
            plan: How to make forward passes; most probes make plain ones.
        """
        return self.measured_by()(trainer, images, run, self, plan)


@dataclass(frozen=True, kw_only=True)
class EveryOptions(ProbeOptions):
    """Options of a probe that measures every n-th update."""

    every: Annotated[int, Ge(1)] = 100
    """Measure at updates 0, n, 2n, ..."""

    def due(self, step: int, *, updates_per_epoch: int) -> bool:
        """Return whether an update is to be measured."""
        return step % self.every == 0


class PlannedOptions(ProbeOptions):
    """Options of a probe whose forward passes are made by a plan, which rule plan_probe chooses once per run.

    Each probe declares these fields itself: their defaults differ. What plans are tried on is said by its module
    `sgdline.probes.<name>.trial`, in a function `trial(trainer, images, run, options, update)`. The options do not
    import that module: a change of how plans are chosen must not measure anything again.
    """

    # Entries that say how forward passes are made, not what is measured: the measuring job reads the plan instead.
    planning: ClassVar[tuple[str, ...]] = ("precision", "precision_tolerance", "check_slope", "memory_gb", "plan")

    if TYPE_CHECKING:
        batch_norm: Literal["train", "eval"]
        augment: bool
        precision: str
        precision_tolerance: float
        check_slope: bool
        memory_gb: Literal["auto"] | float
        plan: PlanOptions


def options_of(settings: Mapping[str, Any]) -> ProbeOptions:
    """Return the options in a slice of the configuration (`sgdline.workflow.slices.probe_slice` or `plan_slice`)."""
    declared = cast(type[ProbeOptions], declaration("probe", settings["probe"]))
    return build(declared, settings["settings"])
