"""Options of the probe `hessian_covariance`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from sgdline.declare.run_facts import Fault, RunFacts
from sgdline.declare.vocabulary import Ge, Le
from sgdline.probes.base import EveryOptions, MeasuresWithAugmentation, OfImages

if TYPE_CHECKING:
    from sgdline.probes.hessian_covariance.probe import HessianCovarianceProbe


@dataclass(frozen=True, kw_only=True)
class HessianCovarianceOptions(MeasuresWithAugmentation, OfImages, EveryOptions):
    """The exact Hessian of a small network beside the covariance of its gradients, in float64."""

    batch_norm: Literal["train", "eval"] = "train"
    """`eval` is needed by networks with BatchNorm: in `train` mode a sample's gradient depends on its chunk."""
    top: Annotated[int, Ge(1), Le(10000)] = 5
    """Eigenvalues and eigenvectors to keep and compare."""

    def faults(self, run: RunFacts) -> Iterator[Fault]:
        """Yield what is wrong: the identity of Hessian and covariance is one of the cross-entropy."""
        yield from super().faults(run)
        if run.loss is not None and not run.loss.is_cross_entropy:
            rule = "must be left out unless the loss is the cross-entropy"
            yield Fault((), f"{rule}. The matrices that it compares belong to that loss; measure hvp.")

    def measured_by(self) -> type[HessianCovarianceProbe]:
        """Return the class of the probe."""
        from sgdline.probes.hessian_covariance.probe import HessianCovarianceProbe

        return HessianCovarianceProbe
