"""Training loss and test error of small and large steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from sgdline.figures import _deep
from sgdline.figures.base import Sheet
from sgdline.figures.grammar import comparing

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class PhaseLosses(Sheet):
    """Training loss and test error: small steps, and phases of large ones."""

    reads: ClassVar[tuple[str, ...]] = ("evaluation", "trace")
    compares: ClassVar[bool] = True

    def draw(self, tables: Sequence[Mapping[str, pa.Table]], *, settings: Sequence[Mapping[str, Any]]) -> Figure:
        """Draw training loss (log) and test error against the epoch, a row per network.

        Args:
            tables: `evaluation` and `trace` of each run.
            settings: As in `sgdline.figures.plot_comparison`.

        Source: sparse fig1 (papers.md 4.4).
        """
        runs = _deep.runs_of(tables, settings)
        split = _deep.tested_split(runs)
        rows = {
            network: (own, _deep.training_panels(own, split)) for network, own in comparing.by_network(runs).items()
        }
        footer = [comparing.of_runs(runs, keys=("lr", "batch_size", "seed")), comparing.on_what(runs, split)]
        return _deep.sheet(rows, title=self.heading(), footer=[*footer, *_deep.training_notes(runs)], columns=2)
