"""Optimizers compared as training runs of their own: loss, accuracy, and the steps that each of them chose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from sgdline.figures.base import Sheet
from sgdline.figures.grammar import comparing, style

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


FloatArray = npt.NDArray[np.float64]

# Options of several update rules: they are part of a run's label.
_SHARED = ("momentum", "weight_decay", "gradient")
_NOTE_WIDTH = 78


@dataclass(frozen=True, kw_only=True)
class Optimizers(Sheet):
    """Optimizers compared as training runs."""

    reads: ClassVar[tuple[str, ...]] = ("evaluation", "trace")
    uses: ClassVar[tuple[str, ...]] = ("smoothing",)
    compares: ClassVar[bool] = True

    def draw(self, tables: Sequence[Mapping[str, pa.Table]], *, settings: Sequence[Mapping[str, Any]]) -> Figure:
        """Draw training loss, test accuracy, step length and learning rate over the updates, a column per model.

        Args:
            tables: `evaluation` and `trace` of each run.
            settings: As in `sgdline.figures.plot_comparison`.

        Source: new; the papers look at PAL and FBPAL&SGD on the lines of an SGD run only (papers.md M6, M7, 2.4).
        """
        labels = _labels(settings)
        runs = [
            comparing.Run(own, block, label, style.divergence_step(own))
            for own, block, label in zip(tables, settings, labels, strict=True)
        ]
        columns = comparing.by_network(runs)
        looks = {label: comparing.look(place) for place, label in enumerate(dict.fromkeys(labels))}
        wide = len(columns) > 1
        figure = style.new_figure(
            self.heading(),
            footer=_footer(runs),
            width=5.4 * len(columns) if wide else 10.5,
            height=11.6 if wide else 7.6,
            legend_entries=len(looks) + any(run.lost_at is not None for run in runs),
        )
        panels = figure.subplots(4, len(columns), squeeze=False) if wide else figure.subplots(2, 2).reshape(4, 1)
        for place, (name, own) in enumerate(columns.items()):
            _draw_column(panels[:, place].tolist(), own, looks, name=name)
            if wide:
                for panel in panels[:-1, place]:
                    panel.set_xlabel("")
        style.shared_legend(figure, panels[0])
        return figure


def _labels(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the name of each run's setting: as short as keeps the settings of different experiments apart."""
    short = [_label(block) for block in settings]
    if len({block["batch_size"] for block in settings}) > 1:
        short = [f"{name}, batch {block['batch_size']}" for name, block in zip(short, settings, strict=True)]
    return comparing.with_experiments(short, settings)


def _label(settings: Mapping[str, Any]) -> str:
    optimizer = settings["optimizer"]
    unit = "μ" if settings["lr_is_length"] else "lr"
    parts = [_name(optimizer["name"]), f"{unit} {style.lr_text(settings)}"]
    shared = {key: entry for key, entry in optimizer.items() if key in _SHARED}
    return ", ".join(parts + style.describe_options(shared) + style.describe_noise(optimizer))


def _name(rule: str) -> str:
    return "SGD" if rule == "sgd" else style.rule_name(rule)


def _own_options(runs: Sequence[comparing.Run]) -> list[str]:
    """Return the options that an update rule has to itself; with their experiments where those differ in them."""
    experiments: dict[tuple[str, str], list[str]] = {}
    for run in runs:
        optimizer = run.settings["optimizer"]
        words = style.describe_options(
            {key: entry for key, entry in optimizer.items() if key not in _SHARED}, zeros=True
        )
        if words:
            own = experiments.setdefault((optimizer["name"], ", ".join(words)), [])
            own += [run.settings["experiment"]] if run.settings["experiment"] not in own else []
    rules = [name for name, _ in experiments]
    return [
        f"{_name(name)}: {words}" + (f" ({', '.join(own)})" if rules.count(name) > 1 else "")
        for (name, words), own in experiments.items()
    ]


def _footer(runs: Sequence[comparing.Run]) -> list[str]:
    """Return what the comparison is of, what it was measured on, and which runs were lost."""
    lines = [
        comparing.of_runs(runs),
        f"{comparing.on_what(runs, 'test')}  ·  step lengths and learning rates as executed",
    ]
    measuring = ["μ: measuring step"] if any(run.settings["lr_is_length"] for run in runs) else []
    options = [*measuring, *_own_options(runs)]
    if options:
        lines.append("  ·  ".join(options))
    return lines + comparing.losses(runs)


def _draw_column(
    panels: list[Axes], runs: list[comparing.Run], looks: Mapping[str, dict[str, Any]], *, name: str
) -> None:
    loss, accuracy, length, lr = panels
    steps = max(run.settings["steps"] for run in runs)
    for panel in panels:
        panel.set_xlabel("update t")
        panel.set_xlim(-0.02 * steps, 1.02 * steps)
    comparing.legend_of(loss, runs, looks)

    loss.set_ylabel("training loss (nats)")
    curves = [comparing.evaluated(run, "train_loss", positive=True) for run in runs]
    notes = comparing.draw_curves(loss, runs, curves, looks)
    if notes is None:
        style.say(loss, "no run was evaluated")
    else:
        loss.set_yscale("log")
    style.title(loss, f"{name}: loss over the training set", notes or [], width=_NOTE_WIDTH)

    accuracy.set_ylabel("test accuracy (%)")
    curves = [comparing.evaluated(run, "test_accuracy", factor=100.0) for run in runs]
    notes = comparing.draw_curves(accuracy, runs, curves, looks)
    if notes is None:
        evaluated = any(len(run.tables["evaluation"]) for run in runs)
        style.say(accuracy, "the data set has no test images" if evaluated else "no run was evaluated")
    else:
        notes = comparing.cut_start(accuracy, curves, end=steps)
    style.title(accuracy, f"{name}: accuracy over the test set", notes or [], width=_NOTE_WIDTH)

    windows = sorted({run.settings["analysis"]["smoothing"] for run in runs})
    smoothed = [] if windows == [1] else [f"moving average of {' or '.join(map(str, windows))} updates"]
    for panel, title, unit, taken in (
        (length, "length of the step, lr · ||m||", "Euclidean length", _step_lengths),
        (lr, "learning rate in use", "learning rate", _learning_rates),
    ):
        panel.set_ylabel(unit)
        curves = [
            comparing.over_updates(run, taken, window=run.settings["analysis"]["smoothing"], positive=True)
            for run in runs
        ]
        notes = comparing.draw_curves(panel, runs, curves, looks)
        if notes is None:
            style.say(panel, "no run made a step")
        else:
            panel.set_yscale("log")
            notes = smoothed + (_standing(runs) if panel is length else [])
        style.title(panel, f"{name}: {title}", notes or [], width=_NOTE_WIDTH)


def _learning_rates(trace: pa.Table) -> FloatArray:
    return style.numbers(trace, "lr")


def _step_lengths(trace: pa.Table) -> FloatArray:
    return style.numbers(trace, "lr") * style.numbers(trace, "direction_norm")


def _standing(runs: Sequence[comparing.Run]) -> list[str]:
    """Return a note on the settings whose updates at times had no length."""
    shares = []
    for label in dict.fromkeys(run.label for run in runs):
        lengths = np.concatenate([_step_lengths(comparing.moves(run)) for run in runs if run.label == label])
        share = 100.0 * float(np.mean(lengths == 0.0)) if lengths.size else 0.0
        if share:
            shares.append(f"{share:.2g} % ({label})")
    return [f"updates without a step: {', '.join(shares)}"] if shares else []
