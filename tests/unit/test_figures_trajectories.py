"""Trajectories, barriers and heights of `walk`: what is drawn is what the tables hold, whatever a run did."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest
from drawn_figures import assert_nothing_overlaps, render, render_instead_of_saving, settle, sheet_of
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from walk_tables import ALPHAS, FACTS, Tables, as_table, epoch_rows, make_walk, measured_row

from sgdline.figures import _pooled, plot_comparison, plot_figure, trajectory
from sgdline.figures.base import Figure as Sheet
from sgdline.figures.grammar import style
from sgdline.figures.grammar.table import scientific
from sgdline.tables import write_table

BARRIERS, BARRIER_TABLE, HEIGHT_TABLE = (sheet_of(name) for name in ("barriers", "barrier_table", "height_table"))
INTERP = {"every": 1, "epochs": None, "updates": None, "alphas": 11, "batch_norm": "train", "augment": False}


def run_settings(*, figure_updates: int = 50, **changes: Any) -> dict[str, Any]:
    block = {
        "experiment": "digits_walk", "dataset": "digits", "model": "mlp", "lr": "0.1", "batch_size": 50, "seed": 1,
        "steps": 60, "optimizer": {"name": "sgd", "momentum": 0.0, "weight_decay": 0.0}, "probes": {"interp": INTERP},
        "analysis": {"figure_updates": figure_updates},
    }  # fmt: skip
    return block | changes


def drawn(figure: Sheet, tables: Any, *, settings: Any = None) -> Figure:
    with style.applied():
        return figure.draw(tables, settings=settings or run_settings())


def walk_figure(tables: Tables, *, place: int = 1, **settings: Any) -> Figure:
    return drawn(sheet_of("trajectory", place=place), tables, settings=run_settings(**settings))


def words(figure: Figure) -> str:
    texts = [*figure.texts, *(text for panel in figure.axes for text in panel.texts)]
    titles = [panel.get_title(loc="left") for panel in figure.axes]
    return " ".join([" ".join(text.get_text().split()) for text in texts] + titles)


def title(figure: Figure) -> str:
    return str(figure.texts[0].get_text())


def curve(panel: Axes, label: str) -> tuple[np.ndarray, np.ndarray]:
    found = [line for line in panel.lines if str(line.get_label()).startswith(label)]
    assert len(found) == 1, f"{label!r} is drawn {len(found)} times"
    return np.asarray(found[0].get_xdata()), np.asarray(found[0].get_ydata())


def only_curve(panel: Axes) -> tuple[np.ndarray, np.ndarray]:
    [found] = [line for line in panel.lines if line.get_marker() == "o"]
    return np.asarray(found.get_xdata()), np.asarray(found.get_ydata())


def replaced(table: pa.Table, name: str, values: Any) -> pa.Table:
    at = table.schema.get_field_index(name)
    return table.set_column(at, table.schema.field(at), pa.array(values, type=table.schema.field(at).type))


def four_epochs(step: int) -> bool:
    return step // 20 in (0, 1, 4, 9)


# -- the loss ----------------------------------------------------------------------------------------------------------


def test_the_loss_runs_through_every_alpha_and_the_floor_through_inner_minima() -> None:
    tables = make_walk(steps=20)
    loss, cosines, distances = walk_figure(tables).axes
    x, y = curve(loss, "full-batch loss")
    rows = tables["intervals"].to_pylist()
    np.testing.assert_allclose(x, np.concatenate([row["step"] + ALPHAS for row in rows]))
    np.testing.assert_array_equal(y, np.concatenate([row["train_loss"] for row in rows]))
    inner = [row for row in rows if min(row["train_loss"][1:-1]) < min(row["train_loss"][0], row["train_loss"][-1])]
    assert 5 < len(inner) < 20
    x, y = curve(loss, "valley floor")
    np.testing.assert_allclose(x, [row["step"] + np.argmin(row["train_loss"]) / 10 for row in inner])
    np.testing.assert_array_equal(y, [min(row["train_loss"]) for row in inner])
    assert loss.get_yscale() == "linear"
    # One axis for all three, with a grey line at every iterate.
    for panel in (loss, cosines, distances):
        assert panel.get_xlim() == loss.get_xlim()
        [grey] = panel.collections
        assert [path.vertices[0, 0] for path in grey.get_paths()] == list(range(21))


def test_cosines_and_distances_are_those_of_the_trace() -> None:
    tables = make_walk(steps=60, updates_per_epoch=20)
    _, cosines, distances = walk_figure(tables, place=2).axes
    trace = tables["trace"].to_pylist()
    x, y = only_curve(cosines)
    np.testing.assert_array_equal(x, np.arange(20, 40))
    np.testing.assert_array_equal(y, [trace[step]["gradient_cosine"] for step in range(20, 40)])
    x, y = only_curve(distances)
    np.testing.assert_array_equal(x, np.arange(20, 41))
    np.testing.assert_array_equal(y, [trace[step]["distance_from_start"] for step in range(20, 41)])
    assert cosines.get_ylim()[0] < -1 < 1 < cosines.get_ylim()[1]


def test_the_first_cosine_does_not_exist() -> None:
    x, y = only_curve(walk_figure(make_walk()).axes[1])
    np.testing.assert_array_equal(np.isnan(y), x == 0)


def test_missing_updates_leave_gaps() -> None:
    tables = make_walk(steps=20, measured=lambda step: step not in (3, 4, 10))
    figure = walk_figure(tables)
    x, y = curve(figure.axes[0], "full-batch loss")
    assert np.isnan(y).sum() == 2
    assert len(y) == 17 * ALPHAS.size + 2
    for first, last in ((3, 5), (10, 11)):
        between = (x > first) & (x < last)
        assert not between.any()
    assert "17 of 20 updates measured: gaps" in words(figure)


def test_rows_of_any_order_give_one_picture() -> None:
    tables = make_walk(steps=20)
    turned = {name: table.take(list(range(len(table)))[::-1]) for name, table in tables.items()}
    for name in ("full-batch loss", "valley floor"):
        for one, other in zip(*(curve(walk_figure(own).axes[0], name) for own in (tables, turned)), strict=True):
            np.testing.assert_array_equal(one, other)


def test_the_notes_count_what_is_shown() -> None:
    tables = make_walk(steps=60, updates_per_epoch=20, barriers={3: 0.01, 25: 0.02, 30: 0.01})
    figure = walk_figure(tables, place=2, figure_updates=12)
    rows = tables["intervals"].to_pylist()[20:32]
    inside = sum(min(row["train_loss"][1:-1]) < min(row["train_loss"][0], row["train_loss"][-1]) for row in rows)
    heights = [
        (row["train_loss"][0] + row["train_loss"][-1]) / 2 - min(row["train_loss"]) for row in rows
    ]  # in other words than the table's
    mean = np.mean([row["gradient_cosine"] for row in rows])
    text = words(figure).replace("\N{MINUS SIGN}", "-")
    assert title(figure).endswith(": epoch 2, updates 20 to 31")
    for part in (
        "first 12 of 20 measured updates of the epoch", "lr 0.1", f"minimum inside in {inside} of 12 intervals",
        "2 barriers", f"mean height H of the walls {np.mean(heights):.3g} nats", f"mean {mean:+.2f}",
        "N = 1,024 samples", "BatchNorm in train mode", "values of $\\alpha$ per interval", "experiment digits_walk",
        "model mlp", "data set digits", "batch size 50", "seed 1",
    ):  # fmt: skip
        assert part in text, part


def test_a_barrier_is_marked_at_its_top() -> None:
    tables = make_walk(steps=20, barriers={7: 0.05})
    row = tables["intervals"].to_pylist()[7]
    x, y = curve(walk_figure(tables).axes[0], "barrier")
    np.testing.assert_allclose(x, [7.5])
    np.testing.assert_allclose(y, [max(row["train_loss"][0], row["train_loss"][-1]) + 0.05])
    assert not [line for line in walk_figure(make_walk(steps=20)).axes[0].lines if line.get_label() == "barrier"]


def test_a_leap_is_cut_and_told_but_the_floor_and_barriers_stay() -> None:
    quiet = make_walk(steps=60, updates_per_epoch=60, noise=0.05, curvatures=(4.0, 2.0), lr=0.05)
    panel = walk_figure(quiet, figure_updates=60).axes[0]
    _, losses = curve(panel, "full-batch loss")
    assert panel.get_ylim()[0] < losses.min() < losses.max() < panel.get_ylim()[1]
    wild = make_walk(steps=60, updates_per_epoch=60, noise=0.5, barriers={30: 40.0})
    figure = render(walk_figure(wild, figure_updates=60))
    low, high = figure.axes[0].get_ylim()
    _, floor = curve(figure.axes[0], "valley floor")
    assert low < floor.min() < floor.max() < high < 10
    _, losses = curve(figure.axes[0], "full-batch loss")
    assert f"{(losses > high).sum()} values of {losses.size} outside the y range" in words(figure)
    assert curve(figure.axes[0], "barrier")[1] == [high]
    assert "barriers beyond the y range stand on its edge" in words(figure)


def test_valleys_too_shallow_to_be_seen_are_enlarged() -> None:
    shallow = make_walk(steps=50, updates_per_epoch=60, noise=0.05, curvatures=(18.0, 1.0, 1.0, 1.0))
    figure = render(walk_figure(shallow))
    [inset] = figure.axes[0].child_axes
    assert "inset: the last intervals, enlarged" in words(figure)
    x = np.asarray(inset.lines[0].get_xdata())
    assert x[-1] - x[0] == pytest.approx(8)
    deep = make_walk(steps=20, noise=1.0)
    assert not walk_figure(deep).axes[0].child_axes


def test_full_batch_descent_runs_on_over_epochs() -> None:
    tables = make_walk(steps=60, updates_per_epoch=1, noise=0.0, lr=0.105)
    figure = walk_figure(tables, figure_updates=40)
    assert title(figure).endswith(": updates 0 to 39, one an epoch")
    assert "first 40 of 60 measured updates of the run" in words(figure)
    # On a quadratic with lr*lambda_max just below 2 the gradient turns over and over.
    assert only_curve(figure.axes[1])[1][5:20].max() < -0.9
    assert title(walk_figure(tables, figure_updates=10, place=3)).endswith(": updates 2 to 11, one an epoch")


def test_a_stretch_may_be_a_single_update() -> None:
    figure = render(walk_figure(make_walk(), figure_updates=1))
    assert title(figure).endswith(": epoch 1, update 0")
    assert "no cosine is known" in words(figure)
    only = make_walk(steps=1, updates_per_epoch=1)
    assert title(walk_figure(only)).endswith(": epoch 1, update 0")


def test_a_scheduled_learning_rate_is_a_range() -> None:
    tables = make_walk(steps=20)
    tables["intervals"] = replaced(tables["intervals"], "lr", np.linspace(0.1, 0.02, 20))
    assert "lr 0.02 to 0.1;" in words(walk_figure(tables))


def eigenvalues(**found: float | None) -> pa.Table:
    steps = [int(name[1:]) for name in found]
    return pa.table({"step": steps, "largest_eigenvalue": pa.array(list(found.values()), type=pa.float64())})


@pytest.mark.parametrize(
    ("hvp", "note"),
    [
        (eigenvalues(t0=18.0, t20=17.0, t30=16.0, t50=3.0), ["lr · λ_max = 1.7 (update 20) to 1.6 (update 30)"]),
        (eigenvalues(t30=16.0, t20=17.0), ["lr · λ_max = 1.7 (update 20) to 1.6 (update 30)"]),
        (eigenvalues(t0=18.0, t25=16.0), ["lr · λ_max = 1.6 (update 25)"]),
        (eigenvalues(t0=18.0, t10=-2.0), ["lr · λ_max = -0.2 (update 10)"]),
        (eigenvalues(t0=18.0, t25=None, t30=math.nan), ["lr · λ_max = 1.8 (update 0)"]),
        (eigenvalues(t50=3.0), []),
        (eigenvalues(t999=3.0), []),
        (eigenvalues(t25=None), []),
    ],
)
def test_the_largest_eigenvalue_stands_beside_the_cosine(hvp: pa.Table, note: list[str]) -> None:
    tables = make_walk(steps=60, updates_per_epoch=20)
    assert trajectory.curvature_note(hvp, tables["trace"], first=20, last=39) == note
    text = words(walk_figure({**tables, "hvp": hvp}, place=2))
    assert ("λ_max" in text) == bool(note)
    assert all(part in text for part in note)


def test_an_eigenvalue_that_did_not_converge_says_so() -> None:
    hvp = eigenvalues(t20=17.0, t30=16.0).append_column("largest_converged", pa.array([True, False]))
    note = trajectory.curvature_note(hvp, make_walk()["trace"], first=20, last=39)
    assert note == ["lr · λ_max = 1.7 (update 20) to 1.6 (update 30, not converged)"]


# -- runs that fail ----------------------------------------------------------------------------------------------------


def test_a_run_that_diverges_is_drawn_up_to_its_end() -> None:
    figure = render(walk_figure(make_walk(lost=33, updates_per_epoch=50)))
    _, losses = curve(figure.axes[0], "full-batch loss")
    assert np.isnan(losses[-ALPHAS.size :]).all()
    assert np.isfinite(losses[: -ALPHAS.size]).all()
    text = words(figure)
    assert "1 interval not counted (non_finite)" in text
    assert "minimum inside in" in text
    assert "THE RUN DIVERGED AT UPDATE 33" in text
    assert curve(figure.axes[0], "run diverged")[0][0] == 33


def test_a_run_lost_at_once_says_so() -> None:
    figure = render(walk_figure(make_walk(lost=0)))
    text = words(figure)
    for part in (
        "no two losses in a row are finite: the run diverged at update 0",
        "no cosine is known",
        "no distance is known",
    ):
        assert part in text


def test_one_finite_loss_and_a_huge_distance_leave_no_empty_panel() -> None:
    tables = make_walk(steps=2, lost=1)
    losses = [[2.3] + [math.nan] * 10, [math.nan] * 11]
    tables["intervals"] = replaced(tables["intervals"], "train_loss", losses)
    tables["intervals"] = replaced(tables["intervals"], "status", ["non_finite", "non_finite"])
    tables["trace"] = replaced(tables["trace"], "distance_from_start", [0.0, 2e30])
    figure = walk_figure(tables)
    assert "no two losses in a row are finite: the run diverged at update 1" in words(figure)
    settle(figure)
    assert figure.axes[2].yaxis.get_offset_text().get_text() == ""
    assert "2.0×10³⁰" in [label.get_text() for label in figure.axes[2].get_yticklabels()]  # noqa: RUF001


def test_an_epoch_that_was_not_measured_says_so() -> None:
    [panel] = render(walk_figure(make_walk(lost=33), place=4)).axes
    assert "no fourth epoch was measured, only 2: the run diverged at update 33" in words(panel.figure)
    tables = make_walk(measured=lambda step: False)
    assert "no update was measured" in words(render(walk_figure(tables)))
    alone = drawn(sheet_of("trajectory", panel="cosine"), tables, settings=run_settings())
    assert "no update was measured" in words(alone)


def test_intervals_of_another_status_are_drawn_and_not_counted() -> None:
    tables = make_walk(steps=20)
    status = ["ok"] * 20
    status[4], status[5] = "unresolved", "zero_direction"
    intervals = replaced(tables["intervals"], "status", status)
    for name in ("floor_loss", "height", "interior_minimum", "barrier", "floor_alpha"):
        values = [None if row in (4, 5) else value for row, value in enumerate(intervals[name].to_pylist())]
        intervals = replaced(intervals, name, values)
    figure = render(walk_figure({**tables, "intervals": intervals}))
    assert "of 18 intervals" in words(figure)
    assert "2 intervals not counted (unresolved, zero_direction)" in words(figure)
    assert np.isfinite(curve(figure.axes[0], "full-batch loss")[1]).all()


# -- barriers ----------------------------------------------------------------------------------------------------------


def test_barriers_are_counted_by_epoch_and_set_against_the_loss() -> None:
    heights = {5: 0.02, 45: 0.001, 46: 0.1}
    tables = make_walk(steps=60, barriers=heights)
    left, right = drawn(BARRIERS, tables).axes
    [scale] = right.child_axes
    assert scale.get_ylabel() == "epoch"
    np.testing.assert_array_equal(curve(left, "barriers")[1], [1, 0, 2])
    np.testing.assert_allclose(curve(left, "5 %")[1], [1, 1, 1])
    assert [label.get_text() for label in left.get_xticklabels()] == ["1", "2", "3"]
    [points] = right.collections
    losses = [tables["intervals"].to_pylist()[step]["train_loss"][0] for step in heights]
    np.testing.assert_allclose(points.get_offsets(), np.column_stack([losses, list(heights.values())]), rtol=1e-9)
    np.testing.assert_array_equal(points.get_array(), [1, 3, 3])
    assert (right.get_xscale(), right.get_yscale()) == ("log", "log")
    ends = curve(right, "as high as the loss")
    np.testing.assert_array_equal(*ends)


def test_a_run_without_barriers_is_a_sheet_that_says_so() -> None:
    figure = render(drawn(BARRIERS, make_walk(steps=60)))
    assert "none of 60 intervals has a barrier" in words(figure)
    assert "0 of 60 intervals" in words(figure)
    np.testing.assert_array_equal(curve(figure.axes[0], "barriers")[1], [0, 0, 0])


def test_many_epochs_stand_at_their_place() -> None:
    tables = make_walk(steps=60, updates_per_epoch=2, measured=lambda step: step != 7)
    panel = drawn(BARRIERS, tables).axes[0]
    x, _ = curve(panel, "barriers")
    np.testing.assert_array_equal(x, np.arange(1, 31))
    assert len(panel.texts) == 1  # the notes


@pytest.mark.parametrize(
    ("tables", "told"),
    [
        (make_walk(lost=0), "no interval can be counted: the run diverged at update 0"),
        (make_walk(measured=lambda step: False), "no interval was measured"),
    ],
)
def test_a_run_without_intervals_says_so(tables: Tables, told: str) -> None:
    figure = render(drawn(BARRIERS, tables))
    assert told in words(figure)
    assert len(figure.axes) == 2


# -- tables ------------------------------------------------------------------------------------------------------------


def epochs_of(heights: dict[int, list[float]], *, barriers: dict[int, int] | None = None, lost: int = 0) -> Tables:
    """Return the tables of a run whose intervals have these heights, by epoch."""
    rows = []
    for epoch, own in heights.items():
        for place, height in enumerate(own):
            losses = 1.0 + height * np.abs(2 * ALPHAS - 1)
            if place < (barriers or {}).get(epoch, 0):
                losses[2] = 2 + height
            rows.append(measured_row(losses, step=len(rows), epoch=epoch - 1.0, lr=0.1, step_length=1.0, status="ok"))
        for _ in range(lost):
            broken = np.full(11, math.nan)
            rows.append(
                measured_row(broken, step=len(rows), epoch=epoch - 1.0, lr=0.1, step_length=1.0, status="non_finite")
            )
    trace = make_walk(steps=20)["trace"]
    return {"interval_epochs": as_table("interval_epochs", epoch_rows(rows), FACTS), "trace": trace}


def table_texts(figure: Figure) -> list[tuple[float, float, str]]:
    """Return place and words of every entry of a drawn table, from top to bottom and left to right."""
    [panel] = figure.axes
    found = [(*text.get_position(), text.get_text()) for text in panel.texts if text.get_va() == "baseline"]
    return sorted(((x, -y, text) for x, y, text in found), key=lambda entry: (round(entry[1], 6), entry[0]))


def table_lines(figure: Figure) -> list[str]:
    lines: dict[float, list[str]] = {}
    for _, y, text in table_texts(figure):
        lines.setdefault(round(y, 6), []).append(text)
    return ["|".join(parts) for _, parts in sorted(lines.items())]


def test_seeds_are_pooled_as_if_their_intervals_were_of_one_run() -> None:
    rng = np.random.default_rng(3)
    heights = [{1: rng.exponential(size=n).tolist(), 4: rng.exponential(size=m).tolist()} for n, m in ((5, 8), (3, 1))]
    runs = [epochs_of(own, barriers={4: 1}, lost=2) for own in heights]
    [setting] = _pooled.pool(runs, [run_settings(seed=seed) for seed in (1, 2)])
    assert list(setting.epochs) == [1, 4]
    for epoch in (1, 4):
        # A barrier is what the loss has between its ends, a height is what the least loss leaves.
        together = np.array(heights[0][epoch] + heights[1][epoch])
        found = setting.epochs[epoch]
        assert found.intervals == together.size
        assert found.mean == pytest.approx(together.mean(), rel=1e-12)
        assert found.variance == pytest.approx(together.var(), rel=1e-12)
        assert found.std == pytest.approx(together.std(), rel=1e-12)
    assert (setting.epochs[1].barriers, setting.epochs[4].barriers) == (0, 2)


def test_barriers_have_a_row_per_setting_and_a_column_per_epoch() -> None:
    first = {1: [0.1] * 20, 10: [0.1] * 20}
    runs = [
        (epochs_of(first, barriers={10: 3}), run_settings(seed=1)),
        (epochs_of(first, barriers={1: 1, 10: 4}), run_settings(seed=2)),
        (epochs_of({1: [0.1] * 9, 25: [0.1] * 1200}, barriers={25: 1100}), run_settings(model="vgg11", lr="0.3")),
    ]
    tables, settings = zip(*runs, strict=True)
    figure = drawn(BARRIER_TABLE, tables, settings=settings)
    assert table_lines(figure) == [
        "model|lr|epoch 1|epoch 10|epoch 25",
        "mlp|0.1|1| of 40|7| of 40|—",
        "vgg11|0.3|0| of 9|—|1,100| of 1,200",
    ]
    text = words(figure)
    for part in (
        "sums over the seeds", "seeds 1, 2", "models mlp, vgg11", "lrs 0.1, 0.3", "batch size 50",
        "experiment digits_walk", "data set digits", "N = 1,024 samples", "BatchNorm in train mode",
    ):  # fmt: skip
        assert part in text, part
    # Numbers end, and words begin, on one axis per column.
    places = {x for x, _, entry in table_texts(figure) if entry in ("1", "0", " of 9")}
    assert len(places) == 1


def test_heights_have_mean_deviation_variance_and_the_power_of_the_learning_rate() -> None:
    low = {1: [0.01, 0.03], 10: [0.002, 0.004]}
    high = {1: [0.04, 0.12], 10: [0.002, 0.004]}  # four times, and the same
    runs = [(epochs_of(low), run_settings(lr="0.05")), (epochs_of(high), run_settings(lr="0.1"))]
    tables, settings = zip(*runs, strict=True)
    lines = table_lines(drawn(HEIGHT_TABLE, tables, settings=settings))
    assert lines == [
        "model|lr|epoch 1|epoch 10",
        "mlp|0.1|8.00·10⁻²| ± 4.00·10⁻²|3.00·10⁻³| ± 1.00·10⁻³",
        "1.60·10⁻³| variance|1.00·10⁻⁶| variance",
        "mlp|0.05|2.00·10⁻²| ± 1.00·10⁻²|3.00·10⁻³| ± 1.00·10⁻³",
        "1.00·10⁻⁴| variance|1.00·10⁻⁶| variance",
        "ratio|0.1 : 0.05|4.00|1.00",
        "2.00| exponent|0.00| exponent",
    ]


def test_ratios_are_taken_within_a_pair_only() -> None:
    def pairs(*blocks: dict[str, Any]) -> list[list[str]]:
        found = _pooled.pool([epochs_of({1: [0.1]}) for _ in blocks], blocks)
        return [[setting.block["lr"] for setting in group] for group in _pooled.lr_pairs(found)]

    assert pairs(run_settings(lr="0.1"), run_settings(lr="0.3"), run_settings(lr="1e-05")) == [["0.3", "0.1", "1e-05"]]
    assert pairs(run_settings(lr="0.1"), run_settings(lr="0.3", model="vgg11")) == [["0.1"], ["0.3"]]
    assert pairs(run_settings(lr="0.1"), run_settings(lr="0.3", batch_size=9)) == [["0.1"], ["0.3"]]
    momentum = {"name": "sgd", "momentum": 0.9, "weight_decay": 0.0}
    assert pairs(run_settings(lr="0.1"), run_settings(lr="0.3", optimizer=momentum)) == [["0.1"], ["0.3"]]
    # The same learning rate in two experiments: which of them makes a pair nobody can say.
    twice = [run_settings(lr="0.1"), run_settings(lr="0.3"), run_settings(lr="0.1", experiment="again")]
    assert pairs(*twice) == [["0.3", "0.1"], ["0.1"]]


def test_rates_in_units_of_the_inverse_sharpness_pair_among_themselves() -> None:
    units = ("absolute", "sharpness")  # of two experiments
    blocks = [run_settings(lr=lr, lr_unit=unit, experiment=unit) for unit in units for lr in ("0.5", "1")]
    tables = [epochs_of({1: [height]}) for height in (0.1, 0.2, 0.1, 0.4)]
    figure = drawn(HEIGHT_TABLE, tables, settings=blocks)
    lines = table_lines(figure)
    assert [line.split("|")[1] for line in lines if line.startswith("mlp|")] == ["1", "0.5", "1/λ₀", "0.5/λ₀"]
    assert [line.split("|")[1:3] for line in lines if line.startswith("ratio|")] == [
        ["1 : 0.5", "2.00"], ["1/λ₀ : 0.5/λ₀", "4.00"],
    ]  # fmt: skip
    assert "lrs 0.5, 1, 0.5/λ₀, 1/λ₀" in " ".join(text.get_text() for text in figure.texts)


def test_names_are_no_longer_than_it_takes() -> None:
    def heads(*blocks: dict[str, Any]) -> list[str]:
        return _pooled.names(_pooled.pool([epochs_of({1: [0.1]}) for _ in blocks], blocks))[0]

    assert heads(run_settings(), run_settings(lr="0.3")) == ["model", "lr"]
    assert heads(run_settings(), run_settings(batch_size=9)) == ["model", "lr", "batch"]
    assert heads(run_settings(), run_settings(dataset="other")) == ["model", "lr", "data set"]
    assert heads(run_settings(), run_settings(experiment="again")) == ["model", "lr", "experiment"]


def test_many_epochs_are_thinned_and_told() -> None:
    tables = epochs_of({epoch: [0.1, 0.2] for epoch in range(1, 41)})
    figure = drawn(HEIGHT_TABLE, [tables], settings=[run_settings()])
    heads = [line.split("|") for line in table_lines(figure) if line.startswith("model|")]  # of two blocks
    columns = [head for block in heads for head in block[2:]]
    assert len(columns) == 8
    assert (columns[0], columns[-1]) == ("epoch 1", "epoch 40")
    assert "8 of 40 measured epochs" in words(figure)


@pytest.mark.parametrize("kind", [BARRIER_TABLE, HEIGHT_TABLE])
def test_runs_that_were_lost_leave_dashes_or_words(kind: Sheet) -> None:
    lost = make_walk(lost=0)
    settings = [run_settings(lr="0.1"), run_settings(lr="0.3", seed=2)]
    whole = epochs_of({1: [0.1, 0.2]})
    figure = render(drawn(kind, [whole, lost], settings=settings))
    assert any(line.startswith("mlp|0.3|—") for line in table_lines(figure))
    assert "DIVERGED: lr 0.3, mlp, seed 2 at update 0" in words(figure)
    none = make_walk(measured=lambda step: False)
    assert "no interval was measured" in words(render(drawn(kind, [none], settings=[run_settings()])))
    render(drawn(kind, [lost], settings=[run_settings()]))


def test_intervals_without_any_height_have_no_ratio() -> None:
    runs = [(epochs_of({1: [0.0, 0.0]}), run_settings(lr="0.1")), (epochs_of({1: [0.1]}), run_settings(lr="0.3"))]
    tables, settings = zip(*runs, strict=True)
    lines = table_lines(drawn(HEIGHT_TABLE, tables, settings=settings))
    assert lines[-1] == "ratio|0.3 : 0.1|—"
    assert "mlp|0.1|0| ± 0" in lines


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0625, "6.25·10⁻²"), (0.99999, "1.00·10⁰"), (123456.0, "1.23·10⁵"), (3.1e-11, "3.10·10⁻¹¹"),
        (0.0, "0"), (math.nan, "—"), (math.inf, "—"),
    ],
)  # fmt: skip
def test_numbers_of_a_table(value: float, text: str) -> None:
    assert scientific(value) == text


# -- files -------------------------------------------------------------------------------------------------------------


def written(tables: Tables, folder: Path) -> dict[str, Path]:
    paths = {}
    for kind, table in tables.items():
        paths[kind] = folder / f"{kind}.arrow"
        write_table(paths[kind], kind, table, provenance=FACTS if kind != "trace" else {})
    return paths


def test_files_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = written(make_walk(updates_per_epoch=60, noise=0.1), tmp_path)
    run, comparison = ({"pdf": tmp_path / f"{name}.pdf", "png": tmp_path / f"{name}.png"} for name in ("run", "many"))
    saved = render_instead_of_saving(monkeypatch)
    plot_figure(sheet_of("trajectory"), paths, settings=run_settings(), **run)
    plot_comparison(HEIGHT_TABLE, [paths], settings=[run_settings()], **comparison)
    assert saved == [(run["pdf"], run["png"]), (comparison["pdf"], comparison["png"])]


def test_an_optional_table_is_read_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[set[str]] = []

    @dataclass(frozen=True, kw_only=True)
    class Watched(trajectory.Trajectory):
        also: ClassVar[tuple[str, ...]] = ("evaluation",)

        def draw(self, tables: Any, *, settings: Any) -> Figure:
            seen.append(set(tables))
            return super().draw(tables, settings=settings)

    paths = written(make_walk(steps=10), tmp_path)
    row = {"step": 0, "epoch": 0.0, "train_loss": 1.0, "train_accuracy": 0.5}
    more = written({"evaluation": as_table("evaluation", [row])}, tmp_path)
    render_instead_of_saving(monkeypatch)
    for own in (paths, paths | more):
        plot_figure(Watched(), own, settings=run_settings(), pdf=tmp_path / "a.pdf", png=tmp_path / "a.png")
    assert seen == [{"intervals", "trace"}, {"intervals", "trace", "evaluation"}]


@pytest.mark.parametrize("width", ["page", "column"])
@pytest.mark.parametrize(
    ("kind", "tables"),
    [
        ("trajectory", make_walk(steps=60, updates_per_epoch=60, barriers={4: 0.1}, lost=55)),
        ("barriers", make_walk(barriers={5: 0.1, 45: 0.01})),
        ("height_table", [epochs_of({epoch: [1e-3, 2e-3] for epoch in range(1, 9)})] * 3),
        ("barrier_table", [epochs_of({1: [0.1]})]),
    ],
    ids=["trajectory", "barriers", "heights", "one number"],
)
@pytest.mark.slow
def test_nothing_leaves_the_sheet_or_overlaps_the_footer(kind: str, tables: Any, width: str) -> None:
    settings: Any = run_settings()
    if isinstance(tables, list):
        rates = ("0.1", "0.05", "0.025")[: len(tables)]
        settings = [run_settings(model="a_network_with_a_long_name", lr=lr) for lr in rates]
    sheet = drawn(sheet_of(kind, width=width), tables, settings=settings)
    assert_nothing_overlaps(sheet)
    assert sheet.get_figwidth() == {"page": 7.0, "column": 3.4}[width]
    for text in (text for panel in sheet.axes if not panel.axison for text in panel.texts):  # of a table
        assert -1 <= text.get_window_extent().x0 < text.get_window_extent().x1 <= sheet.bbox.x1 + 1, text


def test_entries_of_a_table_do_not_overlap() -> None:
    tables = [epochs_of({epoch: [1.23456e-10, 2e-10] for epoch in (1, 10, 25, 100)})] * 2
    blocks = [run_settings(model="resnet56_with_a_long_name", lr=lr) for lr in ("0.1", "1e-05")]
    sheet = drawn(HEIGHT_TABLE, tables, settings=blocks)
    settle(sheet)
    boxes = [text.get_window_extent() for text in sheet.axes[0].texts if text.get_text()]
    for place, one in enumerate(boxes):
        for other in boxes[place + 1 :]:
            width = min(one.x1, other.x1) - max(one.x0, other.x0)
            height = min(one.y1, other.y1) - max(one.y0, other.y0)
            assert width < 1 or height < 1
