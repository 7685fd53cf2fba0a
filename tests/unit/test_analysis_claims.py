"""Claims and the summary: verdicts at their thresholds, runs that diverged, pages that do not change."""

import math

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from line_tables import write_line_table

from sgdline.analysis.claims import (
    CLAIM_COLUMNS,
    RunTables,
    aggregate_claims,
    claim_constant_ratio,
    claim_parabolic,
    claim_shapes_settle,
    claim_step_follows_gradient,
    judge,
)
from sgdline.analysis.fits import fit_lines
from sgdline.analysis.metrics import measure_lines
from sgdline.errors import SgdlineError
from sgdline.tables import SCHEMAS, read_table, write_table


def rows_of(kind, count, **columns):
    """Return a table whose other columns are null or, where that is not allowed, zero."""
    zero = {pa.string(): "ok", pa.list_(pa.float64()): []}
    filled = {
        field.name: columns.get(field.name, [None if field.nullable else zero.get(field.type, 0)] * count)
        for field in SCHEMAS[kind]
    }
    return pa.table(filled, schema=SCHEMAS[kind])


def fits_table(straight, parabola):
    count = len(straight)
    return rows_of(
        "line_fits",
        2 * count,
        step=list(range(count)) * 2,
        degree=[1] * count + [2] * count,
        mae=[*straight, *parabola],
    )


def metrics_table(count, **columns):
    return rows_of("line_metrics", count, step=list(range(count)), **columns)


def test_c1_takes_lines_with_both_fits():
    claim = claim_parabolic(fits_table([1.0, 1.0, 0.0, None, 2.0], [0.1, 0.3, 0.1, 0.1, 0.2]))
    assert (claim.value, claim.lines, claim.verdict) == (pytest.approx(0.1), 3, "holds")
    claim = claim_parabolic(fits_table([1.0], [0.2]))
    assert (claim.value, claim.relation, claim.threshold, claim.verdict) == (0.2, "<", 0.2, "fails")
    assert claim_parabolic(fits_table([], [])).verdict == "undetermined"
    only_straight = rows_of("line_fits", 1, step=[0], degree=[1], mae=[1.0])
    assert claim_parabolic(only_straight).value is None


def test_c2_looks_at_the_middle_half():
    ratios = [9.0, 9.0, 0.05, 0.05, 0.05, 0.05, -9.0, None]
    claim = claim_constant_ratio(metrics_table(8, line_search_ratio=ratios))
    assert (claim.value, claim.verdict, claim.lines) == (1.0, "holds", 4)
    wide = claim_constant_ratio(metrics_table(8, line_search_ratio=[1.0, 1.0, 0.01, 0.01, 1.0, 1.0, 1.0, 1.0]))
    assert (wide.verdict, wide.value) == ("fails", pytest.approx(0.505 / 0.01))
    few = claim_constant_ratio(metrics_table(4, line_search_ratio=[1.0] * 4))
    assert (few.verdict, few.value, few.lines) == ("undetermined", None, 2)
    negative = claim_constant_ratio(metrics_table(8, line_search_ratio=[-1.0] * 8))
    assert (negative.verdict, negative.value) == ("fails", math.inf)


def test_c5_joins_the_trace_by_step():
    trace = rows_of("trace", 8, step=[0, 1, 2, 3, 4, 5, 6, 7], gradient_norm=[1.0, 9, 2, 9, 3, 9, 4, 9])
    metrics = rows_of(
        "line_metrics",
        5,
        step=[6, 4, 2, 0, 8],
        minimum_position_vertex=[0.4, 0.3, 0.2, None, 0.7],
    )
    claim = claim_step_follows_gradient(metrics, trace)
    assert (claim.value, claim.lines, claim.verdict) == (pytest.approx(1.0), 3, "holds")
    broken = metrics.set_column(
        metrics.schema.get_field_index("status"),
        SCHEMAS["line_metrics"].field("status"),
        pa.array(["non_finite", "edge", "ok", "ok", "ok"]),
    )
    assert claim_step_follows_gradient(broken, trace).verdict == "undetermined"
    constant = metrics_table(4, minimum_position_vertex=[0.1] * 4)
    assert claim_step_follows_gradient(constant, trace).value is None


def test_c6_compares_the_ends_of_the_run():
    distances = [1.0] * 50 + [0.3] * 25 + [0.1] * 24 + [None]
    claim = claim_shapes_settle(metrics_table(100, consecutive_distance=distances))
    assert (claim.value, claim.verdict, claim.lines) == (pytest.approx(0.1), "holds", 74)
    grown = claim_shapes_settle(metrics_table(100, consecutive_distance=[0.1] * 75 + [1.0] * 24 + [None]))
    assert (grown.value, grown.verdict) == (pytest.approx(10.0), "fails")
    assert claim_shapes_settle(metrics_table(65, consecutive_distance=[1.0] * 65)).verdict == "undetermined"
    assert claim_shapes_settle(metrics_table(66, consecutive_distance=[1.0] * 66)).verdict == "fails"
    assert claim_shapes_settle(metrics_table(100, consecutive_distance=[0.0] * 100)).verdict == "undetermined"


def test_infinity_is_a_value_and_nan_is_none():
    assert judge("C2", math.inf, threshold=2, relation="<=", lines=1).verdict == "fails"
    assert judge("C2", math.nan, threshold=2, relation="<=", lines=1).verdict == "undetermined"


def write_run(folder, *, model="mlp", seed=1, lines=80, diverged=False, facts=None):
    """Write the four tables of a run whose curves are parabolas that settle, with minima at 0.05*||g||."""
    updates = 3 * max(lines, 1)
    draw = np.random.default_rng(seed)
    norms = draw.uniform(0.5, 2.0, updates) * 0.98 ** np.arange(updates)
    losses = np.linspace(2, 0.1, updates)
    status = ["ok"] * updates
    if diverged:
        losses[-1], status[-1] = np.nan, "non_finite"
    facts = (
        {"batch_norm": "train", "samples": 1024, "dataset": "digits", "replay_drift": 0.0} if facts is None else facts
    )
    functions = [
        lambda s, m=0.05 * norms[3 * index], a=2 + 2 * (-1) ** index * 0.9**index: 0.1 + a * (s - m) ** 2
        for index in range(lines)
    ]
    folder.mkdir(parents=True)
    trace = {field.name: [0.0] * updates for field in SCHEMAS["trace"] if field.type == pa.float64()}
    trace |= {"step": list(range(updates)), "batch_loss": losses, "gradient_norm": norms, "status": status}
    write_table(folder / "trace.arrow", "trace", trace, provenance=facts)
    line = write_line_table(
        folder / "line.arrow",
        functions,
        steps=list(range(0, 3 * lines, 3)),
        direction_norm=norms[::3][:lines],
        direction_batch_slope=-norms[::3][:lines],
        provenance=facts,
    )
    fit_lines(line, folder / "fits.arrow", window=0.2, resolution=0.006, degrees=[1, 2], provenance={})
    measure_lines(line, folder / "metrics.arrow", window=0.2, resolution=0.006, provenance={})
    return RunTables(
        experiment="digits",
        model=model,
        lr=0.1,
        batch_size=64,
        seed=seed,
        trace=folder / "trace.arrow",
        line=folder / "line.arrow",
        line_fits=folder / "fits.arrow",
        line_metrics=folder / "metrics.arrow",
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    return [
        write_run(root / "b", seed=2),
        write_run(root / "a", seed=1),
        write_run(root / "c", model="wild|net", seed=1, lines=0, diverged=True),
        write_run(root / "d", model="wild|net", seed=2, lines=10, diverged=True, facts={}),
    ]


def aggregate(folder, runs):
    aggregate_claims(runs, claims_output=folder / "claims.csv", summary_output=folder / "summary.md")
    return pd.read_csv(folder / "claims.csv"), (folder / "summary.md").read_text()


def test_claims_table_has_a_row_per_run_and_claim(tmp_path, runs):
    claims, _ = aggregate(tmp_path, runs)
    assert tuple(claims.columns) == CLAIM_COLUMNS
    assert claims["claim"].tolist() == ["C1", "C2", "C5", "C6"] * 4
    assert claims[["model", "seed"]].drop_duplicates().values.tolist() == [
        ["mlp", 1],
        ["mlp", 2],
        ["wild|net", 1],
        ["wild|net", 2],
    ]
    good = claims[claims["model"] == "mlp"]
    assert good["verdict"].eq("holds").all()
    np.testing.assert_allclose(good.loc[good["claim"] == "C2", "value"], 1.0, atol=1e-6)
    np.testing.assert_allclose(good.loc[good["claim"] == "C5", "value"], 1.0, atol=1e-6)
    wild = claims[claims["model"] == "wild|net"]
    assert wild["verdict"].eq("undetermined").all()
    assert wild.loc[wild["seed"] == 1, "value"].isna().all()


def test_summary_lists_and_counts_every_run(tmp_path, runs):
    _, page = aggregate(tmp_path, runs)
    assert "4 runs in 1 experiment; 2 diverged." in page
    assert "Measured on data set digits, N = 1024, BatchNorm mode train." in page
    assert "| mlp | 0.1 | 64 | 1 | 240 | 0.1" in page
    assert r"| wild\|net | 0.1 | 64 | 1 | 3 | - | - | 2 | 0 | 0 | - |" in page
    assert "| mlp | 0.1 | 64 | 2 | 0 | " in page  # two seeds, none diverged
    assert "2 of 2 (median 1)" in page
    assert "C1 (the full-batch loss along update directions is close to a parabola) holds in 2 of 4 runs" in page
    assert "2 runs of 4 diverged: wild|net lr 0.1 batch size 64 seed 1 (step 2)" in page
    assert "nan" not in page
    assert "None" not in page
    tables = [line for line in page.splitlines() if line.startswith("|")]
    assert all(line.endswith("|") for line in tables)


def test_summary_rows_have_as_many_cells_as_their_header(tmp_path, runs):
    _, page = aggregate(tmp_path, runs)
    width = None
    for line in page.splitlines():
        if not line.startswith("|"):
            width = None
            continue
        cells = line.replace(r"\|", "").count("|")
        width = width or cells
        assert cells == width


def test_order_of_the_runs_changes_nothing(tmp_path, runs):
    aggregate(tmp_path / "a", runs)
    aggregate(tmp_path / "b", runs[::-1])
    for name in ("claims.csv", "summary.md"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_replay_drift_is_in_the_summary(tmp_path):
    run = write_run(tmp_path / "run", lines=4, facts={"replay_drift": 3e-7})
    _, page = aggregate(tmp_path, [run])
    assert "3e-07 |" in page
    assert "1 run in 1 experiment; 0 diverged." in page


def test_a_run_that_ends_at_a_useless_finite_loss_is_diverged(tmp_path):
    run = write_run(tmp_path / "run")
    trace = read_table(run.trace, "trace").to_pydict()
    trace["batch_loss"][5] = 1e3  # a spike that the run recovers from
    write_table(run.trace, "trace", trace, provenance={})
    _, page = aggregate(tmp_path, [run])
    assert "; 0 diverged." in page
    trace["batch_loss"][200:] = [400.0] * 40
    write_table(run.trace, "trace", trace, provenance={})
    claims, page = aggregate(tmp_path, [run])
    assert "; 1 diverged." in page
    assert claims["verdict"].eq("undetermined").all()


def test_unresolved_lines_are_counted_and_left_out(tmp_path):
    run = write_run(tmp_path / "run")
    line = read_table(run.line, "line").to_pydict()
    line["status"][:30] = ["unresolved"] * 30
    write_table(run.line, "line", line, provenance={})
    fit_lines(run.line, run.line_fits, window=0.2, resolution=0.006, degrees=[1, 2], provenance={})
    measure_lines(run.line, run.line_metrics, window=0.2, resolution=0.006, provenance={})
    claims, page = aggregate(tmp_path, [run])
    assert "| no | 80 | 30 |" in page
    lines = dict(zip(claims["claim"], claims["lines"], strict=True))
    assert (lines["C1"], lines["C2"], lines["C5"]) == (50, 30, 50)


def test_no_runs_give_an_empty_summary(tmp_path):
    claims, page = aggregate(tmp_path, [])
    assert claims.empty
    assert tuple(claims.columns) == CLAIM_COLUMNS
    assert "0 runs in 0 experiments; 0 diverged." in page


def test_a_missing_table_is_named(tmp_path, runs):
    runs[0].line_fits.rename(tmp_path / "moved")
    try:
        with pytest.raises(SgdlineError, match=r"fits\.arrow must exist.*fit_lines"):
            aggregate(tmp_path, runs)
    finally:
        (tmp_path / "moved").rename(runs[0].line_fits)
    assert not (tmp_path / "claims.csv").exists()
