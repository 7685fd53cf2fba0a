"""The figure of gradient descent on a quadratic: what is drawn is what the table holds, and nothing overlaps."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from declared import toy_of
from drawn_figures import assert_nothing_overlaps, render, sheet_of
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from sgdline.figures.grammar import style
from sgdline.toys.quadratic_descent.table import QUADRATIC_DESCENT

DEFAULT = {
    "eigenvalues": [1.0, 0.08],
    "start": [1.0, 3.0],
    "relative_lr": [0.5, 1.0, 1.5, 1.9, 2.0, 2.1],
    "steps": 30,
}


def draw(*, width: str = "page", **changes: Any) -> tuple[Figure, pa.Table]:
    settings = {**DEFAULT, **changes}
    table = pa.table(toy_of("quadratic_descent", settings).simulate(), schema=QUADRATIC_DESCENT.schema)
    with style.applied():
        sheet = sheet_of("quadratic_descent", width=width)
        figure = sheet.draw({"quadratic_descent": table}, settings={"toy": "q", **settings})
    return figure, table


def panels(figure: Figure) -> tuple[list[Axes], Axes, Axes, Axes]:
    *contours, loss, cosine, height = figure.axes
    return contours, loss, cosine, height


def rows(table: pa.Table, rate: float, name: str) -> np.ndarray:
    chosen = np.array(table["relative_lr"]) == rate
    return style.numbers(table, name)[chosen]


def words(panel: Axes) -> str:
    return " ".join(" ".join([panel.get_title(loc="left"), *(text.get_text() for text in panel.texts)]).split())


def test_curves_are_those_of_the_table() -> None:
    figure, table = draw()
    _, loss, cosine, height = panels(figure)
    assert (loss.get_yscale(), cosine.get_yscale(), height.get_yscale()) == ("log", "linear", "log")
    for panel, name in ((loss, "loss"), (cosine, "gradient_cosine"), (height, "height")):
        curves = [line for line in panel.lines if line.get_marker() != "None"]
        assert len(curves) == 6
        for curve, rate in zip(curves, DEFAULT["relative_lr"], strict=True):
            np.testing.assert_array_equal(curve.get_xdata(), np.arange(31))
            np.testing.assert_array_equal(curve.get_ydata(), rows(table, rate, name))


@pytest.mark.parametrize("eigenvalues", [[1.0, 0.08], [0.08, 1.0]])
def test_trajectories_lie_in_a_valley_along_x(eigenvalues: list[float]) -> None:
    start = [1.0, 3.0] if eigenvalues[0] == 1.0 else [3.0, 1.0]
    figure, table = draw(eigenvalues=eigenvalues, start=start)
    contours, *_ = panels(figure)
    steep, flat = ("first_coordinate", "second_coordinate")[:: 1 if eigenvalues[0] == 1.0 else -1]
    assert len(contours) == 6
    for panel, rate in zip(contours, DEFAULT["relative_lr"], strict=True):
        x, y = rows(table, rate, flat), rows(table, rate, steep)
        path = max(panel.lines, key=lambda line: len(line.get_xdata()))
        count = len(path.get_xdata())
        np.testing.assert_array_equal(path.get_xdata(), x[:count])
        np.testing.assert_array_equal(path.get_ydata(), y[:count])
        low, high = panel.get_ylim()
        assert ((y[: count - 1] >= low) & (y[: count - 1] <= high)).all()
        if count < 31:  # the last point drawn is the first one outside
            assert not low <= y[count - 1] <= high
            assert f"leaves the panel at step {count - 1}" in words(panel)
        else:
            assert "leaves" not in words(panel)
    assert "leaves the panel at step 7" in words(contours[-1])  # 1.1^7 > 1.9
    titles = [" ".join(panel.get_title(loc="left").split()).split(", ")[1] for panel in contours]
    assert titles == ["over-damped", "critical", "under-damped", "under-damped", "edge", "diverging"]


def test_looks_keep_apart_in_colour_in_grey_and_in_shape() -> None:
    figure, _ = draw(relative_lr=[0.1, 0.5, 1.0, 1.2, 1.5, 1.9, 2.0, 2.1, 2.5])
    _, loss, *_ = panels(figure)
    looks = [(line.get_color(), line.get_marker()) for line in loss.lines]
    assert len({color for color, _ in looks}) == len({marker for _, marker in looks}) == 9
    lightness = [float(np.dot(to_rgb(color), [0.2126, 0.7152, 0.0722])) for color, _ in looks]
    assert min(abs(one - other) for one, other in pairwise(lightness)) > 0.1
    widths = [line.get_linewidth() for line in loss.lines]
    assert widths == sorted(widths, reverse=True)  # the later curves do not cover the earlier ones


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"width": "column"},
        {"relative_lr": [0.1, 0.5, 1.0, 1.2, 1.5, 1.9, 2.0, 2.1, 10.0], "steps": 400, "start": [-2.0, 0.0]},
        {"relative_lr": [1.0, 2.5], "steps": 1, "start": [1.0, -0.01]},
        {"relative_lr": [1e200], "steps": 3, "start": [-3.0, 1.0], "eigenvalues": [0.1, 2.0]},
        {"start": [1.0, 0.0], "relative_lr": [1.0]},
        {"eigenvalues": [1.0, 1.0], "start": [-1.0, -1.0], "relative_lr": [0.7]},
    ],
    ids=["default", "column", "nine", "one step", "overflow", "critical", "round"],
)
@pytest.mark.slow
def test_nothing_overlaps_or_leaves_the_sheet(changes: dict[str, Any]) -> None:
    figure, _ = draw(**changes)
    assert_nothing_overlaps(figure)
    render(figure)


def test_what_cannot_be_drawn_is_counted() -> None:
    figure, table = draw(relative_lr=[1.0, 1e5], start=[1.0, 0.0], steps=40)
    _, loss, _, height = panels(figure)
    zeros = int((style.numbers(table, "loss") == 0).sum())
    lost = table["loss"].null_count
    assert zeros == 40
    assert lost > 5
    assert f"{zeros} values of 0 left out" in words(loss)
    assert f"{lost} values beyond float64" in words(loss)
    assert "outside the y range" in words(loss)
    assert "39 values of 0 left out" in words(height)
    figure, _ = draw(relative_lr=[1e200], steps=2)
    assert "no value is above 0" in words(panels(figure)[3])


@pytest.mark.parametrize(
    ("limits", "label"),
    [
        ((0.0, 2.5), "1.5"),
        ((0.0, 4e30), "2.5×10³⁰"),  # noqa: RUF001
        ((1.234e7, 1.236e7), "1.23425×10⁷"),  # noqa: RUF001
        ((1.0000001, 1.0000005), "1.00000015"),
    ],
)
def test_labels_of_a_linear_axis_keep_apart(limits: tuple[float, float], label: str) -> None:
    with style.applied():
        sheet = Figure(figsize=(6.0, 3.0), layout="constrained")
        FigureCanvasAgg(sheet)
        panel = sheet.subplots()
        panel.set_xlim(*limits)
        style.settle(sheet)
        shown = [text.get_text() for text in panel.get_xticklabels()]
    assert label in shown
    assert len(set(shown)) == len(shown)
