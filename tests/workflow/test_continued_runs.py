"""A run that continues another one: its parent is trained first, and a changed parent makes it stale."""

from __future__ import annotations

from workflow_copy import Workflow

from sgdline.tables import provenance, read_table

OVERLAY = """
results: results
run: [child]
datasets: {few: {source: digits, train: 96, validation: 0, test: 10}}
models: {net: {entry: "sgdline.models:mlp", kwargs: {hidden: [8]}}}
experiments:
  parent:
    dataset: few
    models: [net]
    lr: [0.1]
    batch_size: [all]
    micro_batch: 40
    seed: [1]
    steps: 6
    segments: 2
    optimizer: {noise: {factor: 0.01, batch_size: 16}}
  child:
    dataset: few
    models: [net]
    lr: [0.05]
    batch_size: [32]
    seed: [1]
    steps: 4
    start_from: {experiment: parent, lr: 0.1, batch_size: all, step: 3}
"""
TRACE = "results/child/net/lr0.05_bs32_seed1/trace.arrow"
COMMAND = (TRACE, "--configfile", "config/continued.yaml")


def test_the_run_to_continue_comes_first_and_counts(fresh: Workflow) -> None:
    (fresh.folder / "config/continued.yaml").write_text(OVERLAY)
    assert fresh.planned(*COMMAND) == {"prepare_dataset": 1, "train_run": 2}
    fresh.snakemake("--cores", "1", *COMMAND)
    trace = read_table(fresh.folder / TRACE, "trace")
    assert trace["step"].to_pylist() == [0, 1, 2, 3]
    facts = provenance(trace)
    assert facts["slice"]["start_from"]["step"] == 3
    assert facts["slice"]["start_from"]["training"]["batch_size"] == 96
    parent = provenance(read_table(fresh.folder / "results/parent/net/lr0.1_bs96_seed1/trace.arrow", "trace"))
    assert facts["slice"]["start_from"]["training"] == parent["slice"]
    assert parent["noise_variance"] > 0
    assert fresh.planned(*COMMAND) == {}
    fresh.edit("config/continued.yaml", "lr: [0.05]", "lr: [0.05, 0.2]")
    assert fresh.planned(*COMMAND) == {}
    fresh.edit("config/continued.yaml", "steps: 4", "steps: 5")
    assert fresh.planned(*COMMAND) == {"train_run": 1}
    fresh.edit("config/continued.yaml", "steps: 5", "steps: 4")
    fresh.edit("config/continued.yaml", "factor: 0.01", "factor: 0.02")
    assert fresh.planned(*COMMAND) == {"train_run": 2}
    fresh.edit("config/continued.yaml", "step: 3", "step: 2")
    result = fresh.snakemake("--dry-run", *COMMAND, check=False)
    assert result.returncode
    assert "start_from.step must be a segment boundary of parent (0, 3, 6), got 2" in result.stdout + result.stderr
