"""Optimizers compared as training runs of their own: loss, accuracy, and the steps that each of them chose."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sgdline.figures.base import PanelSheet
from sgdline.figures.grammar import comparing, style
from sgdline.figures.grammar.sheet import Panel, draw_sheet
from sgdline.figures.grammar.style import FloatArray

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


# Options of several update rules: they are part of a run's label.
_SHARED = ("momentum", "weight_decay", "gradient")


Runs = Sequence[comparing.Run]
Looks = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Optimizers(PanelSheet):
    """Optimizers compared as training runs.

    One column for each network, one colour for each optimizer and learning rate (for PAL and FBPAL&SGD the measuring
    step μ): the median over the seeds, with a band from the lowest to the highest. The loss over the whole training set
    and the accuracy over the test set have BatchNorm's running statistics, which start near their initial values and
    lag after long steps. The length of each update is lr times the norm of the update vector. Crosses mark runs that
    diverged.
    """

    reads: ClassVar[tuple[str, ...]] = ("evaluation", "trace")
    uses: ClassVar[tuple[str, ...]] = ("smoothing",)
    compares: ClassVar[bool] = True
    panels: ClassVar[tuple[str, ...]] = ("loss", "accuracy", "length", "lr")

    def draw(self, tables: Sequence[Mapping[str, pa.Table]], *, settings: Sequence[Mapping[str, Any]]) -> Figure:
        """Draw training loss, test accuracy, step length and learning rate over the updates, a column per model.

        Source: new; the papers look at PAL and FBPAL&SGD on the lines of an SGD run only (papers.md M6, M7, 2.4).
        """
        labels = _labels(settings)
        runs = comparing.runs_of(tables, settings, labels)
        networks = comparing.by_network(runs)
        looks = comparing.looks_of(labels)
        quantities = {
            "loss": ("training loss", comparing.draw_losses),
            "accuracy": ("test accuracy", _draw_accuracies),
            "length": ("step length", _draw_lengths),
            "lr": ("learning rate", _draw_rates),
        }
        panels = [
            Panel(
                name,
                f"{network}: {title}" if len(networks) > 1 else title,
                partial(_draw_over_updates, draw, own, looks),
                height=2.0,
            )
            for name, (title, draw) in quantities.items()
            for network, own in networks.items()
        ]
        measuring = ["μ: measuring step"] if any(run.settings["lr_is_length"] for run in runs) else []
        facts = comparing.facts(
            runs,
            keys=("batch_size", "seed"),
            measured=comparing.measured_on(runs, "evaluation", what="loss", split="test", images="images"),
        )
        lost = comparing.losses(runs)
        footer = [*lost, *measuring, *_own_options(runs), *facts[len(lost) :]]
        return draw_sheet(self, panels, footer=footer, columns=max(len(networks), 1) if len(networks) > 1 else 2)


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


def _draw_over_updates(draw: Callable[..., Sequence[str]], runs: Runs, looks: Looks, panel: Axes) -> Sequence[str]:
    comparing.along_updates(panel, runs)
    comparing.legend_of(panel, runs, looks)
    return draw(panel, runs, looks)


def _draw_accuracies(panel: Axes, runs: Runs, looks: Looks) -> Sequence[str]:
    curves, missing = comparing.accuracies(panel, runs, "test")
    comparing.draw_settings(panel, runs, curves, looks, missing=missing)
    return comparing.cut_start(panel, curves, end=max(run.settings["steps"] for run in runs))


def _draw_lengths(panel: Axes, runs: Runs, looks: Looks) -> Sequence[str]:
    panel.set_ylabel("Euclidean length")
    return [*_standing(runs), *_draw_smoothed(panel, runs, looks, _step_lengths)]


def _draw_rates(panel: Axes, runs: Runs, looks: Looks) -> Sequence[str]:
    panel.set_ylabel("learning rate")
    return _draw_smoothed(panel, runs, looks, lambda trace: style.numbers(trace, "lr"))


def _draw_smoothed(panel: Axes, runs: Runs, looks: Looks, taken: Callable[[pa.Table], FloatArray]) -> list[str]:
    curves, notes = comparing.smoothed(runs, taken, positive=True)
    comparing.draw_settings(panel, runs, curves, looks, missing="no run made a step")
    panel.set_yscale("log")
    return notes


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
