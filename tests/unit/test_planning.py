"""The plan of a run: pinned, chosen, or the simplest where there is nothing to try it on."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_runs import RESNET, line_settings, plan_settings, prepare_digits, probe_segment, training_settings

from sgdline.engine import trial
from sgdline.engine.plan import Plan, PlanReport, read_plan
from sgdline.engine.plan_options import PlanOptions
from sgdline.errors import SgdlineError
from sgdline.probes import planning
from sgdline.probes.planning import plan_probe
from sgdline.probes.settings import PlanSettings
from sgdline.tables import provenance, read_table
from sgdline.train.checkpoints import checkpoint_path, load_checkpoint, save_checkpoint
from sgdline.train.run import train_run
from sgdline.train.settings import TrainingSettings

MODELS: dict[str, dict[str, Any]] = {
    "mlp": {"entry": "sgdline.models:mlp", "kwargs": {"hidden": [16]}},
    "mlp_dropout": {"entry": "sgdline.models:mlp", "kwargs": {"hidden": [16], "dropout": 0.3}},
    "resnet": RESNET,
}
COLUMNS = ("train_loss", "direction_batch_loss", "validation_loss", "chunk_loss")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """150 training images in batches of 32: the last chunk has 22."""
    return prepare_digits(tmp_path_factory.mktemp("dataset"), train=150)


@pytest.fixture(scope="module")
def trained(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The checkpoints of a short run of each network."""
    folders = {}
    for name in MODELS:
        folder = tmp_path_factory.mktemp(name)
        folders[name] = folder / "checkpoints"
        train_run(dataset, trace=folder / "trace.arrow", checkpoints=folders[name], settings=training(name), facts={})
    return folders


def training(model: str, **changes: Any) -> TrainingSettings:
    return training_settings(model=MODELS[model], steps=6, segments=[[0, 2], [2, 6]], **changes)


def planned(dataset: Path, checkpoints: Path, output: Path, settings: dict[str, Any], **options: Any) -> PlanReport:
    plan_probe(dataset, checkpoints, output=output, settings=PlanSettings.from_json(settings), **options)
    return read_plan(output)


@pytest.mark.parametrize("model", sorted(MODELS))
def test_a_chosen_plan_gives_the_lines_of_the_simplest(
    dataset: Path, trained: dict[str, Path], tmp_path: Path, model: str
) -> None:
    settings = plan_settings(training(model), precision="auto", positions="adaptive")
    report = planned(dataset, trained[model], tmp_path / "line" / "plan.json", settings)
    assert report.precision_error is not None
    assert report.precision_error <= 3e-5
    assert report.plan.reseed == (model == "mlp_dropout")
    assert not report.plan.in_place
    rows = {}
    for name, plan in (("planned", tmp_path / "line" / "plan.json"), ("simplest", None)):
        path = tmp_path / f"{name}.arrow"
        probe = {"settings": line_settings(training(model)), "segment": 1, "facts": {}, "output": path}
        probe_segment(dataset, trained[model], plan=plan, **probe)
        table = read_table(path, "line")
        rows[name] = table.to_pylist()
        expected = report if plan is not None else PlanReport(Plan())
        assert provenance(table)["plan"] == expected.plan.to_json()
        assert provenance(table)["precision_error"] == expected.precision_error
    for ours, theirs in zip(rows["planned"], rows["simplest"], strict=True):
        assert ours["positions"] == theirs["positions"]
        for column in COLUMNS:
            np.testing.assert_allclose(ours[column], theirs[column], rtol=0, atol=1e-5, err_msg=column)


def test_a_pinned_plan_is_taken_as_it_stands(dataset: Path, trained: dict[str, Path], tmp_path: Path) -> None:
    pins = {"threads": 1, "chunks_per_pass": 3, "positions_per_pass": 1, "statistics": "view", "compiled": False}
    pins |= {"channels_last": False, "cuda_graphs": False, "reseed": False, "in_place": False, "hooks": False}
    files = [tmp_path / "first.json", tmp_path / "second.json"]
    for file in files:
        plan = planned(dataset, trained["resnet"], file, plan_settings(training("resnet"), plan=pins)).plan
        assert plan.to_json() == {**pins, "precision": "float32"}
    # Nothing of the clock: Snakemake takes equal files for unchanged ones.
    assert files[0].read_bytes() == files[1].read_bytes()
    assert json.loads(files[0].read_text())["samples_per_second"] is None


def test_what_is_not_pinned_is_chosen(dataset: Path, trained: dict[str, Path], tmp_path: Path) -> None:
    settings = plan_settings(training("mlp"), precision="float64", plan={"chunks_per_pass": 2})
    report = planned(dataset, trained["mlp"], tmp_path / "plan.json", settings)
    assert (report.plan.precision, report.plan.chunks_per_pass, report.precision_error) == ("float64", 2, 0.0)
    assert report.plan.reseed is False


def test_pins_that_do_not_suit_the_network_are_told(dataset: Path, trained: dict[str, Path], tmp_path: Path) -> None:
    settings = plan_settings(training("mlp_dropout"), plan={"chunks_per_pass": 2})
    with pytest.raises(SgdlineError, match=r"reseed must be false beside chunks_per_pass: 2, got true\. Random masks"):
        planned(dataset, trained["mlp_dropout"], tmp_path / "plan.json", settings)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("model", ["mlp", "mlp_dropout"])
def test_a_run_that_diverges_at_once_gets_the_simplest_plan(
    dataset: Path, trained: dict[str, Path], tmp_path: Path, model: str
) -> None:
    start = load_checkpoint(trained[model], 0, device="cpu")  # type: ignore[arg-type]
    start.parameters[:] = float("nan")
    save_checkpoint(tmp_path, start)
    assert checkpoint_path(tmp_path, 0).exists()
    report = planned(dataset, tmp_path, tmp_path / "plan.json", plan_settings(training(model)))
    assert report.plan == Plan(reseed=model == "mlp_dropout")
    assert "no direction" in report.notes[0]
    pinned = plan_settings(training(model), precision="float64", plan={"threads": 1})
    pinned_plan = planned(dataset, tmp_path, tmp_path / "plan.json", pinned).plan
    assert pinned_plan == report.plan.but(precision="float64", threads=1)


@pytest.mark.parametrize(
    ("line", "lines", "positions"),
    [
        ({"every": 1, "positions": "adaptive"}, 4, 20),
        ({"every": 2, "positions": "adaptive"}, 2, 20),
        ({"every": 5, "positions": "grid", "resolution": 0.1}, 1, 11),
        ({"every": 1, "positions": "grid", "resolution": 0.006, "validation": False}, 4, 167),
    ],
)
def test_the_trial_knows_the_work_of_the_largest_segment_and_the_wishes(
    dataset: Path,
    trained: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    line: dict[str, Any],
    lines: int,
    positions: int,
) -> None:
    seen: list[Any] = []

    def choose(subject: trial.Subject, wishes: trial.Wishes, work: trial.Work) -> PlanReport:
        seen.extend([subject, wishes, work])
        return PlanReport(Plan(), samples_per_second=3.0, notes=("12.3 s",))

    monkeypatch.setattr(planning, "choose_plan", choose)
    settings = plan_settings(training("resnet"), memory_gb=2.5, precision_tolerance=1e-4, plan={"threads": 1}, **line)
    report = planned(dataset, trained["resnet"], tmp_path / "plan.json", settings, threads=1)
    subject, wishes, work = seen
    validation = 40 if line.get("validation", True) else 0
    assert asdict(work) == {"lines": lines, "positions": positions, "samples": 150 + validation + 32}
    assert (wishes.precision, wishes.precision_tolerance, wishes.memory_gb) == ("float32", 1e-4, 2.5)
    assert (wishes.threads, wishes.pinned) == (1, PlanOptions(threads=1))
    assert sum(float((part.double() ** 2).sum()) for part in subject.direction.values()) == pytest.approx(1.0)
    assert (len(subject.targets), subject.chunk_size, len(subject.mask_seeds)) == (150, 32, 5)
    assert (report.samples_per_second, report.notes) == (None, ())
