"""Variances with heavy-ball momentum on the quadratic model: iterates, averages, and two points over their distance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sgdline.figures import _averages
from sgdline.figures.base import PanelSheet
from sgdline.figures.grammar import comparing, style
from sgdline.figures.grammar.sheet import NoDataError, Panel, draw_sheet
from sgdline.quadratic_model import Average, momentum_autocorrelation

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_CURVE_POINTS = 300


@dataclass(frozen=True, kw_only=True)
class MomentumVariance(PanelSheet):
    """Variance with momentum on the quadratic model.

    Stationary variance with heavy-ball momentum on the quadratic model, e(t+1) = (1 + β - a) e(t) - β e(t-1) + a ξ(t)
    with the batch minimisers ξ, one row of panels per momentum. Left, over a =
    lr h: the iterates and their averages, curves predicted from the correlations of an autoregression of order two,
    marks simulated; in grey the iterates of SGD without momentum at a/(1 - β). Right: the variance of two points over
    their distance, in units of the iterates' own; grey: a half. Last row: how far simulation and prediction are apart.
    """

    toy: ClassVar[str | None] = "momentum_variance"
    panels: ClassVar[tuple[str, ...]] = ("variances", "distances", "agreement", "agreement_two_points")

    def draw(self, tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any]) -> Figure:
        """Draw a row per momentum: variance over the learning rate, and two points over their distance.

        The last row shows how far simulation and prediction are apart.


        Source: curious/theory_momentum, papers.md 3.2, F10 with F3 to F5.
        """
        table = tables["momentum_variance"]
        rates = list(dict.fromkeys(style.numbers(table, "relative_lr").tolist()))
        averages = list(dict.fromkeys(_averages.of_rows(table)))
        shown = [average for average in averages if average.name != "two_point"]
        distances = [average for average in averages if average.name == "two_point"]
        panels = []
        for momentum in dict.fromkeys(style.numbers(table, "momentum").tolist()):
            beta = f"β = {momentum:g}"
            draw = partial(_draw_variances, table, shown, rates, momentum)
            panels.append(Panel("variances", f"momentum {beta}", draw, same_y="variance"))
            draw = partial(_draw_distances, table, distances, rates, momentum)
            panels.append(Panel("distances", f"two points, {beta}", draw))
        panels += [
            Panel("agreement", "agreement: iterates, EMA and SWA", partial(_draw_agreement, table, [(shown, {})])),
            Panel(
                "agreement_two_points",
                "agreement: two points",
                partial(_draw_agreement, table, [(distances, {"relative_lr": rate}) for rate in rates]),
            ),
        ]
        return draw_sheet(self, panels, footer=_averages.facts(settings), columns=2)


def _draw_variances(
    table: pa.Table, averages: Sequence[Average], rates: Sequence[float], momentum: float, panel: Axes
) -> Sequence[str]:
    grid = np.geomspace(min(rates) / 1.5, min(max(rates) * 1.5, 1.99), _CURVE_POINTS)
    for place, average in enumerate(averages):
        rows = _averages.rows_of(table, average, momentum=momentum)
        at, simulated, error = (
            style.numbers(table, column)[rows] for column in ("relative_lr", "simulated", "standard_error")
        )
        panel.plot(grid, average.variance(grid, momentum=momentum), **_averages.look(place))
        panel.errorbar(at, simulated, error, **_averages.mark(place))
        _averages.label(panel, _averages.name(average), place)
    plain = averages[0].variance(grid / (1.0 - momentum))  # NaN from a step of 2 on
    panel.plot(grid, plain, color="#999999", linewidth=1.0, label="iterate without momentum at a/(1 - β)")
    style.plain_log(panel, "x")
    panel.set_yscale("log")
    panel.set_xlabel("a = lr · h")
    panel.set_ylabel("variance (σ²)")
    return []


def _draw_distances(
    table: pa.Table, averages: Sequence[Average], rates: Sequence[float], momentum: float, panel: Axes
) -> Sequence[str]:
    if not averages:
        raise NoDataError("no two-point average was simulated")
    distances = np.array([average.reach for average in averages])
    last = int(distances.max())
    for place, (rate, look) in enumerate(zip(rates, comparing.ordered_looks(len(rates)), strict=True)):
        correlations = momentum_autocorrelation(rate, momentum=momentum, lags=last)
        panel.plot(np.arange(1, last + 1), (1.0 + correlations[1:]) / 2.0, **look)
        [whole] = _averages.rows_of(table, Average("iterate"), momentum=momentum, relative_lr=rate)
        variance = style.numbers(table, "predicted")[whole]
        rows = [_averages.rows_of(table, average, momentum=momentum, relative_lr=rate)[0] for average in averages]
        simulated, error = (style.numbers(table, column)[rows] for column in ("simulated", "standard_error"))
        panel.errorbar(distances, simulated / variance, error / variance, **_averages.mark(place, look["color"]))
        _averages.label(panel, f"two points at a = {rate:g}", place, look)
    panel.axhline(0.5, color="#BBBBBB", linewidth=0.7, zorder=0)
    style.plain_log(panel, "x")
    panel.set_ylim(-0.04, 1.06)
    panel.set_xlabel("distance k (updates)")
    panel.set_ylabel("relative variance")
    return []


def _draw_agreement(
    table: pa.Table, groups: Sequence[tuple[Sequence[Average], Mapping[str, float]]], panel: Axes
) -> Sequence[str]:
    """Draw the deviations: averages in the looks of their curves, or else each group in that of its rate."""
    if not any(averages for averages, _ in groups):
        raise NoDataError("nothing to compare")
    by_rate = bool(groups[0][1])
    looks = comparing.ordered_looks(len(groups))
    found = []
    for group, (averages, chosen) in enumerate(groups):
        for place, average in enumerate(averages):
            rows = _averages.rows_of(table, average, **chosen)
            deviation, error = _averages.deviations(table, rows)
            found.append(deviation)
            mark = _averages.mark(group, looks[group]["color"]) if by_rate else _averages.mark(place)
            panel.errorbar(style.numbers(table, "predicted")[rows], deviation, error, **mark, elinewidth=0.9)
    _averages.mark_tolerance(panel)
    style.plain_log(panel, "x")
    panel.set_xlabel("predicted variance (σ²)")
    return [_averages.worst_note(found)]
