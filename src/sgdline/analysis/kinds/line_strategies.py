"""What line-search strategies would have done on every line of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from sgdline.analysis.kinds.base import Analysis


@dataclass(frozen=True, kw_only=True)
class LineStrategies(Analysis):
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

    def analyse(
        self,
        files: Mapping[str, str | Path],
        output: str | Path,
        *,
        settings: Mapping[str, Any],
        provenance: Mapping[str, Any],
    ) -> None:
        """Make the table."""
        from sgdline.analysis.strategies import measure_strategies

        measure_strategies(files["line"], files["line_metrics"], output, **settings, provenance=provenance)
