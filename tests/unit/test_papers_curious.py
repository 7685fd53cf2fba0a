"""Claims of curious: verdicts at their thresholds, on tables whose numbers are known."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from judged_runs import a_run, by_name, changed, filled, judged, judged_files, lost_trace

from sgdline.claims.judging.measured import MeasuredRun
from sgdline.claims.judging.verdicts import JudgedClaim
from sgdline.tables import write_table

STEPS = 100
START = {"experiment": "before", "lr": 0.3, "batch_size": 64, "step": 50}


def run(tables: Mapping[str, pa.Table] | None = None, **changes: Any) -> MeasuredRun:
    return a_run(tables, **{"lr": 0.3, **changes})


def claims_of(tables: Mapping[str, pa.Table], **changes: Any) -> dict[str, JudgedClaim]:
    """Return the claims of one run."""
    return by_name(judged("curious", [run(tables, **changes)]))


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
    found = claims_of({"one_step_metrics": filled("one_step_metrics", rows)})
    assert list(found) == ["A1", "A2", "A3", "A4"]
    assert (found["A1"].value, found["A1"].verdict, found["A1"].observations) == (3.0, "holds", 3)
    assert (found["A2"].value, found["A2"].verdict, found["A2"].observations) == (0.5, "fails", 2)
    assert (found["A3"].value, found["A3"].verdict) == (0.96, "holds")
    assert (found["A4"].value, found["A4"].verdict) == (pytest.approx(0.95), "holds")
    rows[2]["own_min_loss"] = rows[3]["own_min_loss"] = 0.01
    tables = {"one_step_metrics": filled("one_step_metrics", rows)}
    assert claims_of(tables)["A2"].verdict == "holds"
    lost = claims_of({**tables, "trace": lost_trace()})
    assert {(claim.verdict, claim.reason) for claim in lost.values()} == {("undetermined", "the run diverged")}
    assert lost["A1"].value == 3.0
    nothing = claims_of({"one_step_metrics": filled("one_step_metrics", [{"step": 0}])})
    nothing |= claims_of({"fixed_batches": filled("fixed_batches", [{"step": 0}])})
    assert {name: claim.reason for name, claim in nothing.items()} == {
        "A1": "no batch has both best step sizes",
        "A2": "no batch has both losses",
        "A3": "no batch has a parabola",
        "A4": "no batch has second differences",
        "A5": "no fixed batch has a convexity gap",
    }


def lagged(rows: list[dict[str, Any]]) -> pa.Table:
    table = filled("alignment", rows)
    return table.replace_schema_metadata({"sgdline": json.dumps({"kind": "alignment", "lags": [1, 5]}).encode()})


def test_gaps_and_alignment() -> None:
    gaps = filled(
        "fixed_batches", [{"step": step, "convexity_gap": gap} for step, gap in enumerate([None, 0.05, 0.0, 0.3])]
    )
    a5 = claims_of({"fixed_batches": gaps})["A5"]
    assert (a5.value, a5.verdict, a5.observations) == (0.05, "holds", 3)
    rows = [
        {"step": 0, "lag_cosines": [None, None], "other_batches_cosine": 0.2},
        {"step": 5, "lag_cosines": [0.9, 0.1], "other_batches_cosine": 0.2},
        {"step": 9, "lag_cosines": [0.9, 0.5], "other_batches_cosine": None},
    ]
    a6 = claims_of({"alignment": lagged(rows)})["A6"]
    assert (a6.value, a6.verdict, a6.observations) == (pytest.approx(0.1), "holds", 2)
    a6 = claims_of({"alignment": lagged(rows[:1])})["A6"]
    assert (a6.value, a6.reason) == (None, "the largest lag or the cosine with other batches was not reached")


def test_gains_of_averages_are_means_over_the_second_half() -> None:
    gains = {("two_point", 1.0): 0.01, ("two_point", 10.0): 0.04, ("two_point", 100.0): 0.05, ("ema", 0.9): 0.3}
    found = claims_of({"averages": averages(gains=gains)})
    assert list(found) == ["A7", "A7-saturates", "A8"]
    assert (found["A7"].value, found["A7"].verdict, found["A7"].observations) == (1.0, "holds", 6)
    assert (found["A7-saturates"].value, found["A7-saturates"].verdict) == (pytest.approx(1.25), "holds")
    assert (found["A8"].value, found["A8"].verdict, found["A8"].observations) == (pytest.approx(0.05), "holds", 2)
    worse = {("two_point", 1.0): 0.04, ("two_point", 10.0): 0.01, ("swa", 10.0): 0.3, ("swa", 50.0): -0.1}
    found = claims_of({"averages": averages(gains=worse)})
    assert (found["A7"].value, found["A7"].verdict) == (-1.0, "fails")
    assert (found["A8"].value, found["A8"].verdict) == (pytest.approx(-0.1), "fails")  # of the largest count
    assert claims_of({"averages": averages()}) == {}  # nothing but the iterate


@pytest.mark.parametrize(
    ("gains", "reason", "saturates"),
    [
        ({("two_point", 1.0): 0.1}, "gains at 2 distances needed, 1 measured", None),
        ({("two_point", 1.0): 0.1, ("two_point", 9.0): 0.1}, "all distances gain the same", None),
        ({("two_point", 1.0): -0.1, ("two_point", 9.0): 0.1}, "", "the shorter distance gains nothing"),
    ],
)
def test_gains_without_an_order(gains: dict[tuple[str, float], float], reason: str, saturates: str | None) -> None:
    found = claims_of({"averages": averages(gains=gains)})
    assert (found["A7"].reason, found["A7-saturates"].reason) == (reason, saturates or reason)
    without = averages(gains=gains, accuracy=float("nan"))
    assert claims_of({"averages": without})["A8"].reason == "no accuracy was measured in the second half"


def family(**schedule_losses: float) -> list[MeasuredRun]:
    gains = {("two_point", 100.0): 0.2, ("ema", 0.9): 0.4}
    base = run({"averages": averages(iterate=1.0, gains=gains)}, start_from=START)
    rates = [
        run({"averages": ends(loss)}, experiment="cut", lr=lr, start_from=START)
        for lr, loss in ((0.15, 0.7), (0.03, 0.2))
    ]
    blocks = {"ema": {"average": "ema", "parameter": 0.9, "spacing": 1, "relative_lr": 0.1}}
    scheduled = [
        run(
            {"averages": ends(loss)},
            experiment="schedule",
            schedule={"name": "equivalent", **blocks[name]},
            start_from=START,
        )
        for name, loss in schedule_losses.items()
    ]
    return [base, *rates, *scheduled]


def test_runs_from_one_start_are_compared_at_their_end() -> None:
    own, compared = judged("curious", family(ema=0.5))
    assert [claim.claim for claim in own.claims] == ["A7", "A7-saturates", "A8"]
    assert (compared.key.experiment, compared.key.lr, compared.key.seed) == ("e", None, 1)
    found = by_name([compared])
    # Two points end at 1 - 1.5 * 0.2 = 0.7, as the rate 0.15 does; EMA at 0.4, its schedule at 0.5 with a gain of 0.6.
    assert (found["A9"].value, found["A9"].verdict, found["A9"].observations) == (pytest.approx(0.5), "holds", 3)
    assert (found["A10"].value, found["A10"].verdict) == (pytest.approx(0.1 / 0.6), "holds")
    assert by_name(judged("curious", family(ema=0.6)))["A10"].verdict == "fails"


def test_other_starts_seeds_and_lost_runs_are_not_compared() -> None:
    base, *others = family(ema=0.5)
    moved = [changed(other, start_from={**START, "step": 60}) for other in others]
    assert len(judged("curious", [base, *moved])) == 1
    assert len(judged("curious", [base, *(changed(other, seed=2) for other in others)])) == 1
    lost = changed(base, {"trace": lost_trace()})
    claims = [claim for entry in judged("curious", [lost, *others]) for claim in entry.claims]
    assert {(claim.verdict, claim.reason) for claim in claims} == {("undetermined", "the run diverged")}
    # A seed without schedules has that claim all the same: seeds are pooled.
    found = by_name(judged("curious", family()))
    assert (found["A9"].verdict, found["A10"].reason) == ("holds", "no schedule was run")
    assert by_name(judged("curious", [base, others[-1]]))["A9"].reason == "no run at another rate"
    # Outside of the measured rates nothing is extrapolated.
    low = changed(base, {"averages": averages(gains={("two_point", 100.0): 0.6})})
    a9 = by_name(judged("curious", [low, *others[:2]]))["A9"]
    assert (a9.value, a9.reason) == (None, "no rate that ran ends at the loss of two points")
    other = changed(base, {"averages": averages(gains={("ema", 0.8): -0.4})})
    found = by_name(judged("curious", [other, *others]))
    assert found["A9"].reason == "no two points were measured after the last update"
    assert found["A10"].reason == "no average gains, or none was measured after the last update"


def test_the_page_and_the_tables_agree(tmp_path: Path) -> None:
    runs = []
    for seed in (1, 2):
        for index, entry in enumerate(family(ema=0.5)):
            files = {}
            for kind in ("trace", "averages"):
                files[kind] = tmp_path / f"{seed}_{index}_{kind}.arrow"
                write_table(files[kind], kind, entry.tables[kind].to_pydict(), provenance={})
            runs.append(({**vars(entry.settings), "seed": seed}, files))
    claims, pooled, page = judged_files("curious", tmp_path / "out", runs)
    assert len(claims) == 2 * 5
    assert dict(zip(pooled["claim"], pooled["seeds"], strict=True)) == dict.fromkeys(
        ["A7", "A7-saturates", "A8", "A9", "A10"], 2
    )
    assert pooled["published"].isna().all()
    assert "8 runs in 3 experiments; 0 diverged." in page
    assert "| Two far points act about like half the learning rate (A9) | from 0.333333 to 0.75 | 2 of 2 |" in page
    assert "| mlp | 0.3 | 64 | 1 | equivalent | 20 | 1 | no | 0.5 | 0.9 |" in page
