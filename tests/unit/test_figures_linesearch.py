"""Pictures of measured lines: what is drawn is what the tables hold, whatever a run did."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pyarrow as pa
import pytest
from drawn_figures import assert_nothing_overlaps, render, sheet_of
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text

from sgdline.analysis.curves import LineCurves, chunk_curves, common_grid
from sgdline.analysis.distances import measure_distances
from sgdline.analysis.fits import fit_lines
from sgdline.analysis.metrics import measure_lines
from sgdline.analysis.strategies import measure_strategies, rows_by_strategy
from sgdline.errors import SgdlineError
from sgdline.figures import distance_matrix, plot_figure
from sgdline.figures.base import Mark
from sgdline.figures.grammar import labels, series, style
from sgdline.interpolation import chebyshev_nodes
from sgdline.papers.base import figure_ids
from sgdline.tables import kind_of, provenance, read_table, write_table

FIGURES = {name: sheet_of(name) for name in ("lines", "distance_matrix", "polynomial_error", "parabolas", "strategies")}
FACTS = {
    "batch_norm": "train",
    "samples": 1024,
    "dataset": "digits",
    "model": "tiny_resnet",
    "positions": "adaptive",
}
SGD_RATES = {"sgd_auto": 0.06, "sgd_0.02": 0.02}
Rows = list[dict[str, Any]]


def run_settings(**changes: Any) -> dict[str, Any]:
    analysis = {
        "window": 0.2,
        "degrees": [1, 2, 3, 4],
        "pal_measuring_step": 0.1,
        "compat": False,
        "distance_first": 20,
        "distance_every": 2,
        "smoothing": 9,
        "fbpal_every": 10,
        "figure_lines": [0.01, 0.4, 0.8],
    }
    line = {"every": 3, "positions": "adaptive", "interval": 0.5, "resolution": 0.006, "batch_norm": "train"}
    run = {
        "experiment": "digits",
        "dataset": "digits",
        "model": "tiny_resnet",
        "lr": "0.1",
        "batch_size": 64,
        "seed": 1,
        "steps": 240,
        "optimizer": {"name": "sgd", "momentum": 0.0, "weight_decay": 0.0},
        "lr_is_length": False,
    }
    analysis |= {key: value for key, value in changes.items() if key in analysis}
    line |= {key: value for key, value in changes.items() if key in line}
    run |= {key: value for key, value in changes.items() if key in run}
    return {**run, "analysis": analysis, "probes": {"line": line}}


def as_table(kind: str, rows: Rows) -> pa.Table:
    schema = kind_of(kind).schema
    columns = [pa.array([row.get(field.name) for row in rows], type=field.type) for field in schema]
    return pa.Table.from_arrays(columns, schema=schema)


def with_facts(table: pa.Table, **facts: Any) -> pa.Table:
    return table.replace_schema_metadata({b"sgdline": json.dumps({**provenance(table), **facts}).encode()})


def make_run(
    *, steps: int = 240, every: int = 3, lr: float = 0.1, diverged_at: int | None = None, seed: int = 5
) -> dict[str, pa.Table]:
    """Tables of a made-up run: noisy parabolas whose curvature falls, flatter and lower as the run goes on.

    From `diverged_at` on nothing is finite; the last measured line is then `non_finite`, as after a real blow-up.
    """
    rng = np.random.default_rng(seed)
    nodes = np.unique(np.concatenate([chebyshev_nodes(17, -0.5, 0.0), chebyshev_nodes(17, 0.0, 0.5)]))
    lines, metrics, fits, strategies, shapes = Rows(), Rows(), Rows(), Rows(), []
    window = np.arange(-33, 34) * 0.006
    for step in range(0, steps, every):
        done = step / steps
        finite = diverged_at is None or step < diverged_at
        curvature = (16 * np.exp(-3 * done) + 3) * np.exp(0.15 * rng.standard_normal())
        slope_batch = -(1.2 + 0.8 * done) * np.exp(0.2 * rng.standard_normal())
        best = 0.06 * np.exp(0.25 * rng.standard_normal()) * -slope_batch
        offset = 2.1 * np.exp(-4 * done) + 0.4
        bend = 0.6 * rng.standard_normal()

        def full(s: Any, c: float = curvature, m: float = best, o: float = offset, k: float = bend) -> Any:
            return o + c / 2 * (s - m) ** 2 + k * s**3

        def batch(s: Any, c: float = curvature, o: float = offset, d: float = slope_batch) -> Any:
            return 0.95 * o + d * s + 0.45 * c * s**2

        level = np.exp(0.25 * rng.standard_normal(16))
        centre = 0.15 * rng.standard_normal(16)
        spoilt = 1.0 if finite else np.nan
        chunks = full(nodes[:, None] - centre) * level
        norm = -slope_batch
        step_length = lr * norm
        lines.append(
            {
                "step": step, "epoch": step / 16, "lr": lr, "direction_norm": norm, "step_length": step_length,
                "direction_batch_slope": slope_batch * spoilt, "panel_edges": [-0.5, 0.0, 0.5], "positions": nodes,
                "train_loss": full(nodes) * spoilt, "direction_batch_loss": batch(nodes) * spoilt,
                "chunk_loss": (chunks * spoilt).astype(np.float32).ravel(),
                "step_train_loss": full(step_length) * spoilt,
                "step_direction_batch_loss": batch(step_length) * spoilt,
                "interpolation_error": 1e-5, "direction_batch_interpolation_error": 1e-5, "evaluations": 34,
                "rings": 1, "status": "ok" if finite else "non_finite",
            }
        )  # fmt: skip
        shapes.append((full(window) - full(window).min()) * spoilt)
        before = shapes[-2] if len(shapes) > 1 else None
        metric = {
            "step": step, "epoch": step / 16, "lr": lr, "step_length": step_length, "direction_norm": norm,
            "direction_batch_slope": slope_batch * spoilt, "status": "ok" if finite else "non_finite",
        }  # fmt: skip
        if finite:
            metric |= {
                "minimum_position_vertex": best,
                "direction_batch_minimum_position": -slope_batch / (0.9 * curvature),
                "line_search_ratio": best / -slope_batch,
            }
            if before is not None:
                metrics[-1]["consecutive_distance"] = float(np.abs(shapes[-1] - before).mean())
        metrics.append(metric)
        steps_of = {
            "optimum": best,
            "direction_batch_minimum": -slope_batch / (0.9 * curvature),
            "fbpal": 1.05 * best,
            "fbpal_sgd_lr": 0.055 * norm,
            "fbpal_sgd_step": 0.1,
            "sgd_original": step_length,
            **{name: -rate * slope_batch for name, rate in SGD_RATES.items()},
            "pal": -slope_batch / (0.9 * curvature) if step else 0.7,  # the first one beyond the range
        }
        for name, place in steps_of.items():
            strategy: dict[str, Any] = {"step": step, "strategy": name, "status": "ok" if finite else "non_finite"}
            if finite:
                strategy |= {"step_length": place, "distance": best - place}
            if finite and abs(place) <= 0.5:
                gain = full(0.0) - full(place)
                strategy |= {"improvement": gain, "relative_improvement": gain / (full(0.0) - full(best) + 1e-7)}
            elif finite:
                strategy["status"] = "out_of_range"
            strategies.append(strategy)
        for degree in (1, 2, 3, 4):
            if not finite:
                fits.append({"step": step, "degree": degree, "coefficients": [], "status": "non_finite"})
                continue
            coefficients = np.polynomial.polynomial.polyfit(window, full(window), degree)
            residual = full(window) - np.polynomial.polynomial.polyval(window, coefficients)
            mae = float(np.abs(residual).mean()) + 1e-5 * rng.random()
            fits.append({"step": step, "degree": degree, "coefficients": coefficients, "mae": mae, "status": "ok"})
        if not finite:
            break
    measured = [row["step"] for row in lines]
    distances = Rows()
    for panel, own in (("first", range(min(20, len(measured)))), ("rest", range(20, len(measured), 2))):
        for row in own:
            distances.append(
                {
                    "panel": panel, "step": measured[row], "other_steps": [measured[other] for other in own],
                    "distances": [float(np.abs(shapes[row] - shapes[other]).mean()) for other in own],
                }
            )  # fmt: skip
    end = steps if diverged_at is None else diverged_at + 1
    trace = [
        {
            "step": step, "epoch": step / 16, "lr": lr, "batch_loss": 1.0, "gradient_norm": 1.0, "direction_norm": 1.0,
            "distance_from_start": 1.0, "parameter_norm": 1.0,
            "status": "non_finite" if step == diverged_at else "ok",
        }
        for step in range(end)
    ]  # fmt: skip
    return {
        "line": as_table("line", lines),
        "line_metrics": as_table("line_metrics", metrics),
        "line_strategies": with_facts(as_table("line_strategies", strategies), sgd_lr=SGD_RATES),
        "line_fits": as_table("line_fits", fits),
        "line_distances": as_table("line_distances", distances),
        "trace": as_table("trace", trace),
    }


def empty_run(diverged_at: int | None = 3) -> dict[str, pa.Table]:
    """Tables of a run that ended before its first line was measured."""
    full = make_run(diverged_at=diverged_at)
    return {kind: table if kind == "trace" else table.slice(0, 0) for kind, table in full.items()}


def draw(name: str, tables: Mapping[str, pa.Table], **changes: Any) -> Figure:
    """Draw as `plot_figure` does."""
    with style.applied():
        figure = FIGURES[name].draw(tables, settings=run_settings(**changes))
    assert isinstance(figure, Figure)
    return figure


def panels(figure: Figure) -> list[Any]:
    return [panel for panel in figure.axes if panel.get_label() != "<colorbar>"]


def words(figure: Figure) -> str:
    texts = [*figure.texts, *(text for panel in figure.axes for text in panel.texts)]
    titles = [panel.get_title(loc="left") for panel in figure.axes]
    return " ".join([" ".join(text.get_text().split()) for text in texts] + titles)


def curve(panel: Any, label: str) -> tuple[np.ndarray, np.ndarray]:
    found = [line for line in panel.lines if str(line.get_label()).startswith(label)]
    assert len(found) == 1, f"{label!r} is drawn {len(found)} times"
    return np.asarray(found[0].get_xdata()), np.asarray(found[0].get_ydata())


def holds_curve(panel: Any, x: np.ndarray, y: np.ndarray) -> bool:
    """Whether one of the panel's lines runs through exactly these points, NaN included."""
    return any(
        np.array_equal(line.get_xdata(), x) and np.array_equal(line.get_ydata(), y, equal_nan=True)
        for line in panel.lines
    )


def column(table: pa.Table, name: str) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in table[name].to_pylist()], dtype=float)


@pytest.fixture(scope="module")
def run() -> dict[str, pa.Table]:
    return make_run()


# -- contents ----------------------------------------------------------------------------------------------------------


def test_looks_keep_apart_in_colour_in_grey_and_in_line_style() -> None:
    def lightness(role: str) -> float:
        return float(np.dot(to_rgb(style.ROLES[role]["color"]), [0.2126, 0.7152, 0.0722]))

    together = [
        [
            *("optimum", "direction_batch_minimum", "fbpal", "fbpal_sgd_lr", "sgd_original", "sgd_1", "sgd_2"),
            *("sgd_3", "sgd_4", "pal", "chunk_quartile", "executed_step"),
        ],
        [f"degree_{degree}" for degree in range(1, 9)],
        ["measured", "reference", "median"],
    ]
    for group in together:
        assert len({style.ROLES[role]["color"] for role in group}) == len(group)
        assert len({str(style.ROLES[role]["linestyle"]) for role in group}) == len(group)
    for one, other in (("full_batch", "direction_batch"), ("sgd_original", "sgd_1"), ("pal", "sgd_1")):
        assert abs(lightness(one) - lightness(other)) > 0.15


# -- files -------------------------------------------------------------------------------------------------------------


def write_run(folder: Path, tables: Mapping[str, pa.Table]) -> dict[str, Path]:
    paths = {kind: folder / f"{kind}.arrow" for kind in tables}
    for kind, path in paths.items():
        write_table(
            path, kind, tables[kind], provenance={} if kind == "trace" else {**provenance(tables[kind]), **FACTS}
        )
    return paths


PLOT_PROGRAM = """
import sys
from pathlib import Path
from sgdline.figures import plot_figure
from sgdline.papers.asked import built
import json
tables, target, kind, settings = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], json.loads(sys.argv[4])
figure = built({"name": kind})
paths = {name: tables / f"{name}.arrow" for name in figure.reads}
plot_figure(figure, paths, settings=settings, pdf=target / "a.pdf", png=target / "a.png")
assert "torch" not in sys.modules and "matplotlib.pyplot" not in sys.modules
"""


@pytest.mark.slow
def test_equal_tables_give_equal_bytes_in_another_process_too(tmp_path: Path, run: dict[str, pa.Table]) -> None:
    paths = write_run(tmp_path, run)
    # The one with a mesh, text, dashes and log ticks; string hashes differ from process to process.
    name = "distance_matrix"
    here = tmp_path / "here"
    plot_figure(FIGURES[name], paths, settings=run_settings(), pdf=here / "a.pdf", png=here / "a.png")
    there = tmp_path / "there"
    command = [sys.executable, "-c", PLOT_PROGRAM, str(tmp_path), str(there), name, json.dumps(run_settings())]
    environment = {**os.environ, "PYTHONHASHSEED": "1", "SOURCE_DATE_EPOCH": "1000000"}
    subprocess.run(command, check=True, env=environment)
    for name in ("a.pdf", "a.png"):
        assert (there / name).read_bytes() == (here / name).read_bytes()
    assert b"CreationDate" not in (here / "a.pdf").read_bytes()
    assert sorted(path.name for path in here.iterdir()) == ["a.pdf", "a.png"]


def test_a_failed_drawing_leaves_the_old_picture_and_nothing_half_written(
    tmp_path: Path, run: dict[str, pa.Table], monkeypatch: pytest.MonkeyPatch
) -> None:
    paths, pdf, png = write_run(tmp_path, run), tmp_path / "a.pdf", tmp_path / "a.png"
    pdf.write_bytes(b"old")
    before = sorted(tmp_path.iterdir())
    genuine = Figure.savefig

    def fail_on_png(self: Figure, *arguments: Any, **options: Any) -> None:
        genuine(self, *arguments, **options)
        if options["format"] == "png":
            raise OSError("disk full")

    monkeypatch.setattr(Figure, "savefig", fail_on_png)
    with pytest.raises(OSError, match="disk full"):
        plot_figure(FIGURES["lines"], paths, settings=run_settings(figure_lines=[0.4]), pdf=pdf, png=png)
    assert pdf.read_bytes() == b"old"
    assert sorted(tmp_path.iterdir()) == before


def test_missing_tables_are_refused_before_anything_is_drawn(tmp_path: Path) -> None:
    target = {"pdf": tmp_path / "a.pdf", "png": tmp_path / "a.png"}
    with pytest.raises(ValueError, match=r"got none for \['trace'\]"):
        plot_figure(FIGURES["lines"], {"line": tmp_path / "line.arrow"}, settings=run_settings(), **target)
    paths = {"line": tmp_path / "line.arrow", "trace": tmp_path / "trace.arrow"}
    with pytest.raises(SgdlineError, match="must exist"):
        plot_figure(FIGURES["lines"], paths, settings=run_settings(), **target)


def test_a_users_own_matplotlib_settings_change_nothing(
    tmp_path: Path, run: dict[str, pa.Table], monkeypatch: pytest.MonkeyPatch
) -> None:
    def pixels(figure: Figure) -> bytes:
        figure.canvas.draw()
        return bytes(figure.canvas.buffer_rgba())

    paths = write_run(tmp_path, run)
    pictures: list[bytes] = []
    monkeypatch.setattr("sgdline.figures._save", lambda figure, pdf, png: pictures.append(pixels(figure)))
    for size in (10.0, 30.0):
        with matplotlib.rc_context({"font.size": size, "axes.grid": size > 20, "lines.linewidth": size}):
            plot_figure(
                FIGURES["lines"],
                paths,
                settings=run_settings(figure_lines=[0.4]),
                pdf=tmp_path / "a.pdf",
                png=tmp_path / "a.png",
            )
            assert matplotlib.rcParams["font.size"] == size
    assert pictures[0] == pictures[1]


# -- what is drawn -----------------------------------------------------------------------------------------------------


def test_every_figure_names_run_data_set_samples_batch_norm_and_positions(run: dict[str, pa.Table]) -> None:
    facts = {
        b"sgdline": b'{"batch_norm":"eval","samples":3968,"dataset":"cifar","model":"resnet20","positions":"grid"}'
    }
    told = {kind: table.replace_schema_metadata(facts) for kind, table in run.items()}
    for name in FIGURES:
        # Only what it reads: a figure that reads more would fail in the workflow.
        text = words(draw(name, {kind: told[kind] for kind in FIGURES[name].reads}))
        for fact in ("resnet20", "cifar", "lr 0.1", "batch size 64", "seed 1", "N = 3,968", "eval mode", "grid pos"):
            assert fact in text, f"{name} does not say {fact!r}"
    # Without metadata the settings are all there is; the number of samples is then not known.
    text = " ".join(style.run_facts(run, run_settings()))
    for fact in ("tiny_resnet", "digits", "train mode", "adaptive positions", "N not recorded"):
        assert fact in text


def test_the_nearest_lines_are_drawn_with_the_values_of_the_table(run: dict[str, pa.Table]) -> None:
    figure = draw("lines", run)
    assert [panel.get_title(loc="left") for panel in panels(figure)] == [
        "(a) update 3 of 240",
        "(b) update 96 of 240",
        "(c) update 192 of 240",
    ]
    full = LineCurves.from_table(run["line"], "train_loss")
    batch = LineCurves.from_table(run["line"], "direction_batch_loss")
    for panel, row in zip(panels(figure), (1, 32, 64), strict=True):
        assert panel.get_xlim() == (-0.5, 0.5)
        assert "nats" in panel.get_ylabel()
        assert "Euclidean length" in panel.get_xlabel()
        s, loss = curve(panel, "full batch (f)")
        assert (s[0], s[-1]) == (-0.5, 0.5)
        assert np.all(np.isin(common_grid(0.5, 0.006), s))
        np.testing.assert_allclose(loss, full.at(s)[row], rtol=1e-12)
        np.testing.assert_allclose(curve(panel, "direction batch (b)")[1], batch.at(s)[row], rtol=1e-12)
        chunks = chunk_curves(run["line"], row, s)
        np.testing.assert_allclose(curve(panel, "median of")[1], np.median(chunks, axis=0), rtol=1e-12)
        np.testing.assert_allclose(curve(panel, "quartiles of")[1], np.quantile(chunks, 0.25, axis=0), rtol=1e-12)
        outline = panel.collections[0].get_paths()[0].vertices[:, 1]
        assert outline.max() == pytest.approx(chunks.max())
        assert outline.min() == pytest.approx(chunks.min())
        low, high = panel.get_ylim()
        everything = np.concatenate([chunks.ravel(), loss, batch.at(s)[row]])
        assert low == pytest.approx(0.8 * everything.min())
        assert high == pytest.approx(min(5.0, everything.max()))
        assert curve(panel, "executed step")[0][0] == run["line"]["step_length"][row].as_py()
        best, lowest = curve(panel, "full-batch minimum")
        assert best[0] == pytest.approx(full.minimum(0.006).vertex[row], rel=1e-9)
        assert lowest[0] == pytest.approx(loss.min(), abs=1e-4)


@pytest.mark.parametrize("count", [1, 4, 5])
def test_lines_are_drawn_once_and_no_panel_stays_empty(run: dict[str, pa.Table], count: int) -> None:
    fractions = [0.0, 0.15, 0.3, 0.5, 0.7, 1.0][:count]
    # 0.001 falls on the same line as 0: the paper's three panels never show one line twice.
    figure = draw("lines", run, figure_lines=[*fractions, 0.001])
    titles = [panel.get_title(loc="left") for panel in panels(figure)]
    assert len(titles) == len(set(titles)) == count
    assert all(panel.lines for panel in panels(figure))
    assert_nothing_overlaps(figure)
    assert max(panel.get_position().x1 for panel in panels(figure)) > 0.95


def test_a_line_above_five_nats_is_not_cut_away() -> None:
    run = make_run(steps=3)
    high = [[20 + value for value in row] for row in run["line"]["train_loss"].to_pylist()]
    at = run["line"].schema.get_field_index("train_loss")
    lifted = run["line"].set_column(at, run["line"].schema.field("train_loss"), pa.array(high, pa.list_(pa.float64())))
    panel = panels(draw("lines", {**run, "line": lifted}))[0]
    loss = curve(panel, "full batch (f)")[1]
    assert panel.get_ylim()[1] >= loss.max() > 20


def test_marks_outside_the_panel_are_told_in_words(run: dict[str, pa.Table]) -> None:
    text = words(draw("lines", run, interval=0.05))
    assert re.search(r"s_sgd = \S+ is outside", text)


def test_distance_matrix_shows_the_matrices_and_the_consecutive_distances(run: dict[str, pa.Table]) -> None:
    figure = draw("distance_matrix", run)
    first, rest, consecutive = panels(figure)
    for panel, kind in ((first, "first"), (rest, "rest")):
        rows = [row for row in run["line_distances"].to_pylist() if row["panel"] == kind]
        shown = panel.collections[0].get_array()
        np.testing.assert_array_equal(shown, [row["distances"] for row in rows])
        steps, _ = distance_matrix.matrix(run["line_distances"], kind)
        assert steps.tolist() == [row["step"] for row in rows]
        assert panel.get_xlabel() == panel.get_ylabel() == "update t"
        [bar] = panel.child_axes
        assert bar.get_ylabel() == "MAE on |s| < 0.2 (nats)"
    metrics = run["line_metrics"]
    assert consecutive.get_yscale() == "log"
    assert holds_curve(consecutive, column(metrics, "step"), column(metrics, "consecutive_distance"))


def test_distance_matrix_leaves_lines_without_a_distance_pale_and_counts_them() -> None:
    figure = draw("distance_matrix", make_run(diverged_at=120))
    shown = panels(figure)[1].collections[0].get_array()
    assert np.ma.getmaskarray(shown)[-1].all()
    assert not np.ma.getmaskarray(shown)[:-1, :-1].any()
    assert "1 line not finite" in words(figure)


def test_polynomial_error_draws_errors_twice_and_raw_coefficients(run: dict[str, pa.Table]) -> None:
    figure = draw("polynomial_error", run)
    assert len(panels(figure)) == 5
    linear, logarithmic, *coefficients = panels(figure)
    assert (linear.get_yscale(), logarithmic.get_yscale()) == ("linear", "log")
    rows = run["line_fits"].to_pylist()
    for degree in (1, 2, 3, 4):
        own = [row for row in rows if row["degree"] == degree]
        steps, mae = np.array([row["step"] for row in own]), np.array([row["mae"] for row in own])
        assert holds_curve(linear, steps, mae)
        assert holds_curve(logarithmic, steps, mae)
    own = [row for row in rows if row["degree"] == 2]
    steps = np.array([row["step"] for row in own])
    for panel, power, factor, unit in zip(
        coefficients, (0, 1, 2), (1, 1, 2), ("nats", "nats per length", "nats per length$^2$"), strict=True
    ):
        assert holds_curve(panel, steps, factor * np.array([row["coefficients"][power] for row in own]))
        assert f"({unit})" in panel.get_ylabel()
        assert panel.get_xlabel() == "update t"
    ratio = np.median([row["mae"] for row in own]) / np.median([row["mae"] for row in rows if row["degree"] == 1])
    assert ratio < 0.2
    assert "median error of degree 2 / degree 1" in words(figure)


def test_polynomial_error_shifts_the_coefficients_only_for_the_released_plot(run: dict[str, pa.Table]) -> None:
    own = [row for row in run["line_fits"].to_pylist() if row["degree"] == 2]
    steps = np.array([row["step"] for row in own])
    *_, coefficients = [panels(draw("polynomial_error", run, compat=True))[2:]]
    for panel, power, factor in zip(coefficients, (0, 1, 2), (1, 1, 2), strict=True):
        raw = factor * np.array([row["coefficients"][power] for row in own])
        assert holds_curve(panel, steps, raw - raw.min())
        assert f"minus its minimum, {raw.min():.3g}" in panel.texts[0].get_text()


def test_polynomial_error_without_degree_two_says_so(run: dict[str, pa.Table]) -> None:
    fits = run["line_fits"].filter(pa.array(np.asarray(run["line_fits"]["degree"]) == 1))
    figure = draw("polynomial_error", {**run, "line_fits": fits}, degrees=[1])
    assert len(panels(figure)) == 5
    assert words(figure).count("add 2 to analysis.degrees") == 3


def strategy(run: Mapping[str, pa.Table], name: str, what: str) -> np.ndarray:
    return column(rows_by_strategy(run["line_strategies"])[name], what)


def vertical_dashes(panel: Any) -> list[float]:
    return [
        float(line.get_xdata()[0])
        for line in panel.lines
        if line.get_linestyle() == "--" and len(line.get_xdata()) == 2 and len(set(line.get_xdata())) == 1
    ]


def test_parabolas_carry_their_steps_and_every_strategy_has_a_dashed_line(run: dict[str, pa.Table]) -> None:
    figure = draw("parabolas", run)
    full, batch = (LineCurves.from_table(run["line"], name) for name in ("train_loss", "direction_batch_loss"))
    drawn = set(rows_by_strategy(run["line_strategies"])) - {"fbpal_sgd_step"}
    assert len(drawn) == 8
    for panel, row in zip(panels(figure), (1, 32, 64), strict=True):
        assert panel.get_xlim() == pytest.approx((-0.1, 0.5))
        slope = run["line"]["direction_batch_slope"][row].as_py()
        start, ahead = batch.at([0.0, 0.1])[row]
        for label, name, bend in (
            ("SGD original, lr 0.1", "sgd_original", 1 / (2 * 0.1)),
            ("SGD, lr 0.06 (median s_opt/|D_b|)", "sgd_auto", 1 / (2 * 0.06)),
            ("SGD, lr 0.02", "sgd_0.02", 1 / (2 * 0.02)),
            ("PAL", "pal", (ahead - start - slope * 0.1) / 0.1**2),
        ):
            s, loss = curve(panel, label)
            np.testing.assert_allclose(loss, start + slope * s + bend * s**2, rtol=1e-12)
            marked = next(line for line in panel.lines if str(line.get_label()).startswith(label))
            assert [s[place] for place in marked.get_markevery()] == [strategy(run, name, "step_length")[row]]
            assert loss.argmin() == marked.get_markevery()[0] or loss.min() == pytest.approx(
                loss[marked.get_markevery()[0]], abs=1e-5
            )
        for label, name, losses in (
            ("full-batch minimum", "optimum", full),
            ("direction-batch minimum", "direction_batch_minimum", batch),
            ("FBPAL", "fbpal", full),
            ("FBPAL&SGD", "fbpal_sgd_lr", full),
        ):
            found = [line for line in panel.lines if str(line.get_label()).split(",")[0].split(" (")[0] == label]
            (place,), (height,) = found[0].get_xdata(), found[0].get_ydata()
            assert place == strategy(run, name, "step_length")[row]
            assert height == pytest.approx(losses.at([place])[row, 0], rel=1e-12)
        assert sorted(vertical_dashes(panel)) == sorted(strategy(run, name, "step_length")[row] for name in drawn)


def test_parabolas_sheet_does_without_the_median_learning_rate_and_names_what_lies_outside(
    run: dict[str, pa.Table],
) -> None:
    table = run["line_strategies"]
    kept = table.filter(pa.array([name != "sgd_auto" for name in table["strategy"].to_pylist()]))
    without = with_facts(kept, sgd_lr={"sgd_auto": None, "sgd_0.02": 0.02})
    figure = draw("parabolas", {**run, "line_strategies": without}, figure_lines=[0.0])
    assert "no SGD with the median ratio: it is not positive" in words(figure)
    assert "outside: PAL 0.7" in words(figure)
    assert "median s_opt" not in " ".join(str(line.get_label()) for line in panels(figure)[0].lines)
    marked = next(line for line in panels(figure)[0].lines if str(line.get_label()).startswith("PAL"))
    assert marked.get_markevery() == []


def test_parabolas_sheet_marks_the_executed_step_where_momentum_made_it_another(run: dict[str, pa.Table]) -> None:
    table = run["line_strategies"]
    longer = np.where(
        np.array(table["strategy"].to_pylist()) == "sgd_original", 1.5 * column(table, "step_length"),
        column(table, "step_length"),
    )  # fmt: skip
    at = table.schema.get_field_index("step_length")
    moved = table.set_column(at, table.schema.field(at), pa.array(longer)).replace_schema_metadata(
        table.schema.metadata
    )
    panel = panels(draw("parabolas", {**run, "line_strategies": moved}))[1]
    own = strategy(run, "sgd_original", "step_length")[32]
    assert curve(panel, "executed step")[0][0] == 1.5 * own
    (marked,) = [line for line in panel.lines if str(line.get_label()).startswith("plain SGD, lr 0.1")]
    assert marked.get_xdata()[marked.get_markevery()[0]] == pytest.approx(own)
    # Another update rule has no SGD parabola of its own.
    rule = {"name": "pal", "beta": 0.4}
    panel = panels(draw("parabolas", run, optimizer=rule))[1]
    assert curve(panel, "executed step")[0][0] == own
    assert not [line for line in panel.lines if "original" in str(line.get_label())]


def test_parabolas_sheet_says_where_a_line_has_no_strategies(run: dict[str, pa.Table]) -> None:
    table = run["line_strategies"]
    other = table.filter(pa.array([step != 96 for step in table["step"].to_pylist()]))
    figure = draw("parabolas", {**run, "line_strategies": other})
    assert words(figure).count("no strategy steps on this line") == 1
    assert not vertical_dashes(panels(figure)[1])


def test_a_scheduled_learning_rate_is_named_line_by_line(run: dict[str, pa.Table]) -> None:
    def scheduled(table: pa.Table) -> pa.Table:
        at = table.schema.get_field_index("lr")
        steps = column(table, "step")
        return table.set_column(at, table.schema.field(at), pa.array(np.where(steps < 120, 0.1, 0.01)))

    changed = {**run, "line": scheduled(run["line"]), "line_metrics": scheduled(run["line_metrics"])}
    figure = draw("parabolas", changed)
    assert [word in words(figure) for word in ("lr 0.1", "lr 0.01")] == [True, True]
    assert curve(panels(figure)[0], "SGD original, scheduled lr")[0].size
    panel = panels(draw("strategies", changed))[5]
    assert set(curve(panel, "_lr (run, scheduled)")[1]) == {0.1, 0.01}


def test_strategies_sheet_draws_every_strategy_in_every_panel(run: dict[str, pa.Table]) -> None:
    gain, distance, share, position, steps, _ = panels(draw("strategies", run))
    names = {
        "_full-batch minimum (s_opt)": "optimum",
        "_direction-batch minimum (s_dir)": "direction_batch_minimum",
        "_FBPAL&SGD, reusing its lr": "fbpal_sgd_lr",
        "_SGD original, lr 0.1": "sgd_original",
        "_SGD, lr 0.06 (median s_opt/|D_b|)": "sgd_auto",
        "_SGD, lr 0.02": "sgd_0.02",
        "_PAL": "pal",
    }
    assert [panel.get_yscale() for panel in (gain, distance, steps)] == ["linear", "linear", "log"]
    best = strategy(run, "optimum", "step_length")
    for label, name in names.items():
        updates, lengths = strategy(run, name, "step"), strategy(run, name, "step_length")
        x, y = curve(gain, label)
        np.testing.assert_array_equal(x, updates)
        np.testing.assert_allclose(y, np.nancumsum(strategy(run, name, "improvement")), rtol=1e-12)
        if name == "optimum":
            assert not [
                line for panel in (distance, share, position, steps) for line in panel.lines
                if line.get_label() == label
            ]  # fmt: skip
            continue
        expected = np.nancumsum(np.abs(strategy(run, name, "distance")))
        np.testing.assert_allclose(curve(distance, label)[1], expected, rtol=1e-12)
        medians = np.nanmedian(strategy(run, name, "relative_improvement")), np.median(lengths / best)
        np.testing.assert_allclose([curve(panel, label)[0][0] for panel in (share, position)], medians, rtol=1e-9)
        ratio = np.convolve(lengths, np.ones(9), mode="valid") / np.convolve(best, np.ones(9), mode="valid")
        x, y = curve(steps, label)
        np.testing.assert_array_equal(x, updates[4:-4])
        np.testing.assert_allclose(y, ratio, rtol=1e-9)
    rows = [text.get_text() for text in position.get_yticklabels()]
    heights = [curve(position, label)[1][0] for label in ("_FBPAL&SGD, reusing its lr", "_SGD, lr 0.02")]
    assert [-rows.index("FBPAL&SGD"), -rows.index("SGD 0.02")] == heights


def test_published_shares_and_rates_of_strategies_are_beside_ours(run: dict[str, pa.Table]) -> None:
    marks = figure_ids()["linesearch/supp5_resnet18_metrics"].options["marks"]
    with style.applied():
        sheet = type(FIGURES["strategies"])(marks=tuple(Mark(**mark) for mark in marks))
        figure = sheet.draw(run, settings=run_settings())
    rows = [text.get_text() for text in panels(figure)[2].get_yticklabels()]
    # 197 and 194 nats of the optimum's 205; FBPAL&SGD is not published.
    published = {
        name: row.partition("% (")[2]
        for name in ("FBPAL", "SGD 0.06 (auto)", "FBPAL&SGD")
        for row in rows
        if row.startswith(f"{name} ")
    }
    assert published == {"FBPAL": "96 %)", "SGD 0.06 (auto)": "95 %)", "FBPAL&SGD": ""}
    assert "in brackets: ResNet-18, CIFAR-10, lr 0.1 beside 0.05, momentum 0 [plot]" in words(figure)
    assert "paper 0.05, to line 3,000" in words(figure)


def names_of_gains(figure: Figure) -> list[str]:
    """Return the names beside the curves of the accumulated improvement, the highest one first."""
    names = [text for text in panels(figure)[0].texts if text.arrow_patch is not None]
    return [text.get_text() for text in sorted(names, key=lambda text: -text.xyann[1])]


def test_strategies_sheet_lists_the_strategies_by_what_they_gain_on_common_lines(run: dict[str, pa.Table]) -> None:
    figure = draw("strategies", run)
    names = {
        "optimum": "optimum", "direction batch": "direction_batch_minimum", "FBPAL": "fbpal",
        "FBPAL&SGD": "fbpal_sgd_lr", "SGD 0.1 (run)": "sgd_original", "SGD 0.06 (auto)": "sgd_auto",
        "SGD 0.02": "sgd_0.02", "PAL": "pal",
    }  # fmt: skip
    gains = {short: strategy(run, name, "improvement") for short, name in names.items()}
    common = np.isfinite(np.array(list(gains.values()))).all(axis=0)
    assert 60 < common.sum() < 80  # PAL's first step ends beyond the range, and some others
    sums = {short: values[common].sum() for short, values in gains.items()}
    order = sorted(sums, key=lambda short: -sums[short])
    assert sorted(names_of_gains(figure)) == sorted(f"{short} {sums[short]:.3g}" for short in order)
    best = sums["optimum"]
    rows = [text.get_text() for text in panels(figure)[2].get_yticklabels()]
    assert rows == [f"{short} {100 * sums[short] / best:.0f} %" for short in order if short != "optimum"]
    assert f"numbers: over the {common.sum()} lines that all have" in words(figure)
    lost = np.isnan(gains["PAL"]).sum()
    assert f"PAL on {lost} line{'' if lost == 1 else 's'}" in words(figure)
    steps = column(run["line_strategies"], "step")
    kept = run["line_strategies"].filter(pa.array(np.isin(steps, strategy(run, "pal", "step")[common])))
    assert "numbers: over" not in words(draw("strategies", {**run, "line_strategies": kept}))


def test_a_strategy_that_was_measured_once_is_not_drawn(run: dict[str, pa.Table]) -> None:
    assert "left out" not in words(draw("strategies", run, fbpal_every=79))
    figure = draw("strategies", run, fbpal_every=80)  # 80 lines: FBPAL&SGD keeps what lines 0 and 1 gave
    assert "left out, with one value: FBPAL&SGD" in words(figure)
    assert not [name for name in names_of_gains(figure) if "FBPAL&SGD" in name]
    table = run["line_strategies"]
    at = table.schema.get_field_index("step_length")
    rows = zip(table["strategy"].to_pylist(), table["step"].to_pylist(), column(table, "step_length"), strict=True)
    once = pa.array([None if name == "pal" and step != 30 else length for name, step, length in rows])
    changed = table.set_column(at, table.schema.field(at), once).replace_schema_metadata(table.schema.metadata)
    assert "left out, with one value: PAL" in words(draw("strategies", {**run, "line_strategies": changed}))


def test_strategies_sheet_counts_lines_and_steps_that_are_not_there() -> None:
    made = make_run(diverged_at=120)
    assert "1 line non finite" in words(draw("strategies", made))
    table = made["line_strategies"]
    at = table.schema.get_field_index("status")
    status = ["no_step" if name == "pal" else "ok" for name in table["strategy"].to_pylist()]
    changed = table.set_column(at, table.schema.field(at), pa.array(status))
    assert "no step: PAL on 41 lines" in words(draw("strategies", {**made, "line_strategies": changed}))


def test_strategies_sheet_takes_another_title_and_names_the_released_rules(run: dict[str, pa.Table]) -> None:
    with style.applied():
        figure = sheet_of("strategies", title="ResNet-18").draw(run, settings=run_settings())
    assert "ResNet-18" in words(figure)
    assert "released" not in words(figure)
    released = {**run, "line_strategies": with_facts(run["line_strategies"], compat=True)}
    steps_sheet, lines_sheet = (draw(name, released) for name in ("strategies", "parabolas"))
    assert "strategies by the released code's rules" in words(steps_sheet)
    assert "steps by the released code's rules" in words(lines_sheet)
    # The release reuses the step length (papers.md L21).
    lengths, label = strategy(run, "fbpal_sgd_step", "step_length"), "FBPAL&SGD, reusing its step length"
    assert not np.allclose(lengths, strategy(run, "fbpal_sgd_lr", "step_length"))
    expected = np.nancumsum(strategy(run, "fbpal_sgd_step", "improvement"))
    np.testing.assert_allclose(curve(panels(steps_sheet)[0], f"_{label}")[1], expected, rtol=1e-12)
    for panel, row in zip(panels(lines_sheet), (1, 32, 64), strict=True):
        assert curve(panel, label)[0].tolist() == [lengths[row]]


def test_strategies_sheet_draws_ratio_learning_rate_median_and_quartiles(run: dict[str, pa.Table]) -> None:
    *_, panel = panels(draw("strategies", run))
    steps, ratios = column(run["line_metrics"], "step"), column(run["line_metrics"], "line_search_ratio")
    assert holds_curve(panel, steps, ratios)
    centres, means = curve(panel, "_ratio")
    np.testing.assert_allclose(means, np.convolve(ratios, np.full(9, 1 / 9), mode="valid"), rtol=1e-12)
    np.testing.assert_array_equal(centres, steps[4:-4])
    assert set(curve(panel, "_lr 0.1 (run)")[1]) == {0.1}
    middle = ratios[(steps >= 60) & (steps < 180)]
    assert set(curve(panel, "_median")[1]) == {np.median(middle)}
    band = panel.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == tuple(np.quantile(middle, [0.25, 0.75]))
    assert panel.get_ylim()[0] <= 0 < 0.1 <= panel.get_ylim()[1]


def test_strategies_sheet_counts_what_the_range_of_the_ratio_leaves_out(run: dict[str, pa.Table]) -> None:
    metrics = run["line_metrics"]
    wild = column(metrics, "line_search_ratio")
    wild[10] = 40.0
    at = metrics.schema.get_field_index("line_search_ratio")
    figure = draw(
        "strategies",
        {**run, "line_metrics": metrics.set_column(at, metrics.schema.field(at), pa.array(wild))},
    )
    assert panels(figure)[5].get_ylim()[1] < 1
    assert "1 value of 80 outside the y range" in words(figure)


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("width", ["page", "column"])
@pytest.mark.slow
def test_nothing_overlaps(run: dict[str, pa.Table], name: str, width: str) -> None:
    with style.applied():
        figure = sheet_of(name, width=width).draw(run, settings=run_settings(pal_measuring_step=0.1))
    assert_nothing_overlaps(figure)
    assert figure.get_figheight() < 9 or width == "column"
    sizes = [text.get_fontsize() for text in figure.findobj(Text) if text.get_text()]
    assert min(sizes) >= 7


def test_labels_beside_curves_keep_their_order_and_a_gap() -> None:
    heights = np.array([0.5, 0.52, 0.9, 0.51, 1.0, 0.0])
    places = labels.spaced(heights, gap=0.1)
    assert np.diff(np.sort(places)).min() >= 0.1 - 1e-12
    assert (np.argsort(places) == np.argsort(heights)).all()
    assert (places.min(), places.max()) == (0.0, 1.0)
    np.testing.assert_allclose(np.sort(places)[1:4], [0.41, 0.51, 0.61])  # around their own mean
    np.testing.assert_array_equal(labels.spaced(np.array([0.2, 0.8]), gap=0.1), [0.2, 0.8])
    np.testing.assert_allclose(labels.spaced(np.zeros(3), gap=0.7), [1, 0.5, 0])  # more than fit; the first on top


# -- several runs ------------------------------------------------------------------------------------------------------


def compare(runs: list[tuple[Mapping[str, pa.Table], dict[str, Any]]], **options: Any) -> Figure:
    with style.applied():
        figure = sheet_of("line_search_settings", **options).draw(
            [tables for tables, _ in runs], settings=[block for _, block in runs]
        )
    assert isinstance(figure, Figure)
    return figure


def test_settings_are_compared_over_seeds() -> None:
    runs = [
        (make_run(lr=lr, seed=seed), run_settings(lr=str(lr), seed=seed)) for lr, seed in ((0.3, 1), (0.1, 2), (0.1, 3))
    ]
    figure = compare([*runs, runs[0]])  # another experiment has the first one too: it is drawn once
    ratio, loss, gain, median = panels(figure)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["lr 0.1", "lr 0.3"]

    def ratios(tables: Mapping[str, pa.Table]) -> np.ndarray:
        return column(tables["line_metrics"], "line_search_ratio")

    smoothed = [np.convolve(ratios(tables), np.full(9, 1 / 9), mode="valid") for tables, _ in runs]
    steps = column(runs[0][0]["line_metrics"], "step")
    drawn = [line for line in ratio.lines if len(line.get_xdata()) == len(smoothed[0])]
    expected = [np.median(smoothed[1:], axis=0), smoothed[0]]
    for line, values in zip(drawn, expected, strict=True):
        np.testing.assert_array_equal(line.get_xdata(), steps[4:-4])
        np.testing.assert_allclose(line.get_ydata(), values, rtol=1e-9)
    corners = ratio.collections[0].get_paths()[0].vertices[:, 1]
    assert (corners.min(), corners.max()) == (pytest.approx(np.min(smoothed[1:])), pytest.approx(np.max(smoothed[1:])))
    # Made-up lines have no loss at zero.
    assert "no line was measured" in loss.texts[0].get_text().replace("\n", " ")
    tables = runs[0][0]
    best, own = (strategy(tables, name, "improvement") for name in ("optimum", "sgd_original"))
    known = np.isfinite(best + own)
    share = np.cumsum(np.where(known, own, 0)) / np.cumsum(np.where(known, best, 0))
    assert holds_curve(gain, steps, share)
    middle = [np.median(ratios(tables)[20:60]) for tables, _ in runs]
    points = [(line.get_xdata()[0], line.get_ydata()[0]) for line in median.lines if line.get_marker() == "o"]
    np.testing.assert_allclose(points, [(0.1, np.median(middle[1:])), (0.3, middle[0])])


@pytest.mark.parametrize("width", ["page", "column"])
@pytest.mark.slow
def test_networks_are_columns_and_lost_runs_are_named(width: str) -> None:
    runs = [
        (make_run(diverged_at=diverged_at), run_settings(model=model, batch_size=size))
        for model in ("tiny_resnet", "mlp")
        for size, diverged_at in ((64, None), (128, 120))
    ]
    figure = compare(runs, width=width)
    assert len(panels(figure)) == 8
    assert {panel.get_title(loc="left")[4:].split(":")[0] for panel in panels(figure)} == {"tiny_resnet", "mlp"}
    labelled = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labelled == ["batch size 64", "batch size 128", "a run diverged"]
    assert "DIVERGED: batch size 128, tiny_resnet, seed 1 at update 120" in words(figure)
    assert_nothing_overlaps(figure)
    text = words(compare([(empty_run(), run_settings())]))
    assert "no line was measured" in text
    assert "no run has a positive median" in text


# -- runs that went wrong ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FIGURES)
def test_a_run_without_lines_gives_words_in_every_panel(name: str) -> None:
    figure = draw(name, empty_run())
    render(figure)
    for panel in panels(figure):
        text = " ".join(" ".join(found.get_text().split()) for found in panel.texts)
        assert text.endswith("the run diverged at update 3"), f"{name}: {text!r}"
    assert "no line was measured" in words(figure) or name == "distance_matrix"
    assert style.absence("no line", empty_run(diverged_at=None)) == "no line"


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("measured", [1, 2])
def test_few_lines_are_drawn_as_they_are(name: str, measured: int) -> None:
    figure = draw(name, make_run(steps=3 * measured), steps=240)
    render(figure)
    for panel in panels(figure):
        assert panel.lines or panel.collections or panel.texts


@pytest.mark.parametrize("name", FIGURES)
def test_a_run_that_blew_up_shows_what_was_measured_before(name: str) -> None:
    figure = draw(name, make_run(diverged_at=120))
    render(figure)
    assert "THE RUN DIVERGED AT UPDATE 120" in words(figure)
    if name in ("lines", "parabolas"):
        *_, last = panels(figure)
        assert last.get_title(loc="left") == "(c) update 120 of 240"
        assert "no loss on it is finite" in " ".join(last.texts[0].get_text().split())
        assert "nearest to update 192" in words(figure)
    elif name != "distance_matrix":
        over_updates = [panel for panel in panels(figure) if panel.get_xlabel() == "update t"]
        assert len(over_updates) >= 4
        for panel in over_updates:
            assert curve(panel, "run diverged")[0][0] == 120


@pytest.mark.parametrize("diverged_at", [None, 0])
@pytest.mark.slow
def test_the_tables_of_the_analysis_are_drawn(tmp_path: Path, diverged_at: int | None) -> None:
    made = make_run(every=12, diverged_at=diverged_at)
    paths = write_run(tmp_path, {"line": made["line"], "trace": made["trace"]})
    shared: dict[str, Any] = {"window": 0.2, "resolution": 0.006, "provenance": FACTS}
    for kind, measure, options in (
        ("line_metrics", measure_lines, {}),
        ("line_fits", fit_lines, {"degrees": [1, 2, 3, 4]}),
        ("line_distances", measure_distances, {"distance_first": 8, "distance_every": 1}),
    ):
        paths[kind] = tmp_path / f"{kind}.arrow"
        measure(paths["line"], paths[kind], **shared, **options)
    paths["line_strategies"] = tmp_path / "line_strategies.arrow"
    measure_strategies(
        paths["line"], paths["line_metrics"], paths["line_strategies"], interval=0.5, resolution=0.006,
        sgd_lr=["auto", 0.05], pal_measuring_step=0.1, fbpal_every=5, fbpal_average=2, compat=False, provenance=FACTS,
    )  # fmt: skip
    tables = {kind: read_table(path, kind) for kind, path in paths.items()}
    for name in FIGURES:
        figure = draw(name, tables)
        render(figure)
        assert "train mode" in words(figure)
        assert ("DIVERGED" in words(figure)) is (diverged_at is not None)
        for panel in panels(figure):
            assert panel.texts or panel.lines or panel.collections
            assert not (diverged_at == 0 and panel.lines)
    if diverged_at is None:
        ratio = panels(draw("strategies", tables))[5]
        assert holds_curve(ratio, column(made["line"], "step"), column(tables["line_metrics"], "line_search_ratio"))


# -- series ------------------------------------------------------------------------------------------------------------


def test_moving_average_bridges_single_failures_and_breaks_at_long_ones() -> None:
    steps, values = np.arange(10.0), np.arange(10.0)
    values[2] = np.nan
    values[6:] = np.nan
    centres, means = series.moving_average(steps, values, window=3)
    assert centres.tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    np.testing.assert_array_equal(means, [0.5, 2.0, 3.5, 4.0, 4.5, np.nan, np.nan, np.nan])
    assert series.moving_average(steps[:2], values[:2], window=3)[0].size == 0


def test_readable_limits_cut_only_where_a_few_values_would_flatten_the_rest() -> None:
    calm = np.linspace(0, 1, 100)
    assert style.readable_limits(calm) is None
    assert style.readable_limits(np.full(3, np.nan)) is None
    low, high = style.readable_limits(np.append(calm, [1e6, np.inf]), keep=[-2.0]) or (0.0, 0.0)
    assert low < -2 < 1 < high < 3
    assert style.outside_note(np.append(calm, [1e6, np.inf]), (low, high)) == ["1 value of 101 outside the y range"]
