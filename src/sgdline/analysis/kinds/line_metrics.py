"""Minima, slopes and curvatures of every line of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from sgdline.analysis.kinds.base import Analysis


@dataclass(frozen=True, kw_only=True)
class LineMetrics(Analysis):
    """Minima, slopes, curvatures and the line-search ratio of every line of a run (linesearch M1 to M3, M10, M11)."""

    reads: ClassVar[tuple[str, ...]] = ("line",)
    uses: ClassVar[tuple[str, ...]] = ("window", "resolution")

    def analyse(
        self,
        files: Mapping[str, str | Path],
        output: str | Path,
        *,
        settings: Mapping[str, Any],
        provenance: Mapping[str, Any],
    ) -> None:
        """Make the table."""
        from sgdline.analysis.metrics import measure_lines

        measure_lines(files["line"], output, **settings, provenance=provenance)
