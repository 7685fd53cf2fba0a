"""Averages of iterates beside small and large steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sgdline.figures import _continuations, _deep
from sgdline.figures.base import Sheet
from sgdline.figures.grammar import comparing
from sgdline.tables import provenance

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class AveragedPhases(Sheet):
    """Averages of iterates beside small and large steps."""

    reads: ClassVar[tuple[str, ...]] = ("averages", "trace")
    compares: ClassVar[bool] = True

    def draw(self, tables: Sequence[Mapping[str, pa.Table]], *, settings: Sequence[Mapping[str, Any]]) -> Figure:
        """Draw training loss and error of the iterates and of their EMA against the epoch, a row per network.

        Args:
            tables: `averages` and `trace` of each run.
            settings: As in `sgdline.figures.plot_comparison`.

        Source: sparse ext_swa (papers.md 4.4, weight averaging; 7.2, P14: what the paper calls SWA is an EMA).
        """
        runs = _deep.runs_of(tables, settings)
        split = _continuations.tested_split(runs)
        rows = {}
        for network, own in comparing.by_network(runs).items():
            shown = [(run, kind) for run in own for kind in _kinds(run)]
            rows[network] = (
                [comparing.Run(run.tables, run.settings, _label(run, kind), run.lost_at) for run, kind in shown],
                [
                    _deep.Panel(
                        "loss over the training set",
                        "training loss (nats)",
                        [_curve(run, kind, "train_loss") for run, kind in shown],
                        logarithmic=True,
                    ),
                    _deep.Panel(
                        f"error over the {split} set",
                        f"{split} error (%)",
                        [_error(run, kind, split) for run, kind in shown],
                    ),
                ],
            )
        facts = [provenance(run.tables["averages"]) for run in runs]
        counts = [
            " or ".join(f"{count:,}" for count in sorted({fact[key] for fact in facts if key in fact}))
            or "not recorded"
            for key in ("samples", f"{split}_samples")
        ]
        footer = [
            comparing.of_runs(runs, keys=("lr", "batch_size", "seed")),
            f"loss and error over N = {counts[0]} training and {counts[1]} {split} images, not augmented  ·  "
            "BatchNorm in eval mode, its statistics re-estimated for iterates and averages alike  ·  EMA: the largest "
            "measured decay",
            _deep.phase_note(runs),
            *comparing.losses(runs),
        ]
        return _deep.sheet(rows, title=self.heading(), footer=footer, columns=2)


def _kinds(run: comparing.Run) -> list[_continuations.Kind]:
    """Return the iterate and the EMA with the largest decay, where there is one."""
    averages = [kind for kind in _continuations.kinds_of(run) if kind.average == "ema"]
    largest = sorted(averages, key=lambda kind: kind.parameter or 0.0)[-1:]
    return [_continuations.ITERATE, *largest]


def _label(run: comparing.Run, kind: _continuations.Kind) -> str:
    return run.label if kind == _continuations.ITERATE else f"{run.label}: {_continuations.kind_text(kind)}"


def _curve(run: comparing.Run, kind: _continuations.Kind, column: str, *, factor: float = 1.0) -> comparing.Curve:
    curve = _continuations.series(run, kind, column, against="epoch", factor=factor)
    values = np.where(curve.values > 0, curve.values, np.nan) if column.endswith("loss") else curve.values
    return comparing.Curve(curve.places, values)


def _error(run: comparing.Run, kind: _continuations.Kind, split: str) -> comparing.Curve:
    curve = _curve(run, kind, f"{split}_accuracy", factor=100.0)
    return comparing.Curve(curve.places, 100.0 - curve.values)
