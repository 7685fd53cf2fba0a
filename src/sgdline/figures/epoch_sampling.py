"""Variances on the quadratic model with batches drawn with and without replacement, over the learning rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from sgdline.figures import _averages
from sgdline.figures.base import Sheet
from sgdline.figures.grammar import style
from sgdline.quadratic_model import Average, epochwise_variance

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


FloatArray = npt.NDArray[np.float64]

_LOOKS: dict[str, dict[str, Any]] = {
    "with_replacement": {"color": "#0072B2", "marker": "o"},
    "without_replacement": {"color": "#D55E00", "marker": "s"},
}
_CURVE_POINTS = 200


@dataclass(frozen=True, kw_only=True)
class EpochSampling(Sheet):
    """Batches with and without replacement on the quadratic model."""

    toy: ClassVar[str | None] = "epoch_sampling"

    def draw(self, tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any]) -> Figure:
        """Draw a panel per average, and one with the ratio of the two ways of drawing.

        Args:
            tables: `epoch_sampling` of one toy.
            settings: As in `sgdline.figures.plot_figure`.

        Source: curious/ext_sampling, papers.md 3.2, F2 to F5 and the caveat.
        """
        table = tables["epoch_sampling"]
        batches = settings["batches_per_epoch"]
        averages = list(dict.fromkeys(_averages.of_rows(table)))
        columns = min(len(averages) + 1, 3)
        lines = -(-(len(averages) + 1) // columns)
        rates = list(dict.fromkeys(style.numbers(table, "relative_lr").tolist()))
        per_epoch = ", ".join(f"{rate * batches:.3g}" for rate in rates)
        figure = style.new_figure(
            self.heading(),
            footer=_averages.footer(
                settings,
                more=[
                    f"N/B = {batches} batches per epoch  ·  a·N/B of the simulated rates: {per_epoch}",
                    "without replacement: fixed minimisers, each once an epoch in a new order; mean over the epoch",
                ],
            ),
            width=4.2 * columns,
            height=1.2 + 3.9 * lines,
            legend_entries=3 + len(averages),
        )
        grid = figure.add_gridspec(lines, columns)
        panels = [figure.add_subplot(grid[place // columns, place % columns]) for place in range(len(averages))]
        panels.append(figure.add_subplot(grid[-1, len(averages) % columns :]))
        curve = np.geomspace(min(rates), max(rates), _CURVE_POINTS)
        for panel, average in zip(panels, averages, strict=False):
            _draw_average(panel, table, average, curve=curve, batches=batches)
        _draw_ratios(panels[-1], table, averages)
        inside = min(rates) * batches < 1.0 < max(rates) * batches
        for panel in panels[:-1]:
            panel.set_yscale("log")
            panel.set_xlabel("a = lr · h")
            if inside:
                panel.axvline(1.0 / batches, color="#999999", linestyle=":", linewidth=1.0, zorder=0)
        if inside:
            panels[-1].axvline(1.0, color="#999999", linestyle=":", linewidth=1.0, zorder=0)
        for panel in panels:
            _averages.log_x(panel)
        style.shared_legend(figure, [panels[0], panels[-1]])
        return figure


def _draw_average(panel: Axes, table: pa.Table, average: Average, *, curve: FloatArray, batches: int) -> None:
    panel.plot(curve, average.variance(curve), color="#0072B2", linewidth=1.8, label="predicted with replacement")
    if average.name == "iterate":
        exact = epochwise_variance(curve, 1.0, batches_per_epoch=batches)
        panel.plot(
            curve, exact, color="#D55E00", linestyle=(0, (5, 1.2)), linewidth=1.8, label="predicted without replacement"
        )
    for sampling, look in _LOOKS.items():
        rows = _averages.rows_of(table, average, sampling=sampling)
        rates, simulated, error = (
            style.numbers(table, column)[rows] for column in ("relative_lr", "simulated", "standard_error")
        )
        panel.errorbar(
            rates, simulated, error, **look, linestyle="none", label=f"simulated {sampling.replace('_', ' ')}"
        )
    panel.set_ylabel("variance (σ²)")
    rows = _averages.rows_of(table, average, sampling="with_replacement")
    worst = np.abs(_averages.deviations(table, rows)[0]).max()
    style.title(panel, _averages.name(average), [f"with replacement within {worst:.2g} % of F2 to F5"])


def _draw_ratios(panel: Axes, table: pa.Table, averages: Sequence[Average]) -> None:
    for place, average in enumerate(averages):
        rows = _averages.rows_of(table, average, sampling="without_replacement")
        per_epoch, simulated, predicted, error = (
            style.numbers(table, column)[rows]
            for column in ("lr_per_epoch", "simulated", "predicted", "standard_error")
        )
        look = _averages.look(place) | {"marker": _averages.MARKERS[place % len(_averages.MARKERS)], "linewidth": 1.0}
        panel.errorbar(
            per_epoch, simulated / predicted, error / predicted, **look, label=f"ratio: {_averages.name(average)}"
        )
    panel.axhline(1.0, color="#BBBBBB", linewidth=0.7, zorder=0)
    panel.set_xlabel("a·N/B")
    panel.set_ylabel("simulated without / predicted with")
    style.plain_log(panel)
    notes = ["dotted: a·N/B = 1; far to its right EMA and SWA still average much of one epoch"]
    style.title(panel, "what sampling without replacement leaves", notes, width=100)
