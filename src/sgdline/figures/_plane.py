"""A plane in the parameters of a diagonal linear network: contours of a loss and descents on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sgdline.figures.grammar import style

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

HIGHEST = 100.0  # losses are clipped there
_LEVELS = 26
_LOOKS: dict[str, dict[str, Any]] = {
    "flow": {"color": "#FFFFFF", "linewidth": 2.2, "linestyle": "-"},
    "gd": {"color": "#E69F00", "linewidth": 1.0, "linestyle": "-"},
    "sgd": {"color": "#D55E00", "linewidth": 1.0, "linestyle": "-"},
}
_DARK_FLOW = "#333333"  # of the flow on a white panel


@dataclass(frozen=True)
class Descent:
    """One chain."""

    kind: str  # flow | gd | sgd
    name: str
    chain: int
    diverged: bool
    updates: IntArray  # (P,)
    points: FloatArray  # (2, P) on the plane
    mirrored: FloatArray  # (2, P)
    distance: FloatArray  # (P,) from the plane, of the mirror image
    losses: Mapping[str, FloatArray]  # train_loss, test_loss: (P,)


def descents(table: pa.Table) -> list[Descent]:
    """Return all chains, the flow first."""
    found = []
    for row in table.to_pylist():
        if row["part"] != "descent":
            continue
        kind = "flow" if row["setting"] == 0 else row["method"]
        words = f"gradient flow (GD, lr {row['lr']:g})" if kind == "flow" else f"{kind.upper()}, lr {row['lr']:g}"
        if row["decay_at"] is not None:
            words += f", /{row['decay_factor']:g} at {100 * row['decay_at']:g} %"
        found.append(
            Descent(
                kind=kind,
                name=words,
                chain=row["chain"],
                diverged=row["status"] == "diverged",
                updates=np.array(row["updates"], dtype=np.int64),
                points=np.array([row["first_coordinate"], row["second_coordinate"]], dtype=np.float64),
                mirrored=np.array(
                    [row["mirrored_first_coordinate"], row["mirrored_second_coordinate"]], dtype=np.float64
                ),
                distance=np.array(row["mirrored_distance"], dtype=np.float64),
                losses={name: np.array(row[name], dtype=np.float64) for name in ("train_loss", "test_loss")},
            )
        )
    return found


def drawn(found: Sequence[Descent]) -> list[Descent]:
    """Return the first chain of each setting."""
    return [descent for descent in found if descent.chain == 0]


def look(kind: str, **changes: Any) -> dict[str, Any]:
    """Return the plot arguments of a kind of descent."""
    return {**_LOOKS[kind], **changes}


def draw_contours(panel: Axes, table: pa.Table, measure: str, *, settings: Mapping[str, Any]) -> ScalarMappable:
    """Draw a loss on the plane.

    Args:
        panel: Where to.
        table: `diagonal_plane`.
        measure: train_loss or test_loss.
        settings: The toy's.

    Returns:
        What a colour bar needs.
    """
    from matplotlib.colors import LogNorm

    row = next(row for row in table.to_pylist() if row["part"] == "surface")
    count = settings["resolution"]
    (low, high), (bottom, top) = settings["first_range"], settings["second_range"]
    axes = np.linspace(low, high, count), np.linspace(bottom, top, count)
    losses = np.array(row[measure], dtype=np.float64).reshape(count, count)
    losses = np.clip(losses, max(float(losses.min()), 1e-12), HIGHEST)
    levels = np.geomspace(losses.min(), losses.max(), _LEVELS)
    levels[[0, -1]] = losses.min(), losses.max()  # as they are: rounding must not leave holes
    filled = panel.contourf(
        *axes, losses, levels=levels, norm=LogNorm(levels[0], levels[-1]), cmap=style.COLOR_MAP, zorder=0
    )
    panel.contour(*axes, losses, levels=levels[::3], colors="white", linewidths=0.25, alpha=0.5, zorder=0.1)
    panel.set_xlim(*settings["first_range"])
    panel.set_ylim(*settings["second_range"])
    panel.set_aspect("equal")
    return filled


def draw_path(panel: Axes, descent: Descent, *, mirrored: bool, until: int | None = None, label: bool = False) -> None:
    """Draw one chain on the plane, points and the straight ways between those that were kept.

    Args:
        panel: With contours.
        descent: Of the table.
        mirrored: Whether the mirror image is drawn.
        until: Last update to draw; None draws all.
        label: Whether it enters the legend.
    """
    from matplotlib.patheffects import withStroke

    points = descent.mirrored if mirrored else descent.points
    shown = points[:, : np.searchsorted(descent.updates, until, side="right")] if until is not None else points
    arguments = look(descent.kind)
    marked = descent.kind != "flow"
    panel.plot(
        *shown, **{**arguments, "linewidth": 0.6 if marked else arguments["linewidth"]}, alpha=0.85,
        marker="." if marked else None, markersize=2.2, zorder=2 if marked else 3,
        path_effects=None if marked else [withStroke(linewidth=3.4, foreground=_DARK_FLOW)],
    )  # fmt: skip
    if label:  # grey behind the white line, that it shows on white
        panel.plot([], [], color=_DARK_FLOW if descent.kind == "flow" else arguments["color"], linewidth=2.0,
                   label=descent.name)  # fmt: skip


def mark_points(panel: Axes, table: pa.Table, found: Sequence[Descent]) -> None:
    """Mark the start, the sparse solution and the end of the flow."""
    from matplotlib.patheffects import withStroke

    solution = next(row for row in table.to_pylist() if row["part"] == "solution")
    flow = next(descent for descent in found if descent.kind == "flow")
    places = {
        "start": (0.0, 0.0),
        "sparse": (solution["first_coordinate"][0], solution["second_coordinate"][0]),
        "flow": (float(flow.points[0, -1]), float(flow.points[1, -1])),
    }
    for name, (first, second) in places.items():
        panel.plot(first, second, marker="o", markersize=5.0, color="#FFFFFF", markeredgecolor="#000000", zorder=5)
        panel.annotate(
            name, (first, second), xytext=(5, -10), textcoords="offset points", fontsize=8.0, zorder=6,
            path_effects=[withStroke(linewidth=2.0, foreground="#FFFFFF")],
        )  # fmt: skip


def draw_losses(panel: Axes, found: Sequence[Descent], measure: str, *, updates: int) -> None:
    """Draw a loss over the updates: the first chain of each setting thick, the others thin."""
    for descent in found:
        arguments = look(descent.kind, color=_DARK_FLOW if descent.kind == "flow" else _LOOKS[descent.kind]["color"])
        first = descent.chain == 0
        losses = descent.losses[measure]
        panel.plot(
            descent.updates + 1, np.where(losses > 0.0, np.minimum(losses, HIGHEST), np.nan),
            **{**arguments, "linewidth": 1.4 if first else 0.4}, alpha=1.0 if first else 0.5, zorder=3 if first else 2,
        )  # fmt: skip
        if descent.diverged:
            panel.plot(descent.updates[-1] + 1, HIGHEST, color=arguments["color"], marker="x", linestyle="")
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.set_xlim(1, 1.2 * (updates + 1))
    panel.set_xlabel("updates done + 1")


def footer(settings: Mapping[str, Any], found: Sequence[Descent]) -> list[str]:
    """Return the lines that say what was simulated, where it ended, and how many chains were lost."""
    seeds = settings["index_seeds"]
    ends = [
        f"{descent.kind.upper() if descent.kind != 'flow' else 'flow'} {descent.losses['train_loss'][-1]:.3g} / "
        f"{descent.losses['test_loss'][-1]:.3g}"
        for descent in drawn(found)
        if not descent.diverged
    ]
    lost = []
    for name in dict.fromkeys(descent.name for descent in found):
        own = [descent for descent in found if descent.name == name]
        lost.append(f"{name}: {sum(descent.diverged for descent in own)} of {len(own)}")
    return [
        f"toy {settings['toy']}  ·  h(x) = <u∘v, x>, n = {settings['samples']} samples, d = {settings['dimensions']}, "
        f"{settings['nonzero']} nonzero, data seed {settings['data_seed']}  ·  u = {settings['start']:g}, v = 0  ·  "
        f"T = {settings['updates']:,} updates  ·  test loss on {settings['test_samples']:,} samples  ·  no BatchNorm, "
        "no augmentation",
        f"on the plane: index seed {seeds[0]}  ·  train / test loss after the last update: {', '.join(ends)}",
        "DIVERGED CHAINS  " + "  ·  ".join(lost),
    ]


def draw_plane(tables: Mapping[str, pa.Table], measure: str, *, title: str, settings: Mapping[str, Any]) -> Any:
    """Draw contours with signed and with mirrored descents, and the loss over the updates.

    Args:
        tables: `diagonal_plane` of one toy.
        measure: train_loss or test_loss.
        title: Of the figure.
        settings: As in `sgdline.figures.plot_figure`.

    Returns:
        The figure.
    """
    table = tables["diagonal_plane"]
    found = descents(table)
    figure = style.new_figure(
        title, footer=footer(settings, found), width=13.2, height=5.6, legend_entries=len(drawn(found))
    )
    signed, mirror, over = figure.subplots(1, 3, width_ratios=[1.0, 1.0, 0.9])
    for panel, folded in ((signed, False), (mirror, True)):
        filled = draw_contours(panel, table, measure, settings=settings)
        for descent in drawn(found):
            draw_path(panel, descent, mirrored=folded, label=not folded)
        mark_points(panel, table, found)
        panel.set_xlabel("towards the sparse solution (length)")
    signed.set_ylabel("towards the end of gradient flow (length)")
    name = "training loss" if measure == "train_loss" else "test loss"
    style.title(signed, f"{name}, projected descents", ["u and v with their signs"])
    style.title(mirror, "their mirror images", [r"pairs with $u_j + v_j < 0$ times -1: the same losses"])
    bar = figure.colorbar(filled, ax=mirror, shrink=0.85, ticks=[10.0**power for power in range(-12, 3, 2)])
    bar.set_label(f"{name} on the plane")
    draw_losses(over, found, measure, updates=settings["updates"])
    over.set_ylabel(name)
    style.title(over, f"{name} of the descents", ["thin: other index seeds and starts; cross: diverged"])
    style.shared_legend(figure, [signed])
    return figure
