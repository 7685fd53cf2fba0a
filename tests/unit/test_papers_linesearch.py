"""Claims of linesearch and its page: verdicts at their thresholds, runs that diverged, pages that do not change."""

import json
import math

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from judged_runs import a_run, claim_of, judged_files, of_columns
from line_tables import write_line_table

from sgdline.analysis.fits import fit_lines
from sgdline.analysis.metrics import measure_lines
from sgdline.analysis.strategies import measure_strategies
from sgdline.claims.base import Value
from sgdline.claims.judging.pages import CLAIM_COLUMNS, POOLED_COLUMNS, join_claims, join_pages
from sgdline.claims.judging.verdicts import judge, pool
from sgdline.errors import SgdlineError
from sgdline.papers import claimed
from sgdline.tables import kind_of, read_table, write_table

CLAIMS = {claim.name: claim for claim in claimed.judged("linesearch").claims}


def claimed(name, value, observations):
    return judge(CLAIMS[name], Value(value, observations, "no number"), paper="linesearch")


def read_off(name, **tables):
    """Return a claim of a run that has these tables."""
    return claim_of("linesearch", name, a_run(tables))


def fits_table(straight, parabola):
    count = len(straight)
    return of_columns(
        "line_fits",
        2 * count,
        step=list(range(count)) * 2,
        degree=[1] * count + [2] * count,
        mae=[*straight, *parabola],
    )


def metrics_table(count, **columns):
    return of_columns("line_metrics", count, step=list(range(count)), **columns)


def test_c1_takes_lines_with_both_fits():
    claim = read_off("C1", line_fits=fits_table([1.0, 1.0, 0.0, None, 2.0], [0.1, 0.3, 0.1, 0.1, 0.2]))
    assert (claim.value, claim.observations, claim.verdict) == (pytest.approx(0.1), 3, "holds")
    claim = read_off("C1", line_fits=fits_table([1.0], [0.2]))
    assert (claim.value, claim.relation, claim.threshold, claim.verdict) == (0.2, "<", "0.2", "fails")
    assert read_off("C1", line_fits=fits_table([], [])).reason == "no line has fits of degrees 1 and 2"
    only_straight = of_columns("line_fits", 1, step=[0], degree=[1], mae=[1.0])
    assert read_off("C1", line_fits=only_straight).value is None


def test_c2_looks_at_the_middle_half():
    ratios = [9.0, 9.0, 0.05, 0.05, 0.05, 0.05, -9.0, None]
    claim = read_off("C2", line_metrics=metrics_table(8, line_search_ratio=ratios))
    assert (claim.value, claim.verdict, claim.observations) == (1.0, "holds", 4)
    wide = read_off("C2", line_metrics=metrics_table(8, line_search_ratio=[1.0, 1.0, 0.01, 0.01, 1.0, 1.0, 1.0, 1.0]))
    assert (wide.verdict, wide.value) == ("fails", pytest.approx(0.505 / 0.01))
    few = read_off("C2", line_metrics=metrics_table(4, line_search_ratio=[1.0] * 4))
    assert (few.verdict, few.value, few.observations) == ("undetermined", None, 2)
    assert few.reason == "4 ratios needed in the middle half of the lines, 2 measured"
    negative = read_off("C2", line_metrics=metrics_table(8, line_search_ratio=[-1.0] * 8))
    assert (negative.verdict, negative.value) == ("fails", math.inf)


def test_c5_joins_the_trace_by_step():
    trace = of_columns("trace", 8, step=[0, 1, 2, 3, 4, 5, 6, 7], gradient_norm=[1.0, 9, 2, 9, 3, 9, 4, 9])
    metrics = of_columns(
        "line_metrics",
        5,
        step=[6, 4, 2, 0, 8],
        minimum_position_vertex=[0.4, 0.3, 0.2, None, 0.7],
    )
    claim = read_off("C5", line_metrics=metrics, trace=trace)
    assert (claim.value, claim.observations, claim.verdict) == (pytest.approx(1.0), 3, "holds")
    broken = metrics.set_column(
        metrics.schema.get_field_index("status"),
        kind_of("line_metrics").schema.field("status"),
        pa.array(["non_finite", "edge", "ok", "ok", "ok"]),
    )
    assert read_off("C5", line_metrics=broken, trace=trace).reason == (
        "3 lines with a minimum and a gradient norm needed, 2 measured"
    )
    constant = metrics_table(4, minimum_position_vertex=[0.1] * 4)
    assert read_off("C5", line_metrics=constant, trace=trace).reason == "minima or gradient norms are all equal"


def test_c6_compares_the_ends_of_the_run():
    distances = [1.0] * 50 + [0.3] * 25 + [0.1] * 24 + [None]
    wild = [5.0 if place in (10, 11) else value for place, value in enumerate(distances)]
    status = ["unresolved" if place == 11 else "ok" for place in range(100)]
    table = metrics_table(100, consecutive_distance=wild)
    table = table.set_column(table.schema.get_field_index("status"), table.schema.field("status"), pa.array(status))
    claim = read_off("C6", line_metrics=table)
    # Both pairs of the unresolved line are left out.
    assert (claim.value, claim.observations) == (pytest.approx(0.1), 72)
    claim = read_off("C6", line_metrics=metrics_table(100, consecutive_distance=distances))
    assert (claim.value, claim.verdict, claim.observations) == (pytest.approx(0.1), "holds", 74)
    grown = read_off("C6", line_metrics=metrics_table(100, consecutive_distance=[0.1] * 75 + [1.0] * 24 + [None]))
    assert (grown.value, grown.verdict) == (pytest.approx(10.0), "fails")
    assert read_off("C6", line_metrics=metrics_table(65, consecutive_distance=[1.0] * 65)).reason == (
        "66 lines needed, 65 measured"
    )
    assert read_off("C6", line_metrics=metrics_table(66, consecutive_distance=[1.0] * 66)).verdict == "fails"
    assert read_off("C6", line_metrics=metrics_table(100, consecutive_distance=[0.0] * 100)).reason == (
        "the first lines are all alike"
    )
    assert read_off("C6", line_metrics=metrics_table(100)).reason == (
        "no two consecutive lines are resolved at the start or at the end"
    )


def test_infinity_is_a_value_and_nan_is_none():
    assert claimed("C2", math.inf, 1).verdict == "fails"
    assert claimed("C2", math.nan, 1).verdict == "undetermined"


NAMES = ["C1", "C2", "C3", "C3-PAL", "C4", "C5", "C6"]


def strategies_table(gains, rates=("sgd_original", "sgd_auto")):
    """Return a table from strategy -> improvement on every line."""
    count = len(next(iter(gains.values())))
    table = of_columns(
        "line_strategies",
        count * len(gains),
        step=[step for step in range(count) for _ in gains],
        strategy=list(gains) * count,
        improvement=[own[step] for step in range(count) for own in gains.values()],
    )
    facts = {"kind": "line_strategies", "sgd_lr": {name: 0.1 if name in rates else None for name in gains}}
    return table.replace_schema_metadata({"sgdline": json.dumps(facts).encode()})


ORDER = {"optimum": 2.0, "direction_batch_minimum": 0.4, "sgd_original": 0.2, "sgd_auto": 1.6, "pal": 1.2, "fbpal": 1.8}


def order_in(strategies):
    """Return C3 and C3-PAL."""
    return tuple(read_off(name, line_strategies=strategies) for name in ("C3", "C3-PAL"))


def order_of(**changes):
    return order_in(strategies_table({name: [gain] * 3 for name, gain in (ORDER | changes).items()}))


def test_c3_is_the_gap_above_the_direction_batch():
    claim, pal = order_of()
    assert (claim.value, claim.verdict, claim.observations) == (pytest.approx((1.6 - 0.4) / 2), "holds", 3)
    assert (pal.value, pal.verdict) == (pytest.approx((1.6 - 1.2) / 2), "holds")
    claim, pal = order_of(direction_batch_minimum=1.7)  # above the best learning rate, below FBPAL
    assert (claim.value, claim.verdict) == (pytest.approx(-0.05), "fails")
    assert pal.value == pytest.approx((1.2 - 1.7) / 2)
    claim, pal = order_of(pal=-0.5)
    assert (claim.verdict, pal.verdict, pal.value) == ("holds", "fails", pytest.approx(-0.45))
    claim, _ = order_of(sgd_original=1.75, sgd_auto=0.1)  # the best rate may be the run's own
    assert claim.value == pytest.approx((1.75 - 0.4) / 2)
    gains = {name: [gain] * 3 for name, gain in (ORDER | {"sgd_original": 1.9}).items()}
    claim, _ = order_in(strategies_table(gains, ["sgd_auto"]))  # the executed step is no fixed rate
    assert claim.value == pytest.approx((1.6 - 0.4) / 2)


def test_c3_takes_the_lines_that_all_strategies_share():
    gains = {name: [gain] * 19 + [0.1] for name, gain in ORDER.items()}
    gains["sgd_auto"][3] = None
    gains["pal"][3] = gains["pal"][4] = None
    claim, pal = order_in(strategies_table(gains))
    assert (claim.value, claim.observations) == (pytest.approx(18 * 1.2 / (18 * 2 + 0.1)), 19)
    assert (pal.value, pal.observations) == (pytest.approx(17 * 0.4 / (17 * 2 + 0.1)), 18)
    gains["pal"][5] = None  # what PAL lacks does not touch C3, but 17 of 20 lines are too few for its own place
    claim, pal = order_in(strategies_table(gains))
    assert (claim.observations, pal.verdict, pal.observations) == (19, "undetermined", 0)
    assert (claim.reason, pal.reason) == ("", "strategies share fewer than 90% of the lines")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"optimum": 0.0}, "the optimum gains nothing"),
        ({"optimum": -1.0}, "the optimum gains nothing"),
        ({"optimum": None}, "strategies share fewer than 90% of the lines"),
        ({"fbpal": None}, "strategies share fewer than 90% of the lines"),
    ],
)
def test_c3_is_undetermined_without_numbers(change, reason):
    for claim in order_of(**change):
        assert (claim.verdict, claim.value, claim.reason) == ("undetermined", None, reason)
    for claim in order_in(strategies_table({"optimum": [1.0], "pal": [1.0], "fbpal": [1.0]})):
        assert (claim.reason, claim.observations) == ("no fixed learning rate is compared", 0)


def batch_sizes_table(exponents, *, sizes=(32, 64, 128, 256, 512), draws=2, own=64, samples=1024):
    """Return a table in which |D_B| of line t is B ** exponents[t] from the run's own size on."""
    rows = [(step, size, draw) for step in range(len(exponents)) for size in sizes for draw in range(draws)]
    whole = [(step, samples, 0) for step in range(len(exponents))]
    selection = ["random"] * len(rows) + ["all"] * len(whole)
    rows += whole
    table = of_columns(
        "line_batch_sizes",
        len(rows),
        step=[step for step, _, _ in rows],
        selection=selection,
        batch_size=[size for _, size, _ in rows],
        draw=[draw for _, _, draw in rows],
        # Two draws around the law, whose mean it is; below the run's own size there is no law.
        slope=[
            -(float(size) ** exponents[step]) * (0.9, 1.1)[draw] if size >= own else -1e3 for step, size, draw in rows
        ],
    )
    facts = json.dumps({"kind": "line_batch_sizes", "batch_size": own}).encode()
    return table.replace_schema_metadata({"sgdline": facts})


def test_c4_is_the_median_exponent_from_the_own_batch_size_on():
    claim = read_off("C4", line_metrics=metrics_table(1), line_batch_sizes=batch_sizes_table([-0.7, -1.0, -0.9, -1.3]))
    assert (claim.value, claim.verdict, claim.observations) == (pytest.approx(-0.95), "holds", 4)
    assert (claim.threshold, claim.relation) == ("-1.1 to -0.8", "from")
    assert (
        read_off("C4", line_metrics=metrics_table(1), line_batch_sizes=batch_sizes_table([-0.5] * 3)).verdict == "fails"
    )
    assert (
        read_off("C4", line_metrics=metrics_table(1), line_batch_sizes=batch_sizes_table([-1.2] * 3)).verdict == "fails"
    )
    assert (
        read_off(
            "C4", line_metrics=metrics_table(1), line_batch_sizes=batch_sizes_table([-1.0], sizes=(32, 64, 128))
        ).verdict
        == "undetermined"
    )
    whole = read_off(
        "C4",
        line_metrics=metrics_table(1),
        line_batch_sizes=batch_sizes_table([-1.0], sizes=(64, 128, 256), samples=256),
    )
    # A batch of all samples is none.
    assert whole.reason == "3 batch sizes needed from the run's own upwards, 2 measured"
    flat = batch_sizes_table([-1.0])
    flat = flat.set_column(flat.schema.get_field_index("slope"), "slope", pa.array([0.0] * flat.num_rows))
    found = read_off("C4", line_metrics=metrics_table(1), line_batch_sizes=flat)
    assert found.reason == "no line has a power law"
    assert read_off("C4", line_metrics=metrics_table(1)).reason == "losses of samples were not kept"


def test_seeds_are_pooled_by_their_median_and_their_verdicts():
    found = [claimed("C1", value, 10) for value in (0.1, 0.15, 0.5, math.nan)]
    pooled = pool(found)
    assert (pooled.value, pooled.lowest, pooled.highest) == (0.15, 0.1, 0.5)
    assert (pooled.holds, pooled.fails, pooled.undetermined, pooled.seeds, pooled.observations) == (2, 1, 1, 4, 40)
    assert (pooled.verdict, pooled.reason) == ("mixed", "no number")
    assert pool([*found, found[-1]]).reason == "no number (2)"
    assert pool(found[:2]).verdict == "holds"
    assert pool(found[2:]).verdict == "fails"
    nothing = pool(found[3:])
    assert (nothing.verdict, nothing.value, nothing.lowest) == ("undetermined", None, None)


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
    trace = {field.name: [0.0] * updates for field in kind_of("trace").schema if field.type == pa.float64()}
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
    measure_strategies(
        line,
        folder / "metrics.arrow",
        folder / "strategies.arrow",
        interval=0.5,
        resolution=0.006,
        sgd_lr=["auto"],
        pal_measuring_step=0.1,
        fbpal_every=10,
        fbpal_average=5,
        compat=False,
        provenance={},
    )
    files = {kind: folder / f"{name}.arrow" for kind, name in FILES.items()}
    return {"experiment": "digits", "model": model, "seed": seed}, files


FILES = {
    "trace": "trace", "line": "line", "line_fits": "fits", "line_metrics": "metrics", "line_strategies": "strategies",
}  # fmt: skip


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
    claims, _, page = judged_files("linesearch", folder, runs)
    return claims, page


def test_claims_table_has_a_row_per_run_and_claim(tmp_path, runs):
    claims, _ = aggregate(tmp_path, runs)
    assert tuple(claims.columns) == CLAIM_COLUMNS
    assert claims["claim"].tolist() == NAMES * 4
    assert claims[["model", "seed"]].drop_duplicates().values.tolist() == [
        ["mlp", 1],
        ["mlp", 2],
        ["wild|net", 1],
        ["wild|net", 2],
    ]
    good = claims[claims["model"] == "mlp"]
    judged = good[~good["claim"].isin(["C3", "C3-PAL", "C4"])]
    assert judged["verdict"].eq("holds").all()
    assert good.loc[good["claim"] == "C4", "verdict"].eq("undetermined").all()  # no losses of samples
    assert good.loc[good["claim"] == "C3", "observations"].eq(80).all()
    np.testing.assert_allclose(good.loc[good["claim"] == "C2", "value"], 1.0, atol=1e-6)
    np.testing.assert_allclose(good.loc[good["claim"] == "C5", "value"], 1.0, atol=1e-6)
    wild = claims[claims["model"] == "wild|net"]
    assert wild["verdict"].eq("undetermined").all()
    assert wild["reason"].eq("the run diverged").all()
    assert judged["reason"].isna().all()
    assert wild.loc[wild["seed"] == 1, "value"].isna().all()


def test_pooled_table_has_a_row_per_setting_and_claim(tmp_path, runs):
    claims, _ = aggregate(tmp_path, runs)
    pooled = pd.read_csv(tmp_path / "pooled.csv")
    assert tuple(pooled.columns) == POOLED_COLUMNS
    assert pooled["claim"].tolist() == NAMES * 2
    assert pooled["seeds"].eq(2).all()
    first = pooled[(pooled["model"] == "mlp") & (pooled["claim"] == "C1")].iloc[0]
    own = claims[(claims["model"] == "mlp") & (claims["claim"] == "C1")]
    assert (first["holds"], first["verdict"], first["observations"]) == (2, "holds", 160)
    assert (first["lowest"], first["value"], first["highest"]) == (
        own["value"].min(), pytest.approx(own["value"].mean()), own["value"].max(),
    )  # fmt: skip
    assert pooled.loc[pooled["model"] == "wild|net", "undetermined"].eq(2).all()
    assert pooled.loc[pooled["model"] == "wild|net", "reason"].eq("the run diverged (2)").all()
    published = pooled.loc[pooled["claim"] == "C3", "published"]
    # (min(FBPAL 197, SGD 194) - direction batch 109) / optimum 205
    assert published.str.startswith(f"{(194 - 109) / 205:.3g} [plot, derived] ResNet-18, CIFAR-10, lr 0.1 b").all()
    assert pooled.loc[pooled["claim"].isin(["C1", "C2", "C5", "C6"]), "published"].isna().all()


def test_summary_lists_and_counts_every_run(tmp_path, runs):
    _, page = aggregate(tmp_path, runs)
    assert "4 runs in 1 experiment; 2 diverged." in page
    assert "Measured on data set digits, N = 1024, BatchNorm mode train. Optimizer: sgd." in page
    assert "| mlp | 0.1 | 64 | 1 | 240 | 0.1" in page
    assert r"| wild\|net | 0.1 | 64 | 1 | 3 | - | - | 2 | 0 | 0 | 0 | - |" in page
    assert "| mlp | 0.1 | 64 | 2 | 0 | " in page  # two seeds, none diverged
    assert "2 of 2 (median 1)" in page
    said = "The full-batch loss along update directions is close to a parabola (C1)"
    assert f"| {said} | < 0.2 | 2 of 4 | 0 of 4 | 2 of 4 | the run diverged (2) | - |" in page
    assert page.index(said) < page.index("C1 (< 0.2)") < page.index(f"- {said}: Median MAE")
    assert "undetermined: the run diverged |" in page
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
    for name in ("claims.csv", "pooled.csv", "summary.md"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_replay_drift_is_in_the_summary(tmp_path):
    run = write_run(tmp_path / "run", lines=4, facts={"replay_drift": 3e-7})
    _, page = aggregate(tmp_path, [run])
    assert "3e-07 |" in page
    assert "1 run in 1 experiment; 0 diverged." in page


def test_a_run_that_ends_at_a_useless_finite_loss_is_diverged(tmp_path):
    run = write_run(tmp_path / "run")
    trace = read_table(run[1]["trace"], "trace").to_pydict()
    trace["batch_loss"][5] = 1e3  # a spike that the run recovers from
    write_table(run[1]["trace"], "trace", trace, provenance={})
    _, page = aggregate(tmp_path, [run])
    assert "; 0 diverged." in page
    trace["batch_loss"][200:] = [400.0] * 40
    write_table(run[1]["trace"], "trace", trace, provenance={})
    claims, page = aggregate(tmp_path, [run])
    assert "; 1 diverged." in page
    assert claims["verdict"].eq("undetermined").all()


def test_unresolved_lines_are_counted_and_left_out(tmp_path):
    run = write_run(tmp_path / "run")
    line = read_table(run[1]["line"], "line").to_pydict()
    line["status"][:30] = ["unresolved"] * 30
    write_table(run[1]["line"], "line", line, provenance={})
    fit_lines(run[1]["line"], run[1]["line_fits"], window=0.2, resolution=0.006, degrees=[1, 2], provenance={})
    measure_lines(run[1]["line"], run[1]["line_metrics"], window=0.2, resolution=0.006, provenance={})
    claims, page = aggregate(tmp_path, [run])
    assert "| no | 80 | 30 | 0 |" in page
    lines = dict(zip(claims["claim"], claims["observations"], strict=True))
    assert (lines["C1"], lines["C2"], lines["C5"]) == (50, 30, 50)


def test_no_runs_give_an_empty_summary(tmp_path):
    claims, page = aggregate(tmp_path, [])
    assert claims.empty
    assert tuple(claims.columns) == CLAIM_COLUMNS
    assert "0 runs in 0 experiments; 0 diverged." in page


def test_a_missing_table_is_named(tmp_path, runs):
    runs[0][1]["line_fits"].rename(tmp_path / "moved")
    try:
        with pytest.raises(SgdlineError, match=r"fits\.arrow must exist.*analyse_run"):
            aggregate(tmp_path, runs)
    finally:
        (tmp_path / "moved").rename(runs[0][1]["line_fits"])
    assert not (tmp_path / "claims.csv").exists()


def test_papers_are_joined_row_by_row(tmp_path, runs):
    aggregate(tmp_path / "one", runs[:2])
    aggregate(tmp_path / "none", [])
    aggregate(tmp_path / "other", runs[2:])
    parts = [tmp_path / name for name in ("one", "none", "other")]
    join_claims([part / "claims.csv" for part in parts], output=tmp_path / "claims.csv", columns=CLAIM_COLUMNS)
    joined = pd.read_csv(tmp_path / "claims.csv")
    assert tuple(joined.columns) == CLAIM_COLUMNS
    assert joined["model"].tolist() == ["mlp"] * 14 + ["wild|net"] * 14
    assert joined["batch_size"].tolist() == [64] * 28
    join_pages([part / "summary.md" for part in parts], output=tmp_path / "summary.md")
    page = (tmp_path / "summary.md").read_text()
    join_claims([], output=tmp_path / "no.csv", columns=POOLED_COLUMNS)
    assert tuple(pd.read_csv(tmp_path / "no.csv").columns) == POOLED_COLUMNS
    assert page.count("# Line search\n") == 3
    assert page.startswith("# Summary of all runs\n")
