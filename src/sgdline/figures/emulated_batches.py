"""What other batch sizes would have stepped and gained along the same lines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from sgdline.figures import _batch_curves as batches
from sgdline.figures.base import Sheet
from sgdline.figures.grammar import series, style
from sgdline.tables import provenance

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


FloatArray = npt.NDArray[np.float64]

_NOTE_WIDTH = 90  # letters


@dataclass(frozen=True, kw_only=True)
class EmulatedBatches(Sheet):
    """Batch sizes emulated on the measured lines."""

    reads: ClassVar[tuple[str, ...]] = ("line_batch_sizes", "line_strategies", "trace")
    uses: ClassVar[tuple[str, ...]] = ("smoothing", "compat", "pal_measuring_step")

    def draw(self, tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any]) -> Figure:
        """Draw the four panels of one run, see `draw_batch_sizes`."""
        return draw_batch_sizes(tables, settings=settings, title=self.heading())


def draw_batch_sizes(tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any], title: str) -> Figure:
    """Draw the improvements that SGD and PAL would have summed up at each batch size, and the slopes.

    Args:
        tables: `line_batch_sizes`, `line_strategies` and `trace` of one run.
        settings: As in `sgdline.figures.plot_figure`.
        title: One line.

    Source: linesearch fig7, M13 (papers.md 2.4).
    """
    # Imported late: reading a spec does not need it.
    from sgdline.analysis.rates import constant_rate

    figure = style.new_figure(
        title,
        footer=[*style.describe_run(tables, settings), *batches.compat_footer(settings)],
        width=11.5,
        height=8.4,
        legend_entries=batches.legend_entries(tables) + 2,  # optimum, expectation
    )
    panels = figure.subplots(2, 2).ravel().tolist()
    own = style.own_lr_text(settings, provenance(tables["line_batch_sizes"]))
    rate = "the run's scheduled lr" if constant_rate(tables["trace"]) is None else f"lr {own}"
    for panel, method, name in (
        (panels[0], "sgd", f"SGD, {rate}"),
        (panels[1], "pal", f"PAL, mu = {settings['analysis']['pal_measuring_step']:g}"),
    ):
        _draw_improvement(panel, tables, settings=settings, method=method, title=f"accumulated improvement: {name}")
    _draw_slopes(panels[2], tables, settings=settings)
    _draw_ratios(panels[3], tables, settings=settings)
    style.shared_legend(figure, panels)
    return figure


def _draw_improvement(
    panel: Axes, tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any], method: str, title: str
) -> None:
    """Draw running sums of f(0) - f(s): their mean and their quartiles over the draws."""
    panel.set_ylabel("sum of f(0) - f(s) over the lines (nats)")
    curves = batches.batch_curves(tables, f"{method}_improvement", settings=settings)
    if not curves:
        batches.say_nothing(panel, tables, title=title)
        return
    panel.axhline(0.0, color="#BBBBBB", linewidth=0.7, zorder=0)
    optimum = _optimum(tables["line_strategies"])
    look = style.look("optimum", **batches.marker(optimum[1]))
    panel.plot(*optimum, **look, label="optimum: full-batch minimum s_opt")
    drawn = [optimum[1]]
    for curve in curves:
        # A line whose step leaves the measured range adds nothing; it is counted below.
        known = np.isfinite(curve.values)
        sums = np.cumsum(np.where(known, curve.values, 0.0 if known.any() else np.nan), axis=0)
        if sums.shape[1] > 1 and (np.ptp(sums, axis=1) > 0).any():
            low, high = np.quantile(sums, [0.25, 0.75], axis=1)
            panel.fill_between(curve.steps, low, high, color=curve.look["color"], alpha=0.22, linewidth=0)
        drawn.append(sums.mean(axis=1))
        batches.draw_curve(panel, curve, curve.steps, drawn[-1])
    series.mark_run(panel, tables, run_steps=settings["steps"])
    limits = style.readable_limits(np.concatenate(drawn), keep=[0.0, *optimum[1][-1:].tolist()])
    if limits:
        panel.set_ylim(*limits)
    draws = max(curve.values.shape[1] for curve in curves)
    every = settings["probes"]["line"]["every"]
    notes = ["sum over the measured lines" + ("" if every == 1 else f", 1 in {every}")]
    if draws > 1:
        notes.append(f"mean and quartiles of {draws} draws")
    notes += _left_out(tables["line_batch_sizes"], method=method)
    style.title(panel, title, notes + style.outside_note(np.concatenate(drawn), limits), width=_NOTE_WIDTH)


def _optimum(line_strategies: pa.Table) -> tuple[FloatArray, FloatArray]:
    """Return the running sum of what the steps to s_opt gain; a line that has none adds nothing."""
    # Imported late: reading a spec does not need it.
    from sgdline.analysis.strategies import accumulate

    sums = accumulate(line_strategies).get("optimum")
    if sums is None:
        return np.empty(0), np.empty(0)
    return sums.steps.astype(np.float64), sums.improvement


def _left_out(line_batch_sizes: pa.Table, *, method: str) -> list[str]:
    """Return notes that count the lines which the sums lack, and say why."""
    steps, sizes = line_batch_sizes["step"].to_numpy(), line_batch_sizes["batch_size"].to_numpy()
    usable = np.array(line_batch_sizes["status"].to_pylist(), dtype=object) == "ok"
    whole = np.array(line_batch_sizes["selection"].to_pylist(), dtype=object) == "all"
    stepped = np.isfinite(style.numbers(line_batch_sizes, f"{method}_step_length"))
    gained = np.isfinite(style.numbers(line_batch_sizes, f"{method}_improvement"))
    lines = style.counted(len(np.unique(steps)), "line")
    notes = [f"{np.sum(~usable)} of {lines} without numbers"] if not usable.all() else []
    for missing, why in (
        (usable & ~stepped, "a loss was not measured or not finite"),
        (usable & stepped & ~gained, "the step ends beyond the measured range"),
    ):
        # A line counts for a batch size if it is missing from one draw at least.
        at_size = {size: np.unique(steps[missing & ~whole & (sizes == size)]).size for size in np.unique(sizes[~whole])}
        listed = [f"{count} at B = {size}" for size, count in at_size.items() if count]
        if (missing & whole).any():
            listed.append(f"{np.sum(missing & whole)} at the full batch")
        if listed:
            notes.append(f"of {lines} left out, {why}: {', '.join(listed)}")
    return notes


def _draw_slopes(panel: Axes, tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any]) -> None:
    """Draw |D_B|, smoothed."""
    title = "slope at s = 0, along the line"
    panel.set_ylabel("|D_B| (nats per length)")
    curves = batches.batch_curves(tables, "slope", settings=settings, magnitude=True)
    if not curves:
        batches.say_nothing(panel, tables, title=title)
        return
    batches.draw_averages(panel, curves, window=settings["analysis"]["smoothing"], positive=True)
    panel.set_yscale("log")
    series.mark_run(panel, tables, run_steps=settings["steps"])
    style.title(panel, title, batches.panel_notes(curves, settings=settings), width=_NOTE_WIDTH)


def _draw_ratios(panel: Axes, tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any]) -> None:
    """Draw the smoothed D_B over the smoothed D_|B|, and what a flat rest of the samples leads to expect."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    title = "slope relative to that of the run's batch size"
    panel.set_ylabel("D_B / D_|B|")
    curves = batches.batch_curves(tables, "slope", settings=settings)
    own = batches.own_curve(curves, settings=settings)
    if own is None:
        batches.say_nothing(panel, tables, title=title)
        return
    negative = 0
    for curve in curves:
        steps, ratio = batches.ratio_to_own(curve, own, window=settings["analysis"]["smoothing"])
        negative += int((ratio <= 0).sum())
        batches.draw_curve(panel, curve, steps, np.where(ratio > 0, ratio, np.nan))
        # Of a random part of the batch the same slope is expected, of the steepest part that of the whole (papers.md
        # 2.3, the remark after M14).
        if curve.size > own.size or (curve.size < own.size and settings["analysis"]["compat"]):
            panel.axhline(own.size / curve.size, color=curve.look["color"], **batches.EXPECTED, zorder=1)
    panel.plot([], [], color="#555555", **batches.EXPECTED, label="expected of a flat rest: |B|/B")
    panel.set_yscale("log", base=2)
    panel.yaxis.set_major_locator(LogLocator(base=2))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}" if value >= 1 else f"1/{1 / value:g}"))
    panel.yaxis.set_minor_formatter(NullFormatter())
    series.mark_run(panel, tables, run_steps=settings["steps"])
    notes = batches.panel_notes(curves, settings=settings)
    if negative:
        notes.append(f"{style.counted(negative, 'value')} not positive")
    style.title(panel, title, notes, width=_NOTE_WIDTH)
