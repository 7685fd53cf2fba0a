"""Variances of SGD's iterates and of their averages on the quadratic model: curves, agreement, and the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from sgdline.figures import _averages
from sgdline.figures.base import Sheet
from sgdline.figures.grammar import style
from sgdline.quadratic_model import Average, equivalent_relative_lr

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


FloatArray = npt.NDArray[np.float64]

_ROW_INCHES = 0.52
_COLUMN_INCHES = 2.35


@dataclass(frozen=True, kw_only=True)
class AveragedVariance(Sheet):
    """Variance of averaged iterates on the quadratic model."""

    toy: ClassVar[str | None] = "averaged_variance"

    def draw(self, tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any]) -> Figure:
        """Draw variance and equivalent learning rate over the learning rate, the deviations, and the numbers.

        Args:
            tables: `averaged_variance` of one toy.
            settings: As in `sgdline.figures.plot_figure`.

        Source: curious/theory_variance, papers.md 3.2, F2 to F6.
        """
        table = tables["averaged_variance"]
        averages = list(dict.fromkeys(_averages.of_rows(table)))
        rates = list(dict.fromkeys(style.numbers(table, "relative_lr").tolist()))
        width = max(11.6, 0.8 + _COLUMN_INCHES * len(averages))
        below = _ROW_INCHES * (len(rates) + 1) + 0.75
        figure = style.new_figure(
            self.heading(),
            footer=_averages.footer(settings),
            width=width,
            height=5.4 + below,
            legend_entries=len(averages),
        )
        halves = figure.add_gridspec(2, 1, height_ratios=[4.3, below])
        panels = halves[0].subgridspec(1, 3)
        variance, equivalent, agreement = (figure.add_subplot(panels[place]) for place in range(3))
        grid = np.geomspace(min(rates) / 1.5, min(max(rates) * 1.5, 1.99), 200)
        for place, average in enumerate(averages):
            _draw_average(variance, equivalent, table, average, place=place, grid=grid)
        variance.set_ylabel("variance (σ²)")
        style.title(variance, "stationary variance", ["curves: predicted, marks: simulated"])
        equivalent.plot(grid, grid, color="#BBBBBB", linewidth=0.8, zorder=0)
        equivalent.set_ylabel("equivalent a")
        style.title(
            equivalent, "constant a with the same variance", ["grey: a itself; marks: of the simulated variance"]
        )
        found = []
        for place, average in enumerate(averages):
            rows = _averages.rows_of(table, average)
            deviation, error = _averages.deviations(table, rows)
            found.append(deviation)
            # Side by side: the marks of one rate would hide each other.
            beside = style.numbers(table, "relative_lr")[rows] * 1.09 ** (place - (len(averages) - 1) / 2)
            agreement.errorbar(beside, deviation, error, **_mark(place), elinewidth=1.0)
        _averages.mark_tolerance(agreement)
        style.title(agreement, "agreement", [_averages.worst_note(found)])
        for panel in (variance, equivalent, agreement):
            _averages.log_x(panel)
            panel.set_xlabel("a = lr · h")
        for panel in (variance, equivalent):
            panel.set_yscale("log")
        _draw_numbers(figure.add_subplot(halves[1]), table, averages, rates)
        style.shared_legend(figure, [variance])
        return figure


def _mark(place: int) -> dict[str, Any]:
    look = _averages.look(place)
    return {"color": look["color"], "marker": _averages.MARKERS[place % len(_averages.MARKERS)], "linestyle": "none"}


def _draw_average(
    variance: Axes, equivalent: Axes, table: pa.Table, average: Average, *, place: int, grid: FloatArray
) -> None:
    rows = _averages.rows_of(table, average)
    rates, simulated = (style.numbers(table, column)[rows] for column in ("relative_lr", "simulated"))
    error = style.numbers(table, "standard_error")[rows]
    look, predicted = _averages.look(place), average.variance(grid)
    variance.plot(grid, predicted, **look)
    variance.errorbar(rates, simulated, error, **_mark(place))
    equivalent.plot(grid, equivalent_relative_lr(predicted, 1.0), **look)
    equivalent.plot(rates, equivalent_relative_lr(simulated, 1.0), **_mark(place))
    # One entry for curve and marks.
    variance.plot([], [], **look, marker=_mark(place)["marker"], label=_averages.name(average))


def _draw_numbers(panel: Axes, table: pa.Table, averages: Sequence[Average], rates: Sequence[float]) -> None:
    """Write predicted and simulated variance of every cell, and the equivalent learning rate below."""
    panel.axis("off")
    panel.set_xlim(0.0, 0.45 + len(averages))
    panel.set_ylim(len(rates) + 1.0, 0.0)
    style.title(panel, "predicted | simulated variance (σ²)", ["below: deviation, and a constant a as noisy as that"])
    columns = {name: style.numbers(table, name) for name in ("predicted", "simulated", "equivalent_lr")}
    panel.text(0.02, 0.6, "a", fontweight="bold", va="center")
    for place, average in enumerate(averages):
        head = _averages.name(average)
        panel.text(0.45 + place, 0.6, head, fontweight="bold", va="center", fontsize=8.5 if len(head) < 22 else 7.5)
    for line, rate in enumerate(rates):
        y = line + 1.0
        panel.axhline(y, color="black" if line == 0 else "#DDDDDD", linewidth=0.6)
        panel.text(0.02, y + 0.3, f"{rate:g}", va="center")
        for place, average in enumerate(averages):
            [row] = _averages.rows_of(table, average, relative_lr=rate)
            predicted, simulated = columns["predicted"][row], columns["simulated"][row]
            panel.text(0.45 + place, y + 0.3, f"{predicted:#.4g} | {simulated:#.4g}", va="center")
            small = f"{100.0 * (simulated / predicted - 1.0):+.2f} %, as a = {columns['equivalent_lr'][row]:#.3g}"
            panel.text(0.45 + place, y + 0.72, small, va="center", fontsize=7.5, color="#555555")
