"""Pictures of a line, and of the lines of a training (no torch; matplotlib is imported when one is drawn)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sgdline.errors import SgdlineError
from sgdline.extras import extra_packages

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from sgdline.measured_line import MeasuredLine
    from sgdline.record import LineLog

Array = npt.NDArray[np.float64]

_POINTS = 401  # of a drawn curve
_DPI = 150.0
_MARKED = 60  # lines up to which each has a marker, where they are not smoothed
_STRETCH = 10.0  # ratio of the largest to the smallest loss from which on its axis is logarithmic
_NO_LOSSES = {"skipped": "its step was not measured", "zero_direction": "its step did not move the network"}


def plot_line(line: MeasuredLine, ax: Axes | None = None) -> Axes:
    """Draw the loss along a line; see `MeasuredLine.plot`."""
    if not np.isfinite(line.losses).any():
        raise SgdlineError(
            f"A line must have finite losses to be drawn, got the status {line.status}: "
            f"{_NO_LOSSES.get(line.status, 'no loss on it is finite')}. Draw another one."
        )
    from sgdline.figures.base import PanelSheet
    from sgdline.figures.grammar.sheet import Panel, draw_sheet

    if ax is not None:  # in the user's own style
        notes = _draw_line(line, ax)
        ax.set_title("; ".join(notes), fontsize="small", loc="left")
        ax.legend(fontsize="small")
        return ax
    title = "Loss along a direction" if line.step is None else f"Loss along step {line.step}"
    # A legend of the panel itself: one of the sheet moves when a notebook cuts off the margins.
    panel = Panel("line", "", partial(_draw_line, line), height=2.6, legend="own")
    with _settled() as finish:
        return finish(draw_sheet(PanelSheet(width="column"), [panel], footer=[], heading=title)).axes[0]


def plot_log(log: LineLog) -> Figure:
    """Draw the lines of a training; see `LineLog.plot`."""
    lines = [line for line in log if line.step is not None and math.isfinite(line.loss)]
    if not lines:
        raise SgdlineError(
            f"A log must hold a step that was measured to be drawn, got {len(log)} lines, none with losses. Measure a "
            "step that moves the parameters; skipped ones are not in the log."
        )
    from sgdline.analysis import by_lines
    from sgdline.figures.base import PanelSheet
    from sgdline.figures.grammar.sheet import Panel, draw_sheet

    window = by_lines.number("smoothing", "auto", lines=len(lines))
    panels = [
        Panel("loss", "loss where the step begins", partial(_draw_losses, lines, window), height=2.0),
        Panel("overshoot", "step over the way to the minimum", partial(_draw_overshoot, lines, window), height=2.0),
        Panel("sharpness", "sharpness along the step", partial(_draw_sharpness, lines, window), height=2.2),
    ]
    with _settled() as finish:
        return finish(draw_sheet(PanelSheet(), panels, footer=_facts(log), heading="Lines of a training", share_x=True))


@contextmanager
def _settled() -> Iterator[Callable[[Figure], Figure]]:
    """Use the style of all figures inside the block; yields what lays a figure out."""
    with extra_packages():
        import matplotlib
    from sgdline.figures.grammar import style

    def finish(figure: Figure) -> Figure:
        style.settle(figure)
        return figure

    with style.applied(), matplotlib.rc_context({"figure.dpi": _DPI}):
        yield finish


def _facts(log: LineLog) -> list[str]:
    known: list[tuple[str, str]] = [("model", "model {}"), ("loss", "loss {}"), ("samples", "{:,} samples")]
    known += [("chunk_size", "chunks of {:,}"), ("batch_norm", "{} mode"), ("precision_error", "rounding {:.0e}")]
    return [words.format(log.facts[name]) for name, words in known if log.facts.get(name) is not None]


# --- one line ---------------------------------------------------------------------------------------------------------


def _draw_line(line: MeasuredLine, panel: Axes) -> Sequence[str]:
    with extra_packages():
        from matplotlib.ticker import MaxNLocator
    from sgdline.figures.grammar import style

    points = np.linspace(line.positions[0], line.positions[-1], _POINTS)
    full = line.at(points)
    shown = [full]
    panel.plot(points, full, **style.look("full_batch", zorder=3), label="measuring set")
    if not np.isfinite(full).all():  # the curve ends where a loss is not finite: show what was measured
        shown.append(line.losses)
        dots = style.look("full_batch", marker=".", linestyle="none")
        panel.plot(line.positions, np.where(np.isfinite(line.losses), line.losses, np.nan), **dots, label="measured")
    if line.batch is not None and np.isfinite(line.batch.losses).any():
        shown.append(line.batch.at(points))
        panel.plot(points, shown[-1], **style.look("direction_batch", zorder=2.8), label="batch of the step")
    low, high = _limits(np.concatenate(shown))
    parabola = line.parabola
    if math.isfinite(parabola.curvature):
        values = parabola.offset + parabola.slope * points + 0.5 * parabola.curvature * points**2
        look = style.look("reference", zorder=2.9)
        panel.plot(points, values, **look, label=f"parabola fitted on |s| ≤ {parabola.window:.2g}")
    notes = [] if line.status == "ok" else [f"status {line.status.replace('_', ' ')}"]
    minimum = line.minimum
    mark: dict[str, Any] = {"color": "white", "linestyle": "none", "zorder": 4, "markeredgewidth": 1.4}
    edge = style.ROLES["full_batch"]["color"]
    if minimum is None:
        notes.append("no minimum inside")
    else:
        within, error = minimum.position_error, ""
        if math.isfinite(within):
            error = f" ± {within:.1g}"
            span = minimum.position - within, minimum.position + within
            panel.axvspan(*span, color=style.ROLES["spread"]["color"], linewidth=0, zorder=0.5)
        label = f"minimum at {minimum.position:.3g}{error}"
        panel.plot(minimum.position, minimum.loss, "o", **mark, markersize=6.5, markeredgecolor=edge, label=label)
    if line.step_length is not None and math.isfinite(line.step_length):
        label = f"step to {line.step_length:.3g}"
        panel.axvline(line.step_length, **style.look("executed_step"), zorder=0.9)
        if line.step_loss is not None and math.isfinite(line.step_loss):
            panel.plot(line.step_length, line.step_loss, "D", **mark, markersize=4.5, markeredgecolor=edge, label=label)
    panel.axvline(0.0, color="#BBBBBB", linewidth=0.7, zorder=0.8)
    panel.set_xlim(points[0], points[-1])
    panel.xaxis.set_major_locator(MaxNLocator(5))
    panel.set_ylim(low, high)
    panel.set_xlabel("position s (Euclidean length)")
    panel.set_ylabel("loss (unit of the loss function)")
    return notes


def _limits(values: Array) -> tuple[float, float]:
    """Return y limits for curves: all of them, with a little room; parabolas may leave the panel."""
    finite = values[np.isfinite(values)]
    low, high = float(finite.min()), float(finite.max())
    room = 0.06 * (high - low) or 0.01 * max(1.0, abs(high))
    return low - room, high + room


# --- many lines -------------------------------------------------------------------------------------------------------


def _numbers(lines: Sequence[MeasuredLine], name: str) -> Array:
    """Return a number of each line; NaN where it has none. Shape (T,)."""
    values = (getattr(line, name) for line in lines)
    found = np.array([math.nan if value is None else value for value in values], dtype=np.float64)
    return np.where(np.isfinite(found), found, np.nan)


def _draw_losses(lines: Sequence[MeasuredLine], window: int, panel: Axes) -> Sequence[str]:
    from sgdline.figures.grammar import style

    losses = {"full_batch": _numbers(lines, "loss")}
    batches = np.array([math.nan if line.batch is None else line.batch.loss for line in lines])
    labels = {"full_batch": "loss of the measuring set", "direction_batch": "loss of the step's batch"}
    if np.isfinite(batches).any():
        losses["direction_batch"] = batches
    for role, values in losses.items():
        _draw(panel, lines, values, window=window, role=role, label=labels[role])
    panel.set_ylabel("loss")
    every = np.concatenate(list(losses.values()))
    every = every[np.isfinite(every)]
    if every.min() > 0 and every.max() > _STRETCH * every.min():
        style.plain_log(panel)
    return ["as measured" if window == 1 else f"thin: as measured, thick: moving median of {window} lines"]


def _draw_overshoot(lines: Sequence[MeasuredLine], window: int, panel: Axes) -> Sequence[str]:
    from sgdline.figures.grammar import style
    from sgdline.figures.grammar.sheet import NoDataError

    values = _numbers(lines, "overshoot")
    panel.set_ylabel("overshoot")
    without = int(np.isnan(values).sum())
    notes = [f"no minimum inside on {without} of {style.counted(len(lines), 'line')}"] if without else []
    if without == len(lines):
        raise NoDataError("no line has a minimum", notes=notes)
    _draw(panel, lines, values, window=window, role="measured", label="overshoot")
    panel.axhline(1.0, **style.look("optimum", linewidth=0.9, zorder=0), label="1: the step ends in the minimum")
    look: dict[str, Any] = {"color": "#888888", "linewidth": 0.8, "linestyle": (0, (2, 2)), "zorder": 0}
    panel.axhline(2.0, **look, label="2: as high as before on a parabola")
    # Where a line begins next to its minimum the ratio is anything.
    low, high = np.nanquantile(values, [0.05, 0.95])
    limits = min(-0.1, float(low)), max(2.2, float(high))
    panel.set_ylim(*limits)
    return [*notes, *style.outside_note(values, limits)]


def _draw_sharpness(lines: Sequence[MeasuredLine], window: int, panel: Axes) -> Sequence[str]:
    from sgdline.figures.grammar import style
    from sgdline.figures.grammar.sheet import NoDataError

    panel.set_xlabel("step")
    panel.set_ylabel("1 / learning rate")
    rates = _numbers(lines, "step_learning_rate")
    edge = np.divide(2.0, rates, out=np.full_like(rates, np.nan), where=rates > 0)
    curves = {
        "full_batch": ("critical sharpness", _numbers(lines, "critical_sharpness")),
        "valley_floor": ("directional sharpness", _numbers(lines, "directional_sharpness")),
    }
    curves = {role: curve for role, curve in curves.items() if np.isfinite(curve[1]).any()}
    if not curves:
        raise NoDataError("no line has a sharpness: the steps have no one learning rate, or lead upwards")
    for role, (label, values) in curves.items():
        _draw(panel, lines, values, window=window, role=role, label=label)
    _draw(panel, lines, edge, window=1, role="reference", label="2 / learning rate")
    values = np.concatenate([values for _, values in curves.values()])
    known = [end for end in (np.nanmin(edge), np.nanmax(edge)) if math.isfinite(end)]
    low, high = (float(end) for end in np.nanquantile(values, [0.02, 0.98]))
    low, high = min([low, *known]), max([high, *known])
    if low > 0 and high > _STRETCH * low:
        low, high = low / 1.5, high * 1.5
        panel.set_ylim(low, high)
        style.plain_log(panel)
    else:
        room = 0.08 * (high - low) or 0.1 * high
        low, high = low - room, high + room
        panel.set_ylim(low, high)
    return style.outside_note(values, (low, high))


def _draw(panel: Axes, lines: Sequence[MeasuredLine], values: Array, *, window: int, role: str, label: str) -> None:
    """Draw a number of the lines thin as measured, and thick as its moving median: single lines are far off."""
    from sgdline.figures.grammar import style

    steps, look = np.array([line.step for line in lines], dtype=np.float64), style.look(role)
    if window == 1:
        marker: dict[str, Any] = (
            {"marker": "o", "markersize": 3.0} if len(lines) < _MARKED and role != "reference" else {}
        )
        single: dict[str, Any] = {"marker": "_", "markersize": 12.0} if len(lines) == 1 and role == "reference" else {}
        panel.plot(steps, values, **{**look, "linewidth": 1.1}, **marker, **single, label=label)
        return
    panel.plot(steps, values, color=look["color"], linewidth=0.6, alpha=0.45)
    seen = np.lib.stride_tricks.sliding_window_view(values, window)
    enough = 2 * np.isfinite(seen).sum(axis=1) >= window
    medians = np.full(len(seen), np.nan)
    medians[enough] = np.nanmedian(seen[enough], axis=1)
    panel.plot(np.lib.stride_tricks.sliding_window_view(steps, window).mean(axis=1), medians, **look, label=label)
