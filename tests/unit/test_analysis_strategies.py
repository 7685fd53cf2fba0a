"""Strategies on every line: closed forms on parabolas, the rules of each case, undefined values; the released rules."""

import itertools

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from line_tables import write_line_table

from sgdline.analysis.kinds.line_strategies import LineStrategies
from sgdline.analysis.metrics import measure_lines
from sgdline.analysis.rates import constant_rate
from sgdline.analysis.released import derivative_at_zero, finite_difference, nearest, released_positions
from sgdline.analysis.strategies import (
    accumulate,
    adapted_lr,
    common_improvement,
    measure_strategies,
    pal_step,
    reused_values,
    rows_by_strategy,
    sgd_name,
)
from sgdline.errors import SgdlineError
from sgdline.tables import kind_of, provenance, read_table

R = 0.006
FACTS = {"code": "abc", "seed": 1}
OPTIONS = {
    "interval": 0.5,
    "resolution": R,
    "sgd_lr": ["auto", 0.05],
    "pal_measuring_step": 0.1,
    "fbpal_every": 100,
    "fbpal_average": 15,
    "compat": False,
    "provenance": FACTS,
}
NAMES = [
    "optimum",
    "direction_batch_minimum",
    "fbpal",
    "fbpal_sgd_lr",
    "fbpal_sgd_step",
    "sgd_original",
    "sgd_auto",
    "sgd_0.05",
    "pal",
]


def parabola(offset, curvature, minimum):
    return lambda s: offset + curvature / 2 * (s - minimum) ** 2


def measure(folder, functions, *, resolution=R, options=(), **lines):
    line = write_line_table(folder / "line.arrow", functions, resolution=resolution, **lines)
    measure_lines(line, folder / "metrics.arrow", window=0.2, resolution=resolution, provenance=FACTS)
    settings = OPTIONS | {"resolution": resolution} | dict(options)
    measure_strategies(line, folder / "metrics.arrow", folder / "strategies.arrow", **settings)
    return read_table(folder / "strategies.arrow", "line_strategies")


def column(table, strategy, name):
    values = rows_by_strategy(table)[strategy][name].to_pylist()
    return np.array([np.nan if value is None else value for value in values], dtype=float)


def statuses(table, strategy):
    return rows_by_strategy(table)[strategy]["status"].to_pylist()


# -- parabolas ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lines", [{}, {"positions": "grid", "resolution": 0.02}], ids=["panels", "grid"])
def test_on_parabolas_with_one_minimum_all_good_strategies_end_in_it(tmp_path, lines):
    minima, curvature, batch_curvature = np.array([0.06, 0.12, -0.08, 0.2]), 5.0, 8.0
    table = measure(
        tmp_path,
        [parabola(1.0, curvature, m) for m in minima],
        direction_batch=[parabola(0.7, batch_curvature, m) for m in minima],
        direction_batch_slope=-batch_curvature * minima,
        direction_norm=np.abs(batch_curvature * minima),
        lr=1 / batch_curvature,
        options={"sgd_lr": [1 / batch_curvature, "auto", 1e-3], "fbpal_every": 1, "fbpal_average": 1},
        **lines,
    )
    exact = ["optimum", "sgd_0.125"]
    down = minima > 0  # PAL takes no step where the slope is positive, and the run itself goes forward on its line
    for name in exact:
        np.testing.assert_allclose(column(table, name, "step_length"), minima, rtol=0, atol=1e-9)
    for name in ("fbpal", "fbpal_sgd_step", "fbpal_sgd_lr", "pal", "sgd_original"):
        np.testing.assert_allclose(column(table, name, "step_length")[down], minima[down], rtol=0, atol=1e-9)
    np.testing.assert_array_equal(column(table, "pal", "step_length")[~down], 0.0)
    for name in (*exact, "fbpal", "fbpal_sgd_step", "fbpal_sgd_lr", "pal", "sgd_original"):
        gain = curvature / 2 * minima[down] ** 2
        np.testing.assert_allclose(column(table, name, "improvement")[down], gain, rtol=0, atol=1e-9)
        np.testing.assert_allclose(column(table, name, "distance")[down], 0, atol=1e-9)
        np.testing.assert_allclose(
            column(table, name, "relative_improvement")[down], gain / (gain + 1e-7), rtol=0, atol=1e-8
        )
    assert set(table["status"].to_pylist()) == {"ok"}


def test_improvement_and_distance_of_steps_that_miss(tmp_path):
    table = measure(
        tmp_path,
        [parabola(1.0, 4.0, 0.1)] * 3,
        direction_batch=[parabola(0.6, 2.0, 0.3)] * 3,
        direction_batch_slope=-0.6,
        direction_norm=0.6,
        lr=0.5,
        options={"sgd_lr": [0.05, "auto"]},
    )
    steps = {"sgd_original": 0.3, "sgd_0.05": 0.03, "sgd_auto": 0.1, "pal": 0.3, "fbpal": 0.1, "optimum": 0.1}
    for name, step in steps.items():
        gain = 2.0 * (0.1**2 - (step - 0.1) ** 2)
        np.testing.assert_allclose(column(table, name, "step_length"), step, rtol=0, atol=1e-9)
        np.testing.assert_allclose(column(table, name, "improvement"), gain, rtol=0, atol=1e-9)
        np.testing.assert_allclose(column(table, name, "distance"), 0.1 - step, rtol=0, atol=1e-9)
    np.testing.assert_allclose(column(table, "direction_batch_minimum", "step_length"), 0.3, atol=R)
    facts = provenance(table)
    assert facts["sgd_lr"] == {"sgd_original": 0.5, "sgd_0.05": 0.05, "sgd_auto": pytest.approx(0.1 / 0.6)}
    assert facts["compat"] is False


def test_rows_come_line_by_line_and_strategy_by_strategy(tmp_path):
    table = measure(tmp_path, [parabola(1, 4, 0.1)] * 2, steps=[3, 6])
    assert table["step"].to_pylist() == [3] * 9 + [6] * 9
    assert table["strategy"].to_pylist() == NAMES * 2


# -- rules -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("slope", "at_zero", "at_mu", "expected"),
    [
        (-1.0, 1.0, 1.0, 0.05),  # a = 0.1/0.01 = 10
        (-1.0, 1.0, 0.95, 0.1),  # a = 5: the vertex is mu itself
        (-1.0, 1.0, 0.5, 0.1),  # a < 0: concave
        (1.0, 1.0, 1.2, 0.0),  # rising
        (0.0, 1.0, 1.2, 0.0),
        (np.nan, 1.0, 1.2, 0.0),
        (-np.inf, 1.0, 1.2, 0.0),
        (-1.0, np.nan, 1.2, 0.0),
        (-1.0, 1.0, np.inf, 0.0),
        (-1.0, 1.0, np.nan, 0.0),
    ],
)
def test_pal_takes_one_case_of_m6_each(slope, at_zero, at_mu, expected):
    assert pal_step([slope], [at_zero], [at_mu], 0.1)[0] == pytest.approx(expected, abs=1e-12)


def test_pal_takes_mu_on_a_straight_line_and_refuses_no_mu():
    assert pal_step(-1.0, 1.0, 0.75, 0.25) == 0.25
    with pytest.raises(ValueError, match="mu must be a positive length, got 0"):
        pal_step(-1.0, 1.0, 1.0, 0.0)


def naive_reuse(values, every, average):
    """M7, each line on its own: the newest value of lines 0 and 1, or the mean of the last ones from `every` on."""
    in_use = []
    for line in range(len(values)):
        seen = [place for place in range(line + 1) if np.isfinite(values[place])]
        later = [values[place] for place in seen if place >= every and place % every == 0]
        first = [values[place] for place in seen if place < every and place in (0, 1)]
        in_use.append(sum(later[-average:]) / len(later[-average:]) if later else first[-1] if first else np.nan)
    return in_use


@given(
    st.lists(st.one_of(st.floats(-10, 10), st.just(float("nan"))), max_size=60),
    st.integers(1, 20),
    st.integers(1, 6),
)
def test_reuse_keeps_the_books_of_m7(values, every, average):
    found = reused_values(values, every=every, average=average)
    np.testing.assert_allclose(found, naive_reuse(values, every, average), rtol=0, atol=1e-12)


def test_reuse_as_released():
    # The first values, 50 and 8 times too large, are used as they are, up to line 99, and never enter the mean.
    values = np.where(np.arange(2000) % 200 < 100, 0.1, 0.3)
    values[:2] = 5.0, 0.8
    found = reused_values(values, every=100, average=15)
    assert found[[0, 1, 2, 99, 100, 199, 200, 300]].tolist() == pytest.approx(
        [5, 0.8, 0.8, 0.8, 0.3, 0.3, 0.2, 0.7 / 3]
    )
    assert found[1999] == pytest.approx((8 * 0.3 + 7 * 0.1) / 15)
    with pytest.raises(ValueError, match="must be at least 1, got 0 and 1"):
        reused_values([1.0], every=0, average=1)


def test_fbpal_sgd_reuses_the_learning_rate_or_the_step(tmp_path):
    # FBPAL ends in the minimum of each line; found on the lines 0, 1, 2 and 4.
    minima, slopes = np.array([0.1, 0.2, 0.15, 0.18, 0.12]), np.array([-1.0, -4.0, -2.0, -0.5, -0.8])
    table = measure(
        tmp_path,
        [parabola(1, 3, m) for m in minima],
        direction_batch_slope=slopes,
        options={"fbpal_every": 2, "fbpal_average": 2},
    )
    np.testing.assert_allclose(column(table, "fbpal_sgd_step", "step_length"), [0.1, 0.2, 0.15, 0.15, 0.135], atol=1e-9)
    rates = minima / np.abs(slopes)
    in_use = np.array([rates[0], rates[1], rates[2], rates[2], (rates[2] + rates[4]) / 2])
    np.testing.assert_allclose(column(table, "fbpal_sgd_lr", "step_length"), in_use * np.abs(slopes), atol=1e-9)


# -- what was not measured ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("positions", ["adaptive", "grid"])
def test_steps_beyond_the_range_have_no_improvement_but_the_run_s_own_has(tmp_path, positions):
    table = measure(
        tmp_path,
        [parabola(1, 3, 0.1)] * 2,
        direction_batch_slope=[-1.0, -1.0],
        direction_norm=[1.0, 10.0],  # with lr 0.1 the second step is 1
        positions=positions,
        options={"sgd_lr": [0.7]},
    )
    assert statuses(table, "sgd_0.7") == ["out_of_range"] * 2
    assert np.isnan(column(table, "sgd_0.7", "improvement")).all()
    assert np.isnan(column(table, "sgd_0.7", "relative_improvement")).all()
    np.testing.assert_allclose(column(table, "sgd_0.7", "distance"), 0.1 - 0.7, atol=1e-9)
    assert statuses(table, "sgd_original") == ["ok"] * 2
    gain = 1.5 * (0.1**2 - 0.9**2)
    assert column(table, "sgd_original", "improvement")[1] == pytest.approx(gain, abs=1e-4)
    sums = accumulate(table)
    assert (sums["sgd_0.7"].out_of_range, sums["sgd_0.7"].missing_improvements) == (2, 2)
    assert (sums["sgd_0.7"].missing_distances, sums["sgd_original"].out_of_range) == (0, 0)


def test_pal_has_no_step_where_its_measuring_step_was_not_measured(tmp_path):
    table = measure(tmp_path, [parabola(1, 3, 0.1)] * 2, options={"pal_measuring_step": 0.8})
    for name in ("pal", "fbpal", "fbpal_sgd_lr", "fbpal_sgd_step"):
        assert statuses(table, name) == ["no_step"] * 2
        assert np.isnan(column(table, name, "step_length")).all()
    assert statuses(table, "optimum") == ["ok"] * 2
    assert (accumulate(table)["pal"].missing_distances, accumulate(table)["pal"].out_of_range) == (2, 0)


def broken(s):
    return np.where(s > 0.1, np.nan, 1 - s)


def test_a_batch_loss_that_is_not_finite_stops_pal_but_not_the_others(tmp_path):
    table = measure(tmp_path, [parabola(1, 3, 0.1)], direction_batch=[lambda s: np.where(s > 0.05, np.inf, 1 - s)])
    assert column(table, "pal", "step_length").tolist() == [0.0]
    assert column(table, "pal", "improvement").tolist() == [0.0]
    assert statuses(table, "fbpal") == ["ok"]


def test_only_lines_of_status_ok_and_edge_have_values_and_the_others_still_count(tmp_path):
    status = ["non_finite", "ok", "edge", "unresolved", "zero_direction", "ok"]
    functions = [broken, *[parabola(1, 3, m) for m in (0.1, 0.2, 0.15, 0.1, 0.12)]]
    table = measure(
        tmp_path,
        functions,
        status=status,
        direction_norm=[1, 1, 1, 1, 0, 1],
        options={"fbpal_every": 3, "fbpal_average": 5, "sgd_lr": [0.05]},
    )
    for row in table.to_pylist():
        if row["status"] not in ("ok", "no_step"):
            assert row["status"] == status[row["step"]] not in ("ok", "edge")
            assert [row[name] for name in ("step_length", "improvement", "relative_improvement", "distance")] == [
                None
            ] * 4
    # Line 0 has no FBPAL step, line 1 has one; line 3, from which on means count, has none, so that of line 1 stays.
    expected = ["non_finite", "ok", "ok", "unresolved", "zero_direction", "ok"]
    assert statuses(table, "fbpal_sgd_step") == expected
    np.testing.assert_allclose(
        column(table, "fbpal_sgd_step", "step_length"), [np.nan, 0.1, 0.1, np.nan, np.nan, 0.1], atol=1e-9
    )
    assert statuses(table, "optimum") == ["non_finite", "ok", "ok", "unresolved", "zero_direction", "ok"]


@pytest.mark.parametrize("compat", [False, True])
@pytest.mark.parametrize("count", [0, 1])
def test_runs_of_no_and_of_one_line_pass_through(tmp_path, count, compat):
    table = measure(
        tmp_path,
        [parabola(1, 3, 0.1)] * count,
        provenance={"samples": 96, "batch_size": 32},
        options={"compat": compat},
    )
    assert table["strategy"].to_pylist() == [name for name in NAMES if count or name != "sgd_auto"] * count
    assert provenance(table)["compat"] is compat
    assert len(accumulate(table)) == (9 if count else 0)
    gains, lines = common_improvement(table, ["optimum", "pal"])
    assert lines == count
    assert np.isnan(gains["pal"]) == (count == 0)


def test_tables_of_other_lines_are_refused(tmp_path):
    line = write_line_table(tmp_path / "line.arrow", [parabola(1, 3, 0.1)] * 2)
    measure_lines(line, tmp_path / "metrics.arrow", window=0.2, resolution=R, provenance={})
    other = write_line_table(tmp_path / "other.arrow", [parabola(1, 3, 0.1)] * 2, steps=[0, 2])
    with pytest.raises(SgdlineError, match=r"must hold the lines of .*other.arrow, got others\. Delete it"):
        measure_strategies(other, tmp_path / "metrics.arrow", tmp_path / "out.arrow", **OPTIONS)
    with pytest.raises(SgdlineError, match=r"must name its samples and its batch size .* got None and None"):
        measure_strategies(line, tmp_path / "metrics.arrow", tmp_path / "out.arrow", **OPTIONS | {"compat": True})
    assert not (tmp_path / "out.arrow").exists()


def test_equal_lines_give_equal_bytes_and_keep_the_facts_of_the_lines(tmp_path):
    facts = {"batch_norm": "train", "samples": 96, "batch_size": 32, "code": "of the probe"}
    for compat in (False, True):
        written = []
        for _ in range(2):
            table = measure(tmp_path, [parabola(1, 3, 0.1), broken], provenance=facts, options={"compat": compat})
            written.append((tmp_path / "strategies.arrow").read_bytes())
        assert written[0] == written[1]
        found = provenance(table)
        assert (found["code"], found["batch_norm"], found["source"]["code"]) == ("abc", "train", "of the probe")


# -- learning rates ----------------------------------------------------------------------------------------------------


def metrics_table(ratios, slopes):
    count = len(ratios)
    columns = {field.name: [0.0] * count for field in kind_of("line_metrics").schema if field.type == pa.float64()}
    columns |= {"step": list(range(count)), "status": ["ok"] * count, "line_search_ratio": [0.0] * count}
    columns |= {
        "minimum_position_vertex": [
            None if ratio is None else ratio * abs(slope) for ratio, slope in zip(ratios, slopes, strict=True)
        ],
        "direction_batch_slope": slopes,
        "line_search_ratio": ratios,
    }
    return pa.table(
        {name: columns[name] for name in kind_of("line_metrics").schema.names}, schema=kind_of("line_metrics").schema
    )


def test_the_adapted_learning_rate_is_the_median_ratio_of_the_middle_half():
    ratios = [9.0, 9.0, 0.1, 0.2, None, 0.4, 9.0, 9.0]
    slopes = [-1.0, 1.0, -2.0, 4.0, -1.0, -0.5, 1.0, 1.0]
    assert adapted_lr(metrics_table(ratios, slopes)) == pytest.approx(0.2)
    assert adapted_lr(metrics_table([-0.1] * 4, [-1.0] * 4)) is None
    assert adapted_lr(metrics_table([None] * 4, [-1.0] * 4)) is None
    assert adapted_lr(metrics_table([], [])) is None


def test_without_a_positive_median_sgd_auto_is_absent_and_the_facts_say_so(tmp_path):
    table = measure(tmp_path, [parabola(1, 3, -0.1)] * 4, options={"sgd_lr": ["auto", 1.0]})
    assert "sgd_auto" not in rows_by_strategy(table)
    assert provenance(table)["sgd_lr"] == {"sgd_original": 0.1, "sgd_auto": None, "sgd_1": 1.0}
    assert (sgd_name(1), sgd_name(0.05), sgd_name(1e-5), sgd_name("auto")) == (
        "sgd_1",
        "sgd_0.05",
        "sgd_1e-05",
        "sgd_auto",
    )


def test_executed_steps_are_a_fixed_rate_for_plain_sgd_only(tmp_path):
    def rate(folder, **options):
        found = measure(tmp_path / folder, [parabola(1.0, 4.0, 0.1)] * 4, options={"sgd_lr": [0.05]}, **options)
        return provenance(found)["sgd_lr"]["sgd_original"]

    assert rate("plain", direction_norm=0.6, direction_batch_slope=-0.6, lr=0.5) == 0.5
    assert rate("odd line", direction_norm=[0.6, 0.6, 0.9, 0.6], direction_batch_slope=-0.6, lr=0.5) == 0.5
    assert rate("momentum", direction_norm=[0.6, 0.8, 0.9, 0.7], direction_batch_slope=-0.6, lr=0.5) is None
    assert rate("backwards", direction_norm=0.6, direction_batch_slope=0.6, lr=0.5) is None


@pytest.mark.parametrize(
    ("rates", "norms", "expected"),
    [
        ([0.5, 0.50000003, 0.49999997], [1, 1, 1], 0.5),  # float32
        ([0.5, 0.5, 0.4999], [1, 1, 1], None),  # a schedule
        ([0.5, 0.5, 0.05], [1, 1, 0], 0.5),  # a label, where there is no direction
        ([None, 0.5, np.nan, np.inf], [1, 1, 1, 1], 0.5),
        ([0.0, 0.0], [1, 1], 0.0),
        ([0.5], [0], None),
        ([], [], None),
    ],
)
def test_one_learning_rate_or_several(rates, norms, expected):
    columns = {"lr": pa.array(rates, pa.float64()), "direction_norm": pa.array(norms, pa.float64())}
    assert constant_rate(pa.table(columns)) == expected


# -- sums --------------------------------------------------------------------------------------------------------------


def strategy_table(rows):
    names = ("step", "strategy", "improvement", "distance", "status")
    filled = [dict(zip(names, row, strict=True)) for row in rows]
    columns = {
        field.name: pa.array([row.get(field.name) for row in filled], field.type)
        for field in kind_of("line_strategies").schema
    }
    return pa.table(columns, schema=kind_of("line_strategies").schema)


def test_sums_skip_and_count_what_is_missing_and_compare_only_common_lines():
    table = strategy_table(
        [
            (0, "a", 1.0, -0.5, "ok"),
            (0, "b", 2.0, 0.1, "ok"),
            (3, "a", None, 0.25, "out_of_range"),
            (3, "b", 4.0, None, "ok"),
            (6, "a", -0.5, 0.25, "ok"),
            (6, "b", None, None, "no_step"),
            (9, "a", 3.0, 0.0, "ok"),
            (9, "b", 1.0, -0.2, "ok"),
        ]
    )
    sums = accumulate(table)
    assert list(sums) == ["a", "b"]
    assert sums["a"].steps.tolist() == [0, 3, 6, 9]
    assert sums["a"].improvement.tolist() == [1, 1, 0.5, 3.5]
    assert sums["a"].distance.tolist() == [0.5, 0.75, 1, 1]
    assert (sums["a"].missing_improvements, sums["a"].missing_distances, sums["a"].out_of_range) == (1, 0, 1)
    assert (sums["b"].missing_improvements, sums["b"].missing_distances, sums["b"].out_of_range) == (1, 2, 0)
    assert sums["b"].improvement.tolist() == [2, 6, 6, 7]
    assert common_improvement(table, ["a", "b"]) == ({"a": 4.0, "b": 3.0}, 2)
    assert common_improvement(table, ["b"]) == ({"b": 7.0}, 3)
    gains, lines = common_improvement(table, ["a", "c"])
    assert (lines, list(gains)) == (0, ["a", "c"])
    assert np.isnan(list(gains.values())).all()


# -- the released rules ------------------------------------------------------------------------------------------------


def test_released_positions_are_the_169_of_the_paper():
    found = released_positions(0.0701, interval=0.5, resolution=R, low=-0.5, high=0.5)
    left, right = (
        list(itertools.takewhile(lambda s: s < 0, (-0.5 + k * R for k in range(200)))),
        [k * R for k in range(84)],
    )
    assert len(left) == 84
    assert found.size == 169
    np.testing.assert_allclose(found, sorted([*left, *right, 0.0701]), rtol=0, atol=1e-12)
    zero = int(np.flatnonzero(found == 0)[0])
    assert found[zero] - found[zero - 1] == pytest.approx(0.002)
    assert found[zero + 1] - found[zero] == pytest.approx(R)


def test_released_positions_repeat_in_rings_as_far_as_the_line_was_measured():
    found = released_positions(np.nan, interval=0.5, resolution=0.2, low=-0.5, high=1.0)
    np.testing.assert_allclose(found, [-0.5, -0.3, -0.1, 0, 0.2, 0.4, 0.5, 0.7, 0.9], atol=1e-12)
    both = released_positions(2.0, interval=0.5, resolution=0.2, low=-1.0, high=0.498)
    np.testing.assert_allclose(both, [-1, -0.8, -0.6, -0.5, -0.3, -0.1, 0, 0.2, 0.4, 2.0], atol=1e-12)
    assert released_positions(0.1, interval=0.5, resolution=0.2, low=np.nan, high=np.nan).tolist() == [0.1]


def test_released_positions_keep_a_step_that_meets_another_one():
    found = released_positions(0.0, interval=0.3, resolution=0.1, low=-0.3, high=0.3)
    np.testing.assert_allclose(found, [-0.3, -0.2, -0.1, 0, 0, 0.1, 0.2], atol=1e-12)
    # A multiple of r up to rounding: no second point beside 0.
    assert released_positions(np.nan, interval=1.1, resolution=0.1, low=-1.1, high=1.1).size == 22
    with pytest.raises(ValueError, match="resolution must be a positive length, got 0"):
        released_positions(0.1, interval=0.5, resolution=0.0, low=-0.5, high=0.5)


def test_nearest_clamps_and_takes_the_first_on_ties():
    positions = np.array([-1.0, 0.0, 0.5, 0.5, 2.0])
    assert nearest(positions, [-9, 0.25, 0.5, 0.6, 9]).tolist() == [0, 1, 2, 2, 4]
    assert nearest(positions, 0.24) == 1


def test_finite_difference_is_exact_for_parabolas_and_nan_at_a_doubled_position():
    positions = released_positions(0.011, interval=0.5, resolution=R, low=-0.5, high=0.5)
    values = np.stack([1 - 2 * positions + 3 * positions**2, positions])
    np.testing.assert_allclose(finite_difference(values, positions)[0, 1:-1], -2 + 6 * positions[1:-1], atol=1e-10)
    np.testing.assert_allclose(derivative_at_zero(values, positions), [-2, 1], atol=1e-12)
    np.testing.assert_allclose(derivative_at_zero(values, positions, order=2), [6, 0], atol=1e-9)
    doubled = released_positions(0.0, interval=0.5, resolution=R, low=-0.5, high=0.5)
    assert np.isnan(derivative_at_zero(1 - doubled, doubled))
    assert np.isnan(finite_difference([1.0, np.inf, 2.0, 3.0], np.arange(4.0))).tolist() == [True, False, True, False]
    assert np.isnan(derivative_at_zero([1.0, 2.0], np.array([0.0, 1.0])))


def test_lines_of_different_extent_are_read_as_if_each_were_alone(tmp_path):
    lines = [parabola(1, 3, 0.1), parabola(0.8, 2, 0.7), parabola(1, 1, -0.6), parabola(0.5, 4, 0.2)]
    panels = [(1, 1), (1, 2), (3, 1), (1, 1)]
    facts = {"samples": 96, "batch_size": 32}
    options = {"compat": True, "sgd_lr": [0.05]}
    whole = measure(tmp_path, lines, panels=panels, provenance=facts, options=options)
    for index, (function, extent) in enumerate(zip(lines, panels, strict=True)):
        alone = measure(tmp_path, [function], panels=[extent], provenance=facts, options=options)
        for name in ("optimum", "pal", "sgd_original", "sgd_0.05"):
            for value in ("step_length", "improvement", "distance"):
                assert column(whole, name, value)[index] == pytest.approx(column(alone, name, value)[0], abs=1e-12)


def test_the_analysis_passes_the_settings_by_name():
    assert set(LineStrategies.uses) == set(OPTIONS) - {"provenance"}
