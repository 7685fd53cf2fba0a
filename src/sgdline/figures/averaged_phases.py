"""Averages of iterates beside small and large steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sgdline.figures import _continuations, _deep
from sgdline.figures.base import PanelSheet
from sgdline.figures.grammar import comparing
from sgdline.figures.grammar.sheet import draw_sheet

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class AveragedPhases(PanelSheet):
    """Averages of iterates beside small and large steps.

    Training loss (logarithmic) and test error of iterates and of their exponential moving average (EMA) with the
    largest measured decay, BatchNorm's statistics re-estimated for both. Lines: median over the seeds; bands: from the
    lowest to the highest. Dotted: the end of a phase of large steps.
    """

    reads: ClassVar[tuple[str, ...]] = ("averages", "trace")
    compares: ClassVar[bool] = True
    panels: ClassVar[tuple[str, ...]] = ("loss", "error")

    def draw(self, tables: Sequence[Mapping[str, pa.Table]], *, settings: Sequence[Mapping[str, Any]]) -> Figure:
        """Draw training loss and error of the iterates and of their EMA against the epoch, a row per network.

        Source: sparse ext_swa (papers.md 4.4, weight averaging; 7.2, P14: what the paper calls SWA is an EMA).
        """
        runs = _deep.runs_of(tables, settings)
        split = comparing.tested_split(runs, "averages")
        quantities, labelled = {}, []
        for network, own in comparing.by_network(runs).items():
            shown = [(run, kind) for run in own for kind in _kinds(run)]
            both = [replace(run, label=_label(run, kind)) for run, kind in shown]
            losses = [_positive(_continuations.series(run, kind, "train_loss", against="epoch")) for run, kind in shown]
            accuracies = [
                _continuations.series(run, kind, f"{split}_accuracy", against="epoch", factor=100.0)
                for run, kind in shown
            ]
            quantities[network] = [_deep.loss_of(both, losses), _deep.error_of(both, accuracies, split)]
            labelled += both
        footer = _deep.footer(runs, "averages", split)
        return draw_sheet(self, _deep.panels_of(quantities, labelled), footer=footer, columns=2)


def _kinds(run: comparing.Run) -> list[_continuations.Kind]:
    """Return the iterate and the EMA with the largest decay, where there is one."""
    averages = [kind for kind in _continuations.kinds_of(run) if kind.average == "ema"]
    largest = sorted(averages, key=lambda kind: kind.parameter or 0.0)[-1:]
    return [_continuations.ITERATE, *largest]


def _label(run: comparing.Run, kind: _continuations.Kind) -> str:
    return run.label if kind == _continuations.ITERATE else f"{run.label}: {kind.text}"


def _positive(curve: comparing.Curve) -> comparing.Curve:
    return comparing.Curve(curve.places, np.where(curve.values > 0, curve.values, np.nan))
