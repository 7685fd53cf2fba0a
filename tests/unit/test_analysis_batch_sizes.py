"""Emulated batch sizes: closed forms, what draws and streaming must not change, and what has no number."""

import numpy as np
import pyarrow as pa
import pytest
from sample_lines import polynomials, sample_line, write_sample_lines

from sgdline.analysis import batch_sizes as module
from sgdline.analysis.batch_sizes import (
    batch_slopes,
    draw_orders,
    emulated_batches,
    emulated_sizes,
    measure_batch_sizes,
)
from sgdline.analysis.curves import LineCurves
from sgdline.errors import SgdlineError
from sgdline.tables import iterate_table, kind_of, provenance, read_table, store

N, B, SEED = 60, 8, 3
ROWS = np.arange(5, 5 + B)


def parabolas(count, *, seed, slope=-1.0):
    """Return coefficients c, b, a of c + b*s + a*s^2, one row per sample."""
    draw = np.random.default_rng(seed)
    return np.stack([draw.uniform(1, 3, count), draw.normal(slope, 2, count), draw.uniform(1, 6, count)], axis=1)


def run_lines(count=3, **options):
    return [
        sample_line(
            polynomials(parabolas(N, seed=index)),
            polynomials(parabolas(B, seed=100 + index, slope=-3)),
            **{"step": 4 * index, "rows": ROWS, **options},
        )
        for index in range(count)
    ]


def emulate(folder, lines, **changes):
    line, metrics = write_sample_lines(folder, lines)
    options = {"batch_size": B, "seed": SEED, "interval": 0.5, "resolution": 0.02, "pal_measuring_step": 0.1}
    options |= {"batch_sizes": [2, 4, 8, 16, 32], "batch_draws": 4, "compat": False, "provenance": {"code": "abc"}}
    measure_batch_sizes(line, metrics, folder / "sizes.arrow", **options | changes)
    return read_table(folder / "sizes.arrow", "line_batch_sizes")


def rows_of(table, **where):
    return [row for row in table.to_pylist() if all(row[key] == value for key, value in where.items())]


def drawn(step, size, *, draws=4, batch=B, joining=None):
    """Return per draw which samples of the batch and of the measuring set make up a batch of this size."""
    joining = np.setdiff1d(np.arange(N), ROWS) if joining is None else joining
    own, rest = draw_orders(SEED, step, draws=draws, batch=batch, rest=joining.size)
    if size <= batch:
        return [(order[:size], np.array([], dtype=int)) for order in own]
    return [(np.arange(batch), joining[order[: size - batch]]) for order in rest]


@pytest.mark.parametrize("layout", ["panels", "grid"])
def test_unit_curves_give_the_weights_of_a_lines_losses(layout):
    line = sample_line(polynomials([[1.0, -2.0, 3.0]]), polynomials([[0.0]]), layout=layout)
    losses = np.cos(3 * line["positions"])
    table = pa.table(
        {"step": [0], "positions": [line["positions"]], "panel_edges": [line["panel_edges"]], "train_loss": [losses]}
    )
    curve, units = LineCurves.from_table(table), LineCurves.units(line["positions"], line["panel_edges"])
    points = np.array([-0.5, -0.31, 0.0, 0.1, 0.123, 0.5, 0.7])
    np.testing.assert_allclose(losses @ units.at(points), curve.at(points)[0], atol=1e-13)
    for order in (1, 2):
        np.testing.assert_allclose(losses @ units.derivative_at_zero(order), curve.derivative_at_zero(order), atol=1e-9)
    assert len(units) == losses.size


@pytest.mark.parametrize("layout", ["panels", "grid"])
def test_sets_of_parabolas_have_the_numbers_of_their_mean(tmp_path, layout):
    table = emulate(tmp_path, run_lines(layout=layout, lr=0.05))
    for index in range(3):
        samples, batch = parabolas(N, seed=index), parabolas(B, seed=100 + index, slope=-3)
        _, b_f, a_f = samples.mean(axis=0)
        for size in (2, 4, 16, 32):
            found = rows_of(table, step=4 * index, batch_size=size)
            assert [row["draw"] for row in found] == [0, 1, 2, 3]
            for row, (own, others) in zip(found, drawn(4 * index, size), strict=True):
                chosen = np.concatenate([batch[own], samples[others]])
                assert len(chosen) == size
                c, b, a = chosen.mean(axis=0)
                assert row["selection"] == "random"
                assert row["slope"] == pytest.approx(b, abs=1e-4)
                assert row["curvature"] == pytest.approx(2 * a, abs=2e-2)  # losses are stored in float32
                assert row["loss_at_zero"] == pytest.approx(c, abs=1e-6)
                assert row["loss_variance"] == pytest.approx(np.mean((chosen[:, 0] - c) ** 2), abs=1e-6)
                assert row["sgd_step_length"] == pytest.approx(-0.05 * b, abs=1e-5)
                # c(mu) lies on a node of the grid: the parabola is exact on both layouts.
                pal = -b / (2 * a) if b < 0 else 0.0
                assert row["pal_step_length"] == pytest.approx(pal, abs=1e-4)
                assert row["sgd_distance"] == pytest.approx(-b_f / (2 * a_f) - row["sgd_step_length"], abs=1e-4)
                assert row["pal_distance"] == pytest.approx(-b_f / (2 * a_f) - row["pal_step_length"], abs=1e-4)
                # Between the nodes of a grid the loss is a chord: at most a*h^2/4 above the parabola.
                chord = 1e-5 if layout == "panels" else a_f * 0.02**2 / 4 + 1e-5
                for name in ("sgd", "pal"):
                    s = row[f"{name}_step_length"]
                    expected = -b_f * s - a_f * s * s if abs(s) <= 0.5 else None
                    assert row[f"{name}_improvement"] == (expected and pytest.approx(expected, abs=chord))


def test_the_own_batch_is_itself_and_all_is_the_full_batch(tmp_path):
    table = emulate(tmp_path, run_lines())
    for index in range(3):
        (own,) = rows_of(table, step=4 * index, batch_size=B)
        assert (own["selection"], own["draw"]) == ("random", 0)
        assert own["slope"] == pytest.approx(parabolas(B, seed=100 + index, slope=-3)[:, 1].mean(), abs=1e-4)
        (full,) = rows_of(table, step=4 * index, selection="all")
        samples = parabolas(N, seed=index)
        assert (full["batch_size"], full["draw"]) == (N, 0)
        assert full["slope"] == pytest.approx(samples[:, 1].mean(), abs=1e-4)
        assert full["loss_variance"] == pytest.approx(samples[:, 0].var(), abs=1e-6)


def test_larger_batches_mix_the_own_slope_with_that_of_the_rest(tmp_path):
    # papers.md 2.3, the remark after M14: D_B = |B|/B * D_|B| + (1 - |B|/B) * D_rest, for every draw.
    table = emulate(tmp_path, run_lines(), batch_draws=6)
    for index in range(3):
        slopes = parabolas(N, seed=index)[:, 1]
        (own,) = rows_of(table, step=4 * index, batch_size=B)
        for size in (16, 32):
            found = rows_of(table, step=4 * index, batch_size=size)
            for row, (_, others) in zip(found, drawn(4 * index, size, draws=6), strict=True):
                assert not set(others) & set(ROWS)
                mixed = B / size * own["slope"] + (1 - B / size) * slopes[others].mean()
                assert row["slope"] == pytest.approx(mixed, abs=1e-4)


def test_steepest_samples_follow_one_over_the_batch_size_where_the_others_are_flat(tmp_path):
    steep = np.repeat([[2.0, -4.0, 3.0], [2.0, 0.0, 3.0]], 4, axis=0)[np.random.default_rng(0).permutation(8)]
    line = sample_line(polynomials(parabolas(N, seed=0)), polynomials(steep), rows=ROWS)
    table = emulate(tmp_path, [line], batch_sizes=[4, 6], compat=True)
    slopes = {row["batch_size"]: row["slope"] for row in table.to_pylist()}
    assert slopes[B] == pytest.approx(-2.0, abs=1e-4)
    assert slopes[4] == pytest.approx(8 / 4 * slopes[B], abs=1e-3)
    assert slopes[6] == pytest.approx(8 / 6 * slopes[B], abs=1e-3)
    kinds = {(row["selection"], row["batch_size"], row["draw"]) for row in table.to_pylist()}
    assert kinds == {("steepest", 4, 0), ("steepest", 6, 0), ("random", 8, 0), ("all", N, 0)}


def test_slopes_fall_like_one_over_the_batch_size_where_the_rest_is_flat(tmp_path):
    flat = parabolas(N, seed=1)
    flat[:, 1] = 0.0
    line = sample_line(polynomials(flat), polynomials(parabolas(B, seed=2, slope=-3)), rows=ROWS)
    sizes, slopes = batch_slopes(emulate(tmp_path, [line, {**line, "step": 9}]))
    np.testing.assert_array_equal(sizes, [8, 16, 32])
    assert slopes.shape == (2, 3)
    np.testing.assert_allclose(slopes, slopes[:, :1] * 8 / sizes, rtol=1e-4)


def test_slopes_are_mean_magnitudes_over_draws(tmp_path):
    table = emulate(tmp_path, [*run_lines(2), {**run_lines(1)[0], "step": 50, "status": "non_finite"}])
    sizes, slopes = batch_slopes(table)
    for index, step in enumerate((0, 4)):
        for size, slope in zip(sizes, slopes[index], strict=True):
            expected = np.mean([abs(row["slope"]) for row in rows_of(table, step=step, batch_size=int(size))])
            assert slope == pytest.approx(expected, rel=1e-12)
    assert slopes.shape == (2, 3)
    with pytest.raises(SgdlineError, match=r"must hold the run's batch_size, got None. Run the rule measure_batch"):
        batch_slopes(table.replace_schema_metadata(None))


def test_a_single_draw_counts_for_all(tmp_path):
    table = emulate(tmp_path, run_lines(2))
    slopes = emulated_batches(table, "slope")
    np.testing.assert_array_equal(slopes.steps, [0, 4])
    np.testing.assert_array_equal(slopes.sizes, [2, 4, 8, 16, 32])
    assert slopes.values.shape == (2, 5, 4)
    assert np.isfinite(slopes.values).all()
    assert np.ptp(slopes.values[:, 2], axis=1) == pytest.approx(0)
    assert np.all(np.ptp(slopes.values[:, [0, 1, 3, 4]], axis=2) > 0)
    for row in rows_of(table, step=4, batch_size=16):
        assert slopes.values[1, 3, row["draw"]] == row["slope"]
    np.testing.assert_array_equal(emulated_batches(table, "slope", magnitude=True).values, np.abs(slopes.values))


@pytest.mark.parametrize(
    ("wanted", "batch", "samples", "sizes"),
    [
        ("auto", 128, 4000, [32, 64, 128, 256, 512, 1024, 2048]),
        ("auto", 64, 1024, [16, 32, 64, 128, 256, 512, 1024]),
        ("auto", 50, 300, [12, 25, 50, 100, 200]),
        ("auto", 4, 1000, [2, 4, 8, 16, 32, 64]),
        ("auto", 128, 90, [32, 64, 128]),
        ([256, 32], 128, 4000, [32, 128, 256]),
        ([128, 5000], 128, 4000, [128, 5000]),
    ],
)
def test_sizes(wanted, batch, samples, sizes):
    assert emulated_sizes(wanted, batch_size=batch, samples=samples) == sizes


def test_draws_are_counted_nested_permutations():
    first = draw_orders(1, 7, draws=5, batch=6, rest=20)
    again = draw_orders(1, 7, draws=5, batch=6, rest=20)
    for one, other, count in zip(first, again, (6, 20), strict=True):
        np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(np.sort(one, axis=1), np.tile(np.arange(count), (5, 1)))
        assert len(np.unique(one, axis=0)) == 5
    assert not np.array_equal(first[1], draw_orders(1, 8, draws=5, batch=6, rest=20)[1])
    assert not np.array_equal(first[1], draw_orders(2, 7, draws=5, batch=6, rest=20)[1])


def test_lines_have_draws_of_their_own_and_no_global_state(tmp_path):
    np.random.seed(11)  # noqa: NPY002
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    table = emulate(tmp_path, run_lines(3))
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002
    last = table.filter(pa.array(table["step"].to_numpy() == 8))["slope"].to_pylist()
    assert emulate(tmp_path, run_lines(3)[2:])["slope"].to_pylist() == last
    assert emulate(tmp_path, run_lines(3)[2:], seed=4)["slope"].to_pylist() != last


@pytest.mark.parametrize("compat", [False, True])
def test_equal_runs_give_equal_bytes_however_rows_are_batched(tmp_path, monkeypatch, compat):
    lines = run_lines(7)
    whole = emulate(tmp_path, lines, compat=compat)
    first = (tmp_path / "sizes.arrow").read_bytes()
    emulate(tmp_path, lines, compat=compat)
    assert (tmp_path / "sizes.arrow").read_bytes() == first
    monkeypatch.setattr(store, "_LIST_BYTES_PER_BATCH", 1)  # every line a record batch of its own
    line, _ = write_sample_lines(tmp_path, lines)
    assert len(list(iterate_table(line, "line", columns=["step"]))) == len(lines)
    assert emulate(tmp_path, lines, compat=compat).equals(whole, check_metadata=True)


def test_sample_losses_are_never_read_as_a_whole(tmp_path, monkeypatch):
    def small_columns(path, kind, *, columns=None):
        assert columns is not None
        assert not {"sample_loss", "direction_batch_sample_loss"} & set(columns)
        return read_table(path, kind, columns=columns)

    monkeypatch.setattr(module, "read_table", small_columns)
    assert emulate(tmp_path, run_lines(2)).num_rows == 2 * (4 * 4 + 2)


def test_a_short_last_batch_is_emulated_from_the_samples_it_has(tmp_path):
    short = parabolas(3, seed=9, slope=-3)
    line = sample_line(polynomials(parabolas(N, seed=0)), polynomials(short), step=4, rows=[1, 2, 50])
    table = emulate(tmp_path, [*run_lines(1), line], batch_sizes=[2, 3, 8])
    samples = parabolas(N, seed=0)
    joining = np.setdiff1d(np.arange(N), [1, 2, 50])
    for size in (2, 3, 8):
        found = rows_of(table, step=4, selection="random", batch_size=size)
        assert len(found) == (1 if size == 3 else 4)
        for row, (own, others) in zip(found, drawn(4, size, batch=3, joining=joining), strict=False):
            chosen = np.concatenate([short[own], samples[others]])
            assert row["slope"] == pytest.approx(chosen[:, 1].mean(), abs=1e-4)


def test_unknown_rows_are_drawn_from_all_samples(tmp_path):
    table = emulate(tmp_path, run_lines(1, rows=None), batch_sizes=[N, N + B], batch_draws=2)
    samples, batch = parabolas(N, seed=0), parabolas(B, seed=100, slope=-3)
    everything = rows_of(table, batch_size=N + B)
    assert [row["slope"] for row in everything] == pytest.approx(
        [np.concatenate([samples, batch])[:, 1].mean()] * 2, abs=1e-4
    )
    for row, (_, others) in zip(
        rows_of(table, selection="random", batch_size=N), drawn(0, N, draws=2, joining=np.arange(N)), strict=True
    ):
        assert row["slope"] == pytest.approx(np.concatenate([samples[others], batch])[:, 1].mean(), abs=1e-4)


def test_sizes_without_samples_enough_are_told(tmp_path):
    table = emulate(tmp_path, run_lines(2), batch_sizes=[N, N + 1, 500])
    assert {row["batch_size"] for row in table.to_pylist()} == {B, N}
    facts = provenance(table)
    assert facts["skipped_batch_sizes"] == [N + 1, 500]
    assert facts["batch_sizes"] == [B, N, N + 1, 500]
    assert (facts["batch_size"], facts["code"]) == (B, "abc")


def test_deviation_from_the_exact_slope_is_told(tmp_path):
    lines = run_lines(3)
    for index, line in enumerate(lines):
        exact = parabolas(B, seed=100 + index, slope=-3)[:, 1].mean()
        line["direction_batch_slope"] = exact / (1 + [0.01, -0.02, 0.5][index])
    assert provenance(emulate(tmp_path, lines))["slope_deviation"] == pytest.approx(0.02, abs=1e-4)
    for line in lines:
        line["direction_batch_slope"] = 0.0
    assert provenance(emulate(tmp_path, lines))["slope_deviation"] is None


@pytest.mark.parametrize("compat", [False, True])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_sample_that_is_not_finite_spoils_its_own_sets_only(tmp_path, bad, compat):
    batch = polynomials(parabolas(B, seed=100, slope=-3))

    def spoilt(s):
        losses = batch(s)
        losses[np.abs(s) < 1e-9, 2] = bad
        return losses

    line = sample_line(polynomials(parabolas(N, seed=0)), spoilt, rows=ROWS)
    table = emulate(tmp_path, [line], batch_sizes=[4, 8, 16], compat=compat)
    good = 0
    for row in rows_of(table):
        if row["selection"] == "steepest":
            held = False  # the sample has no slope: it comes last
        elif row["selection"] == "all":
            held = compat  # papers.md L11
        else:
            held = 2 in drawn(0, row["batch_size"])[row["draw"]][0]
        good += not held
        assert row["status"] == "ok"
        for name in ("slope", "curvature", "loss_at_zero", "loss_variance", "pal_step_length"):
            assert (row[name] is None) == held, (row, name)
        # The released full-batch loss holds the direction batch (papers.md L11).
        assert (row["pal_improvement"] is None) == (held or compat)
    assert good >= 1


def test_a_loss_that_no_number_rests_on_does_no_harm(tmp_path):
    batch = polynomials(parabolas(B, seed=100, slope=-3))

    def spoilt(s):
        losses = batch(s)
        losses[np.abs(s) > 0.4] = np.inf
        return losses

    lines = run_lines(1, layout="grid")
    samples = polynomials(parabolas(N, seed=0))
    table = emulate(tmp_path, [sample_line(samples, spoilt, rows=ROWS, layout="grid")])
    assert table.equals(emulate(tmp_path, lines))


def test_steps_beyond_the_measured_range_have_no_improvement(tmp_path):
    table = emulate(tmp_path, run_lines(1, half_width=0.08, lr=10.0))
    for row in rows_of(table):
        assert abs(row["sgd_step_length"]) > 0.08
        assert row["sgd_improvement"] is None
        assert row["sgd_distance"] is not None
        # The line ends before mu: PAL has not measured what it needs.
        assert row["pal_step_length"] is None
        assert row["pal_improvement"] is None
        assert row["pal_distance"] is None


def test_lines_without_a_measurement_have_one_row_without_numbers(tmp_path):
    lines = run_lines(4)
    for line, status in zip(lines, ("non_finite", "edge", "unresolved", "zero_direction"), strict=True):
        line["status"] = status
    table = emulate(tmp_path, lines)
    for step, status in ((0, "non_finite"), (8, "unresolved"), (12, "zero_direction")):
        (row,) = rows_of(table, step=step)
        assert row.pop("selection") == "all"
        assert (row.pop("step"), row.pop("batch_size"), row.pop("draw"), row.pop("status")) == (step, N, 0, status)
        assert set(row.values()) == {None}
    edge = rows_of(table, step=4)
    assert len(edge) == 4 * 4 + 2
    assert {row["status"] for row in edge} == {"ok"}


@pytest.mark.parametrize("status", ["ok", "non_finite"])
def test_tables_of_no_line_and_of_lines_without_numbers(tmp_path, status):
    nothing = emulate(tmp_path, [])
    assert nothing.num_rows == 0
    assert nothing.schema.equals(kind_of("line_batch_sizes").schema)
    assert emulated_batches(nothing, "slope").values.shape == (0, 0, 1)
    sizes, slopes = batch_slopes(nothing)
    assert (sizes.size, slopes.size) == (0, 0)
    one = emulate(tmp_path, run_lines(1, status=status))
    assert batch_slopes(one)[1].shape == ((1, 3) if status == "ok" else (0, 0))


@pytest.mark.parametrize("column", ["sample_loss", "direction_batch_sample_loss"])
def test_lines_without_sample_losses_are_refused(tmp_path, column):
    lines = run_lines(2)
    lines[1][column] = None
    with pytest.raises(SgdlineError, match=rf"got no {column} at step 4. Set probes.line.sample_losses: true"):
        emulate(tmp_path, lines)
    assert not (tmp_path / "sizes.arrow").exists()


@pytest.mark.parametrize("rows", [np.arange(N, N + B), np.arange(-1, B - 1), np.arange(B - 1)])
def test_rows_that_cannot_be_are_refused(tmp_path, rows):
    with pytest.raises(SgdlineError, match="'direction_batch_rows' must hold one row of the 60 measured samples"):
        emulate(tmp_path, run_lines(1, rows=rows))


def test_torn_sample_losses_are_refused(tmp_path):
    lines = run_lines(1)
    lines[0]["sample_loss"] = lines[0]["sample_loss"][:-1]
    with pytest.raises(SgdlineError, match="'sample_loss' must hold a whole number of losses per position"):
        emulate(tmp_path, lines)


def test_metrics_of_other_lines_are_refused(tmp_path):
    line, _ = write_sample_lines(tmp_path, run_lines(3))
    other = tmp_path / "other"
    other.mkdir()
    _, metrics = write_sample_lines(other, run_lines(2))
    with pytest.raises(SgdlineError, match=r"got none for step 8\. Delete it"):
        measure_batch_sizes(
            line, metrics, tmp_path / "sizes.arrow", batch_size=B, seed=0, interval=0.5, resolution=0.02,
            pal_measuring_step=0.1, batch_sizes="auto", batch_draws=1, compat=False, provenance={},
        )  # fmt: skip
