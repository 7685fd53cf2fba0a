"""Other batch sizes on every line of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sgdline.analysis.kinds.base import MadeByFunction, Probes, TableMaker


@dataclass(frozen=True, kw_only=True)
class LineBatchSizes(MadeByFunction):
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

    def function(self) -> TableMaker:
        """Return what makes the table."""
        from sgdline.analysis.batch_sizes import measure_batch_sizes

        return measure_batch_sizes
