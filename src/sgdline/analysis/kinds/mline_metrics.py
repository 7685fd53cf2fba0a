"""The lines of each position of a run compared with one another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from sgdline.analysis.kinds.base import Analysis


@dataclass(frozen=True, kw_only=True)
class MlineMetrics(Analysis):
    """The lines of each position of a run compared with one another (linesearch M1, M10 to M12)."""

    reads: ClassVar[tuple[str, ...]] = ("mline",)
    uses: ClassVar[tuple[str, ...]] = ("window", "resolution", "same_position_degrees")

    def analyse(
        self,
        files: Mapping[str, str | Path],
        output: str | Path,
        *,
        settings: Mapping[str, Any],
        provenance: Mapping[str, Any],
    ) -> None:
        """Make the table."""
        from sgdline.analysis.same_position import measure_same_position

        measure_same_position(
            files["mline"],
            output,
            window=settings["window"],
            resolution=settings["resolution"],
            degrees=settings["same_position_degrees"],
            provenance=provenance,
        )
