"""Many jobs: planned one by one, without torch, and named in the record that `sgdline status` reads."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from dataclasses import replace
from types import ModuleType

import pytest
from workflow_copy import ROOT, Workflow

RUNS, SEGMENTS, PROBES = 20, 3, 3


@pytest.fixture(scope="module")
def dag() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmarks_dag", ROOT / "benchmarks" / "dag.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_segment_of_every_run_is_a_job_and_torch_stays_out(fresh: Workflow, dag: ModuleType) -> None:
    overlay = dag.many_runs(results="results/many", runs=RUNS, segments=SEGMENTS)
    (fresh.folder / "config/many.yaml").write_text(overlay)
    # `python -m snakemake` looks for modules in its working directory first.
    (fresh.folder / "torch.py").write_text("open('imported', 'w').close(); raise RuntimeError('torch was imported')")
    fresh = replace(fresh, python=sys.executable)  # that of the other tests has imported torch
    jobs = fresh.planned("all_figures", "all_tables", "--configfile", "config/many.yaml")
    assert not (fresh.folder / "imported").exists()
    jobs.pop("all_tables")
    each = (
        *("train_run", "line_fits", "line_metrics", "line_distances", "line_strategies"),
        *("intervals", "interval_epochs"),
    )
    assert jobs == {
        "prepare_dataset": 1,
        **dict.fromkeys(each, RUNS),
        "plan_probe": 2 * RUNS,  # line and interp have a plan
        "probe_segment": RUNS * SEGMENTS * PROBES,
        "gather_segments": RUNS * PROBES,
        "plot_figure": RUNS,
        "judge": 1,
        "gather_claims": 1,
    }
    result = subprocess.run([sys.executable, "-c", "import torch"], cwd=fresh.folder, capture_output=True, text=True)
    assert "torch was imported" in result.stderr
    assert (fresh.folder / "imported").exists()  # so the first look could have failed
