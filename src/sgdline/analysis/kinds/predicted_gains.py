"""Gains of averages, measured and predicted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sgdline.analysis.kinds.base import MadeByFunction, TableMaker


@dataclass(frozen=True, kw_only=True)
class PredictedGains(MadeByFunction):
    """Gains of averages of iterates beside those that the quadratic model predicts from the spectrum (F2 to F5)."""

    reads: ClassVar[tuple[str, ...]] = ("averages", "spectrum")
    needs_stationary_theory: ClassVar[bool] = True

    def function(self) -> TableMaker:
        """Return what makes the table."""
        from sgdline.analysis.predicted_gains import predict_gains

        return predict_gains
