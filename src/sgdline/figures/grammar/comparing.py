"""Runs side by side: seeds and their median, looks of the settings, columns of the networks, what a footer says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from sgdline.figures.grammar import series, style
from sgdline.figures.grammar.sheet import NoDataError
from sgdline.figures.grammar.style import FloatArray
from sgdline.tables import provenance

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes


# Colours that keep apart for the colour-blind; neighbours differ in lightness and line style as well, for grey.
_COLORS = ("#0072B2", "#D55E00", "#1B9E77", "#000000", "#E69F00", "#8856A7", "#56B4E9", "#B2182B", "#777777")
_STYLES: tuple[Any, ...] = ("-", (0, (5, 1.2)), (0, (6, 1.5, 1, 1.5)), (0, (1, 1)), (0, (3, 1, 1, 1, 1, 1)))
# Settings in an order, such as batch sizes: even in lightness; the map's yellow end would not show on white.
_COLOR_MAP, _LIGHTEST = "viridis", 0.86
_BAND_NOTE = "median and range over the seeds"
COSINE, DISTANCE = r"$\cos(g_{t-1}, g_t)$", r"$\|\theta_t - \theta_0\|$ (length)"  # labels of y axes
# Points of a curve over the updates: more than a panel has pixels, whatever the length of the run.
_POINTS = 1000


@dataclass(frozen=True)
class Run:
    """One run of a comparison."""

    tables: Mapping[str, pa.Table]
    settings: Mapping[str, Any]
    label: str  # of its setting: all that it is trained with but the seed
    first: int = 0  # where its update 0 is drawn: a run that continues another one begins later

    @cached_property
    def lost_at(self) -> int | None:
        """Update at which it diverged."""
        return style.divergence_step(self.tables)


@dataclass(frozen=True)
class Curve:
    """One quantity of one run."""

    places: FloatArray  # (T,) on the x axis, ascending
    values: FloatArray  # (T,), NaN where there is none


def runs_of(
    tables: Sequence[Mapping[str, pa.Table]], settings: Sequence[Mapping[str, Any]], labels: Iterable[str]
) -> list[Run]:
    """Return the runs of a comparison with the labels of their settings."""
    return [Run(*parts) for parts in zip(tables, settings, labels, strict=True)]


def looks_of(labels: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return the look of each setting, by its place among them."""
    return {label: look(place) for place, label in enumerate(dict.fromkeys(labels))}


def look(place: int) -> dict[str, Any]:
    """Return the plot arguments of the setting at that place in a legend."""
    return {"color": _COLORS[place % len(_COLORS)], "linestyle": _STYLES[place % len(_STYLES)], "linewidth": 1.9}


def ordered_looks(count: int) -> list[dict[str, Any]]:
    """Return the plot arguments of settings that have an order, the last one darkest and solid."""
    import matplotlib

    colors = matplotlib.colormaps[_COLOR_MAP]
    return [
        {"color": colors(place), "linestyle": _STYLES[(count - 1 - index) % len(_STYLES)], "linewidth": 1.8}
        for index, place in enumerate(np.linspace(_LIGHTEST if count > 1 else 0.0, 0.0, count))
    ]


def with_experiments(names: Sequence[str], settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return labels with the experiment behind those names that several experiments share."""
    experiments: dict[str, set[str]] = {}
    for name, block in zip(names, settings, strict=True):
        experiments.setdefault(name, set()).add(block["experiment"])
    return [
        f"{name} ({block['experiment']})" if len(experiments[name]) > 1 else name
        for name, block in zip(names, settings, strict=True)
    ]


def by_network(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """Return the runs of each network, in order; its name says the data set where there are several."""
    found = list(runs)
    several = len({run.settings["dataset"] for run in found}) > 1
    columns: dict[str, list[Run]] = {}
    for run in found:
        name = f"{run.settings['model']} on {run.settings['dataset']}" if several else run.settings["model"]
        columns.setdefault(name, []).append(run)
    return columns


def facts(
    runs: Sequence[Run], *, keys: Sequence[str] = ("lr", "batch_size", "seed"), measured: Sequence[str] = ()
) -> list[str]:
    """Return the facts of a comparison's footer, the most important first: what diverged, which runs, on what measured.

    Args:
        runs: All runs of the comparison.
        keys: Settings that are stated, beside data set, model and experiment: lr, batch_size, seed.
        measured: What the quantities shown were measured on.
    """
    names = {"dataset": "data set", "batch_size": "batch size"}

    def listed(key: str) -> str:
        name = names.get(key, key)
        values = list(dict.fromkeys(style.setting_text(run.settings, key) for run in runs))
        return f"{name if len(values) == 1 else name + 's'} {', '.join(values)}"

    rules = list(dict.fromkeys(", ".join(style.describe_optimizer(run.settings["optimizer"])) for run in runs))
    rules = [rule or "plain SGD" for rule in rules] if len(rules) > 1 else [rule for rule in rules if rule]
    return [
        *losses(runs),
        *map(listed, ("model", "dataset", *keys)),
        *measured,
        *([" or ".join(rules)] if rules else []),
        *style.lr_unit_note([run.settings for run in runs]),
        listed("experiment"),
    ]


def measured_on(
    runs: Sequence[Run], kind: str, *, what: str, split: str | None = None, images: str = "samples"
) -> list[str]:
    """Return the facts on what a quantity was measured on: number of samples and BatchNorm mode.

    Args:
        runs: Those without the table are passed over.
        kind: Of the table that has the quantity.
        what: The quantity, such as `full-batch loss`.
        split: Measured as well as the training set: validation or test.
        images: What the samples are called.
    """
    known = [provenance(run.tables[kind]) for run in runs if kind in run.tables]
    modes = sorted({str(own.get("batch_norm", "not recorded")) for own in known})
    counts = []
    for key in ("samples", *([f"{split}_samples"] if split else [])):
        sizes = sorted({own[key] for own in known if isinstance(own.get(key), int)})
        counts.append(" or ".join(f"{size:,}" for size in sizes) or "not recorded")
    over = f"{counts[0]} {images}" if split is None else f"{counts[0]} training and {counts[1]} {split} {images}"
    return [f"{what} over N = {over}", f"BatchNorm in {' or '.join(modes)} mode"]


def losses(runs: Iterable[Run]) -> list[str]:
    """Return the fact of a footer on the runs that diverged, or none; of many it gives their number first."""
    every = list(runs)
    lost = [
        f"{run.label}, {run.settings['model']}, seed {run.settings['seed']} at update {run.lost_at}"
        for run in every
        if run.lost_at is not None
    ]
    number = f" ({len(lost)} of {len(every)} runs)" if len(lost) > 2 else ""
    return [f"DIVERGED{number}: {'; '.join(lost)}"] if lost else []


def tested_split(runs: Sequence[Run], kind: str) -> str:
    """Return the split whose accuracy is shown: test, or validation where a table of that kind has no test images."""
    tested = any(np.isfinite(style.numbers(run.tables[kind], "test_accuracy")).any() for run in runs)
    return "test" if tested else "validation"


def evaluated(run: Run, column: str, *, against: str = "step", factor: float = 1.0, positive: bool = False) -> Curve:
    """Return a column of the evaluations.

    Args:
        run: With the table `evaluation`.
        column: A numeric one.
        against: The x axis: `step` or `epoch`.
        factor: On the values.
        positive: Whether values that are not positive are left out, for a logarithmic axis.
    """
    table = run.tables["evaluation"].sort_by("step")
    values = factor * style.numbers(table, column)
    usable = np.isfinite(values) & (values > 0 if positive else True)
    return Curve(style.numbers(table, against) + run.first * (against == "step"), np.where(usable, values, np.nan))


def over_updates(
    run: Run, taken: Callable[[pa.Table], FloatArray], *, window: int, against: str = "step", positive: bool = False
) -> Curve:
    """Return a quantity of every update, smoothed and thinned.

    Args:
        run: With the table `trace`.
        taken: From the trace, sorted, to the quantity. Shape (T,).
        window: Updates in the moving average; a shorter run is averaged as a whole.
        against: The x axis: `step` or `epoch`.
        positive: Whether averages that are not positive are left out, for a logarithmic axis.
    """
    trace = moves(run)
    places, values = style.numbers(trace, against), taken(trace)
    centres, means = series.moving_average(places, values, window=min(window, max(len(places), 1)))
    every = max(len(centres) // _POINTS, 1)
    if positive:
        means = np.where(means > 0, means, np.nan)
    return Curve((centres + run.first * (against == "step"))[::every], means[::every])


def smoothed(
    runs: Sequence[Run], taken: Callable[[pa.Table], FloatArray], *, positive: bool = False
) -> tuple[list[Curve], list[str]]:
    """Return a quantity of every update as moving averages over `analysis.smoothing`, and a note on these.

    Args:
        runs: Each with its own window.
        taken: As for `over_updates`.
        positive: As for `over_updates`.
    """
    windows = [run.settings["analysis"]["smoothing"] for run in runs]
    curves = [over_updates(run, taken, window=own, positive=positive) for run, own in zip(runs, windows, strict=True)]
    return curves, window_note(windows)


def window_note(windows: Iterable[int], *, over: str = "updates") -> list[str]:
    """Return the words for the windows of moving averages; none where nothing is smoothed."""
    sizes = sorted(set(windows))
    return [] if sizes == [1] else [f"moving average of {' or '.join(map(str, sizes))} {over}"]


def draw_losses(
    panel: Axes, runs: Sequence[Run], looks: Mapping[str, Mapping[str, Any]], *, against: str = "step"
) -> list[str]:
    """Draw the evaluated training losses of several settings on a logarithmic axis; return notes."""
    panel.set_ylabel("training loss (nats)")
    curves = [evaluated(run, "train_loss", against=against, positive=True) for run in runs]
    notes = draw_settings(panel, runs, curves, looks, missing="no run was evaluated")
    style.plain_log(panel)
    return notes


def accuracies(panel: Axes, runs: Sequence[Run], split: str, *, against: str = "step") -> tuple[list[Curve], str]:
    """Name the y axis; return the accuracies over a split in per cent, and the words for a panel without any."""
    panel.set_ylabel(f"{split} accuracy (%)")
    curves = [evaluated(run, f"{split}_accuracy", against=against, factor=100.0) for run in runs]
    known = any(len(run.tables["evaluation"]) for run in runs)
    return curves, f"the data set has no {split} images" if known else "no run was evaluated"


def moves(run: Run) -> pa.Table:
    """Return the updates that moved the parameters; the one at which a run was lost did not."""
    trace = run.tables["trace"].sort_by("step")
    return trace.filter(np.array([status == "ok" for status in trace["status"].to_pylist()], dtype=bool))


def along_updates(panel: Axes, runs: Sequence[Run]) -> None:
    """Set the x axis to the updates of the longest run."""
    steps = max(run.first + run.settings["steps"] for run in runs)
    panel.set_xlabel("update t")
    panel.set_xlim(-0.02 * steps, 1.02 * steps)


def draw_settings(
    panel: Axes,
    runs: Sequence[Run],
    curves: Sequence[Curve],
    looks: Mapping[str, Mapping[str, Any]],
    *,
    missing: str,
) -> list[str]:
    """Draw one quantity of several settings, each over its seeds, and a cross where a run diverged.

    Args:
        panel: Where to.
        runs: Those whose label has no look are left out.
        curves: One of each run.
        looks: Plot arguments of each label.
        missing: What a panel without any value says.

    Returns:
        The notes that say what lines and bands mean.

    Raises:
        NoDataError: If there is nothing to draw.
    """
    if not any(np.isfinite(curve.values).any() for curve in curves):
        raise NoDataError(missing)
    notes: list[str] = []
    for label, plotted in looks.items():
        notes += draw_seeds(
            panel, [curve for run, curve in zip(runs, curves, strict=True) if run.label == label], plotted
        )
    for run, curve in zip(runs, curves, strict=True):
        finite = np.flatnonzero(np.isfinite(curve.values))
        if run.lost_at is not None and finite.size and run.label in looks:
            end = finite[-1]
            color = looks[run.label]["color"]
            panel.plot(curve.places[end], curve.values[end], color=color, marker="x", markersize=6.0, linestyle="")
    return list(dict.fromkeys(notes))


def draw_seeds(panel: Axes, curves: Sequence[Curve], plotted: Mapping[str, Any]) -> list[str]:
    """Draw the runs of one setting: their median, and a band from the lowest to the highest of them.

    Where one of them has no value, as after its divergence, there is no median: each is drawn thin then.

    Args:
        panel: Where to.
        curves: One of each seed; may be none.
        plotted: Plot arguments of the setting.

    Returns:
        The notes that say so; none for a single seed.
    """
    if not curves:
        return []
    places, values = _together(curves)
    middle = series.draw_spread(panel, places, values, plotted, whole=True)
    if len(curves) == 1:
        return []
    known = np.isfinite(middle).sum()
    if all(np.isfinite(curve.values).sum() == known for curve in curves):
        return [_BAND_NOTE]
    for curve in curves:
        panel.plot(curve.places, curve.values, color=plotted["color"], linewidth=0.7, alpha=0.55)
    return [_BAND_NOTE, "thin: each seed, as not all have every value"]


def _together(curves: Sequence[Curve]) -> tuple[FloatArray, FloatArray]:
    """Return the places that all curves have, (T,), and their values there, (curves, T)."""
    places = curves[0].places
    for curve in curves[1:]:
        places = np.intersect1d(places, curve.places)
    return places, np.array([curve.values[np.searchsorted(curve.places, places)] for curve in curves])


def median(curves: Sequence[Curve]) -> Curve:
    """Return the median at the places that all curves have; NaN where one of them has no value."""
    places, values = _together(curves)
    return Curve(places, series.spread(values, whole=True)[1])


def cut_start(panel: Axes, curves: Sequence[Curve], *, end: float) -> list[str]:
    """Set y limits that the first tenth of the run, when nothing is learnt yet, does not stretch.

    Args:
        panel: Where to.
        curves: What is drawn there, larger values being better.
        end: Of the x axis.

    Returns:
        A note that counts the values left out, or none.
    """
    every = np.concatenate([curve.values for curve in curves])
    late = np.concatenate([curve.values[curve.places >= 0.1 * end] for curve in curves])
    late = late[np.isfinite(late)]
    if late.size < 2 or late.max() == late.min():
        return []
    margin = 0.06 * (late.max() - late.min())
    limits = (float(late.min() - margin), float(max(late.max(), np.nanmax(every)) + margin))
    panel.set_ylim(*limits)
    return style.outside_note(every, limits)


def cosines(trace: pa.Table) -> FloatArray:
    """Return the cosine of each update's gradient with the one before (walk W-M3)."""
    return style.numbers(trace, "gradient_cosine")


def distances(trace: pa.Table) -> FloatArray:
    """Return the distance of each update's parameters from the run's first (walk W-M4)."""
    return style.numbers(trace, "distance_from_start")


def legend_of(panel: Axes, runs: Sequence[Run], looks: Mapping[str, Mapping[str, Any]]) -> None:
    """Put the entries of a shared legend into a panel: the settings of its runs, and the mark of a lost run."""
    for label in dict.fromkeys(run.label for run in runs):
        if label in looks:
            panel.plot([], [], **looks[label], label=label)
    if any(run.lost_at is not None for run in runs):
        panel.plot([], [], color="#333333", linestyle="", marker="x", markersize=6.0, label="a run diverged")
