"""Options of the probe `mline`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from sgdline.declare.vocabulary import Ge, Shared, Words
from sgdline.probes.base import EveryOptions
from sgdline.probes.line.options import LineOptions

if TYPE_CHECKING:
    from sgdline.probes.mline.probe import MlineProbe


@dataclass(frozen=True, kw_only=True)
class MlineOptions(EveryOptions):
    """Lines in many directions from one position: those of all batches of the epoch that the position lies in."""

    needs_linear_rule: ClassVar[bool] = True

    directions: Annotated[Literal["all"] | Annotated[int, Ge(2)], Words("a number of batches, or all of an epoch")] = (
        "all"
    )
    """`all` batches of the epoch, or the first so many."""
    line: Annotated[LineOptions, Shared(without=("every", "validation", "sample_losses"))] = LineOptions()
    """How lines are measured: as `probes.line` of the experiment says, but for the full-batch loss alone."""

    def measured_by(self) -> type[MlineProbe]:
        """Return the class of the probe."""
        from sgdline.probes.mline.probe import MlineProbe

        return MlineProbe
