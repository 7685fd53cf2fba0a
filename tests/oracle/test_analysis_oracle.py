"""Analysis against naive implementations written from papers.md, line by line."""

import itertools
import statistics

import numpy as np
import pyarrow as pa
import pytest
from judged_runs import a_run, by_name, judged
from line_tables import make_line_table, write_line_table
from scipy.interpolate import BarycentricInterpolator

from sgdline.analysis.curves import LineCurves, common_grid
from sgdline.analysis.distances import curve_distances, line_shapes
from sgdline.analysis.fits import fit_lines, fit_polynomial
from sgdline.analysis.metrics import measure_lines
from sgdline.tables import kind_of, read_table

R = 0.006
WINDOW = 0.2


def loss_curves(count, *, seed=0):
    """Return curves like those of a network: a skewed bowl whose floor, width and place change along the run."""
    draw = np.random.default_rng(seed)
    parameters = zip(
        2.0 / (1 + np.arange(count)) + draw.uniform(0, 0.1, count),
        draw.uniform(-0.1, 0.2, count),
        draw.uniform(1, 6, count),
        draw.uniform(-2, 2, count),
        strict=True,
    )
    return [
        lambda s, f=floor, m=place, a=bend, k=skew: f + a * (s - m) ** 2 / (1 + np.exp(-k * s)) + 0.02 * np.sin(9 * s)
        for floor, place, bend, skew in parameters
    ]


LAYOUTS = {
    "panels": {
        "panels": [(1, 1 + index % 3) for index in range(12)],
        "nodes": [(5, 9, 17, 33)[i % 4] for i in range(12)],
    },
    "grid": {"positions": "grid"},
    "irregular grid": {"positions": np.sort(np.append(np.random.default_rng(1).uniform(-0.5, 0.5, 90), 0.0))},
}


@pytest.fixture(params=LAYOUTS)
def table(request):
    return make_line_table(loss_curves(12), **LAYOUTS[request.param])


def naive_curve(row, points):
    """Evaluate one line, panel by panel, with scipy's barycentric formula for arbitrary nodes or numpy.interp."""
    nodes, losses = np.array(row["positions"]), np.array(row["train_loss"])
    edges = row["panel_edges"]
    if not edges:
        return np.interp(points, nodes, losses, left=np.nan, right=np.nan)
    values = np.full(len(points), np.nan)
    for left, right in itertools.pairwise(edges):
        own = (nodes >= left) & (nodes <= right)
        inside = (points >= left) & (points <= right)
        if inside.any():
            values[inside] = BarycentricInterpolator(nodes[own], losses[own])(points[inside])
    return values


def test_curves_are_those_of_scipy(table):
    points = np.linspace(-0.603, 1.607, 331)
    curves = LineCurves.from_table(table)
    naive = np.array([naive_curve(row, points) for row in table.to_pylist()])
    np.testing.assert_allclose(curves.at(points), naive, rtol=0, atol=1e-10)
    each = np.random.default_rng(2).uniform(-0.45, 0.45, len(curves))
    expected = [naive_curve(row, np.array([s]))[0] for row, s in zip(table.to_pylist(), each, strict=True)]
    np.testing.assert_allclose(curves.at_each(each), expected, rtol=0, atol=1e-10)


def test_minima_are_those_of_a_loop(table):
    found = LineCurves.from_table(table).minimum(R)
    for index, row in enumerate(table.to_pylist()):
        low, high = row["positions"][0], row["positions"][-1]
        grid = np.arange(np.ceil(low / R), np.floor(high / R) + 1) * R
        points = np.unique(np.concatenate([row["positions"], grid]))
        values = naive_curve(row, points)
        best = int(np.argmin(values))
        # Points that all but coincide with a node are left out of the search, hence the tolerances.
        assert found.positions[index] == pytest.approx(points[best], abs=0.05 * R)
        assert found.losses[index] == pytest.approx(values[best], abs=1e-5)
        assert found.at_edge[index] == (best in (0, len(points) - 1))
        if row["panel_edges"] and not found.at_edge[index]:
            fine = np.linspace(points[best - 1], points[best + 1], 20001)
            assert found.vertex[index] == pytest.approx(fine[np.argmin(naive_curve(row, fine))], abs=0.02 * R)
        elif not found.at_edge[index]:
            nodes, losses = row["positions"], row["train_loss"]
            place = int(np.argmin(losses))
            a, b, _ = np.polyfit(nodes[place - 1 : place + 2], losses[place - 1 : place + 2], 2)
            assert found.vertex[index] == pytest.approx(-b / (2 * a), abs=1e-9)


def three_point_slope(s, f):
    """Slope at the middle of three points, exact for parabolas (M3, one application)."""
    h, k = s[1] - s[0], s[2] - s[1]
    return (h * h * f[2] + (k * k - h * h) * f[1] - k * k * f[0]) / (h * k * (h + k))


def test_grid_derivatives_are_those_of_m3():
    rows = make_line_table(loss_curves(12), **LAYOUTS["irregular grid"])
    curves = LineCurves.from_table(rows)
    for index, row in enumerate(rows.to_pylist()):
        zero = row["positions"].index(0.0)
        s, f = row["positions"][zero - 2 : zero + 3], row["train_loss"][zero - 2 : zero + 3]
        slopes = [three_point_slope(s[j : j + 3], f[j : j + 3]) for j in range(3)]
        assert curves.derivative_at_zero(1)[index] == pytest.approx(slopes[1], rel=1e-9, abs=1e-9)
        assert curves.derivative_at_zero(2)[index] == pytest.approx(three_point_slope(s[1:4], slopes), rel=1e-8)


def test_panel_derivatives_are_those_of_the_function():
    functions = loss_curves(12)
    curves = LineCurves.from_table(make_line_table(functions, nodes=17))
    h = 1e-3
    for index, f in enumerate(functions):
        near = [f(np.array([j * h]))[0] for j in range(-2, 3)]
        slope = (near[0] - 8 * near[1] + 8 * near[3] - near[4]) / (12 * h)
        bend = (-near[0] + 16 * near[1] - 30 * near[2] + 16 * near[3] - near[4]) / (12 * h * h)
        assert curves.derivative_at_zero(1)[index] == pytest.approx(slope, abs=1e-7)
        assert curves.derivative_at_zero(2)[index] == pytest.approx(bend, abs=1e-5)


@pytest.mark.parametrize("degree", [1, 2, 3, 4, 8])
def test_fits_are_those_of_polyfit(table, degree):
    grid = common_grid(WINDOW, R)
    losses = LineCurves.from_table(table).at(grid)
    result = fit_polynomial(grid, losses, degree=degree)
    for row, curve in enumerate(losses):
        expected = np.polyfit(grid, curve, degree)
        residual = np.abs(curve - np.polyval(expected, grid)).mean()
        np.testing.assert_allclose(
            result.coefficients[row] * WINDOW ** np.arange(degree + 1),
            expected[::-1] * WINDOW ** np.arange(degree + 1),
            rtol=0,
            atol=1e-9,
        )
        assert result.mae[row] == pytest.approx(residual, abs=1e-12)


def naive_distance(row, other):
    grid = [k * R for k in range(-200, 201) if abs(k * R) < WINDOW]

    def shape(line):
        whole = np.unique(np.concatenate([line["positions"], np.arange(-600, 601) * R]))
        return naive_curve(line, np.array(grid)) - np.nanmin(naive_curve(line, whole))

    return sum(abs(a - b) for a, b in zip(shape(row), shape(other), strict=True)) / len(grid)


def test_distances_are_those_of_a_loop(table):
    rows = table.to_pylist()
    distances = curve_distances(line_shapes(LineCurves.from_table(table), window=WINDOW, resolution=R))
    for i, row in enumerate(rows):
        for j, other in enumerate(rows):
            assert distances[i, j] == pytest.approx(naive_distance(row, other), abs=2e-5)


def make_trace(norms):
    count = len(norms)
    columns = {field.name: [0.0] * count for field in kind_of("trace").schema if field.type == pa.float64()}
    columns |= {"step": list(range(count)), "gradient_norm": norms, "status": ["ok"] * count}
    return pa.table({name: columns[name] for name in kind_of("trace").schema.names}, schema=kind_of("trace").schema)


@pytest.mark.parametrize("count", [80, 67, 40])
def test_claims_are_those_of_a_loop(tmp_path, count):
    draw = np.random.default_rng(count)
    norms = draw.uniform(0.5, 2.0, 3 * count)
    steps = [3 * index for index in range(count)]
    line = write_line_table(
        tmp_path / "line.arrow", loss_curves(count, seed=count), steps=steps, direction_batch_slope=-norms[::3]
    )
    fit_lines(line, tmp_path / "fits.arrow", window=WINDOW, resolution=R, degrees=[1, 2, 3], provenance={})
    measure_lines(line, tmp_path / "metrics.arrow", window=WINDOW, resolution=R, provenance={})
    fits = read_table(tmp_path / "fits.arrow", "line_fits")
    metrics = read_table(tmp_path / "metrics.arrow", "line_metrics")
    none = pa.Table.from_pylist([], schema=kind_of("line_strategies").schema)
    tables = {"trace": make_trace(norms), "line_fits": fits, "line_metrics": metrics, "line_strategies": none}
    claims = by_name(judged("linesearch", [a_run(tables)]))

    mae = {(row["step"], row["degree"]): row["mae"] for row in fits.to_pylist()}
    expected = statistics.median(mae[step, 2] / mae[step, 1] for step in steps)
    assert claims["C1"].value == pytest.approx(expected)
    assert claims["C1"].verdict == ("holds" if expected < 0.2 else "fails")

    rows = metrics.to_pylist()
    middle = [row["minimum_position_vertex"] / abs(row["direction_batch_slope"]) for row in rows]
    middle = middle[count // 4 : count - count // 4]
    low, median, high = statistics.quantiles(middle, n=4, method="inclusive")
    assert claims["C2"].verdict == ("holds" if low >= median / 2 and high <= 2 * median else "fails")
    if low > 0:
        assert claims["C2"].value == pytest.approx(max(high / median, median / low))

    minima = [row["minimum_position_vertex"] for row in rows]
    correlation = statistics.correlation(minima, [norms[step] for step in steps])
    assert claims["C5"].value == pytest.approx(correlation)
    assert claims["C5"].verdict == ("holds" if correlation > 0.5 else "fails")

    moved = [row["consecutive_distance"] for row in rows]
    if count >= 66:
        expected = statistics.median(moved[count - count // 4 : -1]) / statistics.median(moved[:50])
        assert claims["C6"].value == pytest.approx(expected)
        assert claims["C6"].verdict == ("holds" if expected <= 0.1 else "fails")
    else:
        assert (claims["C6"].value, claims["C6"].verdict) == (None, "undetermined")
