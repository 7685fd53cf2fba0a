"""Variances of SGD's iterates and of their averages on the quadratic model: curves, agreement, and the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from sgdline.figures import _averages
from sgdline.figures.base import PanelSheet
from sgdline.figures.grammar import style
from sgdline.figures.grammar.sheet import Panel, draw_sheet
from sgdline.figures.grammar.table import BESIDE_LABELS, Row, table_panel
from sgdline.quadratic_model import Average, equivalent_relative_lr

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class AveragedVariance(PanelSheet):
    """Variance of averaged iterates on the quadratic model.

    Stationary variance of SGD's iterates and of their averages on quadratic batch losses with one Hessian, whose batch
    minimisers are independent and of variance σ². Along an eigenvector of eigenvalue h everything depends on a = lr h.
    (a) The variance in units of the batch minimisers' own, curves predicted, marks simulated. (b) The constant learning
    rate whose iterates vary as little as the average does; grey: a itself. (c) How far simulation and prediction are
    apart, with the standard errors over the chains. (d) The numbers: predicted and simulated variance, their deviation,
    and the constant a that is as noisy.
    """

    toy: ClassVar[str | None] = "averaged_variance"
    panels: ClassVar[tuple[str, ...]] = ("variance", "equivalent", "agreement", "numbers")

    def draw(self, tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any]) -> Figure:
        """Draw variance and equivalent learning rate over the learning rate, the deviations, and the numbers.

        Source: curious/theory_variance, papers.md 3.2, F2 to F6.
        """
        table = tables["averaged_variance"]
        averages = list(dict.fromkeys(_averages.of_rows(table)))
        rates = list(dict.fromkeys(style.numbers(table, "relative_lr").tolist()))
        grid = np.geomspace(min(rates) / 1.5, min(max(rates) * 1.5, 1.99), 200)
        panels = [
            Panel("variance", "stationary variance", partial(_draw_variance, table, averages, grid), height=2.4),
            Panel("equivalent", "constant a as noisy", partial(_draw_equivalent, table, averages, grid), height=2.4),
            Panel("agreement", "agreement", partial(_draw_agreement, table, averages), height=2.4),
            _numbers(self, table, averages, rates),
        ]
        return draw_sheet(self, panels, footer=_averages.facts(settings), columns=3)


def _draw_variance(
    table: pa.Table, averages: Sequence[Average], grid: npt.NDArray[np.float64], panel: Axes
) -> Sequence[str]:
    for place, average in enumerate(averages):
        rows = _averages.rows_of(table, average)
        at, simulated, error = (
            style.numbers(table, column)[rows] for column in ("relative_lr", "simulated", "standard_error")
        )
        panel.plot(grid, average.variance(grid), **_averages.look(place))
        panel.errorbar(at, simulated, error, **_averages.mark(place))
        _averages.label(panel, _averages.name(average), place)
    _set_axes(panel, "variance (σ²)")
    return []


def _draw_equivalent(
    table: pa.Table, averages: Sequence[Average], grid: npt.NDArray[np.float64], panel: Axes
) -> Sequence[str]:
    panel.plot(grid, grid, color="#BBBBBB", linewidth=0.8, zorder=0)
    for place, average in enumerate(averages):
        rows = _averages.rows_of(table, average)
        rates, simulated = (style.numbers(table, column)[rows] for column in ("relative_lr", "simulated"))
        panel.plot(grid, equivalent_relative_lr(average.variance(grid), 1.0), **_averages.look(place))
        panel.plot(rates, equivalent_relative_lr(simulated, 1.0), **_averages.mark(place))
    _set_axes(panel, "equivalent a")
    return []


def _set_axes(panel: Axes, label: str) -> None:
    style.plain_log(panel, "x")
    panel.set_yscale("log")
    panel.set_xlabel("a = lr · h")
    panel.set_ylabel(label)


def _draw_agreement(table: pa.Table, averages: Sequence[Average], panel: Axes) -> Sequence[str]:
    found = []
    for place, average in enumerate(averages):
        rows = _averages.rows_of(table, average)
        deviation, error = _averages.deviations(table, rows)
        found.append(deviation)
        # Side by side: the marks of one rate would hide each other.
        beside = style.numbers(table, "relative_lr")[rows] * 1.09 ** (place - (len(averages) - 1) / 2)
        panel.errorbar(beside, deviation, error, **_averages.mark(place), elinewidth=0.9)
    _averages.mark_tolerance(panel)
    style.plain_log(panel, "x")
    panel.set_xlabel("a = lr · h")
    return [_averages.worst_note(found)]


def _numbers(options: PanelSheet, table: pa.Table, averages: Sequence[Average], rates: Sequence[float]) -> Panel:
    """Return the table of predicted and simulated variances, and of the rates that are as noisy."""
    predicted, simulated, equivalent = (
        style.numbers(table, name) for name in ("predicted", "simulated", "equivalent_lr")
    )
    apart = 100.0 * (simulated / predicted - 1.0)
    quantities = (
        ("predicted", predicted, "{:#.4g}"),
        ("simulated", simulated, "{:#.4g}"),
        ("deviation", apart, "{:+.2f} %"),
        ("as\N{NO-BREAK SPACE}a", equivalent, "{:#.3g}"),
    )
    rows: list[Row] = []
    for average in averages:
        places = [_averages.rows_of(table, average, relative_lr=rate)[0] for rate in rates]
        words = [[form.format(values[place]) for _, values, form in quantities] for place in places]
        cells = [tuple((word.replace("-", "\N{MINUS SIGN}"), "") for word in own) for own in words]
        names = (_averages.name(average), "\n".join(name for name, _, _ in quantities))
        rows.append(Row(names, tuple(cells), ruled=bool(rows)))
    return table_panel(
        options,
        "numbers",
        "variance (σ²), and the constant a that is as noisy",
        heads=("average", ""),
        columns=[f"a = {rate:g}" for rate in rates],
        rows=rows,
        inset=0.0 if options.panel else BESIDE_LABELS,
    )
