"""Figures of the quadratic model: they draw their table, say how well it agrees, and nothing overlaps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from declared import default_settings, toy_of
from drawn_figures import assert_nothing_overlaps, render, sheet_of
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sgdline.figures import _averages
from sgdline.figures.grammar import style
from sgdline.quadratic_model import Average
from sgdline.tables.kind import kind_of

FIGURES = {
    "averaged_variance": "averaged_variance",
    "momentum_variance": "momentum_variance",
    "epoch_sampling": "epoch_sampling",
    "equivalent_schedule": "equivalent_schedule",
    "model_trajectory": "quadratic_spectrum",
}
QUICK: dict[str, dict[str, Any]] = {
    "averaged_variance": {"chains": 100, "snapshots": 2},
    "momentum_variance": {"chains": 100, "snapshots": 2},
    "epoch_sampling": {"relative_lr": [0.02, 0.1, 1.0], "chains": 100, "snapshots": 2, "batches_per_epoch": 20},
    "equivalent_schedule": {"chains": 3},
    "quadratic_spectrum": {"updates": 400, "two_point_distance": 100, "chains": 40, "points": 20, "directions": 5},
}


def settings_of(figure: str, **changes: Any) -> dict[str, Any]:
    toy = FIGURES[figure]
    defaults = default_settings("toy", toy)
    return {"toy": "a_name", **defaults, **QUICK[toy], **changes}


def draw(figure: str, **changes: Any) -> tuple[Figure, pa.Table]:
    settings = settings_of(figure, **changes)
    toy = FIGURES[figure]
    columns = toy_of(toy, {key: entry for key, entry in settings.items() if key != "toy"}).simulate()
    table = pa.table(columns, schema=kind_of(toy).schema)
    with style.applied():
        drawn = sheet_of(figure).draw({toy: table}, settings=settings)
    return drawn, table


def words(panel: Axes) -> str:
    return " ".join(" ".join([panel.get_title(loc="left"), *(text.get_text() for text in panel.texts)]).split())


@pytest.mark.parametrize(
    ("figure", "changes"),
    [
        ("averaged_variance", {"relative_lr": [0.3], "ema_decay": [], "two_point_distance": [], "swa_spacing": []}),
        (
            "averaged_variance",
            {"ema_decay": [0.5, 0.9, 0.95], "two_point_distance": [1, 50], "relative_lr": [0.01, 1.9]},
        ),
        ("momentum_variance", {"momentum": [0.0, 0.5, 0.9, 0.95], "two_point_distance": [], "relative_lr": [0.1]}),
        ("epoch_sampling", {}),
        ("epoch_sampling", {"relative_lr": [1.0], "ema_decay": [], "two_point_distance": [], "swa_spacing": []}),
        ("equivalent_schedule", {}),
        ("equivalent_schedule", {"ema_decay": [], "two_point_distance": [], "swa_spacing": []}),
        (
            "equivalent_schedule",
            {"ema_decay": [0.0], "two_point_distance": [1], "swa_count": 5, "swa_spacing": [2], "updates": 9},
        ),
        ("model_trajectory", {}),
        ("model_trajectory", {"noise": "equal", "start": 0.0, "directions": 1, "ema_decay": 0.0}),
        ("model_trajectory", {"updates": 3, "two_point_distance": 3, "points": 2, "chains": 4}),
    ],
)
@pytest.mark.slow
def test_nothing_overlaps_or_leaves_the_sheet(figure: str, changes: dict[str, Any]) -> None:
    drawn, table = draw(figure, **changes)
    with style.applied():
        sheet = replace(sheet_of(figure), width="column")  # type: ignore[call-arg]
        assert_nothing_overlaps(sheet.draw({FIGURES[figure]: table}, settings=settings_of(figure, **changes)))
    assert_nothing_overlaps(drawn)
    render(drawn)
    footer = drawn.texts[1].get_text()
    assert "a_name" in footer
    assert "no BatchNorm" in footer.replace("\n", " ")
    for panel in drawn.axes:  # none empty
        assert panel.lines or panel.collections or panel.texts


def test_the_table_of_variances_is_written_out() -> None:
    figure, table = draw("averaged_variance")
    variance, equivalent, agreement, numbers = figure.axes
    written = [text.get_text() for text in numbers.texts]
    for predicted, simulated in zip(table["predicted"].to_pylist(), table["simulated"].to_pylist(), strict=True):
        assert {f"{predicted:#.4g}", f"{simulated:#.4g}"} <= set(written)
    worst = np.abs(style.numbers(table, "simulated") / style.numbers(table, "predicted") - 1.0).max()
    assert f"largest deviation {100 * worst:.2g} % of 25 values" in words(agreement)
    assert variance.get_xscale() == variance.get_yscale() == equivalent.get_yscale() == "log"
    [rows] = [_averages.rows_of(table, Average("ema", decay=0.95))]
    marks = [line for line in variance.lines if line.get_marker() == "s" and len(line.get_xdata())]
    np.testing.assert_array_equal(marks[0].get_ydata(), style.numbers(table, "simulated")[rows])


def test_schedules_are_drawn_over_the_updates_still_to_go() -> None:
    figure, table = draw("equivalent_schedule")
    ema, *_ = figure.axes
    rows = _averages.rows_of(table, Average("ema", decay=0.97), relative_lr=0.3)
    curves = [line for line in ema.lines if line.get_linestyle() != "None"]
    np.testing.assert_array_equal(curves[1].get_ydata(), style.numbers(table, "step")[rows])
    np.testing.assert_array_equal(curves[1].get_xdata(), np.arange(400, 0, -1))
    low, high = ema.get_xlim()
    assert low > high  # time runs to the right
    outside = sum(status != "ok" for status in table["status"].to_pylist())
    assert outside
    assert any("outside [0, 2]" in words(panel) for panel in figure.axes[:3])
    assert "wanted: below 1e-12" in figure.texts[1].get_text().replace("\n", " ")


def test_sampling_tells_how_often_directions_settle_within_an_epoch() -> None:
    figure, table = draw("epoch_sampling")
    assert "a·N/B of the simulated rates: 0.4, 2, 20" in figure.texts[1].get_text().replace("\n", " ")
    ratios = figure.axes[-1]
    assert ratios.get_xlabel() == "a·N/B"
    rows = _averages.rows_of(table, Average("iterate"), sampling="without_replacement")
    curve = next(line for line in ratios.lines if line.get_marker() == "o")
    np.testing.assert_allclose(
        curve.get_ydata(), style.numbers(table, "simulated")[rows] / style.numbers(table, "predicted")[rows]
    )
