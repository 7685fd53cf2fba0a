"""Gains of averages, measured and predicted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from sgdline.analysis.kinds.base import Analysis


@dataclass(frozen=True, kw_only=True)
class PredictedGains(Analysis):
    """Gains of averages of iterates beside those that the quadratic model predicts from the spectrum (F2 to F5)."""

    reads: ClassVar[tuple[str, ...]] = ("averages", "spectrum")
    needs_stationary_theory: ClassVar[bool] = True

    def analyse(
        self,
        files: Mapping[str, str | Path],
        output: str | Path,
        *,
        settings: Mapping[str, Any],
        provenance: Mapping[str, Any],
    ) -> None:
        """Make the table."""
        from sgdline.analysis.predicted_gains import predict_gains

        predict_gains(files["averages"], files["spectrum"], output, provenance=provenance)
