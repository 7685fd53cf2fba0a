"""What other batch sizes would have stepped and gained along the same lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sgdline.figures import _batch_curves as batches
from sgdline.figures.base import PanelSheet
from sgdline.figures.grammar import series, style
from sgdline.figures.grammar.sheet import Panel, draw_sheet
from sgdline.figures.grammar.style import FloatArray
from sgdline.tables import provenance

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class EmulatedBatches(PanelSheet):
    """Batch sizes emulated on the measured lines.

    Batches of several sizes are put together from the losses of single samples along the line of the update that was
    made: smaller ones are random parts of the direction batch, larger ones add random other samples (analysis.compat:
    the steepest samples). The upper panels sum up the improvements of the full-batch loss with the steps that SGD at
    the run's learning rate and PAL would have made: mean and quartiles over the draws; red are steps to the full-batch
    minimum. A note counts the lines left out of a sum, because a step ends beyond the measured range. The lower panels
    show the slope at s = 0 and its ratio to that of the run's own batch size; dashed lines are what a flat rest of the
    samples leads to expect. What keeps the ratios above them is the slope of the other samples.
    """

    reads: ClassVar[tuple[str, ...]] = ("line_batch_sizes", "line_strategies", "trace")
    uses: ClassVar[tuple[str, ...]] = ("smoothing", "compat", "pal_measuring_step")
    panels: ClassVar[tuple[str, ...]] = ("sgd", "pal", "slope", "ratio")

    def draw(self, tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any]) -> Figure:
        """Draw the improvements that SGD and PAL would have summed up at each batch size, and the slopes.

        Source: linesearch fig7, M13 (papers.md 2.4).
        """
        # Imported late: reading a spec does not need it.
        from sgdline.analysis.rates import constant_rate

        own = style.own_lr_text(settings, provenance(tables["line_batch_sizes"]))
        rate = "the run's scheduled lr" if constant_rate(tables["trace"]) is None else f"lr {own}"
        slopes = batches.batch_curves(tables, "slope", settings=settings, magnitude=True)
        unit = "|D_B| (nats per length)"
        panels = [
            *(
                Panel(method, text, partial(_draw_improvement, tables, settings, method), height=2.5)
                for method, text in (
                    ("sgd", f"accumulated improvement, SGD, {rate}"),
                    ("pal", f"accumulated improvement, PAL, µ = {settings['analysis']['pal_measuring_step']:g}"),
                )
            ),
            Panel(
                "slope",
                "slope at s = 0, along the line",
                partial(batches.draw_values, slopes, tables, settings, unit, True),
                height=2.4,
            ),
            Panel(
                "ratio",
                "slope relative to that of the run's",
                partial(_draw_ratios, tables, settings),
                height=2.4,
            ),
        ]
        return draw_sheet(self, panels, footer=batches.footer(tables, settings), columns=2)


def _draw_improvement(
    tables: Mapping[str, pa.Table], settings: Mapping[str, Any], method: str, panel: Axes
) -> Sequence[str]:
    """Draw running sums of f(0) - f(s): their mean and their quartiles over the draws."""
    panel.set_ylabel("sum of f(0) - f(s) (nats)")
    curves = batches.batch_curves(tables, f"{method}_improvement", settings=settings)
    batches.check(curves, tables)
    panel.axhline(0.0, color="#BBBBBB", linewidth=0.7, zorder=0)
    optimum = _optimum(tables["line_strategies"])
    look = style.look("optimum", **batches.marker(optimum[1]))
    panel.plot(*optimum, **look, label="full-batch minimum s_opt")
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
    notes = [*_left_out(tables["line_batch_sizes"], method=method), *series.sum_note(settings)]
    notes += [f"mean and quartiles of {draws} draws"] if draws > 1 else []
    return notes + style.outside_note(np.concatenate(drawn), limits)


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


def _draw_ratios(tables: Mapping[str, pa.Table], settings: Mapping[str, Any], panel: Axes) -> Sequence[str]:
    """Draw the smoothed D_B over the smoothed D_|B|, and what a flat rest of the samples leads to expect."""
    curves = batches.batch_curves(tables, "slope", settings=settings)
    notes = batches.draw_ratios(curves, tables, settings, "D_B / D_|B|", True, panel)
    own = settings["batch_size"]
    for curve in curves:
        # Of a random part of the batch the same slope is expected, of the steepest part that of the whole (papers.md
        # 2.3, the remark after M14).
        if curve.size > own or (curve.size < own and settings["analysis"]["compat"]):
            panel.axhline(own / curve.size, color=curve.look["color"], **batches.EXPECTED, zorder=1)
    panel.plot([], [], color="#555555", **batches.EXPECTED, label="expected of a flat rest: |B|/B")
    return notes
