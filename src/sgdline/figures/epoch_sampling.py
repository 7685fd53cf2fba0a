"""Variances on the quadratic model with batches drawn with and without replacement, over the learning rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sgdline.figures import _averages
from sgdline.figures.base import PanelSheet
from sgdline.figures.grammar import style
from sgdline.figures.grammar.sheet import Panel, draw_sheet
from sgdline.quadratic_model import Average, epochwise_variance

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_LOOKS: dict[str, dict[str, Any]] = {
    "with_replacement": {"color": "#0072B2", "marker": "o", "markersize": 3.5},
    "without_replacement": {"color": "#D55E00", "marker": "s", "markersize": 3.5},
}
_CURVE_POINTS = 200
_EPOCH: dict[str, Any] = {"color": "#999999", "linestyle": ":", "linewidth": 1.0, "zorder": 0}


@dataclass(frozen=True, kw_only=True)
class EpochSampling(PanelSheet):
    """Batches with and without replacement on the quadratic model.

    Batches drawn with replacement, as the formulas of the quadratic model assume, and without, as training does: N/B
    fixed batches, each once an epoch in a new order, and the mean over the epoch. One panel per average: stationary
    variance over a = lr h, curves predicted, marks simulated. The last panel shows what sampling without replacement
    leaves of the predicted variance, over a N/B, the number of times that a direction settles within an epoch. Dotted:
    a N/B = 1.
    """

    toy: ClassVar[str | None] = "epoch_sampling"
    panels: ClassVar[tuple[str, ...]] = ("average_N", "ratio")

    def draw(self, tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any]) -> Figure:
        """Draw a panel per average, and one with the ratio of the two ways of drawing.

        Source: curious/ext_sampling, papers.md 3.2, F2 to F5 and the caveat.
        """
        table = tables["epoch_sampling"]
        batches = settings["batches_per_epoch"]
        averages = list(dict.fromkeys(_averages.of_rows(table)))
        rates = list(dict.fromkeys(style.numbers(table, "relative_lr").tolist()))
        inside = min(rates) * batches < 1.0 < max(rates) * batches
        columns = min(len(averages) + 1, 3)
        panels = [
            Panel(
                f"average_{place}",
                _averages.name(average),
                partial(_draw_average, table, average, rates, batches, inside),
                height=2.1,
            )
            for place, average in enumerate(averages, start=1)
        ]
        left = columns - len(averages) % columns
        panels.append(
            Panel(
                "ratio",
                "what is left without replacement",
                partial(_draw_ratios, table, averages, inside),
                height=2.1,
                span=left,
            )
        )
        per_epoch = ", ".join(f"{rate * batches:.3g}" for rate in rates)
        footer = _averages.facts(
            settings, f"N/B = {batches} batches per epoch", f"a·N/B of the simulated rates: {per_epoch}"
        )
        return draw_sheet(self, panels, footer=footer, columns=columns)


def _draw_average(
    table: pa.Table, average: Average, rates: Sequence[float], batches: int, inside: bool, panel: Axes
) -> Sequence[str]:
    curve = np.geomspace(min(rates), max(rates), _CURVE_POINTS)
    panel.plot(curve, average.variance(curve), color="#0072B2", linewidth=1.5, label="predicted with replacement")
    if average.name == "iterate":
        exact = epochwise_variance(curve, 1.0, batches_per_epoch=batches)
        dashed: dict[str, Any] = {"color": "#D55E00", "linestyle": (0, (5, 1.2)), "linewidth": 1.5}
        panel.plot(curve, exact, **dashed, label="predicted without replacement")
    for sampling, look in _LOOKS.items():
        rows = _averages.rows_of(table, average, sampling=sampling)
        at, simulated, error = (
            style.numbers(table, column)[rows] for column in ("relative_lr", "simulated", "standard_error")
        )
        panel.errorbar(at, simulated, error, **look, linestyle="none", label=f"simulated {sampling.replace('_', ' ')}")
    if inside:
        panel.axvline(1.0 / batches, **_EPOCH)
    panel.set_yscale("log")
    style.plain_log(panel, "x")
    panel.set_xlabel("a = lr · h")
    panel.set_ylabel("variance (σ²)")
    rows = _averages.rows_of(table, average, sampling="with_replacement")
    return [f"with replacement: within {np.abs(_averages.deviations(table, rows)[0]).max():.2g} %"]


def _draw_ratios(table: pa.Table, averages: Sequence[Average], inside: bool, panel: Axes) -> Sequence[str]:
    for place, average in enumerate(averages):
        rows = _averages.rows_of(table, average, sampling="without_replacement")
        per_epoch, simulated, predicted, error = (
            style.numbers(table, column)[rows]
            for column in ("lr_per_epoch", "simulated", "predicted", "standard_error")
        )
        look = {**_averages.mark(place), **_averages.look(place), "linewidth": 1.0}
        name = f"ratio: {_averages.name(average)}"
        panel.errorbar(per_epoch, simulated / predicted, error / predicted, **look, label=name)
    panel.axhline(1.0, color="#BBBBBB", linewidth=0.7, zorder=0)
    if inside:
        panel.axvline(1.0, **_EPOCH)
    panel.set_xlabel("a·N/B")
    panel.set_ylabel("without / predicted with")
    style.plain_log(panel)
    style.plain_log(panel, "x")
    return []
