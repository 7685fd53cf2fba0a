"""Quantities over a run: smoothing, how a series is drawn, and how strategies are called."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sgdline.declare import registry
from sgdline.figures.grammar import style
from sgdline.figures.grammar.style import FloatArray
from sgdline.tables import provenance

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes


class StrategyLook(NamedTuple):
    """How a strategy is drawn and called."""

    role: str  # key of style.ROLES
    label: str  # in legends
    name: str  # in notes


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


def strategy_looks(
    line_strategies: pa.Table, *, settings: Mapping[str, Any], scheduled: bool
) -> dict[str, StrategyLook]:
    """Return how each strategy of a table is drawn and called, in the order of the table.

    Of the two variants of FBPAL&SGD one is drawn: the learning rate is reused, or the step length where the table
    follows the released code, which does so although the step length has little to do with SGD (papers.md M7, L21).

    Args:
        line_strategies: Table of that kind; its metadata names the learning rates.
        settings: As in `sgdline.figures.plot_figure`.
        scheduled: The run's own learning rate is not the same on all lines.
    """
    # Imported lazily: reading a spec does not need it.
    from sgdline.analysis.strategies import rows_by_strategy

    facts = provenance(line_strategies)
    rates = facts.get("sgd_lr", {})
    reuse, reused = ("fbpal_sgd_step", "step length") if facts.get("compat") else ("fbpal_sgd_lr", "lr")
    optimizer = registry.label(settings["optimizer"]["name"])
    rate = "scheduled" if scheduled else style.own_lr_text(settings, facts)
    own = "SGD original, " + (f"{rate} lr" if scheduled else f"lr {rate}")
    known = {
        "optimum": StrategyLook("optimum", "full-batch minimum (s_opt)", "optimum"),
        "direction_batch_minimum": StrategyLook(
            "direction_batch_minimum", "direction-batch minimum (s_dir)", "direction batch"
        ),
        "fbpal": StrategyLook("fbpal", "FBPAL", "FBPAL"),
        reuse: StrategyLook(reuse, f"FBPAL&SGD, reusing its {reused}", "FBPAL&SGD"),
        "sgd_original": (
            StrategyLook("sgd_original", own, f"SGD {rate} (run)")
            if optimizer == "sgd"
            else StrategyLook("sgd_original", f"executed step ({optimizer})", "executed step")
        ),
        "pal": StrategyLook("pal", "PAL", "PAL"),
    }
    looks: dict[str, StrategyLook] = {}
    others = 0
    for name in rows_by_strategy(line_strategies):
        if name in known:
            looks[name] = known[name]
        elif name.startswith("sgd_"):
            rate = rates.get(name)
            value = name.removeprefix("sgd_") if rate is None else f"{rate:.3g}"
            chosen, short = (" (median s_opt/|D_b|)", " (auto)") if name == "sgd_auto" else ("", "")
            looks[name] = StrategyLook(f"sgd_{others % 4 + 1}", f"SGD, lr {value}{chosen}", f"SGD {value}{short}")
            others += 1
    return looks


def draw_series(
    panel: Axes,
    steps: FloatArray,
    values: FloatArray,
    *,
    window: int,
    role: str,
    label: str | None,
    measured: bool = True,
) -> None:
    """Draw a series thin as measured and thick as its moving average.

    With fewer lines than the window there is no average: the measured values then carry the label, with markers.
    Where many series share a panel, `measured=False` leaves the thin curve out.
    """
    look = style.look(role)
    centres, means = moving_average(steps, values, window=window)
    if np.isfinite(means).any() and window > 1:
        if measured:
            panel.plot(steps, values, color=look["color"], linewidth=0.6, alpha=0.45)
        panel.plot(centres, means, **look, label=label)
    else:
        panel.plot(steps, values, **{**look, "linewidth": 1.1}, marker="o", markersize=3.0, label=label)


def spread(values: FloatArray, *, whole: bool = False) -> FloatArray:
    """Return the lowest, the median and the highest value over the seeds.

    Args:
        values: NaN where there is none. Shape (seeds, T).
        whole: NaN where one of the seeds has no value; else where none has.

    Returns:
        Shape (3, T).
    """
    if whole:
        return np.array([values.min(axis=0), np.median(values, axis=0), values.max(axis=0)])
    finite = np.where(np.isfinite(values), values, np.nan)
    found = np.full((3, values.shape[1]), np.nan)
    known = np.isfinite(finite).any(axis=0)
    if known.any():
        found[:, known] = [taken(finite[:, known], axis=0) for taken in (np.nanmin, np.nanmedian, np.nanmax)]
    return found


def draw_spread(
    panel: Axes, places: FloatArray, values: FloatArray, look: Mapping[str, Any], *, whole: bool = False
) -> FloatArray:
    """Draw a quantity over seeds: their median, with a band from the lowest to the highest of several.

    Args:
        panel: Where to.
        places: On the x axis. Shape (T,).
        values: As for `spread`.
        look: Plot arguments of the median; a curve of one or two values has markers.
        whole: As for `spread`.

    Returns:
        The median. Shape (T,).
    """
    low, middle, high = spread(values, whole=whole)
    if len(values) > 1:
        panel.fill_between(places, low, high, color=look["color"], alpha=0.18, linewidth=0.0, zorder=1)
    marker = "o" if np.isfinite(middle).sum() < 3 else None
    panel.plot(places, middle, **{"marker": marker, "markersize": 3.0, **look})
    return np.asarray(middle)


def average_text(name: str, parameter: float | None, spacing: int | None) -> str:
    """Return what an average of iterates is called.

    Args:
        name: `iterate`, `ema`, `swa` or `two_point`.
        parameter: Decay of an EMA, iterates of an SWA, updates between two points.
        spacing: Updates from iterate to iterate of an SWA.
    """
    if parameter is None:
        return name
    value = f"{parameter:g}"
    if name == "swa":
        return f"SWA of {value}" + (f", every {spacing} updates" if (spacing or 1) > 1 else "")
    return f"EMA {value}" if name == "ema" else f"two points {value} apart"


def mark_run(panel: Axes, tables: Mapping[str, pa.Table], *, run_steps: int) -> None:
    """Set the x axis to the whole run, in updates, and mark where the run diverged."""
    panel.set_xlabel("update t")
    panel.set_xlim(-0.02 * run_steps, 1.02 * run_steps)
    diverged = style.divergence_step(tables)
    if diverged is not None:
        panel.axvline(diverged, color="#B2182B", linestyle=":", linewidth=1.2, label="run diverged")


def average_note(count: int, window: int, *, measured: bool = True) -> str:
    """Return the words that say how a panel's curves were smoothed, with the arguments of `draw_series`."""
    if window == 1:
        return "not smoothed"
    if count < window:
        return f"as measured: {style.counted(count, 'line')}, the moving average needs {window}"
    averaged = f"moving average of {window} lines"
    return f"thin: as measured, thick: {averaged}" if measured else averaged


def sum_note(settings: Mapping[str, Any]) -> list[str]:
    """Return the words that say of which lines a sum is, where not every update was measured."""
    every = settings["probes"]["line"]["every"]
    return [] if every == 1 else [f"sum over 1 in {every} updates"]
