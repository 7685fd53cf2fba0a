"""Minima of the losses after one step on one batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sgdline.analysis.kinds.base import MadeByFunction, TableMaker


@dataclass(frozen=True, kw_only=True)
class OneStepMetrics(MadeByFunction):
    """Minima of the losses after one step on one batch, and how quadratic its own loss is (curious C-M1, C-M2)."""

    reads: ClassVar[tuple[str, ...]] = ("one_step",)
    uses: ClassVar[tuple[str, ...]] = ("steps",)

    def function(self) -> TableMaker:
        """Return what makes the table."""
        from sgdline.analysis.one_step import measure_one_step

        return measure_one_step
