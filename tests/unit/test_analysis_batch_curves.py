"""Minima, parabolas and convexity of a batch's curve, on curves whose every number has a closed form."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sgdline.analysis.batch_curves import convexity_gap, convexity_rate, fit_parabola, grid_minimum
from sgdline.analysis.one_step import measure_one_step, step_metrics
from sgdline.tables import provenance, read_table, write_table

LR, H, NOISE = 0.2, 0.5, 0.3
ETAS = np.concatenate([[0.0], LR * np.geomspace(1e-2, 1e2, 41)])
ALPHAS = np.arange(11) / 10


def quadratic_row(**changes: Any) -> dict[str, Any]:
    """The model of papers.md 3.2 in one dimension: own loss 1/2 h (x - c)^2 from x - c = 1, others on average."""
    own = 0.05 + H / 2 * (1 - ETAS * H) ** 2
    # F8: held-out variance (1 - a')^2 V + a'^2 sigma^2 with V = sigma^2 a/(2 - a), a' = eta h.
    relative = LR * H
    variance = NOISE**2 * relative / (2 - relative)
    others = 0.05 + H / 2 * ((1 - ETAS * H) ** 2 * variance + (ETAS * H) ** 2 * NOISE**2)
    lowest = float(ETAS[own.argmin()])
    even = np.linspace(0, 2 * lowest, 21)
    row: dict[str, Any] = {"step": 7, "epoch": 0.5, "lr": LR, "batch": 0, "gradient_norm": 1.0, "step_sizes": ETAS}
    row |= {"own_loss": own, "other_loss": others, "validation_loss": others + 0.1, "quadratic_step_sizes": even}
    row |= {"quadratic_own_loss": 0.05 + H / 2 * (1 - even * H) ** 2, "train_loss": 0.3, "status": "ok"}
    return row | changes


def test_the_model_gives_the_predicted_ratio() -> None:
    found = step_metrics(quadratic_row())
    spacing = 10 ** (4 / 40)
    # Own optimum 1/h = 2, held-out optimum lr/2 = 0.1, each known to half a step of the grid.
    assert found["own_min_step_size"] == pytest.approx(1 / H, rel=spacing**0.5 - 1 + 1e-6)
    assert found["other_min_step_size"] == pytest.approx(LR / 2, rel=spacing**0.5 - 1 + 1e-6)
    assert found["step_size_ratio"] == pytest.approx(found["predicted_ratio"], rel=spacing**0.5 - 1 + 1e-6)
    assert found["validation_step_size_ratio"] == found["step_size_ratio"]
    assert found["own_start_loss"] == 0.05 + H / 2
    assert found["validation_min_loss"] == pytest.approx(found["other_min_loss"] + 0.1)
    assert not found["own_min_at_edge"]
    assert found["r_squared"] == pytest.approx(1.0, abs=1e-12)
    assert found["largest_residual"] < 1e-12
    assert found["convexity_rate"] == 1.0
    lowest = found["own_min_step_size"]
    expected = [0.05 + H / 2, -(H**2) * (2 * lowest), H**3 / 2 * (2 * lowest) ** 2]
    np.testing.assert_allclose(found["coefficients"], expected, rtol=1e-10)


def test_the_first_of_equal_minima_counts_and_wild_values_do_not() -> None:
    places = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    found = grid_minimum(places, [3.0, 2.0, 1.0, 1.0, math.nan, -math.inf])
    assert found is not None
    assert (found.index, found.place, found.value, found.at_edge) == (2, 2.0, 1.0, False)
    assert grid_minimum(places, [math.nan] * 6) is None
    for values, place in (([1, 2, 3, 4, 5, 6], 0.0), ([2, 1, 3, 4, 5, 6], 1.0), ([6, 5, 4, 3, 2, 1], 5.0)):
        edge = grid_minimum(places, values)
        assert edge is not None
        assert (edge.place, edge.at_edge) == (place, True)


def test_parabolas_agree_with_polyfit() -> None:
    rng = np.random.default_rng(3)
    for scale in (1e-6, 1.0, 1e6):
        places = np.linspace(0.0, 3.0 * scale, 21)
        values = rng.standard_normal(21)
        found = fit_parabola(places, values)
        assert found is not None
        expected = np.polyfit(places / places[-1], values, 2)[::-1]
        np.testing.assert_allclose(found.coefficients, expected, rtol=1e-9, atol=1e-12)
        residuals = values - np.polyval(expected[::-1], places / places[-1])
        assert found.r_squared == pytest.approx(1 - residuals.var() / values.var(), abs=1e-12)
        assert found.largest_residual == pytest.approx(np.abs(residuals).max())
    assert fit_parabola([0.0, 1.0, 2.0, 3.0], [1.0, math.inf, 1.0, 1.0]) is None
    flat = fit_parabola([0.0, 1.0, 2.0, 3.0], [2.0] * 4)
    assert flat is not None
    assert math.isnan(flat.r_squared)


def test_convexity_rate_counts_second_differences() -> None:
    places = np.linspace(0, 2 * np.pi, 41)
    inner = np.sin(places)[1:-1]
    # The sine bends upwards where it is negative; by rounding only where it is 0.
    assert convexity_rate(places, np.sin(places)) == (inner <= 1e-9).mean()
    assert convexity_rate(places, (places - 1) ** 2) == 1.0
    assert convexity_rate(places, -((places - 1) ** 2)) == 0.0
    assert convexity_rate(places, 3 * places + 1) == 1.0  # rounding is no bend
    dip = np.zeros(41)
    dip[20] = 1.0
    assert convexity_rate(places, dip) == 38 / 39
    assert convexity_rate(places, places + 0.4e-6 * places[-1] * dip) == 1.0  # twice that is below the tolerance
    assert convexity_rate(places, places + 0.6e-6 * places[-1] * dip) == 38 / 39
    # Uneven places: the same parabola is as convex, and a straight line as straight.
    uneven = np.concatenate([np.arange(5.0), 5.0 + 4.0 * np.arange(6)])
    assert convexity_rate(uneven, uneven**2) == 1.0
    assert convexity_rate(uneven, -(uneven**2)) == 0.0
    assert convexity_rate(uneven, -uneven) == 1.0
    assert math.isnan(convexity_rate([0, 1, 2], [0, math.nan, 1]))
    assert math.isnan(convexity_rate([0, 1], [0, 1]))


def test_convexity_gaps_have_closed_forms() -> None:
    # a(1 - a) rises 1/4 above its chord, which is 0, over a range of 1/4.
    assert convexity_gap(ALPHAS, ALPHAS * (1 - ALPHAS)) == pytest.approx(1.0)
    # The same on a slope of 1: still 1/4 above the chord, over a range of 1.
    assert convexity_gap(ALPHAS, ALPHAS + ALPHAS * (1 - ALPHAS)) == pytest.approx(0.25)
    assert convexity_gap(ALPHAS, (ALPHAS - 0.3) ** 2) == 0.0
    assert convexity_gap(ALPHAS, 2 - ALPHAS) == pytest.approx(0.0, abs=1e-12)
    assert math.isnan(convexity_gap(ALPHAS, np.full(11, 2.0)))
    assert math.isnan(convexity_gap(ALPHAS, [math.nan, *ALPHAS[1:]]))


def test_what_does_not_exist_is_null(tmp_path: Path) -> None:
    falling = np.linspace(1.0, 0.5, ETAS.size)
    rows = [
        quadratic_row(),
        # A step never helps the others: no ratio to them, but one to the validation set.
        quadratic_row(batch=1, other_loss=1.0 + ETAS),
        # The own loss falls to the end of the grid: its minimum may lie beyond.
        quadratic_row(batch=2, own_loss=falling),
        quadratic_row(batch=3, status="flat", own_loss=1.0 + ETAS, quadratic_step_sizes=None, quadratic_own_loss=None),
        quadratic_row(
            batch=4, status="non_finite", own_loss=np.full(ETAS.size, np.nan), other_loss=np.full(ETAS.size, np.nan),
            validation_loss=None, quadratic_step_sizes=None, quadratic_own_loss=None,
        ),
        quadratic_row(step=20, epoch=1.0, train_loss=0.125),
    ]  # fmt: skip
    source, output = tmp_path / "one_step.arrow", tmp_path / "metrics.arrow"
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    write_table(source, "one_step", columns, provenance={"batch_norm": "train", "samples": 90})
    measure_one_step(source, output, steps=20, provenance={"seed": 3})
    table = read_table(output, "one_step_metrics")
    whole, stuck, edge, flat, lost, _ = table.to_pylist()
    assert whole["step_size_ratio"] is not None
    assert stuck["step_size_ratio"] is None
    assert stuck["validation_step_size_ratio"] == whole["validation_step_size_ratio"]
    assert (stuck["other_min_step_size"], stuck["other_min_at_edge"]) == (0.0, True)
    assert edge["own_min_at_edge"]
    assert edge["step_size_ratio"] is edge["predicted_ratio"] is None
    assert edge["r_squared"] is not None
    assert (flat["own_min_step_size"], flat["own_min_at_edge"], flat["r_squared"]) == (0.0, True, None)
    assert {lost[name] for name in lost if name.startswith(("own_", "other_", "validation_"))} == {None}
    assert [row["status"] for row in table.to_pylist()] == ["ok", "ok", "ok", "flat", "non_finite", "ok"]
    assert set(table["end_train_loss"].to_pylist()) == {0.125}
    assert provenance(table)["samples"] == 90
    # A run that did not get to its end has no trained network.
    measure_one_step(source, output, steps=30, provenance={})
    assert set(read_table(output, "one_step_metrics")["end_train_loss"].to_pylist()) == {None}
