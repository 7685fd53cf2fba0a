"""Figures of walk from traces, evaluations and eigenvalues: what is drawn is what the tables hold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from drawn_figures import assert_nothing_overlaps, bands, render, render_instead_of_saving, sheet_of
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from walk_runs import SGD, as_table, evaluation_table, hvp_table, noise, run_settings, trace_table

from sgdline.figures import plot_comparison, plot_figure, tables_by_run
from sgdline.figures.base import Figure as Sheet
from sgdline.figures.grammar import style
from sgdline.tables import write_table

ROLES, NOISE, SCHEDULES, SPECTRAL = (sheet_of(name) for name in ("roles", "noise", "schedules", "spectral_norm"))
Tables = dict[str, pa.Table]
Runs = list[tuple[Tables, dict[str, Any]]]


def draw(kind: Sheet, runs: Runs) -> Figure:
    with style.applied():
        figure: Figure = kind.draw([tables for tables, _ in runs], settings=[settings for _, settings in runs])
    return figure


def draw_spectral(hvp: pa.Table, **trace: Any) -> Figure:
    with style.applied():
        figure = SPECTRAL.draw({"hvp": hvp, "trace": trace_table(**trace)}, settings=run_settings())
    return figure


def words(figure: Figure) -> str:
    texts = [text.get_text() for text in figure.texts]
    texts += [text.get_text() for panel in figure.axes for text in panel.texts]
    texts += [panel.get_title(loc="left") for panel in figure.axes]
    return " ".join(" ".join(texts).split())


def legends(figure: Figure) -> list[list[str]]:
    of_panels = [panel.get_legend() for panel in figure.axes]
    every = [*figure.legends, *(legend for legend in of_panels if legend is not None)]
    return [[text.get_text() for text in legend.get_texts()] for legend in every]


def notes(panel: Axes) -> str:
    return " ".join(text.get_text() for text in panel.texts)


def curve(panel: Axes, label: str) -> tuple[np.ndarray, np.ndarray]:
    found = [line for line in panel.lines if str(line.get_label()).startswith(label) and len(line.get_xdata())]
    assert len(found) == 1, f"{label!r} is drawn {len(found)} times"
    return np.asarray(found[0].get_xdata(), dtype=float), np.asarray(found[0].get_ydata(), dtype=float)


def thick(panel: Axes) -> list[tuple[np.ndarray, np.ndarray]]:
    """Curves that carry a look, without the lines across a panel."""
    lines = [line for line in panel.lines if line.get_linewidth() > 1.2 and len(line.get_xdata()) > 2]
    return [(np.asarray(line.get_xdata(), dtype=float), np.asarray(line.get_ydata(), dtype=float)) for line in lines]


def grey(panel: Axes) -> list[Any]:
    return [line for line in panel.lines if line.get_color() == "#B5B5B5" and len(line.get_xdata()) > 1]


def column(table: pa.Table, name: str) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in table[name].to_pylist()], dtype=float)


# -- spectral norm -----------------------------------------------------------------------------------------------------


def test_norm_accuracy_and_product_stand_over_the_epochs() -> None:
    values, accuracy = [20.0, 8.0, 4.0, 5.0, 6.0, 7.0], [0.1, 0.5, 0.8, 0.9, 0.9, 0.85]
    figure = draw_spectral(hvp_table(values, lr=0.3, accuracy=accuracy))
    norm, right, product = figure.axes
    epochs = np.arange(6) * 0.5
    for panel, label, expected in (
        (norm, "spectral norm", values),
        (right, "validation accuracy", 100 * np.array(accuracy)),
        (product, "lr · largest", 0.3 * np.array(values)),
    ):
        x, y = curve(panel, label)
        np.testing.assert_allclose(x, epochs)
        np.testing.assert_allclose(y, expected)
    assert [panel.get_yscale() for panel in figure.axes] == ["log", "linear", "log"]
    assert [2.0, 2.0] in [list(line.get_ydata()) for line in product.lines]
    text = words(figure)
    for part in (
        "the largest eigenvalue is the spectral norm throughout", "experiment walk", "model tiny_vgg",
        "data set digits", "lr 0.1", "batch size 50", "seed 1", "N = 1,000 samples", "BatchNorm in train mode",
    ):  # fmt: skip
        assert part in text, part
    assert "not converged" not in str(legends(figure))
    assert_nothing_overlaps(figure)


def test_values_that_did_not_converge_are_hollow() -> None:
    figure = draw_spectral(hvp_table([20.0, 8.0, 4.0, 5.0], unsure=(1, 3)))
    for panel, factor in ((figure.axes[0], 1.0), (figure.axes[2], 0.1)):
        hollow = [line for line in panel.lines if line.get_markerfacecolor() == "white" and len(line.get_xdata())]
        [line] = hollow
        np.testing.assert_allclose(line.get_ydata(), factor * np.array([8.0, 5.0]))
    assert "hollow: 2 values whose iteration did not converge" in words(figure)
    assert "not converged" in legends(figure)[0]


def test_the_largest_eigenvalue_shows_where_it_is_not_the_spectral_norm() -> None:
    figure = draw_spectral(hvp_table([20.0, 3.0, -1.0, 8.0], smallest=-5.0))
    _, norm = curve(figure.axes[0], "spectral norm")
    np.testing.assert_allclose(norm, [20.0, 5.0, 5.0, 8.0])
    _, largest = curve(figure.axes[0], "largest eigenvalue")
    np.testing.assert_allclose(largest, [np.nan, 3.0, np.nan, np.nan])
    _, product = curve(figure.axes[2], "lr · largest")
    np.testing.assert_allclose(product, [2.0, 0.3, np.nan, 0.8])
    text = words(figure)
    assert "2 values of 4 where the smallest eigenvalue is larger in size" in text
    assert "1 value of largest eigenvalue not positive, not drawn" in text
    assert_nothing_overlaps(figure)


def test_runs_without_eigenvalues_or_validation_images_say_so() -> None:
    figure = draw_spectral(hvp_table([20.0, 8.0]))
    assert "the data set has no validation images" in words(figure)
    figure = render(draw_spectral(hvp_table([None]), lost=0))
    text = words(figure)
    assert text.count("no eigenvalue was measured: the run") == 2
    assert "THE RUN DIVERGED AT UPDATE 0" in text
    assert "no accuracy was measured" in words(render(draw_spectral(hvp_table([]))))
    figure = render(draw_spectral(hvp_table([20.0, 30.0, None]), lost=25))
    marks = [line.get_xdata()[0] for line in figure.axes[2].lines if line.get_label() == "run diverged"]
    np.testing.assert_allclose(marks, [25 / 20])


# -- roles -------------------------------------------------------------------------------------------------------------


def role_runs(pairs: list[tuple[int, str]], *, seeds: tuple[int, ...] = (1,), **changes: Any) -> Runs:
    return [
        (
            {"trace": trace_table(seed=seed, cosine=-0.002 * size, speed=0.1 * float(lr))},
            run_settings(batch_size=size, lr=lr, seed=seed, **changes),
        )
        for size, lr in pairs
        for seed in seeds
    ]


def test_two_lists_of_settings_give_a_column_each() -> None:
    sizes, rates = [10, 50, 250], ["0.025", "0.1", "0.4"]
    runs = role_runs([(size, "0.1") for size in reversed(sizes)], experiment="sizes")
    runs += role_runs([(50, lr) for lr in rates], experiment="rates")
    figure = draw(ROLES, runs)
    left, right, below_left, below_right = figure.axes
    assert notes(left).startswith("at lr 0.1")
    assert notes(right).startswith("at batch size 50")
    assert legends(figure) == [[f"batch size {size}" for size in sizes], [f"lr {lr}" for lr in rates]]
    # The trace of the setting that both lists hold is drawn once.
    assert "1 run of another experiment left out" in words(figure)
    for panel, expected in ((below_left, [(s, "0.1") for s in sizes]), (below_right, [(50, r) for r in rates])):
        drawn = thick(panel)
        assert len(drawn) == 3
        for (steps, values), (_, lr) in zip(drawn, expected, strict=True):
            np.testing.assert_array_equal(steps, np.arange(60))
            np.testing.assert_allclose(values, column(trace_table(speed=0.1 * float(lr)), "distance_from_start"))
    for (steps, values), size in zip(thick(left), sizes, strict=True):
        cosines = column(trace_table(cosine=-0.002 * size), "gradient_cosine")
        np.testing.assert_array_equal(steps, np.arange(2, 58))
        np.testing.assert_allclose(values[1:], np.convolve(cosines[1:], np.full(5, 0.2), mode="valid"))
        assert values[0] == pytest.approx(cosines[1:5].mean())  # the first update has no cosine
    assert "thin: as measured, thick: moving average of 5 updates" in words(figure)
    assert "no Hessian eigenvalue was measured" in words(figure)
    assert_nothing_overlaps(figure)


def test_a_full_product_is_cut_at_its_middle_setting() -> None:
    runs = role_runs([(size, lr) for size in (10, 50, 250) for lr in ("0.05", "0.1", "0.2", "0.4")])
    figure = draw(ROLES, runs)
    assert [notes(panel) for panel in figure.axes[2:]] == ["at lr 0.1", "at batch size 50"]
    assert [len(legend) for legend in legends(figure)] == [3, 4]


def test_seeds_have_a_median_and_a_band_and_lightness_follows_the_order() -> None:
    runs = role_runs([(10, "0.1"), (50, "0.1"), (250, "0.1")], seeds=(1, 2, 3))
    figure = draw(ROLES, runs)
    distance = figure.axes[2]
    expected = [column(trace_table(seed=seed, speed=0.01), "distance_from_start") for seed in (1, 2, 3)]
    np.testing.assert_allclose(thick(distance)[0][1], np.median(expected, axis=0))
    np.testing.assert_allclose(bands(distance)[0][1:], [np.min(expected, axis=0), np.max(expected, axis=0)])
    assert not [line for line in distance.lines if line.get_linewidth() < 1 and len(line.get_xdata()) > 2]
    lines = [line for line in distance.lines if len(line.get_xdata())]
    lightness = [np.dot(line.get_color()[:3], [0.2126, 0.7152, 0.0722]) for line in lines]
    assert lightness == sorted(lightness, reverse=True)
    assert min(np.abs(np.diff(lightness))) > 0.15
    assert len({str(line.get_linestyle()) for line in lines}) > 1
    assert "median and range over the seeds" in words(figure)
    assert "one lr only" in words(figure)


def test_a_label_has_lr_times_the_largest_eigenvalue_where_it_was_measured() -> None:
    runs = role_runs([(10, "0.1"), (50, "0.1")], seeds=(1, 2, 3))
    for index, (first, last, unsure) in enumerate(((20, 10, ()), (40, 14, (2,)), (30, 12, ()))):
        runs[index][0]["hvp"] = hvp_table([first, 99.0, last], unsure=unsure)
    figure = draw(ROLES, runs)
    assert legends(figure)[0] == ["batch size 10 (lr·λ about 3 → 1.2)".replace(" (", "  ("), "batch size 50"]
    for fact in ("lr·λ of the loss over N = 1,000 samples", "BatchNorm in train mode"):
        assert fact in words(figure)
    runs[1][0]["hvp"] = hvp_table([None, 20.0])  # a row without an eigenvalue does not count
    assert "(lr·λ 2 → 2)" in legends(draw(ROLES, [runs[1]]))[0][0]


def test_rates_in_units_of_the_inverse_sharpness_say_so_and_are_settings_of_their_own() -> None:
    sharp = role_runs([(10, "0.1"), (50, "0.1"), (250, "0.1"), (50, "0.4")], lr_unit="sharpness")
    figure = draw(ROLES, role_runs([(10, "0.1"), (50, "0.4")], experiment="plain") + sharp)
    assert notes(figure.axes[0]).startswith("at lr 0.1/λ₀")
    assert legends(figure) == [
        ["batch size 10", "batch size 50", "batch size 250"], ["lr 0.1/λ₀", "lr 0.4", "lr 0.4/λ₀"],
    ]  # fmt: skip
    assert "left out" not in words(figure)
    assert "lrs 0.1/λ₀, 0.4, 0.4/λ₀" in words(figure)
    assert_nothing_overlaps(figure)


def test_other_optimizers_have_their_own_curve_and_networks_their_own_columns() -> None:
    runs = role_runs([(10, "0.1"), (50, "0.1")])
    runs += role_runs([(10, "0.1")], optimizer={**SGD, "momentum": 0.9}, experiment="momentum")
    assert legends(draw(ROLES, runs))[0] == [
        "batch size 10, plain SGD", "batch size 10, momentum 0.9", "batch size 50, plain SGD",
    ]  # fmt: skip
    runs = role_runs([(10, "0.1")]) + role_runs([(10, "0.1")], schedule=STEP, experiment="falling")
    assert legends(draw(ROLES, runs))[0] == ["batch size 10, constant schedule", "batch size 10, step schedule"]
    figure = draw(ROLES, role_runs([(10, "0.1"), (50, "0.1")]) + role_runs([(10, "0.1"), (50, "0.2")], model="mlp"))
    assert len(figure.axes) == 8
    assert_nothing_overlaps(figure)


def test_runs_that_were_lost_are_drawn_to_their_end_and_told() -> None:
    runs = role_runs([(10, "0.1"), (50, "0.1")])
    runs[0][0]["trace"] = trace_table(lost=20)
    figure = render(draw(ROLES, runs))
    assert max(thick(figure.axes[2])[0][0]) == 19
    assert "DIVERGED: lr 0.1, batch 10, tiny_vgg, seed 1 at update 20" in words(figure)
    assert "a run diverged" in legends(figure)[0]
    at_once = render(draw(ROLES, [({"trace": trace_table(lost=0)}, run_settings())]))
    assert words(at_once).count("no run made a step") == 2
    assert words(at_once).count("no run has two gradients") == 2


# -- noise -------------------------------------------------------------------------------------------------------------


def noise_runs(seeds: tuple[int, ...] = (1,)) -> Runs:
    origin = {"experiment": "noisy", "lr": 0.1, "batch_size": None, "step": 40}
    facts = {"noise_variance": 0.02, "noise_deviation": 0.0141, "noise_batch_size": 100}
    runs: Runs = []
    for experiment, optimizer, size, lr, start, cosine, told in (
        ("gd", SGD, 1000, "0.1", None, -0.9, {}),
        ("noisy", noise(0.01), 1000, "0.1", None, 0.0, facts),
        ("noisy_std", noise(0.01, "standard_deviation"), 1000, "0.1", None, 0.0, {**facts, "noise_deviation": 2e-4}),
        ("sgd", SGD, 100, "0.1", None, -0.4, {}),
        ("slower", noise(0.01), 1000, "0.01", origin, 0.0, facts),
        ("then_gd", SGD, 1000, "0.1", origin, -0.8, {}),
        ("then_sgd", SGD, 100, "0.1", origin, -0.3, {}),
    ):
        for seed in seeds:
            tables = {
                "trace": trace_table(seed=seed, cosine=cosine, facts=told),
                "evaluation": evaluation_table(seed=seed, rate=0.02),
            }
            changes = {"experiment": experiment, "optimizer": optimizer, "batch_size": size, "lr": lr}
            runs.append((tables, run_settings(**changes, start_from=start, seed=seed)))
    return runs


def test_runs_are_told_apart_by_batch_noise_and_origin() -> None:
    figure = draw(NOISE, noise_runs())
    assert legends(figure)[0] == [
        "GD, lr 0.1",
        "GD, lr 0.1, noise of variance 0.01 v_max",
        "GD, lr 0.1, noise of standard deviation 0.01 v_max",
        "SGD, batch 100, lr 0.1",
        "noisy from 40 on: GD, lr 0.01, noise of variance 0.01 v_max",
        "noisy from 40 on: GD, lr 0.1",
        "noisy from 40 on: SGD, batch 100, lr 0.1",
        "a run is continued",
    ]
    assert_nothing_overlaps(figure)
    twice = [
        (tables, {**settings, "experiment": f"{settings['experiment']}_again"}) for tables, settings in noise_runs()
    ]
    labels = legends(draw(NOISE, noise_runs()[:1] + twice[:1]))[0]
    assert labels == ["GD, lr 0.1 (gd)", "GD, lr 0.1 (gd_again)"]


def test_continued_runs_begin_where_they_take_over() -> None:
    figure = draw(NOISE, noise_runs())
    loss, accuracy, cosine, distance, _ = figure.axes
    for panel, length in ((loss, 6), (accuracy, 6), (distance, 60), (cosine, 56)):
        drawn = thick(panel)
        assert [len(steps) for steps, _ in drawn] == [length] * 7
        offsets = [steps[0] - drawn[0][0][0] for steps, _ in drawn]
        assert offsets == [0, 0, 0, 0, 40, 40, 40]
        assert any(list(line.get_xdata()) == [40, 40] for line in panel.lines)
        assert panel.get_xlim()[1] > 100
    np.testing.assert_allclose(thick(loss)[4][1], column(evaluation_table(rate=0.02), "train_loss"))
    np.testing.assert_allclose(thick(accuracy)[4][1], 100 * column(evaluation_table(rate=0.02), "validation_accuracy"))
    # Nothing has moved at the first update, which a logarithmic axis cannot show.
    np.testing.assert_allclose(thick(distance)[0][1][1:], column(trace_table(), "distance_from_start")[1:])
    assert np.isnan(thick(distance)[0][1][0])
    assert "of continued runs: from where they start" in words(figure)


def test_a_run_that_continues_a_continued_run_is_offset_by_both() -> None:
    runs = noise_runs()
    again = {"experiment": "then_gd", "lr": 0.1, "batch_size": None, "step": 60}
    runs.append((runs[0][0], run_settings(experiment="last", batch_size=1000, start_from=again)))
    assert thick(draw(NOISE, runs).axes[0])[7][0][0] == 100
    # The origin may be outside the comparison: its own start is then not known.
    alone = [(runs[5][0], runs[5][1])]
    assert thick(draw(NOISE, alone).axes[0])[0][0][0] == 40


def test_parameter_norms_and_the_size_of_the_noise_are_in_a_table() -> None:
    runs = noise_runs(seeds=(1, 2, 3))
    text = words(draw(NOISE, runs))
    norms = [
        column(tables["trace"], "parameter_norm")[-1] for tables, settings in runs if settings["experiment"] == "gd"
    ]
    assert f"GD, lr 0.1 {np.median(norms):.4g} — —" in text
    assert "GD, lr 0.1, noise of variance 0.01 v_max" in text
    assert "0.0141 0.02" in text
    assert "GD, lr 0.1, noise of standard deviation 0.01 v_max" in text
    assert "0.0002 0.02" in text
    assert "medians over the seeds" in text
    for part in ("N = 1,000 training and 200 validation images", "BatchNorm in eval mode", "lrs 0.1, 0.01"):
        assert part in text, part


def test_noise_that_leads_nowhere_is_told() -> None:
    lost = {"trace": trace_table(lost=0), "evaluation": evaluation_table(lost=0)}
    figure = render(draw(NOISE, [(lost, run_settings(optimizer=noise(10.0), batch_size=1000))]))
    text = words(figure)
    for part in ("no run was evaluated", "no run made a step", "no run has two gradients", "at update 0"):
        assert part in text, part
    blind = {"trace": trace_table(), "evaluation": evaluation_table(validation=False)}
    figure = render(draw(NOISE, [(blind, run_settings())]))
    assert "the data set has no validation images" in words(figure)


def test_models_have_a_column_each() -> None:
    runs = noise_runs()
    runs += [(tables, {**settings, "model": "mlp"}) for tables, settings in noise_runs()]
    figure = draw(NOISE, runs)
    assert len(figure.axes) == 9  # with the table of both
    assert figure.get_figheight() <= 9.0  # a page
    assert [panel.get_title(loc="left")[4:8] for panel in figure.axes[:4]] == ["loss", "loss", "accu", "accu"]
    assert "mlp: parameters" in " ".join(words(figure).split())
    assert_nothing_overlaps(figure)


# -- schedules ---------------------------------------------------------------------------------------------------------

CYCLICAL = {"name": "cyclical", "lowest": 0.1, "period": 30}
TRAPEZOID = {"name": "trapezoid", "warmup": 10, "cooldown": 20}
STEP = {"name": "step", "milestones": [30, 45], "factor": 0.1}


def schedule_runs(*, seeds: tuple[int, ...] = (1, 2), **lost: int) -> Runs:
    """Of each schedule the middle rate is best on the validation set; on the test set it would be the largest."""
    runs: Runs = []
    for schedule in (CYCLICAL, TRAPEZOID, STEP):
        for lr, rate in (("0.1", 0.01), ("0.3", 0.04), ("1", 0.02)):
            for seed in seeds:
                gone = lost.get(f"{schedule['name']}_{lr.replace('.', '_')}") if seed == seeds[0] else None
                table = evaluation_table(rate=rate, seed=seed, lost=gone)
                best = pa.array([float(lr)] * len(table))
                table = table.set_column(table.schema.get_field_index("test_accuracy"), "test_accuracy", best)
                rates = float(lr) * np.linspace(1.0, 0.1, 60)
                tables = {"trace": trace_table(lr=rates.tolist(), seed=seed, lost=gone), "evaluation": table}
                runs.append((tables, run_settings(schedule=schedule, lr=lr, seed=seed, experiment=schedule["name"])))
    return runs


def test_each_schedule_is_drawn_with_the_rate_that_validates_best() -> None:
    runs = schedule_runs()
    figure = draw(SCHEDULES, runs)
    loss, accuracy, lr, _ = figure.axes
    assert legends(figure)[0] == ["cyclical", "trapezoid", "step-wise", "other peak learning rates"]
    for panel, name, factor in ((loss, "train_loss", 1.0), (accuracy, "validation_accuracy", 100.0)):
        assert len(grey(panel)) == 3 * 2 * 2
        expected = [factor * column(evaluation_table(rate=0.04, seed=seed), name) for seed in (1, 2)]
        for epochs, values in thick(panel):
            np.testing.assert_allclose(epochs, np.arange(6) * 0.5)
            np.testing.assert_allclose(values, np.median(expected, axis=0))
    for epochs, values in thick(lr):
        np.testing.assert_allclose(epochs, np.arange(60) / 20)
        np.testing.assert_allclose(values, 0.3 * np.linspace(1.0, 0.1, 60))
    text = words(figure)
    own = [100 * column(evaluation_table(rate=0.04, seed=seed), "validation_accuracy")[-1] for seed in (1, 2)]
    stated = f"0.1, 0.3, 1 0.3 {np.mean(own):.2f} ± {np.std(own, ddof=1):.2f} 30.00 ± 0.00 2"
    for name in (
        "cyclical: lowest 0.1, period 30",
        "trapezoid: warmup 10, cooldown 20",
        "step-wise: milestones 30/45, factor 0.1",
    ):
        assert f"{name} {stated}" in text
    assert_nothing_overlaps(figure)


def test_peak_rates_are_chosen_among_those_of_one_unit() -> None:
    runs = schedule_runs(seeds=(1,))
    sharp = [(tables, {**settings, "lr_unit": "sharpness"}) for tables, settings in runs]
    figure = draw(SCHEDULES, sharp)
    assert "trapezoid: warmup 10, cooldown 20 0.1, 0.3, 1 0.3/λ₀" in words(figure)
    both = draw(SCHEDULES, runs[:3] + sharp[:2])
    assert legends(both)[0][:2] == ["cyclical, absolute lr", "cyclical, lr in 1/λ₀"]
    assert "cyclical, lr in 1/λ₀: lowest 0.1, period 30 0.1, 0.3 0.3/λ₀" in words(both)


def test_a_rate_that_was_lost_is_grey_and_a_schedule_without_a_choice_says_so() -> None:
    runs = schedule_runs(cyclical_0_3=20, step_0_1=20, step_0_3=20, step_1=20)
    figure = render(draw(SCHEDULES, runs))
    assert legends(figure)[0] == ["cyclical", "trapezoid", "other peak learning rates", "a run diverged"]
    text = words(figure)
    assert "step-wise: milestones 30/45, factor 0.1 0.1, 0.3, 1 none — — —" in text
    assert "none: runs diverged or have no validation accuracy" in text
    assert "DIVERGED (4 of 18 runs): cyclical, lr 0.3, tiny_vgg, seed 1 at update 20" in text
    assert sum(line.get_marker() == "x" and len(line.get_xdata()) == 1 for line in figure.axes[0].lines) == 4
    assert_nothing_overlaps(figure)


def test_a_single_seed_and_missing_splits_are_stated_as_they_are() -> None:
    runs = schedule_runs(seeds=(1,))
    numbers = notes(draw(SCHEDULES, runs).axes[-1])
    assert "30.00 1" in numbers
    assert "±" not in numbers
    for tables, _ in runs:
        tables["evaluation"] = evaluation_table(test=False)
    assert "not measured 1" in words(draw(SCHEDULES, runs))
    for tables, _ in runs:
        tables["evaluation"] = evaluation_table(validation=False)
    figure = draw(SCHEDULES, runs)
    assert "none: runs diverged or have no validation accuracy" in words(figure)
    assert "the data set has no validation images" in words(figure)
    assert len(grey(figure.axes[0])) == 9
    for tables, _ in runs:
        tables["evaluation"], tables["trace"] = evaluation_table(lost=0), trace_table(lost=0)
    text = words(render(draw(SCHEDULES, runs)))
    assert text.count("no run was evaluated") == 2
    assert "no run made a step" in text


def test_schedules_of_one_name_are_told_apart_by_their_options_and_networks_by_columns() -> None:
    other = {**STEP, "milestones": [20]}
    runs = schedule_runs()[-6:]
    runs += [
        (tables, {**settings, "schedule": other, "experiment": "early"}) for tables, settings in schedule_runs()[-6:]
    ]
    assert legends(draw(SCHEDULES, runs))[0][:2] == [
        "step-wise (milestones 30/45, factor 0.1)", "step-wise (milestones 20, factor 0.1)",
    ]  # fmt: skip
    both = [(tables, {**settings, "model": model}) for model in ("mlp", "vgg") for tables, settings in schedule_runs()]
    figure = draw(SCHEDULES, both)
    assert len(figure.axes) == 7  # with the table of both
    assert "vgg trapezoid: warmup 10, cooldown 20 0.1, 0.3, 1 0.3" in words(figure)
    assert_nothing_overlaps(figure)


# -- narrow sheets -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "runs"),
    [
        ("roles", lambda: role_runs([(10, "0.1"), (50, "0.1"), (50, "0.4")], seeds=(1, 2))),
        ("noise", noise_runs),
        ("schedules", schedule_runs),
    ],
)
@pytest.mark.slow
def test_nothing_overlaps_on_a_sheet_as_wide_as_a_column(kind: str, runs: Callable[[], Runs]) -> None:
    figure = draw(sheet_of(kind, width="column"), runs())
    assert_nothing_overlaps(figure)
    assert figure.get_figwidth() == 3.4
    for panel in figure.axes:
        assert panel.get_tightbbox().x1 <= figure.bbox.x1 + 1
        if not panel.axison:  # a table
            assert max(text.get_window_extent().x1 for text in panel.texts) <= figure.bbox.x1 + 1


def test_a_single_panel_has_the_legend() -> None:
    figure = draw(sheet_of("roles", panel="cosine_lr"), role_runs([(10, "0.1"), (50, "0.1"), (50, "0.4")]))
    assert [panel.get_title(loc="left") for panel in figure.axes] == ["cosine of consecutive gradients"]
    assert legends(figure) == [["lr 0.1", "lr 0.4"]]
    with style.applied():
        narrow = sheet_of("spectral_norm", width="column")
        tables = {"hvp": hvp_table([20.0, 8.0, 4.0], unsure=(1,)), "trace": trace_table()}
        assert_nothing_overlaps(narrow.draw(tables, settings=run_settings()))


# -- files -------------------------------------------------------------------------------------------------------------


def test_optional_tables_go_to_the_runs_that_have_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = role_runs([(10, "0.1"), (50, "0.1"), (250, "0.1")])
    runs[1][0]["hvp"] = hvp_table([20.0, 10.0])
    by_kind: dict[str, list[str]] = {}
    for place, (tables, _) in enumerate(runs):
        for kind, table in tables.items():
            path = tmp_path / str(place) / f"{kind}.arrow"
            write_table(path, kind, table, provenance={})
            by_kind.setdefault(kind, []).append(str(path))
    paths = tables_by_run(ROLES, by_kind)
    assert [sorted(own) for own in paths] == [["trace"], ["hvp", "trace"], ["trace"]]
    pdf, png = tmp_path / "a.pdf", tmp_path / "a.png"
    saved = render_instead_of_saving(monkeypatch)
    plot_comparison(ROLES, paths, settings=[settings for _, settings in runs], pdf=pdf, png=png)
    assert saved == [(pdf, png)]


def test_a_spectral_sheet_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = {kind: tmp_path / f"{kind}.arrow" for kind in ("hvp", "trace")}
    write_table(paths["hvp"], "hvp", hvp_table([20.0, 10.0]), provenance={})
    write_table(paths["trace"], "trace", trace_table(), provenance={})
    saved = render_instead_of_saving(monkeypatch)
    plot_figure(SPECTRAL, paths, settings=run_settings(), pdf=tmp_path / "a.pdf", png=tmp_path / "a.png")
    assert saved == [(tmp_path / "a.pdf", tmp_path / "a.png")]
    with pytest.raises(ValueError, match=r"must hold \['hvp', 'trace'\], got none for \['hvp'\]"):
        plot_figure(
            SPECTRAL,
            {"trace": paths["trace"]},
            settings=run_settings(),
            pdf=tmp_path / "b.pdf",
            png=tmp_path / "b.png",
        )


def test_empty_traces_are_no_error() -> None:
    empty = {"trace": as_table("trace", []), "evaluation": as_table("evaluation", [])}
    for kind in (ROLES, NOISE, SCHEDULES):
        figure = render(draw(kind, [(empty, run_settings())]))
        assert "no run" in words(figure)
