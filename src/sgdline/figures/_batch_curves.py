"""One curve per emulated batch size: shared by the figures that compare batch sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sgdline.figures.grammar import series, style
from sgdline.figures.grammar.sheet import NoDataError
from sgdline.figures.grammar.style import FloatArray

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes


# Even in lightness, with more hues than the style's own map: seven curves are to be told apart. It falls with the batch
# size, down to the black of the full batch; the map's yellow end would not show on white.
_COLOR_MAP, _LIGHTEST = "viridis", 0.9
_FULL_BATCH: dict[str, Any] = {"color": "#000000", "linestyle": (0, (5, 1.2, 1, 1.2)), "linewidth": 1.5}
EXPECTED: dict[str, Any] = {"linestyle": (0, (2, 2)), "linewidth": 0.8}


@dataclass(frozen=True)
class BatchCurve:
    """One quantity of one batch size over the run."""

    size: int
    label: str
    look: Mapping[str, Any]  # plot arguments
    steps: FloatArray  # (T,) all lines of the table
    values: FloatArray  # (T, draws) NaN where there is none


def batch_curves(
    tables: Mapping[str, pa.Table], column: str, *, settings: Mapping[str, Any], magnitude: bool = False
) -> list[BatchCurve]:
    """Return one column of the emulated batches, by size, and after them that of the full batch.

    Sizes without a value are among them, so that all panels have one legend; without any value there is no curve.

    Args:
        tables: With `line_batch_sizes`.
        column: A numeric column of it.
        settings: With batch_size and analysis.compat.
        magnitude: Whether to take absolute values.
    """
    # Imported lazily: reading a spec does not need it.
    from sgdline.analysis.batch_sizes import emulated_batches

    table = tables["line_batch_sizes"]
    found = emulated_batches(table, column, magnitude=magnitude)
    whole = table.filter(np.asarray(table["selection"].to_pylist(), dtype=object) == "all").sort_by("step")
    steps = style.numbers(whole, "step")
    colors = _ramp(len(found.sizes))
    curves = []
    for place, size in enumerate(found.sizes.tolist()):
        values = np.full((len(steps), found.values.shape[2]), np.nan)
        values[np.searchsorted(steps, found.steps)] = found.values[:, place]
        own = size == settings["batch_size"]
        kind = " (the run's)" if own else ""
        if settings["analysis"]["compat"] and size < settings["batch_size"]:
            kind = " (steepest)"
        look = {"color": colors[place], "linestyle": "-", "linewidth": 2.4 if own else 1.4}
        curves.append(BatchCurve(size, f"batch size {size}{kind}", look, steps, values))
    if len(steps):
        read = style.numbers(whole, column)[:, None]
        samples = int(whole["batch_size"][0].as_py())
        full = BatchCurve(samples, f"full batch, {samples:,}", _FULL_BATCH, steps, np.abs(read) if magnitude else read)
        curves.append(full)
    return curves if any(np.isfinite(curve.values).any() for curve in curves) else []


def mean_over_draws(curve: BatchCurve) -> FloatArray:
    """Return the mean over the draws that have a value; NaN where there is none. Shape (T,)."""
    finite = np.isfinite(curve.values)
    total = np.where(finite, curve.values, 0.0).sum(axis=1)
    return np.where(finite.any(axis=1), total / np.maximum(finite.sum(axis=1), 1), np.nan)


def _smoothed(steps: FloatArray, values: FloatArray, *, window: int) -> tuple[FloatArray, FloatArray]:
    """Return the moving average; the values themselves where there are fewer lines than the window holds."""
    centres, means = series.moving_average(steps, values, window=window)
    return (centres, means) if np.isfinite(means).any() else (steps, values)


def _own_curve(curves: Sequence[BatchCurve], *, settings: Mapping[str, Any]) -> BatchCurve | None:
    """Return the curve of the run's own batch size, not that of the full batch; None if it has no value."""
    own = [curve for curve in curves[:-1] if curve.size == settings["batch_size"]]
    return own[0] if own and np.isfinite(own[0].values).any() else None


def ratio_to_own(curve: BatchCurve, own: BatchCurve, *, window: int) -> tuple[FloatArray, FloatArray]:
    """Return the ratio of two smoothed curves, as the paper has it; NaN where the lower one is 0."""
    steps, above = _smoothed(curve.steps, mean_over_draws(curve), window=window)
    _, below = _smoothed(own.steps, mean_over_draws(own), window=window)
    if len(above) != len(below):  # only one of the two has a moving average
        steps, above, below = curve.steps, mean_over_draws(curve), mean_over_draws(own)
    return steps, np.divide(above, below, out=np.full_like(above, np.nan), where=below != 0)


def draw_values(
    curves: Sequence[BatchCurve],
    tables: Mapping[str, pa.Table],
    settings: Mapping[str, Any],
    unit: str,
    log: bool,
    panel: Axes,
) -> Sequence[str]:
    """Draw the smoothed mean over the draws of every size.

    Args:
        curves: From `batch_curves`.
        tables: Of the run.
        settings: As in `sgdline.figures.plot_figure`.
        unit: Label of the y axis.
        log: Whether that axis is logarithmic; values that are not positive are then left out and counted.
        panel: Where to.
    """
    panel.set_ylabel(unit)
    check(curves, tables)
    window = settings["analysis"]["smoothing"]
    if not log:
        panel.axhline(0.0, color="#BBBBBB", linewidth=0.7, zorder=0)
    drawn = []
    for curve in curves:
        steps, values = _smoothed(curve.steps, mean_over_draws(curve), window=window)
        drawn.append(values)
        draw_curve(panel, curve, steps, np.where(values > 0, values, np.nan) if log else values)
    series.mark_run(panel, tables, run_steps=settings["steps"])
    draws = max(curve.values.shape[1] for curve in curves)
    notes = [series.average_note(len(curves[0].steps), window, measured=False)]
    notes += [f"mean of {draws} draws"] if draws > 1 else []
    if log:
        panel.set_yscale("log")
    return notes + _left_out(panel, np.concatenate(drawn), log, keep=[0.0])


def draw_ratios(
    curves: Sequence[BatchCurve],
    tables: Mapping[str, pa.Table],
    settings: Mapping[str, Any],
    unit: str,
    log: bool,
    panel: Axes,
) -> Sequence[str]:
    """Draw each smoothed curve over that of the run's own batch size; arguments as in `draw_values`."""
    panel.set_ylabel(unit)
    own = _own_curve(curves, settings=settings)
    if own is None:
        check((), tables)
        return ()
    window = settings["analysis"]["smoothing"]
    drawn = []
    for curve in curves:
        steps, ratio = ratio_to_own(curve, own, window=window)
        drawn.append(ratio)
        draw_curve(panel, curve, steps, np.where(ratio > 0, ratio, np.nan) if log else ratio)
    series.mark_run(panel, tables, run_steps=settings["steps"])
    if log:
        _powers_of_two(panel)
    else:
        panel.axhline(0.0, color="#BBBBBB", linewidth=0.7, zorder=0)
    left_out = _left_out(panel, np.concatenate(drawn), log, keep=[0.0, 1.0], stretch=4.0)
    return ["ratio of the smoothed curves", *left_out]


def _left_out(panel: Axes, values: FloatArray, log: bool, **readable: Any) -> list[str]:
    """Set readable limits, unless the axis is logarithmic; return a note that counts the values it has no place for."""
    if log:
        lost = int(np.sum(values <= 0))
        return [f"{style.counted(lost, 'value')} not positive"] if lost else []
    limits = style.readable_limits(values, **readable)
    if limits:
        panel.set_ylim(*limits)
    return style.outside_note(values, limits)


def _powers_of_two(panel: Axes) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    panel.set_yscale("log", base=2)
    panel.yaxis.set_major_locator(LogLocator(base=2))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}" if value >= 1 else f"1/{1 / value:g}"))
    panel.yaxis.set_minor_formatter(NullFormatter())


def draw_curve(panel: Axes, curve: BatchCurve, steps: FloatArray, values: FloatArray) -> None:
    """Draw one series of a batch size."""
    panel.plot(steps, values, **curve.look, **marker(values), label=curve.label)


def marker(values: FloatArray) -> dict[str, Any]:
    """Return plot arguments that show a curve of one or two values."""
    return {"marker": "o", "markersize": 3.0} if 0 < np.isfinite(values).sum() < 3 else {}


def check(curves: Sequence[BatchCurve], tables: Mapping[str, pa.Table]) -> None:
    """Raise `NoDataError` without curves."""
    if not curves:
        count = len(tables["line_batch_sizes"])
        raise NoDataError("no line was measured" if count == 0 else "no line has numbers", tables)


def footer(tables: Mapping[str, pa.Table], settings: Mapping[str, Any]) -> list[str]:
    """Return the facts of the run, and which rules were followed where they are the released ones."""
    facts = style.run_facts(tables, settings)
    return ["batch sizes by the released code's rules", *facts] if settings["analysis"]["compat"] else facts


def _ramp(count: int) -> list[Any]:
    import matplotlib

    colors = matplotlib.colormaps[_COLOR_MAP]
    return [colors(place) for place in np.linspace(_LIGHTEST, 0.0, count)]
