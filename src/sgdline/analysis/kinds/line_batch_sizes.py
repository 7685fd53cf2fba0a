"""Other batch sizes on every line of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from sgdline.analysis.kinds.base import Analysis, Probes


@dataclass(frozen=True, kw_only=True)
class LineBatchSizes(Analysis):
    """Other batch sizes on every line of a run, from the losses of single samples (linesearch M13, M14)."""

    reads: ClassVar[tuple[str, ...]] = ("line", "line_metrics")
    uses: ClassVar[tuple[str, ...]] = (
        "batch_size",
        "seed",
        "interval",
        "resolution",
        "pal_measuring_step",
        "batch_sizes",
        "batch_draws",
        "compat",
    )

    def tables(self, probes: Probes) -> tuple[str, ...] | None:
        """Return what it reads of runs whose lines come with the loss of every sample."""
        return self.reads if probes.get("line", {}).get("sample_losses") else None

    def analyse(
        self,
        files: Mapping[str, str | Path],
        output: str | Path,
        *,
        settings: Mapping[str, Any],
        provenance: Mapping[str, Any],
    ) -> None:
        """Make the table."""
        from sgdline.analysis.batch_sizes import measure_batch_sizes

        measure_batch_sizes(files["line"], files["line_metrics"], output, **settings, provenance=provenance)
