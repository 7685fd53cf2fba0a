"""Minima of the losses after one step on one batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from sgdline.analysis.kinds.base import Analysis


@dataclass(frozen=True, kw_only=True)
class OneStepMetrics(Analysis):
    """Minima of the losses after one step on one batch, and how quadratic its own loss is (curious C-M1, C-M2)."""

    reads: ClassVar[tuple[str, ...]] = ("one_step",)
    uses: ClassVar[tuple[str, ...]] = ("steps",)

    def analyse(
        self,
        files: Mapping[str, str | Path],
        output: str | Path,
        *,
        settings: Mapping[str, Any],
        provenance: Mapping[str, Any],
    ) -> None:
        """Make the table."""
        from sgdline.analysis.one_step import measure_one_step

        measure_one_step(files["one_step"], output, **settings, provenance=provenance)
