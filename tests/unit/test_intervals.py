"""Intervals between iterates: floor, barriers and heights in closed form, read off lines, averaged over epochs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from line_tables import make_line_table
from published_pickles import LR, synthetic_lines, write_run

from sgdline.analysis.intervals import average_intervals, measure_intervals, measure_valleys
from sgdline.data.published_lines import import_lines
from sgdline.errors import SgdlineError
from sgdline.tables import kind_of, provenance, read_table, write_table

ALPHAS = np.arange(11) / 10


def trace_table(steps: Sequence[int], *, per_epoch: int = 4, **columns: Sequence[Any]) -> pa.Table:
    rows = {
        "step": list(steps),
        "epoch": [step / per_epoch for step in steps],
        "lr": [0.1] * len(steps),
        "batch_loss": [1.0] * len(steps),
        "gradient_norm": [1.0] * len(steps),
        "direction_norm": [1.0] * len(steps),
        "gradient_cosine": [None if step == 0 else -step / 100 for step in steps],
        "distance_from_start": [float(step) for step in steps],
        "parameter_norm": [10.0 + step for step in steps],
        "status": ["ok"] * len(steps),
        **columns,
    }
    return pa.Table.from_pydict(rows, schema=kind_of("trace").schema)


def interp_table(
    curves: Sequence[Any],
    *,
    steps: Sequence[int] | None = None,
    per_epoch: int = 4,
    status: Sequence[str] | None = None,
) -> pa.Table:
    steps = range(len(curves)) if steps is None else steps
    rows = {
        "step": list(steps),
        "epoch": [step / per_epoch for step in steps],
        "lr": [0.1] * len(curves),
        "step_length": [0.5] * len(curves),
        "alphas": [ALPHAS] * len(curves),
        "train_loss": [np.asarray(curve, dtype=np.float64) for curve in curves],
        "train_accuracy": [None] * len(curves),
        "status": ["ok"] * len(curves) if status is None else list(status),
    }
    return pa.Table.from_pydict(rows, schema=kind_of("interp").schema)


def analysed(
    folder: Path, table: pa.Table, trace: pa.Table | None = None, *, source: str = "interp", **facts: Any
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    folder.mkdir(exist_ok=True, parents=True)
    write_table(folder / "source.arrow", source, table, provenance={"seed": 5, "batch_norm": "train", **facts})
    trace = trace_table(range(12)) if trace is None else trace
    write_table(folder / "trace.arrow", "trace", trace, provenance={})
    files = folder / "intervals.arrow", folder / "interval_epochs.arrow"
    measure_intervals(
        folder / "source.arrow", folder / "trace.arrow", files[0], source=source, provenance={"code": "x"}
    )
    average_intervals(files[0], folder / "trace.arrow", files[1], provenance={"code": "x"})
    return tuple(read_table(file, file.stem).to_pylist() for file in files)  # type: ignore[return-value]


# -- closed forms ------------------------------------------------------------------------------------------------------


def parabola(curvature: float, slope: float, start: float, length: float) -> Callable[[Any], Any]:
    """L along an update of this length: start + slope * s + curvature / 2 * s^2."""
    return lambda alpha: start + slope * alpha * length + curvature / 2 * (alpha * length) ** 2


@pytest.mark.parametrize("vertex", [0.1, 0.3, 0.5, 0.8])
def test_a_parabola_has_the_heights_of_its_closed_form(vertex: float) -> None:
    # L = 2 - k s* s + k/2 s^2: the vertex s* = vertex * length lies k/2 s*^2 below the start.
    k, length = 3.0, 0.7
    s = vertex * length
    curve = parabola(k, -k * s, 2.0, length)(ALPHAS)
    valley = measure_valleys(ALPHAS, curve[None])
    below_start, below_end = k / 2 * s**2, k / 2 * (length - s) ** 2
    assert valley.floor_alpha[0] == vertex
    assert valley.floor_loss[0] == pytest.approx(2.0 - below_start, rel=1e-14)
    assert valley.height[0] == pytest.approx((below_start + below_end) / 2, rel=1e-12)
    assert valley.start_height[0] == pytest.approx(below_start, rel=1e-12)
    assert valley.interior[0]
    assert not valley.barrier[0]
    assert np.isnan(valley.barrier_height[0])


@given(
    st.floats(0, 100), st.floats(-10, 10), st.floats(0.01, 5), st.floats(1e-4, 10), st.integers(3, 40), st.floats(0, 1)
)
def test_a_convex_loss_has_no_barrier(
    curvature: float, slope: float, start: float, length: float, count: int, kink: float
) -> None:
    alphas = np.arange(count) / (count - 1)
    curve = parabola(curvature, slope, start + 60, length)(alphas) + np.abs(alphas - kink)
    valley = measure_valleys(alphas, curve[None])
    assert not valley.barrier[0]
    lowest = min(curve)
    assert valley.floor_loss[0] == lowest
    assert valley.height[0] == (curve[0] + curve[-1] - 2 * lowest) / 2
    assert valley.start_height[0] == curve[0] - lowest
    assert valley.interior[0] == (lowest < min(curve[0], curve[-1]))


def test_a_descending_or_rising_loss_has_its_floor_at_an_end() -> None:
    falling, rising, flat = 3 - ALPHAS, 3 + ALPHAS, np.full(11, 2.0)
    level_end = np.array([3.0, *[2.0] * 10])
    valley = measure_valleys(ALPHAS, [falling, rising, flat, level_end])
    assert not valley.interior.any()
    assert valley.floor_alpha.tolist() == [1.0, 0.0, 0.0, 1.0]
    np.testing.assert_allclose(valley.height, [0.5, 0.5, 0.0, 0.5])
    np.testing.assert_allclose(valley.start_height, [1.0, 0.0, 0.0, 1.0])


@pytest.mark.parametrize("rounding", [0.0, 1e-6])
@pytest.mark.parametrize("error", [0.0, 1e-4])
@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_a_barrier_counts_from_its_tolerance_on(scale: float, error: float, rounding: float) -> None:
    # Ends 1 and 0.8 (times the scale), and a bump of known height above the higher one.
    tolerance = (1e-7 + 2 * rounding) * scale + error
    for factor, seen in ((0.99, False), (1.01, True), (5.0, True)):
        curve = scale * (1 - 0.2 * ALPHAS)
        curve[3] = scale + factor * tolerance
        valley = measure_valleys(ALPHAS, [curve, curve[::-1]], error=error, rounding=rounding)
        assert valley.barrier.tolist() == [seen, seen]
        np.testing.assert_allclose(valley.tolerance, tolerance, rtol=1e-12)
        if seen:
            np.testing.assert_allclose(valley.barrier_height, factor * tolerance, rtol=1e-7)


def test_a_cubic_with_a_known_barrier(tmp_path: Path) -> None:
    # a (alpha - 1/2)^2 turned over: 0.25 a above both ends.
    hill = 1 + 0.4 * ALPHAS * (1 - ALPHAS)
    hollow = 1 - 0.4 * ALPHAS * (1 - ALPHAS)
    both = 1 + 20 * ALPHAS * (1 - ALPHAS) * (0.5 - ALPHAS)  # a hill, then a hollow
    rows, [epoch, *_] = analysed(tmp_path, interp_table([hill, hollow, both]))
    assert [row["barrier"] for row in rows] == [True, False, True]
    assert rows[0]["barrier_height"] == pytest.approx(0.1, rel=1e-12)
    assert rows[1]["barrier_height"] is None
    assert rows[2]["barrier_height"] == pytest.approx(20 * 0.2 * 0.8 * 0.3, rel=1e-12)
    assert [row["height"] for row in rows] == pytest.approx([0.0, 0.1, 0.96], abs=1e-12)
    assert [row["interior_minimum"] for row in rows] == [False, True, True]
    assert rows[2]["floor_alpha"] == 0.8
    assert rows[0]["barrier_tolerance"] == pytest.approx(1e-7)
    assert (epoch["barriers"], epoch["intervals"]) == (2, 3)
    assert epoch["barrier_height_mean"] == pytest.approx((0.1 + 0.96) / 2)
    assert epoch["barrier_height_max"] == pytest.approx(0.96)
    assert epoch["share_interior"] == pytest.approx(2 / 3)


def test_rounded_losses_need_a_higher_barrier(tmp_path: Path) -> None:
    curve = 2.0 - ALPHAS
    curve[1] = 2.0 + 3e-6
    for rounding, seen in ((None, True), (0.0, True), (1e-6, False)):
        rows, _ = analysed(tmp_path, interp_table([curve]), precision_error=rounding)
        assert rows[0]["barrier"] == seen
        assert rows[0]["barrier_tolerance"] == pytest.approx(2 * (1e-7 + 2 * (rounding or 0.0)))


def test_what_the_trace_says_is_joined_by_update(tmp_path: Path) -> None:
    steps = [1, 4, 9]
    rows, _ = analysed(tmp_path, interp_table([2 - ALPHAS] * 3, steps=steps))
    for row, step in zip(rows, steps, strict=True):
        assert row["step"] == step
        assert row["gradient_cosine"] == -step / 100
        assert row["distance_from_start"] == step
        assert row["parameter_norm"] == 10 + step
    facts = provenance(read_table(tmp_path / "intervals.arrow", "intervals"))
    assert (facts["measured_by"], facts["code"], facts["batch_norm"]) == ("interp", "x", "train")
    assert facts["source"]["kind"] == "interp"
    with pytest.raises(SgdlineError, match=r"trace\.arrow must hold every measured update, got none for update 9"):
        analysed(tmp_path, interp_table([2 - ALPHAS] * 3, steps=steps), trace_table(range(9)))


def test_alphas_that_do_not_fit_are_refused() -> None:
    for alphas in ([0.0, 1.0], [0.1, 0.5, 1.0], [0.0, 0.5, 0.9], [0.0, 0.5, 0.5, 1.0]):
        with pytest.raises(ValueError, match="alphas must run from 0 to 1"):
            measure_valleys(alphas, np.ones((1, len(alphas))))
    with pytest.raises(ValueError, match=r"losses must have the shape \(T, 3\)"):
        measure_valleys([0.0, 0.5, 1.0], np.ones((2, 4)))


# -- epochs ------------------------------------------------------------------------------------------------------------


def test_epochs_are_averages_of_their_intervals(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    steps = [0, 1, 2, 3, 4, 6, 11]  # of epochs 1, 2 and 3 of four updates each
    curves = [rng.uniform(0.5, 2.0, size=11) for _ in steps]
    rows, epochs = analysed(tmp_path, interp_table(curves, steps=steps))
    assert [row["epoch"] for row in epochs] == [1, 2, 3]
    assert [row["intervals"] for row in epochs] == [4, 2, 1]
    assert [row["distance_from_start"] for row in epochs] == [3.0, 7.0, 11.0]
    for row in epochs:
        own = [each for each in rows if int(each["epoch"]) + 1 == row["epoch"]]
        assert row["share_interior"] == sum(each["interior_minimum"] for each in own) / len(own)
        assert row["barriers"] == sum(each["barrier"] for each in own)
        assert row["start_loss_mean"] == pytest.approx(sum(each["start_loss"] for each in own) / len(own))
        for name in ("height", "start_height", "gradient_cosine"):
            values = [each[name] for each in own if each[name] is not None]
            mean = sum(values) / len(values)
            variance = sum((value - mean) ** 2 for value in values) / len(values)
            assert row[f"{name}_mean"] == pytest.approx(mean, rel=1e-12)
            assert row[f"{name}_variance"] == pytest.approx(variance, rel=1e-9, abs=1e-18)
            assert row[f"{name}_std"] == pytest.approx(variance**0.5, rel=1e-9, abs=1e-12)
        heights = [each["barrier_height"] for each in own if each["barrier"]]
        assert row["barrier_height_mean"] == (pytest.approx(np.mean(heights)) if heights else None)
        assert row["barrier_height_max"] == (max(heights) if heights else None)
        assert row["gradient_cosine_min"] == min(e["gradient_cosine"] for e in own if e["gradient_cosine"] is not None)
    # The first update of a run has no cosine.
    assert epochs[0]["gradient_cosine_mean"] == pytest.approx(-0.02)


def test_a_lost_run_keeps_its_finite_intervals(tmp_path: Path) -> None:
    lost = np.where(ALPHAS > 0.4, np.nan, 2.0)
    infinite = np.where(ALPHAS > 0.8, np.inf, 2.0)
    curves = [2 - ALPHAS, lost, infinite, np.full(11, 3.0)]
    status = ["ok", "non_finite", "non_finite", "zero_direction"]
    distances = [0.0, 1.0, 2.0, float("nan")]
    trace = trace_table(range(4), distance_from_start=distances)
    rows, [epoch] = analysed(tmp_path, interp_table(curves, status=status), trace)
    assert [row["status"] for row in rows] == status
    for row in rows[1:]:
        for column in ("floor_loss", "floor_alpha", "interior_minimum", "barrier", "barrier_height", "height"):
            assert row[column] is None
    assert [row["start_loss"] for row in rows] == [2.0, 2.0, 2.0, 3.0]
    assert [row["end_loss"] for row in rows] == [1.0, None, None, 3.0]
    assert (epoch["intervals"], epoch["left_out"], epoch["barriers"]) == (1, 3, 0)
    assert epoch["height_mean"] == 0.5
    assert epoch["distance_from_start"] == 2.0


def test_empty_tables_stay_empty(tmp_path: Path) -> None:
    assert analysed(tmp_path, interp_table([])) == ([], [])
    lines = make_line_table([])
    assert analysed(tmp_path, lines, source="line") == ([], [])


def test_imported_lines_have_no_cosine_and_no_distance(tmp_path: Path) -> None:
    nothing = [None] * 3
    trace = trace_table(range(3), gradient_cosine=nothing, distance_from_start=nothing, parameter_norm=nothing)
    rows, [epoch] = analysed(tmp_path, interp_table([2 - ALPHAS] * 3), trace)
    assert (rows[1]["gradient_cosine"], epoch["gradient_cosine_mean"], epoch["gradient_cosine_min"]) == (None,) * 3
    assert (epoch["distance_from_start"], epoch["intervals"]) == (None, 3)


# -- lines -------------------------------------------------------------------------------------------------------------

WAVE = lambda s: 2 - s + 3 * s**2 + 0.02 * np.sin(25 * s)  # noqa: E731


@pytest.mark.parametrize("length", [0.05, 0.31, 0.5, 0.9])
def test_an_adaptive_line_is_read_by_its_interpolant(tmp_path: Path, length: float) -> None:
    # Two panels to the right; 0.9 lies in the second one.
    lines = make_line_table(
        [WAVE], panels=[(1, 2)], nodes=33, direction_norm=10 * length, steps=[3], interpolation_error=1e-6
    )
    [row], [epoch] = analysed(tmp_path, lines, source="line")
    exact = WAVE(ALPHAS * length)
    np.testing.assert_allclose(row["train_loss"], exact, rtol=0, atol=1e-7)
    assert row["start_loss"] == lines["train_loss"][0].as_py()[lines["positions"][0].as_py().index(0.0)]
    assert row["end_loss"] == row["train_loss"][-1] == lines["step_train_loss"][0].as_py()
    expected = measure_valleys(ALPHAS, exact[None], error=1e-6)
    assert row["height"] == pytest.approx(expected.height[0], abs=1e-7)
    assert row["floor_alpha"] == expected.floor_alpha[0]
    assert row["barrier"] == expected.barrier[0]
    assert row["barrier_tolerance"] == pytest.approx(1e-7 * max(exact[0], exact[-1]) + 1e-6)
    assert (row["step_length"], row["status"], epoch["intervals"]) == (pytest.approx(length), "ok", 1)


def test_a_bump_within_a_line_s_error_is_no_barrier(tmp_path: Path) -> None:
    def bump(s: Any) -> Any:
        return 1 - 0.1 * s + 0.01 * np.exp(-(((s - 0.05) / 0.05) ** 2))

    exact = bump(ALPHAS * 0.4)
    height = exact[1:-1].max() - exact[0]
    assert height > 1e-4
    for error, seen in ((0.9 * height, True), (1.1 * height, False)):
        lines = make_line_table([bump], nodes=65, direction_norm=4.0, interpolation_error=error)
        [row], _ = analysed(tmp_path, lines, source="line")
        assert row["barrier"] == seen
        assert row["barrier_height"] == (pytest.approx(height, rel=1e-4) if seen else None)


@pytest.mark.parametrize("length", [0.02, 0.1, 0.13, 0.27, 0.5])
def test_a_line_on_a_grid_takes_its_step_for_a_node(tmp_path: Path, length: float) -> None:
    def convex(s: Any) -> Any:
        return 2 - s + 3 * np.asarray(s) ** 2

    lines = make_line_table(
        [convex], positions="grid", half_width=0.5, resolution=0.1, direction_norm=10 * length, steps=[3]
    )
    [row], _ = analysed(tmp_path, lines, source="line")
    nodes = [*[0.1 * k for k in range(6) if 0.1 * k < length - 1e-9], length]
    expected = np.interp(ALPHAS * length, nodes, [convex(node) for node in nodes])
    np.testing.assert_allclose(row["train_loss"], expected, rtol=1e-12)
    assert (row["start_loss"], row["end_loss"]) == (2.0, lines["step_train_loss"][0].as_py())
    assert row["barrier"] is False
    # A rising loss: between its neighbours on the grid the curve lies above the loss at the step.
    rising = make_line_table([lambda s: 2 + np.asarray(s) ** 2], positions="grid", resolution=0.1, direction_norm=0.2)
    [row], _ = analysed(tmp_path, rising, source="line")
    assert row["barrier"] is False
    assert np.all(np.array(row["train_loss"]) <= row["end_loss"])


@pytest.mark.parametrize("positions", ["adaptive", "grid"])
def test_lines_that_do_not_serve_have_no_numbers(tmp_path: Path, positions: Any) -> None:
    def spoilt(s: Any) -> Any:
        return np.where(np.asarray(s) > 0.2, np.nan, 1.0)

    functions = [WAVE, WAVE, WAVE, spoilt, WAVE, spoilt, WAVE]
    status = ["ok", "edge", "unresolved", "non_finite", "zero_direction", "ok", "ok"]
    norms = [3.0, 3.0, 3.0, 3.0, 0.0, 3.0, 6.0]
    lines = make_line_table(functions, status=status, direction_norm=norms, positions=positions)
    rows, epochs = analysed(tmp_path, lines, source="line")
    told = ["ok", "ok", "unresolved", "non_finite", "zero_direction", "non_finite", "out_of_range"]
    assert [row["status"] for row in rows] == told
    for row in rows:
        good = row["status"] == "ok"
        for column in ("floor_loss", "floor_alpha", "interior_minimum", "barrier", "height", "start_height"):
            assert (row[column] is not None) == good, column
        assert row["start_loss"] is not None
    # The measured ends are there, also beyond the line's reach.
    assert rows[6]["end_loss"] == pytest.approx(float(WAVE(0.6)))
    assert np.isfinite(rows[6]["train_loss"]).sum() == 10  # up to 0.54 there is nothing, at 0.6 there is
    assert [(row["intervals"], row["left_out"]) for row in epochs] == [(2, 5)]


def test_lines_of_the_published_sampler_have_intervals_too(tmp_path: Path) -> None:
    lines = synthetic_lines()
    files = {name: tmp_path / f"{name}.arrow" for name in ("line", "trace")}
    import_lines(write_run(tmp_path / "run", lines), **files, interval=0.5, provenance={})
    output = tmp_path / "intervals.arrow"
    measure_intervals(files["line"], files["trace"], output, source="line", provenance={})
    rows = read_table(output, "intervals").to_pylist()
    assert len(rows) == len(lines)
    for row, line in zip(rows, lines, strict=True):
        exact = line.full(ALPHAS * LR * line.direction_norm)
        # Chords of the grid of 0.006 lie up to 10 / 8 * 0.006^2 above the curve.
        np.testing.assert_allclose(row["train_loss"], exact, rtol=0, atol=1e-4)
        assert (row["status"], row["barrier"], row["gradient_cosine"]) == ("ok", False, None)
        assert row["height"] == pytest.approx((exact[0] + exact[-1]) / 2 - exact.min(), abs=1e-4)


def test_a_step_at_the_very_end_of_a_line_is_reached(tmp_path: Path) -> None:
    # 0.1 * (0.3 / 0.1) may be a little above 0.3.
    length = 0.1 * (0.3 / 0.1)
    lines = make_line_table([WAVE], half_width=np.nextafter(0.3, 0), direction_norm=10 * length)
    [row], _ = analysed(tmp_path, lines, source="line")
    assert row["status"] == "ok"
