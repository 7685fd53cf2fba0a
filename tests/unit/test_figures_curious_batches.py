"""Figures of single steps and fixed batches: what is drawn is what the tables hold."""

from __future__ import annotations

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

from sgdline.analysis.one_step import step_metrics
from sgdline.figures import plot_figure
from sgdline.figures.grammar import style
from sgdline.tables import write_table

FIGURES = ("one_step_sweep", "quadratic_fit", "fixed_batches")
FACTS = {"batch_norm": "train", "samples": 90, "validation_samples": 30, "batches": 3, "other_batches": 2}
FACTS |= {"own_precision": "float64", "dataset": "digits", "model": "mlp"}
LR, BATCHES = 0.1, 3
ETAS = np.concatenate([[0.0], LR * np.geomspace(1e-4, 1e2, 25)])
ALPHAS = np.arange(5) / 4
Rows = list[dict[str, Any]]


def sweep_rows(steps: tuple[int, ...] = (0, 20, 40, 60), *, status: str = "ok") -> Rows:
    """Return parabolas whose minimum lies at 20 lr for the own batch and at 0.5 lr for the others."""
    rows = []
    for step in steps:
        for batch in range(BATCHES):
            level = 2.0 * np.exp(-step / 20) * (1 + 0.1 * batch)
            own = level * (0.05 + (1 - ETAS / (20 * LR)) ** 2)
            others = level * (1.0 + 0.1 * (ETAS / (0.5 * LR) - 1) ** 2)
            even = np.linspace(0, 2 * ETAS[own.argmin()], 21)
            row: dict[str, Any] = {"step": step, "epoch": step / 20, "lr": LR, "batch": batch, "gradient_norm": 1.0}
            row |= {"step_sizes": ETAS, "own_loss": own, "other_loss": others, "validation_loss": others + 0.1}
            row |= {"train_loss": 2.0 * float(np.exp(-step / 20)), "status": status}
            if status == "ok":
                along = level * (0.05 + (1 - even / (20 * LR)) ** 2)
                row |= {"quadratic_step_sizes": even, "quadratic_own_loss": along}
            else:
                wild = np.full(ETAS.size, np.nan)
                row |= {"own_loss": wild, "other_loss": wild, "validation_loss": wild, "train_loss": np.nan}
                row |= {"quadratic_step_sizes": None, "quadratic_own_loss": None}
            rows.append(row)
    return rows


def sweep_tables(rows: Rows, *, steps: int = 60, **trace: Any) -> dict[str, pa.Table]:
    ends = [row["train_loss"] for row in rows if row["step"] == steps]
    metrics = []
    for row in rows:
        shared = {name: row[name] for name in ("step", "epoch", "lr", "batch", "train_loss", "status")}
        metrics.append({**shared, "end_train_loss": ends[0] if ends else None, **step_metrics(row)})
    return {
        "one_step": as_table("one_step", rows, FACTS),
        "one_step_metrics": as_table("one_step_metrics", metrics, FACTS),
        "trace": trace_table(steps=steps, lr=LR, **trace),
    }


def path_rows(steps: tuple[int, ...] = (0, 1, 2, 20, 40, 60), *, bump: float = 0.0) -> Rows:
    """Return losses 2 - t/40 that go from one iterate to the next along a(1 - a), `bump` times as high."""
    rows = []
    for place, step in enumerate(steps):
        for batch in range(BATCHES):
            here = (2.0 - step / 40) * (1 + 0.1 * batch)
            row: dict[str, Any] = {"step": step, "epoch": step / 20, "batch": batch, "loss": here, "status": "ok"}
            row["train_loss"] = 2.2 - step / 40
            if place:
                before = (2.0 - steps[place - 1] / 40) * (1 + 0.1 * batch)
                curve = (1 - ALPHAS) * before + ALPHAS * here + bump * ALPHAS * (1 - ALPHAS)
                gap = max(0.0, bump / 4) / np.ptp(curve)
                row |= {"from_step": steps[place - 1], "alphas": ALPHAS, "segment_loss": curve, "convexity_gap": gap}
            rows.append(row)
    return rows


def path_tables(rows: Rows, **trace: Any) -> dict[str, pa.Table]:
    return {"fixed_batches": as_table("fixed_batches", rows, FACTS), "trace": trace_table(lr=LR, **trace)}


def draw(kind: str, tables: dict[str, pa.Table]) -> Figure:
    with style.applied():
        figure: Figure = sheet_of(kind).draw(tables, settings=run_settings())
    return figure


def words(figure: Figure) -> str:
    texts = [text.get_text() for text in figure.texts]
    texts += [text.get_text() for panel in figure.axes for text in panel.texts]
    texts += [panel.get_title(loc="left") for panel in figure.axes]
    return " ".join(" ".join(texts).split())


def curve(panel: Axes, label: str) -> tuple[np.ndarray, np.ndarray]:
    found = [line for line in panel.lines if str(line.get_label()).startswith(label) and len(line.get_xdata())]
    assert len(found) == 1, f"{label!r} is drawn {len(found)} times"
    return np.asarray(found[0].get_xdata(), dtype=float), np.asarray(found[0].get_ydata(), dtype=float)


def test_sweeps_are_drawn_as_measured() -> None:
    rows = sweep_rows()
    figure = draw("one_step_sweep", sweep_tables(rows))
    # First, middle and last of the four.
    assert [panel.get_title(loc="left") for panel in figure.axes] == [
        "(a) initialisation, t = 0",
        "(b) before update t = 40",
        "(c) end of training, t = 60",
    ]
    for panel, step in zip(figure.axes, (0, 40, 60), strict=True):
        here = [row for row in rows if row["step"] == step]
        for label, name in (("the step's own", "own"), ("other training", "other"), ("validation", "validation")):
            x, y = curve(panel, label)
            np.testing.assert_array_equal(x, ETAS[1:])
            np.testing.assert_allclose(y, here[1][f"{name}_loss"][1:])  # the middle one of three
        assert curve(panel, "learning rate")[0][0] == LR
        assert curve(panel, "training loss of the trained")[1][0] == rows[-1]["train_loss"]
        low, high = panel.get_ylim()
        assert low < min(row["own_loss"].min() for row in rows)
        assert 5 < high / max(row["own_loss"][0] for row in rows) < 12
        assert panel.get_yscale() == panel.get_xscale() == "log"
    assert len({panel.get_ylim() for panel in figure.axes}) == 1  # to be compared
    said = words(figure)
    best = ETAS[1:][np.argmin((1 - ETAS[1:] / (20 * LR)) ** 2)] / LR
    assert f"own batch at best {0.1 * 1.1 * (1 + 20 * (1 - best / 20) ** 2):.3g} at {best:.3g} lr" in said
    assert "other training batches at best" in said
    assert "at 0.562 lr" in said
    assert "no step size helps the others: 0 of 3 batches" in said
    assert "BatchNorm in train mode" in said
    assert "training loss over 90 samples" in said


def test_parabolas_fit_their_curves() -> None:
    rows = sweep_rows()
    figure = draw("quadratic_fit", sweep_tables(rows))
    for panel in figure.axes[:3]:
        x, measured = curve(panel, "measured")
        fine, fitted = curve(panel, "parabolas fitted")
        np.testing.assert_allclose(np.interp(x, fine, fitted), measured, atol=2e-3)
        assert measured[0] == pytest.approx(1.0)
        assert measured[10] == pytest.approx(0.0, abs=1e-12)
    said = words(figure)
    assert said.count("R² 1 (lowest 1)") == 3
    r_squared, convexity = figure.axes[3:]
    np.testing.assert_allclose(curve(r_squared, "median over")[1], [1.0] * 4)
    np.testing.assert_array_equal(curve(convexity, "median over")[0], [0, 20, 40, 60])
    assert len(curve(convexity, "each batch")[0]) == 12


@pytest.mark.parametrize(("bump", "gap"), [(0.0, 0.0), (-0.3, 0.0), (0.08, None)])
def test_paths_and_gaps_are_drawn_as_measured(bump: float, gap: float | None) -> None:
    rows = path_rows(bump=bump)
    figure = draw("fixed_batches", path_tables(rows))
    run, start, gaps = figure.axes
    steps, mean = curve(run, "mean over the fixed")
    np.testing.assert_array_equal(steps, [0, 1, 2, 20, 40, 60])
    np.testing.assert_allclose(mean, 1.1 * (2.0 - steps / 40))
    np.testing.assert_allclose(curve(run, "whole training set")[1], 2.2 - steps / 40)
    drawn = [line for line in start.lines if len(line.get_xdata()) == ALPHAS.size]
    assert len(drawn) == 15
    measured = [row for row in rows if "segment_loss" in row]
    for line, row in zip(drawn, measured, strict=True):
        length = row["step"] - row["from_step"]
        np.testing.assert_allclose(line.get_xdata(), row["from_step"] + ALPHAS * length)
        np.testing.assert_allclose(line.get_ydata(), row["segment_loss"])
    expected = [np.mean([row["convexity_gap"] for row in measured if row["step"] == step]) for step in steps[1:]]
    np.testing.assert_allclose(curve(gaps, "mean gap")[1], expected, atol=1e-12)
    assert gap is None or set(curve(gaps, "mean gap")[1]) == {gap}
    sags = curve(gaps, "mean sag")[1]
    ranges = [[np.ptp(row["segment_loss"]) for row in measured if row["step"] == step] for step in steps[1:]]
    np.testing.assert_allclose(sags, [np.mean(min(bump / 4, 0.0) / np.array(own)) for own in ranges], atol=1e-9)
    low, high = gaps.get_ylim()
    assert low < sags.min()
    assert high > max(expected)
    assert "a batch bends upwards at 100 % of them" in words(figure)  # a straight line is one


@pytest.mark.parametrize("kind", ["one_step_sweep", "quadratic_fit"])
def test_a_run_without_finite_losses_says_so(kind: str) -> None:
    said = words(render(draw(kind, sweep_tables(sweep_rows((0,), status="non_finite"), lost=1))))
    assert "THE RUN DIVERGED AT UPDATE 1" in said
    assert "no loss is finite: the run diverged" in said or "no batch has a minimum: the run diverged" in said
    assert "no position was measured" in words(render(draw(kind, sweep_tables([], lost=0))))


@pytest.mark.parametrize("width", ["page", "column"])
@pytest.mark.parametrize("kind", FIGURES)
@pytest.mark.slow
def test_nothing_overlaps_or_leaves_the_sheet(kind: str, width: str) -> None:
    tables = sweep_tables(sweep_rows()) | path_tables(path_rows())
    with style.applied():
        sheet = replace(sheet_of(kind), width=width)  # type: ignore[call-arg]
        figure = sheet.draw(tables, settings=run_settings())
    assert_nothing_overlaps(figure)


def test_paths_without_segments_say_so() -> None:
    said = words(render(draw("fixed_batches", path_tables(path_rows((0,)), lost=1))))
    assert said.count("no segment is finite: the run diverged at update 1") == 2
    assert "no iterate was measured" in words(render(draw("fixed_batches", path_tables([], lost=0))))
    rows = path_rows((0, 1))
    for row in rows:
        row |= {"loss": np.nan, "status": "non_finite"}
        if "segment_loss" in row:
            row |= {"segment_loss": np.full(5, np.nan), "convexity_gap": None}
    said = words(render(draw("fixed_batches", path_tables(rows, lost=2))))
    assert "no loss is finite" in said


@pytest.mark.parametrize("name", FIGURES)
def test_each_is_drawn_from_its_files(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    figure = sheet_of(name)
    tables = sweep_tables(sweep_rows()) | path_tables(path_rows())
    paths = {}
    for kind in figure.reads:
        paths[kind] = tmp_path / f"{kind}.arrow"
        write_table(paths[kind], kind, tables[kind], provenance=FACTS if kind != "trace" else {})
    saved = render_instead_of_saving(monkeypatch)
    pdf, png = tmp_path / "a.pdf", tmp_path / "a.png"
    plot_figure(figure, paths, settings=run_settings(), pdf=pdf, png=png)
    assert saved == [(pdf, png)]
