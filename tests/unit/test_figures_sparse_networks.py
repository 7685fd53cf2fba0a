"""Figures of networks with phases of large steps: what is drawn is what the tables hold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from drawn_figures import assert_nothing_overlaps, render, sheet_of
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from walk_runs import UPDATES_PER_EPOCH, as_table, evaluation_table, hvp_table, run_settings, trace_table
from walk_tables import make_walk

from sgdline.figures import large_steps
from sgdline.figures.grammar import style

LARGE_STEPS = sheet_of("large_steps")
STEPS, LAYERS = 60, ("stages.0", "pool")
FEATURES = {"samples": 500, "threshold": 0.95}
Runs = list[tuple[dict[str, pa.Table], dict[str, Any]]]


def phase(share: float, *, compat: bool = False, warmup: str = "none") -> dict[str, Any]:
    return {"name": "piecewise", "large_phase": share, "warmup": warmup, "compat": compat}


def feat_table(*, lost: int | None = None, shift: float = 0.0, facts: Mapping[str, Any] = FEATURES) -> pa.Table:
    """Return coefficients that fall linearly, the second layer's 0.1 below the first's; the table is not in order."""
    rows = [
        {
            "step": step, "epoch": step / UPDATES_PER_EPOCH, "layer": layer, "units": 2048 if place == 0 else 32,
            "measured_units": 1000 if place == 0 else 32, "sparsity": 0.8 - 0.1 * place - step / 200 - shift,
            "sparsity_with_duplicates": 0.9, "active_units": 1.0, "status": "ok",
        }
        for step in range(STEPS if lost is None else lost, -1, -10)
        for place, layer in enumerate(LAYERS)
    ]  # fmt: skip
    return as_table("feat", rows, facts)


def averages_table(ends: Mapping[float | None, float], *, split: str = "test") -> pa.Table:
    """Return losses and accuracies of the iterate (None) and of EMAs by decay, every 20 updates."""
    rows = []
    for step in range(0, STEPS + 1, 20):
        for decay, end in ends.items():
            own = {"average": "iterate" if decay is None else "ema", "parameter": decay, "spacing": None}
            row: dict[str, Any] = {"step": step, "epoch": step / UPDATES_PER_EPOCH, **own, "status": "ok"}
            row |= {"train_loss": end + 1.0 - step / STEPS, "train_accuracy": 0.9, "distance_from_iterate": 0.0}
            row |= {f"{split}_loss": 1.0, f"{split}_accuracy": 0.9 - end / 10 + step / 1000}
            rows.append(row)
    return as_table("averages", rows, {"samples": 1000, f"{split}_samples": 500, "updates_per_epoch": 20})


def run(
    *, lr: str = "2.0", seed: int = 1, rate: float = 0.05, lost: int | None = None, shift: float = 0.0,
    ends: Mapping[float | None, float] | None = None, **changes: Any,
) -> tuple[dict[str, pa.Table], dict[str, Any]]:  # fmt: skip
    tables = {
        "trace": trace_table(steps=STEPS, lr=float(lr), seed=seed, lost=lost),
        "evaluation": evaluation_table(steps=STEPS + 1, every=5, rate=rate, seed=seed, lost=lost),
        "feat": feat_table(lost=lost, shift=shift),
        "averages": averages_table(ends or {None: 0.5, 0.9: 0.3}),
    }
    return tables, run_settings(lr=lr, seed=seed, steps=STEPS, model="tiny_resnet", **changes)


def everything() -> Runs:
    runs: Runs = []
    for seed in (1, 2, 3):
        runs.append(run(experiment="small", lr="0.02", seed=seed, rate=0.02))
        for percent in (10, 50):
            own = {"experiment": f"large_{percent}", "schedule": phase(percent / 100)}
            runs.append(run(seed=seed, rate=0.04, shift=percent / 1000 + seed / 100, **own))
    return runs


def draw(kind: str, runs: Runs, **options: Any) -> Figure:
    with style.applied():
        figure = sheet_of(kind, **options)
        return render(figure.draw([tables for tables, _ in runs], settings=[settings for _, settings in runs]))


def words(figure: Figure) -> str:
    texts = [text.get_text() for text in figure.texts]
    texts += [text.get_text() for panel in figure.axes for text in panel.texts]
    texts += [panel.get_title(loc="left") for panel in figure.axes]
    return " ".join(" ".join(texts).split())


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def panel_of(figure: Figure, title: str) -> Axes:
    [found] = [panel for panel in figure.axes if panel.get_title(loc="left").startswith(title)]
    return found


def curves(panel: Axes, **look: Any) -> list[tuple[list[float], list[float]]]:
    """Return the data of the lines whose properties are these."""
    return [
        (np.asarray(line.get_xdata(), dtype=float).tolist(), np.asarray(line.get_ydata(), dtype=float).tolist())
        for line in panel.lines
        if len(line.get_xdata()) and all(getattr(line, f"get_{key}")() == value for key, value in look.items())
    ]


def column(table: pa.Table, name: str) -> list[Any]:
    values: list[Any] = table.sort_by("step")[name].to_pylist()
    return values


# -- losses, errors and sparsity over the epochs -----------------------------------------------------------------------


def test_panels_hold_losses_errors_and_coefficients() -> None:
    runs = everything()
    drawn = draw("large_step_phases", runs, title="Many classes")
    assert drawn.texts[0].get_text() == "Many classes"
    used = [panel for panel in drawn.axes if panel.axison]
    assert len(used) == 2 + len(LAYERS)
    losses, errors, *sparsities = used
    assert (losses.get_yscale(), losses.get_ylabel()) == ("log", "training loss (nats)")
    assert (errors.get_yscale(), errors.get_ylabel()) == ("linear", "test error (%)")
    naive = []  # per panel and run: places and values
    for tables, _ in runs:
        evaluated = tables["evaluation"]
        own = [
            (column(evaluated, "epoch"), column(evaluated, "train_loss")),
            (column(evaluated, "epoch"), [100 - 100 * value for value in column(evaluated, "test_accuracy")]),
        ]
        for layer in LAYERS:
            rows = [row for row in tables["feat"].sort_by("step").to_pylist() if row["layer"] == layer]
            own.append(([row["epoch"] for row in rows], [100 * row["sparsity"] for row in rows]))
        naive.append(own)
    for place, panel in enumerate(used):
        assert panel.get_xlabel() == "epoch"
        order = [0, 3, 6, 1, 4, 7, 2, 5, 8]  # seed after seed of one setting, then the next
        medians = [line for line in panel.lines if line.get_linewidth() in (1.8, 1.9) and len(line.get_xdata()) > 2]
        assert len(medians) == 3
        for setting, line in enumerate(medians):
            stacked = [naive[number][place][1] for number in order[3 * setting : 3 * setting + 3]]
            assert np.asarray(line.get_xdata()).tolist() == naive[order[3 * setting]][place][0]
            np.testing.assert_allclose(line.get_ydata(), np.median(stacked, axis=0))
            [band] = panel.collections[setting].get_paths()
            lowest, highest = (taken(stacked, axis=0) for taken in (np.min, np.max))
            assert {*lowest.tolist(), *highest.tolist()} == set(band.vertices[:, 1].tolist())
    assert [panel.get_ylabel() for panel in sparsities] == ["sparsity (%)"] * 2
    titles = [" ".join(panel.get_title(loc="left").split()) for panel in sparsities]
    assert titles == ["(c) sparsity of layer stages.0, 1,000 of 2,048 units", "(d) sparsity of layer pool, 32 units"]
    small, short, long = legend(drawn)
    assert (small, short) == ("constant lr 0.02", "large steps for 10 %, lr 2.0")
    assert long == "large steps for 50 %, lr 2.0"
    for part in ("N = 1,000 training and 500 test images", "N = 500 training images", "correlation above 0.95",
                 "data set digits", "tiny_resnet", "seeds 1, 2, 3"):  # fmt: skip
        assert part in words(drawn), part
    assert_nothing_overlaps(drawn)


def test_phases_and_the_level_of_their_losses_are_marked() -> None:
    runs = everything()
    drawn = draw("large_step_phases", runs, features=False)
    losses, errors, levels = drawn.axes
    ends = {}
    for percent in (10, 50):  # the first update whose end lies at or behind the share
        first = next(step for step in range(STEPS) if (step + 1) / STEPS >= percent / 100 - 1e-12)
        ends[percent] = first / UPDATES_PER_EPOCH
    assert ends == {10: 0.25, 50: 1.45}
    for panel in (losses, errors):
        marked = {xs[0] for xs, _ in curves(panel, linestyle=":", linewidth=0.9)}
        assert sorted(marked) == pytest.approx(list(ends.values()))
    bars = curves(losses, linewidth=4.0)
    wanted = []
    for tables, settings in runs:
        if settings["experiment"] != "large_50":
            continue  # of the short phase there are too few evaluations
        rows = zip(column(tables["evaluation"], "epoch"), column(tables["evaluation"], "train_loss"), strict=True)
        inside = [math.log(loss) for epoch, loss in rows if ends[50] / 2 <= epoch <= ends[50]]
        wanted.append(math.exp(sum(inside) / len(inside)))
    assert [xs for xs, _ in bars] == [pytest.approx([ends[50] / 2, ends[50]])] * 3
    np.testing.assert_allclose([ys for _, ys in bars], [[level] * 2 for level in wanted])
    cells = [entry.get_text() for entry in levels.texts]
    assert cells.index(f"{np.median(wanted):.2g}") > cells.index("large steps for 50 %, lr 2.0")
    assert cells[cells.index("large steps for 10 %, lr 2.0") + 1] == "too few losses"
    entries = drawn.legends[0].get_lines()
    assert len({line._unscaled_dash_pattern for line in entries}) == len(entries) == 3  # apart in grey too
    assert_nothing_overlaps(drawn)


@pytest.mark.parametrize(("behind", "words_of_it"), [(0.125, "4 times lower"), (2.0, "4 times higher")])
def test_losses_behind_a_phase_are_told_as_lower_or_higher(behind: float, words_of_it: str) -> None:
    tables, settings = run(schedule=phase(0.5))
    losses = [0.5 if step <= 29 else behind for step in range(0, STEPS + 1)]
    rows = [{"step": step, "epoch": step / UPDATES_PER_EPOCH, "train_loss": loss} for step, loss in enumerate(losses)]
    changed = {**tables, "evaluation": as_table("evaluation", rows)}
    drawn = draw("large_step_phases", [(changed, settings)], panel="levels")
    cells = [text.get_text() for text in drawn.axes[0].texts]
    assert [*cells[-3:]] == ["0.5", "+0.00", words_of_it]


def test_settings_are_told_by_their_words() -> None:
    noisy = {"probability": 0.1, "schedule": "constant"}
    fading = {"probability": 0.3, "schedule": "inverted_cosine"}
    momentum = {"name": "sgd", "momentum": 0.9, "weight_decay": 0.0005}
    runs = [
        run(lr="0.01", label_noise=noisy, experiment="a"),
        run(lr="0.01", label_noise=fading, experiment="b"),
        run(schedule=phase(0.3, warmup="exponential", compat=True), optimizer=momentum, experiment="c"),
        run(schedule={"name": "cosine"}, experiment="d"),
    ]
    drawn = draw("large_step_phases", runs)
    assert legend(drawn) == [
        "constant lr 0.01, label noise 0.1", "constant lr 0.01, label noise 0.3, inverted cosine",
        "large steps for 30 %, lr 2.0 with exponential warm-up", "cosine schedule, lr 2.0",
    ]  # fmt: skip
    text = words(drawn)
    assert "after a phase lr falls by the released code's rule" in text
    assert "momentum 0.9" in text
    assert "weight decay 0.0005" in text
    assert_nothing_overlaps(drawn)


def test_a_run_that_diverged_is_marked_and_told() -> None:
    runs = [run(lr="0.02", experiment="small"), run(lost=35, schedule=phase(0.5), experiment="large")]
    drawn = draw("large_step_phases", runs)
    losses = drawn.axes[0]
    [(at, value)] = curves(losses, marker="x")
    rows = runs[1][0]["evaluation"].sort_by("step").to_pylist()
    assert (at, value) == ([rows[-1]["epoch"]], [pytest.approx(rows[-1]["train_loss"])])
    assert legend(drawn)[-1] == "a run diverged"
    assert "DIVERGED: large steps for 50 %, lr 2.0, tiny_resnet, seed 1 at update 35" in words(drawn)
    assert_nothing_overlaps(drawn)


@pytest.mark.slow
def test_networks_begin_a_row_each() -> None:
    second = [(tables, {**settings, "model": "a_network_with_a_longer_name"}) for tables, settings in everything()]
    drawn = draw("large_step_phases", everything() + second)
    used = [panel for panel in drawn.axes if panel.axison]
    assert len(used) == 2 * (2 + len(LAYERS))
    notes = [panel.texts[0].get_text() for panel in used]
    assert [note.startswith("tiny_resnet") for note in notes] == [True] * 4 + [False] * 4
    assert [note.startswith("a_network_with_a_longer_name") for note in notes] == [False] * 4 + [True] * 4
    assert_nothing_overlaps(drawn)


def test_features_are_those_of_the_runs_that_measure_them() -> None:
    runs = everything()[:3]
    del runs[0][0]["feat"]
    drawn = draw("large_step_phases", runs, panel="sparsity_2")
    [panel] = drawn.axes
    assert len([line for line in panel.lines if len(line.get_xdata()) > 2]) == 2
    for tables, _ in runs[1:]:
        del tables["feat"]
    drawn = draw("large_step_phases", runs)
    assert [panel.get_title(loc="left")[:8] for panel in drawn.axes] == ["(a) trai", "(b) test", "(c) trai"]


@pytest.mark.parametrize("kind", ["large_step_phases", "averaged_phases"])
@pytest.mark.slow
def test_columns_hold_their_panels(kind: str) -> None:
    drawn = draw(kind, everything()[:3], width="column")
    assert drawn.get_figwidth() == 3.4
    assert_nothing_overlaps(drawn)


# -- averages ----------------------------------------------------------------------------------------------------------


def test_iterates_stand_beside_their_longest_average() -> None:
    runs = [
        run(experiment="small", lr="0.02", ends={None: 0.5, 0.9: 0.45, 0.99: 0.4}),
        run(experiment="large", schedule=phase(0.5), ends={None: 2.0, 0.99: 0.2}),
    ]
    drawn = draw("averaged_phases", runs)
    losses, errors = drawn.axes
    names = legend(drawn)
    assert names == [
        "constant lr 0.02", "constant lr 0.02: EMA 0.99", "large steps for 50 %, lr 2.0",
        "large steps for 50 %, lr 2.0: EMA 0.99",
    ]  # fmt: skip
    epochs = [0.0, 1.0, 2.0, 3.0]
    expected = {}
    for name, (place, decay) in zip(names, [(0, None), (0, 0.99), (1, None), (1, 0.99)], strict=True):
        rows = [row for row in runs[place][0]["averages"].to_pylist() if row["parameter"] == decay]
        expected[name] = ([row["train_loss"] for row in rows], [100 - 100 * row["test_accuracy"] for row in rows])
    for place, panel in enumerate((losses, errors)):
        found = [entry for entry in curves(panel) if len(entry[0]) == 4]
        assert len(found) == 4
        for (at, values), name in zip(found, names, strict=True):
            assert at == epochs
            assert values == pytest.approx(expected[name][place])
    assert losses.get_yscale() == "log"
    text = words(drawn)
    assert "N = 1,000 training and 500 test images" in text
    assert_nothing_overlaps(drawn)


# -- one run, three measures -------------------------------------------------------------------------------------------


def valley(
    *, lost: int | None = None, share: float = 0.5, momentum: float = 0.0, barriers: Mapping[int, float] | None = None,
    empty: bool = False,
) -> tuple[dict[str, pa.Table], dict[str, Any]]:  # fmt: skip
    """Return the tables of a run whose rate falls to a tenth behind its phase."""
    walk = make_walk(steps=STEPS, lr=0.05, noise=0.2, lost=lost, barriers=dict(barriers or {}))
    rates = [0.05 if (step + 1) / STEPS < share else 0.005 for step in range(STEPS)]
    curved = hvp_table([None] * 3 if empty else [12.0, 20.0, 30.0, 9.0, 8.0, 7.0], every=10, unsure=(4,))
    tables = {
        "intervals": walk["intervals"].slice(0, 0) if empty else walk["intervals"],
        "hvp": curved,
        "feat": feat_table().slice(0, 0) if empty else feat_table(),
        "trace": trace_table(steps=STEPS, lr=rates, lost=lost),
    }
    optimizer = {"name": "sgd", "momentum": momentum, "weight_decay": 0.0}
    trained = {"schedule": phase(share), "optimizer": optimizer, "theory": {"momentum": momentum}}
    return tables, run_settings(lr="0.05", steps=STEPS, model="mlp_plain", **trained)


def draw_valley(**changes: Any) -> tuple[Figure, dict[str, pa.Table]]:
    tables, settings = valley(**changes)
    with style.applied():
        figure = LARGE_STEPS.draw(tables, settings=settings)
        render(figure)
    return figure, tables


def test_a_run_that_measures_its_jacobian_shows_its_rank() -> None:
    tables, settings = valley()
    counts = {30: 41, 0: 50, 60: 37}  # in any order
    rows = [
        {
            "step": step,
            "epoch": step / UPDATES_PER_EPOCH,
            "samples": 50,
            "parameters": 700,
            "rank": rank,
            "status": "ok",
        }
        for step, rank in counts.items()
    ]
    tables["jac"] = as_table("jac", rows, {"tolerance": 0.0001})
    with style.applied():
        figure = LARGE_STEPS.draw(tables, settings=settings)
        render(figure)
    assert labelled(figure.axes[3], "rank of the Jacobian") == ([0.0, 1.5, 3.0], [50.0, 41.0, 37.0])
    assert figure.axes[3].get_ylim() == pytest.approx((0.0, 52.5))
    assert figure.axes[3].get_xlim()[1] > 3.0  # behind the last update
    assert "of 50 gradients, singular values above 0.0001 of the largest" in words(figure)
    assert_nothing_overlaps(figure)


def labelled(panel: Axes, label: str) -> tuple[list[float], list[float]]:
    [found] = curves(panel, label=label)
    return found


def test_one_run_shows_height_sharpness_and_sparsity() -> None:
    figure, tables = draw_valley(barriers={3: 0.02, 40: 0.01})
    heights, sharpness, sparsity = figure.axes
    rows = tables["intervals"].sort_by("step").to_pylist()
    for name, key in (("full-batch loss", "start_loss"), ("height, W-M6", "height")):
        at, values = labelled(heights, name)
        assert at == pytest.approx([row["epoch"] for row in rows])
        np.testing.assert_allclose(values, [row[key] if row[key] > 0 else np.nan for row in rows])
    assert "2 barriers in 60 intervals" in words(figure)
    at, norms = labelled(sharpness, "spectral norm")
    assert (at, norms) == ([0.0, 0.5, 1.0, 1.5, 2.0, 2.5], [12.0, 20.0, 30.0, 9.0, 8.0, 7.0])
    at, edges = labelled(sharpness, "2/lr: beyond it steps overshoot and grow")
    rates = tables["trace"]["lr"].to_pylist()
    assert edges == pytest.approx([2 / rate for rate in rates])
    assert (edges[0], edges[28], edges[29], edges[-1]) == pytest.approx((40, 40, 400, 400))
    assert at == pytest.approx([step / UPDATES_PER_EPOCH for step in range(STEPS)])
    assert "1 value not converged" in words(figure)
    for layer in LAYERS:
        own = [row for row in tables["feat"].sort_by("step").to_pylist() if row["layer"] == layer]
        at, values = labelled(sparsity, f"layer {layer}")
        assert at == [row["epoch"] for row in own]
        assert values == pytest.approx([100 * row["sparsity"] for row in own])
    assert (heights.get_yscale(), sharpness.get_yscale(), sparsity.get_yscale()) == ("log", "log", "linear")
    assert sparsity.get_ylim()[0] == 0.0
    for panel in figure.axes:
        [span] = [patch for patch in panel.patches if patch.get_label() == "phase of large steps"]
        assert (span.get_x(), span.get_x() + span.get_width()) == pytest.approx((0.0, 1.45))
    assert_nothing_overlaps(figure)


@pytest.mark.slow
def test_a_column_holds_the_panels_of_a_run() -> None:
    tables, settings = valley()
    with style.applied():
        drawn = sheet_of("large_steps", width="column").draw(tables, settings=settings)
    assert_nothing_overlaps(drawn)


def test_momentum_moves_the_edge() -> None:
    figure, tables = draw_valley(momentum=0.9)
    _, edges = labelled(figure.axes[1], "2 (1 + momentum)/lr: beyond it steps overshoot and grow")
    assert edges == pytest.approx([3.8 / rate for rate in tables["trace"]["lr"].to_pylist()])


def test_long_walks_are_smoothed_as_the_note_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_steps, "_WINDOW_SHARE", 12)
    figure, tables = draw_valley()
    at, values = labelled(figure.axes[0], "full-batch loss")
    rows = tables["intervals"].sort_by("step").to_pylist()
    windows = [rows[first : first + 5] for first in range(len(rows) - 4)]
    np.testing.assert_allclose(at, [np.mean([row["epoch"] for row in window]) for window in windows])
    np.testing.assert_allclose(values, [np.mean([row["start_loss"] for row in window]) for window in windows])
    assert "moving average of 5 intervals" in words(figure)


def test_a_lost_run_and_one_without_measurements_say_so() -> None:
    figure, _ = draw_valley(lost=35)
    assert "THE RUN DIVERGED AT UPDATE 35" in words(figure)
    assert {tuple(xs) for xs, _ in curves(figure.axes[0], label="run diverged")} == {(1.75, 1.75)}
    assert_nothing_overlaps(figure)
    figure, _ = draw_valley(empty=True)
    text = words(figure)
    for part in ("no interval was measured", "no eigenvalue was measured", "no features were measured"):
        assert part in text, part
