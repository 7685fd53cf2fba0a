"""Distances between the shapes of a run's lines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sgdline.analysis.kinds.base import MadeByFunction, TableMaker


@dataclass(frozen=True, kw_only=True)
class LineDistances(MadeByFunction):
    """Distances between the shapes of a run's lines (linesearch M11): one row per line and panel."""

    reads: ClassVar[tuple[str, ...]] = ("line",)
    uses: ClassVar[tuple[str, ...]] = ("window", "resolution", "distance_first", "distance_every")

    def function(self) -> TableMaker:
        """Return what makes the table."""
        from sgdline.analysis.distances import measure_distances

        return measure_distances
