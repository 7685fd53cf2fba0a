"""One run through a phase of large steps: how high above the valley it goes, how sharp the valley, how sparse."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sgdline.figures import _deep
from sgdline.figures.base import PanelSheet
from sgdline.figures.grammar import comparing, series, style
from sgdline.figures.grammar.sheet import NoDataError, Panel, draw_sheet
from sgdline.tables import provenance

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_WINDOW_SHARE = 50  # of the measured intervals: one of so many in a moving average
_HEIGHT: dict[str, Any] = {"color": "#8856A7", "linestyle": "-"}
_LOSS: dict[str, Any] = {"color": "#000000", "linestyle": "-"}
_NORM: dict[str, Any] = {"color": "#B2182B", "linestyle": "-", "linewidth": 1.4, "marker": "o", "markersize": 3.5}
_RANK: dict[str, Any] = {"color": "#009E73", "linestyle": "-", "linewidth": 1.4, "marker": "o", "markersize": 3.5}
_EDGE: dict[str, Any] = {"color": "#777777", "linestyle": (0, (5, 1.5)), "linewidth": 1.4}
_PHASE: dict[str, Any] = {"color": "#F0E6D2", "zorder": -1, "linewidth": 0.0}


@dataclass(frozen=True, kw_only=True)
class LargeSteps(PanelSheet):
    """Height above the valley floor, sharpness and sparsity along a run with large steps.

    One run with a phase of large steps (shaded): full-batch loss and height above the valley floor between consecutive
    iterates, both as moving averages; spectral norm of the Hessian, with the curvature 2/lr, or 2 (1 + momentum)/lr,
    beyond which steps overshoot and grow; and the sparsity coefficient of every layer, the share of active entries,
    duplicates of a unit counted as zero. Where the Jacobian was measured, a last panel counts the directions of
    parameter space that its outputs still depend on.
    """

    reads: ClassVar[tuple[str, ...]] = ("intervals", "hvp", "feat", "trace")
    also: ClassVar[tuple[str, ...]] = ("jac",)
    panels: ClassVar[tuple[str, ...]] = ("heights", "sharpness", "sparsity", "rank")

    def draw(self, tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any]) -> Figure:
        """Draw loss and height above the valley floor, spectral norm and feature sparsity against the epoch.

        Source: our own addition to papers.md 4.4; heights are W-M6, spectral norms W-M7, sparsities S-M6, ranks S-M4.
        """
        run = comparing.Run(tables, settings, "")
        shown = {
            "heights": ("training loss, and its height above the valley floor between iterates", _draw_heights),
            "sharpness": ("spectral norm of the Hessian, and the curvature at which steps overshoot", _draw_sharpness),
            "sparsity": ("sparsity coefficient of each layer", _draw_sparsity),
            **({"rank": ("rank of the Jacobian of the outputs", _draw_rank)} if "jac" in tables else {}),
        }
        panels = [Panel(name, title, partial(_draw, draw, run)) for name, (title, draw) in shown.items()]
        return draw_sheet(self, panels, footer=_footer(run), share_x=True)


def _footer(run: comparing.Run) -> list[str]:
    intervals, hvp = (provenance(run.tables[kind]) for kind in ("intervals", "hvp"))
    samples = intervals.get("samples")
    count = f"N = {samples:,} samples" if isinstance(samples, int) else "N not recorded"
    measured = [
        f"full-batch loss over {count}, BatchNorm in {intervals.get('batch_norm', 'not recorded')} mode",
        f"Hessian over N = {hvp.get('samples', 'not recorded')}, BatchNorm in {hvp.get('batch_norm', 'not recorded')} "
        "mode",
    ]
    return style.run_facts(run.tables, run.settings, measured=[_deep.setting_label(run.settings), *measured])


def _draw(draw: Callable[[comparing.Run, Axes], Sequence[str]], run: comparing.Run, panel: Axes) -> Sequence[str]:
    """Draw a panel, and what all of them have: the phase of large steps, the divergence, the x axis."""
    notes = draw(run, panel)
    trace = run.tables["trace"]
    # Features are measured after the last update as well.
    end = max((float(style.numbers(table, "epoch").max(initial=0.0)) for table in run.tables.values()), default=0.0)
    end = max(end, 1e-9)
    decay = _deep.decay_epoch(run)
    if decay is not None:
        panel.axvspan(0.0, decay, **_PHASE, label="phase of large steps")
    if run.lost_at is not None:
        place = float(style.numbers(trace, "epoch")[style.numbers(trace, "step") == run.lost_at][0])
        panel.axvline(place, color="#B2182B", linestyle=":", linewidth=1.2, label="run diverged")
    panel.set_xlim(-0.02 * end, 1.02 * end)
    panel.set_xlabel("epoch")
    return notes


def _draw_heights(run: comparing.Run, panel: Axes) -> Sequence[str]:
    table = run.tables["intervals"].sort_by("step")
    epochs, heights = style.numbers(table, "epoch"), style.numbers(table, "height")
    if not np.isfinite(heights).any():
        raise NoDataError("no interval was measured", run.tables)
    window = max(len(epochs) // _WINDOW_SHARE, 1)
    notes = [f"moving average of {style.counted(window, 'interval')}" if window > 1 else "not smoothed"]
    for column, name, look in (("start_loss", "full-batch loss", _LOSS), ("height", "height, W-M6", _HEIGHT)):
        places, means = series.moving_average(epochs, style.numbers(table, column), window=window)
        panel.plot(places, np.where(means > 0, means, np.nan), **look, linewidth=1.4, label=name)
        missing = int((means <= 0).sum())
        if missing:
            notes.append(f"{style.counted(missing, 'average')} of the {name.split(',')[0]} not positive, not drawn")
    barriers = sum(bool(found) for found in table["barrier"].to_pylist())
    style.plain_log(panel)
    panel.set_ylabel("loss, height (nats)")
    return [*notes, f"{style.counted(barriers, 'barrier')} in {len(epochs):,} intervals"]


def _draw_sharpness(run: comparing.Run, panel: Axes) -> Sequence[str]:
    table = run.tables["hvp"].sort_by("step")
    norms = style.numbers(table, "spectral_norm")
    if not np.isfinite(norms).any():
        raise NoDataError("no eigenvalue was measured", run.tables)
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
    style.plain_log(panel)
    panel.set_ylabel("eigenvalue (nats / length²)")
    return [f"{style.counted(missing, 'value')} not converged"] if missing else []


def _draw_sparsity(run: comparing.Run, panel: Axes) -> Sequence[str]:
    layers = _deep.layers_of([run])
    curves = [_deep.sparsity(run, layer) for layer in layers]
    if not any(np.isfinite(curve.values).any() for curve in curves):
        raise NoDataError("no features were measured", run.tables)
    for place, (layer, curve) in enumerate(zip(layers, curves, strict=True)):
        marker = "o" if np.isfinite(curve.values).sum() < 20 else None
        look = comparing.look(place) | {"linewidth": 1.5, "marker": marker, "markersize": 3.0}
        panel.plot(curve.places, curve.values, **look, label=f"layer {layer}")
    top = max(float(np.nanmax(curve.values)) for curve in curves if np.isfinite(curve.values).any())
    panel.set_ylim(0.0, 1.05 * top if math.isfinite(top) and top > 0 else 1.0)
    panel.set_ylabel("sparsity coefficient (%)")
    return _deep.feature_notes([run])


def _draw_rank(run: comparing.Run, panel: Axes) -> Sequence[str]:
    table = run.tables["jac"].sort_by("step")
    ranks = style.numbers(table, "rank")
    if not np.isfinite(ranks).any():
        raise NoDataError("no Jacobian was measured", run.tables)
    panel.plot(style.numbers(table, "epoch"), ranks, **_RANK, label="rank of the Jacobian")
    samples = max(table["samples"].to_pylist())
    tolerance = provenance(table).get("tolerance", "not recorded")
    panel.set_ylim(0.0, 1.05 * samples)
    panel.set_ylabel("rank")
    return [f"of {samples:,} gradients, singular values above {tolerance} of the largest"]
