"""Claims of walk: verdicts at their thresholds, on tables whose numbers are known."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from judged_runs import a_run, by_name, judged, judged_files, lost_trace, of_columns

from sgdline.claims.judging.measured import MeasuredRun
from sgdline.claims.judging.verdicts import JudgedClaim
from sgdline.errors import SgdlineError
from sgdline.tables import write_table


def trace(
    *, cosines: Sequence[float | None] = (None, 0.5, 0.5), distance: float = 1.0, loss: float = 1.0, updates: int = 20
) -> pa.Table:
    cosines = [*cosines, *[cosines[-1]] * (updates - len(cosines))]
    losses = [2.0] * (updates - updates // 10) + [loss] * (updates // 10)
    return of_columns(
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
    return of_columns(
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
    return of_columns("interval_epochs", len(heights), epoch=numbers, height_mean=list(heights.values()))


def run(own_trace: pa.Table | None = None, **changes: Any) -> MeasuredRun:
    """Return a run; `intervals` and `interval_epochs` are tables of it, all else its settings."""
    tables = {kind: changes.pop(kind) for kind in ("intervals", "interval_epochs") if kind in changes}
    tables["trace"] = trace() if own_trace is None else own_trace
    return a_run(tables, **{"experiment": "walk", "batch_size": 50, **changes})


def claims_of(runs: Sequence[MeasuredRun]) -> dict[str, JudgedClaim]:
    return by_name(judged("walk", runs))


def of_intervals(*arguments: Any, **changes: Any) -> tuple[JudgedClaim, JudgedClaim]:
    found = claims_of([run(intervals=intervals(*arguments), **changes)])
    return found["W1"], found["W2"]


def test_w1_and_w2_are_shares_of_resolved_intervals() -> None:
    interior = [True] * 10 + [True] * 6 + [False] * 4  # the first ten updates are left out
    barrier = [False] * 19 + [True]
    w1, w2 = of_intervals(interior, barrier)
    assert (w1.claim, w1.value, w1.observations, w1.verdict) == ("W1", 0.6, 10, "holds")
    assert (w2.claim, w2.value, w2.observations, w2.verdict) == ("W2", 0.05, 20, "holds")
    half, _ = of_intervals([True] * 15 + [False] * 5, [False] * 20)
    assert (half.value, half.verdict) == (0.5, "fails")
    w1, w2 = of_intervals(interior, barrier, ["ok"] * 10 + ["ok"] * 5 + ["non_finite"] * 5)
    assert (w1.value, w1.observations, w2.value, w2.observations) == (1.0, 5, 0.0, 15)
    w1, w2 = of_intervals([True] * 10, [False] * 10)
    assert (w1.verdict, w1.value, w2.verdict) == ("undetermined", None, "holds")
    assert w1.reason == "no interval is resolved after 10 updates"
    _, w2 = of_intervals([True] * 10, [False] * 10, ["non_finite"] * 10)
    assert w2.reason == "no interval is resolved"
    assert judged("walk", [run()]) == []


def test_a_diverged_run_decides_nothing() -> None:
    w1, w2 = of_intervals([True] * 20, [False] * 20, own_trace=lost_trace())
    assert (w1.verdict, w1.value, w2.verdict) == ("undetermined", 1.0, "undetermined")
    assert w1.reason == w2.reason == "the run diverged"


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
        run(trace(cosines=[None, cosine], distance=2 + cosine), batch_size=size)
        for size, cosine in zip(sizes, cosines, strict=True)
    ]
    found = claims_of(runs[::-1])
    assert (found["W3"].value, found["W3"].verdict) == (pytest.approx(value), verdict)
    assert (found["W4"].value, found["W4"].verdict, found["W4"].observations) == (pytest.approx(value), verdict, 4)
    [entry] = judged("walk", runs)
    assert (entry.key.batch_size, entry.key.lr) == (None, 0.1)


def test_batches_are_compared_after_the_same_number_of_updates() -> None:
    # After 10 updates the large batch is nearer; at the end of its longer run it is farther away.
    small = run(trace(distance=1.0, updates=10), batch_size=10)
    large = run(trace(distance=1.5, updates=20), batch_size=100)
    assert claims_of([small, large])["W4"].value == pytest.approx(-1.0)
    assert claims_of([small, run(trace(distance=1.5, updates=10), batch_size=100)])["W4"].value == 1.0


START = {"experiment": "before", "lr": 0.1, "batch_size": None, "step": 5}


def test_runs_of_another_rate_seed_or_experiment_are_not_compared() -> None:
    others: list[dict[str, Any]] = [{"lr": 0.2}, {"seed": 2}, {"experiment": "other"}, {"model": "vgg"}]
    for change in [*others, {"start_from": START}]:
        assert judged("walk", [run(batch_size=10), run(batch_size=100, **change)]) == []


def test_diverged_batches_do_not_count() -> None:
    runs = [run(trace(cosines=[None, -size / 100]), batch_size=size) for size in (10, 20)]
    found = claims_of([*runs, run(lost_trace(), batch_size=1)])
    assert (found["W3"].value, found["W3"].observations) == (pytest.approx(-1.0), 2)
    alone = claims_of([runs[0], run(lost_trace(), batch_size=1)])["W3"]
    assert (alone.verdict, alone.observations) == ("undetermined", 1)
    assert alone.reason == "2 runs that differ in their batch size needed, 1 did not diverge"
    same = claims_of([run(batch_size=10), run(batch_size=20)])["W3"]
    assert (same.value, same.reason) == (None, "all runs have the same value")
    missing = claims_of([runs[0], run(trace(cosines=[None]), batch_size=20)])["W3"]
    assert (missing.value, missing.reason) == (None, "not every run was measured")


def test_w5_takes_the_median_over_shared_epochs() -> None:
    low = run(lr=0.05, interval_epochs=epochs(e1=0.1, e2=0.2, e3=0.3, e9=9.0))
    high = run(lr=0.1, interval_epochs=epochs(e1=0.4, e2=0.1, e3=0.5))
    [entry] = judged("walk", [high, low])
    [claim] = entry.claims
    assert (entry.key.lr, claim.claim, claim.value, claim.verdict) == (None, "W5", 1.0, "holds")
    falling = claims_of([low, run(lr=0.1, interval_epochs=epochs(e1=0.05, e2=0.1, e3=0.5))])["W5"]
    assert (falling.value, falling.verdict) == (-1.0, "fails")
    apart = claims_of([low, run(lr=0.1, interval_epochs=epochs(e4=0.5, e1=None))])["W5"]
    assert (apart.verdict, apart.reason) == ("undetermined", "no epoch has a height in every run")
    lost = run(lost_trace(), lr=0.1, interval_epochs=epochs(e1=0.5))
    reason = "2 runs that differ in their learning rate needed, {} did not diverge"
    assert claims_of([low, lost])["W5"].reason == reason.format(1)
    both = [lost, run(lost_trace(), lr=0.05, interval_epochs=epochs(e1=0.5))]
    assert claims_of(both)["W5"].reason == reason.format(0)


def noisy(factor: float, own_trace: pa.Table | None = None, **changes: Any) -> MeasuredRun:
    optimizer = {"name": "sgd", "momentum": 0.0, "noise": {"factor": factor}}
    facts = {"experiment": f"noise_{factor}", "batch_size": 1000, "whole_batches": True, "optimizer": optimizer}
    return run(own_trace, **facts, **changes)


def test_w6_compares_noise_with_gradient_descent() -> None:
    plain = noisy(0.0, trace(loss=0.1, distance=1.0))
    found = claims_of([plain, noisy(0.01, trace(loss=0.3, distance=5.0)), noisy(0.001, trace(loss=0.2))])
    assert (found["W6-loss"].value, found["W6-loss"].verdict) == (pytest.approx(2.0), "holds")
    assert found["W6-distance"].value == pytest.approx(1.0)
    assert found["W6-distance"].verdict == "fails"
    assert found["W6-loss"].observations == 3
    # Noise that makes a run diverge leaves the loss higher: the general rule does not hold here.
    assert claims_of([plain, noisy(0.01, lost_trace())])["W6-loss"].value == math.inf
    lost = claims_of([noisy(0.0, lost_trace()), noisy(0.01)])["W6-loss"]
    assert (lost.verdict, lost.reason) == ("undetermined", "the run diverged")
    still = claims_of([noisy(0.0, trace(distance=0.0)), noisy(0.01)])["W6-distance"]
    assert still.reason == "gradient descent is at 0, so that there is no ratio"
    assert judged("walk", [plain, noisy(0.01, seed=2)]) == []
    assert judged("walk", [noisy(0.0, start_from=START), noisy(0.01)]) == []
    assert judged("walk", [plain, noisy(0.01, lr_unit="sharpness")]) == []  # the same number, another rate
    both = [noisy(factor, lr_unit="sharpness") for factor in (0.0, 0.01)]
    assert [len(entry.claims) for entry in judged("walk", both)] == [2]
    assert judged("walk", [noisy(0.01)]) == []
    heavy = run(batch_size=1000, whole_batches=True, optimizer={"name": "sgd", "momentum": 0.9})
    assert judged("walk", [heavy, noisy(0.01)]) == []


Files = list[tuple[Mapping[str, Any], dict[str, Path]]]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """Two batch sizes with two seeds each, one of them with intervals."""
    runs: Files = []
    for size in (10, 100):
        for seed in (1, 2):
            paths = {"trace": tmp_path / f"{size}_{seed}_trace.arrow"}
            write_table(paths["trace"], "trace", trace(cosines=[None, -size / 200]), provenance={})
            if size == 10:
                measured = {
                    "intervals": intervals([True] * 20, [False] * 20),
                    "interval_epochs": epochs(e1=0.25, e2=None),
                }
                for kind, table in measured.items():
                    paths[kind] = tmp_path / f"{size}_{seed}_{kind}.arrow"
                    write_table(paths[kind], kind, table, provenance={})
            runs.append(({"experiment": "walk", "batch_size": size, "seed": seed}, paths))
    return runs


def test_tables_and_page(tmp_path: Path, files: Files) -> None:
    claims, pooled, page = judged_files("walk", tmp_path / "a", files)
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
    published = dict(zip(pooled["claim"], pooled["published"].fillna(""), strict=True))
    # 18 barriers in 4 epochs of 450 intervals; the paper gives no numbers for the other claims of these runs.
    assert published.pop("W2").startswith("0.01 [text, derived] VGG-11, CIFAR-10, epochs 1, 10, 25, 100, table 1; ")
    assert set(published.values()) == {""}
    assert "4 runs in 1 experiment; 0 diverged." in page
    assert "| mlp | 0.1 | 10 | 1 | 1 | 0 | - | 0 | - | 0.25 |" in page
    assert "| mlp | 0.1 | all | 1 | holds (-1) | undetermined: all runs have the same value |" in page
    assert (
        "| The cosine of consecutive gradients falls with the batch size (W3) | <= -0.8 | 2 of 2 | 0 of 2 | 0 of 2 | - "
        "| - |" in page
    )
    assert "| 0 of 2 | 0 of 2 | 2 of 2 | all runs have the same value (2) | - |" in page
    assert "nan" not in page
    assert "None" not in page
    assert "multiples of 1 over" not in page
    sharp = [({**settings, "lr_unit": "sharpness"}, paths) for settings, paths in files]
    said = "Learning rates are multiples of 1 over the Hessian's largest eigenvalue where a run starts."
    assert judged_files("walk", tmp_path / "sharp", sharp)[2] == page.replace("## walk\n", f"## walk\n\n{said}\n", 1)
    other = judged_files("walk", tmp_path / "b", files[::-1])
    assert other[2] == page
    for name in ("claims.csv", "pooled.csv"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_many_epochs_are_thinned_on_the_page(tmp_path: Path, files: Files) -> None:
    many = epochs(**{f"e{epoch}": 0.5 for epoch in range(1, 51)})
    write_table(files[0][1]["interval_epochs"], "interval_epochs", many, provenance={})
    _, _, page = judged_files("walk", tmp_path / "a", files)
    rows = [line for line in page.splitlines() if line.startswith("| mlp | 0.1 | 10 | 1 | ") and "| 0.5 |" in line]
    assert [line.split(" | ")[4] for line in rows] == ["1", "8", "15", "22", "29", "36", "43", "50"]


def test_no_runs_and_missing_tables(tmp_path: Path, files: Files) -> None:
    claims, pooled, page = judged_files("walk", tmp_path, [])
    assert claims.empty
    assert pooled.empty
    assert "0 runs in 0 experiments" in page
    files[0][1]["trace"].unlink()
    with pytest.raises(SgdlineError, match=r"trace\.arrow must exist.*train_run"):
        judged_files("walk", tmp_path, files)
