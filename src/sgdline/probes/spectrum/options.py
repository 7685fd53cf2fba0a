"""Options of the probe `spectrum`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from sgdline.declare.run_facts import Fault, RunFacts
from sgdline.declare.vocabulary import Ge, Le
from sgdline.probes.base import EigenpairOptions, EveryOptions

if TYPE_CHECKING:
    from sgdline.probes.spectrum.probe import SpectrumProbe


@dataclass(frozen=True, kw_only=True)
class SpectrumOptions(EigenpairOptions, EveryOptions):
    """What the quadratic model needs: eigenvalues of the Hessian, and the gradient noise along them."""

    searched: ClassVar[str] = "eigenvalues"

    eigenvalues: Annotated[int, Ge(1), Le(10000)] = 20
    """How many."""
    epochs: Annotated[int, Ge(1), Le(1000000)] = 4
    """Epochs of fresh batches that the variances are taken over: with n batches in all their relative error is about
    sqrt(2/n)."""
    trace_draws: Annotated[int, Ge(0), Le(1000000)] = 8
    """Random vectors for the estimate of the Hessian's trace; 0: none."""

    def faults(self, run: RunFacts) -> Iterator[Fault]:
        """Yield what is wrong: a variance over batches needs two of them."""
        from sgdline.declare.faults import Index

        yield from super().faults(run)
        images = run.training_images
        for position, batch_size in run.batch_sizes.items():
            if images is not None and images < 2 * batch_size:
                yield Fault(
                    ("batch_size", Index(position)),
                    f"must leave at least two whole batches of {images} training images for the probe spectrum, got "
                    f"{batch_size}. Lower it, or leave the probe out.",
                    of_experiment=True,
                )

    def measured_by(self) -> type[SpectrumProbe]:
        """Return the class of the probe."""
        from sgdline.probes.spectrum.probe import SpectrumProbe

        return SpectrumProbe
