"""SGD on the quadratic model with a spectrum: loss, shell, pairs of runs and variances, predicted and simulated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from sgdline.figures import _averages
from sgdline.figures.base import Sheet
from sgdline.figures.grammar import comparing, style

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


IntArray = npt.NDArray[np.int64]

_POINTS = ("iterate", "ema", "two_point")
_PAIRS = {
    "same_batches": "same batches, two starts",
    "different_batches": "own batches, one start",
    "different_batches_ema": "EMA of those",
}
_LEAST = 1e-8  # of the first value: what the axis of distances reaches down to
_NOISE = {"hessian": "σ² = 1/h", "equal": "σ² = 1"}


@dataclass(frozen=True, kw_only=True)
class ModelTrajectory(Sheet):
    """Trajectories of SGD on the quadratic model."""

    toy: ClassVar[str | None] = "quadratic_spectrum"

    def draw(self, tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any]) -> Figure:
        """Draw loss, shell and distances over the updates; below, variances by direction and all deviations.

        Args:
            tables: `quadratic_spectrum` of one toy.
            settings: As in `sgdline.figures.plot_figure`.

        Source: curious/fig_model_trajectory, papers.md 3.2, F1 to F3, F5, F11 to F13.
        """
        table = tables["quadratic_spectrum"]
        figure = style.new_figure(
            self.heading(),
            footer=_footer(settings),
            width=12.6,
            height=8.6,
            legend_entries=len(_POINTS) + len(_PAIRS) + 2,
        )
        grid = figure.add_gridspec(2, 6)
        loss, shell, pairs = (figure.add_subplot(grid[0, 2 * place : 2 * place + 2]) for place in range(3))
        variance, agreement = (figure.add_subplot(grid[1, 3 * place : 3 * place + 3]) for place in range(2))
        names = _names(settings)
        _draw_quantity(loss, table, "loss", look=_look(0), marker="o", label=None)
        loss.set_yscale("log")
        loss.set_ylabel("excess loss")
        style.title(loss, "full-batch loss above its minimum", ["curves: predicted, marks: simulated; thin: the limit"])
        for place, point in enumerate(_POINTS):
            _draw_quantity(shell, table, f"shell_{point}", look=_look(place), marker=_marker(place), label=names[point])
            _draw_band(shell, table, f"shell_{point}", color=_look(place)["color"])
        shell.set_yscale("log")
        shell.set_ylabel(r"$y^T \mathrm{diag}(V)^{-1} y$")
        notes = [f"{style.counted(settings['directions'], 'direction')}; bands: ± predicted standard deviation"]
        style.title(shell, "shell", notes)
        for place, (quantity, label) in enumerate(_PAIRS.items(), start=len(_POINTS)):
            _draw_quantity(pairs, table, quantity, look=_look(place), marker=_marker(place), label=label)
        _limit_distances(pairs, table)
        pairs.set_ylabel("squared distance")
        style.title(pairs, "two runs", ["own batches: tends to twice the sum of the variances"])
        for panel in (loss, shell, pairs):
            panel.set_xscale("symlog", linthresh=1.0, linscale=0.3)
            panel.set_xlim(-0.1, 1.15 * settings["updates"])
            panel.set_xlabel("update t")
        _draw_variances(variance, table, names)
        _draw_agreement(agreement, table, settings)
        style.shared_legend(figure, [shell, pairs])
        return figure


def _look(place: int) -> dict[str, Any]:
    return {**comparing.look(place), "linewidth": 1.6}


def _marker(place: int) -> str:
    return _averages.MARKERS[place % len(_averages.MARKERS)]


def _names(settings: Mapping[str, Any]) -> dict[str, str]:
    return {
        "iterate": "iterate",
        "ema": f"EMA, decay {settings['ema_decay']:g}",
        "two_point": f"two points, {style.counted(settings['two_point_distance'], 'update')} apart",
    }


def _footer(settings: Mapping[str, Any]) -> list[str]:
    lr = settings["lr"]
    smallest, largest = settings["smallest_eigenvalue"], settings["largest_eigenvalue"]
    return [
        f"toy {settings['toy']}  ·  quadratic batch losses of one Hessian, {settings['directions']} eigenvalues h from "
        f"{smallest:g} to {largest:g}, even in the logarithm  ·  lr {lr:g}, a = lr · h from {lr * smallest:.3g} to "
        f"{lr * largest:.3g}  ·  independent minimisers of variance {_NOISE[settings['noise']]}",
        f"{settings['chains']:,} chains from {settings['start']:g} stationary standard deviations along each direction"
        f"  ·  seed {settings['seed']}  ·  no network, no data, no BatchNorm",
    ]


def _rows(table: pa.Table, quantity: str) -> IntArray:
    return np.flatnonzero(np.array(table["quantity"].to_pylist(), dtype=object) == quantity)


def _draw_quantity(
    panel: Axes, table: pa.Table, quantity: str, *, look: Mapping[str, Any], marker: str, label: str | None
) -> None:
    rows = _rows(table, quantity)
    updates, predicted, simulated = (
        style.numbers(table, column)[rows] for column in ("update", "predicted", "simulated")
    )
    panel.plot(updates, np.where(predicted > 0.0, predicted, np.nan), **look)
    panel.plot(
        updates[::2], np.where(simulated > 0.0, simulated, np.nan)[::2], color=look["color"], marker=marker,
        linestyle="none", markersize=4.0,
    )  # fmt: skip
    limits = style.numbers(table, "stationary")[rows]
    if limits.size and limits[0] > 0.0:
        panel.axhline(limits[0], color=look["color"], linewidth=0.6, zorder=0)
    if label is not None:
        panel.plot([], [], **look, marker=marker, markersize=4.0, label=label)


def _draw_band(panel: Axes, table: pa.Table, quantity: str, *, color: str) -> None:
    rows = _rows(table, quantity)
    updates, predicted, deviation = (
        style.numbers(table, column)[rows] for column in ("update", "predicted", "predicted_deviation")
    )
    low = np.maximum(predicted - deviation, 0.05 * predicted)  # a logarithmic axis
    panel.fill_between(updates, low, predicted + deviation, color=color, alpha=0.18, linewidth=0.0, zorder=0)


def _limit_distances(panel: Axes, table: pa.Table) -> None:
    panel.set_yscale("log")
    rows = np.concatenate([_rows(table, quantity) for quantity in _PAIRS])
    values = style.numbers(table, "predicted")[rows]
    highest = float(values.max())
    if highest > 0.0:
        panel.set_ylim(_LEAST * highest, 3.0 * highest)


def _draw_variances(panel: Axes, table: pa.Table, names: Mapping[str, str]) -> None:
    for place, point in enumerate(_POINTS):
        rows = _rows(table, f"variance_{point}")
        if not rows.size:
            continue
        rates, limits, simulated, error = (
            style.numbers(table, column)[rows]
            for column in ("relative_lr", "stationary", "simulated", "standard_error")
        )
        look = _look(place)
        panel.plot(rates, limits, **look)
        panel.errorbar(
            rates, simulated, error, color=look["color"], marker=_marker(place), linestyle="none", markersize=4.0,
            elinewidth=0.9,
        )  # fmt: skip
    panel.set_yscale("log")
    _averages.log_x(panel)
    panel.set_xlabel("a = lr · h")
    panel.set_ylabel("variance along the eigenvector")
    last = int(style.numbers(table, "update").max())
    notes = [f"curves: stationary, predicted; marks: simulated, at update {last:,}, ± standard error"]
    style.title(panel, "variance of every direction", notes, width=90)


def _draw_agreement(panel: Axes, table: pa.Table, settings: Mapping[str, Any]) -> None:
    """Draw how many standard errors simulation and prediction are apart."""
    panel.axhspan(-3.0, 3.0, color="#EEEEEE", zorder=0)
    panel.axhline(0.0, color="#BBBBBB", linewidth=0.7, zorder=0)
    found = []
    quantities = ["loss", *(f"shell_{point}" for point in _POINTS), *_PAIRS]
    for quantity in quantities:
        rows = _rows(table, quantity)
        updates, predicted, simulated, error = (
            style.numbers(table, column)[rows] for column in ("update", "predicted", "simulated", "standard_error")
        )
        random = error > 1e-9 * np.abs(predicted)  # rounding is no sampling error
        if not random.any():
            continue
        apart = ((simulated - predicted) / np.where(random, error, np.nan))[random]
        found.append(apart)
        place = quantities.index(quantity) - 1
        look = {"color": "#000000", "marker": "x"} if place < 0 else {
            "color": _look(place)["color"], "marker": _marker(place)
        }  # fmt: skip
        panel.plot(updates[random], apart, **look, linestyle="none", markersize=3.5, alpha=0.8)
    panel.set_xscale("symlog", linthresh=1.0, linscale=0.3)
    panel.set_xlim(-0.1, 1.15 * settings["updates"])
    panel.set_xlabel("update t")
    panel.set_ylabel("(simulated - predicted) / standard error")
    notes = []
    if found:
        every = np.concatenate(found)
        share = float((np.abs(every) <= 2.0).mean())
        notes = [f"{100.0 * share:.0f} % of {every.size} values within two standard errors; crosses: loss"]
    rows = _rows(table, "same_batches")
    predicted, simulated = (style.numbers(table, column)[rows] for column in ("predicted", "simulated"))
    some = predicted > 0.0
    if some.any():
        worst = np.abs(simulated[some] / predicted[some] - 1.0).max()
        notes += [f"same batches, where nothing is random: within {worst:.0e} of the prediction"]
    style.title(panel, "agreement", notes, width=90)
