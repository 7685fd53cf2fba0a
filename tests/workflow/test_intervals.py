"""Intervals between iterates as Snakemake makes them: from a probe of their own, or from lines at every update."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from workflow_copy import Workflow, copy_workflow

from sgdline.tables import provenance, read_table

PINNED = {"threads": 1, "chunks_per_pass": 2, "positions_per_pass": 1, "statistics": "split", "channels_last": False}
PINNED |= {"compiled": False, "cuda_graphs": False}
COMMON: dict[str, Any] = {
    "dataset": "small",
    "models": ["net"],
    "lr": [0.2],
    "batch_size": [32],
    "seed": [1],
    "steps": 6,
    "figures": [],
}
LINE = {"every": 1, "positions": "grid", "interval": 0.2, "resolution": 0.05, "max_rings": 3, "plan": PINNED}
INTERP = {"accuracy": True, "plan": PINNED}
CONFIG = {
    "results": "results/intervals",
    "run": ["measured", "covered"],
    "datasets": {"small": {"source": "digits", "train": 90, "validation": 0, "test": 10}},
    "models": {"net": {"entry": "sgdline.models:mlp", "kwargs": {"hidden": [8]}}},
    "experiments": {
        "measured": COMMON | {"segments": 2, "probes": {"interp": INTERP}},
        "covered": COMMON | {"probes": {"line": LINE}},
        # Lines at every second update say nothing of the updates between.
        "sparse": COMMON | {"probes": {"line": LINE | {"every": 2}}},
    },
}
ARGUMENTS = ("all_tables", "--configfile", "config/own.yaml")


def run_folder(workflow: Workflow, experiment: str) -> Path:
    return workflow.folder / f"results/intervals/{experiment}/net/lr0.2_bs32_seed1"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    workflow = copy_workflow(tmp_path_factory.mktemp("intervals") / "workflow")
    (workflow.folder / "config" / "own.yaml").write_text(yaml.safe_dump(CONFIG))
    workflow.snakemake(*ARGUMENTS, "--cores", "1")
    return workflow


def test_either_source_gives_both_tables(made: Workflow) -> None:
    found = {}
    for experiment, source in (("measured", "interp"), ("covered", "line")):
        folder = run_folder(made, experiment)
        table = read_table(folder / "intervals.arrow", "intervals")
        assert provenance(table)["measured_by"] == source
        assert provenance(table)["source"]["slice"]["training"]["steps"] == 6
        found[experiment] = table
        epochs = read_table(folder / "interval_epochs.arrow", "interval_epochs").to_pylist()
        assert [(row["epoch"], row["intervals"]) for row in epochs] == [(1, 2), (2, 2), (3, 2)]
    # One run, whatever measures it: the ends are the same losses.
    for column in ("start_loss", "end_loss", "gradient_cosine"):
        ours, theirs = (found[name][column].to_numpy(zero_copy_only=False) for name in ("measured", "covered"))
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)
    assert provenance(read_table(run_folder(made, "measured") / "interp.arrow", "interp"))["replay_drift"] == 0.0
    sparse = made.planned(*ARGUMENTS, "--config", "run=[sparse]")
    assert (sparse["probe_run"], sparse["measure_lines"]) == (1, 1)
    assert "measure_intervals" not in sparse


def test_nothing_is_to_do_again_and_an_edited_analysis_measures_nothing(made: Workflow) -> None:
    assert made.planned(*ARGUMENTS) == {}
    made.edit("src/sgdline/analysis/intervals.py", "def average_epochs(", "_UNUSED = 1\n\n\ndef average_epochs(")
    jobs = made.planned(*ARGUMENTS)
    assert jobs == {"measure_intervals": 2, "all_tables": 1}
    made.edit("src/sgdline/analysis/intervals.py", "_UNUSED = 1\n\n\n", "")
    made.edit("src/sgdline/probes/interp/probe.py", "def _summary(", "_UNUSED = 1\n\n\ndef _summary(")
    jobs = made.planned(*ARGUMENTS)
    assert (jobs["probe_segment"], jobs["gather_segments"], jobs["measure_intervals"]) == (2, 1, 1)
    assert not {"train_run", "fit_lines"} & set(jobs)
    made.edit("src/sgdline/probes/interp/probe.py", "_UNUSED = 1\n\n\n", "")
    assert made.planned(*ARGUMENTS) == {}
