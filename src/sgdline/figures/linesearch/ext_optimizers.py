"""Optimizers compared as training runs of their own: loss, accuracy, and the steps that each of them chose."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sgdline.figures import series, style
from sgdline.figures.spec import FigureSpec
from sgdline.tables import provenance

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SPEC = FigureSpec(
    id="linesearch/ext_optimizers",
    title="Optimizers compared as training runs",
    tables=("evaluation", "trace"),
    probes=("evaluation",),
    analysis=("smoothing",),
    compares=True,
)

FloatArray = npt.NDArray[np.float64]

_NAMES = {"sgd": "SGD", "pal": "PAL", "fbpal_sgd": "FBPAL&SGD"}
# Colours that keep apart for the colour-blind; neighbours differ in lightness and line style as well, for grey.
_COLORS = ("#0072B2", "#D55E00", "#1B9E77", "#000000", "#E69F00", "#8856A7", "#56B4E9", "#B2182B", "#777777")
_STYLES: tuple[Any, ...] = ("-", (0, (5, 1.2)), (0, (6, 1.5, 1, 1.5)), (0, (1, 1)), (0, (3, 1, 1, 1, 1, 1)))
# Points of a curve over the updates: more than a panel has pixels, whatever the length of the run.
_POINTS = 1000
_NOTE_WIDTH = 78


@dataclass(frozen=True)
class _Run:
    tables: Mapping[str, pa.Table]
    settings: Mapping[str, Any]
    label: str  # of its setting: all that it is trained with but the seed
    lost_at: int | None  # update at which it diverged


@dataclass(frozen=True)
class _Curve:
    """One quantity of one run."""

    steps: FloatArray  # (T,)
    values: FloatArray  # (T,), NaN where there is none


def draw(tables: Sequence[Mapping[str, pa.Table]], *, settings: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw training loss, test accuracy, step length and learning rate over the updates, a column per model.

    Args:
        tables: `evaluation` and `trace` of each run.
        settings: As in `sgdline.figures.plot_comparison`.

    Source: new; the papers look at PAL and FBPAL&SGD on the lines of an SGD run only (papers.md M6, M7, 2.4).
    """
    labels = _labels(settings)
    runs = [
        _Run(own, block, label, style.divergence_step(own))
        for own, block, label in zip(tables, settings, labels, strict=True)
    ]
    columns: dict[tuple[str, str], list[_Run]] = {}
    for run in runs:
        columns.setdefault((run.settings["dataset"], run.settings["model"]), []).append(run)
    looks = {label: _look(place) for place, label in enumerate(dict.fromkeys(labels))}
    wide = len(columns) > 1
    figure = style.new_figure(
        SPEC.title,
        footer=_footer(runs),
        width=5.4 * len(columns) if wide else 10.5,
        height=11.6 if wide else 7.6,
        legend_entries=len(looks) + any(run.lost_at is not None for run in runs),
    )
    panels = figure.subplots(4, len(columns), squeeze=False) if wide else figure.subplots(2, 2).reshape(4, 1)
    several_datasets = len({dataset for dataset, _ in columns}) > 1
    for place, ((dataset, model), own) in enumerate(columns.items()):
        name = f"{model} on {dataset}" if several_datasets else model
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
    experiments: dict[str, set[str]] = {}
    for name, block in zip(short, settings, strict=True):
        experiments.setdefault(name, set()).add(block["experiment"])
    return [
        f"{name} ({block['experiment']})" if len(experiments[name]) > 1 else name
        for name, block in zip(short, settings, strict=True)
    ]


def _label(settings: Mapping[str, Any]) -> str:
    optimizer = settings["optimizer"]
    name = optimizer["name"]
    parts = [_NAMES.get(name, name), f"lr {settings['lr']}" if name == "sgd" else f"μ {settings['lr']}"]
    shared = {key: entry for key, entry in optimizer.items() if entry and key not in ("name", name, "noise")}
    return ", ".join(parts + _options(shared) + style.describe_noise(optimizer))


def _options(block: Mapping[str, Any]) -> list[str]:
    return [
        f"{key.replace('_', ' ')} {entry if isinstance(entry, str) else format(entry, '.4g')}"
        for key, entry in block.items()
    ]


def _own_options(runs: Sequence[_Run]) -> list[str]:
    """Return the options that an update rule has to itself; with their experiments where those differ in them."""
    experiments: dict[tuple[str, str], list[str]] = {}
    for run in runs:
        name = run.settings["optimizer"]["name"]
        block = run.settings["optimizer"].get(name)
        if isinstance(block, Mapping):
            own = experiments.setdefault((name, ", ".join(_options(block))), [])
            own += [run.settings["experiment"]] if run.settings["experiment"] not in own else []
    rules = [name for name, _ in experiments]
    return [
        f"{_NAMES.get(name, name)}: {words}" + (f" ({', '.join(own)})" if rules.count(name) > 1 else "")
        for (name, words), own in experiments.items()
    ]


def _look(place: int) -> dict[str, Any]:
    return {"color": _COLORS[place % len(_COLORS)], "linestyle": _STYLES[place % len(_STYLES)], "linewidth": 1.9}


def _footer(runs: Sequence[_Run]) -> list[str]:
    """Return what the comparison is of, what it was measured on, and which runs were lost."""

    def listed(key: str, name: str) -> str:
        found = list(dict.fromkeys(str(run.settings[key]) for run in runs))
        return f"{name if len(found) == 1 else name + 's'} {', '.join(found)}"

    facts = [provenance(run.tables["evaluation"]) for run in runs]
    modes = sorted({str(fact.get("batch_norm", "not recorded")) for fact in facts})
    counts = [
        " or ".join(f"{count:,}" for count in sorted({fact[key] for fact in facts if key in fact})) or "not recorded"
        for key in ("samples", "test_samples")
    ]
    lines = [
        "  ·  ".join(
            listed(key, name)
            for key, name in (
                ("experiment", "experiment"),
                ("dataset", "data set"),
                ("model", "model"),
                ("batch_size", "batch size"),
                ("seed", "seed"),
            )
        ),
        f"loss and accuracy over N = {counts[0]} training and {counts[1]} test images, not augmented  ·  "
        f"BatchNorm in {' or '.join(modes)} mode  ·  step lengths and learning rates as executed",
    ]
    options = _own_options(runs)
    if options:
        lines.append("  ·  ".join(["μ: measuring step", *options]))
    lost = [
        f"{run.label}, {run.settings['model']}, seed {run.settings['seed']} at update {run.lost_at}"
        for run in runs
        if run.lost_at is not None
    ]
    if lost:
        lines.append("DIVERGED: " + "; ".join(lost))
    return lines


def _draw_column(panels: list[Axes], runs: list[_Run], looks: Mapping[str, dict[str, Any]], *, name: str) -> None:
    loss, accuracy, length, lr = panels
    steps = max(run.settings["steps"] for run in runs)
    for panel in panels:
        panel.set_xlabel("update t")
        panel.set_xlim(-0.02 * steps, 1.02 * steps)
    for label in dict.fromkeys(run.label for run in runs):
        loss.plot([], [], **looks[label], label=label)
    if any(run.lost_at is not None for run in runs):
        loss.plot([], [], color="#333333", linestyle="", marker="x", markersize=6.0, label="a run diverged")

    loss.set_ylabel("training loss (nats)")
    curves = [_evaluated(run, "train_loss", positive=True) for run in runs]
    notes = _draw_curves(loss, runs, curves, looks)
    if notes is None:
        style.say(loss, "no run was evaluated")
    else:
        loss.set_yscale("log")
    style.title(loss, f"{name}: loss over the training set", notes or [], width=_NOTE_WIDTH)

    accuracy.set_ylabel("test accuracy (%)")
    curves = [_evaluated(run, "test_accuracy", factor=100.0) for run in runs]
    notes = _draw_curves(accuracy, runs, curves, looks)
    if notes is None:
        evaluated = any(len(run.tables["evaluation"]) for run in runs)
        style.say(accuracy, "the data set has no test images" if evaluated else "no run was evaluated")
    else:
        notes = _cut_start(accuracy, curves, steps=steps)
    style.title(accuracy, f"{name}: accuracy over the test set", notes or [], width=_NOTE_WIDTH)

    windows = sorted({run.settings["analysis"]["smoothing"] for run in runs})
    smoothed = [] if windows == [1] else [f"moving average of {' or '.join(map(str, windows))} updates"]
    for panel, title, unit, taken in (
        (length, "length of the step, lr · ||m||", "Euclidean length", _step_lengths),
        (lr, "learning rate in use", "learning rate", _learning_rates),
    ):
        panel.set_ylabel(unit)
        notes = _draw_curves(panel, runs, [_over_updates(run, taken) for run in runs], looks)
        if notes is None:
            style.say(panel, "no run made a step")
        else:
            panel.set_yscale("log")
            notes = smoothed + (_standing(runs) if panel is length else [])
        style.title(panel, f"{name}: {title}", notes or [], width=_NOTE_WIDTH)


def _evaluated(run: _Run, column: str, *, factor: float = 1.0, positive: bool = False) -> _Curve:
    table = run.tables["evaluation"].sort_by("step")
    values = factor * style.numbers(table, column)
    usable = np.isfinite(values) & (values > 0 if positive else True)
    return _Curve(style.numbers(table, "step"), np.where(usable, values, np.nan))


def _over_updates(run: _Run, taken: Callable[[pa.Table], FloatArray]) -> _Curve:
    """Return a quantity of every update, smoothed and thinned; averages of nothing but zeros are NaN."""
    trace = _moves(run)
    steps, values = style.numbers(trace, "step"), taken(trace)
    window = min(run.settings["analysis"]["smoothing"], max(len(steps), 1))
    centres, means = series.moving_average(steps, values, window=window)
    every = max(len(centres) // _POINTS, 1)
    return _Curve(centres[::every], np.where(means > 0, means, np.nan)[::every])


def _moves(run: _Run) -> pa.Table:
    """Return the updates that moved the parameters; the one at which a run was lost did not."""
    trace = run.tables["trace"].sort_by("step")
    return trace.filter(np.array([status == "ok" for status in trace["status"].to_pylist()], dtype=bool))


def _learning_rates(trace: pa.Table) -> FloatArray:
    return style.numbers(trace, "lr")


def _step_lengths(trace: pa.Table) -> FloatArray:
    return style.numbers(trace, "lr") * style.numbers(trace, "direction_norm")


def _draw_curves(
    panel: Axes, runs: Sequence[_Run], curves: Sequence[_Curve], looks: Mapping[str, dict[str, Any]]
) -> list[str] | None:
    """Draw each run and, thick, the median over the seeds of a setting.

    Returns:
        The note that says what thin and thick mean; None if there is nothing to draw.
    """
    if not any(np.isfinite(curve.values).any() for curve in curves):
        return None
    several = False
    for label, look in looks.items():
        own = [curve for run, curve in zip(runs, curves, strict=True) if run.label == label]
        if len(own) > 1:
            several = True
            for curve in own:
                panel.plot(curve.steps, curve.values, color=look["color"], linewidth=0.7, alpha=0.55)
        if own:
            middle = own[0] if len(own) == 1 else _median(own)
            marker = "o" if np.isfinite(middle.values).sum() < 3 else None
            panel.plot(middle.steps, middle.values, **look, marker=marker, markersize=3.0)
    for run, curve in zip(runs, curves, strict=True):
        finite = np.flatnonzero(np.isfinite(curve.values))
        if run.lost_at is not None and finite.size:
            end = finite[-1]
            color = looks[run.label]["color"]
            panel.plot(curve.steps[end], curve.values[end], color=color, marker="x", markersize=6.0, linestyle="")
    return ["thin: each seed, thick: their median, where all have a value"] if several else []


def _median(curves: Sequence[_Curve]) -> _Curve:
    """Return the median at the updates that all curves have; NaN where one of them has no value."""
    steps = curves[0].steps
    for curve in curves[1:]:
        steps = np.intersect1d(steps, curve.steps)
    stacked = [curve.values[np.searchsorted(curve.steps, steps)] for curve in curves]
    return _Curve(steps, np.median(np.array(stacked), axis=0))


def _cut_start(panel: Axes, curves: Sequence[_Curve], *, steps: int) -> list[str]:
    """Set y limits that the first tenth of the run, when nothing is learnt yet, does not stretch."""
    every = np.concatenate([curve.values for curve in curves])
    late = np.concatenate([curve.values[curve.steps >= 0.1 * steps] for curve in curves])
    late = late[np.isfinite(late)]
    if late.size < 2 or late.max() == late.min():
        return []
    margin = 0.06 * (late.max() - late.min())
    limits = (float(late.min() - margin), float(max(late.max(), np.nanmax(every)) + margin))
    panel.set_ylim(*limits)
    return style.outside_note(every, limits)


def _standing(runs: Sequence[_Run]) -> list[str]:
    """Return a note on the settings whose updates at times had no length."""
    shares = []
    for label in dict.fromkeys(run.label for run in runs):
        lengths = np.concatenate([_step_lengths(_moves(run)) for run in runs if run.label == label])
        share = 100.0 * float(np.mean(lengths == 0.0)) if lengths.size else 0.0
        if share:
            shares.append(f"{share:.2g} % ({label})")
    return [f"updates without a step: {', '.join(shares)}"] if shares else []
