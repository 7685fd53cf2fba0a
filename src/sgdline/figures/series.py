"""Quantities over a run: smoothing, the middle half, and how a series is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sgdline.figures import style

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes

FloatArray = npt.NDArray[np.float64]


def moving_average(steps: FloatArray, values: FloatArray, *, window: int) -> tuple[FloatArray, FloatArray]:
    """Average a series over windows of consecutive lines that lie wholly inside the run.

    A window's mean is taken over its finite values and is NaN where fewer than half of them are finite: one line
    that failed must not blank all windows that touch it.

    Args:
        steps: Update of each line, ascending. Shape (T,).
        values: One value per line, NaN where there is none. Shape (T,).
        window: Lines in a window, at least 1.

    Returns:
        Centres of the windows (mean of their updates) and means, each of shape (max(T - window + 1, 0),).

    Source: linesearch 2.3, smoothing. Centred: the released plots are shifted by half a window (papers.md L22).
    """
    if len(steps) < window:
        return np.empty(0), np.empty(0)
    stepped = np.lib.stride_tricks.sliding_window_view(steps, window)
    seen = np.lib.stride_tricks.sliding_window_view(values, window)
    finite = np.isfinite(seen)
    count = finite.sum(axis=1)
    total = np.where(finite, seen, 0.0).sum(axis=1)
    means = np.where(2 * count >= window, total / np.maximum(count, 1), np.nan)
    return stepped.mean(axis=1), means


def middle_half(count: int) -> slice:
    """Return the middle half of `count` lines, the same ones as in claim C2 of `sgdline.analysis.claims`."""
    return slice(count // 4, count - count // 4)


def adapted_lr(metrics: pa.Table, *, settings: Mapping[str, Any]) -> float | None:
    """Return the learning rate of the second SGD parabola; None where it cannot be had.

    Args:
        metrics: Table `line_metrics` of the run.
        settings: With analysis.adapted_lr, a number or `auto`: the median over the middle half of the lines of the
            measured ratio s_opt/|D_b|, with which the parabola of plain SGD ends in the full-batch minimum.

    Source: linesearch M5, M10; fig5 in the paper sets 0.05 by hand.
    """
    chosen = settings["analysis"]["adapted_lr"]
    if chosen != "auto":
        return float(chosen)
    metrics = metrics.sort_by("step")
    slopes = np.abs(style.numbers(metrics, "direction_batch_slope"))
    usable = np.isfinite(style.numbers(metrics, "line_search_ratio")) & (slopes > 0)
    ratios = np.full(len(metrics), np.nan)
    ratios[usable] = style.numbers(metrics, "minimum_position_vertex")[usable] / slopes[usable]
    ratios = ratios[middle_half(len(metrics))]
    ratios = ratios[np.isfinite(ratios)]
    median = float(np.median(ratios)) if ratios.size else 0.0
    return median if median > 0 else None


def draw_series(
    panel: Axes, steps: FloatArray, values: FloatArray, *, window: int, role: str, label: str | None
) -> None:
    """Draw a series thin as measured and thick as its moving average.

    With fewer lines than the window there is no average: the measured values then carry the label, with markers.
    """
    look = style.look(role)
    centres, means = moving_average(steps, values, window=window)
    if np.isfinite(means).any() and window > 1:
        panel.plot(steps, values, color=look["color"], linewidth=0.6, alpha=0.45)
        panel.plot(centres, means, **look, label=label)
    else:
        panel.plot(steps, values, **{**look, "linewidth": 1.1}, marker="o", markersize=3.0, label=label)


def mark_run(panel: Axes, tables: Mapping[str, pa.Table], *, run_steps: int) -> None:
    """Set the x axis to the whole run, in updates, and mark where the run diverged."""
    panel.set_xlabel("update t")
    panel.set_xlim(-0.02 * run_steps, 1.02 * run_steps)
    diverged = style.divergence_step(tables)
    if diverged is not None:
        panel.axvline(diverged, color="#B2182B", linestyle=":", linewidth=1.2, label="run diverged")


def average_note(count: int, window: int) -> str:
    """Return the words that say how a panel's thick curves were smoothed."""
    if window == 1:
        return "not smoothed"
    if count < window:
        return f"as measured: {style.counted(count, 'line')}, the moving average needs {window}"
    return f"thin: as measured, thick: moving average of {window} lines"
