"""Curves from line tables: closed forms, panels and grids, edges, losses that are not finite."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from line_tables import make_line_table, panel_positions

from sgdline.analysis.curves import LineCurves, chunk_curves, common_grid
from sgdline.errors import SgdlineError

R = 0.006
PARABOLAS = [(1.0, -1.0, 2.0), (0.4, 0.3, 1.0), (2.0, -0.05, 5.0)]  # c + b*s + a*s^2
IRREGULAR = np.concatenate([np.arange(0, 84) * R - 0.5, [0.0], np.arange(1, 84) * R])  # gap 0.002 left of 0


def parabola(c, b, a):
    return lambda s: c + b * s + a * s * s


def table_of(coefficients, **options):
    return make_line_table([parabola(*line) for line in coefficients], **options)


LAYOUTS = {
    "panels": {},
    "few nodes": {"nodes": 5},
    "mixed panels": {"panels": [(1, 1), (1, 3), (2, 1)], "nodes": [5, 33, 9]},
    "grid": {"positions": "grid"},
    "irregular grid": {"positions": IRREGULAR},
}


@pytest.mark.parametrize(
    ("half_width", "resolution", "reach"), [(0.5, 0.006, 83), (0.3, 0.1, 3), (0.5, 0.1, 5), (0.05, 0.1, 0)]
)
def test_common_grid_counts_whole_steps(half_width, resolution, reach):
    grid = common_grid(half_width, resolution)
    assert grid.shape == (2 * reach + 1,)
    np.testing.assert_array_equal(grid, -grid[::-1])
    np.testing.assert_array_equal(grid, np.arange(-reach, reach + 1) * resolution)


@pytest.mark.parametrize("lengths", [(0.0, 0.1), (0.5, 0.0), (-1.0, 0.1), (np.inf, 0.1), (0.5, np.nan)])
def test_common_grid_refuses_lengths_that_are_none(lengths):
    with pytest.raises(ValueError, match="must be a positive length"):
        common_grid(*lengths)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_parabola_has_its_slope_curvature_and_vertex(layout):
    curves = LineCurves.from_table(table_of(PARABOLAS, **LAYOUTS[layout]))
    c, b, a = np.array(PARABOLAS).T
    np.testing.assert_allclose(curves.derivative_at_zero(1), b, rtol=0, atol=1e-9)
    np.testing.assert_allclose(curves.derivative_at_zero(2), 2 * a, rtol=0, atol=1e-9)
    found = curves.minimum(R)
    np.testing.assert_allclose(found.vertex, -b / (2 * a), rtol=0, atol=1e-9)
    assert not found.at_edge.any()
    np.testing.assert_array_less(np.abs(found.positions - found.vertex), R)
    np.testing.assert_allclose(curves.at_each(found.positions), found.losses, rtol=0, atol=1e-12)
    assert np.all(found.losses >= c - b**2 / (4 * a) - 1e-12)


@pytest.mark.parametrize("layout", ["panels", "few nodes", "mixed panels"])
def test_panels_give_the_parabola_everywhere(layout):
    curves = LineCurves.from_table(table_of(PARABOLAS, **LAYOUTS[layout]))
    points = np.concatenate([common_grid(0.5, R), [-0.5, 0.5, 0.25]])
    expected = np.array([parabola(*line)(points) for line in PARABOLAS])
    np.testing.assert_allclose(curves.at(points), expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(
        curves.at_each([-0.5, 0.123, 0.5]),
        [parabola(*line)(s) for line, s in zip(PARABOLAS, [-0.5, 0.123, 0.5], strict=True)],
        rtol=0,
        atol=1e-12,
    )


def test_grid_is_piecewise_linear():
    positions = np.array([-1.0, -0.25, 0.0, 0.5, 2.0])
    losses = np.array([3.0, 1.0, 2.0, 0.0, 6.0])
    curves = LineCurves.from_table(make_line_table([lambda s: np.interp(s, positions, losses)], positions=positions))
    points = np.array([-1.0, -0.5, -0.25, 0.1, 0.5, 1.9, 2.0])
    np.testing.assert_allclose(curves.at(points)[0], np.interp(points, positions, losses), rtol=0, atol=1e-15)
    found = curves.minimum(0.01)
    assert (found.positions[0], found.losses[0]) == (0.5, 0.0)


def test_measured_range_is_kept():
    curves = LineCurves.from_table(table_of(PARABOLAS, panels=[(1, 1), (1, 2), (3, 1)]))
    np.testing.assert_array_equal(curves.low, [-0.5, -0.5, -1.5])
    np.testing.assert_array_equal(curves.high, [0.5, 1.0, 0.5])
    points = np.array([-1.2, -0.51, 0.51, 0.99, 1.01])
    expected = [[False] * 5, [False, False, True, True, False], [True, True, False, False, False]]
    np.testing.assert_array_equal(np.isfinite(curves.at(points)), expected)
    np.testing.assert_array_equal(curves.covers(points), expected)
    assert np.isnan(curves.at_each([0.6, 1.1, np.nan])).all()


def test_rounding_at_the_end_is_inside():
    table = table_of(PARABOLAS, half_width=0.3)
    end = 3 * 0.1
    assert end > 0.3
    assert np.isfinite(LineCurves.from_table(table).at([end, -end])).all()


def test_shared_edges_are_the_measured_losses():
    table = make_line_table([np.cos], panels=[(2, 3)], nodes=9)
    curves = LineCurves.from_table(table)
    positions = table["positions"][0].as_py()
    np.testing.assert_array_equal(curves.at(positions)[0], table["train_loss"][0].as_py())


def test_minimum_at_the_edge_says_so():
    for options in ({}, {"positions": "grid"}, {"panels": [(1, 3)]}):
        found = LineCurves.from_table(
            make_line_table(
                [lambda s: -s, lambda s: s],
                **{**options, **({"panels": options["panels"] * 2} if "panels" in options else {})},
            )
        ).minimum(R)
        assert found.at_edge.all()
        np.testing.assert_array_equal(found.vertex, found.positions)
        assert found.positions[0] > 0 > found.positions[1]


def test_first_of_equal_minima_counts():
    found = LineCurves.from_table(
        make_line_table([lambda s: 0 * s, lambda s: np.abs(np.abs(s) - 0.3)], positions=np.linspace(-0.5, 0.5, 11))
    ).minimum(0.1)
    np.testing.assert_allclose(found.positions, [-0.5, -0.3], atol=1e-12)
    np.testing.assert_array_equal(found.at_edge, [True, False])


def test_minimum_is_searched_over_the_whole_line():
    curve = lambda s: np.cos(4 * s) + 0.1 * s  # noqa: E731  minima near -0.785 and 0.785, the left one lower
    found = LineCurves.from_table(make_line_table([curve], panels=[(2, 2)], nodes=33)).minimum(R)
    assert found.positions[0] == pytest.approx(-0.79, abs=2 * R)
    assert curve(found.vertex[0]) <= found.losses[0] + 1e-12


def test_slope_and_curvature_of_a_smooth_curve_beat_one_panel():
    table = make_line_table([lambda s: np.exp(-3 * s) + s**2], nodes=9)
    curves = LineCurves.from_table(table)
    assert curves.derivative_at_zero(1)[0] == pytest.approx(-3, abs=1e-6)
    assert curves.derivative_at_zero(2)[0] == pytest.approx(11, abs=1e-5)
    with pytest.raises(ValueError, match="order must be 1 or 2"):
        curves.derivative_at_zero(3)


def spoiled(value):
    def curve(s):
        losses = 1 - s + 2 * s * s
        losses[s > 0.5] = value
        return losses

    return curve


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_panel_that_is_not_finite_spoils_only_itself(value):
    table = make_line_table([spoiled(value), parabola(1, -1, 2)], panels=[(1, 2), (1, 2)])
    curves = LineCurves.from_table(table)
    losses = curves.at([-0.5, 0.1, 0.5, 0.7, 1.0])
    np.testing.assert_allclose(losses[0, :3], [2.0, 0.92, 1.0], atol=1e-12)
    assert np.isnan(losses[0, 3:]).all()
    assert np.isfinite(losses[1]).all()
    np.testing.assert_allclose(curves.at_each([0.1, 0.7]), [0.92, 1.28], atol=1e-12)
    assert np.isnan(curves.at_each([0.7, 0.7])[0])
    found = curves.minimum(R)
    np.testing.assert_allclose(found.vertex, 0.25, atol=1e-9)
    np.testing.assert_allclose(curves.derivative_at_zero(1), -1, atol=1e-9)


@pytest.mark.parametrize("positions", ["adaptive", "grid"])
def test_a_line_without_finite_losses_has_no_values(positions):
    table = make_line_table([lambda s: s * np.nan, parabola(1, -1, 2)], positions=positions)
    curves = LineCurves.from_table(table)
    found = curves.minimum(R)
    assert np.isnan([curves.at([0.1])[0, 0], found.positions[0], found.vertex[0], found.losses[0]]).all()
    assert np.isnan(curves.derivative_at_zero(2)[0])
    assert not found.at_edge[0]
    assert np.isfinite([curves.at([0.1])[1, 0], found.vertex[1], curves.derivative_at_zero(2)[1]]).all()


def test_zero_lines_and_single_positions():
    empty = LineCurves.from_table(make_line_table([]))
    assert len(empty) == 0
    assert empty.at([0.0, 1.0]).shape == (0, 2)
    assert empty.at_each([]).shape == empty.derivative_at_zero(1).shape == empty.minimum(R).vertex.shape == (0,)
    point = LineCurves.from_table(make_line_table([lambda s: 2 + s], positions=np.array([0.0])))
    np.testing.assert_array_equal(point.at([-0.1, 0.0]), [[np.nan, 2.0]])
    assert point.minimum(R).losses[0] == 2
    assert np.isnan(point.derivative_at_zero(1)[0])


def test_tables_may_be_sliced_chunked_and_hold_nulls():
    table = table_of(PARABOLAS)
    parts = pa.concat_tables([table.slice(2), table.slice(0, 1), table.slice(1, 1)])
    points = [0.0, 0.2]
    whole = LineCurves.from_table(table).at(points)
    np.testing.assert_array_equal(LineCurves.from_table(parts).at(points), whole[[2, 0, 1]])
    np.testing.assert_array_equal(LineCurves.from_table(table.slice(1)).at(points), whole[1:])
    without = LineCurves.from_table(table, "validation_loss")
    assert np.isnan(without.at(points)).all()
    measured = make_line_table([np.cos], validation=[np.sin])
    np.testing.assert_allclose(
        LineCurves.from_table(measured, "validation_loss").at(points)[0], np.sin(points), atol=1e-12
    )


@pytest.mark.parametrize("positions", ["adaptive", "grid"])
def test_lines_between_others_are_read_as_lines_by_themselves(positions):
    """Neighbours with the same nodes are taken as a block; the others, and those beside nulls, are gathered."""
    lines = [parabola(0.1 * index, 0.2, 1.0 + index) for index in range(6)]
    alike = make_line_table(lines, positions=positions, validation=lines)
    other = make_line_table(lines, nodes=5, half_width=0.4, validation=lines)
    without = make_line_table(lines, positions=positions)
    points = common_grid(0.3, R)
    expected = LineCurves.from_table(alike, "validation_loss").at(points)
    parts = [(alike, 0), (alike, 1), (other, 0), (alike, 2), (without, 0), (alike, 3), (alike, 4)]
    mixed = LineCurves.from_table(pa.concat_tables([table.slice(row, 1) for table, row in parts]), "validation_loss")
    np.testing.assert_allclose(mixed.at(points)[[0, 1, 3, 5, 6]], expected[:5], rtol=0, atol=1e-15)
    assert np.isnan(mixed.at(points)[4]).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_grid_at_its_own_positions_gives_its_losses(value):
    positions = common_grid(0.5, R)
    losses = np.cos(positions)
    losses[[0, 40, -1]] = value
    curves = LineCurves.from_table(make_line_table([lambda s: losses, np.cos], positions=positions))
    found = curves.at(positions)
    np.testing.assert_array_equal(found[0], np.where(np.isfinite(losses), losses, np.nan))
    np.testing.assert_array_equal(found[1], np.cos(positions))
    between = curves.at([positions[39], (positions[40] + positions[41]) / 2, positions[41]])[0]
    np.testing.assert_array_equal(between, [losses[39], np.nan, losses[41]])


def test_losses_must_match_positions():
    table = table_of(PARABOLAS)
    short = table.set_column(
        table.schema.get_field_index("train_loss"), "train_loss", pa.array([[1.0]] * 3, type=pa.list_(pa.float64()))
    )
    with pytest.raises(SgdlineError, match="'train_loss' must hold one loss per position, got 1 for 33"):
        LineCurves.from_table(short)


@pytest.mark.parametrize("positions", ["adaptive", "grid"])
def test_chunk_curves_are_the_curves_of_the_chunks(positions):
    offsets = (-0.25, 0.0, 0.5)  # exact in float32
    table = make_line_table([np.cos, lambda s: s**2], positions=positions, chunk_offsets=offsets)
    points = common_grid(0.4, R)
    curves = chunk_curves(table, 1, points)
    assert curves.shape == (3, len(points))
    np.testing.assert_allclose(curves, points**2 + np.array(offsets)[:, None], atol=1e-5)
    assert np.isnan(chunk_curves(table, 1, [2.0])).all()


def test_chunk_losses_must_fill_whole_nodes():
    table = make_line_table([np.cos])
    broken = table.set_column(
        table.schema.get_field_index("chunk_loss"), "chunk_loss", pa.array([[1.0, 2.0]], type=pa.list_(pa.float32()))
    )
    with pytest.raises(SgdlineError, match="'chunk_loss' must hold a whole number of losses per position"):
        chunk_curves(broken, 0, [0.0])


@settings(max_examples=40, deadline=None)
@given(
    shift=st.floats(-5, 5),
    slope=st.floats(-3, 3),
    bend=st.floats(0.1, 10),
    nodes=st.sampled_from([5, 9, 17, 33]),
    panels=st.tuples(st.integers(1, 3), st.integers(1, 3)),
)
def test_adding_a_constant_moves_no_minimum(shift, slope, bend, nodes, panels):
    lines = [parabola(0, slope, bend), parabola(shift, slope, bend)]
    curves = LineCurves.from_table(make_line_table(lines, panels=panels, nodes=nodes))
    found = curves.minimum(R)
    assert found.vertex[0] == pytest.approx(found.vertex[1], abs=1e-6)
    assert found.losses[1] - found.losses[0] == pytest.approx(shift, abs=1e-9)
    edges, positions = panel_positions(0.5, panels=panels, nodes=nodes)
    assert (curves.low[0], curves.high[0]) == (edges[0], edges[-1])
    assert found.losses[0] <= parabola(0, slope, bend)(positions).min()


def test_ten_thousand_lines_share_the_work():
    # Not a time but a growth: one matrix product per kind of panel, not one per line.
    table = make_line_table([np.cos] * 50, panels=[(1, 1 + row % 3) for row in range(50)])
    many = pa.concat_tables([table] * 200)
    curves = LineCurves.from_table(many)
    assert len(curves._panels) == 4
    losses = curves.at(common_grid(0.5, R))
    assert losses.shape == (10_000, 167)
    np.testing.assert_array_equal(losses[:50], losses[-50:])
