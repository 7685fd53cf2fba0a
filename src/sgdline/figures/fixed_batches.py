"""The loss of fixed batches along a run, and how convex it is on the straight segments between its iterates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sgdline.analysis.batch_curves import convexity_rate
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


_CLOSE_UP = 16  # segments in the close-up


@dataclass(frozen=True, kw_only=True)
class FixedBatches(PanelSheet):
    """Loss of fixed batches along the run.

    The loss of a few fixed mini-batches along a run. (a) The loss of each fixed batch at the run's iterates (thin),
    their mean, and the loss over the whole training set. (b) The same batches on the straight segments between
    consecutive measured iterates, points at the iterates. (c) The convexity gap of each segment and batch: how far the
    loss on it rises above the straight line between its end values, as a share of its range; 0 for a convex curve. The
    sag is how far it hangs below that line.
    """

    reads: ClassVar[tuple[str, ...]] = ("fixed_batches", "trace")
    panels: ClassVar[tuple[str, ...]] = ("run", "segments", "gap")

    def draw(self, tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any]) -> Figure:
        """Draw the losses over the run and on its first segments, and below the convexity gap of every segment.

        Source: curious C-M3 (papers.md 3.3, 3.4).
        """
        table = tables["fixed_batches"].sort_by([("step", "ascending"), ("batch", "ascending")])
        what = [f"{provenance(table).get('batches', '?')} fixed batches"]
        footer = _batches.facts("fixed_batches", tables, settings, what=what)
        if not len(table):
            return draw_sheet(self, [nothing(self, "no iterate was measured", tables)], footer=footer)
        steps = settings["steps"]
        segments = "segments against the line between their ends: gap above it, sag below it"
        panels = [
            Panel("run", "over the run", partial(_draw_run, table, tables, steps), height=2.6),
            Panel("segments", "on the straight way between iterates", partial(_draw_start, table, tables), height=2.6),
            Panel("gap", segments, partial(_draw_gap, table, tables, steps), height=2.0, span=2),
        ]
        return draw_sheet(self, panels, footer=footer, columns=2)


def _by_batch(table: pa.Table, name: str) -> FloatArray:
    """Return a column of numbers, a row per iterate and a column per batch. Shape (T, K)."""
    batches = len(set(table["batch"].to_pylist()))
    return style.numbers(table, name).reshape(-1, batches)


def _draw_run(table: pa.Table, tables: Mapping[str, pa.Table], run_steps: int, panel: Axes) -> Sequence[str]:
    steps, losses = _by_batch(table, "step")[:, 0], _by_batch(table, "loss")
    full = _by_batch(table, "train_loss")[:, 0]
    panel.set_ylabel(r"loss $L_B(\theta_t)$ (nats)")
    series.mark_run(panel, tables, run_steps=run_steps)
    shown = np.where(np.isfinite(losses), losses, np.nan)
    if not np.isfinite(shown).any():
        raise NoDataError("no loss is finite", tables)
    panel.plot(steps, shown, **{**_batches.THIN, "alpha": 0.7, "color": _batches.OWN["color"]})
    panel.plot(steps, shown.mean(axis=1), **_batches.OWN, label="mean over the fixed batches (thin: each batch B)")
    panel.plot(steps, np.where(np.isfinite(full), full, np.nan), **_batches.OTHERS, label="whole training set")
    style.plain_log(panel)
    rates = [convexity_rate(steps, own) for own in losses.T]
    notes = [style.counted(len(steps), "iterate")]
    if np.isfinite(rates).any():
        notes.append(f"a batch bends upwards at {100 * np.nanmedian(rates):.0f} % of them (median)")
    return notes


def _draw_start(table: pa.Table, tables: Mapping[str, pa.Table], panel: Axes) -> Sequence[str]:
    """Draw the first segments with all that was measured between their ends."""
    panel.set_xlabel("update, and the way between two")
    panel.set_ylabel(r"loss $L_B$ (nats)")
    segments = [row for row in table.to_pylist() if row["from_step"] is not None]
    ends = sorted({row["step"] for row in segments})[:_CLOSE_UP]
    shown = [row for row in segments if row["step"] in ends and np.isfinite(row["segment_loss"]).all()]
    if not shown:
        raise NoDataError("no segment is finite", tables)
    for row in shown:
        places = row["from_step"] + np.array(row["alphas"]) * (row["step"] - row["from_step"])
        losses = np.array(row["segment_loss"])
        label = "each batch, on the segments" if row is shown[0] else None
        panel.plot(places, losses, color=_batches.OWN["color"], linewidth=0.9, alpha=0.8, label=label)
        dots: dict[str, Any] = {"linestyle": "", "marker": "o", "markersize": 2.2, "color": "#000000"}
        panel.plot(places[[0, -1]], losses[[0, -1]], **dots, label="at an iterate" if row is shown[0] else None)
    return [f"the first {style.counted(len(ends), 'segment')}"]


def _draw_gap(table: pa.Table, tables: Mapping[str, pa.Table], run_steps: int, panel: Axes) -> Sequence[str]:
    panel.set_ylabel("share of the range")
    series.mark_run(panel, tables, run_steps=run_steps)
    steps, gaps = _by_batch(table, "step")[:, 0], _by_batch(table, "convexity_gap")
    known = np.isfinite(gaps)
    if not known.any():
        raise NoDataError("no segment is finite", tables)
    panel.axhline(0.0, color="#888888", linewidth=0.8, zorder=0.8)
    look: dict[str, Any] = {"linestyle": "", "marker": "o", "markersize": 2.5, "markerfacecolor": "none"}
    panel.plot(steps, gaps, **look, color="#777777")
    panel.plot([], [], **look, color="#777777", label="gap of one batch on one segment, at its end")
    some = known.any(axis=1)
    panel.plot(
        steps[some],
        np.nanmean(gaps[some], axis=1),
        **{**_batches.OWN, "color": "#000000"},
        label="mean gap over the batches",
    )
    sags = np.nanmean(_sags(table).reshape(gaps.shape)[some], axis=1)
    panel.plot(steps[some], sags, **_batches.VALIDATION, label="mean sag over the batches")
    panel.set_ylim(1.15 * float(np.nanmin(sags)) - 0.02, 1.15 * float(gaps[known].max()) + 0.05)
    none = 100 * float((gaps[known] == 0.0).mean())
    return [f"no gap on {none:.3g} % of {int(known.sum()):,} curves", f"largest gap {gaps[known].max():.2g}"]


def _sags(table: pa.Table) -> FloatArray:
    """Return how far each curve hangs below its chord, at most 0, as a share of its range. Shape (rows,)."""
    losses, alphas = _batches.curves(table, "segment_loss"), _batches.curves(table, "alphas")
    if not losses.size:
        return np.full(len(table), np.nan)
    chords = (1.0 - alphas) * losses[:, :1] + alphas * losses[:, -1:]
    ranges = np.ptp(losses, axis=1)
    sags: FloatArray = (losses - chords).min(axis=1) / np.where(ranges > 0, ranges, np.nan)
    return sags
