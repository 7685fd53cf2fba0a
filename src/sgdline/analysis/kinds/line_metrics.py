"""Minima, slopes and curvatures of every line of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sgdline.analysis.kinds.base import MadeByFunction, TableMaker


@dataclass(frozen=True, kw_only=True)
class LineMetrics(MadeByFunction):
    """Minima, slopes, curvatures and the line-search ratio of every line of a run (linesearch M1 to M3, M10, M11)."""

    reads: ClassVar[tuple[str, ...]] = ("line",)
    uses: ClassVar[tuple[str, ...]] = ("window", "resolution")

    def function(self) -> TableMaker:
        """Return what makes the table."""
        from sgdline.analysis.metrics import measure_lines

        return measure_lines
