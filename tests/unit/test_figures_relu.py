"""Figures of the ReLU toys: they draw their table, count lost chains, and nothing overlaps."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from declared import default_settings, toy_of
from drawn_figures import assert_nothing_overlaps, render, sheet_of
from matplotlib.figure import Figure

from sgdline.figures import _relu
from sgdline.figures.grammar import style
from sgdline.tables.kind import kind_of
from sgdline.toys.base import StepSizes

FIGURES = {
    "relu_regression": "relu_regression",
    "relu_snapshots": "relu_regression",
    "teacher_student": "teacher_student",
    "student_neurons": "teacher_student",
}


def step_sizes(lr: float, **changes: Any) -> dict[str, Any]:
    return {"lr": lr, "decay_at": None, "decay_factor": 1.0, "warm_up": 1.0, "warm_up_exponent": 1.0, **changes}


@cache  # several figures show one toy
def simulated(toy: str, settings: str) -> pa.Table:
    return pa.table(toy_of(toy, json.loads(settings)).simulate(), schema=kind_of(toy).schema)


def draw(figure: str, options: dict[str, Any] | None = None, **changes: Any) -> tuple[Figure, pa.Table]:
    toy = FIGURES[figure]
    settings = default_settings("toy", toy)
    settings |= {"other_seeds": 2, "perturbed_starts": 1, "log10_iterations": 2.2, "rank_every": 60}
    settings |= changes
    if settings["runs"] is not None:
        settings["runs"] = [step_sizes(**run) for run in settings["runs"]]
    table = simulated(toy, json.dumps(settings))
    with style.applied():
        drawn = sheet_of(figure, **(options or {})).draw({toy: table}, settings={**settings, "toy": "a_name"})
    return drawn, table


def words(figure: Figure) -> str:
    parts = [text.get_text() for text in figure.texts]
    for panel in figure.axes:
        parts += [panel.get_title(loc="left"), *(text.get_text() for text in panel.texts)]
    parts += [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    return re.sub(r"\s+", " ", " ".join(parts))


@pytest.mark.parametrize(
    ("figure", "changes"),
    [
        *((figure, {}) for figure in FIGURES),
        ("relu_regression", {"other_seeds": 0, "perturbed_starts": 0, "runs": [{"lr": 1e-4}]}),
        ("relu_snapshots", {"snapshots": [5], "runs": [{"lr": 1e-4}, {"lr": 10.0}]}),
        ("teacher_student", {"runs": [{"lr": 50.0}]}),
        (
            "teacher_student",
            {"network": "three_layer", "log10_iterations": 2.0, "runs": [{"lr": 0.01}], "other_seeds": 1},
        ),
        ("student_neurons", {"runs": [{"lr": 0.1}, {"lr": 50.0}, {"lr": 0.2, "warm_up": 2.0}]}),
    ],
)
@pytest.mark.slow
def test_nothing_overlaps_or_leaves_the_sheet(figure: str, changes: dict[str, Any]) -> None:
    drawn, _ = draw(figure, **changes)
    assert_nothing_overlaps(drawn)
    render(drawn)
    assert "a_name" in words(drawn)
    assert "no BatchNorm" in words(drawn)
    for panel in drawn.axes:  # none empty
        assert panel.lines or panel.collections or panel.texts


def test_lost_chains_are_counted_and_left_out() -> None:
    drawn, table = draw("teacher_student", runs=[{"lr": 0.1}, {"lr": 50.0}])
    assert "lr 50, constant: 3 of 3 diverged" in words(drawn)
    assert "4 of 8 chains diverged" in words(drawn)
    low, high = drawn.axes[0].get_ylim()
    sound = style.numbers(table, "train_loss")[style.numbers(table, "run") == 0]
    assert high < 1e3 * sound.max()
    assert low > 1e-3 * sound.min()
    drawn, _ = draw("teacher_student", runs=[{"lr": 50.0}])
    assert "all of them diverged" in words(drawn)
    drawn, _ = draw("student_neurons", runs=[{"lr": 50.0}])
    assert "the published chain diverged at iteration" in words(drawn)


def test_medians_are_those_of_published_chain_and_seeds() -> None:
    drawn, table = draw("teacher_student", runs=[{"lr": 0.1, "decay_at": 0.3, "decay_factor": 2.0}])
    own = [chain != "perturbed" for chain in table["chain"].to_pylist()]
    losses = style.numbers(table, "train_loss")[own].reshape(-1, 3)
    curve = drawn.axes[0].lines[0]
    np.testing.assert_allclose(curve.get_ydata(), np.median(losses, axis=1))
    np.testing.assert_allclose(drawn.axes[0].lines[1].get_ydata(), losses[:, 0])
    decay = [line for line in drawn.axes[0].lines if len(set(np.atleast_1d(line.get_xdata()))) == 1]
    assert 47 in [np.atleast_1d(line.get_xdata())[0] for line in decay if len(line.get_xdata())]  # floor(0.3 * 159)
    assert _relu.of_layer(table, "sparsity", 0).shape == (table.num_rows,)
    assert "lr 0.1, /2 at 30 %" in words(drawn)


def test_legends_name_the_step_that_is_reached() -> None:
    run = StepSizes(lr=0.04, decay_at=0.5, decay_factor=5.0, warm_up=6.0, warm_up_exponent=0.5)
    assert _relu.setting_name(run, iterations=10001) == "lr 0.04 to 0.181, /5 at 50 %"


def test_snapshots_are_those_that_were_asked_for() -> None:
    drawn, table = draw("relu_snapshots", snapshots=[5, 120, 900])
    last = max(table["evaluation"].to_pylist())
    kept = [row is not None for row in table["fitted"].to_pylist()]
    assert {place for place, there in zip(table["evaluation"].to_pylist(), kept, strict=True) if there} == {
        5,
        120,
        last,
    }
    assert drawn.axes[0].get_title(loc="left") == "(a) iteration 5"
    assert len(drawn.axes) == 3
    row = next(i for i, place in enumerate(table["evaluation"].to_pylist()) if place == 120)
    np.testing.assert_allclose(drawn.axes[1].lines[0].get_ydata(), table["fitted"][row].as_py())


@pytest.mark.parametrize("figure", FIGURES)
@pytest.mark.slow
def test_columns_hold_their_panels(figure: str) -> None:
    drawn, _ = draw(figure, {"width": "column"})
    assert drawn.get_figwidth() == 3.4
    assert_nothing_overlaps(drawn)
