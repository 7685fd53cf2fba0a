"""Claims of walk: verdicts at their thresholds, on tables whose numbers are known."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from sgdline.analysis.claims.judging import Claim
from sgdline.analysis.claims.walk import WalkRun, interval_claims, judged_walks
from sgdline.analysis.claims.walk_page import WalkTables, judge_walks
from sgdline.errors import SgdlineError
from sgdline.tables import kind_of, write_table


def filled(kind: str, count: int, **columns: Sequence[Any]) -> pa.Table:
    """Return a table whose other columns are null or, where that is not allowed, zero."""
    zero = {pa.string(): "ok", pa.list_(pa.float64()): []}
    content = {
        field.name: columns.get(field.name, [None if field.nullable else zero.get(field.type, 0)] * count)
        for field in kind_of(kind).schema
    }
    return pa.table(content, schema=kind_of(kind).schema)


def trace(
    *, cosines: Sequence[float | None] = (None, 0.5, 0.5), distance: float = 1.0, loss: float = 1.0, updates: int = 20
) -> pa.Table:
    cosines = [*cosines, *[cosines[-1]] * (updates - len(cosines))]
    losses = [2.0] * (updates - updates // 10) + [loss] * (updates // 10)
    return filled(
        "trace",
        updates,
        step=list(range(updates)),
        lr=[0.1] * updates,
        batch_loss=losses,
        gradient_cosine=cosines,
        distance_from_start=[distance * step / (updates - 1) for step in range(updates)],
        parameter_norm=[5.0] * updates,
    )


def intervals(interior: Sequence[bool], barrier: Sequence[bool], status: Sequence[str] | None = None) -> pa.Table:
    count = len(interior)
    return filled(
        "intervals",
        count,
        step=list(range(count)),
        interior_minimum=list(interior),
        barrier=list(barrier),
        status=["ok"] * count if status is None else list(status),
    )


def epochs(**heights: float | None) -> pa.Table:
    """Mean heights by epoch: epochs(e1=0.3, e5=0.2)."""
    numbers = [int(name[1:]) for name in heights]
    return filled("interval_epochs", len(heights), epoch=numbers, height_mean=list(heights.values()))


def run(**changes: Any) -> WalkRun:
    facts: dict[str, Any] = {
        "experiment": "walk",
        "model": "mlp",
        "lr": 0.1,
        "batch_size": 50,
        "seed": 1,
        "optimizer": {"name": "sgd", "momentum": 0.0, "noise": {"factor": 0.0}},
        "whole_batches": False,
        "trace": trace(),
    }
    return WalkRun(**{**facts, **changes})


def claims_of(runs: Sequence[WalkRun]) -> dict[str, Claim]:
    return {claim.claim: claim for entry in judged_walks(runs) for claim in entry.claims}


def test_w1_and_w2_are_shares_of_resolved_intervals() -> None:
    interior = [True] * 10 + [True] * 6 + [False] * 4  # the first ten updates are left out
    barrier = [False] * 19 + [True]
    w1, w2 = interval_claims(run(intervals=intervals(interior, barrier)))
    assert (w1.claim, w1.value, w1.observations, w1.verdict) == ("W1", 0.6, 10, "holds")
    assert (w2.claim, w2.value, w2.observations, w2.verdict) == ("W2", 0.05, 20, "holds")
    half = interval_claims(run(intervals=intervals([True] * 15 + [False] * 5, [False] * 20)))[0]
    assert (half.value, half.verdict) == (0.5, "fails")
    status = ["ok"] * 10 + ["ok"] * 5 + ["non_finite"] * 5
    w1, w2 = interval_claims(run(intervals=intervals(interior, barrier, status)))
    assert (w1.value, w1.observations, w2.value, w2.observations) == (1.0, 5, 0.0, 15)
    w1, w2 = interval_claims(run(intervals=intervals([True] * 10, [False] * 10)))
    assert (w1.verdict, w1.value, w2.verdict) == ("undetermined", None, "holds")
    assert interval_claims(run()) == ()


def test_a_diverged_run_decides_nothing() -> None:
    broken = filled("trace", 2, step=[0, 1], batch_loss=[1.0, math.nan], status=["ok", "non_finite"])
    w1, w2 = interval_claims(run(trace=broken, intervals=intervals([True] * 20, [False] * 20)))
    assert (w1.verdict, w1.value, w2.verdict) == ("undetermined", 1.0, "undetermined")


@pytest.mark.parametrize(
    ("cosines", "value", "verdict"),
    [
        ([0.1, 0.0, -0.3, -0.9], -1.0, "holds"),
        ([0.0, 0.1, -0.3, -0.9], -0.8, "holds"),  # one exchange of neighbours
        ([0.0, 0.1, -0.9, -0.3], -0.6, "fails"),
        ([-0.9, -0.3, 0.0, 0.1], 1.0, "fails"),
    ],
)
def test_w3_and_w4_rank_batch_sizes(cosines: list[float], value: float, verdict: str) -> None:
    sizes = [10, 50, 250, 1000]
    runs = [
        run(batch_size=size, trace=trace(cosines=[None, cosine], distance=2 + cosine))
        for size, cosine in zip(sizes, cosines, strict=True)
    ]
    found = claims_of(runs[::-1])
    assert (found["W3"].value, found["W3"].verdict) == (pytest.approx(value), verdict)
    assert (found["W4"].value, found["W4"].verdict, found["W4"].observations) == (pytest.approx(value), verdict, 4)
    [entry] = judged_walks(runs)
    assert (entry.batch_size, entry.lr) == (None, 0.1)


def test_batches_are_compared_after_the_same_number_of_updates() -> None:
    # After 10 updates the large batch is nearer; at the end of its longer run it is farther away.
    small = run(batch_size=10, trace=trace(distance=1.0, updates=10))
    large = run(batch_size=100, trace=trace(distance=1.5, updates=20))
    assert claims_of([small, large])["W4"].value == pytest.approx(-1.0)
    assert claims_of([small, run(batch_size=100, trace=trace(distance=1.5, updates=10))])["W4"].value == 1.0


def test_runs_of_another_rate_seed_or_experiment_are_not_compared() -> None:
    others = [{"lr": 0.2}, {"seed": 2}, {"experiment": "other"}, {"model": "vgg"}, {"continued": True}]
    for change in others:
        assert judged_walks([run(batch_size=10), run(batch_size=100, **change)]) == []


def test_diverged_batches_do_not_count() -> None:
    broken = filled("trace", 2, step=[0, 1], batch_loss=[1.0, math.nan], status=["ok", "non_finite"])
    runs = [run(batch_size=size, trace=trace(cosines=[None, -size / 100])) for size in (10, 20)]
    found = claims_of([*runs, run(batch_size=1, trace=broken)])
    assert (found["W3"].value, found["W3"].observations) == (pytest.approx(-1.0), 2)
    alone = claims_of([runs[0], run(batch_size=1, trace=broken)])
    assert (alone["W3"].verdict, alone["W3"].observations) == ("undetermined", 1)


def test_w5_takes_the_median_over_shared_epochs() -> None:
    low = run(lr=0.05, interval_epochs=epochs(e1=0.1, e2=0.2, e3=0.3, e9=9.0))
    high = run(lr=0.1, interval_epochs=epochs(e1=0.4, e2=0.1, e3=0.5))
    [entry] = judged_walks([high, low])
    [claim] = entry.claims
    assert (entry.lr, claim.claim, claim.value, claim.verdict) == (None, "W5", 1.0, "holds")
    falling = claims_of([low, run(lr=0.1, interval_epochs=epochs(e1=0.05, e2=0.1, e3=0.5))])["W5"]
    assert (falling.value, falling.verdict) == (-1.0, "fails")
    apart = claims_of([low, run(lr=0.1, interval_epochs=epochs(e4=0.5, e1=None))])["W5"]
    assert apart.verdict == "undetermined"


def noisy(factor: float, **changes: Any) -> WalkRun:
    optimizer = {"name": "sgd", "momentum": 0.0, "noise": {"factor": factor}}
    return run(experiment=f"noise_{factor}", batch_size=1000, whole_batches=True, optimizer=optimizer, **changes)


def test_w6_compares_noise_with_gradient_descent() -> None:
    plain = noisy(0.0, trace=trace(loss=0.1, distance=1.0))
    found = claims_of([plain, noisy(0.01, trace=trace(loss=0.3, distance=5.0)), noisy(0.001, trace=trace(loss=0.2))])
    assert (found["W6-loss"].value, found["W6-loss"].verdict) == (pytest.approx(2.0), "holds")
    assert found["W6-distance"].value == pytest.approx(1.0)
    assert found["W6-distance"].verdict == "fails"
    assert found["W6-loss"].observations == 3
    broken = filled("trace", 2, step=[0, 1], batch_loss=[1.0, math.nan], status=["ok", "non_finite"])
    assert claims_of([plain, noisy(0.01, trace=broken)])["W6-loss"].value == math.inf
    assert claims_of([noisy(0.0, trace=broken), noisy(0.01)])["W6-loss"].verdict == "undetermined"
    assert judged_walks([plain, noisy(0.01, seed=2)]) == []
    assert judged_walks([noisy(0.0, continued=True), noisy(0.01)]) == []
    assert judged_walks([plain, noisy(0.01, lr_unit="sharpness")]) == []  # the same number, another rate
    both = [noisy(factor, lr_unit="sharpness") for factor in (0.0, 0.01)]
    assert [len(judged.claims) for judged in judged_walks(both)] == [2]
    assert judged_walks([noisy(0.01)]) == []


@pytest.fixture
def files(tmp_path: Path) -> list[WalkTables]:
    """Two batch sizes with two seeds each, one of them with intervals."""
    tables = []
    for size in (10, 100):
        for seed in (1, 2):
            folder = tmp_path / f"{size}_{seed}"
            folder.mkdir()
            write_table(folder / "trace.arrow", "trace", trace(cosines=[None, -size / 200]), provenance={})
            extra = {}
            if size == 10:
                measured = intervals([True] * 20, [False] * 20)
                write_table(folder / "intervals.arrow", "intervals", measured, provenance={})
                write_table(folder / "epochs.arrow", "interval_epochs", epochs(e1=0.25, e2=None), provenance={})
                extra = {"intervals": folder / "intervals.arrow", "interval_epochs": folder / "epochs.arrow"}
            tables.append(
                WalkTables(
                    experiment="walk",
                    model="mlp",
                    lr=0.1,
                    batch_size=size,
                    seed=seed,
                    optimizer={"name": "sgd"},
                    whole_batches=False,
                    continued=False,
                    trace=folder / "trace.arrow",
                    **extra,
                )
            )
    return tables


def judged_files(folder: Path, runs: Sequence[WalkTables]) -> tuple[pd.DataFrame, pd.DataFrame, str]:
    outputs = {name: folder / name for name in ("claims.csv", "pooled.csv", "summary.md")}
    judge_walks(
        runs,
        claims_output=outputs["claims.csv"],
        pooled_output=outputs["pooled.csv"],
        summary_output=outputs["summary.md"],
    )
    return pd.read_csv(outputs["claims.csv"]), pd.read_csv(outputs["pooled.csv"]), outputs["summary.md"].read_text()


def test_tables_and_page(tmp_path: Path, files: list[WalkTables]) -> None:
    claims, pooled, page = judged_files(tmp_path / "a", files)
    assert claims["claim"].tolist() == ["W1", "W2"] * 2 + ["W3", "W4"] * 2
    assert claims["batch_size"].tolist()[:4] == [10.0] * 4
    assert claims["batch_size"].isna().tolist() == [False] * 4 + [True] * 4
    assert ",mlp,0.1,10,1,walk,W1," in (tmp_path / "a" / "claims.csv").read_text()
    assert pooled[["claim", "holds", "seeds"]].values.tolist() == [
        ["W1", 2, 2],
        ["W2", 2, 2],
        ["W3", 2, 2],
        ["W4", 0, 2],
    ]
    assert "4 runs in 1 experiment; 0 diverged." in page
    assert "| mlp | 0.1 | 10 | 1 | 1 | 0 | - | 0 | - | 0.25 |" in page
    assert "| mlp | 0.1 | all | 1 | holds (-1) |" in page
    assert "- W3 (the cosine of consecutive gradients falls with the batch size) holds in 2 of 2 runs" in page
    assert "nan" not in page
    assert "None" not in page
    assert "multiples of 1 over" not in page
    sharp = [dataclasses.replace(run, lr_unit="sharpness") for run in files]
    said = "Learning rates are multiples of 1 over the Hessian's largest eigenvalue where a run starts."
    assert judged_files(tmp_path / "sharp", sharp)[2] == page.replace("## walk\n", f"## walk\n\n{said}\n", 1)
    other = judged_files(tmp_path / "b", files[::-1])
    assert other[2] == page
    for name in ("claims.csv", "pooled.csv"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_many_epochs_are_thinned_on_the_page(tmp_path: Path, files: list[WalkTables]) -> None:
    measured = files[0].interval_epochs
    assert measured is not None
    write_table(measured, "interval_epochs", epochs(**{f"e{epoch}": 0.5 for epoch in range(1, 51)}), provenance={})
    _, _, page = judged_files(tmp_path / "a", files)
    rows = [line for line in page.splitlines() if line.startswith("| mlp | 0.1 | 10 | 1 | ") and "| 0.5 |" in line]
    assert [line.split(" | ")[4] for line in rows] == ["1", "8", "15", "22", "29", "36", "43", "50"]


def test_no_runs_and_missing_tables(tmp_path: Path, files: list[WalkTables]) -> None:
    claims, pooled, page = judged_files(tmp_path, [])
    assert claims.empty
    assert pooled.empty
    assert "0 runs in 0 experiments" in page
    files[0].trace.unlink()
    with pytest.raises(SgdlineError, match=r"trace\.arrow must exist.*train_run"):
        judged_files(tmp_path, files)
