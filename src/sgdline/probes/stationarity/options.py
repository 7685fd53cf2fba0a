"""Options of the probe `stationarity`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from sgdline.declare.vocabulary import Ge, Gt, Le, Lt
from sgdline.probes.base import EveryOptions

if TYPE_CHECKING:
    from sgdline.probes.stationarity.probe import StationarityProbe


@dataclass(frozen=True, kw_only=True)
class StationarityOptions(EveryOptions):
    """How far a run moves from where it was at an update, along stiff and along flat directions."""

    sequential: ClassVar[bool] = True

    start: Annotated[int, Ge(0)] = 0
    """Update t0."""
    every: Annotated[int, Ge(1)] = 1
    """Measure at updates t0, t0 + n, ..., and at the end; autocorrelations need 1 where lr times eigenvalue is large.
    """
    eigenvectors: Annotated[int, Ge(1), Le(10000)] = 5
    """How many."""
    samples: Annotated[int, Ge(1)] | None = None
    """As in `probes.hvp`."""
    batch_norm: Literal["train", "eval"] = "train"
    """As in `probes.hvp`."""
    augment: bool = False
    """As in `probes.hvp`."""
    tolerance: Annotated[float, Gt(0), Lt(1)] = 0.001
    """Largest residual norm(H v - lambda v), relative to the largest absolute eigenvalue."""
    max_products: Annotated[int, Ge(52), Le(1000000)] = 300
    """Hessian-vector products at most."""

    def due(self, step: int, *, updates_per_epoch: int) -> bool:
        """Return whether an update is to be measured."""
        return step >= self.start and (step - self.start) % self.every == 0

    def measured_by(self) -> type[StationarityProbe]:
        """Return the class of the probe."""
        from sgdline.probes.stationarity.probe import StationarityProbe

        return StationarityProbe
