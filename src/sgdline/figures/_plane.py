"""A plane in the parameters of a diagonal linear network: contours of a loss and descents on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sgdline.figures import _diagonal
from sgdline.figures.grammar import style
from sgdline.figures.grammar.sheet import Panel
from sgdline.figures.grammar.style import FloatArray

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes

IntArray = npt.NDArray[np.int64]

HIGHEST = 100.0  # losses are clipped there
_LEVELS = 26
_SCALE_INCHES = 0.3  # of the scale of colours, with its title
_FLOW = "#FFFFFF"
_DARK_FLOW = "#333333"  # of the flow on a white panel
# Of the settings; they show on the colour map and on white, and keep apart in grey by their lines and marks.
_COLORS = ("#D55E00", "#7B3294", "#E78AC3", "#000000", "#56B4E9", "#E69F00")
_STYLES: tuple[Any, ...] = ("-", (0, (5, 1.2)), (0, (1, 1)), (0, (6, 1.5, 1, 1.5)))
_MARKS = (".", "x", "+", "^")


@dataclass(frozen=True)
class Descent:
    """One chain."""

    setting: int  # 0: gradient flow
    method: str  # in words: flow, GD, SGD
    name: str
    chain: int
    diverged: bool
    updates: IntArray  # (P,)
    points: FloatArray  # (2, P) on the plane
    mirrored: FloatArray  # (2, P)
    losses: Mapping[str, FloatArray]  # train_loss, test_loss: (P,)

    @property
    def color(self) -> str:
        """Its colour on white."""
        return _COLORS[(self.setting - 1) % len(_COLORS)] if self.setting else _DARK_FLOW

    @property
    def look(self) -> dict[str, Any]:
        """Plot arguments of its losses."""
        return {"color": self.color, "linestyle": _STYLES[max(self.setting - 1, 0) % len(_STYLES)]}


@dataclass(frozen=True)
class Plane:
    """A loss on the plane, and all chains, the flow first."""

    table: pa.Table  # `diagonal_plane`
    measure: str  # train_loss or test_loss
    settings: Mapping[str, Any]  # the toy's
    descents: Sequence[Descent]

    @property
    def drawn(self) -> list[Descent]:
        """The first chain of each setting."""
        return [descent for descent in self.descents if descent.chain == 0]

    @property
    def loss(self) -> str:
        """The loss in words."""
        return "training loss" if self.measure == "train_loss" else "test loss"

    def row(self, part: str) -> dict[str, Any]:
        """Return the row of the surface or of the sparse solution."""
        found: dict[str, Any] = next(row for row in self.table.to_pylist() if row["part"] == part)
        return found

    def losses(self) -> FloatArray:
        """Return the clipped loss on the plane. Shape (second coordinate, first coordinate)."""
        count = self.settings["resolution"]
        losses = np.array(self.row("surface")[self.measure], dtype=np.float64).reshape(count, count)
        return np.clip(losses, max(float(losses.min()), 1e-12), HIGHEST)


def plane_of(tables: Mapping[str, pa.Table], measure: str, settings: Mapping[str, Any]) -> Plane:
    """Return a loss on the plane of a toy, with its descents."""
    table = tables["diagonal_plane"]
    return Plane(table, measure, settings, [_descent(row) for row in table.to_pylist() if row["part"] == "descent"])


def _descent(row: Mapping[str, Any]) -> Descent:
    flow = row["setting"] == 0
    words = f"gradient flow (GD, lr {row['lr']:g})" if flow else f"{row['method'].upper()}, lr {row['lr']:g}"
    if row["decay_at"] is not None:
        words += f", /{row['decay_factor']:g} at {100 * row['decay_at']:g} %"
    prefixes = ("", "mirrored_")
    points, mirrored = (
        np.array([row[f"{prefix}{axis}_coordinate"] for axis in ("first", "second")], dtype=np.float64)
        for prefix in prefixes
    )
    return Descent(
        setting=row["setting"],
        method="flow" if flow else row["method"].upper(),
        name=words,
        chain=row["chain"],
        diverged=row["status"] == "diverged",
        updates=np.array(row["updates"], dtype=np.int64),
        points=points,
        mirrored=mirrored,
        losses={name: np.array(row[name], dtype=np.float64) for name in ("train_loss", "test_loss")},
    )


def draw_contours(plane: Plane, panel: Axes) -> None:
    """Draw the loss, the start, the sparse solution and the end of the flow, and set axes of equal scale."""
    from matplotlib.patheffects import withStroke

    losses, norm = plane.losses(), _norm(plane)
    levels = np.geomspace(losses.min(), losses.max(), _LEVELS)
    levels[[0, -1]] = losses.min(), losses.max()  # as they are: rounding must not leave holes
    ranges = [plane.settings[f"{name}_range"] for name in ("first", "second")]
    axes = [np.linspace(low, high, plane.settings["resolution"]) for low, high in ranges]
    panel.contourf(*axes, losses, levels=levels, norm=norm, cmap=style.COLOR_MAP, zorder=0)
    panel.contour(*axes, losses, levels=levels[::3], colors="white", linewidths=0.25, alpha=0.5, zorder=0.1)
    solution, flow = plane.row("solution"), plane.drawn[0].points
    places = {
        "start": (0.0, 0.0),
        "sparse": (solution["first_coordinate"][0], solution["second_coordinate"][0]),
        "flow": (float(flow[0, -1]), float(flow[1, -1])),
    }
    halo = [withStroke(linewidth=2.0, foreground="#FFFFFF")]
    for name, place in places.items():
        panel.plot(*place, marker="o", markersize=4.0, color="#FFFFFF", markeredgecolor="#000000", zorder=5)
        panel.annotate(name, place, xytext=(4, -9), textcoords="offset points", fontsize=7, zorder=6, path_effects=halo)
    panel.set_xlim(*ranges[0])
    panel.set_ylim(*ranges[1])
    panel.set_aspect("equal")
    panel.set_xlabel("towards the sparse solution (length)")
    panel.set_ylabel("towards the flow's end (length)")


def _norm(plane: Plane) -> Any:
    from matplotlib.colors import LogNorm

    losses = plane.losses()
    return LogNorm(float(losses.min()), float(losses.max()))


def scale_panel(plane: Plane) -> Panel:
    """Return a panel that is the scale of the contours' colours."""
    title = f"{plane.loss} on the plane"
    return Panel("scale", title, partial(_draw_scale, plane), height=_SCALE_INCHES, span=2)


def _draw_scale(plane: Plane, panel: Axes) -> Sequence[str]:
    from matplotlib.cm import ScalarMappable

    ticks = [10.0**power for power in range(-12, 3, 2)]
    colors = ScalarMappable(_norm(plane), style.COLOR_MAP)
    panel.figure.colorbar(colors, cax=panel, orientation="horizontal", ticks=ticks)
    return []


def draw_path(descent: Descent, panel: Axes, *, mirrored: bool, until: int | None = None) -> None:
    """Draw one chain on the plane, points and the straight ways between those that were kept.

    Args:
        descent: Of the table.
        panel: With contours.
        mirrored: Whether the mirror image is drawn.
        until: Last update to draw; None draws all.
    """
    from matplotlib.patheffects import withStroke

    points = descent.mirrored if mirrored else descent.points
    shown = points[:, : np.searchsorted(descent.updates, until, side="right")] if until is not None else points
    if descent.setting == 0:
        halo = [withStroke(linewidth=2.8, foreground=_DARK_FLOW)]
        panel.plot(*shown, color=_FLOW, linewidth=1.7, alpha=0.85, zorder=3, path_effects=halo)
    else:
        mark = _MARKS[(descent.setting - 1) % len(_MARKS)]
        panel.plot(*shown, color=descent.color, linewidth=0.5, alpha=0.85, marker=mark, markersize=1.8, zorder=2)
    # The entry is grey in the place of the white line, so that it shows on white.
    panel.plot([], [], **descent.look, linewidth=1.7, label=descent.name)


def footer(plane: Plane) -> list[str]:
    """Return the facts of a footer: how many chains were lost, where the others ended, and what was simulated."""
    lost = []
    for setting in dict.fromkeys(descent.setting for descent in plane.descents):
        own = [descent for descent in plane.descents if descent.setting == setting]
        count = sum(descent.diverged for descent in own)
        lost += [f"{own[0].name}: {count} of {len(own)}"] if count else []
    ends = [
        f"{descent.method} {descent.losses['train_loss'][-1]:.3g} / {descent.losses['test_loss'][-1]:.3g}"
        for descent in plane.drawn
        if not descent.diverged
    ]
    problem = _diagonal.facts_of(plane.settings)
    return [
        *([f"DIVERGED CHAINS: {lost[0]}", *lost[1:]] if lost else ["no chain diverged"]),
        problem[0],
        *([f"train / test loss at the end: {', '.join(ends)}"] if ends else []),
        f"on the plane: index seed {plane.settings['index_seeds'][0]}",
        *problem[1:],
    ]
