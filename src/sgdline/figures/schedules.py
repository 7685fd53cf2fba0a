"""Learning curves of schedules, each with its best peak learning rate."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sgdline.declare import registry
from sgdline.figures.base import PanelSheet
from sgdline.figures.grammar import comparing, style
from sgdline.figures.grammar.sheet import NoDataError, Panel, draw_sheet
from sgdline.figures.grammar.table import BESIDE_LABELS, NO_VALUE, Row, table_panel

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from sgdline.analysis.peak_rates import Choice


_NAMES = {"step": "step-wise", "cyclical": "cyclical", "trapezoid": "trapezoid", "constant": "constant"}
_OTHERS: dict[str, Any] = {"color": "#B5B5B5", "linewidth": 0.6, "zorder": 1}


@dataclass(frozen=True, kw_only=True)
class Schedules(PanelSheet):
    """Schedules of the learning rate, each with its best peak.

    Loss over the training set, accuracy over the validation set and learning rate against the epoch. Each schedule is
    drawn with the peak learning rate that had the best validation accuracy at the last evaluation, as a mean over the
    seeds; equal ones are told apart by the validation loss, a rate at which a run diverged is not chosen, and the test
    set has no say. The others of the grid are thin and grey. The table states what was chosen and its mean accuracies
    with their standard deviations over the seeds. Losses and accuracies are those of the network with BatchNorm's
    running statistics.
    """

    reads: ClassVar[tuple[str, ...]] = ("evaluation", "trace")
    compares: ClassVar[bool] = True
    panels: ClassVar[tuple[str, ...]] = ("loss", "accuracy", "lr", "choices")

    def draw(self, tables: Sequence[Mapping[str, pa.Table]], *, settings: Sequence[Mapping[str, Any]]) -> Figure:
        """Draw training loss, validation accuracy and learning rate against the epoch, and the choices as a table.

        Source: walk fig7, fig8 (papers.md 5.3).
        """
        names = _schedule_names(settings)
        runs, looks = comparing.runs_of(tables, settings, names), comparing.looks_of(names)
        grids = [_Grid.of(own, network, looks) for network, own in comparing.by_network(runs).items()]
        panels = [
            Panel(name, title, partial(draw, grid), [grid.network] if len(grids) > 1 else [], height=height)
            for name, title, draw, height in (
                ("loss", "loss over the training set", _draw_losses, 2.0),
                ("accuracy", "accuracy over the validation set", _draw_accuracies, 2.0),
                ("lr", "learning rate", _draw_rates, 1.3),
            )
            for grid in grids
        ]
        labelled = [replace(run, label=f"{run.label}, lr {style.lr_text(run.settings)}") for run in runs]
        measured = comparing.measured_on(
            runs, "evaluation", what="loss and accuracy", split="validation", images="images, not augmented"
        )
        footer = comparing.facts(labelled, measured=measured)
        return draw_sheet(self, [*panels, _choice_table(self, grids)], footer=footer, columns=min(len(grids), 2))


@dataclass(frozen=True)
class _Grid:
    """The runs of a network: those of the peaks that were chosen, and the others."""

    network: str
    runs: Sequence[comparing.Run]
    choices: Mapping[str, Choice]  # of each schedule
    chosen: Sequence[comparing.Run]
    others: Sequence[comparing.Run]
    looks: Mapping[str, Mapping[str, Any]]  # of the schedules with a choice

    @classmethod
    def of(cls, runs: Sequence[comparing.Run], network: str, looks: Mapping[str, Mapping[str, Any]]) -> _Grid:
        # Imported lazily: reading a spec does not need it.
        from sgdline.analysis.peak_rates import GridRun, choose_peak_rates

        choices = choose_peak_rates(
            GridRun(run.label, float(run.settings["lr"]), run.tables["evaluation"], run.lost_at is not None)
            for run in runs
        )
        chosen = [run for run in runs if float(run.settings["lr"]) == choices[run.label].lr]
        others = [run for run in runs if all(run is not one for one in chosen)]
        own_looks = {label: own for label, own in looks.items() if any(run.label == label for run in chosen)}
        return cls(network, runs, choices, chosen, others, own_looks)

    @property
    def end(self) -> float:
        """The last epoch."""
        epochs = [style.numbers(run.tables["trace"], "epoch") for run in self.runs]
        return float(np.concatenate([[1e-9], *epochs]).max())


def _schedule_names(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the schedule of each run: its name, with its options where two differ in them alone.

    Where some learning rates are multiples of 1/lambda_max and others are not, each kind has its own choice.
    """
    names = [_NAMES.get(block["schedule"]["name"], registry.label(block["schedule"]["name"])) for block in settings]
    if len({style.lr_unit(block) for block in settings}) > 1:
        kinds = ["lr in 1/λ₀" if style.lr_unit(block) else "absolute lr" for block in settings]
        names = [f"{name}, {kind}" for name, kind in zip(names, kinds, strict=True)]
    words = [_options(block["schedule"]) for block in settings]
    options: dict[str, set[str]] = {}
    for name, own in zip(names, words, strict=True):
        options.setdefault(name, set()).add(own)
    return [
        f"{name} ({own})" if len(options[name]) > 1 and own else name for name, own in zip(names, words, strict=True)
    ]


def _options(schedule: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{key} {'/'.join(map(str, value)) if isinstance(value, list) else value}"
        for key, value in schedule.items()
        if key != "name"
    )


def _choice_table(options: PanelSheet, grids: Sequence[_Grid]) -> Panel:
    """Return the table of the chosen learning rates, and of what they came to on the validation and the test set."""
    from sgdline.analysis.peak_rates import last_value, mean_and_std

    several = len(grids) > 1
    rows = []
    for grid in grids:
        for schedule, choice in grid.choices.items():
            own = [run for run in grid.chosen if run.label == schedule]
            best = choice.chosen
            words = _options(next(run.settings["schedule"] for run in grid.runs if run.label == schedule))
            shown = schedule if not words or f"({words})" in schedule else f"{schedule}: {words}"
            tried = ", ".join(f"{one.lr:g}" for one in choice.candidates)
            names = (*([grid.network] if several else []), shown)
            if best is None:
                rows.append(Row(names, (((tried, ""),), (("none", ""),), NO_VALUE, NO_VALUE, NO_VALUE)))
                continue
            tested = mean_and_std([last_value(run.tables["evaluation"], "test_accuracy") for run in own])
            found = (
                tried,
                f"{best.lr:g}{style.lr_unit(own[0].settings)}",
                _percent(best.accuracy, best.accuracy_std),
                _percent(*tested),
                str(best.runs),
            )
            rows.append(Row(names, tuple(((cell, ""),) for cell in found)))
    notes = ["chosen on the validation accuracy of the last evaluation"]
    if any(choice.chosen is None for grid in grids for choice in grid.choices.values()):
        notes.append("none: runs diverged or have no validation accuracy")
    return table_panel(
        options,
        "choices",
        "peak learning rates, accuracy (%) as mean ± standard deviation over the seeds",
        heads=[*(["network"] if several else []), "schedule"],
        columns=["lr, tried", "chosen", "validation", "test", "seeds"],
        rows=rows,
        notes=notes,
        inset=BESIDE_LABELS,
    )


def _percent(mean: float, std: float) -> str:
    if not math.isfinite(mean):
        return "not measured"
    return f"{100 * mean:.2f}" if not math.isfinite(std) else f"{100 * mean:.2f} ± {100 * std:.2f}"


def _draw_losses(grid: _Grid, panel: Axes) -> Sequence[str]:
    panel.set_ylabel("training loss (nats)")
    curves = [
        comparing.evaluated(run, "train_loss", against="epoch", positive=True) for run in (*grid.chosen, *grid.others)
    ]
    notes = _draw(panel, grid, curves, missing="no run was evaluated")
    style.plain_log(panel)
    return notes


def _draw_accuracies(grid: _Grid, panel: Axes) -> Sequence[str]:
    curves, missing = comparing.accuracies(panel, (*grid.chosen, *grid.others), "validation", against="epoch")
    return [*_draw(panel, grid, curves, missing=missing), *comparing.cut_start(panel, curves, end=grid.end)]


def _draw_rates(grid: _Grid, panel: Axes) -> Sequence[str]:
    panel.set_ylabel("learning rate")
    curves = [
        comparing.over_updates(run, lambda trace: style.numbers(trace, "lr"), window=1, against="epoch")
        for run in (*grid.chosen, *grid.others)
    ]
    _draw(panel, grid, curves, missing="no run made a step")
    panel.set_ylim(bottom=0.0)
    return []


def _draw(panel: Axes, grid: _Grid, curves: Sequence[comparing.Curve], *, missing: str) -> list[str]:
    """Draw what was chosen in colour, and the others before, thin and grey; return notes."""
    panel.set_xlabel("epoch")
    panel.set_xlim(-0.02 * grid.end, 1.02 * grid.end)
    if not any(np.isfinite(curve.values).any() for curve in curves):
        raise NoDataError(missing)
    comparing.legend_of(panel, grid.chosen, grid.looks)
    if grid.others:
        panel.plot([], [], **_OTHERS, label="other peak learning rates")
    if any(run.lost_at is not None for run in grid.others):
        panel.plot([], [], color=_OTHERS["color"], linestyle="", marker="x", markersize=5.0, label="a run diverged")
    for run, curve in zip(grid.others, curves[len(grid.chosen) :], strict=True):
        finite = np.flatnonzero(np.isfinite(curve.values))
        if not finite.size:
            continue
        panel.plot(curve.places, curve.values, **_OTHERS)
        if run.lost_at is not None:
            end, mark = finite[-1], {"color": _OTHERS["color"], "marker": "x", "markersize": 5.0, "linestyle": ""}
            panel.plot(curve.places[end], curve.values[end], **mark)
    chosen = curves[: len(grid.chosen)]
    if not any(np.isfinite(curve.values).any() for curve in chosen):
        return []
    return comparing.draw_settings(panel, grid.chosen, chosen, grid.looks, missing=missing)
