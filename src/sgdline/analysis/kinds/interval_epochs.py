"""The intervals of each epoch of a run together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from sgdline.analysis.kinds.base import Analysis


@dataclass(frozen=True, kw_only=True)
class IntervalEpochs(Analysis):
    """The intervals of each epoch of a run together (walk W-M2 to W-M6): one row per epoch."""

    reads: ClassVar[tuple[str, ...]] = ("intervals", "trace")

    def analyse(
        self,
        files: Mapping[str, str | Path],
        output: str | Path,
        *,
        settings: Mapping[str, Any],
        provenance: Mapping[str, Any],
    ) -> None:
        """Make the table."""
        from sgdline.analysis.intervals import average_intervals

        average_intervals(files["intervals"], files["trace"], output, provenance=provenance)
