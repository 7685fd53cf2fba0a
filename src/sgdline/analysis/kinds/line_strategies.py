"""What line-search strategies would have done on every line of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sgdline.analysis.kinds.base import MadeByFunction, TableMaker


@dataclass(frozen=True, kw_only=True)
class LineStrategies(MadeByFunction):
    """What line-search strategies would have done on every line of a run (linesearch M4 to M9)."""

    reads: ClassVar[tuple[str, ...]] = ("line", "line_metrics")
    uses: ClassVar[tuple[str, ...]] = (
        "interval",
        "resolution",
        "sgd_lr",
        "pal_measuring_step",
        "fbpal_every",
        "fbpal_average",
        "compat",
    )

    def function(self) -> TableMaker:
        """Return what makes the table."""
        from sgdline.analysis.strategies import measure_strategies

        return measure_strategies
