"""Variances with heavy-ball momentum on the quadratic model: iterates, averages, and two points over their distance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from sgdline.figures import _averages
from sgdline.figures.base import Sheet
from sgdline.figures.grammar import comparing, style
from sgdline.quadratic_model import Average, momentum_autocorrelation

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


FloatArray = npt.NDArray[np.float64]

_CURVE_POINTS = 300


@dataclass(frozen=True, kw_only=True)
class MomentumVariance(Sheet):
    """Variance with momentum on the quadratic model."""

    toy: ClassVar[str | None] = "momentum_variance"

    def draw(self, tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any]) -> Figure:
        """Draw a column per momentum: variance over the learning rate above, two points over their distance below.

        The last column shows how far simulation and prediction are apart.

        Args:
            tables: `momentum_variance` of one toy.
            settings: As in `sgdline.figures.plot_figure`.

        Source: curious/theory_momentum, papers.md 3.2, F10 with F3 to F5.
        """
        table = tables["momentum_variance"]
        momenta = list(dict.fromkeys(style.numbers(table, "momentum").tolist()))
        rates = list(dict.fromkeys(style.numbers(table, "relative_lr").tolist()))
        averages = list(dict.fromkeys(_averages.of_rows(table)))
        shown = [average for average in averages if average.name != "two_point"]
        distances = [average for average in averages if average.name == "two_point"]
        figure = style.new_figure(
            self.heading(),
            footer=_averages.footer(
                settings, more=[r"$e_{t+1} = (1 + \beta - a)\,e_t - \beta\,e_{t-1} + a\,\xi_t$,  a = lr · h"]
            ),
            width=max(4.1 * (len(momenta) + 1), 8.2),
            height=7.6,
            legend_entries=len(shown) + len(rates) + 1,
        )
        panels = figure.subplots(2, len(momenta) + 1)
        for place, momentum in enumerate(momenta):
            _draw_variances(panels[0, place], table, shown, rates, momentum=momentum)
            _draw_distances(panels[1, place], table, distances, rates, momentum=momentum)
            if place:
                panels[0, place].set_ylabel("")
                panels[1, place].set_ylabel("")
        _draw_agreement(panels[0, -1], table, shown, momenta, name="iterates, EMA and SWA")
        _draw_agreement(panels[1, -1], table, distances, momenta, name="two points")
        _same_limits(panels[0, :-1])
        style.shared_legend(figure, [panels[0, 0], panels[1, 0]])
        return figure


def _draw_variances(
    panel: Axes, table: pa.Table, averages: Sequence[Average], rates: Sequence[float], *, momentum: float
) -> None:
    grid = np.geomspace(min(rates) / 1.5, min(max(rates) * 1.5, 1.99), _CURVE_POINTS)
    for place, average in enumerate(averages):
        rows = _averages.rows_of(table, average, momentum=momentum)
        look, marker = _averages.look(place), _averages.MARKERS[place % len(_averages.MARKERS)]
        panel.plot(grid, average.variance(grid, momentum=momentum), **look)
        at, simulated = (style.numbers(table, column)[rows] for column in ("relative_lr", "simulated"))
        error = style.numbers(table, "standard_error")[rows]
        panel.errorbar(at, simulated, error, color=look["color"], marker=marker, linestyle="none")
        panel.plot([], [], **look, marker=marker, label=_averages.name(average))
    effective = grid / (1.0 - momentum)
    plain = averages[0].variance(effective)  # NaN from a step of 2 on
    panel.plot(grid, plain, color="#999999", linewidth=1.0, label="iterate without momentum at a/(1 - β)")
    _averages.log_x(panel)
    panel.set_yscale("log")
    panel.set_xlabel("a = lr · h")
    panel.set_ylabel("variance (σ²)")
    style.title(panel, f"momentum β = {momentum:g}", ["curves: predicted, marks: simulated"])


def _draw_distances(
    panel: Axes, table: pa.Table, averages: Sequence[Average], rates: Sequence[float], *, momentum: float
) -> None:
    if not averages:
        style.say(panel, "no two-point average was simulated")
        return
    distances = np.array([average.reach for average in averages])
    last = int(distances.max())
    for place, (rate, look) in enumerate(zip(rates, comparing.ordered_looks(len(rates)), strict=True)):
        correlations = momentum_autocorrelation(rate, momentum=momentum, lags=last)
        marker = _averages.MARKERS[place % len(_averages.MARKERS)]
        panel.plot(np.arange(1, last + 1), (1.0 + correlations[1:]) / 2.0, **look)
        [whole] = _averages.rows_of(table, Average("iterate"), momentum=momentum, relative_lr=rate)
        variance = style.numbers(table, "predicted")[whole]
        rows = [_averages.rows_of(table, average, momentum=momentum, relative_lr=rate)[0] for average in averages]
        simulated, error = (style.numbers(table, column)[rows] for column in ("simulated", "standard_error"))
        panel.errorbar(
            distances, simulated / variance, error / variance, color=look["color"], marker=marker, linestyle="none"
        )
        panel.plot([], [], **look, marker=marker, label=f"two points at a = {rate:g}")
    panel.axhline(0.5, color="#BBBBBB", linewidth=0.7, zorder=0)
    _averages.log_x(panel)
    panel.set_ylim(-0.04, 1.06)
    panel.set_xlabel("distance k (updates)")
    panel.set_ylabel("variance of two points / V")
    style.title(panel, f"two points, β = {momentum:g}", ["V: predicted variance of the iterates; grey: a half"])


def _draw_agreement(
    panel: Axes, table: pa.Table, averages: Sequence[Average], momenta: Sequence[float], *, name: str
) -> None:
    if not averages:
        style.say(panel, "nothing to compare")
        return
    found = []
    for place, momentum in enumerate(momenta):
        rows = np.concatenate([_averages.rows_of(table, average, momentum=momentum) for average in averages])
        deviation, error = _averages.deviations(table, rows)
        found.append(deviation)
        panel.errorbar(
            style.numbers(table, "predicted")[rows], deviation, error, color=comparing.look(place)["color"],
            marker=_averages.MARKERS[place % len(_averages.MARKERS)], linestyle="none", elinewidth=1.0,
            label=f"β = {momentum:g}",
        )  # fmt: skip
    _averages.mark_tolerance(panel)
    _averages.log_x(panel)
    panel.set_xlabel("predicted variance (σ²)")
    panel.legend(loc="best")
    style.title(panel, f"agreement: {name}", [_averages.worst_note(found)])


def _same_limits(panels: Sequence[Axes]) -> None:
    limits = [panel.get_ylim() for panel in panels]
    for panel in panels:
        panel.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
