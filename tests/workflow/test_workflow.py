"""The workflow as its users meet it: lint, dry runs, one whole run, what reruns after which change, bad input."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from warm_python import warm_server
from workflow_copy import ROOT, Workflow

from sgdline.papers.sparse.claims import DIAGONAL_CLAIMS, RELU_CLAIMS
from sgdline.tables import provenance, read_table

Planned = Callable[..., dict[str, int]]

SMOKE = ("--configfile", "config/smoke.yaml")
RUN = "results/smoke/smoke/tiny_resnet_w4/lr0.1_bs32_seed1"
LABEL = "smoke_tiny_resnet_w4_lr0.1_bs32_seed1"
OVERLAYS = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("config/**/*.yaml") if path.name != "config.yaml")
CONFIGS = ["config/config.yaml", *OVERLAYS]
FIGURES = 10  # of a run
CLAIMS = {"judge": 1, "gather_claims": 1}
ANALYSIS = {
    "line_fits",
    "line_metrics",
    "line_distances",
    "line_strategies",
    "line_batch_sizes",
    "mline_metrics",
}


def probing(jobs: dict[str, int]) -> int:
    """Return the number of probing jobs: of segments, and of whole runs."""
    return jobs.get("probe_segment", 0) + jobs.get("probe_run", 0)


def test_lint_and_format_are_clean(fresh: Workflow) -> None:
    assert "Congratulations" in fresh.snakemake("--lint").stderr
    command = [sys.executable, "-m", "snakefmt", "--check", "Snakefile", "workflow"]
    result = subprocess.run(command, cwd=fresh.folder, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("config", CONFIGS)
def test_every_config_has_its_jobs(fresh: Workflow, config: str) -> None:
    # Many segments and seeds are many jobs of the same kind: nine tenths of the ten thousand of walk.yaml.
    file = fresh.folder / config
    text = re.sub(r"segments: \d\d+", "segments: 2", file.read_text())
    file.write_text(re.sub(r"( seed: \[\d+)(, \d+)+\]", r"\1]", text))
    jobs = fresh.planned("--configfile", config)
    assert {"prepare_dataset", "train_run"} <= set(jobs)
    assert "plot_figure" in jobs
    assert ("probe_segment" in jobs) == ("gather_segments" in jobs)
    if "curious" in config:
        assert {"one_step_metrics", "predicted_gains", "judge"} <= set(jobs)
        assert probing(jobs) > jobs["train_run"]
    elif "sparse" in config:
        assert probing(jobs) > jobs["train_run"]
    elif "walk" in config:
        assert {"intervals", "judge"} <= set(jobs)
        assert jobs["train_run"] > jobs["intervals"] == jobs["interval_epochs"] <= jobs["plan_probe"]
    else:
        assert probing(jobs) >= jobs["line_fits"] <= jobs["plan_probe"]
        assert jobs["train_run"] >= jobs["line_fits"]


def test_the_slurm_profile_plans_the_same_jobs(planned_as_cloned: Planned) -> None:
    assert planned_as_cloned("--profile", "profiles/slurm", *SMOKE) == planned_as_cloned(*SMOKE)


def test_the_command_for_two_gpus(planned_as_cloned: Planned) -> None:
    # Snakemake's --resources takes every word that follows it, so the target comes first (or after --cores).
    jobs = planned_as_cloned("all_figures", "--cores", "8", "--resources", "gpu=2")
    assert jobs == planned_as_cloned()
    assert jobs["train_run"] > 10


def test_the_smoke_run_leaves_whole_tables_and_figures(smoke: Workflow) -> None:
    run = smoke.folder / RUN
    lines = read_table(run / "line.arrow", "line")
    assert lines["step"].to_pylist() == list(range(0, 24, 2))
    facts = provenance(lines)
    assert facts["replay_drift"] == 0.0
    assert facts["slice"]["training"]["lr"] == 0.1
    assert (facts["samples"], facts["batch_norm"], facts["dataset"]) == (256, "train", "digits_256")
    plan = json.loads((run / "line" / "plan.json").read_text())
    assert facts["plan"] == plan["plan"]
    assert (plan["plan"]["chunks_per_pass"], plan["plan"]["precision"]) == (4, "float32")
    assert facts["precision_error"] == plan["precision_error"] < 1e-5
    assert read_table(run / "trace.arrow", "trace").num_rows == 24
    pictures = sorted((smoke.folder / "results/smoke/figures/linesearch").glob("*/*tiny_resnet_w4*.png"))
    assert len(pictures) == FIGURES
    assert all(path.stat().st_size > 20_000 and path.with_suffix(".pdf").exists() for path in pictures)
    compared = smoke.folder / "results/smoke/figures/linesearch/ext_optimizers/smoke_optimizers.png"
    assert compared.stat().st_size > 20_000
    assert compared.with_suffix(".pdf").exists()
    with (smoke.folder / "results/smoke/tables/claims.csv").open() as file:
        claims = list(csv.DictReader(file))
    expected = {"C1", "C2", "C3", "C3-PAL", "C4", "C5", "C6", "W1", "W2", "A7-saturates"}
    expected |= {f"A{number}" for number in range(1, 11)} | {claim.name for claim in (*DIAGONAL_CLAIMS, *RELU_CLAIMS)}
    assert {row["claim"] for row in claims} == expected
    assert {row["verdict"] for row in claims} <= {"holds", "fails", "undetermined"}
    assert all(bool(row["reason"]) == (row["verdict"] == "undetermined") for row in claims)
    assert "N = 256" in (smoke.folder / "results/smoke/tables/summary.md").read_text()
    assert not list(smoke.folder.glob("results/**/*.part")) + list(smoke.folder.glob("results/**/*.writing"))


def test_the_status_of_a_finished_run_and_of_one_without_a_segment(smoke: Workflow, tmp_path: Path) -> None:
    finished = smoke.status("results/smoke")
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "All there." in finished.stdout
    assert "drift        0: every replay ended exactly" in finished.stdout
    shutil.copytree(smoke.folder / "results/smoke", tmp_path / "copy")
    run = tmp_path / "copy/smoke/tiny_resnet_w4/lr0.1_bs32_seed1"
    (run / "line.arrow").unlink()
    (run / "line/segment1.arrow").unlink()
    found = smoke.status(str(tmp_path / "copy"))
    assert found.returncode == 1
    # The job's log is there and does not end with a fault: it may be under way.
    assert "smoke/tiny_resnet_w4/lr0.1_bs32_seed1: line 1 of 2, 1 running or cut off" in found.stdout


def test_the_report_builds(smoke: Workflow) -> None:
    report = smoke.folder / "report.html"
    smoke.snakemake(*SMOKE, "--report", "report.html")
    text = report.read_text()
    for words in ("fig3_distance_matrix", "claims.csv", "linesearch"):
        assert words in text
    report.unlink()


def test_the_same_config_gives_the_same_bytes(smoke: Workflow, fresh: Workflow) -> None:
    # One table of every kind, from as few runs as can be; of the figures one, as all are drawn by the same few lines.
    tables: dict[str, list[Path]] = {}
    for path in sorted((smoke.folder / "results/smoke").glob("*/*/*/*.arrow")):
        tables.setdefault(path.parent.relative_to(smoke.folder).as_posix(), []).append(path)
    missing, targets = {path.stem for paths in tables.values() for path in paths}, []
    assert len(missing) > 20
    while missing:
        run, paths = max(tables.items(), key=lambda entry: len(missing & {path.stem for path in entry[1]}))
        targets += [f"{run}/{path.name}" for path in paths if path.stem in missing]
        missing -= {path.stem for path in paths}
    picture = f"results/smoke/figures/linesearch/fig6_strategy_metrics/{LABEL}.png"
    with warm_server(hash_seed=2) as python:  # another one: an order of hashes in a file would be seen
        replace(fresh, python=python).snakemake(*targets, picture, "--cores", "2", *SMOKE)
    kinds = ("*.arrow", "*.safetensors", "*.json", "*.png", "*.pdf")
    files = [path for kind in kinds for path in sorted((fresh.folder / "results").rglob(kind))]
    files = [path for path in files if path.name != "expected.json"]  # what the two were started for differs
    assert len(files) > 40
    assert {path.suffix for path in files} == {kind[1:] for kind in kinds}
    for path in files:
        other = smoke.folder / path.relative_to(fresh.folder)
        assert other.read_bytes() == path.read_bytes(), path.name


class TestReruns:
    """What a dry run plans after a change."""

    def test_nothing_after_no_change_a_comment_a_docstring_or_a_touched_script(self, edited: Workflow) -> None:
        edited.edit("src/sgdline/engine/lines.py", "def mean_losses(", "# A comment.\ndef mean_losses(")
        edited.edit("src/sgdline/analysis/fits.py", '"""Fit one polynomial', '"""Fit exactly one polynomial')
        for script in (edited.folder / "workflow" / "scripts").glob("*.py"):
            script.touch()
        assert edited.planned(*SMOKE) == {}

    def test_another_lr_makes_its_own_runs(self, edited: Workflow) -> None:
        edited.edit("config/smoke.yaml", "lr: [0.1]", "lr: [0.1, 0.2]")
        jobs = edited.planned(*SMOKE)
        assert "prepare_dataset" not in jobs
        assert (jobs["train_run"], jobs["plan_probe"], jobs["probe_segment"], jobs["line_fits"]) == (2, 1, 10, 1)
        assert (jobs["plot_figure"], jobs["judge"]) == (FIGURES + 2, 1)  # two compare

    def test_another_model_makes_its_own_run(self, edited: Workflow) -> None:
        block = "models:\n  tiny_mobilenet_w4:\n    entry: sgdline.models:tiny_mobilenet\n    kwargs:\n      width: 4\n"
        edited.edit("config/smoke.yaml", "models:\n  tiny_vgg_w4:", block + "  tiny_vgg_w4:")
        models = "    models: [tiny_resnet_w4"
        edited.edit("config/smoke.yaml", models, models.replace("tiny", "tiny_mobilenet_w4, tiny"))
        jobs = edited.planned(*SMOKE)
        assert (jobs["train_run"], jobs["plan_probe"], jobs["probe_segment"]) == (1, 1, 8)
        assert jobs["plot_figure"] == FIGURES + 2  # two compare
        assert "prepare_dataset" not in jobs

    def test_an_edited_fit_makes_fits_and_what_follows(self, edited: Workflow) -> None:
        edited.edit("src/sgdline/analysis/fits.py", "def fit_lines(", "_UNUSED = 1\n\n\ndef fit_lines(")
        jobs = edited.planned(*SMOKE)
        # Two figures read fits.
        assert jobs == {"line_fits": 1, "mline_metrics": 1, "plot_figure": 2, **CLAIMS}

    def test_a_new_column_makes_its_table_and_what_follows(self, edited: Workflow) -> None:
        column = 'required("step", pa.int64()),'
        edited.edit(
            "src/sgdline/tables/kinds/line_fits.py", column, f'{column}\n            pa.field("new", pa.float64()),'
        )
        new = edited.folder / "src/sgdline/tables/kinds/novel.py"
        new.write_text((edited.folder / "src/sgdline/tables/kinds/trace.py").read_text())
        jobs = edited.planned(*SMOKE)
        # mline_metrics takes its polynomials from the same module as line_fits.
        assert jobs == {"line_fits": 1, "mline_metrics": 1, "plot_figure": 2, **CLAIMS}

    def test_an_edited_kernel_makes_probes_and_what_follows(self, edited: Workflow) -> None:
        edited.edit(
            "src/sgdline/engine/positions.py", "def choose_positions(", "_UNUSED = 1\n\n\ndef choose_positions("
        )
        jobs = edited.planned(*SMOKE)
        assert "train_run" not in jobs
        assert probing(jobs) == 4  # line, mline
        assert set(jobs) >= ANALYSIS

    def test_an_edited_model_makes_its_own_run_only(self, edited: Workflow) -> None:
        edited.edit("src/sgdline/models/mlp.py", "def mlp(", "_UNUSED = 1\n\n\ndef mlp(")
        jobs = edited.planned(*SMOKE)
        assert (jobs["train_run"], probing(jobs)) == (4, 10)  # those of curious and the one of fbpal_sgd

    def test_another_window_makes_the_analysis_only(self, edited: Workflow) -> None:
        edited.edit("config/smoke.yaml", "    analysis:\n", "    analysis:\n      window: 0.15\n")
        jobs = edited.planned(*SMOKE)
        assert set(jobs) == ANALYSIS | {"plot_figure", *CLAIMS}

    def test_an_edited_figure_makes_this_figure_only(self, edited: Workflow) -> None:
        edited.edit("src/sgdline/figures/sample_variance.py", "\n\n@dataclass", "\n_UNUSED = 1\n\n\n@dataclass")
        assert edited.planned(*SMOKE) == {"plot_figure": 1}

    def test_a_planning_option_makes_plans_and_an_equal_plan_keeps_the_lines(self, edited: Workflow) -> None:
        edited.edit("config/smoke.yaml", "precision: float32", "precision: float32\n        memory_gb: 2")
        jobs = edited.planned(*SMOKE)
        # Snakemake cannot know yet that the plans will be the same.
        assert (jobs["plan_probe"], jobs["probe_segment"]) == (1, 4)  # line and mline share a plan
        assert "train_run" not in jobs
        edited.snakemake("--cores", "2", "--until", "plan_probe", *SMOKE)
        assert edited.planned(*SMOKE) == {}

    def test_another_plan_makes_the_lines_again(self, edited: Workflow) -> None:
        edited.edit("config/smoke.yaml", "chunks_per_pass: 4", "chunks_per_pass: 2")
        edited.snakemake("--cores", "2", "--until", "plan_probe", *SMOKE)
        jobs = edited.planned(*SMOKE)
        assert "plan_probe" not in jobs
        assert jobs["probe_segment"] == 4

    def test_another_trial_makes_the_plans_but_no_other_kernel(self, edited: Workflow) -> None:
        edited.edit("src/sgdline/engine/trial.py", "def choose_plan(", "_UNUSED = 1\n\n\ndef choose_plan(")
        edited.snakemake("--cores", "2", "--until", "plan_probe", *SMOKE)
        assert edited.planned(*SMOKE) == {}

    def test_a_changed_probe_option_keeps_the_training(self, edited: Workflow) -> None:
        edited.edit("config/smoke.yaml", "tolerance: 0.003", "tolerance: 0.002")
        jobs = edited.planned(*SMOKE)
        assert "train_run" not in jobs
        assert jobs["probe_segment"] == 4


OWN_MODEL = '''
"""A network of the user's own, outside the package."""
from torch import nn


def net(*, input_shape, num_classes, hidden=8):
    channels, height, width = input_shape
    layers = [nn.Flatten(), nn.Linear(channels * height * width, hidden), nn.Tanh(), nn.Linear(hidden, num_classes)]
    return nn.Sequential(*layers)
'''


def own_config(folder: Path, **models: dict[str, object]) -> str:
    line = {"every": 1, "positions": "grid", "resolution": 0.1, "interval": 0.2, "max_rings": 1}
    # Pinned but for what takes no time to try.
    plan = {"threads": 1, "chunks_per_pass": 1, "positions_per_pass": 1, "channels_last": False, "compiled": False}
    config = {
        "results": "results/own",
        "run": ["own"],
        "datasets": {
            "small": {"source": "digits", "train": 32, "validation": 16, "test": 10, "channels": 3, "image_size": 16}
        },
        "models": models,
        "experiments": {
            "own": {
                "dataset": "small",
                "models": list(models),
                "lr": [0.05],
                "batch_size": [16],
                "seed": [1],
                "steps": 3,
                "probes": {"line": line | {"plan": plan}},
                "analysis": {"window": 0.2},
                "figures": ["linesearch/fig2_lines"],
            }
        },
    }
    (folder / "config" / "own.yaml").write_text(yaml.safe_dump(config))
    return "config/own.yaml"


def test_adding_models_is_editing_yaml(fresh: Workflow) -> None:
    (fresh.folder / "nets").mkdir()
    (fresh.folder / "nets" / "mine.py").write_text(OWN_MODEL)
    config = own_config(
        fresh.folder,
        mine={"entry": "nets/mine.py:net", "kwargs": {"hidden": 12}},
        tv_shufflenet={"entry": "torchvision.models:shufflenet_v2_x0_5", "kwargs": {"num_classes": 10}},
    )
    fresh.snakemake("--cores", "2", "--configfile", config)
    for model in ("mine", "tv_shufflenet"):
        lines = read_table(fresh.folder / f"results/own/own/{model}/lr0.05_bs16_seed1/line.arrow", "line")
        assert lines.num_rows == 3
        assert (fresh.folder / f"results/own/figures/linesearch/fig2_lines/own_{model}_lr0.05_bs16_seed1.png").exists()
    # The file of the user's own model is watched as well.
    assert fresh.planned("--configfile", config) == {}
    fresh.edit("nets/mine.py", "nn.Tanh()", "nn.ReLU()")
    assert fresh.planned("--configfile", config)["train_run"] == 1


def test_an_unfit_model_fails_before_training_in_one_sentence(fresh: Workflow) -> None:
    config = own_config(fresh.folder, wrong={"entry": "torchvision.models:resnet18", "kwargs": {"num_classes": 7}})
    result = fresh.snakemake("--cores", "1", "--configfile", config, check=False)
    assert result.returncode != 0
    assert "Traceback" not in result.stderr
    [line] = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert "torchvision.models:resnet18" in line
    assert "(batch, 10)" in line
    assert not list(fresh.folder.glob("results/own/own/**/*.arrow*"))
    status = fresh.status("results/own")
    assert status.returncode == 1
    assert "own/wrong/lr0.05_bs16_seed1: training failed" in status.stdout
    reason = line.removeprefix("Error: ")
    assert reason in " ".join(fresh.status("results/own").stdout.split())


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("steps: 24", "stepps: 24", ["experiments.smoke", "stepps", "steps"]),
        ("dataset: digits_256", "dataset: digits_255", ["experiments.smoke.dataset", "digits_256"]),
        ("lr: [0.1]", "lr: [-0.1]\n    threads: none", ["experiments.smoke.lr[0]", "experiments.smoke.threads"]),
        ("chunks_per_pass", "chunk_per_pass", ["probes.line.plan.chunk_per_pass", "'chunks_per_pass'"]),
        ("sgdline.models:tiny_resnet", "sgdline.models:tiny_resnt", ["models.tiny_resnet_w4.entry", "'tiny_resnet'"]),
        ("steps: 24", "steps: 030", ["config/smoke.yaml:", "got 030, which YAML reads as 24", "sgdline check"]),
        ("linesearch/fig2_lines", "linesearch/fig2_line", ["experiments.smoke.figures[0]", "linesearch/fig2_lines"]),
    ],
)
def test_a_broken_config_stops_before_any_job(fresh: Workflow, old: str, new: str, words: list[str]) -> None:
    fresh.edit("config/smoke.yaml", old, new)
    result = fresh.snakemake("--cores", "1", *SMOKE, check=False)
    assert result.returncode != 0
    for word in words:
        assert word in result.stderr
    assert "Traceback" not in result.stderr
    assert not (fresh.folder / "results").exists()
