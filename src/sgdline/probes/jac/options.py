"""Options of the probe `jac`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from sgdline.declare.vocabulary import Ge, Lt
from sgdline.probes.base import EveryOptions, OfImages

if TYPE_CHECKING:
    from sgdline.probes.jac.probe import JacProbe


@dataclass(frozen=True, kw_only=True)
class JacOptions(OfImages, EveryOptions):
    """The Jacobian of a network's output with respect to all its parameters along a run: its rank."""

    samples: Annotated[int, Ge(1)] = 100
    """The first so many training images."""
    tolerance: Annotated[float, Ge(1e-07), Lt(1)] = 0.0001
    """Singular values above so much of the largest count for `rank`."""

    def measured_by(self) -> type[JacProbe]:
        """Return the class of the probe."""
        from sgdline.probes.jac.probe import JacProbe

        return JacProbe
