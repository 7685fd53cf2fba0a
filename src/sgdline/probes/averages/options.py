"""Options of the probe `averages`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from sgdline.declare.vocabulary import Ge, Lt, Unique
from sgdline.probes.base import EveryOptions

if TYPE_CHECKING:
    from sgdline.probes.averages.probe import AveragesProbe


@dataclass(frozen=True, kw_only=True)
class AveragesOptions(EveryOptions):
    """Averages of a run's iterates, evaluated as a user would use them: EMA, SWA and two points."""

    sequential: ClassVar[bool] = True

    every: Annotated[int, Ge(1)] = 100
    """Evaluate before updates 0, n, 2n, ..., and after the last one."""
    ema: Annotated[tuple[Annotated[float, Ge(0), Lt(1)], ...], Unique()] = (0.9, 0.99, 0.999)
    """Decays of exponential averages."""
    swa: Annotated[tuple[Annotated[int, Ge(2)], ...], Unique()] = (10, 50, 200)
    """Numbers of last iterates to take the mean of."""
    swa_spacing: Annotated[int, Ge(1)] = 1
    """Updates between two of these iterates."""
    two_point: Annotated[tuple[Annotated[int, Ge(1)], ...], Unique()] = (1, 10, 100)
    """Distances k, in updates, of the mean of two iterates."""

    def measured_by(self) -> type[AveragesProbe]:
        """Return the class of the probe."""
        from sgdline.probes.averages.probe import AveragesProbe

        return AveragesProbe
