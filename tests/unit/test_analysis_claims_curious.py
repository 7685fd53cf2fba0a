"""Claims of curious: verdicts at their thresholds, on tables whose numbers are known."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from sgdline.analysis.claims.curious import CuriousRun, judged_runs, run_claims
from sgdline.analysis.claims.curious_page import judge_curious
from sgdline.analysis.claims.judging import Claim
from sgdline.tables import kind_of, write_table

STEPS = 100
START = {"experiment": "before", "lr": 0.3, "batch_size": 64, "step": 50}


def filled(kind: str, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Return a table whose other columns are null or, where that is not allowed, zero."""
    zero: dict[Any, Any] = {pa.string(): "ok", pa.list_(pa.float64()): []}
    columns = {
        field.name: [row.get(field.name, None if field.nullable else zero.get(field.type, 0)) for row in rows]
        for field in kind_of(kind).schema
    }
    return pa.table(columns, schema=kind_of(kind).schema)


def trace(*, lost: bool = False) -> pa.Table:
    rows = [{"step": step, "batch_loss": 1.0} for step in range(20)]
    return filled("trace", [*rows, {"step": 20, "batch_loss": math.nan, "status": "non_finite"}] if lost else rows)


def run(**changes: Any) -> CuriousRun:
    facts: dict[str, Any] = {"experiment": "e", "dataset": "digits", "model": "mlp", "lr": 0.3, "batch_size": 64}
    facts |= {"seed": 1, "steps": STEPS, "optimizer": {"name": "sgd"}, "schedule": {"name": "constant"}}
    return CuriousRun(**{**facts, "start_from": None, "trace": trace(), **changes})


def by_name(claims: Sequence[Claim]) -> dict[str, Claim]:
    return {claim.claim: claim for claim in claims}


def averages(
    *, iterate: float = 1.0, accuracy: float = 0.8, gains: Mapping[tuple[str, float], float] | None = None
) -> pa.Table:
    """Return evaluations at three updates; gains in accuracy equal those in loss. Only late ones count."""
    rows = []
    for step, factor in ((40, -5.0), (50, 0.5), (STEPS, 1.5)):
        facts = {"step": step, "average": "iterate", "train_loss": iterate, "test_accuracy": accuracy}
        rows.append(facts)
        for (name, parameter), gain in (gains or {}).items():
            own = {"step": step, "average": name, "parameter": parameter, "spacing": 1 if name == "swa" else None}
            rows.append(own | {"train_loss": iterate - factor * gain, "test_accuracy": accuracy + factor * gain})
    return filled("averages", rows)


def ends(loss: float) -> pa.Table:
    return filled("averages", [{"step": STEPS, "average": "iterate", "train_loss": loss, "test_accuracy": 0.9}])


def test_single_steps_are_medians_and_the_last_position_is_held_against_the_end() -> None:
    rows = [
        {"step": step, "step_size_ratio": ratio, "r_squared": r, "convexity_rate": rate, "own_min_loss": low}
        | {"end_train_loss": 0.1}
        for step, ratio, r, rate, low in [
            (0, 1.0, 0.99, 1.0, 9.0),
            (0, None, None, 1.0, 9.0),
            (7, 3.0, 0.96, 0.8, 0.05),
            (7, 4.0, 0.95, 0.9, 0.2),
        ]
    ]
    found = by_name(run_claims(run(one_step_metrics=filled("one_step_metrics", rows))))
    assert list(found) == ["A1", "A2", "A3", "A4"]
    assert (found["A1"].value, found["A1"].verdict, found["A1"].observations) == (3.0, "holds", 3)
    assert (found["A2"].value, found["A2"].verdict, found["A2"].observations) == (0.5, "fails", 2)
    assert (found["A3"].value, found["A3"].verdict) == (0.96, "holds")
    assert (found["A4"].value, found["A4"].verdict) == (pytest.approx(0.95), "holds")
    rows[2]["own_min_loss"] = rows[3]["own_min_loss"] = 0.01
    assert by_name(run_claims(run(one_step_metrics=filled("one_step_metrics", rows))))["A2"].verdict == "holds"
    assert {
        claim.verdict
        for claim in run_claims(run(one_step_metrics=filled("one_step_metrics", rows), trace=trace(lost=True)))
    } == {"undetermined"}


def test_gaps_and_alignment() -> None:
    gaps = filled(
        "fixed_batches", [{"step": step, "convexity_gap": gap} for step, gap in enumerate([None, 0.05, 0.0, 0.3])]
    )
    (a5,) = run_claims(run(fixed_batches=gaps))
    assert (a5.value, a5.verdict, a5.observations) == (0.05, "holds", 3)
    rows = [
        {"step": 0, "lag_cosines": [None, None], "other_batches_cosine": 0.2},
        {"step": 5, "lag_cosines": [0.9, 0.1], "other_batches_cosine": 0.2},
        {"step": 9, "lag_cosines": [0.9, 0.5], "other_batches_cosine": None},
    ]
    (a6,) = run_claims(run(alignment=filled("alignment", rows), lags=[1, 5]))
    assert (a6.value, a6.verdict, a6.observations) == (pytest.approx(0.1), "holds", 2)
    (a6,) = run_claims(run(alignment=filled("alignment", rows[:1]), lags=[1, 5]))
    assert (a6.value, a6.verdict) == (None, "undetermined")


def test_gains_of_averages_are_means_over_the_second_half() -> None:
    gains = {("two_point", 1.0): 0.01, ("two_point", 10.0): 0.04, ("two_point", 100.0): 0.05, ("ema", 0.9): 0.3}
    found = by_name(run_claims(run(averages=averages(gains=gains))))
    assert list(found) == ["A7", "A7-saturates", "A8"]
    assert (found["A7"].value, found["A7"].verdict, found["A7"].observations) == (1.0, "holds", 6)
    assert (found["A7-saturates"].value, found["A7-saturates"].verdict) == (pytest.approx(1.25), "holds")
    assert (found["A8"].value, found["A8"].verdict, found["A8"].observations) == (pytest.approx(0.05), "holds", 2)
    worse = {("two_point", 1.0): 0.04, ("two_point", 10.0): 0.01, ("swa", 10.0): 0.3, ("swa", 50.0): -0.1}
    found = by_name(run_claims(run(averages=averages(gains=worse))))
    assert (found["A7"].value, found["A7"].verdict) == (-1.0, "fails")
    assert (found["A8"].value, found["A8"].verdict) == (pytest.approx(-0.1), "fails")  # of the largest count
    assert run_claims(run(averages=averages())) == ()  # nothing but the iterate


def family(**schedule_losses: float) -> list[CuriousRun]:
    base = run(start_from=START, averages=averages(iterate=1.0, gains={("two_point", 100.0): 0.2, ("ema", 0.9): 0.4}))
    rates = [
        run(experiment="cut", lr=lr, start_from=START, averages=ends(loss)) for lr, loss in ((0.15, 0.7), (0.03, 0.2))
    ]
    blocks = {"ema": {"average": "ema", "parameter": 0.9, "spacing": 1, "relative_lr": 0.1}}
    scheduled = [
        run(
            experiment="schedule",
            schedule={"name": "equivalent", **blocks[name]},
            start_from=START,
            averages=ends(loss),
        )
        for name, loss in schedule_losses.items()
    ]
    return [base, *rates, *scheduled]


def test_runs_from_one_start_are_compared_at_their_end() -> None:
    judged = judged_runs(family(ema=0.5))
    own, compared = judged
    assert [claim.claim for claim in own.claims] == ["A7", "A7-saturates", "A8"]
    assert (compared.experiment, compared.lr, compared.seed) == ("e", None, 1)
    found = by_name(compared.claims)
    # Two points end at 1 - 1.5 * 0.2 = 0.7, as the rate 0.15 does; EMA at 0.4, its schedule at 0.5 with a gain of 0.6.
    assert (found["A9"].value, found["A9"].verdict, found["A9"].observations) == (pytest.approx(0.5), "holds", 3)
    assert (found["A10"].value, found["A10"].verdict) == (pytest.approx(0.1 / 0.6), "holds")
    assert by_name(judged_runs(family(ema=0.6))[1].claims)["A10"].verdict == "fails"


def test_other_starts_seeds_and_lost_runs_are_not_compared() -> None:
    base, *others = family(ema=0.5)
    moved = [run(**{**vars(other), "start_from": {**START, "step": 60}}) for other in others]
    assert len(judged_runs([base, *moved])) == 1
    assert len(judged_runs([base, *(run(**{**vars(other), "seed": 2}) for other in others)])) == 1
    lost = run(**{**vars(base), "trace": trace(lost=True)})
    assert {claim.verdict for entry in judged_runs([lost, *others]) for claim in entry.claims} == {"undetermined"}
    # A seed without schedules has that claim all the same: seeds are pooled.
    assert [claim.verdict for claim in judged_runs(family())[1].claims] == ["holds", "undetermined"]
    # Outside of the measured rates nothing is extrapolated.
    low = run(**{**vars(base), "averages": averages(gains={("two_point", 100.0): 0.6})})
    a9 = by_name(judged_runs([low, *others[:2]])[1].claims)["A9"]
    assert (a9.value, a9.verdict) == (None, "undetermined")


def test_the_page_and_the_tables_agree(tmp_path: Path) -> None:
    runs, tables = [], []
    for seed in (1, 2):
        for index, entry in enumerate(family(ema=0.5)):
            facts = {
                name: value
                for name, value in vars(entry).items()
                if name not in ("trace", "one_step_metrics", "fixed_batches", "alignment", "averages", "lags")
            }
            runs.append({**facts, "seed": seed})
            files = {}
            for kind in ("trace", "averages"):
                table = getattr(entry, kind)
                files[kind] = tmp_path / f"{seed}_{index}_{kind}.arrow"
                write_table(files[kind], kind_of(kind), table.to_pydict(), provenance={})
            tables.append(files)
    outputs = {name: tmp_path / "out" / name for name in ("claims.csv", "pooled.csv", "summary.md")}
    judge_curious(
        runs,
        tables,
        claims_output=outputs["claims.csv"],
        pooled_output=outputs["pooled.csv"],
        summary_output=outputs["summary.md"],
    )
    claims, pooled = pd.read_csv(outputs["claims.csv"]), pd.read_csv(outputs["pooled.csv"])
    assert len(claims) == 2 * 5
    assert dict(zip(pooled["claim"], pooled["seeds"], strict=True)) == dict.fromkeys(
        ["A7", "A7-saturates", "A8", "A9", "A10"], 2
    )
    page = outputs["summary.md"].read_text()
    assert "8 runs in 3 experiments; 0 diverged." in page
    assert "A9 (two far points act about like half the learning rate) holds in 2 of 2 runs" in page


def test_without_runs_the_tables_are_empty(tmp_path: Path) -> None:
    judge_curious(
        [], [], claims_output=tmp_path / "a.csv", pooled_output=tmp_path / "b.csv", summary_output=tmp_path / "c.md"
    )
    assert len(pd.read_csv(tmp_path / "a.csv")) == len(pd.read_csv(tmp_path / "b.csv")) == 0
