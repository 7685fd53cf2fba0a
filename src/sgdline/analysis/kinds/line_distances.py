"""Distances between the shapes of a run's lines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from sgdline.analysis.kinds.base import Analysis


@dataclass(frozen=True, kw_only=True)
class LineDistances(Analysis):
    """Distances between the shapes of a run's lines (linesearch M11): one row per line and panel."""

    reads: ClassVar[tuple[str, ...]] = ("line",)
    uses: ClassVar[tuple[str, ...]] = ("window", "resolution", "distance_first", "distance_every")

    def analyse(
        self,
        files: Mapping[str, str | Path],
        output: str | Path,
        *,
        settings: Mapping[str, Any],
        provenance: Mapping[str, Any],
    ) -> None:
        """Make the table."""
        from sgdline.analysis.distances import measure_distances

        measure_distances(
            files["line"],
            output,
            window=settings["window"],
            resolution=settings["resolution"],
            first=settings["distance_first"],
            every=settings["distance_every"],
            provenance=provenance,
        )
