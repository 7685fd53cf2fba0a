"""The walk of a run over some of its updates: loss between the iterates, cosine of the gradients, distance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
import numpy.typing as npt

from sgdline.declare.vocabulary import Ge, Le
from sgdline.figures.base import PanelSheet
from sgdline.figures.grammar import style
from sgdline.figures.grammar.sheet import NoDataError, Panel, draw_sheet, nothing
from sgdline.figures.grammar.style import FloatArray

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_ORDINALS = ("first", "second", "third", "fourth")
# The loss panel is linear, as the paper's. Its top leaves out the highest twentieth of the losses where all of them
# would need so many times the room of the rest: a leap at the start would flatten every valley. The floor stays.
_CUT_QUANTILE, _CUT_FROM = 0.95, 3.0
# A valley whose walls are lower than this share of the panel cannot be seen: then some intervals are drawn larger.
_VISIBLE = 0.04
_CLOSE_UP_INTERVALS = 8
_CLOSE_UP_SIZE = (0.4, 0.44)  # in the panel's axes
_CLOSE_UP_CORNERS = ((0.58, 0.5), (0.58, 0.1), (0.1, 0.5), (0.1, 0.1))  # upper right first: losses fall


@dataclass(frozen=True)
class Stretch:
    """The measured updates that one sheet shows."""

    epoch: int  # of the first of them, counted from 1
    runs_on: bool  # the run has one update an epoch, so that the stretch runs on over epochs
    intervals: pa.Table  # their rows, by step
    measured: int  # updates that were measured where they were taken from

    @property
    def first(self) -> int:
        """First update shown."""
        return int(self.intervals["step"][0].as_py())

    @property
    def last(self) -> int:
        """Last update shown."""
        return int(self.intervals["step"][-1].as_py())

    def words(self) -> str:
        """Return what the title says: which epoch and which updates."""
        updates = f"updates {self.first:,} to {self.last:,}" if self.last > self.first else f"update {self.first:,}"
        return f"{updates}, one an epoch" if self.runs_on else f"epoch {self.epoch:,}, {updates}"


def choose_stretch(intervals: pa.Table, trace: pa.Table, *, place: int, updates: int) -> Stretch | None:
    """Choose the first measured updates of one of the epochs that were measured.

    Where every update is an epoch, as with the gradient of the whole training set, the stretch begins at that epoch and
    runs on.

    Args:
        intervals: Table of that kind.
        trace: Table `trace` of the same run.
        place: Which of the measured epochs, counted from 1.
        updates: How many measured updates to take at most.

    Returns:
        The stretch; None if fewer epochs were measured.
    """
    table = intervals.sort_by("step")
    epochs = _epochs(table)
    measured = np.unique(epochs)
    if len(measured) < place:
        return None
    epoch = int(measured[place - 1])
    of_trace = _epochs(trace)
    runs_on = len(of_trace) > 1 and len(np.unique(of_trace)) == len(of_trace)
    taken = np.flatnonzero(epochs >= epoch if runs_on else epochs == epoch)
    return Stretch(epoch, runs_on, table.take(taken[:updates]), len(taken))


def loss_curve(intervals: pa.Table) -> tuple[FloatArray, FloatArray]:
    """Return the interpolated loss of consecutive intervals as one curve, with a gap wherever updates are missing.

    Args:
        intervals: Table of that kind, ascending.

    Returns:
        Iteration + alpha, and loss in nats, NaN in gaps and where no loss is finite. Both of shape (points,).

    Source: walk W-M1.
    """
    places, losses = [np.empty(0)], [np.empty(0)]
    last = None
    rows = zip(*(intervals[name].to_pylist() for name in ("step", "alphas", "train_loss")), strict=True)
    for step, alphas, values in rows:
        if last is not None and step != last + 1:
            places.append(np.array([np.nan]))
            losses.append(np.array([np.nan]))
        places.append(step + np.array(alphas, dtype=np.float64))
        losses.append(np.array(values, dtype=np.float64))
        last = step
    along = np.concatenate(losses)
    return np.concatenate(places), np.where(np.isfinite(along), along, np.nan)


def curvature_note(hvp: pa.Table, trace: pa.Table, *, first: int, last: int) -> list[str]:
    """Return a note with the learning rate times the largest eigenvalue of the Hessian, or none if it is not known.

    Args:
        hvp: Table with the columns step and largest_eigenvalue, and largest_converged if it knows.
        trace: Table `trace` of the same run.
        first: First update shown.
        last: Last update shown; without an eigenvalue among them the newest one before counts.

    Source: papers.md 8: it stands beside every plot of the cosine.
    """
    steps, eigenvalues = style.numbers(hvp, "step"), style.numbers(hvp, "largest_eigenvalue")
    order = np.argsort(steps)
    usable = order[np.isfinite(eigenvalues[order]) & (steps[order] <= last)]
    inside = usable[steps[usable] >= first]
    chosen = [inside[0], inside[-1]] if inside.size else usable[-1:].tolist()
    rates = dict(zip(trace["step"].to_pylist(), style.numbers(trace, "lr").tolist(), strict=True))
    columns = hvp.column_names
    converged = hvp["largest_converged"].to_pylist() if "largest_converged" in columns else [True] * len(steps)
    products = [
        f"{rates[steps[row]] * eigenvalues[row]:.3g} (update {steps[row]:.0f}"
        + (")" if converged[row] else ", not converged)")
        for row in dict.fromkeys(chosen)
        if steps[row] in rates
    ]
    return [f"lr · λ_max = {' to '.join(products)}"] if products else []


@dataclass(frozen=True, kw_only=True)
class Trajectory(PanelSheet):
    """Loss between consecutive iterates.

    (a) The training loss on the straight way from theta_t to theta_{t+1}, over the update plus alpha: a grey line is at
    every iterate, the dashed orange line joins the minima that lie inside an interval (the valley floor), black
    triangles mark barriers. An inset shows the last intervals where the loss falls too far for their valleys to be
    seen. (b) The cosine of the gradients of two consecutive updates; its note gives lr times the largest eigenvalue of
    the Hessian where the run measured it. (c) The distance from the initialisation.
    """

    reads: ClassVar[tuple[str, ...]] = ("intervals", "trace")
    also: ClassVar[tuple[str, ...]] = ("hvp",)
    uses: ClassVar[tuple[str, ...]] = ("figure_updates",)
    panels: ClassVar[tuple[str, ...]] = ("loss", "cosine", "distance")

    place: Annotated[int, Ge(1), Le(4)] = 1
    """Which of the measured epochs is drawn, counted from 1."""

    def draw(self, tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any]) -> Figure:
        """Draw loss, cosine and distance over the first measured updates of an epoch, one below the other.

        Source: walk fig1 and the other trajectories; W-M1 to W-M5 (papers.md 5.2, 5.3).
        """
        updates = settings["analysis"]["figure_updates"]
        stretch = choose_stretch(tables["intervals"], tables["trace"], place=self.place, updates=updates)
        footer = style.run_facts(tables, settings)
        if stretch is None:
            count = len(np.unique(_epochs(tables["intervals"])))
            words = (
                f"no {_ORDINALS[self.place - 1]} epoch was measured, only {count}"
                if count
                else "no update was measured"
            )
            return draw_sheet(self, [nothing(self, words, tables)], footer=footer)
        panels = [
            Panel(
                "loss",
                r"full-batch loss on the way from $\theta_t$ to $\theta_{t+1}$",
                partial(_draw_losses, stretch, tables),
                height=3.0,
            ),
            Panel(
                "cosine", "cosine of consecutive gradients, at the second one", partial(_draw_cosines, stretch, tables)
            ),
            Panel("distance", "distance from the initialisation", partial(_draw_distances, stretch, tables)),
        ]
        return draw_sheet(self, panels, footer=footer, heading=f"{self.heading()}: {stretch.words()}", share_x=True)


def _epochs(table: pa.Table) -> npt.NDArray[np.int64]:
    """Return the epoch of each row, counted from 1; the tables count the epochs that are done."""
    return np.floor(style.numbers(table, "epoch")).astype(np.int64) + 1


def _flags(intervals: pa.Table, name: str) -> npt.NDArray[np.bool_]:
    """Return a column of truth values, False where it is null."""
    return np.asarray(style.numbers(intervals, name) == 1.0, dtype=np.bool_)


def _frame(stretch: Stretch, tables: Mapping[str, pa.Table], panel: Axes) -> None:
    """Set the x axis that all panels share, with a grey line at every iterate."""
    from matplotlib.ticker import MaxNLocator

    steps = np.unique(np.concatenate([step := stretch.intervals["step"].to_numpy(), step + 1]))
    width = 0.7 if len(steps) <= 100 else 0.25
    panel.vlines(steps, 0, 1, transform=panel.get_xaxis_transform(), color="#D0D0D0", linewidth=width, zorder=0.5)
    reach = stretch.last + 1 - stretch.first
    panel.set_xlim(stretch.first - 0.012 * reach, stretch.last + 1 + 0.012 * reach)
    panel.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=12))
    diverged = style.divergence_step(tables)
    if diverged is not None and stretch.first <= diverged <= stretch.last + 1:
        panel.axvline(diverged, color="#B2182B", linestyle=":", linewidth=1.3, label="run diverged")
    panel.set_xlabel(r"update $t + \alpha$")


def _draw_losses(stretch: Stretch, tables: Mapping[str, pa.Table], panel: Axes) -> Sequence[str]:
    shown = stretch.intervals
    panel.set_ylabel("training loss (nats)")
    _frame(stretch, tables, panel)
    places, losses = loss_curve(shown)
    if not np.isfinite(losses[1:] + losses[:-1]).any():  # a single one makes no line
        raise NoDataError("no two losses in a row are finite", tables, notes=_loss_notes(stretch))
    panel.plot(places, losses, **style.look("full_batch", linewidth=1.3), label="full-batch loss, interpolated")
    steps = style.numbers(shown, "step")
    inside = _flags(shown, "interior_minimum")
    floor = (steps + style.numbers(shown, "floor_alpha"))[inside], style.numbers(shown, "floor_loss")[inside]
    if inside.any():
        panel.plot(
            *floor,
            **style.look("valley_floor", zorder=2.5),
            marker="o",
            markersize=2.6,
            label="valley floor: minima inside an interval",
        )
    limits = _loss_limits(losses, keep=floor[1])
    panel.set_ylim(*limits)
    notes = _loss_notes(stretch) + style.outside_note(losses, limits)
    tops = [_barrier_top(shown.slice(row, 1)) for row in np.flatnonzero(_flags(shown, "barrier")).tolist()]
    if tops:
        x, y = np.array(tops).T
        look: dict[str, Any] = {"marker": "v", "markersize": 7.0, "color": "black", "linestyle": "", "zorder": 4}
        panel.plot(x, np.minimum(y, limits[1]), **look, clip_on=False, label="barrier")
        notes += ["barriers beyond the y range stand on its edge"] if (y > limits[1]).any() else []
    if _draw_close_up(panel, stretch, limits):
        notes.append("inset: the last intervals, enlarged")
    return notes


def _barrier_top(interval: pa.Table) -> tuple[float, float]:
    """Return iteration + alpha and loss at the highest interior point of one interval."""
    alphas, losses = (np.array(interval[name][0].as_py()) for name in ("alphas", "train_loss"))
    top = 1 + int(np.argmax(losses[1:-1]))
    return interval["step"][0].as_py() + float(alphas[top]), float(losses[top])


def _loss_limits(losses: FloatArray, *, keep: FloatArray) -> tuple[float, float]:
    """Return y limits in which the losses to keep lie, and all others unless a few would need most of the room."""
    finite = losses[np.isfinite(losses)]
    low, high = float(finite.min()), float(finite.max())
    most = max(float(np.quantile(finite, _CUT_QUANTILE)), *keep.tolist(), low)
    if high - low > _CUT_FROM * (most - low) > 0:
        high = most + 0.1 * (most - low)
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 1e-3
    return low - margin, high + margin


def _loss_notes(stretch: Stretch) -> list[str]:
    shown = stretch.intervals
    count = len(shown)
    covered = stretch.last + 1 - stretch.first
    where = "of the run" if stretch.runs_on else "of the epoch"
    notes = []
    if count < stretch.measured:
        notes.append(f"first {count} of {stretch.measured} measured updates {where}")
    if count < covered:
        notes.append(f"{count} of {covered} updates measured: gaps")
    rates = style.numbers(shown, "lr")
    notes.append(f"lr {rates.min():.4g}" + (f" to {rates.max():.4g}" if rates.max() > rates.min() else ""))
    status = shown["status"].to_pylist()
    sound = np.array([name == "ok" for name in status], dtype=bool)
    if sound.any():
        inside = int(_flags(shown, "interior_minimum")[sound].sum())
        barriers = int(_flags(shown, "barrier")[sound].sum())
        usable = int(sound.sum())
        share = f"{100 * inside / usable:.0f} %"
        notes.append(f"minimum inside in {inside} of {style.counted(usable, 'interval')} ({share})")
        notes.append("no barrier" if not barriers else style.counted(barriers, "barrier"))
        notes.append(f"mean height H of the walls {np.mean(style.numbers(shown, 'height')[sound]):.3g} nats")
    lost = sorted({name for name in status if name != "ok"})
    if lost:
        notes.append(f"{style.counted(count - int(sound.sum()), 'interval')} not counted ({', '.join(lost)})")
    return notes


def _draw_close_up(panel: Axes, stretch: Stretch, limits: tuple[float, float]) -> bool:
    """Draw the last intervals into a free corner, if the valleys are too shallow to be seen; return whether it did."""
    from matplotlib.ticker import MaxNLocator

    heights = style.numbers(stretch.intervals, "height")
    usable = np.flatnonzero(np.isfinite(heights) & _flags(stretch.intervals, "interior_minimum"))
    if not usable.size or np.median(heights[usable]) > _VISIBLE * (limits[1] - limits[0]):
        return False
    corner = _free_corner(panel, stretch, limits)
    if corner is None:
        return False
    end = int(usable[-1]) + 1
    chosen = stretch.intervals.slice(max(end - _CLOSE_UP_INTERVALS, 0), min(end, _CLOSE_UP_INTERVALS))
    places, losses = loss_curve(chosen)
    if not np.isfinite(losses).any():
        return False
    inset = panel.inset_axes((*corner, *_CLOSE_UP_SIZE), zorder=4)
    steps = style.numbers(chosen, "step")
    inset.vlines(
        np.union1d(steps, steps + 1), 0, 1, transform=inset.get_xaxis_transform(), color="#D0D0D0", linewidth=0.7
    )
    inset.plot(places, losses, **style.look("full_batch", linewidth=1.1))
    inside = _flags(chosen, "interior_minimum")
    floor = (steps + style.numbers(chosen, "floor_alpha"))[inside], style.numbers(chosen, "floor_loss")[inside]
    inset.plot(*floor, **style.look("valley_floor", linewidth=1.3), marker="o", markersize=2.6)
    inset.tick_params(labelsize=7)
    inset.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
    inset.yaxis.set_major_locator(MaxNLocator(nbins=4))
    inset.spines[["top", "right"]].set_visible(True)
    return True


def _free_corner(panel: Axes, stretch: Stretch, limits: tuple[float, float]) -> tuple[float, float] | None:
    """Return the first corner of the panel that the curve leaves free, in the panel's axes; None if it needs all."""
    places, losses = loss_curve(stretch.intervals)
    left, right = panel.get_xlim()
    x, y = (places - left) / (right - left), (losses - limits[0]) / (limits[1] - limits[0])
    for corner in _CLOSE_UP_CORNERS:
        across = (x > corner[0] - 0.07) & (x < corner[0] + _CLOSE_UP_SIZE[0] + 0.03)
        if not (across & (y > corner[1] - 0.1) & (y < corner[1] + _CLOSE_UP_SIZE[1] + 0.06)).any():
            return corner
    return None


def _of_trace(stretch: Stretch, trace: pa.Table, name: str, *, after: int) -> tuple[FloatArray, FloatArray]:
    """Return updates and values of the trace from the first update shown to `after` updates behind the last."""
    ordered = trace.sort_by("step")
    steps, values = style.numbers(ordered, "step"), style.numbers(ordered, name)
    here = (steps >= stretch.first) & (steps <= stretch.last + after)
    return steps[here], np.where(np.isfinite(values), values, np.nan)[here]


def _draw_cosines(stretch: Stretch, tables: Mapping[str, pa.Table], panel: Axes) -> Sequence[str]:
    panel.set_ylabel(r"$\cos(g_{t-1}, g_t)$")
    _frame(stretch, tables, panel)
    steps, cosines = _of_trace(stretch, tables["trace"], "gradient_cosine", after=0)
    notes = []
    if "hvp" in tables:
        notes = curvature_note(tables["hvp"], tables["trace"], first=stretch.first, last=stretch.last)
    finite = cosines[np.isfinite(cosines)]
    if not finite.size:
        raise NoDataError("no cosine is known", tables, notes=notes)
    # The same range on every sheet: how negative the cosines are is what the sheets are compared for.
    panel.set_ylim(-1.08, 1.08)
    panel.axhline(0.0, color="#888888", linewidth=0.8, zorder=0.8)
    panel.plot(steps, cosines, **style.look("measured", linewidth=1.1), marker="o", markersize=2.8)
    mean = float(finite.mean())
    own = f"mean {mean:+.2f}, lowest {finite.min():+.2f}".replace("-", "\N{MINUS SIGN}")
    return [own, *notes]


def _draw_distances(stretch: Stretch, tables: Mapping[str, pa.Table], panel: Axes) -> Sequence[str]:
    panel.set_ylabel(r"$\Vert\theta_t - \theta_0\Vert$")
    _frame(stretch, tables, panel)
    steps, distances = _of_trace(stretch, tables["trace"], "distance_from_start", after=1)
    finite = distances[np.isfinite(distances)]
    if not finite.size:
        raise NoDataError("no distance is known", tables)
    panel.plot(steps, distances, **style.look("reference", linestyle="-"), marker="o", markersize=2.8)
    return [f"{finite[0]:.3g} at the first, {finite[-1]:.3g} at the last iterate shown"]
