"""Gradients of fixed mini-batches along a run: of one batch over time, of two batches, and against the full batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from sgdline.figures.base import Sheet
from sgdline.figures.grammar import comparing, series, style
from sgdline.tables import provenance

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


FloatArray = npt.NDArray[np.float64]

_NOTE_WIDTH = 74
_DENSE = 60  # measured updates from which on there are no markers
_OTHERS: dict[str, Any] = {"color": "#0072B2", "linestyle": (0, (5, 1.2)), "linewidth": 1.8, "marker": "s"}
_FULL: dict[str, Any] = {"color": "#B2182B", "linestyle": "-", "linewidth": 1.8, "marker": "o"}
_BATCH: dict[str, Any] = {"color": "#000000", "linestyle": (0, (6, 1.5, 1, 1.5)), "linewidth": 1.8, "marker": "^"}
_COSINE_LIMITS = (-0.05, 1.03)


@dataclass(frozen=True, kw_only=True)
class GradientAlignment(Sheet):
    """Alignment of mini-batch gradients along the run."""

    reads: ClassVar[tuple[str, ...]] = ("alignment", "trace")

    def draw(self, tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any]) -> Figure:
        """Draw the cosines and norms against the update, and the cosine against the number of updates in between.

        Args:
            tables: `alignment` and `trace` of one run.
            settings: As in `sgdline.figures.plot_figure`.

        Source: curious C-M4 (papers.md 3.3), fig_alignment (3.4).
        """
        table = tables["alignment"].sort_by([("step", "ascending"), ("batch", "ascending")])
        lags = [int(lag) for lag in provenance(tables["alignment"]).get("lags", [])]
        figure = style.new_figure(
            self.heading(), footer=_footer(tables, settings), width=10.4, height=7.8, legend_entries=len(lags) + 6
        )
        panels = figure.subplots(2, 2).ravel().tolist()
        measured = _Measured(table, lags)
        _draw_same_batch(panels[0], measured, tables)
        _draw_other_batches(panels[1], measured, tables)
        _draw_norms(panels[2], measured, tables)
        for panel in panels[:3]:
            if panel.lines:  # a mark would run through the words of an empty panel
                series.mark_run(panel, tables, run_steps=settings["steps"])
        _draw_lags(panels[3], measured, tables, run_steps=settings["steps"])
        style.shared_legend(figure, panels)
        return figure


class _Measured:
    """The table as arrays, one row per update and one column per fixed batch; NaN where there is no value."""

    def __init__(self, table: pa.Table, lags: Sequence[int]) -> None:
        self.lags = lags
        batches = max(table["batch"].to_pylist(), default=-1) + 1
        self.steps = np.unique(style.numbers(table, "step"))
        self._shape = (len(self.steps), batches)
        self._table = table
        rows = table["lag_cosines"].to_pylist()
        cosines = np.array([[np.nan if value is None else value for value in row] for row in rows], dtype=np.float64)
        self.lag_cosines = cosines.reshape(*self._shape, len(lags))

    def column(self, name: str) -> FloatArray:
        """Return a column. Shape (updates, batches)."""
        return style.numbers(self._table, name).reshape(self._shape)


def _footer(tables: Mapping[str, pa.Table], settings: Mapping[str, Any]) -> list[str]:
    facts = provenance(tables["alignment"])
    samples, batches, kept = facts.get("samples"), facts.get("batches"), facts.get("projection_dimensions")
    measured = [
        f"{batches} fixed batches of {settings['batch_size']} samples" if batches else "fixed batches",
        "full-batch gradient over " + (f"N = {samples:,} samples" if isinstance(samples, int) else "N not recorded"),
        f"BatchNorm in {facts.get('batch_norm', 'not recorded')} mode",
        "exact inner products"
        if kept is None
        else f"over time: sketches of {kept:,} dimensions, standard error of a cosine up to "
        f"{np.sqrt(2) * facts['cosine_standard_error']:.2g}",
    ]
    lost = style.divergence_step(tables)
    if lost is not None:
        measured.append(f"THE RUN DIVERGED AT UPDATE {lost}")
    return [style.describe_run(tables, settings)[0], "  ·  ".join(measured)]


def _plot(panel: Axes, steps: FloatArray, values: FloatArray, *, look: Mapping[str, Any], label: str) -> None:
    """Draw the mean over the batches, and their range as a band. Shape of values (updates, batches)."""
    known = np.isfinite(values)
    some = known.any(axis=1)
    if not some.any():
        return
    steps, values, known = steps[some], values[some], known[some]
    mean = np.where(known, values, 0.0).sum(axis=1) / known.sum(axis=1)
    if values.shape[1] > 1:
        low = np.where(known, values, np.inf).min(axis=1)
        high = np.where(known, values, -np.inf).max(axis=1)
        panel.fill_between(steps, low, high, color=look["color"], alpha=0.13, linewidth=0)
    size = 4.0 if len(steps) <= _DENSE else 0.0
    panel.plot(steps, mean, **{"marker": "o", **look}, markersize=size, label=label)


def _lag_label(lag: int) -> str:
    return f"same batch, {style.counted(lag, 'update')} apart"


def _band_note(values: FloatArray) -> list[str]:
    return ["line: mean over the batches, band: their range"] if values.shape[1] > 1 else []


def _draw_same_batch(panel: Axes, measured: _Measured, tables: Mapping[str, pa.Table]) -> None:
    title = r"same batch over time: $\cos(g_B(\theta_t), g_B(\theta_{t-k}))$"
    panel.set_ylabel("cosine")
    if not np.isfinite(measured.lag_cosines).any():
        style.title(panel, title)
        style.say(panel, style.absence("no two gradients of a batch were measured", tables))
        return
    panel.axhline(0.0, color="#999999", linewidth=0.6)
    for place, lag in enumerate(measured.lags):
        values = measured.lag_cosines[:, :, place]
        _plot(panel, measured.steps, values, look=comparing.look(place), label=_lag_label(lag))
    _cosine_limits(panel, measured.lag_cosines)
    style.title(panel, title, _band_note(measured.lag_cosines), width=_NOTE_WIDTH)


def _cosine_limits(panel: Axes, values: FloatArray) -> None:
    """Show all cosines from 0 to 1, and below 0 as far as they go."""
    low, high = _COSINE_LIMITS
    lowest = float(np.nanmin(values))
    panel.set_ylim(min(low, 1.08 * lowest), high)


def _draw_other_batches(panel: Axes, measured: _Measured, tables: Mapping[str, pa.Table]) -> None:
    title = "two batches, and a batch against the full batch"
    panel.set_ylabel("cosine")
    others, full = measured.column("other_batches_cosine"), measured.column("full_cosine")
    both = np.stack([others, full])
    if not np.isfinite(both).any():
        style.title(panel, title)
        style.say(panel, style.absence("no gradient has a direction", tables))
        return
    panel.axhline(0.0, color="#999999", linewidth=0.6)
    _plot(panel, measured.steps, others, look=_OTHERS, label=r"two batches, $\cos(g_B, g_{B'})$")
    _plot(panel, measured.steps, full, look=_FULL, label=r"batch and full batch, $\cos(g_B, \nabla L)$")
    _cosine_limits(panel, both)
    style.title(panel, title, _band_note(others), width=_NOTE_WIDTH)


def _draw_norms(panel: Axes, measured: _Measured, tables: Mapping[str, pa.Table]) -> None:
    title = "gradient norms"
    panel.set_ylabel("norm (nats / length)")
    own, full = measured.column("gradient_norm"), measured.column("full_gradient_norm")
    shown = [np.where(np.isfinite(norms) & (norms > 0), norms, np.nan) for norms in (own, full)]
    if not any(np.isfinite(norms).any() for norms in shown):
        style.title(panel, title)
        style.say(panel, style.absence("no gradient was measured", tables))
        return
    _plot(panel, measured.steps, shown[0], look=_BATCH, label=r"norm of a batch's gradient, $\|g_B\|$")
    _plot(panel, measured.steps, shown[1][:, :1], look=_FULL, label=r"norm of the full-batch gradient, $\|\nabla L\|$")
    style.plain_log(panel)
    style.title(panel, title, _band_note(own), width=_NOTE_WIDTH)


def _draw_lags(panel: Axes, measured: _Measured, tables: Mapping[str, pa.Table], *, run_steps: int) -> None:
    title = "cosine against the number of updates in between"
    panel.set_xlabel("updates in between, k")
    panel.set_ylabel("cosine")
    late = measured.steps >= run_steps / 2
    values = [measured.lag_cosines[late, :, place].ravel() for place in range(len(measured.lags))]
    values = [own[np.isfinite(own)] for own in values]
    if not any(own.size for own in values):
        style.title(panel, title)
        style.say(panel, style.absence("no two gradients in the second half of the run", tables))
        return
    panel.axhline(0.0, color="#999999", linewidth=0.6)
    order = [place for place in np.argsort(measured.lags) if values[place].size]
    lags = [measured.lags[place] for place in order]
    middle = np.array([np.median(values[place]) for place in order])
    quartiles = np.array([np.quantile(values[place], [0.25, 0.75]) for place in order])
    panel.plot(lags, middle, color="#888888", linewidth=0.9, zorder=1)
    for place, lag, value, (low, high) in zip(order, lags, middle, quartiles, strict=True):
        color = comparing.look(int(place))["color"]
        panel.errorbar([lag], [value], yerr=[[value - low], [high - value]], fmt="o", color=color, capsize=3)
    drawn = [middle, quartiles.ravel()]
    others = measured.column("other_batches_cosine")[late]
    others = others[np.isfinite(others)]
    if others.size:
        level = float(np.median(others))
        panel.axhline(level, **{**_OTHERS, "marker": "", "linewidth": 1.1}, label="median of two batches at one update")
        drawn.append(np.array([level]))
    panel.set_xscale("log")
    panel.set_xlim(0.7 * min(lags), 1.4 * max(lags))
    panel.set_xticks(lags, [f"{lag:,}" for lag in lags])
    panel.set_xticks([], minor=True)
    _cosine_limits(panel, np.concatenate(drawn))
    notes = [f"second half of the run, from update {int(np.ceil(run_steps / 2)):,} on", "dot: median, bar: quartiles"]
    style.title(panel, title, notes, width=_NOTE_WIDTH)
