"""Options of the probe `hvp`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from sgdline.declare.vocabulary import Ge, Gt, Le, Lt
from sgdline.probes.base import EveryOptions, HessianOptions

if TYPE_CHECKING:
    from sgdline.probes.hvp.probe import HvpProbe


@dataclass(frozen=True, kw_only=True)
class HvpOptions(HessianOptions, EveryOptions):
    """The Hessian of the full-batch loss along a run: largest and smallest eigenvalue, spectral norm."""

    tolerance: Annotated[float, Gt(0), Lt(1)] = 0.001
    """Largest residual norm(H v - lambda v) of a converged eigenvalue, relative to the spectral norm."""
    max_products: Annotated[int, Ge(75), Le(1000000)] = 300
    """Hessian-vector products for each end of the spectrum at most; an end that has not converged by then is stored as
    such."""

    def measured_by(self) -> type[HvpProbe]:
        """Return the class of the probe."""
        from sgdline.probes.hvp.probe import HvpProbe

        return HvpProbe
