"""Figures of averages of iterates: what is drawn is what the tables hold, and roles come from settings alone."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from drawn_figures import assert_nothing_overlaps, render, render_instead_of_saving, sheet_of
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from walk_runs import as_table, run_settings, trace_table

from sgdline.analysis.equivalent_lr import predicted_rate
from sgdline.figures import _continuations, plot_comparison
from sgdline.figures._continuations import ITERATE, Kind
from sgdline.figures.base import Figure as Sheet
from sgdline.figures.grammar import style
from sgdline.tables import write_table

fig_ema_vs_lr = sheet_of("curious/fig_ema_vs_lr")
fig_swa_vs_lr = sheet_of("curious/fig_swa_vs_lr")
two_point = sheet_of("two_point")
accuracy_table = sheet_of("accuracy_table")

STEPS = 40
START = {"experiment": "before", "lr": 0.4, "batch_size": None, "step": 100}
FACTS = {
    "batch_norm": "eval", "statistics": "re-estimated", "samples": 1000, "validation_samples": 0, "test_samples": 500,
}  # fmt: skip
EMA, LOW, FAR = Kind("ema", 0.9), Kind("ema", 0.95), Kind("two_point", 30.0)
Runs = list[tuple[dict[str, pa.Table], dict[str, Any]]]


def curve(lr: float, seed: int) -> float:
    """Training loss at the end of a run at a constant rate, linear in log lr; half as steep for seed 2."""
    return 0.3 + 0.1 / seed * math.log(lr / 0.1)


def averages_table(ends: dict[Kind, tuple[float, float]], *, split: str = "test", lost: bool = False) -> pa.Table:
    """Return rows at updates 0, 10, ..., 40: the loss falls by 0.01 an evaluation, the accuracy rises by 0.01."""
    rows = []
    for step in range(0, STEPS + 1, 10):
        if lost and step >= 20:
            continue
        for kind, (loss, accuracy) in ends.items():
            reach = {"two_point": kind.parameter or 0, "swa": ((kind.parameter or 1) - 1) * (kind.spacing or 1)}
            if step < reach.get(kind.average, 0):
                continue
            left = (STEPS - step) / 10 * 0.01
            row: dict[str, Any] = {"step": step, "epoch": step / 20, **kind._asdict(), "train_loss": loss + left}
            row |= {"train_accuracy": accuracy - left, "distance_from_iterate": 0.1, "status": "ok"}
            row |= {f"{split}_loss": loss + left, f"{split}_accuracy": accuracy - left}
            rows.append(row)
    return as_table("averages", rows, FACTS)


def run(
    ends: dict[Kind, tuple[float, float]], *, lr: float, seed: int = 1, lost: int | None = None, split: str = "test",
    **changes: Any,
) -> tuple[dict[str, pa.Table], dict[str, Any]]:  # fmt: skip
    settings = run_settings(experiment="one", lr=f"{lr:g}", seed=seed, steps=STEPS, start_from=START, **changes)
    trace = trace_table(steps=STEPS, lr=lr, seed=seed, lost=lost)
    return {"averages": averages_table(ends, lost=lost is not None, split=split), "trace": trace}, settings


def equivalent(average: str, parameter: float, *, relative_lr: float = 0.1, spacing: int = 1) -> dict[str, Any]:
    own = {"average": average, "parameter": parameter, "spacing": spacing, "relative_lr": relative_lr}
    return {"name": "equivalent", **own}


def everything(seeds: tuple[int, ...] = (1, 2)) -> Runs:
    """Return the runs of a comparison: EMA 0.9 is worth lr 0.2, its schedule 0.25, EMA 0.95 less than any rate."""
    runs: Runs = []
    for seed in seeds:
        shift = 0.01 * seed
        ends = {
            ITERATE: (curve(0.4, seed), 0.90 + shift), EMA: (curve(0.2, seed), 0.93 + 2 * shift), LOW: (0.01, 0.94),
            Kind("two_point", 1.0): (curve(0.39, seed), 0.90 + shift), FAR: (curve(0.25, seed), 0.92 + shift),
            Kind("swa", 5.0, 2): (curve(0.2, seed), 0.935),
        }  # fmt: skip
        runs.append(run(ends, lr=0.4, seed=seed))
        runs += [run({ITERATE: (curve(lr, seed), 0.94)}, lr=lr, seed=seed) for lr in (0.05, 0.1, 0.3)]
        runs.append(run({ITERATE: (curve(0.25, seed), 0.95)}, lr=0.4, seed=seed, schedule=equivalent("ema", 0.9)))
        schedule = equivalent("swa", 5, spacing=2)
        runs.append(run({ITERATE: (curve(0.2, seed), 0.955)}, lr=0.4, seed=seed, schedule=schedule))
    return runs


def draw(kind: Sheet, runs: Runs) -> Figure:
    with style.applied():
        figure: Figure = kind.draw([tables for tables, _ in runs], settings=[settings for _, settings in runs])
    return figure


def words(figure: Figure) -> str:
    texts = [text.get_text() for text in figure.texts]
    texts += [text.get_text() for panel in figure.axes for text in panel.texts]
    texts += [panel.get_title(loc="left") for panel in figure.axes]
    texts += [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    return " ".join(" ".join(texts).split())


def drawn(panel: Axes, **look: Any) -> list[tuple[list[float], list[float]]]:
    """Return the data of the lines whose properties are these."""
    return [
        (np.asarray(line.get_xdata(), dtype=float).tolist(), np.asarray(line.get_ydata(), dtype=float).tolist())
        for line in panel.lines
        if len(line.get_xdata()) and all(getattr(line, f"get_{key}")() == value for key, value in look.items())
    ]


def row_of(figure: Figure, name: str) -> list[str]:
    """Return the cells beside a name in the table of a sheet, without the words to the right of their axes."""
    table = [text.get_text() for text in figure.axes[-1].texts]
    at = table.index(name)
    return [word for word in table[at + 1 :] if word][:5]


def labelled(panel: Axes, label: str) -> tuple[list[float], list[float]]:
    [found] = drawn(panel, label=label)
    return found


# -- roles -------------------------------------------------------------------------------------------------------------


def families(runs: Runs) -> list[_continuations.Family]:
    return _continuations.families([tables for tables, _ in runs], [settings for _, settings in runs])


def test_roles_come_from_settings() -> None:
    [family] = families(everything()[::-1])  # in whatever order
    assert family.lr == 0.4
    assert [block.settings["seed"] for block in family.baseline] == [1, 2]
    assert list(family.rates) == [0.3, 0.1, 0.05]
    assert set(family.scheduled) == {EMA, Kind("swa", 5.0, 2)}
    assert family.kinds("ema") == [EMA, LOW]
    assert family.relative_lr(EMA) == 0.1
    assert family.relative_lr(LOW) == 0.1  # lr*h is the run's
    other = run({ITERATE: (0.2, 0.9)}, lr=0.4, schedule=equivalent("two_point", 30, relative_lr=0.5))
    [family] = families([*everything(), other])
    assert family.relative_lr(LOW) is None
    assert family.relative_lr(FAR) == 0.5


def test_the_baseline_has_the_rate_before_or_the_largest() -> None:
    rates = [run({ITERATE: (0.2, 0.9)}, lr=lr) for lr in (0.1, 0.4, 0.8)]
    [family] = families(rates)
    assert (family.lr, list(family.rates)) == (0.4, [0.8, 0.1])
    for tables, settings in rates:
        settings["start_from"] = None
        assert tables
    [family] = families(rates)
    assert (family.lr, list(family.rates)) == (0.8, [0.4, 0.1])


def test_an_experiment_that_repeats_a_run_adds_nothing() -> None:
    bare = run({ITERATE: (9.0, 0.1)}, lr=0.4)
    [family] = families([bare, *everything((1,))])
    [kept] = family.baseline
    assert _continuations.at_end(kept, EMA, "train_loss") == pytest.approx(curve(0.2, 1))


def test_networks_and_starts_are_families_of_their_own() -> None:
    others = [run({ITERATE: (0.2, 0.9)}, lr=0.4, **changes) for changes in ({"model": "mlp"}, {"batch_size": 20})]
    names = [family.name for family in families([*everything((1,)), *others])]
    assert names == ["tiny_vgg on digits, batch size 50", "mlp on digits", "tiny_vgg on digits, batch size 20"]


# -- averages against rates --------------------------------------------------------------------------------------------


def test_an_average_stands_at_its_equivalent_rate() -> None:
    figure = draw(fig_ema_vs_lr, everything())
    _, _, loss, accuracy, _ = figure.axes
    rates, losses = labelled(loss, "iterate at constant lr'")
    np.testing.assert_allclose(rates, [0.05, 0.1, 0.3, 0.4])
    np.testing.assert_allclose(losses, [np.median([curve(lr, 1), curve(lr, 2)]) for lr in rates])
    corners = loss.collections[0].get_paths()[0].vertices  # the band over the seeds
    for lr in rates:
        ends = sorted(curve(lr, seed) for seed in (1, 2))
        here = np.sort(corners[np.isclose(corners[:, 0], lr), 1])
        np.testing.assert_allclose([here[0], here[-1]], ends)
    [(at, value)] = [point for point in drawn(loss, marker="s") if len(point[0]) == 1]
    assert at == [pytest.approx(0.2)]
    assert value == [pytest.approx(np.median([curve(0.2, 1), curve(0.2, 2)]))]
    [(at, value)] = drawn(accuracy, marker="s")
    assert (at, value) == ([pytest.approx(0.2)], [pytest.approx(96.0)])
    [(at, value)] = drawn(accuracy, marker="D")
    assert (at, value) == ([pytest.approx(0.25)], [pytest.approx(95.0)])
    # EMA 0.95 has a loss below every rate: a line across and no point.
    assert [0.01, 0.01] in [ys for _, ys in drawn(loss)]
    model = f"{predicted_rate('ema', 0.9, lr=0.4, relative_lr=0.1):.3g}"
    assert row_of(figure, "EMA 0.9") == ["0.2", "1.00", "2 of 2", "0.1 and 0.3", model]
    assert row_of(figure, "EMA 0.95")[:3] == ["—", "—", "0 of 2"]
    text = words(figure)
    assert "below every rate (2 seeds)" in text
    for part in ("model tiny_vgg", "data set digits", "N = 1,000 training and 500 test", "statistics re-estimated",
                 "lr 0.4 before, from update 100"):  # fmt: skip
        assert part in text, part


def test_the_models_rate_is_drawn_where_the_schedule_tells_it() -> None:
    figure = draw(fig_swa_vs_lr, everything())
    loss = figure.axes[2]
    # F4 with k = 5, c = 2, a = 0.1 and F6, by hand.
    far, count, variance = 0.81, 5, 0.1 / 1.9
    share = sum(far ** abs(i - j) for i in range(count) for j in range(count)) / count**2
    expected = 0.4 * 2 * variance * share / (1 + variance * share) / 0.1
    lines = [xs[0] for xs, ys in drawn(loss) if len(xs) == 2 and xs[0] == xs[1]]
    assert lines == [pytest.approx(expected)]
    assert row_of(figure, "SWA of 5, every 2 updates")[4] == f"{expected:.3g}"
    assert "rate in the model at a = 0.1" in words(figure)
    alone = [entry for entry in everything() if entry[1]["schedule"]["name"] == "constant"]
    assert "rate in the model" not in words(draw(fig_swa_vs_lr, alone))


def test_an_average_that_remembers_the_start_has_no_rate_in_the_model() -> None:
    ends = {ITERATE: (0.4, 0.9), Kind("ema", 0.99): (0.3, 0.9)}
    runs = [run(ends, lr=0.4), run({ITERATE: (0.2, 0.9)}, lr=0.1)]
    runs.append(run({ITERATE: (0.3, 0.9)}, lr=0.4, schedule=equivalent("ema", 0.99)))
    assert "rate in the model" not in words(draw(fig_ema_vs_lr, runs))  # 0.99^40 = 0.67


def test_losses_over_the_updates_are_medians() -> None:
    figure = draw(fig_ema_vs_lr, everything())
    for panel, column in ((figure.axes[0], "train_loss"), (figure.axes[1], "accuracy")):
        steps, values = labelled(panel, "EMA 0.9")
        assert steps == [0, 10, 20, 30, 40]
        ends = [curve(0.2, 1), curve(0.2, 2)] if column == "train_loss" else [95.0, 97.0]
        left = np.array([4, 3, 2, 1, 0]) * (0.01 if column == "train_loss" else -1.0)
        np.testing.assert_allclose(values, np.median(ends) + left)
        assert len(labelled(panel, "schedule for EMA 0.9")[0]) == 5
        assert len(labelled(panel, "constant lr 0.3")[0]) == 5


def test_a_run_that_diverged_is_no_point_of_the_curve() -> None:
    runs = everything((1,))
    runs[3] = run({ITERATE: (1.0, 0.9)}, lr=0.3, lost=25)
    figure = draw(fig_ema_vs_lr, runs)
    [(at, _)] = drawn(figure.axes[2], marker="s")
    assert at == [pytest.approx(0.2)]  # between 0.1 and 0.4 now
    assert row_of(figure, "EMA 0.9")[3] == "0.1 and 0.4"
    assert "DIVERGED: constant lr 0.3, tiny_vgg, seed 1 at update 25" in words(figure)


# -- two points --------------------------------------------------------------------------------------------------------


def test_two_points_stand_over_their_distance() -> None:
    figure = draw(two_point, everything())
    loss, accuracy, over_updates, _ = figure.axes
    places, values = labelled(loss, "two points, k updates apart")
    assert places == [1.0, 30.0]
    np.testing.assert_allclose(values, [np.median([curve(lr, 1), curve(lr, 2)]) for lr in (0.39, 0.25)])
    _, raw = labelled(accuracy, "iterate")
    np.testing.assert_allclose(raw, [91.5, 91.5])
    _, half = labelled(loss, "iterate at constant lr 0.3")
    np.testing.assert_allclose(half, [np.median([curve(0.3, 1), curve(0.3, 2)])] * 2)
    assert loss.get_xscale() == "log"
    assert "change at k = 30: +2 ± " in words(figure)
    assert labelled(over_updates, "k = 30")[0] == [30, 40]
    assert labelled(over_updates, "k = 1")[0] == [10, 20, 30, 40]


def test_without_pairs_or_a_rate_near_half_it_says_so() -> None:
    figure = draw(two_point, [run({ITERATE: (0.2, 0.9)}, lr=0.4), run({ITERATE: (0.2, 0.9)}, lr=0.1)])
    assert words(figure).count("no pair of iterates was averaged") == 2
    assert not any("constant lr" in str(line.get_label()) for panel in figure.axes for line in panel.lines)


# -- table -------------------------------------------------------------------------------------------------------------


def test_the_table_has_means_gains_and_seeds() -> None:
    figure = draw(accuracy_table, everything())
    [panel] = figure.axes
    texts = [text.get_text() for text in panel.texts]

    def row(name: str) -> list[str]:
        at = texts.index(name) + 1
        return texts[at : at + 4]

    assert "tiny_vgg on digits" in " ".join(texts)
    spread = math.sqrt(0.5)  # of 91 and 92
    assert row("iterate, constant lr 0.4") == ["91.50", f" ± {spread:.2f}", " (2 seeds)", "average"]
    assert row("EMA 0.9") == ["96.00", f" ± {2 * spread:.2f}", "+4.50", f" ± {spread:.2f} (2 seeds)"]
    assert row("two points 30 apart") == ["93.50", f" ± {spread:.2f}", "+2.00", " ± 0.00 (2 seeds)"]
    assert row("iterate, constant lr 0.1") == ["94.00", " ± 0.00", "+2.50", f" ± {spread:.2f} (2 seeds)"]
    assert row("iterate, made for EMA 0.9")[0] == "95.00"
    assert "SWA of 5, every 2 updates" in " ".join(texts)
    assert [name for name in texts if name in ("baseline", "average", "lr cut", "schedule")] == [
        "baseline", "average", "lr cut", "schedule",
    ]  # fmt: skip


def test_the_table_tells_lost_runs_and_takes_the_validation_set_without_a_test_set() -> None:
    runs = [run({ITERATE: (0.2, 0.9)}, lr=0.4, seed=seed, split="validation") for seed in (1, 2)]
    runs.append(run({ITERATE: (0.2, 0.9)}, lr=0.8, lost=25, split="validation"))
    runs.append(run({ITERATE: (0.2, 0.91)}, lr=0.4, model="mlp", split="validation"))
    figure = draw(accuracy_table, runs)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts[texts.index("iterate, constant lr 0.8") + 1] == "diverged"
    assert "lr raised" in texts
    assert "validation accuracy after the run's last update" in words(figure)
    assert {"tiny_vgg on", "mlp on digits"} <= set(texts)
    assert texts[texts.index("iterate, constant lr 0.4") + 1 :][:3] == ["90.00", " ± 0.00", " (2 seeds)"]


@pytest.mark.parametrize("kind", [fig_ema_vs_lr, two_point, accuracy_table])
def test_runs_of_which_nothing_is_left_still_have_a_sheet(kind: Sheet) -> None:
    alone = run({ITERATE: (0.2, 0.9)}, lr=0.4, schedule=equivalent("ema", 0.9))  # no baseline at all
    lost = [run({ITERATE: (0.2, 0.9), EMA: (0.1, 0.9)}, lr=0.4, lost=5), run({ITERATE: (0.2, 0.9)}, lr=0.1, lost=5)]
    stepped = run({ITERATE: (0.2, 0.9)}, lr=0.4, schedule={"name": "step", "milestones": [20], "factor": 0.1})
    assert "tiny_vgg" in words(render(draw(kind, [alone])))
    assert "seed 1 at update 5" in words(render(draw(kind, lost)))
    assert "tiny_vgg" in words(render(draw(kind, [stepped])))


# -- all of them -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [fig_ema_vs_lr, two_point])
def test_several_networks_stand_below_each_other_and_nothing_leaves_the_sheet(kind: Sheet) -> None:
    second = [(tables, {**settings, "model": "a_network_with_a_longer_name"}) for tables, settings in everything()]
    figure = draw(kind, everything() + second)
    titles = [" ".join(panel.get_title(loc="left").split()) for panel in figure.axes if panel.axison]
    assert len(titles) == 8
    assert sum(title[4:].startswith("a_network_with_a_longer_name on digits: ") for title in titles) == 4
    assert_nothing_overlaps(figure)


@pytest.mark.parametrize("width", ["page", "column"])
@pytest.mark.parametrize("kind", [fig_swa_vs_lr, two_point, accuracy_table])
@pytest.mark.slow
def test_nothing_overlaps_or_leaves_the_sheet(kind: Sheet, width: Any) -> None:
    assert_nothing_overlaps(draw(replace(kind, width=width), everything()))


def test_a_panel_of_several_networks_is_drawn_for_each_of_them() -> None:
    second = [(tables, {**settings, "model": "mlp"}) for tables, settings in everything((1,))]
    figure = draw(replace(fig_ema_vs_lr, panel="loss_rates"), everything((1,)) + second)
    titles = [panel.get_title(loc="left") for panel in figure.axes]
    assert [title.partition(" on ")[0] for title in titles] == ["(a) tiny_vgg", "(b) mlp"]


@pytest.mark.parametrize("kind", ["averages_and_rates", "accuracy_table"])
def test_pictures_are_written_from_files(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, settings = [], []
    for place, (tables, block) in enumerate(everything((1,))):
        paths = {name: tmp_path / f"run{place}" / f"{name}.arrow" for name in tables}
        for name, path in paths.items():
            write_table(path, name, tables[name], provenance=FACTS)
        files.append(paths)
        settings.append(block)
    pdf, png = tmp_path / "figure.pdf", tmp_path / "figure.png"
    saved = render_instead_of_saving(monkeypatch)
    plot_comparison(sheet_of(kind), files, settings=settings, pdf=pdf, png=png)
    assert saved == [(pdf, png)]
