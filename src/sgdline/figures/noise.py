"""Gradient descent with isotropic noise beside SGD: shared by the figures of the noise's kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from sgdline.figures.base import Sheet
from sgdline.figures.grammar import comparing, style
from sgdline.tables import provenance

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


FloatArray = npt.NDArray[np.float64]

_NOTE_WIDTH = 86
_START: dict[str, Any] = {"color": "#999999", "linestyle": (0, (1, 2)), "linewidth": 0.9, "zorder": 0}


@dataclass(frozen=True, kw_only=True)
class Noise(Sheet):
    """Gradient descent, with isotropic noise, and SGD."""

    reads: ClassVar[tuple[str, ...]] = ("evaluation", "trace")
    uses: ClassVar[tuple[str, ...]] = ("smoothing",)
    compares: ClassVar[bool] = True

    def draw(self, tables: Sequence[Mapping[str, pa.Table]], *, settings: Sequence[Mapping[str, Any]]) -> Figure:
        """Draw loss, validation accuracy, cosine and distance; a run that continues another one begins where it ends.

        Args:
            tables: `evaluation` and `trace` of each run.
            settings: As in `sgdline.figures.plot_comparison`.

        Source: walk fig5, fig34, fig35, W-M3, W-M4, W-M8, W-M9 (papers.md 5.3).
        """
        starts = _starts(settings)
        short = [_label(own, block, start) for own, block, start in zip(tables, settings, starts, strict=True)]
        labels = comparing.with_experiments(short, settings)
        runs = [
            comparing.Run(own, block, label, style.divergence_step(own), first=start)
            for own, block, label, start in zip(tables, settings, labels, starts, strict=True)
        ]
        columns = comparing.by_network(runs)
        looks = {label: comparing.look(place) for place, label in enumerate(dict.fromkeys(labels))}
        wide = len(columns) > 1
        width = 5.6 * len(columns) if wide else 11.2
        across = style.legend_columns(looks, width=width)
        entries = len(looks) + any(run.lost_at is not None for run in runs) + any(starts)
        figure = style.new_figure(
            self.heading(),
            footer=_footer(runs),
            width=width,
            height=12.0 if wide else 8.0,
            legend_entries=style.legend_room(-(-entries // across), width=width),
        )
        panels = figure.subplots(4, len(columns), squeeze=False) if wide else figure.subplots(2, 2).reshape(4, 1)
        for place, (name, own) in enumerate(columns.items()):
            _draw_column(panels[:, place].tolist(), own, looks, name=name)
            if wide:
                for panel in panels[:-1, place]:
                    panel.set_xlabel("")
        style.shared_legend(figure, panels[0], columns=across)
        return figure


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


def _footer(runs: Sequence[comparing.Run]) -> list[str]:
    lines = [
        comparing.of_runs(runs, keys=("lr", "batch_size", "seed")),
        f"{comparing.on_what(runs, 'validation')}  ·  cosine of batch gradients without the noise, in train mode",
    ]
    middle = ", median over the seeds" if len({run.settings["seed"] for run in runs}) > 1 else ""
    for name, taken in (
        ("norm of all parameters at the last update", _last_norm),
        ("standard deviation of the noise", lambda run: _noise_fact(run, "noise_deviation")),
        ("v_max", lambda run: _noise_fact(run, "noise_variance")),
    ):
        words = _medians(runs, taken)
        if words:
            lines.append(f"{name}{middle}: {'; '.join(words)}")
    return lines + comparing.losses(runs)


def _medians(runs: Sequence[comparing.Run], taken: Callable[[comparing.Run], float]) -> list[str]:
    """Return a number of each setting, over the runs that have it."""
    found: dict[str, list[float]] = {}
    for run in runs:
        value = taken(run)
        if np.isfinite(value):
            found.setdefault(run.label, []).append(value)
    return [f"{np.median(values):.4g} ({label})" for label, values in found.items()]


def _last_norm(run: comparing.Run) -> float:
    norms = style.numbers(comparing.moves(run), "parameter_norm")
    norms = norms[np.isfinite(norms)]
    return float(norms[-1]) if norms.size else np.nan


def _noise_fact(run: comparing.Run, name: str) -> float:
    """Return a number that the training found for its noise; NaN where there is none."""
    value = provenance(run.tables["trace"]).get(name)
    return float(value) if isinstance(value, int | float) else np.nan


def _draw_column(
    panels: Sequence[Axes], runs: Sequence[comparing.Run], looks: Mapping[str, Mapping[str, Any]], *, name: str
) -> None:
    loss, accuracy, cosine, distance = panels
    steps = max(run.first + run.settings["steps"] for run in runs)
    starts = sorted({run.first for run in runs if run.first})
    for panel in panels:
        panel.set_xlabel("update t")
        panel.set_xlim(-0.02 * steps, 1.02 * steps)
        for start in starts:
            panel.axvline(start, **_START)
    comparing.legend_of(loss, runs, looks)
    if starts:
        loss.plot([], [], **_START, label="a run is continued")

    loss.set_ylabel("training loss (nats)")
    curves = [comparing.evaluated(run, "train_loss", positive=True) for run in runs]
    notes = comparing.draw_curves(loss, runs, curves, looks)
    if notes is None:
        style.say(loss, "no run was evaluated")
    else:
        style.plain_log(loss)
    style.title(loss, f"{name}: loss over the training set", notes or [], width=_NOTE_WIDTH)

    accuracy.set_ylabel("validation accuracy (%)")
    curves = [comparing.evaluated(run, "validation_accuracy", factor=100.0) for run in runs]
    notes = comparing.draw_curves(accuracy, runs, curves, looks)
    if notes is None:
        evaluated = any(len(run.tables["evaluation"]) for run in runs)
        style.say(accuracy, "the data set has no validation images" if evaluated else "no run was evaluated")
    style.title(accuracy, f"{name}: accuracy over the validation set", notes or [], width=_NOTE_WIDTH)

    cosine.set_ylabel(comparing.COSINE)
    cosine.axhline(0.0, color="#BBBBBB", linewidth=0.7, zorder=0)
    windows = sorted({run.settings["analysis"]["smoothing"] for run in runs})
    curves = [
        comparing.over_updates(run, comparing.cosines, window=run.settings["analysis"]["smoothing"]) for run in runs
    ]
    notes = comparing.draw_curves(cosine, runs, curves, looks)
    if notes is None:
        style.say(cosine, "no run has two gradients")
    elif windows != [1]:
        notes.append(f"moving average of {' or '.join(map(str, windows))} updates")
    style.title(cosine, f"{name}: cosine of consecutive gradients", notes or [], width=_NOTE_WIDTH)

    distance.set_ylabel(comparing.DISTANCE)
    curves = [comparing.over_updates(run, comparing.distances, window=1, positive=True) for run in runs]
    notes = comparing.draw_curves(distance, runs, curves, looks)
    if notes is None:
        style.say(distance, "no run made a step")
    else:
        style.plain_log(distance)
        notes += ["of continued runs: from where they start"] if starts else []
    style.title(distance, f"{name}: distance from initialisation", notes or [], width=_NOTE_WIDTH)
