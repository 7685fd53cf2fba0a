"""Learning curves of schedules, each with its best peak learning rate: shared by the figures of schedules."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from sgdline.declare import registry
from sgdline.figures.base import Sheet
from sgdline.figures.grammar import comparing, style

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from sgdline.analysis.peak_rates import Choice


FloatArray = npt.NDArray[np.float64]

_NAMES = {"step": "step-wise", "cyclical": "cyclical", "trapezoid": "trapezoid", "constant": "constant"}
_OTHERS: dict[str, Any] = {"color": "#B5B5B5", "linewidth": 0.6, "zorder": 1}
_NOTE_WIDTH = 100


@dataclass(frozen=True, kw_only=True)
class Schedules(Sheet):
    """Schedules of the learning rate, each with its best peak."""

    reads: ClassVar[tuple[str, ...]] = ("evaluation", "trace")
    compares: ClassVar[bool] = True

    def draw(self, tables: Sequence[Mapping[str, pa.Table]], *, settings: Sequence[Mapping[str, Any]]) -> Figure:
        """Draw training loss, validation accuracy and learning rate against the epoch, a column per network.

        Of each schedule the learning rate that was best on the validation set is drawn in colour, the others grey.

        Args:
            tables: `evaluation` and `trace` of each run.
            settings: As in `sgdline.figures.plot_comparison`.

        Source: walk fig7, fig8 (papers.md 5.3).
        """
        schedules = _schedule_names(settings)
        runs = [
            comparing.Run(own, block, name, style.divergence_step(own))
            for own, block, name in zip(tables, settings, schedules, strict=True)
        ]
        looks = {name: comparing.look(place) for place, name in enumerate(dict.fromkeys(schedules))}
        columns = comparing.by_network(runs)
        choices = {network: _choices(own) for network, own in columns.items()}
        figure = style.new_figure(
            self.heading(),
            footer=_footer(runs, columns, choices),
            width=max(5.4 * len(columns), 8.8),
            height=10.2,
            legend_entries=len(looks) + 2,
        )
        panels = figure.subplots(3, len(columns), squeeze=False, height_ratios=(1.2, 1.2, 0.6))
        for place, (network, own) in enumerate(columns.items()):
            _draw_column(
                panels[:, place].tolist(), own, looks, choices[network], name=network, several=len(columns) > 1
            )
        style.shared_legend(figure, panels[0])
        return figure


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


def _choices(runs: Sequence[comparing.Run]) -> dict[str, Choice]:
    # Imported lazily: reading a spec does not need it.
    from sgdline.analysis.peak_rates import GridRun, choose_peak_rates

    return choose_peak_rates(
        GridRun(run.label, float(run.settings["lr"]), run.tables["evaluation"], run.lost_at is not None) for run in runs
    )


def _chosen(runs: Sequence[comparing.Run], choices: Mapping[str, Choice]) -> list[comparing.Run]:
    return [run for run in runs if float(run.settings["lr"]) == choices[run.label].lr]


def _footer(
    runs: Sequence[comparing.Run],
    columns: Mapping[str, Sequence[comparing.Run]],
    choices: Mapping[str, Mapping[str, Choice]],
) -> list[str]:
    options = {run.label: _options(run.settings["schedule"]) for run in runs}
    plain = "; ".join(f"{name}: {words}" for name, words in options.items() if words and f"({words})" not in name)
    lines = [
        comparing.of_runs(runs, keys=("lr", "batch_size", "seed")),
        comparing.on_what(runs, "validation") + (f"  ·  {plain}" if plain else ""),
        "the peak learning rate is chosen on the validation accuracy of the last evaluation, mean over the seeds; "
        "equal ones on the validation loss; none at which a run diverged. The test set has no say",
    ]
    for network, own in columns.items():
        for schedule, choice in choices[network].items():
            where = f"{network}, {schedule}" if len(columns) > 1 else schedule
            lines.append(f"{where}: {_outcome([run for run in own if run.label == schedule], choice)}")
    return lines + comparing.losses(
        comparing.Run(run.tables, run.settings, f"{run.label}, lr {style.lr_text(run.settings)}", run.lost_at)
        for run in runs
    )


def _outcome(runs: Sequence[comparing.Run], choice: Choice) -> str:
    """Return the chosen learning rate and what it came to on the validation and the test set."""
    from sgdline.analysis.peak_rates import last_value, mean_and_std

    tried = ", ".join(f"{candidate.lr:g}" for candidate in choice.candidates)
    best = choice.chosen
    if best is None:
        return f"none of the learning rates {tried} can be chosen: runs diverged or have no validation accuracy"
    own = [run for run in runs if float(run.settings["lr"]) == choice.lr]
    tested = mean_and_std([last_value(run.tables["evaluation"], "test_accuracy") for run in own])
    return (
        f"peak lr {best.lr:g}{style.lr_unit(own[0].settings)} (tried {tried}): "
        f"validation {_percent(best.accuracy, best.accuracy_std)}, test {_percent(*tested)} "
        f"({style.counted(best.runs, 'seed')})"
    )


def _percent(mean: float, std: float) -> str:
    if not math.isfinite(mean):
        return "not measured"
    return f"{100 * mean:.2f} %" if not math.isfinite(std) else f"{100 * mean:.2f} ± {100 * std:.2f} %"


def _draw_column(
    panels: Sequence[Axes],
    runs: Sequence[comparing.Run],
    looks: Mapping[str, Mapping[str, Any]],
    choices: Mapping[str, Choice],
    *,
    name: str,
    several: bool,
) -> None:
    loss, accuracy, lr = panels
    chosen = _chosen(runs, choices)
    others = [run for run in runs if all(run is not one for one in chosen)]
    end = max([1e-9, *(epoch for run in runs for epoch in style.numbers(run.tables["trace"], "epoch").tolist())])
    for panel in panels:
        panel.set_xlim(-0.02 * end, 1.02 * end)
    lr.set_xlabel("epoch")
    own_looks = {label: look for label, look in looks.items() if any(run.label == label for run in chosen)}
    for label, look in own_looks.items():
        peak = next(style.lr_text(run.settings) for run in chosen if run.label == label)
        loss.plot([], [], **look, label=label if several else f"{label}, peak lr {peak}")
    if others:
        loss.plot([], [], **_OTHERS, label="other peak learning rates")
    if any(run.lost_at is not None for run in others):
        loss.plot([], [], color=_OTHERS["color"], linestyle="", marker="x", markersize=5.0, label="a run diverged")

    for panel, title, unit, column, scaled in (
        (loss, "loss over the training set", "training loss (nats)", "train_loss", 1.0),
        (accuracy, "accuracy over the validation set", "validation accuracy (%)", "validation_accuracy", 100.0),
    ):
        panel.set_ylabel(unit)
        positive = panel is loss
        curves = [
            comparing.evaluated(run, column, against="epoch", factor=scaled, positive=positive)
            for run in [*chosen, *others]
        ]
        grey = _draw_others(panel, others, curves[len(chosen) :])
        notes = comparing.draw_curves(panel, chosen, curves[: len(chosen)], own_looks)
        if notes is None and not grey:
            measured = any(len(run.tables["evaluation"]) for run in runs)
            style.say(
                panel, "the data set has no validation images" if measured and not positive else "no run was evaluated"
            )
        elif positive:
            style.plain_log(panel)
        else:
            notes = (notes or []) + comparing.cut_start(panel, curves, end=end)
        style.title(panel, f"{name}: {title}", notes or [], width=_NOTE_WIDTH)

    lr.set_ylabel("learning rate")
    curves = [comparing.over_updates(run, _rates, window=1, against="epoch") for run in [*chosen, *others]]
    grey = _draw_others(lr, others, curves[len(chosen) :])
    if comparing.draw_curves(lr, chosen, curves[: len(chosen)], own_looks) is None and not grey:
        style.say(lr, "no run made a step")
    else:
        lr.set_ylim(bottom=0.0)
    style.title(lr, f"{name}: learning rate")


def _draw_others(panel: Axes, runs: Sequence[comparing.Run], curves: Sequence[comparing.Curve]) -> bool:
    """Draw what was not chosen, thin and grey; return whether there was anything."""
    drawn = False
    for run, curve in zip(runs, curves, strict=True):
        finite = np.flatnonzero(np.isfinite(curve.values))
        if finite.size == 0:
            continue
        drawn = True
        panel.plot(curve.places, curve.values, **_OTHERS)
        if run.lost_at is not None:
            end = finite[-1]
            panel.plot(
                curve.places[end], curve.values[end], color=_OTHERS["color"], marker="x", markersize=5.0, linestyle=""
            )
    return drawn


def _rates(trace: pa.Table) -> FloatArray:
    return style.numbers(trace, "lr")
