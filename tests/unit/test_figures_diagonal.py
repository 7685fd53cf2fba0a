"""Figures of the diagonal linear networks: nothing overlaps, losses and divergence are told."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from declared import default_settings, toy_of
from drawn_figures import assert_nothing_overlaps, render, sheet_of
from matplotlib.figure import Figure

from sgdline.figures.grammar import style
from sgdline.tables.kind import kind_of

FIGURES = {
    "diagonal_networks": "diagonal_networks",
    "diagonal_plane": "diagonal_plane",
    "diagonal_frames": "diagonal_plane",
    "diagonal_extras": "diagonal_extras",
}
SMALL: dict[str, Any] = {
    "samples": 12, "dimensions": 15, "nonzero": 3, "test_samples": 40, "updates": 1000, "index_seeds": [1, 2, 3],
    "perturbed_starts": 1,
}  # fmt: skip
OWN: dict[str, dict[str, Any]] = {
    "diagonal_networks": {"evaluations": 60},
    "diagonal_plane": {"resolution": 15, "kept_first": 50, "kept_later": 20},
    "diagonal_extras": {"evaluations": 12, "projection_steps": 30},
}
LOST = {"method": "sgd", "lr": 4.0, "decay_at": 0.5, "decay_factor": 2.0}
GENTLE = [
    {"method": "sgd", "lr": 0.05, "decay_at": None, "decay_factor": 1.0},
    {"method": "sgd", "lr": 0.15, "decay_at": 0.5, "decay_factor": 3.0},
    {"method": "gd", "lr": 0.5, "decay_at": 0.3, "decay_factor": 3.0},
]


def settings_of(figure: str, **changes: Any) -> dict[str, Any]:
    toy = FIGURES[figure]
    defaults = default_settings("toy", toy)
    return {"toy": "a_name", **defaults, **SMALL, **OWN[toy], "settings": GENTLE, **changes}


def draw(figure: str, options: dict[str, Any] | None = None, **changes: Any) -> tuple[Figure, pa.Table]:
    settings = settings_of(figure, **changes)
    toy = FIGURES[figure]
    columns = toy_of(toy, {key: entry for key, entry in settings.items() if key != "toy"}).simulate()
    table = pa.table(columns, schema=kind_of(toy).schema)
    with style.applied():
        drawn = sheet_of(figure, **(options or {})).draw({toy: table}, settings=settings)
    return drawn, table


@pytest.mark.parametrize(
    ("figure", "settings"),
    [
        *((figure, [*GENTLE[:2], LOST]) for figure in FIGURES),
        ("diagonal_networks", GENTLE),
        *((figure, [LOST]) for figure in ("diagonal_networks", "diagonal_frames", "diagonal_extras")),
    ],
)
@pytest.mark.slow
def test_nothing_overlaps_or_leaves_the_sheet(figure: str, settings: list[dict[str, Any]]) -> None:
    drawn, _ = draw(figure, settings=settings)
    assert_nothing_overlaps(drawn)
    render(drawn)
    footer = drawn.texts[1].get_text().replace("\n", " ")
    assert "a_name" in footer
    assert ("DIVERGED CHAINS" in footer) == (LOST in settings)
    lost = "SGD 4, 50 %: 3 of 3 + 1 of 1" if FIGURES[figure] != "diagonal_plane" else "SGD, lr 4, /2 at 50 %: 4 of 4"
    assert (lost in footer) == (LOST in settings)
    for panel in drawn.axes:
        assert panel.lines or panel.collections or panel.texts


def test_medians_leave_diverged_chains_out() -> None:
    figure, table = draw("diagonal_networks", settings=[GENTLE[0], LOST])
    train = figure.axes[0]
    rows = table.to_pylist()
    iterations = sorted({row["iteration"] for row in rows})
    losses = np.array([row["train_loss"] for row in rows if row["setting"] == 0]).reshape(4, -1)
    thick = [line for line in train.lines if line.get_linewidth() == 1.4 and len(line.get_xdata()) > 2]
    assert len(thick) == 1  # of the setting that is lost there is none
    np.testing.assert_array_equal(thick[0].get_xdata(), iterations)
    np.testing.assert_allclose(thick[0].get_ydata(), np.median(losses[:3], axis=0))  # not the changed start
    assert any(line.get_marker() == "x" for line in train.lines)
    written = [text.get_text() for text in figure.axes[-1].texts]
    assert {"0 of 3 + 0 of 1", "3 of 3 + 1 of 1"} <= set(written)


def test_decays_and_phases_are_marked() -> None:
    figure, _ = draw("diagonal_networks")
    for panel in figure.axes[:4]:
        upright = {tuple(line.get_xdata()) for line in panel.lines if len(line.get_xdata()) == 2}
        assert {(300, 300), (500, 500)} <= upright
    bars = [line for line in figure.axes[0].lines if line.get_linewidth() == 4.0]
    assert [list(bar.get_xdata()) for bar in bars] == [[250.0, 500], [150.0, 300]]


@pytest.mark.slow
def test_further_descents_are_named_and_drawn() -> None:
    plain = {"lr": 0.5, "decay_at": None, "decay_factor": 1.0}
    extras = [
        {**plain, "method": "gd", "weight_decay": 0.001, "balancedness": 0.002},
        {**plain, "method": "normalised_gd", "lr": 0.01},
        {**plain, "method": "n_sam", "rho": 0.2},
        {**plain, "method": "one_sam", "rho": 0.1, "decay_at": 0.5, "decay_factor": 2.0},
    ]
    figure, table = draw("diagonal_extras", settings=extras, perturbed_starts=0)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "GD, lr 0.5 constant, weight decay 0.001, balancedness 0.002", "normalised GD, lr 0.01 constant",
        "n-SAM, lr 0.5 constant, rho 0.2", "1-SAM, lr 0.5, /2 at 50 %, rho 0.1",
    ]  # fmt: skip
    rows = table.to_pylist()
    for panel, name in ((figure.axes[0], "train_loss"), (figure.axes[3], "test_loss")):
        medians = [line for line in panel.lines if line.get_linewidth() == 1.4 and len(line.get_xdata()) > 2]
        for place, line in enumerate(medians):
            own = [row[name] for row in rows if row["setting"] == place]
            np.testing.assert_array_equal(line.get_ydata(), own)
        assert len(medians) == 4
    assert_nothing_overlaps(figure)


def test_the_plane_draws_signed_and_mirrored_descents() -> None:
    figure, table = draw("diagonal_plane")
    rows = [row for row in table.to_pylist() if row["part"] == "descent" and row["chain"] == 0]
    for panel, prefix in zip(figure.axes[:2], ("", "mirrored_"), strict=True):
        drawn = [line for line in panel.lines if len(line.get_xdata()) > 10]
        assert len(drawn) == len(rows) == 4
        for line, row in zip(drawn, rows, strict=True):
            np.testing.assert_array_equal(line.get_xdata(), row[f"{prefix}first_coordinate"])
            np.testing.assert_array_equal(line.get_ydata(), row[f"{prefix}second_coordinate"])
    thick = [line for line in figure.axes[3].lines if line.get_linewidth() == 1.3]
    assert len({(line.get_color(), line._unscaled_dash_pattern) for line in thick}) == 4  # two of them are SGD
    assert len({line.get_color() for line in thick}) == 4


@pytest.mark.parametrize("figure", FIGURES)
@pytest.mark.slow
def test_columns_hold_their_panels(figure: str) -> None:
    drawn, _ = draw(figure, {"width": "column"})
    assert drawn.get_figwidth() == 3.4
    assert_nothing_overlaps(drawn)
