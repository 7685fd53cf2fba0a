"""What the loss does between consecutive iterates."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from sgdline.analysis.kinds.base import Analysis, Files, Probes, Settings

if TYPE_CHECKING:
    from sgdline.tables import Facts


@dataclass(frozen=True, kw_only=True)
class Intervals(Analysis):
    """What the loss does between consecutive iterates (walk W-M1, W-M2, W-M5, W-M6): one row per measured update."""

    reads: ClassVar[tuple[str, ...]] = ("interp", "trace")

    def tables(self, probes: Probes) -> tuple[str, ...] | None:
        """Return what it reads: `interp`, or else lines that were measured at every update."""
        if "interp" in probes:
            return self.reads
        return ("line", "trace") if probes.get("line", {}).get("every") == 1 else None

    def analyse(self, files: Files, output: str | Path, *, settings: Settings, provenance: Facts) -> None:
        """Make the table of whichever it reads."""
        from sgdline.analysis.intervals import measure_intervals

        source = "interp" if "interp" in files else "line"
        measure_intervals(files[source], files["trace"], output, source=source, provenance=provenance)
