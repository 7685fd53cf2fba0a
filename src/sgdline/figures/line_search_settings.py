"""Runs with measured lines side by side, over learning rates, batch sizes and seeds: exact rates, losses and gains."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sgdline.declare import registry
from sgdline.figures.base import PanelSheet
from sgdline.figures.grammar import comparing, series, style
from sgdline.figures.grammar.comparing import Curve, Run
from sgdline.figures.grammar.sheet import NoDataError, Panel, draw_sheet

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Looks = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class LineSearchSettings(PanelSheet):
    """Line search over learning rates, batch sizes and seeds.

    One column for each network, one colour for each learning rate and batch size: the median over the seeds, with a
    band from the lowest to the highest. From above: the exact learning rate s_opt/norm(m_t), with which each update
    would have ended in the full-batch minimum on its line, as moving average; dotted is the run's own. The full-batch
    loss at the updates. What the run's own steps gained so far on the measured lines, as a share of what steps to the
    minimum would have gained: 1 is an exact line search, below 0 the loss would have grown. And the median of the exact
    learning rate over the middle half of the lines against the run's own: on the dotted diagonal a run's learning rate
    is exact; a level row of points means that it does not depend on the run's own.
    """

    reads: ClassVar[tuple[str, ...]] = ("line_metrics", "line_strategies", "trace")
    uses: ClassVar[tuple[str, ...]] = ("smoothing",)
    compares: ClassVar[bool] = True
    panels: ClassVar[tuple[str, ...]] = ("ratio", "loss", "gain", "median")

    def draw(self, tables: Sequence[Mapping[str, pa.Table]], *, settings: Sequence[Mapping[str, Any]]) -> Figure:
        """Draw ratio, loss, share of the optimum's gain, and the ratio's median over learning rates, for each network.

        Source: new; linesearch M8 and M10 for one run each (papers.md 2.4).
        """
        runs = _runs(tables, settings)
        networks = comparing.by_network(runs)
        looks = comparing.looks_of(run.label for run in runs)
        quantities: dict[str, tuple[str, Callable[..., Sequence[str]]]] = {
            "ratio": ("exact learning rate", _draw_ratios),
            "loss": ("full-batch loss", _draw_losses),
            "gain": ("gain of the run's own steps", _draw_gains),
            "median": ("its median by learning rate", _draw_medians),
        }
        panels = [
            Panel(name, f"{network}: {title}" if len(networks) > 1 else title, partial(draw, own, looks), height=2.0)
            for name, (title, draw) in quantities.items()
            for network, own in networks.items()
        ]
        measured = comparing.measured_on(runs, "line_metrics", what="full-batch loss")
        return draw_sheet(
            self,
            panels,
            footer=comparing.facts(runs, measured=measured),
            columns=len(networks) if len(networks) > 1 else 2,
        )


def _runs(tables: Sequence[Mapping[str, pa.Table]], settings: Sequence[Mapping[str, Any]]) -> list[Run]:
    """Return each run once, by learning rate and batch size; its label is what differs among them, but for the seed.

    Two experiments may share a setting, to give it more seeds.
    """
    rules = [", ".join(style.describe_optimizer(block["optimizer"])) or "SGD" for block in settings]
    schedules = [registry.label(block["schedule"]["name"]) if "schedule" in block else "" for block in settings]
    parts = [
        (f"lr {style.lr_text(block)}", f"batch size {block['batch_size']}", rule, schedule)
        for block, rule, schedule in zip(settings, rules, schedules, strict=True)
    ]
    varied = [place for place in range(len(parts[0])) if len({part[place] for part in parts}) > 1] or [0]
    found: dict[tuple[Any, ...], Run] = {}
    for own, block, part in zip(tables, settings, parts, strict=True):
        label = ", ".join(part[place] for place in varied if part[place])
        run = Run(own, block, label)
        found.setdefault((block["dataset"], block["model"], *part, block["seed"]), run)
    return sorted(found.values(), key=lambda run: (float(run.settings["lr"]), str(run.settings["batch_size"]).zfill(9)))


def ratio_curve(run: Run) -> Curve:
    """Return the moving average of s_opt/||m_t||, the ratios themselves with fewer lines than its window."""
    metrics = run.tables["line_metrics"].sort_by("step")
    steps, ratios = style.numbers(metrics, "step"), style.numbers(metrics, "line_search_ratio")
    averaged = series.moving_average(steps, ratios, window=run.settings["analysis"]["smoothing"])
    return Curve(*averaged) if np.isfinite(averaged[1]).any() else Curve(steps, ratios)


def loss_curve(run: Run) -> Curve:
    """Return the full-batch loss at the measured updates; NaN where it is not positive, for a logarithmic axis."""
    metrics = run.tables["line_metrics"].sort_by("step")
    losses = style.numbers(metrics, "loss_at_zero")
    return Curve(style.numbers(metrics, "step"), np.where(losses > 0, losses, np.nan))


def gain_curve(run: Run) -> Curve:
    """Return the accumulated improvement of the run's own steps over that of s_opt, on lines that have both."""
    # Imported late: reading a spec does not need it.
    from sgdline.analysis.strategies import rows_by_strategy

    rows = rows_by_strategy(run.tables["line_strategies"])
    if not {"optimum", "sgd_original"} <= set(rows):
        return Curve(np.empty(0), np.empty(0))
    best, own = (style.numbers(rows[name], "improvement") for name in ("optimum", "sgd_original"))
    known = np.isfinite(best) & np.isfinite(own)
    available = np.cumsum(np.where(known, best, 0.0))
    gained = np.cumsum(np.where(known, own, 0.0))
    share = np.divide(gained, available, out=np.full_like(gained, np.nan), where=available > 0)
    return Curve(style.numbers(rows["optimum"], "step"), share)


def middle_median(run: Run) -> tuple[float, float]:
    """Return the medians of the run's learning rate and of s_opt/||m_t|| over the middle half of its lines (M10)."""
    # Imported late: reading a spec does not need it.
    from sgdline.analysis.strategies import middle_half

    metrics = run.tables["line_metrics"].sort_by("step")
    half = middle_half(len(metrics))
    found = [style.numbers(metrics, name)[half] for name in ("lr", "line_search_ratio")]
    rate, ratio = (float(np.median(kept)) if (kept := own[np.isfinite(own)]).size else np.nan for own in found)
    return rate, ratio


def _draw_ratios(runs: Sequence[Run], looks: Looks, panel: Axes) -> Sequence[str]:
    panel.set_ylabel("s_opt / ‖m‖")
    curves = [ratio_curve(run) for run in runs]
    notes = _over_updates(panel, runs, curves, looks)
    rates = []
    for run in runs:
        trace = comparing.moves(run)
        rates.append(style.numbers(trace, "lr"))
        look = {"color": looks[run.label]["color"], "linestyle": (0, (1, 1.5)), "linewidth": 1.0}
        panel.step(style.numbers(trace, "step"), rates[-1], where="post", **look, zorder=1.5)
    panel.axhline(0.0, color="#BBBBBB", linewidth=0.7, zorder=0)
    values = np.concatenate([curve.values for curve in curves])
    limits = style.readable_limits(values, keep=[0.0, *(float(own.max()) for own in rates if own.size)], stretch=2.0)
    if limits:
        panel.set_ylim(*limits)
    smoothed = comparing.window_note((run.settings["analysis"]["smoothing"] for run in runs), over="lines")
    return [*smoothed, *notes, *style.outside_note(values, limits)]


def _draw_losses(runs: Sequence[Run], looks: Looks, panel: Axes) -> Sequence[str]:
    panel.set_ylabel("f(0) (nats)")
    notes = _over_updates(panel, runs, [loss_curve(run) for run in runs], looks)
    panel.set_yscale("log")
    return notes


def _draw_gains(runs: Sequence[Run], looks: Looks, panel: Axes) -> Sequence[str]:
    panel.set_ylabel("gain / optimum's gain")
    curves = [gain_curve(run) for run in runs]
    _over_updates(panel, runs, curves, looks)
    panel.axhline(0.0, color="#BBBBBB", linewidth=0.7, zorder=0)
    panel.axhline(1.0, **style.look("optimum", linewidth=0.9, zorder=0))
    values = np.concatenate([curve.values for curve in curves])
    limits = style.readable_limits(values, keep=[0.0, 1.0], stretch=3.0)
    if limits:
        panel.set_ylim(*limits)
    every = sorted({note for run in runs for note in series.sum_note(run.settings)})
    return [*every, *style.outside_note(values, limits)]


def _over_updates(panel: Axes, runs: Sequence[Run], curves: Sequence[Curve], looks: Looks) -> list[str]:
    comparing.along_updates(panel, runs)
    comparing.legend_of(panel, runs, looks)
    return comparing.draw_settings(panel, runs, curves, looks, missing="no line was measured")


def _draw_medians(runs: Sequence[Run], looks: Looks, panel: Axes) -> Sequence[str]:
    panel.set_xlabel("the run's learning rate")
    panel.set_ylabel("median of s_opt / ‖m‖")
    found = [middle_median(run) for run in runs]
    usable = [(run, *pair) for run, pair in zip(runs, found, strict=True) if min(pair) > 0]
    if not usable:
        raise NoDataError("no run has a positive median")
    for label in dict.fromkeys(run.label for run, _, _ in usable):
        rates, medians = np.array([pair for run, *pair in usable if run.label == label]).T
        rate, color = float(np.median(rates)), looks[label]["color"]
        panel.vlines(rate, medians.min(), medians.max(), color=color, linewidth=1.4, alpha=0.6)
        panel.plot(rate, float(np.median(medians)), "o", color=color, markersize=5.0)
    every = np.array([pair for _, *pair in usable])
    ends = every[:, 0].min() / 1.5, every[:, 0].max() * 1.5
    panel.plot(ends, ends, color="#555555", linestyle=(0, (1, 1.5)), linewidth=1.0, zorder=0)
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.set_xlim(*ends)
    rates = sorted({float(f"{rate:.3g}") for _, rate, _ in usable})
    panel.set_xticks(rates, [f"{rate:g}" for rate in rates])
    panel.set_xticks([], minor=True)
    style.plain_log(panel)
    left_out = len(runs) - len(usable)
    return ["middle half of the lines", *([f"{style.counted(left_out, 'run')} without one"] if left_out else [])]
