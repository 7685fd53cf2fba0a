"""Losses, rank and sparsity of students, one panel each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sgdline.declare.build import build
from sgdline.figures import _relu
from sgdline.figures.grammar import style
from sgdline.toys import _relu_nets
from sgdline.toys.teacher_student import simulate as teacher_student
from sgdline.toys.teacher_student.options import TeacherStudentOptions

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.figure import Figure


def toy_of(tables: Mapping[str, pa.Table], settings: Mapping[str, Any]) -> tuple[_relu.Toy, dict[str, Any]]:
    """Return the chains of a table, and the toy's settings with the seed of the published chain."""
    found = teacher_student.resolved(options_of(settings))
    iterations = _relu_nets.iterations_of(found.log10_iterations)
    return _relu.Toy(tables["teacher_student"], found.runs, iterations), {**settings, "seed": found.seed}


def options_of(settings: Mapping[str, Any]) -> TeacherStudentOptions:
    """Return the toy's options, from the settings that a figure is drawn with."""
    return build(TeacherStudentOptions, {key: entry for key, entry in settings.items() if key != "toy"})


def what(settings: Mapping[str, Any]) -> str:
    """Return the problem in words."""
    setting = teacher_student.SETTINGS[settings["network"]]
    teacher, student = ("-".join(map(str, widths)) for widths in (setting.teacher, setting.student))
    return f"teacher {teacher}, student {student}, {setting.samples} samples"


def draw_panels(title: str, tables: Mapping[str, pa.Table], settings: Mapping[str, Any]) -> Figure:
    """Draw training and test loss, rank and the sparsity of every hidden layer."""
    toy, settings = toy_of(tables, settings)
    setting = teacher_student.SETTINGS[settings["network"]]
    hidden = len(setting.student) - 2
    columns = 2 if hidden == 1 else 3
    entries = _relu.legend_entries(toy)
    figure = style.new_figure(
        title, footer=_relu.footer(toy, settings, what=what(settings)), width=10.4 if columns == 2 else 12.6,
        height=7.4, legend_entries=entries,
    )  # fmt: skip
    panels = figure.subplots(2, columns).ravel()
    table = toy.table
    shown = [
        ("training loss", style.numbers(table, "train_loss"), "training loss", True, []),
        ("test loss", style.numbers(table, "test_loss"), "test loss (1,000 samples)", True, []),
        (
            "rank of the Jacobian", style.numbers(table, "rank"), "rank of the Jacobian", False,
            [f"{setting.parameters} test inputs, relative to the largest above {settings['rank_tolerance']:g}"],
        ),
    ]  # fmt: skip
    for layer in range(hidden):
        name = "feature sparsity" if hidden == 1 else f"feature sparsity, layer {layer + 1}"
        values = 100.0 * _relu.of_layer(table, "sparsity", layer)
        shown.append((name, values, "feature sparsity coefficient (%)", False, ["lower is sparser"]))
    if hidden > 1:  # a sixth panel
        norms = style.numbers(table, "nuclear_norm")
        shown.append(("nuclear norm, features times output weights", norms, "nuclear norm", True, []))
    for panel, (name, values, label, log, notes) in zip(panels, shown, strict=True):
        _relu.draw_quantity(panel, toy, values, name=label, log=log)
        style.title(panel, name, [*_relu.ends(toy, values), *notes], width=78 if columns == 2 else 62)
    _relu.legend_of(panels[0], toy)
    style.shared_legend(figure, [panels[0]])
    return figure
