"""Fits, metrics and distances of whole tables: closed forms, undefined values, tables of one and of no line."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from line_tables import write_line_table

from sgdline.analysis.curves import LineCurves, common_grid
from sgdline.analysis.distances import curve_distances, line_shapes, measure_distances
from sgdline.analysis.fits import fit_lines, fit_polynomial
from sgdline.analysis.metrics import line_search_ratio, measure_lines
from sgdline.errors import SgdlineError
from sgdline.tables import provenance, read_table

R = 0.006
WINDOW = 0.2
FACTS = {"code": "abc", "seed": 1}


def parabola(c, b, a):
    return lambda s: c + b * s + a * s * s


def broken(s):
    return np.where(s > 0.1, np.nan, 1 - s)


def fit(tmp_path, functions, degrees=(1, 2), **options):
    line = write_line_table(tmp_path / "line.arrow", functions, **options)
    fit_lines(line, tmp_path / "fits.arrow", window=WINDOW, resolution=R, degrees=degrees, provenance=FACTS)
    return read_table(tmp_path / "fits.arrow", "line_fits")


def measure(tmp_path, functions, **options):
    line = write_line_table(tmp_path / "line.arrow", functions, **options)
    measure_lines(line, tmp_path / "metrics.arrow", window=WINDOW, resolution=R, provenance=FACTS)
    return read_table(tmp_path / "metrics.arrow", "line_metrics")


def compare(tmp_path, functions, *, first=50, every=10, **options):
    line = write_line_table(tmp_path / "line.arrow", functions, **options)
    panels = {"distance_first": first, "distance_every": every}
    measure_distances(line, tmp_path / "d.arrow", window=WINDOW, resolution=R, **panels, provenance=FACTS)
    return read_table(tmp_path / "d.arrow", "line_distances")


@pytest.mark.parametrize("degree", [2, 3, 4])
def test_a_parabola_is_its_own_fit(degree):
    grid = common_grid(WINDOW, R)
    lines = [(1.0, -0.7, 3.0), (0.01, 0.0, 40.0)]
    result = fit_polynomial(grid, [parabola(*line)(grid) for line in lines], degree=degree)
    np.testing.assert_allclose(result.coefficients[:, :3], lines, rtol=0, atol=1e-9)
    np.testing.assert_allclose(result.coefficients[:, 3:], 0, atol=1e-8)
    np.testing.assert_allclose(result.mae, 0, atol=1e-12)
    assert result.status == ["ok", "ok"]


def test_straight_fit_of_a_parabola_has_the_known_error():
    # On a symmetric grid the best constant for s^2 is its mean.
    grid = common_grid(WINDOW, R)
    result = fit_polynomial(grid, [2 * grid + 5 * grid**2], degree=1)
    assert result.coefficients[0] == pytest.approx([5 * np.mean(grid**2), 2])
    assert result.mae[0] == pytest.approx(5 * np.mean(np.abs(grid**2 - np.mean(grid**2))))


def test_rows_that_are_not_finite_touch_no_other():
    grid = common_grid(WINDOW, R)
    good = 1 + grid**2
    bad, outside = good.copy(), good.copy()
    bad[3], outside[-2:] = np.inf, np.nan
    covered = np.ones((4, grid.size), dtype=bool)
    covered[2:, -2:] = False
    both = outside.copy()
    both[0] = np.nan
    result = fit_polynomial(grid, [good, bad, outside, both], degree=2, covered=covered)
    assert result.status == ["ok", "non_finite", "out_of_range", "non_finite"]
    assert np.isnan(result.coefficients[1:]).all()
    assert np.isnan(result.mae[1:]).all()
    np.testing.assert_array_equal(result.coefficients[0], fit_polynomial(grid, [good], degree=2).coefficients[0])


@pytest.mark.parametrize(("degree", "shape"), [(0, (2, 5)), (5, (2, 5)), (2, (2, 4)), (2, (5,))])
def test_fit_refuses_what_does_not_fit(degree, shape):
    with pytest.raises(ValueError, match="must"):
        fit_polynomial(np.linspace(-1, 1, 5), np.zeros(shape), degree=degree)


@pytest.mark.parametrize("positions", ["adaptive", "grid"])
def test_fit_table_has_a_row_per_line_and_degree(tmp_path, positions):
    lines = [(1.0, -1.0, 2.0), (0.5, 0.2, 1.0)]
    table = fit(tmp_path, [parabola(*line) for line in lines], degrees=[2, 1, 4], steps=[3, 6], positions=positions)
    assert table["step"].to_pylist() == [3, 3, 3, 6, 6, 6]
    assert table["degree"].to_pylist() == [1, 2, 4] * 2
    coefficients = table["coefficients"].to_pylist()
    assert [len(row) for row in coefficients] == [2, 3, 5] * 2
    np.testing.assert_allclose([coefficients[1], coefficients[4]], lines, atol=1e-9)
    assert set(table["status"].to_pylist()) == {"ok"}


def test_fit_table_tells_narrow_from_broken_lines(tmp_path):
    table = fit(tmp_path, [np.cos], half_width=0.1)
    assert table["status"].to_pylist() == ["out_of_range"] * 2
    assert table["mae"].null_count == 2
    assert np.isnan(table["coefficients"].to_pylist()[0]).all()
    assert fit(tmp_path, [broken], half_width=0.1)["status"].to_pylist() == ["out_of_range"] * 2
    assert fit(tmp_path, [broken], half_width=0.15)["status"].to_pylist() == ["non_finite"] * 2
    assert fit(tmp_path, [broken, np.cos])["status"].to_pylist() == ["non_finite"] * 2 + ["ok"] * 2


def test_too_few_positions_for_a_degree_are_an_error(tmp_path):
    line = write_line_table(tmp_path / "line.arrow", [np.cos])
    with pytest.raises(SgdlineError, match=r"analysis.degrees must be below .* \(3\), got 4"):
        fit_lines(line, tmp_path / "fits.arrow", window=0.1, resolution=0.1, degrees=[1, 4], provenance={})
    assert not (tmp_path / "fits.arrow").exists()


@pytest.mark.parametrize("positions", ["adaptive", "grid"])
def test_metrics_of_parabolas_are_exact(tmp_path, positions):
    c, b, a = np.array([(1.0, -1.0, 2.0), (0.4, 0.3, 1.0)]).T
    table = measure(
        tmp_path,
        [parabola(*line) for line in zip(c, b, a, strict=True)],
        direction_batch=[parabola(1, -2, 4), parabola(2, -1, 3)],
        direction_batch_slope=[-2.5, -1.0],
        direction_norm=[5.0, 2.0],  # with momentum ||m_t|| is not |D_b|
        positions=positions,
        steps=[4, 8],
    )

    def column(name):
        return np.array(table[name].to_pylist(), dtype=float)

    np.testing.assert_allclose(column("loss_at_zero"), c, atol=1e-12)
    np.testing.assert_allclose(column("minimum_position_vertex"), -b / (2 * a), atol=1e-9)
    np.testing.assert_allclose(column("minimum_position"), -b / (2 * a), atol=R)
    np.testing.assert_allclose(column("minimum_loss"), c - b**2 / (4 * a), atol=1e-4)
    np.testing.assert_allclose(column("train_slope"), b, atol=1e-9)
    np.testing.assert_allclose(column("train_curvature"), 2 * a, atol=1e-9)
    np.testing.assert_allclose(column("direction_batch_slope_curve"), [-2, -1], atol=1e-9)
    np.testing.assert_allclose(column("direction_batch_curvature"), [8, 6], atol=1e-9)
    np.testing.assert_allclose(column("direction_batch_minimum_position"), [0.25, 1 / 6], atol=R)
    np.testing.assert_allclose(column("line_search_ratio"), -b / (2 * a) / [5.0, 2.0], atol=1e-9)
    assert table["step"].to_pylist() == [4, 8]
    assert table["consecutive_distance"].to_pylist()[1] is None
    assert column("consecutive_distance")[0] > 0


def test_what_does_not_exist_is_null(tmp_path):
    functions = [parabola(1, -1, 2)] * 3 + [broken, lambda s: s * np.nan] + [parabola(1, -1, 2)] * 2
    table = measure(
        tmp_path,
        functions,
        direction_norm=[1.0, 0.0, np.nan, 1.0, 1.0, 1.0, 1.0],
        status=["ok", "ok", "ok", "non_finite", "non_finite", "edge", "zero_direction"],
    )
    assert [value is None for value in table["line_search_ratio"].to_pylist()] == [0, 1, 1, 1, 1, 0, 1]
    assert [value is None for value in table["consecutive_distance"].to_pylist()] == [0, 0, 1, 1, 1, 1, 1]
    assert [value is None for value in table["loss_at_zero"].to_pylist()] == [0, 0, 0, 0, 1, 0, 0]
    for name in ("minimum_position", "minimum_loss", "train_slope", "direction_batch_curvature"):
        assert table[name].to_pylist()[6] is None
    assert table["minimum_position_vertex"].to_pylist()[4] is None


def test_ratio_of_a_vanishing_update_is_undefined():
    ratio = line_search_ratio([0.1, 0.1, np.nan, 0.2], [2.0, 0.0, 1.0, 4.0])
    np.testing.assert_allclose(ratio, [0.05, np.nan, np.nan, 0.05])


def test_distances_use_the_minimum_of_the_whole_line(tmp_path):
    # Both lines rise to the right of the window, the second one falls by 1 beyond it.
    def falling(s):
        return np.where(s > 0.3, s * s - 1.0, s * s)

    table = compare(tmp_path, [lambda s: s * s, falling], positions="grid")
    np.testing.assert_allclose(table["distances"].to_pylist()[0][1], 1 - 0.306**2, atol=1e-9)


def test_panels_split_the_run(tmp_path):
    functions = [parabola(1, -1, 1 + step) for step in range(12)]
    table = compare(tmp_path, functions, first=5, every=3, steps=[10 * step for step in range(12)])
    assert table["panel"].to_pylist() == ["first"] * 5 + ["rest"] * 3
    assert table["step"].to_pylist() == [0, 10, 20, 30, 40, 50, 80, 110]
    assert table["other_steps"].to_pylist()[0] == [0, 10, 20, 30, 40]
    assert table["other_steps"].to_pylist()[-1] == [50, 80, 110]
    curves = LineCurves.from_table(read_table(tmp_path / "line.arrow", "line"))
    whole = curve_distances(line_shapes(curves, window=WINDOW, resolution=R))
    np.testing.assert_array_equal(table["distances"].to_pylist()[:5], whole[:5, :5])
    np.testing.assert_array_equal(table["distances"].to_pylist()[5:], whole[5::3, 5::3])
    with pytest.raises(ValueError, match="at least 1"):
        compare(tmp_path, functions, every=0)


def test_distance_to_a_broken_line_is_nan(tmp_path):
    distances = np.array(compare(tmp_path, [np.cos, broken, np.sin])["distances"].to_pylist())
    np.testing.assert_array_equal(np.isnan(distances), [[0, 1, 0], [1, 1, 1], [0, 1, 0]])


@settings(max_examples=60, deadline=None)
@given(
    arrays(float, array_shapes(min_dims=2, max_dims=2, max_side=8), elements=st.floats(-1e3, 1e3)),
    st.floats(-1e3, 1e3),
)
def test_distance_is_a_metric_on_shapes(shapes, shift):
    distances = curve_distances(shapes)
    np.testing.assert_array_equal(distances, distances.T)
    np.testing.assert_array_equal(np.diag(distances), 0)
    np.testing.assert_allclose(curve_distances(shapes + shift), distances, rtol=0, atol=1e-9)
    through = (distances[:, :, None] + distances[None, :, :]).min(axis=1)
    assert np.all(distances <= through + 1e-9)


@settings(max_examples=20, deadline=None)
@given(st.floats(-100, 100), st.sampled_from(["adaptive", "grid"]))
def test_shapes_forget_the_level(tmp_path_factory, shift, positions):
    folder = tmp_path_factory.mktemp("shift")
    line = write_line_table(folder / "l.arrow", [np.cos, lambda s: np.cos(s) + shift], positions=positions)
    shapes = line_shapes(LineCurves.from_table(read_table(line, "line")), window=WINDOW, resolution=R)
    np.testing.assert_allclose(shapes[0], shapes[1], rtol=0, atol=1e-10)


@pytest.mark.parametrize("count", [0, 1])
def test_runs_without_neighbours_pass_through(tmp_path, count):
    functions = [parabola(1, -1, 2)] * count
    assert fit(tmp_path, functions).num_rows == 2 * count
    assert measure(tmp_path, functions).num_rows == count
    table = compare(tmp_path, functions)
    assert table["distances"].to_pylist() == [[0.0]] * count


def test_facts_of_the_lines_are_handed_on(tmp_path):
    facts = {"batch_norm": "train", "code": "of the probe"}
    expected = {"batch_norm": "train", "code": "abc", "seed": 1, "source": {"kind": "line", **facts}}
    for make, kind in ((fit, "line_fits"), (measure, "line_metrics"), (compare, "line_distances")):
        found = provenance(make(tmp_path, [np.cos, np.sin], provenance=facts))
        assert found == {"kind": kind, **expected}


def test_equal_lines_give_equal_bytes(tmp_path):
    for name, make in (("fits", fit), ("metrics", measure), ("d", compare)):
        written = []
        for _ in range(2):
            make(tmp_path, [np.cos, broken, np.sin])
            written.append((tmp_path / f"{name}.arrow").read_bytes())
        assert written[0] == written[1]
