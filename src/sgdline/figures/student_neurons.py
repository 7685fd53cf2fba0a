"""Hidden neurons of a two-layer student at the start and at the end, and the teacher's directions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sgdline.figures import _relu
from sgdline.figures.base import PanelSheet
from sgdline.figures.grammar import style
from sgdline.figures.grammar.sheet import Panel, draw_sheet
from sgdline.figures.grammar.style import FloatArray

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_X_RANGE, _Y_RANGE = (-1.6, 1.15), (-0.95, 0.85)  # papers.md 4.3
_TEACHER, _START, _END = "#B2182B", "#777777", "#0072B2"
_CLOSE_DEGREES = 10.0


@dataclass(frozen=True, kw_only=True)
class StudentNeurons(PanelSheet):
    """Where the neurons of a two-layer student go.

    Hidden weights of a student as points of the plane, one panel per setting, published chains: rings at the start,
    filled points at the last evaluation, arrows between them, red the directions of the teacher's neurons. The notes
    count the neurons within ten degrees of a direction.
    """

    toy: ClassVar[str | None] = "teacher_student"
    toy_settings: ClassVar[Mapping[str, Any]] = {"network": "two_layer"}
    panels: ClassVar[tuple[str, ...]] = ("setting_N",)

    def draw(self, tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any]) -> Figure:
        """Draw one panel per setting: hidden weights of the published chain as points of the plane.

        Source: sparse/fig_two_layer_neurons, papers.md 4.3.
        """
        toy = _relu.toy_of(tables, settings)
        panels = [
            Panel(f"setting_{run + 1}", toy.name(run), partial(_draw_neurons, toy, run), height=2.75)
            for run in range(len(toy.runs))
        ]
        return draw_sheet(self, panels, footer=_relu.footer(toy, published_only=True), columns=2)


def _draw_neurons(toy: _relu.Toy, run: int, panel: Axes) -> Sequence[str]:
    [rows] = toy.rows(run, "published")
    lost = style.numbers(toy.table, "diverged_at")[rows[0]]
    start = _hidden(toy, int(rows[0]))
    teacher = np.array(toy.table["teacher"][int(rows[0])].as_py()).reshape(-1, 2)
    ring: dict[str, Any] = {"color": _START, "marker": "o", "markerfacecolor": "white", "linestyle": "none"}
    point: dict[str, Any] = {"color": _END, "marker": "o", "linestyle": "none", "alpha": 0.8, "zorder": 3}
    directions = teacher / np.linalg.norm(teacher, axis=1, keepdims=True)
    for direction in directions:
        panel.plot([0.0, 2.0 * direction[0]], [0.0, 2.0 * direction[1]], color=_TEACHER, linewidth=1.5, zorder=1)
    panel.plot([], [], color=_TEACHER, linewidth=1.5, label="directions of the teacher")
    panel.plot(*start.T, **ring, markersize=3.5, label="neurons at the start")
    if np.isfinite(lost):
        notes = [f"the published chain diverged at iteration {int(lost)}"]
    else:
        end = _hidden(toy, int(rows[-1]))
        arrow = {"arrowstyle": "->", "color": "#999999", "linewidth": 0.7, "shrinkA": 2, "shrinkB": 2, "clip_on": True}
        for before, after in zip(start, end, strict=True):
            ways: dict[str, Any] = {"xy": tuple(after), "xytext": tuple(before), "arrowprops": arrow}
            panel.annotate("", **ways, zorder=2, annotation_clip=False)
        panel.plot(*end.T, **point, markersize=4.0, label="neurons at the last evaluation")
        notes = [
            f"median distance moved {np.median(np.linalg.norm(end - start, axis=1)):.2g}",
            f"{_aligned(end, directions)} of {len(end)} within {_CLOSE_DEGREES:g}° of a direction",
        ]
        outside = int(((end < [_X_RANGE[0], _Y_RANGE[0]]) | (end > [_X_RANGE[1], _Y_RANGE[1]])).any(axis=1).sum())
        notes += [f"{style.counted(outside, 'neuron')} outside of the panel"] if outside else []
    panel.axhline(0.0, color="#DDDDDD", linewidth=0.7, zorder=0)
    panel.axvline(0.0, color="#DDDDDD", linewidth=0.7, zorder=0)
    panel.set_xlim(*_X_RANGE)
    panel.set_ylim(*_Y_RANGE)
    panel.set_aspect("equal")
    panel.set_xlabel("first weight")
    panel.set_ylabel("second weight")
    return notes


def _hidden(toy: _relu.Toy, row: int) -> FloatArray:
    assert toy.student is not None
    inputs, units = toy.student.student[:2]
    parameters = np.array(toy.table["parameters"][row].as_py(), dtype=np.float64)
    return parameters[: inputs * units].reshape(units, inputs)


def _aligned(neurons: FloatArray, directions: FloatArray) -> int:
    lengths = np.linalg.norm(neurons, axis=1, keepdims=True)
    cosines = neurons / np.where(lengths > 0.0, lengths, 1.0) @ directions.T
    return int((cosines.max(axis=1) >= np.cos(np.radians(_CLOSE_DEGREES))).sum())
