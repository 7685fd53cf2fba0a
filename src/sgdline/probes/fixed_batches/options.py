"""Options of the probe `fixed_batches`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from sgdline.declare.vocabulary import Ge, Le
from sgdline.probes.base import ProbeOptions


@dataclass(frozen=True, kw_only=True)
class FixedBatchesOptions(ProbeOptions):
    """Losses of a few fixed batches along the run, and on the straight way from the iterate measured before."""

    every: Annotated[int, Ge(1)] = 10
    """Measure at updates 0, n, 2n, ..."""
    first: Annotated[int, Ge(0)] = 0
    """And at each of the first so many updates."""
    batches: Annotated[int, Ge(1), Le(10000)] = 8
    """Fixed batches of the run's batch size."""
    alphas: Annotated[int, Ge(3), Le(1001)] = 11
    """Equally spaced points of each segment, both ends included."""
