"""Chains of the toys over the iterations: medians with ranges, one chain thin, where the step is divided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sgdline.figures.grammar import comparing, series, style
from sgdline.figures.grammar.style import FloatArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DASHES = (0, (4, 3))  # of the line where the step is divided


def draw_setting(
    panel: Axes,
    places: FloatArray,
    values: FloatArray,
    look: Mapping[str, Any],
    *,
    single: Sequence[comparing.Curve] = (),
    decay: int | None = None,
) -> None:
    """Draw the median over the chains of a setting, (chains, E), their range, thin single ones, dashed its decay."""
    if np.isfinite(values).any():
        series.draw_spread(panel, places, values, look)
    else:  # in the legend all the same
        panel.plot([], [], **look)
    for curve in single:
        panel.plot(curve.places, curve.values, color=look["color"], linewidth=0.6, alpha=0.8, zorder=1.5)
    # Settings that share one share the line.
    if decay is not None and all(line.get_gid() != f"decay {decay}" for line in panel.lines):
        panel.axvline(decay, color=look["color"], linestyle=DASHES, linewidth=0.8, zorder=0.5, gid=f"decay {decay}")


def set_axes(panel: Axes, *, updates: int, unit: str, log: bool) -> None:
    """Set the axes of a panel over the iterations of a toy; `unit` is the label of the y axis."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    if log:
        style.plain_log(panel)
    panel.set_ylabel(unit)
    panel.set_xlabel("iteration")
    panel.set_xlim(-0.01 * updates, 1.01 * updates)
    panel.xaxis.set_major_locator(MaxNLocator(5))
    thousands = updates >= 10_000
    panel.xaxis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{value / 1000:g}k" if thousands and value else f"{value:,.0f}")
    )
