"""What averages of a run's iterates gain, beside what the quadratic model says from the network's own spectrum."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from sgdline.figures.base import Sheet
from sgdline.figures.grammar import series, style
from sgdline.tables import provenance

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


FloatArray = npt.NDArray[np.float64]
Key = tuple[str, float, int | None]  # average, parameter, spacing

_NOTE_WIDTH = 84
_KINDS = ("ema", "swa", "two_point")
_NAMES = {"ema": "EMA", "swa": "SWA", "two_point": "two points"}
_LINEAR = 1e-2  # of the largest gain: below it the axes of gains are linear
_COLORS = {"ema": "#0072B2", "swa": "#D55E00", "two_point": "#1B9E77"}
_MARKERS = {"ema": "o", "swa": "s", "two_point": "^"}
_MEASURED: dict[str, Any] = {"color": "#000000", "marker": "o", "linestyle": ""}
_STATIONARY: dict[str, Any] = {"color": "#D55E00", "marker": "s", "linestyle": "", "markerfacecolor": "none"}
_EPOCHWISE: dict[str, Any] = {"color": "#0072B2", "marker": "v", "linestyle": "", "markerfacecolor": "none"}


@dataclass(frozen=True, kw_only=True)
class PredictedGains(Sheet):
    """Gains of averages of iterates: measured, and predicted from the network's spectrum."""

    reads: ClassVar[tuple[str, ...]] = ("predicted_gains", "spectrum", "trace")

    def draw(self, tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any]) -> Figure:
        """Draw gains per average, predicted against measured, along the run, and what each direction contributes.

        Args:
            tables: `predicted_gains`, `spectrum` and `trace` of one run.
            settings: As in `sgdline.figures.plot_figure`.

        Source: ours; model: papers.md 3.2, F2 to F5, F10, F11; measured: 3.3, C-M6.
        """
        figure = style.new_figure(
            self.heading(), footer=_footer(tables, settings), width=11.0, height=8.6, legend_entries=12
        )
        panels = figure.subplots(2, 2).ravel().tolist()
        gains = _Gains(tables["predicted_gains"])
        _draw_averages(panels[0], gains, tables, run_steps=settings["steps"])
        _draw_agreement(panels[1], gains, tables, run_steps=settings["steps"])
        _draw_along_run(panels[2], gains, tables, run_steps=settings["steps"])
        if panels[2].lines:
            series.mark_run(panels[2], tables, run_steps=settings["steps"])
        _draw_directions(panels[3], tables)
        style.shared_legend(figure, panels)
        return figure


class _Gains:
    """The table as arrays; NaN where there is no value."""

    def __init__(self, table: pa.Table) -> None:
        self.steps = style.numbers(table, "step")
        self.measured = style.numbers(table, "measured_gain")
        self.stationary = style.numbers(table, "stationary_gain")
        self.epochwise = style.numbers(table, "epochwise_gain")
        names, spacings = table["average"].to_pylist(), table["spacing"].to_pylist()
        parameters = table["parameter"].to_pylist()
        self.keys: list[Key] = list(zip(names, parameters, spacings, strict=True))

    def distinct(self) -> list[Key]:
        """Return the averages: EMA, SWA and two points, each by its parameter."""
        return sorted(set(self.keys), key=lambda key: (_KINDS.index(key[0]), key[1], key[2] or 0))

    def rows_of(self, key: Key) -> npt.NDArray[np.bool_]:
        """Return which rows are of an average."""
        return np.array([own == key for own in self.keys], dtype=bool)

    def every(self, rows: npt.NDArray[np.bool_] | slice = slice(None)) -> FloatArray:
        """Return every gain of some rows, measured or predicted."""
        return np.concatenate([self.measured[rows], self.stationary[rows], self.epochwise[rows]])


def _label(key: Key) -> str:
    name, parameter, spacing = key
    if name == "ema":
        return f"EMA {parameter:g}"
    if name == "swa":
        return f"SWA {parameter:g}" + (f", every {spacing}" if spacing not in (None, 1) else "")
    return f"two, {parameter:g} apart"


def _footer(tables: Mapping[str, pa.Table], settings: Mapping[str, Any]) -> list[str]:
    facts = provenance(tables["predicted_gains"])

    def over(key: str) -> str:
        samples = facts.get(f"{key}_samples")
        count = f"N = {samples:,} samples" if isinstance(samples, int) else "N not recorded"
        return f"{count}, {_mode(facts.get(f'{key}_batch_norm'))}"

    scales = style.numbers(tables["predicted_gains"], "smallest_scale")
    scales = scales[np.isfinite(scales)]
    lines = [
        style.describe_run(tables, settings)[0],
        f"gain: training loss of θ at t less that of the average, over {over('averages')}  ·  spectrum: Hessian over "
        f"{over('spectrum')}",
    ]
    if scales.size:
        lines.append(
            f"a·N/B of the flattest measured direction: {scales.min():.3g} to {scales.max():.3g}. Where it is not far "
            "above 1, sampling without replacement changes the variance: the stationary formulas overstate the gain"
        )
    lost = style.divergence_step(tables)
    return [*lines, f"THE RUN DIVERGED AT UPDATE {lost}"] if lost is not None else lines


def _mode(mode: str | None) -> str:
    if mode == "none":
        return "no BatchNorm"
    return f"BatchNorm in {mode or 'not recorded'} mode"


def _late(gains: _Gains, *, run_steps: int) -> npt.NDArray[np.bool_]:
    return gains.steps >= run_steps / 2


def _symmetric_log(panel: Axes, gains: FloatArray, *, axes: str) -> None:
    """Make axes of gains logarithmic on both sides of 0, linear around it.

    Args:
        panel: Where to.
        gains: All that is drawn there.
        axes: "x", "y" or both.
    """
    finite = gains[np.isfinite(gains)]
    largest = max(float(np.abs(finite).max(initial=0.0)), 1e-12)
    # A power of ten: its label, the first one beside 0, then keeps its distance from it.
    threshold = 10.0 ** np.ceil(np.log10(_LINEAR * largest) - 1e-9)
    for axis in axes:
        set_scale = panel.set_xscale if axis == "x" else panel.set_yscale
        set_scale("symlog", linthresh=threshold, linscale=1.0)


def _draw_averages(panel: Axes, gains: _Gains, tables: Mapping[str, pa.Table], *, run_steps: int) -> None:
    title = "gain of each average, second half of the run"
    panel.set_ylabel("gain in training loss (nats)")
    late = _late(gains, run_steps=run_steps)
    keys = [key for key in gains.distinct() if np.isfinite(gains.measured[late & gains.rows_of(key)]).any()]
    if not keys:
        style.title(panel, title)
        style.say(panel, style.absence("no average was evaluated in the second half of the run", tables))
        return
    panel.axhline(0.0, color="#999999", linewidth=0.6)
    counts = set()
    for place, key in enumerate(keys):
        rows = late & gains.rows_of(key) & np.isfinite(gains.measured)
        own = gains.measured[rows]
        counts.add(len(own))
        label = "measured: mean and range" if place == 0 else None
        spread = [[own.mean() - own.min()], [own.max() - own.mean()]]
        panel.errorbar([place - 0.15], [own.mean()], yerr=spread, **_MEASURED, markersize=5.0, capsize=3, label=label)
        for values, look, name, shift in _predictions(gains):
            predicted = values[rows]
            predicted = predicted[np.isfinite(predicted)]
            if predicted.size:
                label = name if place == 0 else None
                panel.plot([place + shift], [predicted.mean()], **look, markersize=6.5, label=label)
    _symmetric_log(panel, gains.every(late), axes="y")
    panel.set_xlim(-0.6, len(keys) - 0.4)
    panel.set_xticks(range(len(keys)), [_label(key) for key in keys], rotation=35, ha="right", rotation_mode="anchor")
    notes = [f"means over {'/'.join(str(count) for count in sorted(counts))} evaluations"]
    style.title(panel, title, notes, width=_NOTE_WIDTH)


def _predictions(gains: _Gains) -> list[tuple[FloatArray, dict[str, Any], str, float]]:
    return [
        (gains.stationary, _STATIONARY, "model: stationary, batches with replacement", 0.05),
        (gains.epochwise, _EPOCHWISE, "model: from the start, each sample once an epoch", 0.25),
    ]


def _draw_agreement(panel: Axes, gains: _Gains, tables: Mapping[str, pa.Table], *, run_steps: int) -> None:
    title = "predicted against measured"
    panel.set_xlabel("predicted gain (nats)")
    panel.set_ylabel("measured gain (nats)")
    late = _late(gains, run_steps=run_steps)
    drawn = False
    for kind in _KINDS:
        rows = late & np.array([key[0] == kind for key in gains.keys], dtype=bool)
        look: dict[str, Any] = {"color": _COLORS[kind], "marker": _MARKERS[kind], "linestyle": "", "markersize": 5.0}
        for values, filled in ((gains.epochwise, True), (gains.stationary, False)):
            known = rows & np.isfinite(values) & np.isfinite(gains.measured)
            if known.any():
                drawn = True
                face = _COLORS[kind] if filled else "none"
                label = f"{_NAMES[kind]}: each evaluation" if filled else None
                panel.plot(values[known], gains.measured[known], **look, markerfacecolor=face, label=label, alpha=0.85)
    if not drawn:
        style.title(panel, title)
        style.say(panel, style.absence("nothing was both predicted and measured", tables))
        return
    shown = np.concatenate([values[late] for values in (gains.stationary, gains.epochwise)])
    shown = shown[np.isfinite(shown)]
    panel.axhline(0.0, color="#999999", linewidth=0.5)
    if shown.min() > 0:
        _symmetric_log(panel, gains.every(late), axes="y")
        panel.set_xscale("log")
        ends = (0.7 * float(shown.min()), 1.4 * float(shown.max()))
        line = np.geomspace(*ends, 100)
        panel.set_xlim(*ends)
    else:
        _symmetric_log(panel, gains.every(late), axes="xy")
        halves = [np.geomspace(1e-9, 1.0, 60) * abs(end) for end in (shown.min(), shown.max())]
        line = np.concatenate([-halves[0][::-1], halves[1]])
    panel.plot(line, line, color="#333333", linewidth=0.9, label="predicted = measured")
    notes = ["second half of the run", "filled: each sample once an epoch, hollow: with replacement"]
    style.title(panel, title, notes, width=_NOTE_WIDTH)


def _draw_along_run(panel: Axes, gains: _Gains, tables: Mapping[str, pa.Table], *, run_steps: int) -> None:
    title = "along the run: of each kind the average that gained most"
    panel.set_ylabel("gain in training loss (nats)")
    drawn, late = False, _late(gains, run_steps=run_steps)
    for kind in _KINDS:
        keys = [key for key in gains.distinct() if key[0] == kind]
        best = max(keys, key=lambda key: _mean(gains.measured[late & gains.rows_of(key)]), default=None)
        if best is None or not np.isfinite(gains.measured[gains.rows_of(best)]).any():
            continue
        drawn = True
        rows = gains.rows_of(best)
        color = _COLORS[kind]
        plotted: dict[str, Any] = {"color": color, "marker": _MARKERS[kind], "markersize": 4.0, "linewidth": 1.7}
        panel.plot(gains.steps[rows], gains.measured[rows], **plotted, label=f"{_label(best)}: measured")
        panel.plot(gains.steps[rows], gains.epochwise[rows], color=color, linewidth=1.2, linestyle="--")
        panel.plot(gains.steps[rows], gains.stationary[rows], color=color, linewidth=1.2, linestyle=":")
    if not drawn:
        style.title(panel, title)
        style.say(panel, style.absence("no average was evaluated", tables))
        return
    panel.axhline(0.0, color="#999999", linewidth=0.6)
    _symmetric_log(panel, gains.every(late) if late.any() else gains.every(), axes="y")
    notes = ["solid: measured", "model dashed: each sample once an epoch, dotted: with replacement"]
    style.title(panel, title, notes, width=_NOTE_WIDTH)


def _mean(values: FloatArray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else -np.inf


def _draw_directions(panel: Axes, tables: Mapping[str, pa.Table]) -> None:
    from sgdline.analysis.predicted_gains import directions_of, iterate_variance

    title = "what each direction contributes to the iterate's loss (model)"
    panel.set_xlabel("lr · eigenvalue")
    panel.set_ylabel(r"$\frac{1}{2}\lambda_i V_i$ (nats)")
    table = tables["spectrum"].sort_by("step")
    found = [directions for directions in directions_of(table) if len(directions.eigenvalues)]
    if not found:
        style.title(panel, title)
        style.say(panel, style.absence("no spectrum was measured", tables))
        return
    notes = []
    chosen = [found[0], found[-1]] if len(found) > 1 else found
    looks: list[dict[str, Any]] = [{"color": "#999999", "marker": "o"}, {"color": "#6A3D9A", "marker": "D"}]
    shares = dict(zip(table["step"].to_pylist(), table["explained_share"].to_pylist(), strict=True))
    for directions, look in zip(chosen, looks[-len(chosen) :], strict=True):
        parts = 0.5 * directions.eigenvalues * iterate_variance(directions)
        label = f"spectrum of update {directions.step:,}"
        panel.plot(directions.relative_lr, parts, **look, linestyle="", markersize=5.0, label=label)
        share = shares.get(directions.step)
        known = "" if share is None else f", {100 * share:.0f} % of the gradient noise"
        left = f", {directions.left_out} left out" if directions.left_out else ""
        notes.append(f"update {directions.step:,}: sum {parts.sum():.3g} nats{known}{left}")
    panel.axvline(2.0, **style.look("executed_step"))
    panel.set_xscale("log")
    panel.set_yscale("log")
    style.title(panel, title, notes, width=_NOTE_WIDTH)
