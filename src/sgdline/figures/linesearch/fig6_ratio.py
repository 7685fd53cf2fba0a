"""The learning rate that would have been an exact line search, at each update."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from sgdline.figures import series, style
from sgdline.figures.spec import FigureSpec

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.figure import Figure

SPEC = FigureSpec(
    id="linesearch/fig6_ratio",
    title="Learning rate of an exact line search on the full-batch loss",
    tables=("line_metrics", "trace"),
    probes=("line",),
)


def draw(tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any]) -> Figure:
    """Draw s_opt/||m_t|| over the run, with its median and the run's own learning rate.

    Args:
        tables: `line_metrics` and `trace` of one run.
        settings: As in `sgdline.figures.plot_figure`.

    Source: linesearch fig6, panel 6, M10 (papers.md 2.4).
    """
    metrics = tables["line_metrics"].sort_by("step")
    run_steps, window = settings["steps"], settings["analysis"]["smoothing"]
    figure = style.new_figure(
        SPEC.title,
        footer=style.describe_run(tables, settings),
        width=8.4,
        height=4.9,
        legend_entries=5,
    )
    panel = figure.subplots()
    steps, ratios = style.numbers(metrics, "step"), style.numbers(metrics, "line_search_ratio")
    panel.set_xlabel("update t")
    panel.set_ylabel("s_opt / ||m||  (a learning rate)")
    finite = np.isfinite(ratios)
    if not finite.any():
        words = "no line was measured" if len(steps) == 0 else "no line has a ratio"
        style.say(panel, style.absence(words, tables))
        return figure
    notes = [series.average_note(len(steps), window)]
    lr = style.numbers(metrics, "lr")
    keep = [0.0, float(lr.min()), float(lr.max())]
    half = series.middle_half(len(steps))
    middle = ratios[half][finite[half]]
    if middle.size >= 4:
        low, high = np.quantile(middle, [0.25, 0.75])
        panel.fill_between(
            [steps[half][0], steps[half][-1]], low, high, color=style.ROLES["spread"]["color"], linewidth=0, zorder=0,
            label=f"middle half: quartiles {low:.3g} to {high:.3g}",
        )  # fmt: skip
        median, span = float(np.median(middle)), "middle half"
    else:
        notes.append("fewer than 4 ratios in the middle half: no quartiles")
        median, span = float(np.median(ratios[finite])), "run"
    panel.axhline(0.0, color="#BBBBBB", linewidth=0.7, zorder=0)
    series.draw_series(panel, steps, ratios, window=window, role="measured", label="measured")
    panel.axhline(median, **style.look("median", zorder=1.5), label=f"median of the {span}: {median:.3g}")
    constant = bool((lr == lr[0]).all())
    name = f"the run's lr: {lr[0]:g}" if constant else "the run's lr (scheduled)"
    if constant:
        panel.axhline(float(lr[0]), **style.look("reference"), label=name)
    else:
        panel.step(steps, lr, where="post", **style.look("reference"), label=name)
    series.mark_run(panel, tables, run_steps=run_steps)
    limits = style.readable_limits(ratios, keep=keep, stretch=1.5)
    if limits:
        panel.set_ylim(*limits)
    notes += style.outside_note(ratios, limits)
    missing = int((~finite).sum())
    if missing:
        notes.append(f"no ratio on {missing} of {style.counted(len(steps), 'line')}")
    style.title(panel, "position of the full-batch minimum over the norm of the update vector", notes, width=110)
    style.shared_legend(figure, [panel])
    return figure
