"""Pictures of lines and gradients at one position: what is drawn is what the tables hold, whatever a run did."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pyarrow as pa
import pytest
from drawn_figures import assert_nothing_overlaps, render, render_instead_of_saving, sheet_of
from matplotlib.figure import Figure

from sgdline.analysis.power_law import fit_power_law
from sgdline.figures import own_direction as own_direction_figure
from sgdline.figures import plot_figure
from sgdline.figures.base import Figure as Sheet
from sgdline.figures.grammar import style
from sgdline.tables import kind_of, write_table

LINES, GRADIENTS = sheet_of("same_position"), sheet_of("own_direction")
FACTS = {"batch_norm": "train", "samples": 1024, "dataset": "digits", "model": "tiny_resnet", "batch_size": 64}
DEGREES = [1, 2, 3, 4, 5]
Rows = list[dict[str, Any]]


def as_table(kind: str, rows: Rows) -> pa.Table:
    schema = kind_of(kind).schema
    columns = [pa.array([row.get(field.name) for row in rows], type=field.type) for field in schema]
    return pa.Table.from_arrays(columns, schema=schema)


def trace(*, end: int = 240, diverged_at: int | None = None) -> pa.Table:
    end = end if diverged_at is None else diverged_at + 1
    row = {"lr": 0.1, "batch_loss": 1.0, "gradient_norm": 1.0, "direction_norm": 1.0}
    row |= {"distance_from_start": 1.0, "parameter_norm": 1.0}
    status = ["non_finite" if step == diverged_at else "ok" for step in range(end)]
    return as_table("trace", [{**row, "step": t, "epoch": t / 16, "status": status[t]} for t in range(end)])


def mline_metrics(
    *, steps: tuple[int, ...] = (0, 60, 120, 180), directions: int = 8, lost: tuple[tuple[int, int], ...] = ()
) -> pa.Table:
    """A made-up run whose lines come closer to one another; `lost` lines, (step, direction), have no numbers."""
    rng = np.random.default_rng(2)
    rows = Rows()
    for place, step in enumerate(steps):
        level = 0.1 * math.exp(-place)
        own = np.array([math.nan if (step, each) in lost else each for each in range(directions)])
        values = level * np.exp(0.5 * rng.standard_normal((directions, directions)))
        square = np.triu(values, 1) + np.triu(values, 1).T
        square[np.isnan(own)] = square[:, np.isnan(own)] = math.nan
        for direction in range(directions):
            gone = math.isnan(own[direction])
            mae = np.array([0.1 * level * 10.0**-degree for degree in DEGREES]) * math.exp(0.3 * rng.standard_normal())
            rows.append(
                {
                    "step": step, "direction": direction, "direction_norm": 1.0, "minimum_loss": None,
                    "minimum_position": None if gone else level * (2 + rng.standard_normal()),
                    "other_directions": list(range(directions)), "distances": square[direction].tolist(),
                    "degrees": DEGREES, "mae": np.full(5, math.nan) if gone else mae,
                    "status": "non_finite" if gone else "ok",
                }
            )  # fmt: skip
    return as_table("mline_metrics", rows)


def own_direction(
    *, steps: tuple[int, ...] = (0, 60, 120, 180), sizes: tuple[int, ...] = (4, 16, 64, 256), samples: int = 1024
) -> pa.Table:
    """Norms that follow the law to a few percent: ||g|| = 2*exp(-k), tr(C) = 30*exp(-k) at the k-th position."""
    rng = np.random.default_rng(4)
    rows = Rows()
    for place, step in enumerate(steps):
        full, noise = 2 * math.exp(-place), 30 * math.exp(-place)
        for size in sizes:
            for draw in range(12):
                square = full**2 + noise / size * (samples - size) / (samples - 1)
                norm = math.sqrt(square) * math.exp(0.02 * rng.standard_normal())
                rows.append(
                    {
                        "step": step, "batch_size": size, "draw": draw, "gradient_norm": norm,
                        "full_gradient_norm": full, "cosine": min(full / norm, 1.0), "status": "ok",
                    }
                )  # fmt: skip
    return as_table("own_direction", rows).replace_schema_metadata(facts("own_direction", samples=samples))


def batch_sizes(*, lines: int = 20, exponent: float = -1.0, full: float = 0.02) -> pa.Table:
    rng = np.random.default_rng(6)
    rows = Rows()
    for step in range(0, 12 * lines, 12):
        level = -math.exp(0.3 * rng.standard_normal())
        for size in (16, 32, 64, 128, 256, 512):
            for draw in range(1 if size == 64 else 4):
                row = {"step": step, "selection": "random", "batch_size": size, "draw": draw, "status": "ok"}
                rows.append({**row, "slope": level * (size / 64) ** exponent})
        row = {"step": step, "selection": "all", "batch_size": 1024, "draw": 0, "status": "ok"}
        rows.append({**row, "slope": full * level})
    return as_table("line_batch_sizes", rows).replace_schema_metadata(facts("line_batch_sizes"))


def facts(kind: str, **changes: Any) -> dict[bytes, bytes]:
    import json

    return {b"sgdline": json.dumps({"kind": kind, **FACTS, **changes}).encode()}


def run_settings(**analysis: Any) -> dict[str, Any]:
    line = {"positions": "adaptive", "batch_norm": "train"}
    return {
        "experiment": "digits", "dataset": "digits", "model": "tiny_resnet", "lr": "0.1", "batch_size": 64, "seed": 1,
        "steps": 240, "optimizer": {"name": "sgd", "momentum": 0.0, "weight_decay": 0.0},
        "analysis": {"window": 0.2, "same_position_degrees": DEGREES, **analysis},
        "probes": {"mline": line, "line": line, "own_direction": {"draws": 12}},
    }  # fmt: skip


def run(**changes: pa.Table) -> dict[str, pa.Table]:
    tables = {
        "mline_metrics": mline_metrics(),
        "own_direction": own_direction(),
        "line_batch_sizes": batch_sizes(),
        "trace": trace(),
    }
    return {**tables, **changes}


def empty_run(**changes: pa.Table) -> dict[str, pa.Table]:
    return {kind: table if kind == "trace" else table.slice(0, 0) for kind, table in run(**changes).items()}


def draw(figure: Sheet, tables: Mapping[str, pa.Table], **analysis: Any) -> Figure:
    """Draw as `plot_figure` does."""
    with style.applied():
        return figure.draw(tables, settings=run_settings(**analysis))


def panels(figure: Figure) -> list[Any]:
    return [panel for panel in figure.axes if panel.get_label() != "<colorbar>"]


def words(figure: Figure) -> str:
    texts = [*figure.texts, *(text for panel in figure.axes for text in panel.texts)]
    texts += [text for part in figure.subfigs for text in part.texts]
    texts += [text for legend in figure.legends for text in legend.get_texts()]
    titles = [panel.get_title(loc="left") for panel in figure.axes]
    return " ".join([" ".join(text.get_text().split()) for text in texts] + titles)


def curve(panel: Any, label: str) -> tuple[np.ndarray, np.ndarray]:
    found = [line for line in panel.lines if str(line.get_label()).startswith(label)]
    assert len(found) == 1, f"{label!r} is drawn {len(found)} times"
    return np.asarray(found[0].get_xdata(), dtype=float), np.asarray(found[0].get_ydata(), dtype=float)


# -- lines -------------------------------------------------------------------------------------------------------------


def test_matrices_share_one_scale_and_show_the_distances_of_their_position() -> None:
    table = mline_metrics(lost=((60, 3),))
    figure = draw(LINES, run(mline_metrics=table))
    shown = panels(figure)[:4]
    assert [panel.get_title(loc="left")[4:] for panel in shown] == [f"update {step}" for step in (0, 60, 120, 180)]
    limits = {panel.collections[0].get_clim() for panel in shown}
    assert len(limits) == 1
    [(low, high)] = limits
    for panel, step in zip(shown, (0, 60, 120, 180), strict=True):
        rows = [row for row in table.to_pylist() if row["step"] == step]
        expected = np.array([row["distances"] for row in rows])
        np.fill_diagonal(expected, np.nan)
        drawn = np.ma.filled(panel.collections[0].get_array().reshape(8, 8), np.nan)
        np.testing.assert_allclose(drawn, np.clip(expected, low, None))
        assert high >= np.nanmax(expected)
    assert "pale: 1 without a shape" in words(figure)


def test_six_positions_of_many_are_shown_and_all_are_in_the_curves() -> None:
    steps = tuple(range(0, 240, 12))
    figure = draw(LINES, run(mline_metrics=mline_metrics(steps=steps, directions=5)))
    titles = [panel.get_title(loc="left")[4:] for panel in panels(figure)]
    assert [title for title in titles if title.startswith("update")] == [
        f"update {step}" for step in (0, 48, 96, 132, 180, 228)
    ]
    assert "6 of 20 positions" in words(figure)
    assert curve(panels(figure)[6], "distance of two lines")[0].tolist() == list(steps)


def test_medians_and_quartiles_are_those_of_each_position() -> None:
    table = mline_metrics(lost=((0, 2), (180, 7)))
    figure = draw(LINES, run(mline_metrics=table))
    distances, errors, minima = panels(figure)[-3:]
    rows = table.to_pylist()
    for place, step in enumerate((0, 60, 120, 180)):
        here = [row for row in rows if row["step"] == step]
        pairs = [d for row in here for other, d in enumerate(row["distances"]) if other > row["direction"] and d == d]
        steps, medians = curve(distances, "distance of two lines")
        assert (steps[place], medians[place]) == (step, pytest.approx(np.median(pairs)))
        bar = distances.collections[1].get_segments()[place]
        np.testing.assert_allclose(bar[:, 1], np.quantile(pairs, [0.25, 0.75]))
        for degree in DEGREES:
            found = [row["mae"][degree - 1] for row in here if row["status"] == "ok"]
            assert curve(errors, f"polynomial of degree {degree}")[1][place] == pytest.approx(np.median(found))
        own = np.array([row["minimum_position"] for row in here if row["minimum_position"] is not None])
        assert curve(minima, "median of s_opt")[1][place] == pytest.approx(np.median(own))
        spread = np.abs(own - np.median(own))
        assert curve(minima, "median of |s_opt - median|")[1][place] == pytest.approx(np.median(spread[spread > 0]))
        dots = [line for line in minima.lines if line.get_marker() == "." and line.get_xdata()[0] == step]
        drawn = np.asarray(dots[0].get_ydata(), dtype=float)
        np.testing.assert_allclose(np.sort(drawn[np.isfinite(drawn)]), np.sort(spread[spread > 0]))
    # 7 lines at two positions: the middle one lies in the median itself.
    assert "2 lines without a minimum" in words(figure)
    assert "2 distances of 0 left out" in words(figure)
    assert {panel.get_yscale() for panel in (distances, errors, minima)} == {"log"}


def test_only_the_degrees_that_were_asked_for_are_drawn() -> None:
    figure = draw(LINES, run(), same_position_degrees=[2, 4, 7])
    labels = {line.get_label() for line in panels(figure)[-2].lines}
    assert {"polynomial of degree 2", "polynomial of degree 4"} <= labels
    assert "polynomial of degree 1" not in labels
    assert np.isnan(curve(panels(figure)[-2], "polynomial of degree 7")[1]).all()


@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("steps", [(0,), (0, 100)])
def test_one_or_two_directions_draw(directions: int, steps: tuple[int, ...]) -> None:
    figure = render(draw(LINES, run(mline_metrics=mline_metrics(steps=steps, directions=directions))))
    assert ("one direction only" in words(figure)) == (directions == 1)
    meshes = [panel for panel in panels(figure) if any("QuadMesh" in str(type(c)) for c in panel.collections)]
    assert len(meshes) == (0 if directions == 1 else len(steps))


def test_a_run_without_positions_says_so() -> None:
    figure = render(draw(LINES, empty_run(trace=trace(diverged_at=3))))
    text = words(figure)
    assert "no position was measured: the run diverged at update 3" in text
    assert text.count("the run diverged at update 3") == 4
    assert "THE RUN DIVERGED AT UPDATE 3" in text


def test_lines_without_any_number_say_so() -> None:
    lost = tuple((step, direction) for step in (0, 60) for direction in range(3))
    figure = render(draw(LINES, run(mline_metrics=mline_metrics(steps=(0, 60), directions=3, lost=lost))))
    for sentence in ("no distance is finite and above 0", "no line could be fitted", "no line has a minimum"):
        assert sentence in words(figure)


# -- gradients ---------------------------------------------------------------------------------------------------------


def test_norms_their_exponents_and_the_law_are_drawn() -> None:
    table = own_direction()
    figure = draw(GRADIENTS, run(own_direction=table))
    left, _ = panels(figure)
    rows = table.to_pylist()
    for place, step in enumerate((0, 60, 120, 180)):
        sizes, norms = curve(left, f"update {step}:")
        assert sizes.tolist() == [4, 16, 64, 256]
        for size, norm in zip(sizes, norms, strict=True):
            own = [row["gradient_norm"] for row in rows if (row["step"], row["batch_size"]) == (step, size)]
            assert norm == pytest.approx(math.sqrt(np.mean(np.square(own))))
        assert f"update {step}: exponent {fit_power_law(sizes, norms).exponent:.2f}" in words(figure)
        full, trace_of = 2 * math.exp(-place), 30 * math.exp(-place)
        levels = [line for line in left.lines if len(set(line.get_ydata())) == 1]
        assert any(line.get_ydata()[0] == pytest.approx(full) for line in levels)
        laws = [line for line in left.lines if len(line.get_xdata()) == 50]
        assert len(laws) == 4
        x, y = np.asarray(laws[place].get_xdata()), np.asarray(laws[place].get_ydata())
        expected = np.sqrt(full**2 + trace_of / x * (1024 - x) / 1023)
        np.testing.assert_allclose(y, expected, rtol=0.05)
    assert (left.get_xscale(), left.get_yscale()) == ("log", "log")
    assert "12 draws of each size" in words(figure)


def test_the_noise_is_found_and_the_law_ends_at_the_full_gradient() -> None:
    sizes = np.array([4.0, 16.0, 100.0])
    norms = own_direction_figure.law(sizes, 2.0, 50.0, samples=100)
    assert norms[-1] == pytest.approx(2.0)
    assert norms[0] == pytest.approx(math.sqrt(4 + 50 / 4 * 96 / 99))
    assert own_direction_figure.noise(sizes, norms, 2.0, samples=100) == pytest.approx(50.0)
    assert math.isnan(own_direction_figure.noise(sizes[2:], norms[2:], 2.0, samples=100))
    assert math.isnan(own_direction_figure.noise(sizes, np.full(3, np.nan), 2.0, samples=100))


@pytest.mark.parametrize("exponent", [-1.0, -0.7])
def test_the_fixed_line_has_medians_quartiles_and_its_exponent(exponent: float) -> None:
    table = batch_sizes(exponent=exponent)
    figure = draw(GRADIENTS, run(line_batch_sizes=table))
    _, right = panels(figure)
    levels = [-row["slope"] for row in table.to_pylist() if row["batch_size"] == 64]
    sizes, medians = curve(right, "median of |D_B|")
    assert sizes.tolist() == [64, 128, 256, 512]
    np.testing.assert_allclose(medians, np.median(levels) * (sizes / 64) ** exponent)
    np.testing.assert_allclose(curve(right, "slope of 1/B")[1], np.median(levels) * 64 / sizes)
    assert curve(right, "full batch")[1][0] == pytest.approx(0.02 * np.median(levels))
    corners = right.collections[0].get_paths()[0].vertices[:, 1]
    low, high = np.quantile(levels, [0.25, 0.75])
    assert corners.max() == pytest.approx(high)
    assert corners.min() == pytest.approx(low * 8**exponent)
    assert f"median exponent {exponent:.2f}, middle half {exponent:.2f} to {exponent:.2f}" in words(figure)
    assert "20 lines" in words(figure)


def test_gradients_that_are_not_finite_are_left_out_and_counted() -> None:
    rows = own_direction().to_pylist()
    for row in rows:
        if row["step"] == 60 or ((row["step"], row["batch_size"]) == (0, 4) and row["draw"] < 3):
            row |= {"gradient_norm": math.nan, "cosine": None, "status": "non_finite"}
    table = as_table("own_direction", rows).replace_schema_metadata(facts("own_direction"))
    figure = render(draw(GRADIENTS, run(own_direction=table)))
    left, _ = panels(figure)
    assert "51 gradients not finite" in words(figure)
    assert not [line for line in left.lines if str(line.get_label()).startswith("update 60:")]
    kept = [row["gradient_norm"] for row in rows if (row["step"], row["batch_size"]) == (0, 4) and row["draw"] >= 3]
    assert curve(left, "update 0:")[1][0] == pytest.approx(math.sqrt(np.mean(np.square(kept))))


def test_six_positions_of_many_stand_for_their_own_gradients() -> None:
    figure = draw(GRADIENTS, run(own_direction=own_direction(steps=tuple(range(0, 240, 24)))))
    left, _ = panels(figure)
    assert len([line for line in left.lines if str(line.get_label()).startswith("update")]) == 6
    assert "6 of 10 positions" in words(figure)


def test_runs_without_gradients_or_lines_say_so() -> None:
    text = words(render(draw(GRADIENTS, empty_run(trace=trace(diverged_at=3)))))
    assert "no gradient was measured: the run diverged at update 3" in text
    assert "no line was measured: the run diverged at update 3" in text
    lost = batch_sizes(lines=2).to_pylist()
    rows = [{**row, "slope": None, "status": "non_finite"} for row in lost if row["selection"] == "all"]
    table = as_table("line_batch_sizes", rows).replace_schema_metadata(facts("line_batch_sizes"))
    text = words(render(draw(GRADIENTS, run(line_batch_sizes=table, own_direction=own_direction(sizes=(8,))))))
    assert "no slope is finite and above 0" in text
    assert "too few gradients are finite and above 0" in text


# -- files -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("figure", [LINES, GRADIENTS])
def test_files_are_written_and_the_settings_of_matplotlib_stay(
    tmp_path: Path, figure: Sheet, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = run()
    paths = {kind: tmp_path / f"{kind}.arrow" for kind in figure.reads}
    for kind, path in paths.items():
        write_table(path, kind, tables[kind], provenance={} if kind == "trace" else FACTS)
    before = dict(matplotlib.rcParams)
    saved = render_instead_of_saving(monkeypatch)
    plot_figure(figure, paths, settings=run_settings(), pdf=tmp_path / "a.pdf", png=tmp_path / "a.png")
    assert saved == [(tmp_path / "a.pdf", tmp_path / "a.png")]
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("figure", [LINES, GRADIENTS])
@pytest.mark.parametrize("width", ["page", "column"])
@pytest.mark.slow
def test_nothing_overlaps(figure: Sheet, width: str) -> None:
    assert_nothing_overlaps(draw(replace(figure, width=width), run()))
