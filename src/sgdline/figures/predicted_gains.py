"""What averages of a run's iterates gain, beside what the quadratic model says from the network's own spectrum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from sgdline.figures.base import PanelSheet
from sgdline.figures.grammar import series, style
from sgdline.figures.grammar.sheet import NoDataError, Panel, draw_sheet
from sgdline.figures.grammar.style import FloatArray
from sgdline.tables import provenance

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


Tables = Mapping[str, "pa.Table"]
Key = tuple[str, float, int | None]  # average, parameter, spacing

_KINDS = {  # name, colour and marker
    "ema": ("EMA", "#0072B2", "o"),
    "swa": ("SWA", "#D55E00", "s"),
    "two_point": ("two points", "#1B9E77", "^"),
}
_LINEAR = 1e-2  # of the largest gain: below it the axes of gains are linear
_MEASURED: dict[str, Any] = {"color": "#000000", "marker": "o", "linestyle": ""}
_STATIONARY: dict[str, Any] = {"color": "#D55E00", "marker": "s", "linestyle": "", "markerfacecolor": "none"}
_EPOCHWISE: dict[str, Any] = {"color": "#0072B2", "marker": "v", "linestyle": "", "markerfacecolor": "none"}


@dataclass(frozen=True, kw_only=True)
class PredictedGains(PanelSheet):
    """Gains of averages of iterates: measured, and predicted from the network's spectrum.

    What averages of a run's iterates gain in training loss over the iterate itself, beside what the quadratic model
    says from the network's own spectrum. Along each of the leading eigenvectors of the full-batch Hessian, of
    eigenvalue λ, the gradients of mini-batches have a variance, and their minima the variance sigma² = Var/λ². The
    iterates then spread by V = sigma²a/(2 - a), a = lr·λ, an average by less, and the gain is ½ Σ λ (V - Var of the
    average). There are two predictions: stationary formulas for batches drawn with replacement, and the same model from
    the run's start with each sample once an epoch. Where a·N/B of the flattest measured direction, in the footer, is
    not far above 1, sampling without replacement changes the variance, and the stationary formulas overstate the gain.
    Nothing is fitted. (a) Mean gain of each EMA, SWA (mean of the last iterates) and two-point average in the second
    half of the run, with the range over the evaluations. (b) Each of those evaluations, predicted against measured;
    filled: each sample once an epoch, hollow: with replacement. (c) Along the run, of each kind the average that gained
    most: solid measured, dashed the model with each sample once an epoch, dotted with replacement. (d) What each
    direction contributes to the iterate's loss above its minimum, all of which an average can gain at best; the notes
    say how much of the gradient noise the measured directions hold.
    """

    reads: ClassVar[tuple[str, ...]] = ("predicted_gains", "spectrum", "trace")
    panels: ClassVar[tuple[str, ...]] = ("averages", "agreement", "run", "directions")

    def draw(self, tables: Tables, *, settings: Mapping[str, Any]) -> Figure:
        """Draw gains per average, predicted against measured, along the run, and what each direction contributes.

        Source: ours; model: papers.md 3.2, F2 to F5, F10, F11; measured: 3.3, C-M6.
        """
        gains, steps = _Gains(tables["predicted_gains"]), settings["steps"]
        late = gains.steps >= steps / 2
        panels = [
            Panel(name, title, partial(draw, tables), height=2.4)
            for name, title, draw in (
                ("averages", "each average, second half of the run", partial(_draw_averages, gains, late)),
                ("agreement", "predicted against measured", partial(_draw_agreement, gains, late)),
                ("run", "along the run", partial(_draw_along_run, gains, late, steps)),
                ("directions", "contribution of each direction (model)", _draw_directions),
            )
        ]
        return draw_sheet(self, panels, footer=_footer(tables, settings), columns=2)


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
        return sorted(set(self.keys), key=lambda key: (list(_KINDS).index(key[0]), key[1], key[2] or 0))

    def rows_of(self, key: Key) -> npt.NDArray[np.bool_]:
        """Return which rows are of an average."""
        return np.array([own == key for own in self.keys], dtype=bool)

    def every(self, rows: npt.NDArray[np.bool_] | slice = slice(None)) -> FloatArray:
        """Return every gain of some rows, measured or predicted."""
        return np.concatenate([self.measured[rows], self.stationary[rows], self.epochwise[rows]])


def _footer(tables: Tables, settings: Mapping[str, Any]) -> list[str]:
    facts = provenance(tables["predicted_gains"])

    def over(key: str) -> str:
        samples, mode = facts.get(f"{key}_samples"), facts.get(f"{key}_batch_norm", "not recorded")
        count = f"N = {samples:,}" if isinstance(samples, int) else "N not recorded"
        return f"{count}, {'no BatchNorm' if mode == 'none' else f'BatchNorm in {mode} mode'}"

    scales = style.numbers(tables["predicted_gains"], "smallest_scale")
    scales = scales[np.isfinite(scales)]
    flattest = [f"flattest a·N/B: {scales.min():.3g} to {scales.max():.3g}"] if scales.size else []
    measured = [f"losses over {over('averages')}", f"Hessian over {over('spectrum')}", *flattest]
    return style.run_facts(tables, settings, measured=measured)


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


def _draw_averages(gains: _Gains, late: npt.NDArray[np.bool_], tables: Tables, panel: Axes) -> Sequence[str]:
    panel.set_ylabel("gain in training loss (nats)")
    keys = [key for key in gains.distinct() if np.isfinite(gains.measured[late & gains.rows_of(key)]).any()]
    if not keys:
        raise NoDataError("no average was evaluated in the second half of the run", tables)
    panel.axhline(0.0, color="#999999", linewidth=0.6)
    counts = set()
    for place, key in enumerate(keys):
        rows = late & gains.rows_of(key) & np.isfinite(gains.measured)
        own = gains.measured[rows]
        counts.add(len(own))
        spread = [[own.mean() - own.min()], [own.max() - own.mean()]]
        label = "measured: mean and range" if place == 0 else None
        panel.errorbar([place - 0.15], [own.mean()], yerr=spread, **_MEASURED, markersize=4.0, capsize=3, label=label)
        for values, look, name, shift in (
            (gains.stationary, _STATIONARY, "model: stationary, batches with replacement", 0.05),
            (gains.epochwise, _EPOCHWISE, "model: from the start, each sample once an epoch", 0.25),
        ):
            predicted = values[rows]
            predicted = predicted[np.isfinite(predicted)]
            if predicted.size:
                label = name if place == 0 else None
                panel.plot([place + shift], [predicted.mean()], **look, markersize=5.0, label=label)
    _symmetric_log(panel, gains.every(late), axes="y")
    panel.set_xlim(-0.6, len(keys) - 0.4)
    panel.set_xticks(
        range(len(keys)), [series.average_text(*key) for key in keys], rotation=35, ha="right", rotation_mode="anchor"
    )
    return [f"means over {'/'.join(str(count) for count in sorted(counts))} evaluations"]


def _draw_agreement(gains: _Gains, late: npt.NDArray[np.bool_], tables: Tables, panel: Axes) -> Sequence[str]:
    panel.set_xlabel("predicted gain (nats)")
    panel.set_ylabel("measured gain (nats)")
    drawn = False
    for kind, (name, color, marker) in _KINDS.items():
        rows = late & np.array([key[0] == kind for key in gains.keys], dtype=bool) & np.isfinite(gains.measured)
        look: dict[str, Any] = {"color": color, "marker": marker, "linestyle": "", "markersize": 4.0, "alpha": 0.85}
        looks = ((gains.epochwise, color, f"{name}: each evaluation"), (gains.stationary, "none", None))
        for values, face, label in looks:
            known = rows & np.isfinite(values)
            if known.any():
                drawn = True
                panel.plot(values[known], gains.measured[known], **look, markerfacecolor=face, label=label)
    if not drawn:
        raise NoDataError("nothing was both predicted and measured", tables)
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
    return ["filled: each sample once an epoch", "hollow: with replacement"]


def _draw_along_run(
    gains: _Gains, late: npt.NDArray[np.bool_], run_steps: int, tables: Tables, panel: Axes
) -> Sequence[str]:
    panel.set_ylabel("gain in training loss (nats)")
    drawn = False
    for kind, (_, color, marker) in _KINDS.items():
        keys = [key for key in gains.distinct() if key[0] == kind]
        best = max(keys, key=lambda key: _mean(gains.measured[late & gains.rows_of(key)]), default=None)
        if best is None or not np.isfinite(gains.measured[gains.rows_of(best)]).any():
            continue
        drawn = True
        rows = gains.rows_of(best)
        plotted: dict[str, Any] = {"color": color, "marker": marker, "markersize": 3.0, "linewidth": 1.4}
        panel.plot(gains.steps[rows], gains.measured[rows], **plotted, label=f"{series.average_text(*best)}: measured")
        panel.plot(gains.steps[rows], gains.epochwise[rows], color=color, linewidth=1.1, linestyle="--")
        panel.plot(gains.steps[rows], gains.stationary[rows], color=color, linewidth=1.1, linestyle=":")
    if not drawn:
        raise NoDataError("no average was evaluated", tables)
    panel.axhline(0.0, color="#999999", linewidth=0.6)
    _symmetric_log(panel, gains.every(late) if late.any() else gains.every(), axes="y")
    series.mark_run(panel, tables, run_steps=run_steps)
    return ["model: dashed each sample once an epoch", "dotted with replacement"]


def _mean(values: FloatArray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else -np.inf


def _draw_directions(tables: Tables, panel: Axes) -> Sequence[str]:
    from sgdline.analysis.predicted_gains import directions_of, iterate_variance

    panel.set_xlabel("lr · eigenvalue")
    panel.set_ylabel(r"$\frac{1}{2}\lambda_i V_i$ (nats)")
    table = tables["spectrum"].sort_by("step")
    found = [directions for directions in directions_of(table) if len(directions.eigenvalues)]
    if not found:
        raise NoDataError("no spectrum was measured", tables)
    notes = []
    chosen = [found[0], found[-1]] if len(found) > 1 else found
    looks: list[dict[str, Any]] = [{"color": "#999999", "marker": "o"}, {"color": "#6A3D9A", "marker": "D"}]
    shares = dict(zip(table["step"].to_pylist(), table["explained_share"].to_pylist(), strict=True))
    for directions, look in zip(chosen, looks[-len(chosen) :], strict=True):
        parts = 0.5 * directions.eigenvalues * iterate_variance(directions)
        label = f"spectrum of update {directions.step:,}"
        panel.plot(directions.relative_lr, parts, **look, linestyle="", markersize=4.0, label=label)
        share = shares.get(directions.step)
        known = "" if share is None else f", {100 * share:.0f} % of the noise"
        left = f", {directions.left_out} left out" if directions.left_out else ""
        notes.append(f"update {directions.step:,}: sum {parts.sum():.3g} nats{known}{left}")
    panel.axvline(2.0, **style.look("executed_step"))
    panel.set_xscale("log")
    panel.set_yscale("log")
    return notes
