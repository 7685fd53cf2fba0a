"""The lines of each position of a run compared with one another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sgdline.analysis.kinds.base import MadeByFunction, TableMaker


@dataclass(frozen=True, kw_only=True)
class MlineMetrics(MadeByFunction):
    """The lines of each position of a run compared with one another (linesearch M1, M10 to M12)."""

    reads: ClassVar[tuple[str, ...]] = ("mline",)
    uses: ClassVar[tuple[str, ...]] = ("window", "resolution", "same_position_degrees")

    def function(self) -> TableMaker:
        """Return what makes the table."""
        from sgdline.analysis.same_position import measure_same_position

        return measure_same_position
