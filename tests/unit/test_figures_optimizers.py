"""The comparison of optimizers: what is drawn is what the tables hold, whatever became of the runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from drawn_figures import assert_nothing_overlaps, bands, render, render_instead_of_saving, sheet_of
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sgdline.figures import plot_comparison
from sgdline.figures.grammar import style
from sgdline.tables import kind_of, write_table

FIGURE = sheet_of("optimizers")
SGD = {"name": "sgd", "momentum": 0.0, "weight_decay": 0.0, "gradient": "mean"}
PAL = {"name": "pal", "beta": 0.4, "adaptation": 1 / 0.6, "max_step": 3.16}
FBPAL = {
    "name": "fbpal_sgd", "momentum": 0.0, "weight_decay": 0.0, "every": 10, "average": 5, "reuse": "lr",
}  # fmt: skip
FACTS = {"batch_norm": "eval", "samples": 1024, "validation_samples": 256, "test_samples": 517}
Tables = dict[str, pa.Table]


def as_table(kind: str, rows: list[dict[str, Any]], facts: dict[str, Any] | None = None) -> pa.Table:
    import json

    schema = kind_of(kind).schema.with_metadata({b"sgdline": json.dumps(facts or {}).encode()})
    columns = [pa.array([row.get(field.name) for row in rows], type=field.type) for field in schema]
    return pa.Table.from_arrays(columns, schema=schema)


def make_run(
    *, steps: int = 60, every: int = 10, rate: float = 0.1, seed: int = 1, test: bool = True, lost: int | None = None
) -> Tables:
    rng = np.random.default_rng(seed)
    evaluations, trace = [], []
    for step in range(steps if lost is None else lost + 1):
        gone = step == lost
        loss = 2.3 * np.exp(-rate * step / 3) * np.exp(0.1 * rng.standard_normal())
        if step % every == 0 and not gone:
            row = {"step": step, "epoch": step / 16, "train_loss": loss, "train_accuracy": 0.9}
            evaluations.append(row | ({"test_loss": loss, "test_accuracy": np.exp(-loss)} if test else {}))
        trace.append(
            {
                "step": step, "epoch": step / 16, "lr": rate * np.exp(0.2 * rng.standard_normal()),
                "batch_loss": np.nan if gone else loss, "gradient_norm": 1.0, "direction_norm": 1.0 + rng.random(),
                "distance_from_start": 0.0, "parameter_norm": 1.0, "status": "non_finite" if gone else "ok",
            }
        )  # fmt: skip
    return {"evaluation": as_table("evaluation", evaluations, FACTS), "trace": as_table("trace", trace)}


def run_settings(optimizer: dict[str, Any] = SGD, **changes: Any) -> dict[str, Any]:
    experiment = {"sgd": "digits", "pal": "digits_pal", "fbpal_sgd": "digits_fbpal_sgd"}[optimizer["name"]]
    block = {
        "experiment": experiment, "dataset": "digits", "model": "mlp", "lr": "0.1", "batch_size": 64, "seed": 1,
        "steps": 60, "optimizer": optimizer, "analysis": {"smoothing": 5}, "probes": {"evaluation": {"every": 10}},
        "lr_is_length": optimizer["name"] != "sgd",
    }  # fmt: skip
    return block | changes


def draw(runs: list[tuple[Tables, dict[str, Any]]]) -> Figure:
    with style.applied():
        figure = FIGURE.draw([tables for tables, _ in runs], settings=[settings for _, settings in runs])
    return figure


def panels(figure: Figure) -> list[Axes]:
    return list(figure.axes)


def words(figure: Figure) -> str:
    texts = [text.get_text() for text in figure.texts]
    texts += [text.get_text() for panel in figure.axes for text in panel.texts]
    texts += [panel.get_title(loc="left") for panel in figure.axes]
    return " ".join(" ".join(texts).split())


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def curves(panel: Axes, *, thick: bool) -> list[tuple[np.ndarray, np.ndarray]]:
    lines = [line for line in panel.lines if line.get_linestyle() != "None" and len(line.get_xdata())]
    lines = [line for line in lines if (line.get_linewidth() > 1) is thick]
    return [(np.asarray(line.get_xdata()), np.asarray(line.get_ydata())) for line in lines]


def column(table: pa.Table, name: str) -> np.ndarray:
    return np.array(table[name].to_numpy(), dtype=float)


def replaced(table: pa.Table, name: str, values: np.ndarray) -> pa.Table:
    at = table.schema.get_field_index(name)
    return table.set_column(at, table.schema.field(at), pa.array(values))


def test_seeds_have_a_median_and_a_band() -> None:
    runs = [(make_run(seed=seed), run_settings(seed=seed)) for seed in (1, 2, 3)]
    figure = draw(runs)
    loss, accuracy, length, lr = panels(figure)
    assert (loss.get_yscale(), accuracy.get_yscale(), length.get_yscale(), lr.get_yscale()) == (
        "log", "linear", "log", "log",
    )  # fmt: skip
    for panel, name, factor in ((loss, "train_loss", 1), (accuracy, "test_accuracy", 100)):
        own = [factor * column(tables["evaluation"], name) for tables, _ in runs]
        [(steps, values)] = curves(panel, thick=True)
        np.testing.assert_array_equal(steps, np.arange(0, 60, 10))
        np.testing.assert_allclose(values, np.median(own, axis=0))
        np.testing.assert_allclose(bands(panel), [(steps, np.min(own, axis=0), np.max(own, axis=0))])
    for panel, quantity in (
        (length, lambda trace: column(trace, "lr") * column(trace, "direction_norm")),
        (lr, lambda trace: column(trace, "lr")),
    ):
        own = [np.convolve(quantity(tables["trace"]), np.full(5, 0.2), mode="valid") for tables, _ in runs]
        [(steps, values)] = curves(panel, thick=True)
        np.testing.assert_array_equal(steps, np.arange(2, 58))
        np.testing.assert_allclose(values, np.median(own, axis=0))
        np.testing.assert_allclose(bands(panel), [(steps, np.min(own, axis=0), np.max(own, axis=0))])
    assert legend(figure) == ["SGD, lr 0.1"]
    assert "median and range over the seeds" in words(figure)
    assert "moving average of 5 updates" in words(figure)


def test_one_seed_is_one_thick_curve() -> None:
    figure = draw([(make_run(), run_settings())])
    for panel in panels(figure):
        assert len(curves(panel, thick=True)) == 1
        assert not curves(panel, thick=False)
    assert "median" not in words(figure)


def test_noise_and_a_summed_gradient_are_named() -> None:
    noisy = {**SGD, "gradient": "sum", "noise": {"factor": 0.01, "reading": "standard_deviation", "batch_size": "auto"}}
    figure = draw([(make_run(), run_settings()), (make_run(), run_settings(noisy))])
    assert legend(figure) == ["SGD, lr 0.1", "SGD, lr 0.1, gradient sum, noise of standard deviation 0.01 v_max"]
    assert style.describe_optimizer(noisy) == ["gradient sum", "noise of standard deviation 0.01 v_max"]
    assert style.describe_optimizer(SGD) == []


def test_settings_have_a_look_and_a_name_each_and_models_a_column() -> None:
    runs = []
    for model in ("mlp", "tiny_resnet"):
        for optimizer, lr in (
            (SGD, "0.1"),
            (SGD, "0.3"),
            (PAL, "0.1"),
            (FBPAL, "0.1"),
            ({**SGD, "momentum": 0.9}, "0.1"),
        ):
            name = {"experiment": "digits_momentum"} if optimizer.get("momentum") else {}
            for seed in (1, 2):
                block = run_settings(optimizer, model=model, lr=lr, seed=seed, **name)
                runs.append((make_run(rate=0.05 + 0.1 * float(lr), seed=seed), block))
    figure = draw(runs)
    assert len(panels(figure)) == 8
    names = ["SGD, lr 0.1", "SGD, lr 0.3", "PAL, μ 0.1", "FBPAL&SGD, μ 0.1", "SGD, lr 0.1, momentum 0.9"]
    assert legend(figure) == names
    for panel in panels(figure):
        looks = {(line.get_color(), str(line.get_linestyle())) for line in panel.lines if line.get_linewidth() > 1}
        assert len(looks) == 5
    titles = [panel.get_title(loc="left")[4:] for panel in panels(figure)]
    assert titles[0::2] == [title.replace("tiny_resnet", "mlp") for title in titles[1::2]]
    text = words(figure)
    for part in (
        "data set digits", "models mlp, tiny_resnet", "batch size 64", "seeds 1, 2",
        "N = 1,024 training and 517 test images",
        "PAL: beta 0.4, adaptation 1.667, max step 3.16",
        "FBPAL&SGD: every 10, average 5, reuse lr",
    ):  # fmt: skip
        assert part in text, part


def test_equal_names_get_their_experiment_and_their_options_apart() -> None:
    other = {**PAL, "beta": 0.0}
    runs = [(make_run(), run_settings(PAL)), (make_run(seed=2), run_settings(other, experiment="no_memory"))]
    figure = draw(runs)
    assert legend(figure) == ["PAL, μ 0.1 (digits_pal)", "PAL, μ 0.1 (no_memory)"]
    assert "max step 3.16 (digits_pal)" in words(figure)
    assert "PAL: beta 0, adaptation 1.667, max step 3.16 (no_memory)" in words(figure)
    figure = draw([(make_run(), run_settings()), (make_run(), run_settings(batch_size=32))])
    assert legend(figure) == ["SGD, lr 0.1, batch 64", "SGD, lr 0.1, batch 32"]
    figure = draw([(make_run(), run_settings()), (make_run(), run_settings(dataset="other", experiment="b"))])
    assert len(panels(figure)) == 8
    assert "mlp on other: " in words(figure)


def test_different_grids_of_evaluations_are_drawn_as_they_are() -> None:
    runs = [(make_run(every=10), run_settings()), (make_run(every=7, seed=2), run_settings(PAL))]
    first, second = curves(panels(draw(runs))[0], thick=True)
    np.testing.assert_array_equal(first[0], np.arange(0, 60, 10))
    np.testing.assert_array_equal(second[0], np.arange(0, 60, 7))


def test_a_lost_run_is_drawn_up_to_its_end_and_told() -> None:
    runs = [(make_run(seed=1), run_settings()), (make_run(seed=2, lost=25), run_settings(seed=2))]
    figure = render(draw(runs))
    loss = panels(figure)[0]
    assert [len(steps) for steps, _ in curves(loss, thick=False)] == [6, 3]
    np.testing.assert_array_equal(curves(loss, thick=True)[0][0], [0, 10, 20])
    cross = [line for line in loss.lines if line.get_marker() == "x" and len(line.get_xdata())]
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in cross] == [
        (20, column(runs[1][0]["evaluation"], "train_loss")[-1])
    ]
    # The update at which a run is lost moves nothing.
    assert max(steps[-1] for steps, _ in curves(panels(figure)[2], thick=False)[1:]) <= 24
    assert "DIVERGED: SGD, lr 0.1, mlp, seed 2 at update 25" in words(figure)
    assert legend(figure) == ["SGD, lr 0.1", "a run diverged"]


def test_runs_lost_at_once_give_words_in_every_panel() -> None:
    figure = render(draw([(make_run(lost=0), run_settings()), (make_run(lost=0), run_settings(PAL))]))
    assert [" ".join(panel.texts[0].get_text().split()) for panel in panels(figure)] == [
        "no run was evaluated", "no run was evaluated", "no run made a step", "no run made a step",
    ]  # fmt: skip
    assert legend(figure) == ["SGD, lr 0.1", "PAL, μ 0.1", "a run diverged"]


def test_an_empty_table_beside_whole_ones_is_only_missing() -> None:
    whole, none = make_run(), make_run(lost=0)
    loss, accuracy, *_ = panels(
        render(draw([(whole, run_settings()), (none, run_settings(PAL)), (none, run_settings(seed=2))]))
    )
    for panel in (loss, accuracy):
        assert not [text for text in panel.texts if "no " in text.get_text()]
    assert sum(np.isfinite(values).any() for _, values in curves(loss, thick=False)) == 1


def test_without_test_images_the_panel_says_so() -> None:
    figure = render(draw([(make_run(test=False), run_settings())]))
    assert "the data set has no test images" in words(figure)
    assert not curves(panels(figure)[1], thick=True)
    assert curves(panels(figure)[0], thick=True)


def test_values_that_are_not_finite_or_not_positive_are_gaps() -> None:
    run = make_run()
    table = run["evaluation"]
    values = column(table, "train_loss")
    values[2], values[4] = np.nan, np.inf
    run["evaluation"] = replaced(table, "train_loss", values)
    [(_, drawn)] = curves(panels(render(draw([(run, run_settings())])))[0], thick=True)
    np.testing.assert_array_equal(np.isnan(drawn), [False, False, True, False, True, False])


def test_updates_without_a_step_are_counted() -> None:
    run = make_run()
    table = run["trace"]
    rates = column(table, "lr")
    rates[:15] = 0.0
    run["trace"] = replaced(table, "lr", rates)
    figure = render(draw([(run, run_settings(PAL))]))
    assert "updates without a step: 25 % (PAL, μ 0.1)" in words(figure)
    [(steps, values)] = curves(panels(figure)[3], thick=True)
    np.testing.assert_array_equal(np.isnan(values), steps < 13)


def test_a_run_shorter_than_the_window_and_a_long_one() -> None:
    [(_, values)] = curves(panels(render(draw([(make_run(steps=2), run_settings(steps=2))])))[3], thick=True)
    assert np.isfinite(values).all()
    long = make_run(steps=5000, every=500, rate=1e-3)
    [(steps, _)] = curves(panels(draw([(long, run_settings(steps=5000))]))[2], thick=True)
    assert 900 < len(steps) < 1500


@pytest.mark.parametrize("models", [["mlp"], ["mlp", "tiny_resnet", "tiny_mobilenet"]])
@pytest.mark.slow
def test_nothing_leaves_the_sheet(models: list[str]) -> None:
    runs = [
        (make_run(seed=seed, lost=30 if seed == 2 else None), run_settings(optimizer, model=model, lr=lr, seed=seed))
        for model in models
        for optimizer, lr in ((SGD, "0.1"), (SGD, "0.3"), (PAL, "0.1"), (PAL, "1"), (FBPAL, "0.1"))
        for seed in (1, 2)
    ]
    assert_nothing_overlaps(draw(runs))
    if len(models) == 1:
        with style.applied():
            narrow = sheet_of("optimizers", width="column").draw(
                [tables for tables, _ in runs], settings=[block for _, block in runs]
            )
        assert_nothing_overlaps(narrow)


def test_files_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths, settings = [], []
    for seed in (1, 2):
        run = make_run(seed=seed)
        own = {kind: tmp_path / f"{kind}{seed}.arrow" for kind in run}
        for kind, table in run.items():
            write_table(own[kind], kind, table, provenance=FACTS if kind == "evaluation" else {})
        paths.append(own)
        settings.append(run_settings(seed=seed))
    pdf, png = tmp_path / "a.pdf", tmp_path / "a.png"
    saved = render_instead_of_saving(monkeypatch)
    plot_comparison(FIGURE, paths, settings=settings, pdf=pdf, png=png)
    assert saved == [(pdf, png)]
