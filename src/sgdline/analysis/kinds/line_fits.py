"""Polynomials through every line of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sgdline.analysis.kinds.base import MadeByFunction, TableMaker


@dataclass(frozen=True, kw_only=True)
class LineFits(MadeByFunction):
    """Polynomials through every line of a run (linesearch M12): one row per line and degree."""

    reads: ClassVar[tuple[str, ...]] = ("line",)
    uses: ClassVar[tuple[str, ...]] = ("window", "resolution", "degrees")

    def function(self) -> TableMaker:
        """Return what makes the table."""
        from sgdline.analysis.fits import fit_lines

        return fit_lines
