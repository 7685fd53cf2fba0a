"""A run that diverges at update 3 is a result: its measurements, tables, figures and claims end well and say so."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from drawn_figures import render, sheet_of
from small_runs import probe_segment

from sgdline.analysis.run import analyse_run
from sgdline.claims.judging.job import Asked, judge_claims
from sgdline.config import resolve_config
from sgdline.data.prepare import prepare_dataset
from sgdline.declare.build import build, build_thing
from sgdline.errors import SgdlineError
from sgdline.figures.grammar import style
from sgdline.probes.gather import gather_segments
from sgdline.tables import provenance, read_table
from sgdline.train.run import train_run
from sgdline.train.settings import TrainingSettings
from sgdline.workflow.jobs import Jobs
from sgdline.workflow.layout import run_label

ROOT = Path(__file__).parents[2]
RUN = {"experiment": "blow", "model": "plain", "lr": "10000", "batch_size": "32", "seed": "1"}
FIGURES = [
    "linesearch/fig2_lines", "walk/fig2_sgd_vgg11_e1", "curious/fig_fixed_batch_trajectory",
]  # fmt: skip
CONFIG: dict[str, Any] = {
    "datasets": {"digits": {"source": "digits", "train": 256, "validation": 40, "test": 40}},
    "models": {"plain": {"entry": "sgdline.models:mlp", "kwargs": {"hidden": [64, 48], "batch_norm": False}}},
    "experiments": {
        "blow": {
            "dataset": "digits", "models": ["plain"], "lr": [10000.0], "batch_size": [32], "seed": [1], "steps": 24,
            "segments": 2, "figures": FIGURES,
            "probes": {
                "line": {"every": 1, "resolution": 0.05, "positions": "grid", "sample_losses": True},
                "mline": {"every": 2, "directions": 3},
                "own_direction": {"every": 1, "batch_sizes": [8, 16], "draws": 2}, "evaluation": {"every": 1},
                "interp": {}, "one_step": {"every": 1, "batches": 2, "other_batches": 2},
                "fixed_batches": {"every": 1, "batches": 2}, "alignment": {"every": 1, "lags": [1, 2]},
                "stationarity": {"every": 1, "eigenvectors": 2}, "hvp": {"every": 1, "samples": 64, "tolerance": 0.1},
                "averages": {"every": 1, "swa": [2], "two_point": [1]},
                "spectrum": {"every": 2, "eigenvalues": 2, "epochs": 1, "trace_draws": 1},
            },
            "analysis": {
                "degrees": [1, 2], "same_position_degrees": [1, 2], "fbpal_every": 2, "fbpal_average": 2,
                "distance_first": 2, "distance_every": 1, "smoothing": 3,
            },
        },
        "on": {
            "dataset": "digits", "models": ["plain"], "lr": [0.1], "batch_size": [32], "seed": [1], "steps": 4,
            "start_from": {"experiment": "blow", "lr": 10000.0, "step": 12},
        },
    },
}  # fmt: skip


def wildcards_of(run: dict[str, str], **values: str) -> Any:
    return SimpleNamespace(**(run | values))


@pytest.fixture(scope="module")
def jobs() -> Jobs:
    return Jobs(resolve_config(CONFIG), folder=ROOT / "workflow")


@pytest.fixture(scope="module")
def folder(jobs: Jobs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything that the rules of the run make, with their params."""
    folder = tmp_path_factory.mktemp("run")
    run = wildcards_of(RUN)
    facts = jobs.labels(run)
    digits = build_thing("source", jobs.config["datasets"]["digits"], tag="source")
    prepare_dataset(digits, folder / "digits.arrow", data_dir=folder, download=False, provenance={})
    train_run(
        folder / "digits.arrow",
        trace=folder / "trace.arrow",
        checkpoints=folder / "checkpoints",
        settings=build(TrainingSettings, jobs.training(run)),
        facts=facts,
    )
    for probe in jobs.config["experiments"]["blow"]["probes"]:
        probed = wildcards_of(RUN, probe=probe)
        parts = [folder / probe / Path(name).name for name in jobs.segments(probed)]
        for segment, part in enumerate(parts):
            probe_segment(
                folder / "digits.arrow",
                folder / "checkpoints",
                output=part,
                settings=jobs.probe(probed),
                segment=segment,
                facts=facts,
            )
        gather_segments(parts, output=folder / f"{probe}.arrow", kind=probe)
    analyse(folder, jobs, facts)
    return folder


def analyse(folder: Path, jobs: Jobs, facts: Any) -> None:
    for kind, analysis in jobs.analyses(RUN["experiment"]).items():
        wildcards = wildcards_of(RUN, analysis=kind)
        analyse_run(
            jobs.analysis_name(wildcards),
            {source: folder / f"{source}.arrow" for source in analysis.reads},
            folder / f"{kind}.arrow",
            options=jobs.analysis_options(wildcards),
            settings=jobs.analysis_settings(wildcards),
            provenance=facts,
        )


@pytest.mark.slow
def test_training_and_probes_end_at_update_3(folder: Path, jobs: Jobs) -> None:
    trace = read_table(folder / "trace.arrow", "trace")
    assert provenance(trace)["diverged_at"] == 3
    assert trace["status"].to_pylist() == ["ok", "ok", "ok", "non_finite"]
    for probe in jobs.config["experiments"]["blow"]["probes"]:
        steps = read_table(folder / f"{probe}.arrow", probe)["step"].to_pylist()
        assert steps, probe
        assert max(steps) < 3, probe
        assert not list((folder / probe).glob("*.part")), probe


@pytest.mark.parametrize("figure_id", FIGURES)
def test_figures_say_so(folder: Path, jobs: Jobs, figure_id: str) -> None:
    wildcards = wildcards_of(RUN, figure=figure_id, subject=run_label(jobs.runs[0]))
    tables = {kind: read_table(folder / f"{kind}.arrow", kind) for kind in jobs.drawn_tables(wildcards)}
    with style.applied():
        figure = render(sheet_of(figure_id).draw(tables, settings=jobs.drawn_settings(wildcards)))
    texts = [text.get_text() for panel in figure.axes for text in panel.texts]
    legends = [
        text.get_text() for panel in figure.axes if panel.get_legend() for text in panel.get_legend().get_texts()
    ]
    said = " ".join([*(text.get_text() for text in figure.texts), *texts, *legends]).casefold()
    assert "diverged" in said, said


def test_claims_are_judged(folder: Path, jobs: Jobs) -> None:
    wildcards = SimpleNamespace(judged="linesearch")
    asked = build(Asked, jobs.judged(wildcards))
    outputs = {name: folder / name for name in ("claims", "pooled", "summary")}
    tables = [folder / Path(path).name for path in jobs.judged_tables(wildcards)]
    judge_claims(
        asked.judged("linesearch"), asked, tables, **{f"{name}_output": path for name, path in outputs.items()}
    )
    assert "1 run of 1 diverged" in outputs["summary"].read_text()


def test_what_it_never_reached_cannot_be_continued(folder: Path, jobs: Jobs) -> None:
    on = wildcards_of(RUN | {"experiment": "on", "lr": "0.1"})
    paths = {"trace": folder / "on.arrow", "checkpoints": folder / "on", "start": folder / "checkpoints"}
    with pytest.raises(SgdlineError, match=r"must have reached update 12, got no checkpoint .* it diverged before"):
        train_run(folder / "digits.arrow", settings=build(TrainingSettings, jobs.training(on)), facts={}, **paths)
    assert not (folder / "on.arrow").exists()
