"""Figures of alignment, stationarity and predicted gains: what is drawn is what the tables hold, whatever a run did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from drawn_figures import assert_nothing_overlaps, render, render_instead_of_saving, sheet_of
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from walk_runs import SGD, as_table, run_settings, trace_table

from sgdline.figures import plot_figure
from sgdline.figures.grammar import style
from sgdline.tables import write_table

FIGURES = {name: sheet_of(name) for name in ("gradient_alignment", "stationarity", "predicted_gains")}
STEPS = 120
LAGS = [1, 10]
ALIGNED = {"batch_norm": "train", "samples": 1024, "batches": 3, "lags": LAGS, "projection_dimensions": None}
FOLLOWED = {"batch_norm": "train", "samples": 1024, "start": 20, "rejoins_at": 70, "momentum": 0.0}
SPECTRAL = {"batch_norm": "train", "samples": 1024, "momentum": 0.0, "batch_size": 50, "training_samples": 1000}
SPECTRAL |= {"updates_per_epoch": 20}
PREDICTED = {"spectrum_batch_norm": "train", "spectrum_samples": 1024, "averages_batch_norm": "eval"}
PREDICTED |= {"averages_samples": 1000}
LAMBDAS = np.array([4.0, 0.5])


def alignment_table(steps: int = STEPS, **facts: Any) -> pa.Table:
    rng = np.random.default_rng(0)
    rows = []
    for step in range(0, steps, 10):
        for batch in range(3):
            rows.append(
                {
                    "step": step, "epoch": step / 20, "lr": 0.1, "batch": batch,
                    "lag_cosines": [0.9 - 0.01 * batch if step >= lag else None for lag in LAGS],
                    "other_batches_cosine": 0.1 * rng.standard_normal(), "full_cosine": 0.4 + 0.1 * batch,
                    "gradient_norm": 2.0 + batch, "full_gradient_norm": 0.5, "status": "ok",
                }
            )  # fmt: skip
    return as_table("alignment", rows, ALIGNED | facts)


def stationarity_table(*, end: int = STEPS, every: int = 1, lr: float = 0.1, **facts: Any) -> pa.Table:
    rng = np.random.default_rng(1)
    place, rows = np.zeros(2), []
    for step in range(20, end + 1):
        if (step - 20) % every == 0 or step == end:
            after = step - 70
            again = {"rejoined_squared_distance": 0.5**after, "rejoined_projections": [0.6**after, 0.9**after]}
            rows.append(
                {
                    "step": step, "epoch": None if step == end else step / 20, "lr": None if step == end else lr,
                    "updates": step - 20, "squared_distance": 0.01 * (step - 20), "projections": place.tolist(),
                    "twin_squared_distance": 0.02 * (step > 20), "twin_projections": (2 * place).tolist(),
                    "status": "ok", **(again if after >= 0 else {}),
                    **({"eigenvalues": LAMBDAS.tolist(), "residuals": [0.0, 0.0]} if step == 20 else {}),
                }
            )  # fmt: skip
        place = (1 - lr * LAMBDAS) * place + 0.01 * rng.standard_normal(2)
    return as_table("stationarity", rows, FOLLOWED | facts)


def spectrum_table(**changes: Any) -> pa.Table:
    row = {
        "epoch": 0.0, "lr": 0.1, "train_loss": 0.3, "eigenvalues": LAMBDAS.tolist(), "residuals": [0.0, 0.0],
        "gradient_means": [0.0, 0.0], "gradient_variances": [0.1, 0.01], "noise_variances": [0.02, 0.3],
        "gradient_covariance_trace": 0.2, "explained_share": 0.55, "batches": 40, "products": 30, "converged": True,
        "status": "ok",
    }  # fmt: skip
    return as_table("spectrum", [row | {"step": step} | changes for step in (0, 60)], SPECTRAL)


def gains_table(**changes: Any) -> pa.Table:
    averages = [("ema", 0.9, None, 0.02), ("ema", 0.99, None, 0.03), ("swa", 10.0, 2, 0.025)]
    averages.append(("two_point", 10.0, None, -0.01))
    rows = [
        {
            "step": step, "average": name, "parameter": parameter, "spacing": spacing, "measured_gain": gain,
            "stationary_gain": 0.04, "epochwise_gain": 0.03, "iterate_excess": 0.05, "spectrum_step": 60,
            "directions": 2, "left_out": 0, "smallest_scale": 1.0, "status": "ok",
        }
        | changes
        for step in (40, 80, 120)
        for name, parameter, spacing, gain in averages
    ]  # fmt: skip
    return as_table("predicted_gains", rows, PREDICTED)


def tables_of(name: str, **replaced: Any) -> dict[str, pa.Table]:
    found = {
        "gradient_alignment": {"alignment": alignment_table()},
        "stationarity": {"stationarity": stationarity_table(), "spectrum": spectrum_table()},
        "predicted_gains": {"predicted_gains": gains_table(), "spectrum": spectrum_table()},
    }[name]
    return {**found, "trace": trace_table(steps=STEPS), **replaced}


def drawn(name: str, tables: Mapping[str, pa.Table], **settings: Any) -> Figure:
    with style.applied():
        figure = FIGURES[name].draw(tables, settings=run_settings(**{"steps": STEPS} | settings))
    return figure


def words(figure: Figure) -> str:
    texts = [text.get_text() for text in [*figure.texts, *(text for panel in figure.axes for text in panel.texts)]]
    texts += [panel.get_title(loc="left") for panel in figure.axes]
    texts += [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    return " ".join(" ".join(texts).split())


def curve(panel: Axes, label: str) -> tuple[np.ndarray, np.ndarray]:
    [line] = [line for line in panel.lines if line.get_label() == label]
    return np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)


def test_alignment_draws_means_over_the_batches() -> None:
    table = alignment_table()
    figure = drawn("gradient_alignment", tables_of("gradient_alignment", alignment=table))
    same, others, norms, lags = figure.axes
    steps, values = curve(same, "same batch, 10 updates apart")
    np.testing.assert_allclose(steps, np.arange(10, STEPS, 10))
    np.testing.assert_allclose(values, 0.89)
    steps, values = curve(others, r"two batches, $\cos(g_B, g_{B'})$")
    expected = np.array(table["other_batches_cosine"].to_pylist()).reshape(-1, 3).mean(axis=1)
    np.testing.assert_allclose(values, expected)
    np.testing.assert_allclose(curve(norms, r"norm of a batch's gradient, $\|g_B\|$")[1], 3.0)
    np.testing.assert_allclose(curve(norms, r"norm of the full-batch gradient, $\|\nabla L\|$")[1], 0.5)
    assert [tick.get_text() for tick in lags.get_xticklabels()] == ["1", "10"]
    late = np.array(table["other_batches_cosine"].to_pylist()).reshape(-1, 3)[6:]
    np.testing.assert_allclose(curve(lags, "median of two batches at one update")[1], np.median(late))
    assert "exact inner products" in words(figure)
    assert "N = 1,024 samples · BatchNorm in train mode" in words(figure)


@pytest.mark.parametrize("width", ["page", "column"])
@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.slow
def test_nothing_overlaps_or_leaves_the_sheet(name: str, width: str) -> None:
    with style.applied():
        sheet = replace(FIGURES[name], width=width)  # type: ignore[call-arg]
        figure = sheet.draw(tables_of(name), settings=run_settings(steps=STEPS))
    assert_nothing_overlaps(figure)


def test_alignment_says_how_its_gradients_were_kept() -> None:
    table = alignment_table(projection_dimensions=16384, cosine_standard_error=1 / 128)
    figure = drawn("gradient_alignment", tables_of("gradient_alignment", alignment=table))
    assert "sketches of 16,384 dimensions, standard error of a cosine up to 0.011" in words(figure)


def test_stationarity_draws_displacements_and_correlations() -> None:
    table = stationarity_table()
    figure = drawn("stationarity", tables_of("stationarity", stationarity=table))
    distance, correlation, twins, variances = figure.axes
    series = np.array(table["projections"].to_pylist())
    for place in range(2):
        lags, found = curve(distance, f"eigenvector {place + 1}: lr·λ = {0.1 * LAMBDAS[place]:.2g}")
        expected = [np.mean((series[int(lag) :, place] - series[: -int(lag), place]) ** 2) for lag in lags]
        np.testing.assert_allclose(found, expected)
    times, whole = curve(distance, r"whole: $\|\theta_t - \theta_{t_0}\|^2$")
    np.testing.assert_allclose(whole, 0.01 * times)
    modelled = [line for line in correlation.lines if line.get_linestyle() == "--" and len(line.get_xdata()) > 5]
    for line, value in zip(modelled, LAMBDAS, strict=True):
        lags = np.asarray(line.get_xdata(), float)
        np.testing.assert_allclose(line.get_ydata(), (1 - 0.1 * value) ** lags)
    times, predicted = curve(twins, "model: dᵢ² shrinks by (1 - lr·λᵢ)² per update")
    assert times[0] == 50
    np.testing.assert_allclose(predicted, [sum((1 - 0.1 * LAMBDAS) ** (2 * (t - 50))) for t in times])
    places, spread = curve(variances, "measured variance")
    np.testing.assert_allclose(places, 0.1 * LAMBDAS)
    np.testing.assert_allclose(spread, series[50:].var(axis=0, ddof=1))
    _, predicted = curve(variances, "model: batches with replacement")
    a = 0.1 * LAMBDAS
    np.testing.assert_allclose(predicted, np.array([0.02, 0.3]) * a / (2 - a))
    level = [line for line in twins.lines if line.get_label() == "model: 2 Σ Vᵢ along the 2 eigenvectors"]
    np.testing.assert_allclose(level[0].get_ydata(), 2 * sum(predicted))


def test_stationarity_without_a_spectrum_and_with_momentum() -> None:
    tables = tables_of("stationarity", stationarity=stationarity_table(momentum=0.9))
    del tables["spectrum"]
    figure = drawn("stationarity", tables, optimizer={**SGD, "momentum": 0.9})
    text = words(figure)
    assert "no spectrum was measured to predict it from" in text
    assert "model (momentum)" in text
    assert "no contraction drawn: with momentum it depends on the velocity as well" in text
    assert "shrinks by" not in text


def test_stationarity_leaves_out_the_end_where_it_breaks_the_step() -> None:
    table = stationarity_table(end=111, every=3)  # rows at 20, 23, ..., 110 and 111
    figure = drawn("stationarity", tables_of("stationarity", stationarity=table))
    series = np.array(table["projections"].to_pylist())[:-1]
    lags, found = curve(figure.axes[0], "eigenvector 1: lr·λ = 0.4")
    assert (lags % 3 == 0).all()
    expected = [np.mean((series[int(lag) // 3 :, 0] - series[: -int(lag) // 3, 0]) ** 2) for lag in lags]
    np.testing.assert_allclose(found, expected)


def test_gains_stand_side_by_side() -> None:
    figure = drawn("predicted_gains", tables_of("predicted_gains"))
    averages, agreement, along, directions = figure.axes
    labels = [tick.get_text() for tick in averages.get_xticklabels()]
    assert labels == ["EMA 0.9", "EMA 0.99", "SWA of 10, every 2 updates", "two points 10 apart"]
    bars = [container.lines[0] for container in averages.containers]
    np.testing.assert_allclose([line.get_ydata()[0] for line in bars], [0.02, 0.03, 0.025, -0.01])
    np.testing.assert_allclose(curve(averages, "model: stationary, batches with replacement")[1], [0.04])
    places, found = curve(agreement, "EMA: each evaluation")  # updates 80 and 120
    assert sorted(zip(places, found, strict=True)) == [(0.03, 0.02)] * 2 + [(0.03, 0.03)] * 2
    steps, found = curve(along, "EMA 0.99: measured")  # it gained more than EMA 0.9
    np.testing.assert_allclose((steps, found), ([40, 80, 120], [0.03] * 3))
    a = 0.1 * LAMBDAS
    places, parts = curve(directions, "spectrum of update 60")
    np.testing.assert_allclose(places, a)
    np.testing.assert_allclose(parts, 0.5 * LAMBDAS * np.array([0.02, 0.3]) * a / (2 - a))
    text = words(figure)
    assert "losses over N = 1,000, BatchNorm in eval mode" in text
    assert "flattest a·N/B: 1 to 1" in text


@pytest.mark.parametrize("name", FIGURES)
def test_a_run_that_diverged_at_once_has_words_in_its_panels(name: str) -> None:
    facts = {"alignment": ALIGNED, "stationarity": FOLLOWED, "spectrum": SPECTRAL, "predicted_gains": PREDICTED}
    empty = {kind: as_table(kind, [], facts[kind]) for kind in FIGURES[name].reads if kind != "trace"}
    figure = render(drawn(name, {**empty, "trace": trace_table(steps=STEPS, lost=3)}))
    for panel in figure.axes:
        assert "the run diverged at update 3" in " ".join(text.get_text() for text in panel.texts).replace("\n", " ")
    assert "THE RUN DIVERGED AT UPDATE 3" in words(figure)


def test_rows_without_values_are_drawn_without_them() -> None:
    nothing = {"measured_gain": None, "stationary_gain": None, "epochwise_gain": None, "smallest_scale": None}
    tables = tables_of("predicted_gains", predicted_gains=gains_table(**nothing, status="non_finite"))
    assert "nothing was both predicted and measured" in words(render(drawn("predicted_gains", tables))).replace(
        "\n", " "
    )
    unpredicted = gains_table(stationary_gain=None, epochwise_gain=None, smallest_scale=None, status="no_spectrum")
    lost = spectrum_table(status="non_finite", noise_variances=None)
    tables = tables_of("predicted_gains", predicted_gains=unpredicted, spectrum=lost)
    text = words(render(drawn("predicted_gains", tables)))
    assert "no spectrum was measured" in text
    assert "a·N/B" not in text
    blind = stationarity_table()
    rows = [
        row | {"projections": None, "twin_projections": None, "rejoined_projections": None, "eigenvalues": None}
        for row in blind.to_pylist()
    ]
    figure = render(drawn("stationarity", tables_of("stationarity", stationarity=as_table("stationarity", rows))))
    assert words(figure).count("no eigenvector was measured") == 2


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_written(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = {}
    for kind, table in tables_of(name).items():
        paths[kind] = tmp_path / f"{kind}.arrow"
        facts = {"alignment": ALIGNED, "stationarity": FOLLOWED, "predicted_gains": PREDICTED}.get(kind, SPECTRAL)
        write_table(paths[kind], kind, table, provenance=facts)
    png, pdf = tmp_path / "a.png", tmp_path / "a.pdf"
    saved = render_instead_of_saving(monkeypatch)
    plot_figure(FIGURES[name], paths, png=png, pdf=pdf, settings=run_settings(steps=STEPS))
    assert saved == [(pdf, png)]
