"""Options of the probe `mline`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from sgdline.declare.vocabulary import Ge, Words
from sgdline.probes.base import ProbeOptions


@dataclass(frozen=True, kw_only=True)
class MlineOptions(ProbeOptions):
    """Lines in many directions from one position: those of all batches of the epoch that the position lies in."""

    every: Annotated[int, Ge(1)] = 100
    """Positions: updates 0, n, 2n, ..."""
    directions: Annotated[Literal["all"] | Annotated[int, Ge(2)], Words("a number of batches, or all of an epoch")] = (
        "all"
    )
    """`all` batches of the epoch, or the first so many."""
