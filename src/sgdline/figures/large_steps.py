"""One run through a phase of large steps: how high above the valley it goes, how sharp the valley, how sparse."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sgdline.figures import _deep
from sgdline.figures.base import Sheet
from sgdline.figures.grammar import comparing, series, style
from sgdline.tables import provenance

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_NOTE_WIDTH = 110
_WINDOW_SHARE = 50  # of the measured intervals: one of so many in a moving average
_HEIGHT: dict[str, Any] = {"color": "#0072B2", "linestyle": "-"}
_LOSS: dict[str, Any] = {"color": "#000000", "linestyle": "-"}
_NORM: dict[str, Any] = {"color": "#B2182B", "linestyle": "-", "linewidth": 1.6, "marker": "o", "markersize": 4.5}
_RANK: dict[str, Any] = {"color": "#009E73", "linestyle": "-", "linewidth": 1.6, "marker": "o", "markersize": 4.5}
_EDGE: dict[str, Any] = {"color": "#777777", "linestyle": (0, (5, 1.5)), "linewidth": 1.4}
_PHASE: dict[str, Any] = {"color": "#F0E6D2", "zorder": -1, "linewidth": 0.0}


@dataclass(frozen=True, kw_only=True)
class LargeSteps(Sheet):
    """Height above the valley floor, sharpness and sparsity along a run with large steps."""

    reads: ClassVar[tuple[str, ...]] = ("intervals", "hvp", "feat", "trace")
    also: ClassVar[tuple[str, ...]] = ("jac",)

    def draw(self, tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any]) -> Figure:
        """Draw loss and height above the valley floor, spectral norm and feature sparsity against the epoch.

        Args:
            tables: `intervals`, `hvp`, `feat` and `trace` of one run, and `jac` if it measures it: one more panel.
            settings: As in `sgdline.figures.plot_figure`.

        Source: our own addition to papers.md 4.4; heights are W-M6, spectral norms W-M7, sparsities S-M6, ranks S-M4.
        """
        run = comparing.Run(tables, settings, "", style.divergence_step(tables))
        layers = _deep.layers_of([run])
        rows = 4 if "jac" in tables else 3
        footer, entries = _footer(run), 4 + rows + len(layers)
        figure = style.new_figure(
            self.heading(), footer=footer, width=8.8, height=1.5 + 2.7 * rows, legend_entries=entries
        )
        panels = figure.subplots(rows, 1, sharex=True).tolist()
        _draw_heights(panels[0], run)
        _draw_sharpness(panels[1], run)
        _draw_sparsity(panels[2], run, layers)
        if "jac" in tables:
            _draw_rank(panels[3], run)
        epochs = style.numbers(tables["trace"], "epoch")
        # Features are measured behind the last update as well.
        end = max((float(style.numbers(table, "epoch").max(initial=0.0)) for table in tables.values()), default=0.0)
        end = max(end, 1e-9)
        decay = _deep.decay_epoch(run)
        for panel in panels:
            if decay is not None:
                panel.axvspan(0.0, decay, **_PHASE, label="phase of large steps")
            if run.lost_at is not None:
                place = float(epochs[style.numbers(tables["trace"], "step") == run.lost_at][0])
                panel.axvline(place, color="#B2182B", linestyle=":", linewidth=1.2, label="run diverged")
            panel.set_xlim(-0.02 * end, 1.02 * end)
        panels[-1].set_xlabel("epoch")
        style.shared_legend(figure, panels)
        return figure


def _footer(run: comparing.Run) -> list[str]:
    intervals, hvp = (provenance(run.tables[kind]) for kind in ("intervals", "hvp"))
    samples = intervals.get("samples")
    count = f"N = {samples:,} samples" if isinstance(samples, int) else "N not recorded"
    first = [style.describe_run(run.tables, run.settings)[0], _deep.setting_label(run.settings)]
    measured = [
        f"full-batch loss over {count}, BatchNorm in {intervals.get('batch_norm', 'not recorded')} mode",
        f"Hessian over N = {hvp.get('samples', 'not recorded')}, BatchNorm in {hvp.get('batch_norm', 'not recorded')} "
        "mode",
    ]
    lines = ["  ·  ".join(first), "  ·  ".join(measured), *_deep.feature_notes([run])]
    return [*lines, f"THE RUN DIVERGED AT UPDATE {run.lost_at}"] if run.lost_at is not None else lines


def _draw_heights(panel: Axes, run: comparing.Run) -> None:
    title = "training loss, and its height above the valley floor between iterates"
    panel.set_ylabel("loss, height (nats)")
    table = run.tables["intervals"].sort_by("step")
    epochs, heights = style.numbers(table, "epoch"), style.numbers(table, "height")
    if not np.isfinite(heights).any():
        style.title(panel, title)
        style.say(panel, style.absence("no interval was measured", run.tables))
        return
    window = max(len(epochs) // _WINDOW_SHARE, 1)
    notes = [f"moving average of {style.counted(window, 'interval')}" if window > 1 else "not smoothed"]
    for column, name, look in (("start_loss", "full-batch loss", _LOSS), ("height", "height, W-M6", _HEIGHT)):
        values = style.numbers(table, column)
        places, means = series.moving_average(epochs, values, window=window)
        panel.plot(places, np.where(means > 0, means, np.nan), **look, linewidth=1.6, label=name)
        missing = int((means <= 0).sum())
        if missing:
            notes.append(f"{style.counted(missing, 'average')} of the {name.split(',')[0]} not positive, not drawn")
    barriers = sum(bool(found) for found in table["barrier"].to_pylist())
    notes.append(f"{style.counted(barriers, 'barrier')} in {len(epochs):,} intervals")
    style.plain_log(panel)
    style.title(panel, title, notes, width=_NOTE_WIDTH)


def _draw_sharpness(panel: Axes, run: comparing.Run) -> None:
    title = "spectral norm of the Hessian, and the curvature at which steps overshoot"
    panel.set_ylabel("eigenvalue (nats / length²)")
    table = run.tables["hvp"].sort_by("step")
    norms = style.numbers(table, "spectral_norm")
    if not np.isfinite(norms).any():
        style.title(panel, title)
        style.say(panel, style.absence("no eigenvalue was measured", run.tables))
        return
    panel.plot(style.numbers(table, "epoch"), np.where(norms > 0, norms, np.nan), **_NORM, label="spectral norm")
    trace = comparing.moves(run)
    rates = style.numbers(trace, "lr")
    theory = run.settings["theory"]
    if theory is not None:
        momentum = float(theory["momentum"])
        edge = 2.0 * (1.0 + momentum) / np.where(rates > 0, rates, np.nan)
        name = "2/lr" if momentum == 0.0 else "2 (1 + momentum)/lr"
        panel.plot(style.numbers(trace, "epoch"), edge, **_EDGE, label=f"{name}: beyond it steps overshoot and grow")
    missing = sum(not done for done in table["converged"].to_pylist())
    notes = [f"{style.counted(missing, 'value')} not converged"] if missing else []
    style.plain_log(panel)
    style.title(panel, title, notes, width=_NOTE_WIDTH)


def _draw_sparsity(panel: Axes, run: comparing.Run, layers: list[str]) -> None:
    title = "sparsity coefficient of each layer"
    panel.set_ylabel("sparsity coefficient (%)")
    style.title(panel, title)
    curves = [_deep.sparsity(run, layer) for layer in layers]
    if not any(np.isfinite(curve.values).any() for curve in curves):
        style.say(panel, style.absence("no features were measured", run.tables))
        return
    for place, (layer, curve) in enumerate(zip(layers, curves, strict=True)):
        marker = "o" if np.isfinite(curve.values).sum() < 20 else None
        panel.plot(
            curve.places, curve.values, **comparing.look(place), marker=marker, markersize=3.5, label=f"layer {layer}"
        )
    top = max(float(np.nanmax(curve.values)) for curve in curves if np.isfinite(curve.values).any())
    panel.set_ylim(0.0, 1.05 * top if math.isfinite(top) and top > 0 else 1.0)


def _draw_rank(panel: Axes, run: comparing.Run) -> None:
    title = "rank of the Jacobian of the outputs"
    panel.set_ylabel("rank")
    table = run.tables["jac"].sort_by("step")
    ranks = style.numbers(table, "rank")
    if not np.isfinite(ranks).any():
        style.title(panel, title)
        style.say(panel, style.absence("no Jacobian was measured", run.tables))
        return
    panel.plot(style.numbers(table, "epoch"), ranks, **_RANK, label="rank of the Jacobian")
    samples = max(table["samples"].to_pylist())
    tolerance = provenance(table).get("tolerance", "not recorded")
    panel.set_ylim(0.0, 1.05 * samples)
    style.title(
        panel, title, [f"of {samples:,} gradients, singular values above {tolerance} of the largest"], width=_NOTE_WIDTH
    )
