"""The page and tables of sparse's claims: real toys made small, and networks with made-up curves."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml
from judged_runs import judged_files

from sgdline.config import resolve_config
from sgdline.errors import SgdlineError
from sgdline.papers.sparse.claims import NETWORK_CLAIMS, RELU_CLAIMS
from sgdline.tables import kind_of, read_table, write_table
from sgdline.toys import simulate_toy

ROOT = Path(__file__).parents[2]
DEFAULT = yaml.safe_load((ROOT / "config/config.yaml").read_text(encoding="utf-8"))
STEPS = 100


def step_sizes(lr: float, decay_at: float | None = None, **changes: Any) -> dict[str, Any]:
    factor = 1.0 if decay_at is None else 4.0
    return {"lr": lr, "decay_at": decay_at, "decay_factor": factor, **changes}


def toy(name: str, kind: str, **changes: Any) -> dict[str, Any]:
    config = {**DEFAULT, "run": [name], "toys": {name: {"toy": kind, **changes}}}
    block = resolve_config(config)["toys"][name]
    kind = block.pop("toy")
    del block["figures"]
    return {"name": name, "kind": kind, "settings": block}


def diagonal(name: str, settings: list[dict[str, Any]]) -> dict[str, Any]:
    small = {"samples": 12, "dimensions": 15, "nonzero": 3, "test_samples": 40, "updates": 2000, "evaluations": 40}
    chains = {"index_seeds": [1, 7, 8], "perturbed_starts": 1}
    own = [{"method": "sgd", **setting} for setting in settings]
    return toy(name, "diagonal_networks", **small, **chains, settings=own)


TOYS = [
    diagonal("three_phases", [step_sizes(0.2), step_sizes(0.3, 0.1), step_sizes(0.3, 0.5)]),
    diagonal("one_phase", [step_sizes(0.2), step_sizes(50.0, 0.5)]),  # the second diverges
    toy(
        "student", "teacher_student", network="two_layer", log10_iterations=2.6, other_seeds=1, perturbed_starts=1,
        runs=[step_sizes(lr, f, warm_up=1.0, warm_up_exponent=1.0) for lr, f in ((0.02, None), (0.05, 0.4))],
    ),
]  # fmt: skip


def network(folder: Path, share: float | None, *, error: float, end: float, seed: int) -> tuple[Any, Any]:
    """Return the facts of a run and its tables, its coefficient falling from 0.8 to `end` in the phase."""
    steps = np.arange(0, STEPS + 1, 5)
    decay = STEPS * (share or 0.0)
    coefficient = np.where(steps < decay, 0.8 + (end - 0.8) * steps / max(decay, 1), end)
    columns: dict[str, dict[str, Any]] = {
        "trace": {"step": np.arange(STEPS), "batch_loss": np.full(STEPS, 0.5), "status": ["ok"] * STEPS},
        "evaluation": {"step": steps, "train_loss": np.full(steps.size, 0.2), "test_accuracy": 1 - error + 0.0 * steps},
        "feat": {"step": steps, "layer": ["2"] * steps.size, "sparsity": coefficient},
    }
    files = {}
    for kind, known in columns.items():
        fields = kind_of(kind).schema
        rows = len(known["step"])
        empty = {field.name: None if field.nullable else "" if field.type == pa.string() else 0 for field in fields}
        missing = {name: [value] * rows for name, value in empty.items()}
        files[kind] = folder / f"{share}_{seed}_{kind}.arrow"
        write_table(files[kind], kind, missing | known, provenance={})
    facts: dict[str, Any] = {
        "experiment": "small" if share is None else f"phase{share}",
        "model": "net",
        "lr": 0.1 if share is None else 2.0,
        "batch_size": 32,
        "seed": seed,
        "steps": STEPS,
        "schedule": {"name": "constant"} if share is None else {"name": "piecewise", "large_phase": share},
    }
    return facts, files


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("sparse")
    for entry in TOYS:
        simulate_toy(entry["kind"], folder / entry["name"], settings=entry["settings"], provenance={})
    networks = [
        network(folder, share, error=error, end=end, seed=seed)
        for seed in (1, 2)
        for share, error, end in ((0.5, 0.02, 0.3), (None, 0.08, 0.7), (0.1, 0.05, 0.5))
    ]
    toys = [(entry, folder / entry["name"]) for entry in TOYS]
    claims, pooled, page = judged_files("sparse", folder / "out", networks, toys)
    return {"claims": claims, "pooled": pooled, "page": page, "folder": folder}


def test_every_seed_of_a_toy_has_its_claims(written: dict[str, Any]) -> None:
    claims = written["claims"]
    seeds = claims[claims["claim"] == "S2-rank"].groupby("experiment")["seed"].apply(sorted).to_dict()
    assert seeds == {"three_phases": [1, 7, 8], "student": seeds["student"]}
    assert len(seeds["student"]) == 2
    assert set(claims[claims["experiment"] == "student"]["claim"]) == {claim.name for claim in RELU_CLAIMS}
    assert set(claims[claims["experiment"] == "student"]["model"]) == {"two_layer"}


def test_ends_of_diagonal_networks_are_those_of_the_table(written: dict[str, Any]) -> None:
    table = read_table(written["folder"] / "three_phases", "diagonal_networks").to_pandas()
    claims = written["claims"].query("experiment == 'three_phases' and claim == 'S1-ends'").set_index("seed")["value"]
    for seed in (1, 7, 8):
        own = table[(table["index_seed"] == seed) & ~table["perturbed"]]
        last = own[own["iteration"] == own["iteration"].max()].set_index("setting")["test_loss"]
        assert claims[seed] == pytest.approx(last[0] / last[2])


def test_ends_of_relu_networks_are_those_of_the_table(written: dict[str, Any]) -> None:
    table = read_table(written["folder"] / "student", "teacher_student").to_pandas()
    claims = written["claims"].query("experiment == 'student' and claim == 'S1-ends'").set_index("seed")["value"]
    for seed in claims.index:
        own = table[(table["seed"] == seed) & (table["chain"] != "perturbed")]
        last = own[own["iteration"] == own["iteration"].max()].set_index("run")["test_loss"]
        assert claims[seed] == pytest.approx(last[0] / last[1])


def test_networks_follow_the_toys(written: dict[str, Any]) -> None:
    own = written["claims"].query("experiment == 'small'")
    assert set(own["claim"]) == {claim.name for claim in NETWORK_CLAIMS}
    assert set(own["seed"]) == {1, 2}
    assert set(own[own["claim"] == "S1-ends-network"]["value"].round(9)) == {0.06}
    pooled = written["pooled"].query("claim == 'S2-network'")
    assert pooled[["model", "verdict", "seeds"]].to_numpy().tolist() == [["net", "holds", 2]]


def test_the_page_counts_what_diverged(written: dict[str, Any]) -> None:
    page = written["page"]
    assert "3 toys; 6 runs in 3 experiments; 0 diverged." in page
    one_phase = page.partition("## one_phase")[2].partition("\n## ")[0]
    assert "| sgd 50 | 0.5 | 4 | 4 | 4 | - | - | - |" in one_phase
    assert "No claims" in one_phase
    assert "| net | 2 | 32 | 1 | 100 | 0.5 | no | 0.02 | 0.3 |" in page
    assert (
        "A long phase of large steps ends at a lower test error than a small constant step (S1-ends-network) |" in page
    )


def test_published_numbers_are_those_of_the_same_network(written: dict[str, Any]) -> None:
    pooled = written["pooled"].set_index(["experiment", "claim"])["published"]
    assert pooled["three_phases", "S1-ends"].startswith(f"{3.53e-3 / 1.54e-4:.3g} [code, derived] diagonal networks")
    assert pooled["student", "S1-ends"].startswith(f"{6.10e-4 / 5.41e-5:.3g} [code, derived] 2-20-1")
    errors = (0.1429, 0.1013, 0.0658, 0.0561)
    smallest = min(first - second for first, second in pairwise(errors))
    assert f"; {smallest:.3g} [code, derived] ResNet-18, CIFAR-10, momentum" in pooled["small", "S1-network"]
    assert pooled["student", "S2-sparsity"] in written["page"]


def test_medians_of_the_page_are_over_chains_that_are_left(written: dict[str, Any]) -> None:
    table = read_table(written["folder"] / "three_phases", "diagonal_networks").to_pandas()
    last = table[(table["iteration"] == table["iteration"].max()) & (table["setting"] == 0)]
    shown = f"| sgd 0.2 | - | 1 | 4 | 0 | {last['train_loss'].median():.4g} | {last['test_loss'].median():.4g} |"
    assert shown in written["page"].partition("## three_phases")[2]


def test_without_toys_and_runs_the_tables_are_empty(tmp_path: Path) -> None:
    claims, pooled, page = judged_files("sparse", tmp_path, [])
    assert len(claims) == len(pooled) == 0
    assert "0 runs in 0 experiments" in page


def test_a_damaged_table_is_named(tmp_path: Path) -> None:
    damaged = tmp_path / "toy.arrow"
    damaged.write_bytes(b"not a table")
    with pytest.raises(SgdlineError, match=r"toy\.arrow"):
        judged_files("sparse", tmp_path, [], [(TOYS[0], damaged)])
    assert [path.name for path in tmp_path.iterdir()] == ["toy.arrow"]
