"""Polynomials through every line of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from sgdline.analysis.kinds.base import Analysis


@dataclass(frozen=True, kw_only=True)
class LineFits(Analysis):
    """Polynomials through every line of a run (linesearch M12): one row per line and degree."""

    reads: ClassVar[tuple[str, ...]] = ("line",)
    uses: ClassVar[tuple[str, ...]] = ("window", "resolution", "degrees")

    def analyse(
        self,
        files: Mapping[str, str | Path],
        output: str | Path,
        *,
        settings: Mapping[str, Any],
        provenance: Mapping[str, Any],
    ) -> None:
        """Make the table."""
        from sgdline.analysis.fits import fit_lines

        fit_lines(files["line"], output, **settings, provenance=provenance)
