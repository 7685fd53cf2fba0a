"""Names of files: one for rules, which ask with wildcards, for jobs of a run, and for what reads a folder again."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from types import SimpleNamespace

import pytest

from sgdline.workflow import layout
from sgdline.workflow.layout import RUN, Layout, NamesRun, RunKey, run_key, run_label, run_path

KEY = RunKey("small", "mlp", "1e-05", 64, 3)
FILES = Layout("out")
BELOW = Layout()


def test_names_below_a_folder() -> None:
    run = "out/small/mlp/lr1e-05_bs64_seed3"
    label = "small_mlp_lr1e-05_bs64_seed3"
    assert FILES.table(KEY, "line_fits") == f"{run}/line_fits.arrow"
    assert FILES.checkpoints(KEY) == f"{run}/checkpoints"
    assert FILES.plan(KEY, "line") == f"{run}/line/plan.json"
    assert FILES.segment(KEY, "line", 12) == f"{run}/line/segment12.arrow"
    assert FILES.log("train_run", KEY) == f"out/logs/train_run/{label}.log"
    assert FILES.log("plot_figure", "walk", "fig9", KEY) == f"out/logs/plot_figure/walk_fig9_{label}.log"
    assert FILES.log("gather_claims") == "out/logs/gather_claims.log"
    assert FILES.benchmark("probe_segment", KEY, "line", 12) == f"out/benchmarks/probe_segment/{label}_line_12.tsv"
    assert FILES.figure("walk/fig9", KEY, "png") == f"out/figures/walk/fig9/{label}.png"
    assert FILES.figure("walk/fig9", "several", "pdf") == "out/figures/walk/fig9/several.pdf"
    assert FILES.claims("pooled", "walk") == "out/tables/walk/claims_over_seeds.csv"
    assert FILES.claims("summary") == "out/tables/summary.md"
    assert BELOW.sharpness("digits/mlp/chunk64_seed3") == "sharpness/digits/mlp/chunk64_seed3.json"
    assert (BELOW.dataset("digits"), BELOW.toy("bowl")) == ("datasets/digits.arrow", "toys/bowl.arrow")


@pytest.mark.parametrize(
    "name",
    [
        lambda run: FILES.table(run, "line"),
        lambda run: FILES.plan(run, "line"),
        lambda run: FILES.segment(run, "line", 1),
        lambda run: FILES.figure("walk/fig9", run, "png"),
        lambda run: FILES.log("gather_segments", run, "line"),
        run_label,
    ],
)
def test_a_pattern_with_its_wildcards_filled_in_is_the_name_of_the_run(name: Callable[[NamesRun], str]) -> None:
    assert name(RUN).format(**asdict(KEY)) == name(KEY)


def test_wildcards_are_texts_and_name_the_same_run() -> None:
    wildcards = SimpleNamespace(**{name: str(value) for name, value in asdict(KEY).items()}, probe="line")
    assert run_key(wildcards) == KEY
    assert BELOW.run(wildcards) == run_path(KEY)


def test_a_log_gives_its_job_back() -> None:
    assert layout.job_of_log(BELOW.log("train_run", KEY)) == ("train_run", run_label(KEY))
    assert layout.job_of_log(BELOW.log("measure_sharpness", "a/b/c")) == ("measure_sharpness", "a/b/c")
    assert layout.job_of_log(BELOW.log("gather_claims")) == ("gather_claims", "")
    assert layout.job_of_log(BELOW.log("judge", "own/LossFalls")) == ("judge", "own/LossFalls")
    for other in (BELOW.benchmark("train_run", KEY), "more/logs/train_run/a.log", "logs/train_run/a.log.part"):
        assert layout.job_of_log(other) is None


def test_tables_are_recognised() -> None:
    line = BELOW.table(KEY, "line")
    assert layout.traced_run(BELOW.table(KEY, "trace")) == run_path(KEY)
    assert layout.traced_run(line) is None
    assert layout.traced_run(f"copy/{BELOW.table(KEY, 'trace')}") is None
    assert layout.is_segment(BELOW.segment(KEY, "line", 3))
    assert not layout.is_segment(line)
    assert layout.is_part_of_the_claims(BELOW.claims("claims", "walk"))
    assert layout.is_part_of_the_claims(BELOW.claims("claims", "own/LossFalls"))
    assert not layout.is_part_of_the_claims(BELOW.claims("claims"))
    assert not layout.is_part_of_the_claims(BELOW.claims("pooled", "walk"))


@pytest.mark.parametrize(
    ("path", "contents"),
    [
        (f"{BELOW.checkpoints(KEY)}/step00000000.safetensors", "checkpoints"),
        (f"{BELOW.checkpoints(KEY)}.part/step00000000.safetensors", "checkpoints"),
        (BELOW.table(KEY, "trace") + ".part", "unfinished"),
        (BELOW.figure("walk/fig9", KEY, "png") + ".writing", "unfinished"),
        (BELOW.segment(KEY, "line", 3), "segments"),
        (BELOW.table(KEY, "line"), "tables"),
        (BELOW.claims("summary"), "tables"),
        (BELOW.dataset("digits"), "data sets"),
        (BELOW.figure("walk/fig9", "several", "pdf"), "figures"),
        (BELOW.log("judge", "walk"), "logs"),
        (BELOW.benchmark("train_run", KEY), "logs"),
    ],
)
def test_the_disks_account(path: str, contents: str) -> None:
    assert layout.contents(path) == contents


@pytest.mark.parametrize("first", ["sgdline.workflow.runs", "sgdline.workflow.jobs", "sgdline.workflow.claims"])
def test_planning_imports_nothing_heavy_and_any_module_can_be_the_first(first: str) -> None:
    program = f"""
import sys, {first}
heavy = {{"torch", "numpy", "snakemake", "pyarrow", "matplotlib"}} & set(sys.modules)
sys.exit(f"imported: {{heavy}}" if heavy else 0)
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
