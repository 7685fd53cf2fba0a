"""Gradient descent on a two-dimensional quadratic: trajectories over contours, loss, cosine and height."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sgdline.figures.base import PanelSheet
from sgdline.figures.grammar import style
from sgdline.figures.grammar.sheet import NoDataError, Panel, draw_sheet
from sgdline.figures.grammar.style import FloatArray

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


# Colours that keep apart for the colour-blind; neighbours differ in lightness, line style and marker as well, for grey.
_COLORS = ("#56B4E9", "#1B6CA8", "#E69F00", "#8856A7", "#000000", "#B2182B", "#1B9E77", "#BBBBBB", "#8C510A")
_STYLES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (3, 1, 1, 1)), (0, (6, 2)), "-", (0, (1.5, 1)))
_MARKERS = ("o", "s", "^", "v", "D", "X", "P", "<", ">")
_WIDEST, _NARROWEST = 3.0, 1.2  # points; later curves are narrower, so that none hides under another
_MARKS = 7  # markers on a curve over the steps
_LEVELS = 9
_ROOM = 1.9  # half-height of the contour panels, in distances of the start from the valley's floor
_DECADES = (12.0, 4.0)  # that a logarithmic axis reaches at most below and above the start
_COLUMNS = 3  # of a page
_NAMES = {
    "over_damped": "over-damped",
    "critical": "critical",
    "under_damped": "under-damped",
    "edge": "edge",
    "diverging": "diverging",
}


@dataclass(frozen=True)
class _Descent:
    """What was recorded with one learning rate; NaN where there is no value."""

    relative_lr: float
    regime: str
    steps: FloatArray  # (T + 1,)
    steep: FloatArray  # (T + 1,), coordinate along the largest eigenvalue's direction
    flat: FloatArray  # (T + 1,), along the other one
    loss: FloatArray  # (T + 1,)
    cosine: FloatArray  # (T + 1,)
    height: FloatArray  # (T + 1,)
    look: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class QuadraticDescent(PanelSheet):
    """Gradient descent on a quadratic.

    One contour panel per learning rate: the valley runs from left to right, a ring marks the start, the cross the
    minimum. Below them, over the steps: the loss, the cosine of consecutive gradients, and the mean height of the two
    ends of each interval above its lowest point, the valley's floor. Along the eigenvector of the largest eigenvalue λ
    the coordinate is multiplied by 1 - lr λ at each step: below 1/λ the iterate creeps down its side of the valley
    (over-damped), between 1/λ and 2/λ it crosses the floor at every step and comes closer all the same (under-damped),
    above 2/λ it diverges.
    """

    toy: ClassVar[str | None] = "quadratic_descent"
    panels: ClassVar[tuple[str, ...]] = ("contours", "loss", "cosine", "height")

    def draw(self, tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any]) -> Figure:
        """Draw one contour panel per learning rate, and loss, cosine and height over the steps.

        Source: walk fig36 (papers.md 5.3), W-M3, W-M6.
        """
        descents = _descents(tables["quadratic_descent"], eigenvalues=settings["eigenvalues"])
        panels = []
        for place, descent in enumerate(descents):
            edges = self.width == "column" or place % _COLUMNS == 0, place + _COLUMNS >= len(descents)
            draw = partial(_draw_contours, descent, settings, edges)
            panels.append(Panel("contours", _label(descent), draw, height=1.7))
        panels += [
            Panel("loss", "loss at the step", partial(_draw_losses, descents), height=2.2, new_row=True),
            Panel("cosine", "cosine of the gradients", partial(_draw_cosines, descents), height=2.2),
            Panel("height", "height above the floor", partial(_draw_heights, descents), height=2.2),
        ]
        eigenvalues, start = (", ".join(f"{value:.4g}" for value in settings[key]) for key in ("eigenvalues", "start"))
        footer = [
            "L(θ) = ½ θᵀHθ",
            f"eigenvalues of H {eigenvalues}",
            f"start {start} along their eigenvectors",
            f"{style.counted(settings['steps'], 'step')} of θ ← θ - lr Hθ in float64",
            "no network, no data",
            f"toy {settings['toy']}",
        ]
        return draw_sheet(self, panels, footer=footer, columns=_COLUMNS)


def _descents(table: pa.Table, *, eigenvalues: Sequence[float]) -> list[_Descent]:
    rates = style.numbers(table, "relative_lr")
    coordinates = [style.numbers(table, name) for name in ("first_coordinate", "second_coordinate")]
    steepest = int(np.argmax(eigenvalues))
    steep, flat = coordinates[steepest], coordinates[1 - steepest]
    statuses = table["status"].to_pylist()
    found = []
    distinct = list(dict.fromkeys(rates.tolist()))
    widths = np.linspace(_WIDEST, _NARROWEST, len(distinct))
    for place, rate in enumerate(distinct):
        rows = np.flatnonzero(rates == rate)
        look = {
            "color": _COLORS[place % len(_COLORS)],
            "linestyle": _STYLES[place % len(_STYLES)],
            "marker": _MARKERS[place % len(_MARKERS)],
            "linewidth": float(widths[place]),
        }
        measured = {name: style.numbers(table, name)[rows] for name in ("loss", "gradient_cosine", "height")}
        found.append(
            _Descent(
                relative_lr=rate,
                regime=statuses[rows[0]],
                steps=style.numbers(table, "step")[rows],
                steep=steep[rows],
                flat=flat[rows],
                loss=measured["loss"],
                cosine=measured["gradient_cosine"],
                height=measured["height"],
                look=look,
            )
        )
    return found


def _label(descent: _Descent) -> str:
    name = _NAMES.get(descent.regime, descent.regime)
    return f"lr {descent.relative_lr:.4g}/λₘₐₓ, {name}"


def _draw_contours(
    descent: _Descent, settings: Mapping[str, Any], edges: tuple[bool, bool], panel: Axes
) -> Sequence[str]:
    """Draw the valley along x, its walls along y, and the trajectory as far as it stays inside.

    Args:
        descent: What was recorded with one learning rate.
        settings: Of the toy.
        edges: Whether the panel is at the left and at the bottom of those with contours: it then has labels there.
        panel: Where to.
    """
    steepest = int(np.argmax(settings["eigenvalues"]))
    walls, floor = settings["eigenvalues"][steepest], settings["eigenvalues"][1 - steepest]
    height = _ROOM * abs(settings["start"][steepest])
    along = settings["start"][1 - steepest]
    # A start on the floor's lowest point still needs a width; the losses at both edges are then alike.
    reach = abs(along) or abs(settings["start"][steepest]) * np.sqrt(walls / floor)
    limits = (-0.25 * reach, 1.15 * reach) if along else (-reach, reach)
    limits = limits if along >= 0 else (-limits[1], -limits[0])
    x, y = np.meshgrid(np.linspace(*limits, 121), np.linspace(-height, height, 121))
    losses = 0.5 * (floor * x**2 + walls * y**2)
    # Evenly spaced distances from the floor.
    levels = losses.max() * (np.arange(1, _LEVELS + 1) / (_LEVELS + 1)) ** 2
    panel.contour(x, y, losses, levels=levels, colors="#C4C4C4", linewidths=0.7, linestyles="-", zorder=0)
    panel.plot(0, 0, marker="+", markersize=8, color="#777777", linestyle="none", zorder=1)
    inside = np.isfinite(descent.steep) & (np.abs(descent.steep) <= height)
    end = len(inside) if inside.all() else int(np.argmin(inside))  # of what is drawn; one step more leaves the panel
    shown = slice(0, end + 1)
    look = {**descent.look, "linestyle": "-", "linewidth": 1.2, "markersize": 3.6}
    panel.plot(descent.flat[shown], descent.steep[shown], **look, zorder=2)
    panel.plot(
        descent.flat[0], descent.steep[0], marker="o", markersize=8, markerfacecolor="white", linestyle="none",
        markeredgecolor=descent.look["color"], markeredgewidth=1.5, zorder=3,
    )  # fmt: skip
    panel.set_xlim(*limits)
    panel.set_ylim(-height, height)
    at_left, at_bottom = edges
    panel.set_xlabel("along the valley" if at_bottom else "")
    panel.set_ylabel("across the valley" if at_left else "")
    return [f"leaves the panel at step {end}"] if end < len(inside) else []


def _draw_losses(descents: Sequence[_Descent], panel: Axes) -> Sequence[str]:
    panel.set_ylabel("loss")
    notes = _draw_curves(panel, descents, [descent.loss for descent in descents], log=True)
    lost = sum(int(np.isnan(descent.loss).sum()) for descent in descents)
    return notes + ([f"{style.counted(lost, 'value')} beyond float64"] if lost else [])


def _draw_cosines(descents: Sequence[_Descent], panel: Axes) -> Sequence[str]:
    panel.set_ylabel("cosine")
    for level in (-1.0, 0.0, 1.0):
        panel.axhline(level, color="#BBBBBB", linewidth=0.7, zorder=0)
    _draw_curves(panel, descents, [descent.cosine for descent in descents])
    panel.set_ylim(-1.12, 1.12)
    return ["-1: back where it came from"]


def _draw_heights(descents: Sequence[_Descent], panel: Axes) -> Sequence[str]:
    panel.set_ylabel("height")
    return _draw_curves(panel, descents, [descent.height for descent in descents], log=True)


def _draw_curves(
    panel: Axes,
    descents: Sequence[_Descent],
    values: Sequence[FloatArray],
    *,
    log: bool = False,
) -> list[str]:
    """Draw one quantity of every descent over the steps.

    Returns:
        Notes on the values that a logarithmic axis leaves out: those of 0, and those too far from the start.
    """
    panel.set_xlabel("step t")
    if log and not any((own > 0).any() for own in values):
        raise NoDataError("no value is above 0 and finite")
    limits = _limits(values) if log else None
    for place, (descent, own) in enumerate(zip(descents, values, strict=True)):
        drawn = np.where(own > 0, own, np.nan) if log else own
        if limits is not None:  # matplotlib's margins around larger values would leave the range of float64
            drawn = np.clip(drawn, limits[0] / 10, limits[1] * 10)
        every = max(len(own) // _MARKS, 1)
        label = _label(descent)
        panel.plot(
            descent.steps, drawn, **descent.look, markersize=4.5, label=label, zorder=2 + place / len(descents),
            markevery=(min(place * every // len(descents), len(own) - 1), every),
        )  # fmt: skip
    notes = []
    if log:
        panel.set_yscale("log")
        every_value = np.concatenate(values)
        zeros = int((every_value == 0).sum())
        notes += [f"{style.counted(zeros, 'value')} of 0 left out"] if zeros else []
        notes += style.outside_note(every_value[every_value > 0], limits)
        if limits is not None:
            panel.set_ylim(*limits)
    panel.locator_params(axis="x", integer=True)
    last = float(descents[0].steps[-1])
    panel.set_xlim(-0.02 * last, 1.02 * last)
    return notes


def _limits(values: Sequence[FloatArray]) -> tuple[float, float] | None:
    """Return limits that keep a logarithmic axis to the decades around the start; None if everything fits."""
    starts = np.array([own[0] for own in values])
    starts = starts[np.isfinite(starts) & (starts > 0)]
    if not starts.size:
        return None
    low, high = float(starts.min() * 10 ** -_DECADES[0]), float(starts.max() * 10 ** _DECADES[1])
    positive = np.concatenate(values)
    positive = positive[positive > 0]
    if low <= positive.min() and positive.max() <= high:
        return None
    return max(low, float(positive.min())), min(high, float(positive.max()))
