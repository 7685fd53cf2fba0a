"""Gradient descent with isotropic noise beside SGD."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sgdline.figures.base import PanelSheet
from sgdline.figures.grammar import comparing, style
from sgdline.figures.grammar.sheet import Panel, draw_sheet
from sgdline.figures.grammar.table import BESIDE_LABELS, NO_VALUE, Cell, Row, table_panel
from sgdline.tables import provenance

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_Looks = Mapping[str, Mapping[str, Any]]
_START: dict[str, Any] = {"color": "#999999", "linestyle": (0, (1, 2)), "linewidth": 0.9, "zorder": 0}


@dataclass(frozen=True, kw_only=True)
class Noise(PanelSheet):
    """Gradient descent, with isotropic noise, and SGD.

    Shown are the loss over the training set, the accuracy over the validation set, both with BatchNorm's running
    statistics, the cosine of consecutive gradients (without the noise) and the distance from initialisation. Runs that
    continue another one begin at the update at which they take it over, at the grey line; their distance is from there.
    The table has the norm of all parameters at the last update, and the size of the noise.
    """

    reads: ClassVar[tuple[str, ...]] = ("evaluation", "trace")
    uses: ClassVar[tuple[str, ...]] = ("smoothing",)
    compares: ClassVar[bool] = True
    panels: ClassVar[tuple[str, ...]] = ("loss", "accuracy", "cosine", "distance", "numbers")

    def draw(self, tables: Sequence[Mapping[str, pa.Table]], *, settings: Sequence[Mapping[str, Any]]) -> Figure:
        """Draw loss, validation accuracy, cosine and distance; a run that continues another one begins where it ends.

        Source: walk fig5, fig34, fig35, W-M3, W-M4, W-M8, W-M9 (papers.md 5.3).
        """
        starts = _starts(settings)
        short = [_label(own, block, start) for own, block, start in zip(tables, settings, starts, strict=True)]
        labels = comparing.with_experiments(short, settings)
        runs = [
            comparing.Run(own, block, label, start)
            for own, block, label, start in zip(tables, settings, labels, starts, strict=True)
        ]
        networks = comparing.by_network(runs)
        looks = comparing.looks_of(labels)
        several = len(networks) > 1
        height = 1.5 if several else 1.9
        panels = [
            Panel(name, title, partial(draw, own, looks), [network] if several else [], height=height)
            for name, title, draw in (
                ("loss", "loss over the training set", _draw_losses),
                ("accuracy", "accuracy over the validation set", _draw_accuracies),
                ("cosine", "cosine of consecutive gradients", _draw_cosines),
                ("distance", "distance from initialisation", _draw_distances),
            )
            for network, own in networks.items()
        ]
        measured = comparing.measured_on(
            runs, "evaluation", what="loss and accuracy", split="validation", images="images, not augmented"
        )
        numbers = _numbers(self, networks)
        columns = min(max(len(networks), 2), 3)
        return draw_sheet(self, [*panels, numbers], footer=comparing.facts(runs, measured=measured), columns=columns)


def _starts(settings: Sequence[Mapping[str, Any]]) -> list[int]:
    """Return the update at which each run begins, counted from where the run that it continues began."""
    blocks = {block["experiment"]: block for block in settings}

    def start(block: Mapping[str, Any] | None) -> int:
        origin = None if block is None else block.get("start_from")
        return 0 if origin is None else int(origin["step"]) + start(blocks.get(origin["experiment"]))

    return [start(block) for block in settings]


def _label(tables: Mapping[str, pa.Table], settings: Mapping[str, Any], start: int) -> str:
    """Return what a run is trained with: whole set or batches, lr, noise, and which run it continues."""
    samples = provenance(tables["evaluation"]).get("samples")
    whole = isinstance(samples, int) and settings["batch_size"] >= samples
    name = "GD" if whole else f"SGD, batch {settings['batch_size']}"
    parts = [name, f"lr {style.lr_text(settings)}", *style.describe_optimizer(settings["optimizer"])]
    label = ", ".join(parts)
    origin = settings.get("start_from")
    return label if origin is None else f"{origin['experiment']} from {start} on: {label}"


def _numbers(options: PanelSheet, networks: Mapping[str, Sequence[comparing.Run]]) -> Panel:
    """Return a table of the numbers that a setting has, medians over its seeds."""
    taken: dict[str, Callable[[comparing.Run], float]] = {
        "parameters": _last_norm,
        "noise": lambda run: _noise_fact(run, "noise_deviation"),
        "v_max": lambda run: _noise_fact(run, "noise_variance"),
    }
    several = len(networks) > 1
    columns = {
        f"{network}: {name}" if several else name: (own, value)
        for name, value in taken.items()
        for network, own in networks.items()
    }
    labels = dict.fromkeys(run.label for own in networks.values() for run in own)
    found = {
        name: [_median([value(run) for run in own if run.label == label]) for label in labels]
        for name, (own, value) in columns.items()
    }
    shown = {name: cells for name, cells in found.items() if any(cell != NO_VALUE for cell in cells)}
    return table_panel(
        options,
        "numbers",
        "norm of the parameters at the last update, standard deviation of the noise",
        heads=["setting"],
        columns=list(shown),
        rows=[Row((label,), tuple(cells[place] for cells in shown.values())) for place, label in enumerate(labels)],
        notes=["medians over the seeds"]
        if any(len(runs) > len({run.label for run in runs}) for runs in networks.values())
        else [],
        missing="no run made a step",
        inset=BESIDE_LABELS,
    )


def _median(values: Sequence[float]) -> Cell:
    finite = [value for value in values if np.isfinite(value)]
    return ((f"{np.median(finite):.4g}", ""),) if finite else NO_VALUE


def _last_norm(run: comparing.Run) -> float:
    norms = style.numbers(comparing.moves(run), "parameter_norm")
    norms = norms[np.isfinite(norms)]
    return float(norms[-1]) if norms.size else np.nan


def _noise_fact(run: comparing.Run, name: str) -> float:
    """Return a number that the training found for its noise; NaN where there is none."""
    value = provenance(run.tables["trace"]).get(name)
    return float(value) if isinstance(value, int | float) else np.nan


def _frame(panel: Axes, runs: Sequence[comparing.Run], looks: _Looks) -> None:
    """Set the x axis, with a line where runs are continued, and the entries of the legend."""
    comparing.along_updates(panel, runs)
    comparing.legend_of(panel, runs, looks)
    for place, start in enumerate(sorted({run.first for run in runs if run.first})):
        panel.axvline(start, **_START, label=None if place else "a run is continued")


def _draw_losses(runs: Sequence[comparing.Run], looks: _Looks, panel: Axes) -> Sequence[str]:
    _frame(panel, runs, looks)
    return comparing.draw_losses(panel, runs, looks)


def _draw_accuracies(runs: Sequence[comparing.Run], looks: _Looks, panel: Axes) -> Sequence[str]:
    _frame(panel, runs, looks)
    curves, missing = comparing.accuracies(panel, runs, "validation")
    return comparing.draw_settings(panel, runs, curves, looks, missing=missing)


def _draw_cosines(runs: Sequence[comparing.Run], looks: _Looks, panel: Axes) -> Sequence[str]:
    panel.set_ylabel(comparing.COSINE)
    _frame(panel, runs, looks)
    panel.axhline(0.0, color="#BBBBBB", linewidth=0.7, zorder=0)
    curves, averaged = comparing.smoothed(runs, comparing.cosines)
    return comparing.draw_settings(panel, runs, curves, looks, missing="no run has two gradients") + averaged


def _draw_distances(runs: Sequence[comparing.Run], looks: _Looks, panel: Axes) -> Sequence[str]:
    panel.set_ylabel(comparing.DISTANCE)
    _frame(panel, runs, looks)
    curves = [comparing.over_updates(run, comparing.distances, window=1, positive=True) for run in runs]
    notes = comparing.draw_settings(panel, runs, curves, looks, missing="no run made a step")
    style.plain_log(panel)
    return notes + (["of continued runs: from where they start"] if any(run.first for run in runs) else [])
