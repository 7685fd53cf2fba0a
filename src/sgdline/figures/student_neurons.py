"""Hidden neurons of a two-layer student at the start and at the end, and the teacher's directions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from sgdline.figures import _relu, _teacher
from sgdline.figures.base import Sheet
from sgdline.figures.grammar import style
from sgdline.toys.teacher_student import simulate as teacher_student

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


FloatArray = npt.NDArray[np.float64]

_X_RANGE, _Y_RANGE = (-1.6, 1.15), (-0.95, 0.85)  # papers.md 4.3
_TEACHER, _START, _END = "#B2182B", "#777777", "#0072B2"
_CLOSE_DEGREES = 10.0


@dataclass(frozen=True, kw_only=True)
class StudentNeurons(Sheet):
    """Where the neurons of a two-layer student go."""

    toy: ClassVar[str | None] = "teacher_student"
    toy_settings: ClassVar[Mapping[str, Any]] = {"network": "two_layer"}

    def draw(self, tables: Mapping[str, pa.Table], *, settings: Mapping[str, Any]) -> Figure:
        """Draw one panel per setting: hidden weights of the published chain as points of the plane.

        Args:
            tables: `teacher_student` of one toy of two layers.
            settings: As in `sgdline.figures.plot_figure`.

        Source: sparse/fig_two_layer_neurons, papers.md 4.3.
        """
        toy, settings = _teacher.toy_of(tables, settings)
        footer = _relu.footer(toy, settings, what=_teacher.what(settings), published_only=True)
        count = len(toy.runs)
        columns = 2 if count in (2, 4) else min(count, 3)
        lines = -(-count // columns)
        figure = style.new_figure(
            self.heading(), footer=footer, width=max(5.0 * columns, 8.0), height=3.7 * lines + 1.0, legend_entries=3
        )
        panels = figure.subplots(lines, columns, squeeze=False).ravel()
        for run, panel in enumerate(panels[:count]):
            _draw_neurons(panel, toy, run, teacher_student.SETTINGS[settings["network"]])
        for panel in panels[count:]:
            panel.remove()
        panel = panels[0]
        panel.plot([], [], color=_TEACHER, linewidth=1.8, label="directions of the teacher")
        panel.plot(
            [], [], color=_START, marker="o", markerfacecolor="white", linestyle="none", label="neurons at the start"
        )
        panel.plot([], [], color=_END, marker="o", linestyle="none", label="neurons at the last evaluation")
        style.shared_legend(figure, [panel])
        return figure


def _draw_neurons(panel: Axes, toy: _relu.Toy, run: int, setting: teacher_student.Setting) -> None:
    [rows] = toy.rows(run, "published")
    name = _relu.setting_name(toy.runs[run], iterations=toy.iterations)
    lost = style.numbers(toy.table, "diverged_at")[rows[0]]
    start = _hidden(toy.table, int(rows[0]), setting)
    teacher = np.array(toy.table["teacher"][int(rows[0])].as_py()).reshape(-1, 2)
    for direction in teacher / np.linalg.norm(teacher, axis=1, keepdims=True):
        panel.plot([0.0, 2.0 * direction[0]], [0.0, 2.0 * direction[1]], color=_TEACHER, linewidth=1.8, zorder=1)
    panel.plot(*start.T, color=_START, marker="o", markersize=4.0, markerfacecolor="white", linestyle="none")
    if np.isfinite(lost):
        notes = [f"the published chain diverged at iteration {int(lost)}"]
    else:
        end = _hidden(toy.table, int(rows[-1]), setting)
        for before, after in zip(start, end, strict=True):
            panel.annotate(
                "", xy=tuple(after), xytext=tuple(before), zorder=2, annotation_clip=False,
                arrowprops={"arrowstyle": "->", "color": "#999999", "linewidth": 0.7, "shrinkA": 2, "shrinkB": 2,
                            "clip_on": True},
            )  # fmt: skip
        panel.plot(*end.T, color=_END, marker="o", markersize=5.0, linestyle="none", alpha=0.8, zorder=3)
        notes = [
            f"median distance moved {np.median(np.linalg.norm(end - start, axis=1)):.2g}",
            f"{_aligned(end, teacher)} of {len(end)} within {_CLOSE_DEGREES:g}° of a direction",
        ]
        outside = int(((end < [_X_RANGE[0], _Y_RANGE[0]]) | (end > [_X_RANGE[1], _Y_RANGE[1]])).any(axis=1).sum())
        notes += [f"{style.counted(outside, 'neuron')} outside of the panel"] if outside else []
    style.title(panel, name, notes, width=70)
    panel.axhline(0.0, color="#DDDDDD", linewidth=0.7, zorder=0)
    panel.axvline(0.0, color="#DDDDDD", linewidth=0.7, zorder=0)
    panel.set_xlim(*_X_RANGE)
    panel.set_ylim(*_Y_RANGE)
    panel.set_aspect("equal")
    panel.set_xlabel("first weight")
    panel.set_ylabel("second weight")


def _hidden(table: pa.Table, row: int, setting: teacher_student.Setting) -> FloatArray:
    inputs, units = setting.student[:2]
    return np.array(table["parameters"][row].as_py(), dtype=np.float64)[: inputs * units].reshape(units, inputs)


def _aligned(neurons: FloatArray, teacher: FloatArray) -> int:
    lengths = np.linalg.norm(neurons, axis=1, keepdims=True)
    units = neurons / np.where(lengths > 0.0, lengths, 1.0)
    cosines = units @ (teacher / np.linalg.norm(teacher, axis=1, keepdims=True)).T
    return int((cosines.max(axis=1) >= np.cos(np.radians(_CLOSE_DEGREES))).sum())
