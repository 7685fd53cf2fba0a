"""Options of the probe `spectrum`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from sgdline.declare.vocabulary import Ge, Gt, Le, Lt
from sgdline.probes.base import EveryOptions

if TYPE_CHECKING:
    from sgdline.probes.spectrum.probe import SpectrumProbe


@dataclass(frozen=True, kw_only=True)
class SpectrumOptions(EveryOptions):
    """What the quadratic model needs: eigenvalues of the Hessian, and the gradient noise along them."""

    eigenvalues: Annotated[int, Ge(1), Le(10000)] = 20
    """How many."""
    epochs: Annotated[int, Ge(1), Le(1000000)] = 4
    """Epochs of fresh batches that the variances are taken over: with n batches in all their relative error is about
    sqrt(2/n)."""
    trace_draws: Annotated[int, Ge(0), Le(1000000)] = 8
    """Random vectors for the estimate of the Hessian's trace; 0: none."""
    samples: Annotated[int, Ge(1)] | None = None
    """As in `probes.hvp`."""
    batch_norm: Literal["train", "eval"] = "train"
    """As in `probes.hvp`."""
    augment: bool = False
    """As in `probes.hvp`."""
    tolerance: Annotated[float, Gt(0), Lt(1)] = 0.001
    """As in `probes.stationarity`."""
    max_products: Annotated[int, Ge(52), Le(1000000)] = 300
    """As in `probes.stationarity`."""

    def measured_by(self) -> type[SpectrumProbe]:
        """Return the class of the probe."""
        from sgdline.probes.spectrum.probe import SpectrumProbe

        return SpectrumProbe
