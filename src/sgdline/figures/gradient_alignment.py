"""Gradients of fixed mini-batches along a run: of one batch over time, of two batches, and against the full batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sgdline.figures.base import PanelSheet
from sgdline.figures.grammar import comparing, series, style
from sgdline.figures.grammar.sheet import NoDataError, Panel, draw_sheet
from sgdline.figures.grammar.style import FloatArray
from sgdline.tables import provenance

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


Tables = Mapping[str, "pa.Table"]

_DENSE = 60  # measured updates from which on there are no markers
_OTHERS: dict[str, Any] = {"color": "#0072B2", "linestyle": (0, (5, 1.2)), "linewidth": 1.6, "marker": "s"}
_FULL: dict[str, Any] = {"color": "#B2182B", "linestyle": "-", "linewidth": 1.6, "marker": "o"}
_BATCH: dict[str, Any] = {"color": "#000000", "linestyle": (0, (6, 1.5, 1, 1.5)), "linewidth": 1.6, "marker": "^"}
_COSINE_LIMITS = (-0.05, 1.03)


@dataclass(frozen=True, kw_only=True)
class GradientAlignment(PanelSheet):
    """Alignment of mini-batch gradients along the run.

    How mini-batch gradients align along a run. A few batches are kept fixed for the whole run: samples, augmentation
    and random masks. (a) The cosine of a batch's gradients at two iterates, some updates apart. (b) The mean cosine
    with the other batches at the same iterate, and the cosine with the gradient of the full batch. (c) Norms. Lines are
    means over the batches, bands their range. (d) The cosine of the same batch against the number of updates in
    between, over the second half of the run, dots medians and bars quartiles; the dashed line is the median of two
    different batches. Large networks are measured with sketches of their gradients; the footer then says their standard
    error.
    """

    reads: ClassVar[tuple[str, ...]] = ("alignment", "trace")
    panels: ClassVar[tuple[str, ...]] = ("same_batch", "other_batches", "norms", "lags")

    def draw(self, tables: Tables, *, settings: Mapping[str, Any]) -> Figure:
        """Draw the cosines and norms against the update, and the cosine against the number of updates in between.

        Source: curious C-M4 (papers.md 3.3), fig_alignment (3.4).
        """
        table = tables["alignment"].sort_by([("step", "ascending"), ("batch", "ascending")])
        lags = [int(lag) for lag in provenance(tables["alignment"]).get("lags", [])]
        data = (_Measured(table, lags), tables, settings["steps"])
        panels = [
            Panel("same_batch", "the same batch over time", partial(_draw_same_batch, *data), height=2.2),
            Panel(
                "other_batches",
                "two batches; batch against full batch",
                partial(_draw_other_batches, *data),
                height=2.2,
            ),
            Panel("norms", "gradient norms", partial(_draw_norms, *data), height=2.2),
            Panel("lags", "the same batch, k updates apart", partial(_draw_lags, *data), height=2.2),
        ]
        return draw_sheet(self, panels, footer=_footer(tables, settings), columns=2)


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


def _footer(tables: Tables, settings: Mapping[str, Any]) -> list[str]:
    facts = provenance(tables["alignment"])
    samples, batches, kept = facts.get("samples"), facts.get("batches"), facts.get("projection_dimensions")
    measured = [
        f"{batches} fixed batches of {settings['batch_size']} samples" if batches else "fixed batches",
        "exact inner products"
        if kept is None
        else f"over time: sketches of {kept:,} dimensions, standard error of a cosine up to "
        f"{np.sqrt(2) * facts['cosine_standard_error']:.2g}",
        "full batch: " + (f"N = {samples:,} samples" if isinstance(samples, int) else "N not recorded"),
        f"BatchNorm in {facts.get('batch_norm', 'not recorded')} mode",
    ]
    return style.run_facts(tables, settings, measured=measured)


def _plot(panel: Axes, steps: FloatArray, values: FloatArray, *, look: Mapping[str, Any], label: str) -> None:
    """Draw the mean over the batches, and their range as a band. Shape of values (updates, batches)."""
    known = np.isfinite(values)
    some = known.any(axis=1)
    if not some.any():
        return
    steps, values = steps[some], np.where(known, values, np.nan)[some]
    if values.shape[1] > 1:
        low, high = np.nanmin(values, axis=1), np.nanmax(values, axis=1)
        panel.fill_between(steps, low, high, color=look["color"], alpha=0.13, linewidth=0)
    size = 3.0 if len(steps) <= _DENSE else 0.0
    panel.plot(steps, np.nanmean(values, axis=1), **{"marker": "o", **look}, markersize=size, label=label)


def _draw_same_batch(measured: _Measured, tables: Tables, run_steps: int, panel: Axes) -> Sequence[str]:
    panel.set_ylabel(r"$\cos(g_B(\theta_t), g_B(\theta_{t-k}))$")
    if not np.isfinite(measured.lag_cosines).any():
        raise NoDataError("no two gradients of a batch were measured", tables)
    for place, lag in enumerate(measured.lags):
        label = f"same batch, {style.counted(lag, 'update')} apart"
        _plot(panel, measured.steps, measured.lag_cosines[:, :, place], look=comparing.look(place), label=label)
    _show_cosines(panel, measured.lag_cosines)
    series.mark_run(panel, tables, run_steps=run_steps)
    return []


def _show_cosines(panel: Axes, values: FloatArray) -> None:
    """Show all cosines from 0 to 1, and below 0 as far as they go."""
    low, high = _COSINE_LIMITS
    panel.axhline(0.0, color="#999999", linewidth=0.6)
    panel.set_ylim(min(low, 1.08 * float(np.nanmin(values))), high)


def _draw_other_batches(measured: _Measured, tables: Tables, run_steps: int, panel: Axes) -> Sequence[str]:
    panel.set_ylabel("cosine")
    others, full = measured.column("other_batches_cosine"), measured.column("full_cosine")
    both = np.stack([others, full])
    if not np.isfinite(both).any():
        raise NoDataError("no gradient has a direction", tables)
    _plot(panel, measured.steps, others, look=_OTHERS, label=r"two batches, $\cos(g_B, g_{B'})$")
    _plot(panel, measured.steps, full, look=_FULL, label=r"batch and full batch, $\cos(g_B, \nabla L)$")
    _show_cosines(panel, both)
    series.mark_run(panel, tables, run_steps=run_steps)
    return []


def _draw_norms(measured: _Measured, tables: Tables, run_steps: int, panel: Axes) -> Sequence[str]:
    panel.set_ylabel("norm (nats / length)")
    own, full = (
        np.where(np.isfinite(norms) & (norms > 0), norms, np.nan)
        for norms in (measured.column("gradient_norm"), measured.column("full_gradient_norm"))
    )
    if not (np.isfinite(own).any() or np.isfinite(full).any()):
        raise NoDataError("no gradient was measured", tables)
    _plot(panel, measured.steps, own, look=_BATCH, label=r"norm of a batch's gradient, $\|g_B\|$")
    _plot(panel, measured.steps, full[:, :1], look=_FULL, label=r"norm of the full-batch gradient, $\|\nabla L\|$")
    style.plain_log(panel)
    series.mark_run(panel, tables, run_steps=run_steps)
    return []


def _draw_lags(measured: _Measured, tables: Tables, run_steps: int, panel: Axes) -> Sequence[str]:
    panel.set_xlabel("updates in between, k")
    panel.set_ylabel("cosine")
    late = measured.steps >= run_steps / 2
    values = [measured.lag_cosines[late, :, place].ravel() for place in range(len(measured.lags))]
    values = [own[np.isfinite(own)] for own in values]
    order = [int(place) for place in np.argsort(measured.lags) if values[place].size]
    if not order:
        raise NoDataError("no two gradients in the second half of the run", tables)
    lags = [measured.lags[place] for place in order]
    low, middle, high = np.array([np.quantile(values[place], [0.25, 0.5, 0.75]) for place in order]).T
    panel.plot(lags, middle, color="#888888", linewidth=0.9, zorder=1)
    for place, lag, own in zip(order, lags, np.array([middle, middle - low, high - middle]).T, strict=True):
        color = comparing.look(place)["color"]
        panel.errorbar([lag], own[:1], yerr=own[1:, None], fmt="o", color=color, capsize=3, markersize=4.0)
    drawn = [middle, low, high]
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
    _show_cosines(panel, np.concatenate(drawn))
    return [f"second half of the run, from update {int(np.ceil(run_steps / 2)):,} on"]
