"""Lines of the published sampler through the workflow: their tables and figures, and what reruns after which change."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from published_pickles import BATCH, LR, synthetic_lines, write_pickle, write_run
from workflow_copy import Workflow

from sgdline.tables import provenance, read_table

RUN = f"published/resnet20/lr{LR}_bs{BATCH}_seed1"
FIGURES = ("fig2_lines", "fig3_distance_matrix", "fig4_poly_mae")
TARGETS = [
    f"results/figures/linesearch/{figure}/{RUN.replace('/', '_')}.{suffix}"
    for figure in FIGURES
    for suffix in ("png", "pdf")
]
CORES = ("--cores", "2")


@pytest.fixture
def published(fresh: Workflow) -> Workflow:
    """A workflow with one experiment of its own and one whose lines lie in the folder published_run."""
    analysis = {"degrees": [1, 2], "distance_first": 4, "distance_every": 1, "smoothing": 3, "figure_lines": [0.1, 0.5]}
    line = {"positions": "grid", "interval": 0.5, "resolution": 0.006}
    common = {"dataset": "digits", "lr": [LR], "batch_size": [BATCH], "seed": [1], "steps": 12, "analysis": analysis}
    experiments = {
        "published": {
            **common,
            "models": ["resnet20"],
            "import_lines": "published_run",
            "probes": {"line": line},
            "figures": [f"linesearch/{figure}" for figure in FIGURES],
        },
        "trained": {**common, "models": ["mlp"], "probes": {"line": line}},
    }
    config = {
        "datasets": {"digits": {"source": "digits", "train": 12, "test": 10}},
        "models": {name: {"entry": f"sgdline.models:{name}"} for name in ("resnet20", "mlp")},
        "experiments": experiments,
    }
    (fresh.folder / "config" / "config.yaml").write_text(yaml.safe_dump(config))
    return fresh


def test_published_lines_become_figures_and_rerun_when_they_change(published: Workflow) -> None:
    folder = write_run(published.folder / "published_run", synthetic_lines(12))
    published.snakemake(*TARGETS, *CORES)
    lines = read_table(published.folder / "results" / RUN / "line.arrow", "line")
    assert lines["step"].to_pylist() == list(range(12))
    facts = provenance(lines)
    assert (facts["imported"], facts["samples"], facts["model"], facts["dataset"]) == (True, 10, "resnet20", "digits")
    assert read_table(published.folder / "results" / RUN / "trace.arrow", "trace").num_rows == 12
    for target in TARGETS:
        assert (published.folder / target).stat().st_size > 5_000
    (folder / "notes.txt").write_text("not a line")
    assert published.planned(*TARGETS, *CORES) == {}
    write_pickle(folder, 12, synthetic_lines(1)[0].fields(lines["positions"][0].values.to_numpy()))
    assert published.planned(*TARGETS, *CORES)["import_lines"] == 1


def test_a_trained_experiment_beside_it_is_trained(published: Workflow) -> None:
    write_run(published.folder / "published_run", synthetic_lines(2))
    tables = [f"results/{run}/line.arrow" for run in (RUN, RUN.replace("published/resnet20", "trained/mlp"))]
    jobs = published.planned(*tables, *CORES)
    assert jobs == {
        "import_lines": 1, "prepare_dataset": 1, "train_run": 1, "plan_probe": 1, "probe_run": 1,
    }  # fmt: skip


def test_no_experiment_needs_to_be_trained(published: Workflow) -> None:
    """No rule is left without an experiment that it could match."""
    config = published.folder / "config" / "config.yaml"
    blocks = yaml.safe_load(config.read_text())
    del blocks["experiments"]["trained"]
    config.write_text(yaml.safe_dump(blocks))
    write_run(published.folder / "published_run", synthetic_lines(2))
    assert published.planned("all_runs", *CORES) == {"import_lines": 1, "all_runs": 1}


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (lambda folder: None, ["must be a readable folder, got published_run", "Unpack the published lines"]),
        (lambda folder: write_pickle(folder, 0, [1, 2]), ["line_data_0.pickle", "8 entries, got 2 entries"]),
    ],
)
def test_unfit_folders_are_one_sentence(published: Workflow, prepare: object, words: list[str]) -> None:
    assert callable(prepare)
    prepare(published.folder / "published_run")
    result = published.snakemake(f"results/{RUN}/line.arrow", *CORES, check=False)
    assert result.returncode != 0
    assert "Traceback" not in result.stderr
    [line] = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    for word in words:
        assert word in line
    assert not list(Path(published.folder).glob("results/**/*.arrow*"))
