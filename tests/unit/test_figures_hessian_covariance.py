"""Figure of Hessian and covariance (walk): what is drawn is what the table holds, whatever a run did."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from drawn_figures import assert_nothing_overlaps, render, render_instead_of_saving, sheet_of
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from walk_runs import UPDATES_PER_EPOCH, as_table, run_settings, trace_table

from sgdline.figures import plot_figure
from sgdline.figures.base import Figure as Sheet
from sgdline.figures.grammar import style
from sgdline.figures.hessian_covariance import chance_cosine
from sgdline.tables import write_table

FIGURE = sheet_of("hessian_covariance")
FACTS = {"batch_norm": "train", "samples": 512, "parameters": 460}


def covariance_row(step: int, **changes: Any) -> dict[str, Any]:
    near = 1 - math.exp(-step / 20)
    row = {
        "step": step, "epoch": step / UPDATES_PER_EPOCH, "lr": 0.1, "train_loss": 2.3 * math.exp(-step / 20),
        "gradient_norm": 0.4 * math.exp(-step / 30), "identity_error": 1e-16 * (1 + step),
        "hessian_eigenvalues": [4.0 + near, 2.0, 1.0], "covariance_eigenvalues": [1.5 - near, 0.4, 0.1],
        "cosine": 0.3 + 0.6 * near, "subspace_overlap": 0.5 + 0.3 * near, "status": "ok",
    }  # fmt: skip
    return row | changes


def lost_row(step: int) -> dict[str, Any]:
    return {"step": step, "epoch": step / UPDATES_PER_EPOCH, "lr": 0.1, "train_loss": math.nan, "status": "non_finite"}


def drawn(
    rows: Sequence[dict[str, Any]],
    *,
    facts: Any = FACTS,
    lost: int | None = None,
    figure: Sheet = FIGURE,
    **settings: Any,
) -> Figure:
    tables = {"hessian_covariance": as_table("hessian_covariance", rows, facts), "trace": trace_table(lost=lost)}
    with style.applied():
        picture = figure.draw(tables, settings=run_settings(**settings))
    return picture


def words(figure: Figure) -> str:
    texts = [text.get_text() for text in [*figure.texts, *(text for panel in figure.axes for text in panel.texts)]]
    texts += [panel.get_title(loc="left") for panel in figure.axes]
    return " ".join(" ".join(texts).split())


def labels(figure: Figure) -> set[str]:
    legends = [panel.get_legend() for panel in figure.axes]
    return {text.get_text() for legend in legends if legend is not None for text in legend.get_texts()}


def curve(panel: Axes, label: str) -> tuple[np.ndarray, np.ndarray]:
    [found] = [line for line in panel.lines if str(line.get_label()).startswith(label)]
    return np.asarray(found.get_xdata(), dtype=float), np.asarray(found.get_ydata(), dtype=float)


def test_all_quantities_stand_over_the_updates_in_any_order_of_rows() -> None:
    rows = [covariance_row(step) for step in range(0, 60, 10)]
    figure = drawn(rows[::-1])
    error, eigenvalues, alignment, loss = figure.axes
    for panel, label, values in (
        (error, "error of", [row["identity_error"] for row in rows]),
        (eigenvalues, "eigenvalues of H (nats / length²)", [row["hessian_eigenvalues"][0] for row in rows]),
        (eigenvalues, "eigenvalues of C (nats² / length²)", [row["covariance_eigenvalues"][0] for row in rows]),
        (alignment, "|cosine| of the top", [row["cosine"] for row in rows]),
        (alignment, "overlap of the 3 leading", [row["subspace_overlap"] for row in rows]),
        (loss, "loss over", [row["train_loss"] for row in rows]),
        (loss, "gradient norm", [row["gradient_norm"] for row in rows]),
    ):
        steps, found = curve(panel, label)
        np.testing.assert_array_equal(steps, np.arange(0, 60, 10))
        np.testing.assert_allclose(found, values)
    assert [panel.get_yscale() for panel in figure.axes] == ["log", "log", "linear", "log"]
    assert curve(error, "1e-8")[1].tolist() == [1e-8, 1e-8]
    low, high = alignment.get_ylim()
    assert low <= 0
    assert high >= 1
    thin = sorted(line.get_ydata()[0] for line in eigenvalues.lines if line.get_linewidth() < 1)
    assert thin == [0.1, 0.4, 1.0, 2.0]
    for panel in figure.axes:
        assert panel.get_xlabel() == "update t"
    text = words(figure)
    for part in (
        "experiment walk", "model tiny_vgg", "data set digits", "lr 0.1", "batch size 50", "seed 1",
        "N = 512 samples", "BatchNorm in train mode", "p = 460 parameters", "thin: the next ones",
    ):  # fmt: skip
        assert part in text, part
    assert "not drawn" not in text
    assert len(labels(figure)) == 10
    assert_nothing_overlaps(figure)
    narrow = drawn([covariance_row(0), covariance_row(10)], figure=sheet_of("hessian_covariance", width="column"))
    assert_nothing_overlaps(narrow)


def test_chance_is_what_random_directions_have() -> None:
    panel = drawn([covariance_row(0)], facts={**FACTS, "parameters": 12}).axes[2]
    rng = np.random.default_rng(7)
    bases = np.linalg.qr(rng.standard_normal((2, 4000, 12, 3)))[0]
    products = np.swapaxes(bases[0], 1, 2) @ bases[1]
    assert curve(panel, "mean |cosine|")[1][0] == pytest.approx(np.abs(products[:, 0, 0]).mean(), rel=0.04)
    assert curve(panel, "mean overlap")[1][0] == pytest.approx((products**2).sum((1, 2)).mean() / 3, rel=0.04)
    assert chance_cosine(1) == pytest.approx(1.0)
    assert chance_cosine(2) == pytest.approx(2 / math.pi)
    assert chance_cosine(2000) == pytest.approx(math.sqrt(2 / (2000 * math.pi)), rel=1e-3)


def test_a_table_that_does_not_tell_the_parameters_has_no_chance_lines() -> None:
    figure = drawn([covariance_row(0), covariance_row(10)], facts={"batch_norm": "eval"})
    assert not any("random" in label for label in labels(figure))
    assert "number of parameters not recorded" in words(figure)
    assert "N not recorded" in words(figure)


def test_a_single_row_of_a_single_eigenvector() -> None:
    only = covariance_row(0, hessian_eigenvalues=[4.0], covariance_eigenvalues=[1.0], cosine=0.5, subspace_overlap=0.25)
    figure = render(drawn([only]))
    assert curve(figure.axes[2], "the cosine's square")[1].tolist() == [0.25]
    assert all(line.get_marker() not in ("", "None") for line in figure.axes[1].lines)
    assert "thin" not in words(figure)
    for panel in figure.axes:
        low, high = panel.get_xlim()
        assert low < 0
        assert high > 60
    assert_nothing_overlaps(figure)


def test_values_that_a_logarithm_cannot_show_are_counted() -> None:
    rows = [
        covariance_row(0, identity_error=0.0, hessian_eigenvalues=[4.0, 1.0, -1.0]),
        covariance_row(10, gradient_norm=0.0, covariance_eigenvalues=[1.0, 0.0, 0.0]),
        covariance_row(20, covariance_eigenvalues=[0.0, 0.0, 0.0], cosine=None, subspace_overlap=None),
        covariance_row(30, hessian_eigenvalues=[-1.0, -2.0, -3.0]),
    ]
    figure = render(drawn(rows))
    text = words(figure)
    for part in (
        "1 error of 0 not drawn", "1 gradient norm of 0 not drawn", "4 eigenvalues of H not positive, not drawn",
        "5 eigenvalues of C not positive, not drawn", "1 row with C = 0, without eigenvectors",
    ):  # fmt: skip
        assert part in text, part
    np.testing.assert_allclose(
        curve(figure.axes[1], "eigenvalues of H")[1], [4.0, 5 - math.exp(-0.5), 5 - 1 / math.e, np.nan]
    )
    assert np.isnan(curve(figure.axes[2], "|cosine|")[1]).tolist() == [False, False, True, False]
    assert_nothing_overlaps(figure)


def test_a_covariance_of_zero_throughout_says_so() -> None:
    nothing = {"covariance_eigenvalues": [0.0, 0.0, 0.0], "cosine": None, "subspace_overlap": None}
    figure = render(drawn([covariance_row(0, **nothing), covariance_row(10, **nothing)]))
    assert "C is 0: it has no eigenvectors" in words(figure)
    flat = {**nothing, "hessian_eigenvalues": [0.0, -1.0, -2.0]}
    assert "no eigenvalue is positive" in words(render(drawn([covariance_row(0, **flat)])))


def test_a_run_that_diverged_is_drawn_to_its_end_and_marked() -> None:
    figure = render(drawn([covariance_row(0), covariance_row(10), lost_row(20)], lost=25))
    text = words(figure)
    assert "THE RUN DIVERGED AT UPDATE 25" in text
    assert "1 row not finite, not drawn" in text
    assert "with C = 0" not in text
    assert "run diverged" in labels(figure)
    for panel in figure.axes:
        assert curve(panel, "run diverged")[0].tolist() == [25, 25]
    assert len(labels(figure)) == 11
    assert_nothing_overlaps(figure)


@pytest.mark.parametrize("rows", [[], [lost_row(0)]])
def test_a_run_without_any_finite_matrix_gives_a_sheet_that_says_so(rows: list[dict[str, Any]]) -> None:
    figure = render(drawn(rows, lost=0))
    text = words(figure)
    assert text.count("no Hessian was measured: the run diverged at update 0") == 3
    assert "no loss was measured: the run diverged at update 0" in text
    assert "no Hessian was measured" in words(render(drawn(rows)))


def test_files_are_written_from_whole_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = {kind: tmp_path / f"{kind}.arrow" for kind in FIGURE.reads}
    rows = [covariance_row(step) for step in (0, 10)]
    tables: dict[str, pa.Table] = {"hessian_covariance": as_table("hessian_covariance", rows), "trace": trace_table()}
    for kind, path in paths.items():
        write_table(path, kind, tables[kind], provenance=FACTS)
    pdf, png = tmp_path / "a.pdf", tmp_path / "a.png"
    saved = render_instead_of_saving(monkeypatch)
    plot_figure(FIGURE, paths, settings=run_settings(), pdf=pdf, png=png)
    assert saved == [(pdf, png)]
    with pytest.raises(ValueError, match="got none for"):
        plot_figure(FIGURE, {"trace": paths["trace"]}, settings=run_settings(), pdf=pdf, png=png)
