"""What the batch size and what the learning rate do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sgdline.declare import registry
from sgdline.figures.base import PanelSheet
from sgdline.figures.grammar import comparing, style
from sgdline.figures.grammar.sheet import Panel, draw_sheet
from sgdline.figures.grammar.style import FloatArray

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class _Column:
    """Runs that differ in one quantity alone, a panel of cosines above one of distances."""

    key: str  # batch_size or lr, what differs
    varied: str  # the same in words
    fixed: str  # "at lr 0.1"
    runs: list[comparing.Run]  # with their labels, in the order of the quantity
    looks: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Roles(PanelSheet):
    """Roles of batch size and learning rate.

    One column of panels has several batch sizes at one learning rate, the other one several learning rates at one batch
    size. Above: the cosine of consecutive batch gradients, the first update having none; below: the distance of the
    parameters from initialisation. Several seeds: their median with a band from the lowest to the highest; a single
    one: thin each update, thick the moving average. Behind a label is lr times the largest eigenvalue of the Hessian at
    the first and the last update where it was measured, "about" where its iteration did not converge.
    """

    reads: ClassVar[tuple[str, ...]] = ("trace",)
    also: ClassVar[tuple[str, ...]] = ("hvp",)
    uses: ClassVar[tuple[str, ...]] = ("smoothing",)
    compares: ClassVar[bool] = True
    panels: ClassVar[tuple[str, ...]] = ("cosine_batch_size", "cosine_lr", "distance_batch_size", "distance_lr")

    def draw(self, tables: Sequence[Mapping[str, pa.Table]], *, settings: Sequence[Mapping[str, Any]]) -> Figure:
        """Draw cosines and distances for several batch sizes at one lr, and for several lrs at one batch size.

        Source: walk fig4, fig31, fig32, fig33, W-M3, W-M4 (papers.md 5.3).
        """
        everything = comparing.runs_of(tables, settings, (_method(block, settings) for block in settings))
        runs, doubles = _distinct(everything)
        networks = comparing.by_network(runs)
        panels = []
        shown = []
        for name, own in networks.items():
            network = f"{name}, " if len(networks) > 1 else ""
            pair = [_column(own, network, varied=varied) for varied in ("batch_size", "lr")]
            rows = [[panel(column) for column in pair] for panel in (_cosine_panel, _distance_panel)]
            if self.width == "column":  # below one another: those of one legend together
                rows = [list(column) for column in zip(*rows, strict=True)]
            panels += [panel for row in rows for panel in row]
            shown += pair
        return draw_sheet(self, panels, footer=_facts(shown, doubles), columns=2)


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
    return _Column(varied, names[varied], f"{network}at {names[fixed]} {kept}", labelled, looks)


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


def _facts(columns: Sequence[_Column], doubles: int) -> list[str]:
    runs = list({id(run.tables): run for column in columns for run in column.runs}.values())
    runs = [replace(run, label=f"lr {style.lr_text(run.settings)}, batch {run.settings['batch_size']}") for run in runs]
    measured = []
    if doubles:
        measured.append(f"{style.counted(doubles, 'run')} of another experiment left out, a repetition")
    if any("hvp" in run.tables for run in runs):
        measured += comparing.measured_on(runs, "hvp", what="lr·λ of the loss")
    elif any(run.settings.get("lr_unit", "absolute") == "absolute" for run in runs):
        measured.append("no Hessian eigenvalue was measured: lr·λ is not known")
    measured.append("cosine of the training's own batches, BatchNorm in train mode")
    return comparing.facts(runs, measured=measured)


def _cosine_panel(column: _Column) -> Panel:
    draw = partial(_draw_cosines, column)
    return Panel(f"cosine_{column.key}", "cosine of consecutive gradients", draw, [column.fixed], legend=False)


def _distance_panel(column: _Column) -> Panel:
    draw = partial(_draw_distances, column)
    return Panel(f"distance_{column.key}", "distance from initialisation", draw, [column.fixed], legend="own")


def _draw_cosines(column: _Column, panel: Axes) -> Sequence[str]:
    panel.set_ylabel(comparing.COSINE)
    panel.axhline(0.0, color="#BBBBBB", linewidth=0.7, zorder=0)
    curves, averaged = comparing.smoothed(column.runs, comparing.cosines)
    notes = _draw(panel, column, curves, missing="no run has two gradients")
    if not averaged:
        return [*notes, "not smoothed"]
    if len({run.settings["seed"] for run in column.runs}) > 1:
        return [*notes, *averaged]
    panel.set_ylim(*_limits(curves, _draw_measured(panel, column)))
    return [*notes, f"thin: as measured, thick: {averaged[0]}"]


def _draw_distances(column: _Column, panel: Axes) -> Sequence[str]:
    panel.set_ylabel(comparing.DISTANCE)
    curves = [comparing.over_updates(run, comparing.distances, window=1) for run in column.runs]
    return _draw(panel, column, curves, missing="no run made a step")


def _draw(panel: Axes, column: _Column, curves: Sequence[comparing.Curve], *, missing: str) -> list[str]:
    comparing.along_updates(panel, column.runs)
    comparing.legend_of(panel, column.runs, column.looks)
    notes = comparing.draw_settings(panel, column.runs, curves, column.looks, missing=missing)
    return [*notes, f"one {column.varied} only"] if len(column.looks) == 1 else notes


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
