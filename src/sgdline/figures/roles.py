"""What the batch size and what the learning rate do: shared by the figures of their roles."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from sgdline.declare import registry
from sgdline.figures.base import Sheet
from sgdline.figures.grammar import comparing, style
from sgdline.tables import provenance

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


FloatArray = npt.NDArray[np.float64]

_NOTE_WIDTH = 80


@dataclass(frozen=True)
class _Column:
    """Runs that differ in one quantity alone, a panel of cosines above one of distances."""

    network: str
    fixed: str  # "lr 0.1"
    varied: str  # "batch size"
    runs: list[comparing.Run]  # with their labels, in the order of the quantity
    looks: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Roles(Sheet):
    """Roles of batch size and learning rate."""

    reads: ClassVar[tuple[str, ...]] = ("trace",)
    also: ClassVar[tuple[str, ...]] = ("hvp",)
    uses: ClassVar[tuple[str, ...]] = ("smoothing",)
    compares: ClassVar[bool] = True

    def draw(self, tables: Sequence[Mapping[str, pa.Table]], *, settings: Sequence[Mapping[str, Any]]) -> Figure:
        """Draw cosines and distances for several batch sizes at one lr, and for several lrs at one batch size.

        Args:
            tables: `trace` of each run, and `hvp` of those that have it.
            settings: As in `sgdline.figures.plot_comparison`.

        Source: walk fig4, fig31, fig32, fig33, W-M3, W-M4 (papers.md 5.3).
        """
        everything = [
            comparing.Run(own, block, _method(block, settings), style.divergence_step(own))
            for own, block in zip(tables, settings, strict=True)
        ]
        runs, doubles = _distinct(everything)
        columns = [
            column
            for name, own in comparing.by_network(runs).items()
            for column in (_column(own, name, varied="batch_size"), _column(own, name, varied="lr"))
        ]
        width = 5.6 * len(columns)
        rows = 1 + max(len(column.looks) + any(run.lost_at is not None for run in column.runs) for column in columns)
        figure = style.new_figure(
            self.heading(),
            footer=_footer(columns, doubles),
            width=width,
            height=7.6,
            legend_entries=style.legend_room(rows, width=width),
        )
        panels = figure.subplots(2, len(columns), squeeze=False)
        for place, column in enumerate(columns):
            _draw_column(panels[:, place].tolist(), column)
        style.column_legends(
            figure, panels[0].tolist(), titles=[f"{column.varied}, at {column.fixed}" for column in columns]
        )
        return figure


def _method(own: Mapping[str, Any], settings: Sequence[Mapping[str, Any]]) -> str:
    """Return what tells a run's optimizer and schedule from the others'; nothing where all are alike."""

    def optimizer(block: Mapping[str, Any]) -> str:
        return ", ".join(style.describe_optimizer(block["optimizer"])) or "plain SGD"

    def schedule(block: Mapping[str, Any]) -> str:
        return f"{registry.label(block['schedule']['name'])} schedule"

    return ", ".join(told(own) for told in (optimizer, schedule) if len({told(block) for block in settings}) > 1)


def _distinct(runs: Sequence[comparing.Run]) -> tuple[list[comparing.Run], int]:
    """Return each run once: two lists of settings, as experiments, may share one. Return how many were left out."""
    found: dict[tuple[Any, ...], comparing.Run] = {}
    for run in runs:
        names = ("dataset", "model", "lr", "batch_size", "seed")
        found.setdefault((*(style.setting_text(run.settings, name) for name in names), run.label), run)
    return list(found.values()), len(runs) - len(found)


def _column(runs: Sequence[comparing.Run], network: str, *, varied: str) -> _Column:
    """Return the runs at the lr (or batch size) that has most batch sizes (or lrs)."""
    fixed = "lr" if varied == "batch_size" else "batch_size"
    kept = _most_varied(runs, fixed=fixed, varied=varied)
    own = sorted(
        (run for run in runs if style.setting_text(run.settings, fixed) == kept),
        key=lambda run: float(run.settings[varied]),
    )
    names = {"lr": "lr", "batch_size": "batch size"}
    labels = {}
    for run in own:
        name = f"{names[varied]} {style.setting_text(run.settings, varied)}" + (f", {run.label}" if run.label else "")
        labels[id(run)] = name
    sharpness = {
        name: _sharpness([run for run in own if labels[id(run)] == name]) for name in dict.fromkeys(labels.values())
    }
    labelled = [replace(run, label=labels[id(run)] + sharpness[labels[id(run)]]) for run in own]
    distinct = list(dict.fromkeys(run.label for run in labelled))
    looks = dict(zip(distinct, comparing.ordered_looks(len(distinct)), strict=True))
    return _Column(network, f"{names[fixed]} {kept}", names[varied], labelled, looks)


def _most_varied(runs: Sequence[comparing.Run], *, fixed: str, varied: str) -> str:
    """Return the value of `fixed`, as text, that has most values of `varied`."""
    # ASSUME: in a full product all have equally many; the middle one then shows both directions from it.
    numbers = {style.setting_text(run.settings, fixed): float(run.settings[fixed]) for run in runs}
    pairs = {(style.setting_text(run.settings, fixed), style.setting_text(run.settings, varied)) for run in runs}
    counts = Counter(value for value, _ in pairs)
    most = max(counts.values())
    best = sorted((value for value in counts if counts[value] == most), key=lambda value: (numbers[value], value))
    return best[(len(best) - 1) // 2]


def _sharpness(runs: Sequence[comparing.Run]) -> str:
    """Return lr times the largest eigenvalue at the first and the last measured update, medians over the seeds."""
    ends, converged = [], True
    for run in runs:
        if "hvp" not in run.tables:
            continue
        table = run.tables["hvp"].sort_by("step")
        products = style.numbers(table, "lr_times_largest")
        finite = np.flatnonzero(np.isfinite(products))
        if finite.size:
            ends.append(products[finite[[0, -1]]])
            converged &= all(table["largest_converged"][int(row)].as_py() for row in finite[[0, -1]])
    if not ends:
        return ""
    first, last = np.median(ends, axis=0)
    about = "" if converged else "about "
    return f"  (lr·λ {about}{first:.2g} → {last:.2g})"


def _footer(columns: Sequence[_Column], doubles: int) -> list[str]:
    runs = list({id(run.tables): run for column in columns for run in column.runs}.values())
    lines = [comparing.of_runs(runs, keys=("lr", "batch_size", "seed"))]
    words = "cosine and distance of the training itself: gradients of its batches, BatchNorm in train mode"
    options = sorted({option for run in runs for option in style.describe_optimizer(run.settings["optimizer"])})
    lines.append("  ·  ".join([words, *options]))
    facts = [provenance(run.tables["hvp"]) for run in runs if "hvp" in run.tables]
    if facts:
        counts = sorted({fact["samples"] for fact in facts if isinstance(fact.get("samples"), int)})
        over = " or ".join(f"N = {count:,} samples" for count in counts) or "N not recorded"
        modes = " or ".join(sorted({str(fact.get("batch_norm", "not recorded")) for fact in facts}))
        lines.append(
            f"lr·λ: learning rate times the largest eigenvalue of the Hessian of the loss over {over}, BatchNorm in "
            f"{modes} mode, at the first → last measured update; about: not converged"
        )
    elif any(run.settings.get("lr_unit", "absolute") == "absolute" for run in runs):
        lines.append("no Hessian eigenvalue was measured: whether a step overshoots (lr·λ above 2) is not known here")
    if doubles:
        lines.append(f"{style.counted(doubles, 'run')} of another experiment left out: the same setting and seed again")
    plain = (
        replace(run, label=f"lr {style.lr_text(run.settings)}, batch size {run.settings['batch_size']}") for run in runs
    )
    return lines + comparing.losses(plain)


def _draw_column(panels: Sequence[Axes], column: _Column) -> None:
    cosine, distance = panels
    steps = max(run.settings["steps"] for run in column.runs)
    for panel in panels:
        panel.set_xlabel("update t")
        panel.set_xlim(-0.02 * steps, 1.02 * steps)
    comparing.legend_of(cosine, column.runs, column.looks)
    of_what = f"{column.network}, {column.fixed}: "

    cosine.set_ylabel(comparing.COSINE)
    cosine.axhline(0.0, color="#BBBBBB", linewidth=0.7, zorder=0)
    windows = {run.settings["analysis"]["smoothing"] for run in column.runs}
    curves = [
        comparing.over_updates(run, comparing.cosines, window=run.settings["analysis"]["smoothing"])
        for run in column.runs
    ]
    notes = _draw_or_say(cosine, column, curves, missing="no run has two gradients")
    if notes is not None:
        averaged = f"moving average of {' or '.join(map(str, sorted(windows)))} updates"
        if windows == {1}:
            notes.append("not smoothed")
        elif len({run.settings["seed"] for run in column.runs}) > 1:
            notes.append(averaged)
        else:
            cosine.set_ylim(*_limits(curves, _draw_measured(cosine, column)))
            notes.append(f"thin: as measured, thick: {averaged}")
    style.title(cosine, f"{of_what}cosine of consecutive gradients", notes or [], width=_NOTE_WIDTH)

    distance.set_ylabel(comparing.DISTANCE)
    curves = [comparing.over_updates(run, comparing.distances, window=1) for run in column.runs]
    notes = _draw_or_say(distance, column, curves, missing="no run made a step")
    style.title(distance, f"{of_what}distance from initialisation", notes or [], width=_NOTE_WIDTH)


def _draw_or_say(panel: Axes, column: _Column, curves: Sequence[comparing.Curve], *, missing: str) -> list[str] | None:
    notes = comparing.draw_curves(panel, column.runs, curves, column.looks)
    if notes is None:
        style.say(panel, missing)
    elif len(column.looks) == 1:
        notes.append(f"one {column.varied} only")
    return notes


def _draw_measured(panel: Axes, column: _Column) -> FloatArray:
    """Draw the cosines of every update thin, behind the averages; return them."""
    drawn = []
    for run in column.runs:
        curve = comparing.over_updates(run, comparing.cosines, window=1)
        drawn.append(curve.values)
        color = column.looks[run.label]["color"]
        panel.plot(curve.places, curve.values, color=color, linewidth=0.5, alpha=0.3, zorder=1)
    return np.concatenate(drawn)


def _limits(curves: Sequence[comparing.Curve], measured: FloatArray) -> tuple[float, float]:
    """Return y limits that hold the averages and all but the wildest measured values."""
    averages = np.concatenate([curve.values for curve in curves])
    low, high = np.nanquantile(measured, [0.02, 0.98])
    low, high = min(low, np.nanmin(averages), 0.0), max(high, np.nanmax(averages), 0.0)
    margin = 0.06 * (high - low) if high > low else 0.1
    return float(low - margin), float(high + margin)
