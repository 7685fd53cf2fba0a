"""How quadratic a batch's loss is along its own gradient: fits at chosen positions, R^2 and convexity over the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sgdline.figures import _batches
from sgdline.figures.base import PanelSheet
from sgdline.figures.grammar import series, style
from sgdline.figures.grammar.sheet import NoDataError, Panel, draw_sheet, nothing
from sgdline.figures.grammar.style import FloatArray
from sgdline.tables import provenance

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_FIT = style.look("degree_2", linestyle=(0, (5, 1.5)))
_NO_MINIMUM = "no batch has a minimum"


@dataclass(frozen=True, kw_only=True)
class QuadraticFit(PanelSheet):
    """Parabolas through the loss of one batch along its own gradient.

    How well a parabola describes the loss of one mini-batch along its own gradient. First, at up to three positions of
    the run: the loss of each fixed batch on its line theta - eta g_B, from eta = 0 to twice the step size at which it
    is lowest on the logarithmic grid, scaled so that the loss before the step is 1 and that lowest one 0. Points:
    measured, median over the batches; dashed: the polynomials of degree 2 fitted to each, median. The notes say R
    squared of the fits and the largest residual, as a share of the drop. Then, at all measured positions: R squared,
    and the convexity rate, the share of second differences along the curve that are not negative.
    """

    reads: ClassVar[tuple[str, ...]] = ("one_step", "one_step_metrics", "trace")
    panels: ClassVar[tuple[str, ...]] = ("first", "middle", "last", "r_squared", "convexity")

    def draw(self, tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any]) -> Figure:
        """Draw normalised curves with their fits above, R^2 and convexity rate of all measured positions below.

        Source: curious C-M2 (papers.md 3.3, 3.4).
        """
        facts = provenance(tables["one_step"])
        what = [
            f"{facts.get('batches', '?')} batches",
            f"own loss in {facts.get('own_precision', 'unknown precision')}",
        ]
        footer = _batches.facts("one_step", tables, settings, what=what)
        steps = _batches.shown_steps(tables["one_step"])
        if not steps:
            return draw_sheet(self, [nothing(self, "no position was measured", tables)], footer=footer)
        panels = [
            Panel(
                name,
                _batches.position_name(step, settings),
                partial(_draw_position, step, tables),
                height=2.4,
                span=6 // len(steps),
            )
            for name, step in zip(("first", "middle", "last"), steps, strict=False)
        ]
        over_run = partial(_draw_over_run, tables, settings["steps"])
        panels += [
            Panel("r_squared", "explained variance of the parabolas", partial(over_run, "r_squared", "R²"), span=3),
            Panel("convexity", "convexity rate", partial(over_run, "convexity_rate", "share"), span=3),
        ]
        return draw_sheet(self, panels, footer=footer, columns=6)


def _draw_position(step: int, tables: Mapping[str, pa.Table], panel: Axes) -> Sequence[str]:
    rows, metrics = (_batches.at_step(tables[kind], step) for kind in ("one_step", "one_step_metrics"))
    panel.set_xlabel(r"step size $\eta\,/\,\eta_{\min}$ of each batch")
    panel.set_ylabel("loss, scaled")
    losses = _batches.curves(rows, "quadratic_own_loss")
    if not np.isfinite(losses).any():
        raise NoDataError(_NO_MINIMUM, tables)
    start, lowest = style.numbers(metrics, "own_start_loss"), style.numbers(metrics, "own_min_loss")
    drop = np.where(start > lowest, start - lowest, np.nan)
    shown = (losses - lowest[:, None]) / drop[:, None]
    places = np.linspace(0.0, 2.0, losses.shape[1])
    panel.plot(places, shown.T, **{**_batches.THIN, "color": _batches.OWN["color"]})
    dots: dict[str, Any] = {**_batches.OWN, "linestyle": "", "marker": "o", "markersize": 3.2}
    panel.plot(places, np.nanmedian(shown, axis=0), **dots, label="measured, median over the batches (thin: each)")
    fine = np.linspace(0.0, 1.0, 101)
    coefficients = _batches.curves(metrics, "coefficients")
    fits = (coefficients @ np.vander(fine, 3, increasing=True).T - lowest[:, None]) / drop[:, None]
    if np.isfinite(fits).any():
        panel.plot(2 * fine, np.nanmedian(fits, axis=0), **_FIT, label="parabolas fitted to each, median")
    panel.set_xlim(0.0, 2.0)
    left_out = sum(status != "ok" for status in rows["status"].to_pylist())
    notes = [f"{left_out} of {len(rows)} batches without a minimum or not finite"] if left_out else []
    r_squared, worst = style.numbers(metrics, "r_squared"), style.numbers(metrics, "largest_residual")
    notes += [f"R² {np.nanmedian(r_squared):.3g} (lowest {np.nanmin(r_squared):.3g})"] if _any(r_squared) else []
    return [*notes, f"largest residual {np.nanmedian(worst):.2g}"] if _any(worst) else notes


def _any(values: FloatArray) -> bool:
    return bool(np.isfinite(values).any())


def _draw_over_run(tables: Mapping[str, pa.Table], run_steps: int, name: str, label: str, panel: Axes) -> Sequence[str]:
    """Draw one number of every position: each batch and the median over them."""
    panel.set_ylabel(label)
    metrics = tables["one_step_metrics"].sort_by([("step", "ascending"), ("batch", "ascending")])
    values, steps = style.numbers(metrics, name), style.numbers(metrics, "step")
    if not _any(values):
        raise NoDataError(_NO_MINIMUM, tables)
    hollow: dict[str, Any] = {"linestyle": "", "marker": "o", "markersize": 3.0, "markerfacecolor": "none"}
    panel.plot(steps, values, **hollow, color="#777777", label="each batch")
    places = np.unique(steps[np.isfinite(values)])
    medians = [np.nanmedian(values[steps == place]) for place in places]
    black = {**_batches.OWN, "color": "#000000", "linewidth": 1.4}
    panel.plot(places, medians, **black, marker="o", markersize=3.5, label="median over the batches")
    low = min(float(np.nanmin(values)), 0.9)
    panel.set_ylim(low - 0.1 * (1.0 - low), 1.0 + 0.1 * (1.0 - low))
    series.mark_run(panel, tables, run_steps=run_steps)
    return []
