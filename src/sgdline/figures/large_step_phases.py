"""Networks with longer and shorter phases of large steps side by side: losses, errors and sparsity of features."""

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
class LargeStepPhases(Sheet):
    """Training loss, test error and feature sparsity: small steps and phases of large ones."""

    reads: ClassVar[tuple[str, ...]] = ("evaluation", "feat", "trace")
    compares: ClassVar[bool] = True

    def draw(self, tables: Sequence[Mapping[str, pa.Table]], *, settings: Sequence[Mapping[str, Any]]) -> Figure:
        """Draw training loss, test error and the sparsity of every layer against the epoch, a row per network.

        Args:
            tables: `evaluation`, `trace` and `feat` of each run.
            settings: As in `sgdline.figures.plot_comparison`.

        Source: the figures of deep networks in papers.md 4.4.
        """
        runs = _deep.runs_of(tables, settings)
        split = _deep.tested_split(runs)
        rows = {}
        for network, own in comparing.by_network(runs).items():
            panels = _deep.training_panels(own, split) + _deep.sparsity_panels(own)
            rows[network] = (own, panels)
        footer = [comparing.of_runs(runs, keys=("lr", "batch_size", "seed")), comparing.on_what(runs, split)]
        footer += [*_deep.feature_notes(runs), *_deep.training_notes(runs)]
        return _deep.sheet(rows, title=self.heading(), footer=footer)
