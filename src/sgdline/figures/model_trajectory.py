"""SGD on the quadratic model with a spectrum: loss, shell, pairs of runs and variances, predicted and simulated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sgdline.figures import _averages
from sgdline.figures.base import PanelSheet
from sgdline.figures.grammar import series, style
from sgdline.figures.grammar.sheet import Panel, draw_sheet
from sgdline.figures.grammar.style import FloatArray

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_POINTS = ("iterate", "ema", "two_point")
_PAIRS = {
    "same_batches": "same batches, two starts",
    "different_batches": "own batches, one start",
    "different_batches_ema": "EMA of those",
}
_LEAST = 1e-8  # of the first value: what the axis of distances reaches down to
_NOISE = {"hessian": "σ² = 1/h", "equal": "σ² = 1"}


@dataclass(frozen=True, kw_only=True)
class ModelTrajectory(PanelSheet):
    """Trajectories of SGD on the quadratic model.

    SGD on the quadratic model with a spectrum of eigenvalues: everything that a run shows there has a closed form,
    drawn as curves, and marks are means over simulated chains. Thin: the limit. (a) The full-batch loss above its
    minimum. (b) The squared length of iterate and averages in units of the stationary standard deviations; bands: the
    predicted standard deviation. (c) The squared distance of two runs; with batches of their own it tends to twice the
    sum of the variances. (d) The stationary variance along every eigenvector, simulated at the last update. (e) How
    many standard errors simulation and prediction are apart; crosses: the loss.
    """

    toy: ClassVar[str | None] = "quadratic_spectrum"
    panels: ClassVar[tuple[str, ...]] = ("loss", "shell", "pairs", "variances", "agreement")

    def draw(self, tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any]) -> Figure:
        """Draw loss, shell and distances over the updates; below, variances by direction and all deviations.

        Source: curious/fig_model_trajectory, papers.md 3.2, F1 to F3, F5, F11 to F13.
        """
        table = tables["quadratic_spectrum"]
        names = {
            name: series.average_text(name, parameter, None)
            for name, parameter in zip(
                _POINTS, (None, settings["ema_decay"], settings["two_point_distance"]), strict=True
            )
        }
        updates = settings["updates"]
        panels = [
            Panel("loss", "loss above its minimum", partial(_draw_loss, table, updates), height=2.4, span=2),
            Panel("shell", "shell", partial(_draw_shell, table, updates, names), height=2.4, span=2),
            Panel("pairs", "two runs", partial(_draw_pairs, table, updates), height=2.4, span=2),
            Panel("variances", "variance of every direction", partial(_draw_variances, table), height=2.4, span=3),
            Panel("agreement", "agreement", partial(_draw_agreement, table, updates), height=2.4, span=3),
        ]
        return draw_sheet(self, panels, footer=_footer(settings), columns=6)


def _footer(settings: Mapping[str, Any]) -> list[str]:
    lr, low, high = (settings[key] for key in ("lr", "smallest_eigenvalue", "largest_eigenvalue"))
    return [
        f"toy {settings['toy']}",
        f"{settings['directions']} eigenvalues h, {low:g} to {high:g}",
        f"lr {lr:g}, a = lr · h from {lr * low:.3g} to {lr * high:.3g}",
        _NOISE[settings["noise"]],
        f"{settings['chains']:,} chains from {settings['start']:g} standard deviations",
        f"seed {settings['seed']}",
        _averages.NO_NETWORK,
    ]


def _columns(table: pa.Table, quantity: str, *names: str) -> list[FloatArray]:
    """Return columns of the rows of a quantity."""
    rows = np.flatnonzero(np.array(table["quantity"].to_pylist(), dtype=object) == quantity)
    return [style.numbers(table, name)[rows] for name in names]


def _over_updates(panel: Axes, updates: int, label: str) -> None:
    panel.set_xscale("symlog", linthresh=1.0, linscale=0.3)
    panel.set_xlim(-0.1, 1.15 * updates)
    panel.set_xlabel("update t")
    panel.set_ylabel(label)


def _draw_quantity(panel: Axes, table: pa.Table, quantity: str, *, place: int, label: str | None) -> None:
    updates, predicted, simulated, limits = _columns(table, quantity, "update", "predicted", "simulated", "stationary")
    look, mark = _averages.look(place), _averages.mark(place)
    panel.plot(updates, np.where(predicted > 0.0, predicted, np.nan), **look)
    panel.plot(updates[::2], np.where(simulated > 0.0, simulated, np.nan)[::2], **mark)
    if limits.size and limits[0] > 0.0:
        panel.axhline(limits[0], color=look["color"], linewidth=0.6, zorder=0)
    if label is not None:
        _averages.label(panel, label, place)


def _draw_loss(table: pa.Table, updates: int, panel: Axes) -> Sequence[str]:
    _draw_quantity(panel, table, "loss", place=0, label=None)
    panel.set_yscale("log")
    _over_updates(panel, updates, "excess loss")
    return []


def _draw_shell(table: pa.Table, updates: int, names: Mapping[str, str], panel: Axes) -> Sequence[str]:
    for place, point in enumerate(_POINTS):
        quantity = f"shell_{point}"
        _draw_quantity(panel, table, quantity, place=place, label=names[point])
        own, predicted, deviation = _columns(table, quantity, "update", "predicted", "predicted_deviation")
        low = np.maximum(predicted - deviation, 0.05 * predicted)  # a logarithmic axis
        band: dict[str, Any] = {"color": _averages.look(place)["color"], "alpha": 0.18, "linewidth": 0.0, "zorder": 0}
        panel.fill_between(own, low, predicted + deviation, **band)
    panel.set_yscale("log")
    _over_updates(panel, updates, r"$y^T \mathrm{diag}(V)^{-1} y$")
    return []


def _draw_pairs(table: pa.Table, updates: int, panel: Axes) -> Sequence[str]:
    for place, (quantity, label) in enumerate(_PAIRS.items(), start=len(_POINTS)):
        _draw_quantity(panel, table, quantity, place=place, label=label)
    panel.set_yscale("log")
    highest = max(float(_columns(table, quantity, "predicted")[0].max()) for quantity in _PAIRS)
    if highest > 0.0:
        panel.set_ylim(_LEAST * highest, 3.0 * highest)
    _over_updates(panel, updates, "squared distance")
    return []


def _draw_variances(table: pa.Table, panel: Axes) -> Sequence[str]:
    for place, point in enumerate(_POINTS):
        names = ("relative_lr", "stationary", "simulated", "standard_error")
        rates, limits, simulated, error = _columns(table, f"variance_{point}", *names)
        if rates.size:
            panel.plot(rates, limits, **_averages.look(place))
            panel.errorbar(rates, simulated, error, **_averages.mark(place), elinewidth=0.9)
    panel.set_yscale("log")
    style.plain_log(panel, "x")
    panel.set_xlabel("a = lr · h")
    panel.set_ylabel("variance")
    return [f"marks: simulated, at update {int(style.numbers(table, 'update').max()):,}, ± standard error"]


def _draw_agreement(table: pa.Table, updates: int, panel: Axes) -> Sequence[str]:
    """Draw how many standard errors simulation and prediction are apart."""
    panel.axhspan(-3.0, 3.0, color="#EEEEEE", zorder=0)
    panel.axhline(0.0, color="#BBBBBB", linewidth=0.7, zorder=0)
    found = []
    for place, quantity in enumerate(("loss", *(f"shell_{point}" for point in _POINTS), *_PAIRS), start=-1):
        own, *values = _columns(table, quantity, "update", "predicted", "simulated", "standard_error")
        predicted, simulated, error = values
        random = error > 1e-9 * np.abs(predicted)  # rounding is no sampling error
        if not random.any():
            continue
        apart = (simulated - predicted)[random] / error[random]
        found.append(apart)
        mark = _averages.mark(place) if place >= 0 else {**_averages.mark(0), "color": "#000000", "marker": "x"}
        panel.plot(own[random], apart, **mark, alpha=0.8)
    _over_updates(panel, updates, "standard errors apart")
    notes = []
    if found:
        every = np.concatenate(found)
        share = float((np.abs(every) <= 2.0).mean())
        notes = [f"{100.0 * share:.0f} % of {every.size} values within two standard errors"]
    predicted, simulated = _columns(table, "same_batches", "predicted", "simulated")
    some = predicted > 0.0
    if some.any():
        worst = np.abs(simulated[some] / predicted[some] - 1.0).max()
        notes.append(f"same batches, nothing random: within {worst:.0e}")
    return notes
