"""Options of the probe `alignment`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from sgdline.declare.run_facts import Fault, RunFacts
from sgdline.declare.vocabulary import Ge, Le, MaxLen, MinLen, Unique, Words
from sgdline.probes.base import EveryOptions

if TYPE_CHECKING:
    from sgdline.probes.alignment.probe import AlignmentProbe


@dataclass(frozen=True, kw_only=True)
class AlignmentOptions(EveryOptions):
    """Cosines of mini-batch gradients: of the same batch over time, of two batches, with the full batch."""

    sequential: ClassVar[bool] = True

    every: Annotated[int, Ge(1)] = 10
    batches: Annotated[int, Ge(1), Le(10000)] = 4
    """Fixed batches of the run's batch size."""
    lags: Annotated[tuple[Annotated[int, Ge(1)], ...], MinLen(1), MaxLen(8), Unique()] = (1, 10, 100)
    """Updates between the two gradients of one batch whose cosine is measured."""
    projection: Annotated[
        Literal["auto", "none"] | Annotated[int, Ge(1), Le(100_000_000)],
        Words("a number of dimensions, auto, or none"),
    ] = "auto"
    """Dimensions of the count sketches that keep gradients; `auto`: whole gradients up to 65,536 parameters; `none`:
    whole gradients."""

    def faults(self, run: RunFacts) -> Iterator[Fault]:
        """Yield what is wrong: a lag may be longer than the run."""
        from sgdline.declare.faults import Index

        yield from super().faults(run)
        for position, lag in enumerate(self.lags):
            if run.steps is not None and lag >= run.steps:
                yield Fault(
                    ("lags", Index(position)),
                    f"must be below the experiment's steps ({run.steps}), got {lag}. Write lags without it.",
                )

    def measured_by(self) -> type[AlignmentProbe]:
        """Return the class of the probe."""
        from sgdline.probes.alignment.probe import AlignmentProbe

        return AlignmentProbe
