"""Loss stabilisation (S-M3) on synthetic curves, and the claims S1 to S4 on synthetic chains."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from sgdline.analysis.stabilization import stabilisation
from sgdline.claims.judging.measured import MeasuredToy, Tables
from sgdline.claims.judging.verdicts import JudgedClaim, judge_all
from sgdline.papers import claimed
from sgdline.papers.sparse.claims import DIAGONAL_CLAIMS
from sgdline.toys.diagonal_networks.options import DiagonalNetworksOptions
from sgdline.toys.diagonal_networks.table import DIAGONAL_NETWORKS

PLACES = np.arange(0, 1000, 10)


def test_a_level_that_drops_a_hundredfold() -> None:
    losses = np.where(PLACES <= 400, 0.05, 0.05 / np.minimum(10.0 ** ((PLACES - 400) / 20), 100.0))
    found = stabilisation(PLACES, losses, decay=400, length=1000)
    assert (found.start, found.end, found.losses) == (200.0, 400, 21)
    assert found.level == pytest.approx(0.05)
    assert found.deviation == pytest.approx(0.0, abs=1e-12)
    assert found.slope == pytest.approx(0.0, abs=1e-15)
    assert found.drop == pytest.approx(100.0)  # at 450, within 5 % of the run


def test_slope_drift_and_their_error_are_those_of_a_fit() -> None:
    noise = 0.2 * np.random.default_rng(0).standard_normal(100)
    losses = 10.0 ** (-1.0 - 0.004 * PLACES + noise)
    found = stabilisation(PLACES, losses, decay=500, length=1000)
    own = (PLACES >= 250) & (PLACES <= 500)
    (slope, _), covariance = np.polyfit(PLACES[own], np.log10(losses[own]), 1, cov=True)
    assert found.slope == pytest.approx(slope)
    assert found.drift == pytest.approx(250.0 * slope)
    assert found.drift_error == pytest.approx(250.0 * np.sqrt(covariance[0, 0]))
    assert abs(found.drift + 1.0) < 4.0 * found.drift_error
    assert found.deviation == pytest.approx(np.log10(losses[own]).std(ddof=1))
    assert found.level == pytest.approx(10.0 ** np.log10(losses[own]).mean())
    assert found.drop == pytest.approx(found.level / losses[55])


def test_the_unit_of_positions_scales_the_slope_alone() -> None:
    losses = 10.0 ** np.sin(PLACES / 30.0)
    one = stabilisation(PLACES, losses, decay=400, length=1000)
    other = stabilisation(PLACES / 1000, losses, decay=0.4, length=1.0)
    assert other.slope == pytest.approx(1000.0 * one.slope)
    assert (other.drift, other.level, other.drop) == pytest.approx((one.drift, one.level, one.drop))


def test_lost_runs_have_no_value() -> None:
    losses = np.full(100, 0.1)
    losses[30:] = np.nan
    found = stabilisation(PLACES, losses, decay=400, length=1000)
    assert np.isnan([found.level, found.deviation, found.slope, found.drift, found.drop]).all()
    losses = np.full(100, 0.1)
    losses[42:] = np.inf  # lost behind the decay: the phase has its values, the drop has none
    found = stabilisation(PLACES, losses, decay=400, length=1000)
    assert found.level == pytest.approx(0.1)
    assert np.isnan(found.drop)
    assert np.isnan(stabilisation([0, 1, 2], [1.0, 1.0, 1.0], decay=1, length=3).level)  # two losses are no line


def test_misuse_is_told() -> None:
    with pytest.raises(ValueError, match="one per position"):
        stabilisation([0, 1], [1.0], decay=1, length=2)
    with pytest.raises(ValueError, match="decay must be between 0 and length = 2, got 2"):
        stabilisation([0, 1], [1.0, 1.0], decay=2, length=2)


# -- claims ----------------------------------------------------------------------------------------------------------

TEST_LOSSES = {None: 4e-3, 0.1: 8e-4, 0.3: 4e-4, 0.5: 1e-4}
FEATURES = {None: 200, 0.1: 110, 0.3: 70, 0.5: 60}


def rows_of(setting: int, seed: int, *, lost_from: int | None = None, **changes: Any) -> list[dict[str, Any]]:
    """One chain that does all that is claimed; `changes` replace its measures behind the decay."""
    decay_at = list(TEST_LOSSES)[setting]
    decay = 1000 if decay_at is None else int(1000 * decay_at)
    rows = []
    for iteration in range(0, 1000, 10):
        lost = lost_from is not None and iteration >= lost_from
        late = iteration > decay or decay_at is None
        share = min(iteration / decay, 1.0)
        features = round(200 - (200 - FEATURES[decay_at]) * share)
        measures = {
            "train_loss": 1e-4 if late else 0.05,
            "test_loss": TEST_LOSSES[decay_at] if late else 0.1,
            "rank": features,
            "support": 0 if iteration == 0 else features,
        } | (changes if late else {})
        rows.append(
            {
                "setting": setting, "method": "sgd", "lr": 0.25, "decay_at": decay_at, "decay_factor": 2.0, "chain": 0,
                "index_seed": seed, "perturbed": False, "iteration": iteration, "step": 0.1,
                "status": "diverged" if lost else "ok",
            }
            | {name: None if lost else value for name, value in measures.items()}
        )  # fmt: skip
    return rows


def judged(*chains: list[dict[str, Any]]) -> pa.Table:
    rows = [row for chain in chains for row in chain]
    columns = {name: [row.get(name) for row in rows] for name in DIAGONAL_NETWORKS.schema.names}
    return pa.table(columns, schema=DIAGONAL_NETWORKS.schema)


def claims_of(table: pa.Table) -> dict[int, tuple[JudgedClaim, ...]]:
    """Return the claims of every index seed."""
    toy = MeasuredToy(
        name="toy",
        kind="diagonal_networks",
        options=DiagonalNetworksOptions(updates=1000),
        tables=Tables({"diagonal_networks": table}),
    )
    entries = judge_all(claimed.judged("sparse").claims, [], [toy], paper="sparse")
    return {entry.key.seed: entry.claims for entry in entries}


NAMES = [claim.name for claim in DIAGONAL_CLAIMS]


def verdicts(table: pa.Table, seed: int = 1) -> dict[str, str]:
    return {claim.claim: claim.verdict for claim in claims_of(table)[seed]}


def test_chains_that_do_what_the_paper_says() -> None:
    table = judged(*(rows_of(setting, 1) for setting in (3, 0, 2, 1)))  # in any order
    assert verdicts(table) == dict.fromkeys(NAMES, "holds")
    values = {claim.claim: claim.value for claim in claims_of(table)[1]}
    assert values["S1"] == pytest.approx(2.0)
    assert values["S1-ends"] == pytest.approx(40.0)
    assert values["S2-rank"] == pytest.approx(70 / 60)
    assert values["S3-rank"] == pytest.approx(110 / 200)
    assert values["S3-loss"] == pytest.approx(0.0, abs=1e-12)
    assert values["S4-support"] == 0.0


@pytest.mark.parametrize(
    ("setting", "changes", "failing"),
    [
        (2, {"test_loss": 9e-4}, {"S1"}),
        (3, {"test_loss": 5e-3}, {"S1", "S1-ends"}),
        (3, {"rank": 71}, {"S2-rank"}),
        (1, {"support": 60}, {"S2-support"}),
    ],
)
def test_one_chain_out_of_order_is_enough(setting: int, changes: dict[str, Any], failing: set[str]) -> None:
    table = judged(*(rows_of(place, 1, **(changes if place == setting else {})) for place in range(4)))
    assert {claim for claim, verdict in verdicts(table).items() if verdict == "fails"} == failing


def test_a_falling_loss_and_a_support_that_stays_fail_s3() -> None:
    chains = [rows_of(place, 1) for place in range(4)]
    for row in chains[3]:
        if row["iteration"] <= 500:
            row["train_loss"] = 10.0 ** (-row["iteration"] / 100)
            row["rank"] = row["support"] = 200
    found = verdicts(judged(*chains))
    assert {claim for claim, verdict in found.items() if verdict == "fails"} == {"S3-loss", "S3-rank", "S3-support"}


def test_features_that_change_behind_the_decay_fail_s4() -> None:
    chains = [rows_of(place, 1) for place in range(4)]
    for row in chains[1]:
        if row["iteration"] > 900:
            row["rank"] = 90
    assert {claim for claim, verdict in verdicts(judged(*chains)).items() if verdict == "fails"} == {"S4-rank"}


def test_a_diverged_chain_leaves_its_claims_undetermined() -> None:
    lost = [rows_of(place, 2, lost_from=300 if place == 3 else None) for place in range(4)]
    table = judged(*(rows_of(place, 1) for place in range(4)), *lost)
    assert verdicts(table, 1) == dict.fromkeys(NAMES, "holds")
    assert verdicts(table, 2) == dict.fromkeys(NAMES, "undetermined")
    assert {claim.reason for claim in claims_of(table)[2]} == {"a chain diverged"}


def test_settings_that_cannot_be_ordered_give_no_claims() -> None:
    assert claims_of(judged(rows_of(0, 1), rows_of(1, 1))) == {}
    assert claims_of(judged(*(rows_of(place, 1) for place in (1, 2, 3)))) == {}
    perturbed = [row | {"perturbed": True} for place in range(4) for row in rows_of(place, 1)]
    assert claims_of(judged(perturbed)) == {}
