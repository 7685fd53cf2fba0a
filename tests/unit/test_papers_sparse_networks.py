"""Claims of networks with phases of large steps, on made-up curves whose verdicts are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from judged_runs import a_run, judged

from sgdline.claims.judging.measured import MeasuredRun
from sgdline.claims.judging.verdicts import Entry
from sgdline.papers.sparse.claims import NETWORK_CLAIMS

STEPS = 100


def run(
    share: float | None, *, error: float, end: float, start: float = 0.8, level: float = 0.5, **changes: Any
) -> MeasuredRun:
    """Return a run whose coefficient falls linearly to `end` in its phase and whose loss stays at a level there."""
    decay = STEPS * (share or 0.0)
    steps = np.arange(0, STEPS + 1, 2)
    coefficient = np.where(steps < decay, start + (end - start) * steps / max(decay, 1), end)
    losses = np.where(steps <= decay, level, 0.01)
    name = "constant" if share is None else "piecewise"
    schedule: dict[str, Any] = {"name": name} | ({} if share is None else {"large_phase": share})
    trace = {"step": np.arange(STEPS), "batch_loss": np.full(STEPS, 0.5), "status": ["ok"] * STEPS}
    both = {"step": np.repeat(steps, 2), "sparsity": np.stack([coefficient - 0.1, coefficient + 0.1], axis=1).ravel()}
    block: dict[str, Any] = {
        "experiment": "small" if share is None else f"large{share}",
        "model": "net",
        "lr": 0.1 if share is None else 2.0,
        "batch_size": 32,
        "seed": 1,
        "steps": STEPS,
        "schedule": schedule,
    }
    tables = {
        "trace": pa.table(trace),
        "evaluation": pa.table({"step": steps, "train_loss": losses, "test_accuracy": np.full(len(steps), 1 - error)}),
        "feat": pa.table(both),
    }
    for kind in tables.keys() & changes.keys():
        tables[kind] = changes.pop(kind)
    return a_run(tables, **block | changes)


def ordered(**changes: Any) -> list[MeasuredRun]:
    return [
        run(0.5, error=0.02, end=0.3, **changes),
        run(None, error=0.08, end=0.7),
        run(0.1, error=0.05, end=0.5),
        run(0.3, error=0.03, end=0.4),
    ]


def judged_networks(runs: list[MeasuredRun]) -> list[Entry]:
    return judged("sparse", runs)


def claims(runs: list[MeasuredRun]) -> dict[str, tuple[float | None, str]]:
    [entry] = judged_networks(runs)
    assert (entry.key.experiment, entry.key.lr, entry.key.seed) == ("small", None, 1)
    return {claim.claim: (claim.value, claim.verdict) for claim in entry.claims}


def test_an_ordered_family_has_all_claims() -> None:
    found = claims(ordered())
    assert set(found) == {claim.name for claim in NETWORK_CLAIMS}
    assert {verdict for _, verdict in found.values()} == {"holds"}
    expected = {"S1-network": 0.01, "S1-ends-network": 0.06, "S2-network": 0.1, "S2-ends-network": 0.4}
    expected |= {"S3-network": 0.5 / 0.8, "S3-loss-network": 0.0, "S4-network": 0.0}
    assert {claim: value for claim, (value, _) in found.items()} == pytest.approx(expected)


def test_phases_that_end_alike_fail_the_order_and_not_the_ends() -> None:
    found = claims([*ordered()[1:], run(0.5, error=0.03, end=0.4)])
    assert found["S1-network"][1] == found["S2-network"][1] == "fails"
    assert found["S1-ends-network"][1] == found["S2-ends-network"][1] == "holds"


def test_a_loss_that_falls_while_steps_are_large_fails() -> None:
    falling = pa.table(
        {
            "step": np.arange(0, STEPS + 1, 2),
            "train_loss": 10.0 ** (-np.arange(0, STEPS + 1, 2) / 20),
            "test_accuracy": np.full(STEPS // 2 + 1, 0.98),
        }
    )
    found = claims(ordered(evaluation=falling))
    assert found["S3-loss-network"] == (pytest.approx(-25 / 20), "fails")


def test_a_run_that_diverged_leaves_claims_undetermined() -> None:
    lost = {"step": np.arange(2), "batch_loss": np.array([0.5, np.inf]), "status": ["ok", "non_finite"]}
    found = claims(ordered(trace=pa.table(lost)))
    [entry] = judged_networks(ordered(trace=pa.table(lost)))
    assert {claim.reason for claim in entry.claims if claim.verdict == "undetermined"} == {"a run diverged"}
    unmeasured = pa.table({"step": [0], "train_loss": [1.0], "test_accuracy": [None]}).cast(
        pa.schema([("step", pa.int64()), ("train_loss", pa.float64()), ("test_accuracy", pa.float64())])
    )
    unmeasured = unmeasured.append_column("validation_accuracy", unmeasured["test_accuracy"])
    [entry] = judged_networks(ordered(evaluation=unmeasured))
    reasons = {claim.claim: claim.reason for claim in entry.claims}
    assert reasons["S1-ends-network"] == "a value is missing or 0"
    assert reasons["S3-loss-network"] == "a phase has fewer than 3 losses above 0 in its second half"
    assert {claim for claim, (_, verdict) in found.items() if verdict == "undetermined"} >= {
        "S1-network", "S1-ends-network", "S2-network", "S2-ends-network", "S3-network", "S3-loss-network",
    }  # fmt: skip


@pytest.mark.parametrize(
    "runs",
    [
        ordered()[:2],  # one phase
        ordered()[2:],  # no constant rate
        [*ordered()[1:3], run(0.3, error=0.1, end=0.1, seed=2)],
        [*ordered()[1:3], run(0.3, error=0.1, end=0.1, label_noise={"probability": 0.1})],
    ],
)
def test_what_is_not_a_family_has_no_claims(runs: list[MeasuredRun]) -> None:
    assert judged_networks(runs) == []
