"""How quadratic a batch's loss is along its own gradient: fits at chosen positions, R^2 and convexity over the run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sgdline.figures import _batches
from sgdline.figures.base import Sheet
from sgdline.figures.grammar import series, style
from sgdline.tables import provenance

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_FIT = style.look("degree_2", linestyle=(0, (5, 1.5)))
_OVER_RUN = (
    ("r_squared", "explained variance R² of the parabola", "R²"),
    ("convexity_rate", "convexity rate: share of second differences that are not negative", "share"),
)


@dataclass(frozen=True, kw_only=True)
class QuadraticFit(Sheet):
    """Parabolas through the loss of one batch along its own gradient."""

    reads: ClassVar[tuple[str, ...]] = ("one_step", "one_step_metrics", "trace")

    def draw(self, tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any]) -> Figure:
        """Draw normalised curves with their fits above, R^2 and convexity rate of all measured positions below.

        Args:
            tables: `one_step`, `one_step_metrics` and `trace` of one run.
            settings: As in `sgdline.figures.plot_figure`.

        Source: curious C-M2 (papers.md 3.3, 3.4).
        """
        steps = _batches.shown_steps(tables["one_step"])
        facts = provenance(tables["one_step"])
        what = f"{facts.get('batches', '?')} batches, own loss in {facts.get('own_precision', 'unknown precision')}"
        width = 4.2 * max(len(steps), 2)
        figure = style.new_figure(
            self.heading(),
            footer=_batches.footer("one_step", tables, settings, what=what),
            width=width,
            height=7.4,
            legend_entries=style.legend_room(2, width=width),
        )
        if not steps:
            style.say(figure.subplots(), style.absence("no position was measured", tables))
            return figure
        grid = figure.add_gridspec(2, 2 * len(steps), height_ratios=(1.25, 1.0))
        above = [figure.add_subplot(grid[0, 2 * place : 2 * place + 2]) for place in range(len(steps))]
        half = len(steps)
        below = [figure.add_subplot(grid[1, :half]), figure.add_subplot(grid[1, half:])]
        for panel, step in zip(above, steps, strict=True):
            _draw_position(panel, step, tables, settings)
        above[0].set_ylabel(r"$(\phi_B(\eta) - \phi_{\min})\,/\,(\phi_B(0) - \phi_{\min})$")
        for panel, (name, title, label) in zip(below, _OVER_RUN, strict=True):
            _draw_over_run(panel, tables, settings, name=name, title=title)
            panel.set_ylabel(label)
        style.shared_legend(figure, [*above, *below])
        return figure


def _draw_position(panel: Axes, step: int, tables: Mapping[str, pa.Table], settings: Mapping[str, Any]) -> None:
    rows, metrics = _batches.at_step(tables["one_step"], step), _batches.at_step(tables["one_step_metrics"], step)
    title = _batches.position_name(step, settings)
    panel.set_xlabel(r"step size $\eta\,/\,\eta_{\min}$ of each batch")
    losses = _batches.curves(rows, "quadratic_own_loss")
    if not np.isfinite(losses).any():
        style.title(panel, title)
        style.say(panel, style.absence("no batch has a minimum", tables))
        return
    start, lowest = style.numbers(metrics, "own_start_loss"), style.numbers(metrics, "own_min_loss")
    drop = np.where(start > lowest, start - lowest, np.nan)
    places = np.linspace(0.0, 2.0, losses.shape[1])
    shown = (losses - lowest[:, None]) / drop[:, None]
    panel.plot(places, shown.T, **{**_batches.THIN, "color": _batches.OWN["color"]})
    typical = np.nanmedian(shown, axis=0)
    panel.plot(
        places, typical, **{**_batches.OWN, "linestyle": ""}, marker="o", markersize=4.0,
        label="measured, median over the batches (thin: each)",
    )  # fmt: skip
    coefficients = _batches.curves(metrics, "coefficients")
    fine = np.linspace(0.0, 1.0, 101)
    fits = (coefficients @ np.vander(fine, 3, increasing=True).T - lowest[:, None]) / drop[:, None]
    if np.isfinite(fits).any():
        panel.plot(2 * fine, np.nanmedian(fits, axis=0), **_FIT, label="parabolas fitted to each, median")
    worst = style.numbers(metrics, "largest_residual")
    r_squared, convex = style.numbers(metrics, "r_squared"), style.numbers(metrics, "convexity_rate")
    notes = [f"R² {np.nanmedian(r_squared):.3g} (lowest {np.nanmin(r_squared):.3g})"] if _any(r_squared) else []
    notes += [f"largest residual {np.nanmedian(worst):.2g} of the drop"] if _any(worst) else []
    notes += [f"convexity rate {np.nanmedian(convex):.3g}"] if _any(convex) else []
    left_out = sum(status != "ok" for status in rows["status"].to_pylist())
    notes += [f"{left_out} of {len(rows)} batches without a minimum or not finite"] if left_out else []
    panel.set_xlim(0.0, 2.0)
    style.title(panel, title, notes, width=54)


def _any(values: _batches.FloatArray) -> bool:
    return bool(np.isfinite(values).any())


def _draw_over_run(
    panel: Axes, tables: Mapping[str, pa.Table], settings: Mapping[str, Any], *, name: str, title: str
) -> None:
    """Draw one number of every position: each batch and the median over them."""
    metrics = tables["one_step_metrics"].sort_by([("step", "ascending"), ("batch", "ascending")])
    style.title(panel, title)
    values, steps = style.numbers(metrics, name), style.numbers(metrics, "step")
    if not _any(values):
        style.say(panel, style.absence("no batch has a minimum", tables))
        return
    panel.plot(steps, values, linestyle="", marker="o", markersize=3.5, markerfacecolor="none", color="#777777",
               label="each batch")  # fmt: skip
    places = np.unique(steps[np.isfinite(values)])
    medians = [np.nanmedian(values[steps == place]) for place in places]
    panel.plot(places, medians, **{**_batches.OWN, "color": "#000000"}, marker="o", label="median over the batches")
    low = min(float(np.nanmin(values)), 0.9)
    panel.set_ylim(low - 0.1 * (1.0 - low), 1.0 + 0.1 * (1.0 - low))
    series.mark_run(panel, tables, run_steps=settings["steps"])
