"""Intervals between iterates as Snakemake makes them: from a probe of their own, or from lines at every update."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from pyarrow import ipc
from workflow_copy import Workflow, copy_workflow

from sgdline.tables import provenance, read_table

OWN = '''
from dataclasses import dataclass
from typing import Annotated, ClassVar

from sgdline.analysis.kinds.base import Analysis
from sgdline.declare.vocabulary import Ge


@dataclass(frozen=True, kw_only=True)
class Highest(Analysis):
    """Largest losses of the epochs' intervals."""

    reads: ClassVar[tuple[str, ...]] = ("intervals", "trace")
    uses: ClassVar[tuple[str, ...]] = ("smoothing", "steps")

    last: Annotated[int, Ge(1)] = 2
    """How many."""

    def columns(self, tables, settings):
        losses = sorted(tables["intervals"]["start_loss"].to_pylist())
        return {"loss": losses[-self.last :], "steps": [settings["steps"]] * self.last}

    def table(self):
        import pyarrow as pa

        from sgdline.tables.kind import Kind, required

        columns = [required("loss", pa.float64()), required("steps", pa.int64())]
        return Kind("Highest", rule="analyse_run", schema=pa.schema(columns))
'''
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
        "measured": COMMON
        | {
            "segments": 2,
            "probes": {"interp": INTERP},
            "analysis": {"extra": {"mine/highest.py:Highest": {"last": 3}}},
        },
        "covered": COMMON | {"probes": {"line": LINE}},
        # Lines at every second update say nothing of the updates between.
        "thinned": COMMON | {"probes": {"line": LINE | {"every": 2}}},
    },
}
ARGUMENTS = ("all_tables", "--configfile", "config/own.yaml")


def run_folder(workflow: Workflow, experiment: str) -> Path:
    return workflow.folder / f"results/intervals/{experiment}/net/lr0.2_bs32_seed1"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    workflow = copy_workflow(tmp_path_factory.mktemp("intervals") / "workflow")
    (workflow.folder / "config" / "own.yaml").write_text(yaml.safe_dump(CONFIG))
    (workflow.folder / "mine").mkdir()
    (workflow.folder / "mine/highest.py").write_text(OWN)
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
    thinned = made.planned(*ARGUMENTS, "--config", "run=[thinned]")
    assert (thinned["probe_run"], thinned["line_metrics"]) == (1, 1)
    assert "intervals" not in thinned


def test_an_analysis_of_ones_own_is_made_with_all_tables(made: Workflow) -> None:
    table = ipc.open_file(run_folder(made, "measured") / "Highest.arrow").read_all()
    losses = read_table(run_folder(made, "measured") / "intervals.arrow", "intervals")["start_loss"].to_pylist()
    assert table.to_pydict() == {"loss": sorted(losses)[-3:], "steps": [6, 6, 6]}
    facts = provenance(table)
    assert facts["slice"] == {"smoothing": "auto", "steps": 6, "last": 3}
    assert facts["batch_norm"] == "train"
    assert facts["source"]["source"]["slice"]["training"]["steps"] == 6
    assert not (run_folder(made, "covered") / "Highest.arrow").exists()
    made.edit("mine/highest.py", "sorted(", "sorted(0.0 + loss for loss in ")
    assert made.planned(*ARGUMENTS) == {"Highest": 1, "all_tables": 1}
    made.edit("mine/highest.py", "sorted(0.0 + loss for loss in ", "sorted(")


def test_nothing_is_to_do_again_and_an_edited_analysis_measures_nothing(made: Workflow) -> None:
    assert made.planned(*ARGUMENTS) == {}
    made.edit("src/sgdline/analysis/intervals.py", "def average_epochs(", "_UNUSED = 1\n\n\ndef average_epochs(")
    jobs = made.planned(*ARGUMENTS)
    assert jobs == {"intervals": 2, "interval_epochs": 2, "Highest": 1, "all_tables": 1}
    made.edit("src/sgdline/analysis/intervals.py", "_UNUSED = 1\n\n\n", "")
    made.edit("src/sgdline/probes/interp/probe.py", "def _summary(", "_UNUSED = 1\n\n\ndef _summary(")
    jobs = made.planned(*ARGUMENTS)
    assert (jobs["probe_segment"], jobs["gather_segments"], jobs["intervals"]) == (2, 1, 1)
    assert not {"train_run", "line_fits"} & set(jobs)
    made.edit("src/sgdline/probes/interp/probe.py", "_UNUSED = 1\n\n\n", "")
    assert made.planned(*ARGUMENTS) == {}
