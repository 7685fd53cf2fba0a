"""The loss of fixed batches along a run, and how convex it is on the straight segments between its iterates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sgdline.analysis.batch_curves import convexity_rate
from sgdline.figures import _batches
from sgdline.figures.base import Sheet
from sgdline.figures.grammar import series, style
from sgdline.tables import provenance

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_CLOSE_UP = 16  # segments in the close-up


@dataclass(frozen=True, kw_only=True)
class FixedBatches(Sheet):
    """Loss of fixed batches along the run."""

    reads: ClassVar[tuple[str, ...]] = ("fixed_batches", "trace")

    def draw(self, tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any]) -> Figure:
        """Draw the losses over the run and on its first segments, and below the convexity gap of every segment.

        Args:
            tables: `fixed_batches` and `trace` of one run.
            settings: As in `sgdline.figures.plot_figure`.

        Source: curious C-M3 (papers.md 3.3, 3.4).
        """
        table = tables["fixed_batches"].sort_by([("step", "ascending"), ("batch", "ascending")])
        what = f"{provenance(table).get('batches', '?')} fixed batches"
        figure = style.new_figure(
            self.heading(),
            footer=_batches.footer("fixed_batches", tables, settings, what=what),
            width=11.0,
            height=7.6,
            legend_entries=7,
        )
        if not len(table):
            style.say(figure.subplots(), style.absence("no iterate was measured", tables))
            return figure
        panels = figure.subplot_mosaic([["run", "start"], ["gap", "gap"]], height_ratios=(1.6, 1.0))
        _draw_run(panels["run"], table, tables, settings)
        _draw_start(panels["start"], table, tables)
        _draw_gap(panels["gap"], table, tables, settings)
        style.shared_legend(figure, list(panels.values()))
        return figure


def _by_batch(table: pa.Table, name: str) -> _batches.FloatArray:
    """Return a column of numbers, a row per iterate and a column per batch. Shape (T, K)."""
    batches = len(set(table["batch"].to_pylist()))
    return style.numbers(table, name).reshape(-1, batches)


def _draw_run(panel: Axes, table: pa.Table, tables: Mapping[str, pa.Table], settings: Mapping[str, Any]) -> None:
    steps, losses = _by_batch(table, "step")[:, 0], _by_batch(table, "loss")
    full = _by_batch(table, "train_loss")[:, 0]
    panel.set_ylabel("loss (nats)")
    series.mark_run(panel, tables, run_steps=settings["steps"])
    shown = np.where(np.isfinite(losses), losses, np.nan)
    if not np.isfinite(shown).any():
        style.title(panel, r"(a) $L_B(\theta_t)$")
        style.say(panel, style.absence("no loss is finite", tables))
        return
    panel.plot(steps, shown, **{**_batches.THIN, "alpha": 0.7, "color": _batches.OWN["color"]})
    panel.plot(steps, shown.mean(axis=1), **_batches.OWN, label="mean over the fixed batches (thin: each batch B)")
    panel.plot(steps, np.where(np.isfinite(full), full, np.nan), **_batches.OTHERS, label="whole training set")
    style.plain_log(panel)
    rates = [convexity_rate(steps, own) for own in losses.T]
    notes = [style.counted(len(steps), "iterate")]
    if np.isfinite(rates).any():
        notes.append(f"a batch bends upwards at {100 * np.nanmedian(rates):.0f} % of them (median)")
    style.title(panel, r"(a) $L_B(\theta_t)$ over the run", notes, width=70)


def _draw_start(panel: Axes, table: pa.Table, tables: Mapping[str, pa.Table]) -> None:
    """Draw the first segments with all that was measured between their ends."""
    title = r"(b) on the straight way from iterate to iterate"
    panel.set_xlabel("update, and the way between two")
    panel.set_ylabel("loss (nats)")
    segments = [row for row in table.to_pylist() if row["from_step"] is not None]
    ends = sorted({row["step"] for row in segments})[:_CLOSE_UP]
    drawn = False
    for row in segments:
        if row["step"] not in ends or not np.isfinite(row["segment_loss"]).all():
            continue
        places = row["from_step"] + np.array(row["alphas"]) * (row["step"] - row["from_step"])
        label = None if drawn else "each batch, on the segments"
        panel.plot(places, row["segment_loss"], color=_batches.OWN["color"], linewidth=0.9, alpha=0.8, label=label)
        panel.plot(places[[0, -1]], [row["segment_loss"][0], row["segment_loss"][-1]], linestyle="", marker="o",
                   markersize=2.2, color="#000000", label=None if drawn else "at an iterate")  # fmt: skip
        drawn = True
    if not drawn:
        style.title(panel, title)
        style.say(panel, style.absence("no segment is finite", tables))
        return
    style.title(panel, title, [f"the first {style.counted(len(ends), 'segment')}"], width=70)


def _draw_gap(panel: Axes, table: pa.Table, tables: Mapping[str, pa.Table], settings: Mapping[str, Any]) -> None:
    title = "(c) segments against the straight line between their ends: convexity gap above it, sag below it"
    panel.set_ylabel("share of the range")
    series.mark_run(panel, tables, run_steps=settings["steps"])
    steps, gaps = _by_batch(table, "step")[:, 0], _by_batch(table, "convexity_gap")
    known = np.isfinite(gaps)
    if not known.any():
        style.title(panel, title)
        style.say(panel, style.absence("no segment is finite", tables))
        return
    panel.axhline(0.0, color="#888888", linewidth=0.8, zorder=0.8)
    look: dict[str, Any] = {"linestyle": "", "marker": "o", "markersize": 3.0, "markerfacecolor": "none"}
    panel.plot(steps, gaps, **look, color="#777777")
    panel.plot([], [], **look, color="#777777", label="gap of one batch on one segment, at its end")
    some = known.any(axis=1)
    mean = np.nanmean(gaps[some], axis=1)
    panel.plot(steps[some], mean, **{**_batches.OWN, "color": "#000000"}, label="mean gap over the batches")
    sags = _sags(table).reshape(gaps.shape)[some]
    panel.plot(steps[some], np.nanmean(sags, axis=1), **_batches.VALIDATION, label="mean sag over the batches")
    low, high = float(np.nanmin(np.nanmean(sags, axis=1))), float(gaps[known].max())
    panel.set_ylim(1.15 * low - 0.02, 1.15 * high + 0.05)
    none = 100 * float((gaps[known] == 0.0).mean())
    notes = [f"no gap on {none:.3g} % of {int(known.sum()):,} curves", f"largest gap {high:.2g}"]
    style.title(panel, title, notes, width=120)


def _sags(table: pa.Table) -> _batches.FloatArray:
    """Return how far each curve hangs below its chord, at most 0, as a share of its range. Shape (rows,)."""
    losses, alphas = _batches.curves(table, "segment_loss"), _batches.curves(table, "alphas")
    if not losses.size:
        return np.full(len(table), np.nan)
    chords = (1.0 - alphas) * losses[:, :1] + alphas * losses[:, -1:]
    ranges = np.ptp(losses, axis=1)
    sags: _batches.FloatArray = (losses - chords).min(axis=1) / np.where(ranges > 0, ranges, np.nan)
    return sags
