"""The intervals of each epoch of a run together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sgdline.analysis.kinds.base import MadeByFunction, TableMaker


@dataclass(frozen=True, kw_only=True)
class IntervalEpochs(MadeByFunction):
    """The intervals of each epoch of a run together (walk W-M2 to W-M6): one row per epoch."""

    reads: ClassVar[tuple[str, ...]] = ("intervals", "trace")

    def function(self) -> TableMaker:
        """Return what makes the table."""
        from sgdline.analysis.intervals import average_intervals

        return average_intervals
