"""Pictures of emulated batch sizes: what is drawn is what the tables hold, whatever a run did."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from drawn_figures import assert_nothing_overlaps, render, render_instead_of_saving, sheet_of
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from sample_lines import polynomials, sample_line, write_sample_lines

from sgdline.analysis.batch_sizes import measure_batch_sizes
from sgdline.analysis.strategies import measure_strategies
from sgdline.figures import plot_figure
from sgdline.figures.grammar import style
from sgdline.tables import kind_of, read_table, write_table

FIGURES = {name: sheet_of(name) for name in ("emulated_batches", "sample_variance", "curvature_by_batch")}
N, B, DRAWS, EVERY = 48, 8, 4, 3
SIZES = [4, 8, 16, 32]
WINDOW = 5


def run_settings(**changes: Any) -> dict[str, Any]:
    analysis = {"smoothing": WINDOW, "compat": False, "pal_measuring_step": 0.1}
    analysis |= {key: value for key, value in changes.items() if key in analysis}
    run = {"experiment": "digits", "dataset": "digits", "model": "mlp", "lr": "0.1", "batch_size": B, "seed": 1}
    optimizer = {"name": "sgd", "momentum": 0.0, "weight_decay": 0.0}
    line = {"every": EVERY, "positions": "adaptive", "interval": 0.5, "resolution": 0.02, "batch_norm": "train"}
    return {**run, "steps": 60, "optimizer": optimizer, "analysis": analysis, "probes": {"line": line}}


def bowls(generator: np.random.Generator, count: int, *, slope: float) -> np.ndarray:
    return np.stack(
        [generator.uniform(1, 2, count), generator.normal(slope, 0.5, count), generator.uniform(1, 6, count)], axis=1
    )


def trace_table(steps: int, *, lr: float = 0.1, diverged: bool = False) -> pa.Table:
    schema = kind_of("trace").schema
    status = ["ok"] * (steps - 1) + ["non_finite" if diverged else "ok"]
    columns = {name: [1.0] * steps for name in schema.names}
    columns |= {"step": list(range(steps)), "lr": [lr] * steps, "status": status}
    return pa.Table.from_arrays([pa.array(columns[field.name], type=field.type) for field in schema], schema=schema)


def make_run(folder: Path, *, lines: int = 20, compat: bool = False, diverged: bool = False, **options: Any) -> Any:
    """Return the tables of a made-up run of 60 updates; `options` go to its lines."""
    generator = np.random.default_rng(0)
    rows = []
    for index in range(lines):
        options_here = dict(options)
        if diverged and index == lines - 1:
            options_here |= {"status": "non_finite"}
        fade = 1 / (1 + 0.1 * index)
        rows.append(
            sample_line(
                polynomials(fade * bowls(generator, N, slope=-0.2)),
                polynomials(fade * bowls(generator, B, slope=-2.0)),
                step=EVERY * index,
                rows=generator.permutation(N)[:B],
                **options_here,
            )
        )
    folder.mkdir(exist_ok=True)
    line, metrics = write_sample_lines(folder, rows, provenance={"samples": N})
    shared = {"interval": 0.5, "resolution": 0.02, "pal_measuring_step": 0.1, "compat": compat}
    measure_batch_sizes(
        line, metrics, folder / "line_batch_sizes.arrow", batch_size=B, seed=1, batch_sizes=SIZES, batch_draws=DRAWS,
        provenance={}, **shared,
    )  # fmt: skip
    measure_strategies(
        line, metrics, folder / "line_strategies.arrow", sgd_lr=["auto"], fbpal_every=3, fbpal_average=2,
        provenance={"batch_size": B}, **shared,
    )  # fmt: skip
    write_table(folder / "trace.arrow", "trace", trace_table(EVERY * lines, diverged=diverged), provenance={})
    return read_run(folder)


def read_run(folder: Path) -> dict[str, pa.Table]:
    return {
        kind: read_table(folder / f"{kind}.arrow", kind) for kind in ("line_batch_sizes", "line_strategies", "trace")
    }


def draw(name: str, tables: Mapping[str, pa.Table], **changes: Any) -> Figure:
    """Draw as `plot_figure` does, from the tables that it reads."""
    with style.applied():
        own = {kind: tables[kind] for kind in FIGURES[name].reads}
        figure = FIGURES[name].draw(own, settings=run_settings(**changes))
    assert isinstance(figure, Figure)
    return figure


def words(figure: Figure) -> str:
    texts = [*figure.texts, *(text for panel in figure.axes for text in panel.texts)]
    return " ".join([" ".join(text.get_text().split()) for text in texts])


def curve(panel: Any, label: str) -> tuple[np.ndarray, np.ndarray]:
    found = [line for line in panel.lines if line.get_label() == label]
    assert len(found) == 1, f"{label!r} is drawn {len(found)} times"
    return np.asarray(found[0].get_xdata(), dtype=float), np.asarray(found[0].get_ydata(), dtype=float)


def labels(panel: Any) -> list[str]:
    return [line.get_label() for line in panel.lines if not line.get_label().startswith("_")]


def name_of(size: int) -> str:
    return f"batch size {size}" + (" (the run's)" if size == B else "")


def per_line(table: pa.Table, size: int, column: str) -> list[list[float]]:
    """Return the values of all draws, line by line, as a loop finds them."""
    found: dict[int, list[float]] = {}
    for row in table.to_pylist():
        if row["batch_size"] == size and row["selection"] != "all":
            found.setdefault(row["step"], []).append(np.nan if row[column] is None else row[column])
    return [found[step] for step in sorted(found)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pa.Table]:
    tables: dict[str, pa.Table] = make_run(tmp_path_factory.mktemp("run") / "clean")
    return tables


@pytest.fixture(scope="module")
def sheet(run: dict[str, pa.Table]) -> Figure:
    """The figure of the run; no test changes it."""
    return draw("emulated_batches", run)


@pytest.fixture(scope="module")
def released_run(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pa.Table]:
    tables: dict[str, pa.Table] = make_run(tmp_path_factory.mktemp("run") / "compat", compat=True)
    return tables


@pytest.mark.parametrize(("place", "method"), [(0, "sgd"), (1, "pal")])
def test_improvements_are_running_sums_over_the_lines(
    run: dict[str, pa.Table], sheet: Figure, place: int, method: str
) -> None:
    panel = sheet.axes[place]
    for size in SIZES:
        values = per_line(run["line_batch_sizes"], size, f"{method}_improvement")
        sums = []
        for number in range(DRAWS):
            total, course = 0.0, []
            for draws in values:
                gain = draws[number] if len(draws) > 1 else draws[0]
                total += 0.0 if np.isnan(gain) else gain
                course.append(total)
            sums.append(course)
        x, y = curve(panel, name_of(size))
        np.testing.assert_array_equal(x, np.arange(20) * EVERY)
        np.testing.assert_allclose(y, np.mean(sums, axis=0), rtol=0, atol=1e-12)
    # The batch itself and the full batch have no spread; the bands of the others are quartiles.
    assert len(panel.collections) == len(SIZES) - 1
    _, full = curve(panel, f"full batch, {N}")
    gains = [row[f"{method}_improvement"] for row in run["line_batch_sizes"].to_pylist() if row["selection"] == "all"]
    np.testing.assert_allclose(full, np.cumsum(gains), atol=1e-12)
    _, optimum = curve(panel, "full-batch minimum s_opt")
    best = [row["improvement"] for row in run["line_strategies"].to_pylist() if row["strategy"] == "optimum"]
    np.testing.assert_allclose(optimum, np.cumsum(best), atol=1e-12)
    assert all(optimum[-1] >= curve(panel, label)[1][-1] - 1e-3 for label in labels(panel))


def test_the_band_holds_the_quartiles_of_the_sums(run: dict[str, pa.Table], sheet: Figure) -> None:
    panel = sheet.axes[0]
    sums = np.cumsum(np.nan_to_num(per_line(run["line_batch_sizes"], 4, "sgd_improvement")), axis=0)
    corners = panel.collections[0].get_paths()[0].vertices
    for step, low, high in zip(np.arange(20) * EVERY, *np.quantile(sums, [0.25, 0.75], axis=1), strict=True):
        heights = corners[corners[:, 0] == step, 1]
        assert (heights.min(), heights.max()) == pytest.approx((low, high))


def test_slopes_are_smoothed_mean_magnitudes(run: dict[str, pa.Table], sheet: Figure) -> None:
    panel = sheet.axes[2]
    assert panel.get_yscale() == "log"
    for size in SIZES:
        means = [np.mean(np.abs(draws)) for draws in per_line(run["line_batch_sizes"], size, "slope")]
        x, y = curve(panel, name_of(size))
        np.testing.assert_allclose(y, [np.mean(means[i : i + WINDOW]) for i in range(20 - WINDOW + 1)], rtol=1e-12)
        np.testing.assert_allclose(x, EVERY * (np.arange(20 - WINDOW + 1) + (WINDOW - 1) / 2))


def test_ratios_are_those_of_the_smoothed_signed_slopes(run: dict[str, pa.Table], sheet: Figure) -> None:
    panel = sheet.axes[3]
    smooth = {}
    for size in SIZES:
        means = [np.mean(draws) for draws in per_line(run["line_batch_sizes"], size, "slope")]
        smooth[size] = np.array([np.mean(means[i : i + WINDOW]) for i in range(20 - WINDOW + 1)])
    for size in SIZES:
        np.testing.assert_allclose(curve(panel, name_of(size))[1], smooth[size] / smooth[B], rtol=1e-10)
    # |B|/B for the sizes that add other samples; a random part of the batch has its slope.
    expected = sorted(line.get_ydata()[0] for line in panel.lines if line.get_label().startswith("_"))
    assert expected == pytest.approx([B / N, B / 32, B / 16])
    assert panel.get_yscale() == "log"
    with style.applied():
        assert [panel.yaxis.get_major_formatter()(value) for value in (0.0625, 0.5, 1, 4)] == ["1/16", "1/2", "1", "4"]


def test_steepest_samples_say_so_and_have_an_expected_ratio(released_run: dict[str, pa.Table]) -> None:
    figure = draw("emulated_batches", released_run, compat=True)
    panel = figure.axes[3]
    assert "batch size 4 (steepest)" in labels(panel)
    assert "batch size 16" in labels(panel)
    expected = sorted(line.get_ydata()[0] for line in panel.lines if line.get_label().startswith("_"))
    assert expected == pytest.approx([B / N, B / 32, B / 16, B / 4])
    assert curve(panel, "batch size 4 (steepest)")[1].min() > 1
    text = words(figure)
    assert "by the released code's rules" in text
    assert "draws" not in text
    assert not figure.axes[0].collections


def test_lines_left_out_are_counted(tmp_path: Path) -> None:
    tables = make_run(tmp_path, lr=1.0, lines=20)
    table = tables["line_batch_sizes"]
    figure = draw("emulated_batches", tables)
    [note] = [text.get_text() for text in figure.axes[0].texts]
    listed = []
    for size in SIZES:
        draws = per_line(table, size, "sgd_improvement")
        steps = per_line(table, size, "sgd_step_length")
        assert np.isfinite([step for line in steps for step in line]).all()
        count = sum(any(np.isnan(value) for value in line) for line in draws)
        if count:
            listed.append(f"{count} at B = {size}")
    assert listed
    note = " ".join(note.split())
    assert f"of 20 lines left out, the step ends beyond the measured range: {', '.join(listed)}" in note
    assert "sum over 1 in 3 updates" in note


def test_lines_that_end_before_mu_have_no_pal_panel(tmp_path: Path) -> None:
    tables = make_run(tmp_path, half_width=0.08, lines=20)
    figure = draw("emulated_batches", tables)
    assert "no line has numbers" in " ".join(figure.axes[1].texts[-1].get_text().split())
    assert name_of(B) in labels(figure.axes[0])


@pytest.mark.parametrize(
    ("name", "column"),
    [("sample_variance", "loss_variance"), ("curvature_by_batch", "curvature")],
)
def test_extensions_draw_the_mean_over_draws(run: dict[str, pa.Table], name: str, column: str) -> None:
    panel = draw(name, run).axes[0]
    assert panel.get_yscale() == ("log" if column == "loss_variance" else "linear")
    for size in SIZES:
        means = [np.mean(draws) for draws in per_line(run["line_batch_sizes"], size, column)]
        smooth = [np.mean(means[i : i + WINDOW]) for i in range(20 - WINDOW + 1)]
        np.testing.assert_allclose(curve(panel, name_of(size))[1], smooth, rtol=1e-10)
    whole = [row[column] for row in run["line_batch_sizes"].to_pylist() if row["selection"] == "all"]
    smooth = [np.mean(whole[i : i + WINDOW]) for i in range(20 - WINDOW + 1)]
    np.testing.assert_allclose(curve(panel, f"full batch, {N}")[1], smooth, rtol=1e-10)


def test_curvature_ratios_are_those_of_the_smoothed_curves(run: dict[str, pa.Table]) -> None:
    left, right = draw("curvature_by_batch", run).axes
    own = curve(left, name_of(B))[1]
    for size in SIZES:
        np.testing.assert_allclose(curve(right, name_of(size))[1], curve(left, name_of(size))[1] / own, rtol=1e-10)


def test_colours_darken_with_the_batch_size(sheet: Figure) -> None:
    panel = sheet.axes[2]
    drawn = {line.get_label(): line.get_color() for line in panel.lines}
    order = [*(name_of(size) for size in SIZES), f"full batch, {N}"]
    lightness = [float(np.dot(to_rgb(drawn[name]), [0.2126, 0.7152, 0.0722])) for name in order]
    assert np.all(np.diff(lightness) < -0.02)


@pytest.mark.parametrize("name", FIGURES)
def test_runs_without_anything_to_draw_say_so(name: str, run: dict[str, pa.Table], tmp_path: Path) -> None:
    nothing = {kind: table if kind == "trace" else table.slice(0, 0) for kind, table in run.items()}
    nothing["trace"] = trace_table(3, diverged=True)
    figure = render(draw(name, nothing))
    for panel in figure.axes:
        assert "no line was measured: the run diverged at update 2" in " ".join(panel.texts[-1].get_text().split())
    broken = make_run(tmp_path, lines=2, status="non_finite")
    assert "no line has numbers" in words(render(draw(name, broken)))


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("lines", [1, 2, 4])
def test_short_runs_draw_as_measured(name: str, lines: int, tmp_path: Path) -> None:
    figure = render(draw(name, make_run(tmp_path, lines=lines)))
    for panel in figure.axes:
        x, y = curve(panel, name_of(B))
        np.testing.assert_array_equal(x, np.arange(lines) * EVERY)
        assert np.isfinite(y).all()
    assert f"as measured: {style.counted(lines, 'line')}, the moving average needs 5" in words(figure)


@pytest.mark.parametrize("name", FIGURES)
def test_diverged_runs_and_missing_values_draw(name: str, tmp_path: Path) -> None:
    tables = make_run(tmp_path, diverged=True)
    tables["trace"] = trace_table(58, diverged=True)
    table = tables["line_batch_sizes"]
    hollow = np.random.default_rng(3).random(len(table)) < 0.3
    for column in ("slope", "curvature", "loss_variance", "sgd_improvement"):
        place = table.schema.get_field_index(column)
        values = pa.array(style.numbers(table, column), mask=hollow | ~np.isfinite(style.numbers(table, column)))
        table = table.set_column(place, table.schema.field(place), values)
    figure = render(draw(name, {**tables, "line_batch_sizes": table}))
    assert "THE RUN DIVERGED AT UPDATE 57" in words(figure)
    assert "run diverged" in labels(figure.axes[0])
    if name == "emulated_batches":
        assert "1 of 20 lines without numbers" in words(figure)


def test_ratios_that_are_not_positive_are_counted(run: dict[str, pa.Table]) -> None:
    table = run["line_batch_sizes"]
    place = table.schema.get_field_index("slope")
    slopes = style.numbers(table, "slope") * np.where(np.array(table["selection"].to_pylist()) == "all", -1.0, 1.0)
    turned = table.set_column(place, table.schema.field(place), pa.array(slopes))
    panel = draw("emulated_batches", {**run, "line_batch_sizes": turned}).axes[3]
    found = curve(panel, f"full batch, {N}")[1]
    assert np.isnan(found).sum() > 0
    assert f"{style.counted(int(np.isnan(found).sum()), 'value')} not positive" in " ".join(
        panel.texts[0].get_text().split()
    )


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.slow
def test_pictures_are_written_and_fit_their_sheet(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_run(tmp_path, lr=1.0)
    paths = {kind: tmp_path / f"{kind}.arrow" for kind in FIGURES[name].reads}
    with monkeypatch.context() as patch:
        saved = render_instead_of_saving(patch)
        plot_figure(FIGURES[name], paths, settings=run_settings(), pdf=tmp_path / "a.pdf", png=tmp_path / "a.png")
    assert saved == [(tmp_path / "a.pdf", tmp_path / "a.png")]
    assert_nothing_overlaps(draw(name, read_run(tmp_path)))
    with style.applied():
        assert_nothing_overlaps(sheet_of(name, width="column").draw(read_run(tmp_path), settings=run_settings()))
