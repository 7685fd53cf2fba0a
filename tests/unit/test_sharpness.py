"""Learning rates in units of the inverse sharpness: what is measured, the rates of a run, replays, bad input.

tests/oracle/test_hessian_oracle.py holds the eigenvalue against dense Hessians in float64.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from small_runs import line_settings, prepare_digits, probe_segment, training_settings

from sgdline.data.images import ImageData, load_images
from sgdline.errors import SgdlineError
from sgdline.figures.grammar import style
from sgdline.probes import sharpness
from sgdline.probes.interp.options import InterpOptions
from sgdline.probes.interp.trial import trial
from sgdline.probes.sharpness import measure_sharpness
from sgdline.tables import provenance, read_table
from sgdline.train import run as training_run
from sgdline.train.checkpoints import load_checkpoint, saved_steps
from sgdline.train.loop import Trainer
from sgdline.train.run import train_run
from sgdline.train.settings import TrainingSettings

CPU = torch.device("cpu")
# Logits w -> curvature * class * |w|^2 / 2, at w = 0: the Hessian is curvature * (4.5 - mean target) * identity.
BOWL = """
import torch
from torch import nn


class Bowl(nn.Module):
    def __init__(self, curvature):
        super().__init__()
        self.curvature = curvature
        self.place = nn.Parameter(torch.zeros(6))

    def forward(self, images):
        height = self.curvature * (self.place**2).sum() / 2
        return images.flatten(1)[:, :1] * 0 + height * torch.arange(10.0, device=images.device)


def bowl(curvature):
    return Bowl(curvature)
"""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """100 images: in batches of 32 the last one has 4."""
    return prepare_digits(tmp_path_factory.mktemp("dataset"), train=100)


def sharp(**changes: Any) -> TrainingSettings:
    return training_settings(**{"lr_unit": "sharpness", "lr": 0.3, **changes})


def measure(dataset: Path, path: Path, block: dict[str, Any], *, start: Path | None = None) -> float:
    measure_sharpness(dataset, output=path, settings=block, start=start)
    return float(json.loads(path.read_text())["largest_eigenvalue"])


def train(
    dataset: Path, folder: Path, block: TrainingSettings, *, start: Path | None = None, measured: Path | None = None
) -> pa.Table:
    files = {"trace": folder / "trace.arrow", "checkpoints": folder / "checkpoints"}
    train_run(dataset, **files, settings=block, facts={}, start=start, sharpness=measured)
    return read_table(folder / "trace.arrow", "trace")


@pytest.fixture(scope="module")
def measured(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that all runs from random parameters share here, whatever their rate, schedule and optimizer."""
    path = tmp_path_factory.mktemp("measured") / "deep" / "sharpness.json"
    measure(dataset, path, sharp())
    return path


@pytest.fixture(scope="module")
def largest(measured: Path) -> float:
    return float(json.loads(measured.read_text())["largest_eigenvalue"])


def bowl(dataset: Path, folder: Path, curvature: float) -> tuple[dict[str, Any], float]:
    """Return settings of a run in the bowl and the multiple of the identity that its Hessian is."""
    (folder / "bowl.py").write_text(BOWL)
    targets = load_images(dataset, device=CPU).train.targets
    model = {"entry": f"{folder / 'bowl.py'}:bowl", "kwargs": {"curvature": curvature}}
    return sharp(model=model), curvature * (4.5 - float(targets.double().mean()))


def interrupt(monkeypatch: pytest.MonkeyPatch, *, step: int) -> None:
    row = training_run._trace_row

    def failing_row(update: Any, *rest: Any) -> dict[str, Any]:
        if update.step == step:
            raise KeyboardInterrupt
        return row(update, *rest)

    monkeypatch.setattr(training_run, "_trace_row", failing_row)


# --- what is measured -------------------------------------------------------------------------------------------------


def test_the_file_has_the_eigenvalue_and_what_it_took(measured: Path) -> None:
    found = json.loads(measured.read_text())
    assert set(found) == {"largest_eigenvalue", "residual", "products"}
    assert found["largest_eigenvalue"] > 0
    assert 0 <= found["residual"] < 1e-2
    assert found["products"] > 10
    assert [path.name for path in measured.parent.iterdir()] == ["sharpness.json"]


def test_what_says_how_a_run_goes_on_does_not_count(dataset: Path, measured: Path, tmp_path: Path) -> None:
    other = sharp(lr=7.0, steps=3, segments=[[0, 3]], momentum=0.0, weight_decay=0.0)
    measure(dataset, tmp_path / "other.json", other)
    assert (tmp_path / "other.json").read_bytes() == measured.read_bytes()


def test_a_bowl_has_its_curvature(dataset: Path, tmp_path: Path) -> None:
    _, upright = bowl(dataset, tmp_path, 1.0)
    block, expected = bowl(dataset, tmp_path, math.copysign(3.0, upright))
    assert expected > 0
    assert measure(dataset, tmp_path / "bowl.json", block) == pytest.approx(expected, rel=1e-5)


def test_a_start_without_a_positive_eigenvalue_is_one_sentence(dataset: Path, tmp_path: Path) -> None:
    _, upright = bowl(dataset, tmp_path, 1.0)
    for curvature, words in ((-math.copysign(2.0, upright), r"-[\d.]+"), (0.0, "-?0")):
        block, _ = bowl(dataset, tmp_path, curvature)
        with pytest.raises(SgdlineError, match=rf"^lr_unit must be absolute .*got sharpness \({words}\)\. Set lr_unit"):
            measure(dataset, tmp_path / "none.json", block)
    assert not list(tmp_path.glob("none*"))


def test_a_start_without_finite_products_is_one_sentence(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load_broken(path: Path, *, device: torch.device) -> ImageData:
        images = load_images(path, device=device)
        images.train.inputs[3] = math.inf
        return images

    monkeypatch.setattr(sharpness, "load_images", load_broken)
    with pytest.raises(
        SgdlineError, match=r"^lr_unit must be absolute .*got sharpness \(no finite one\)\. Set lr_unit"
    ):
        measure(dataset, tmp_path / "none.json", sharp())
    assert not list(tmp_path.glob("none*"))


def test_an_eigenvalue_that_does_not_converge_is_no_unit(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharpness, "_OPTIONS", replace(sharpness._OPTIONS, tolerance=1e-12, max_products=80))
    with pytest.raises(SgdlineError, match=r"lr_unit must be .*\([\d.]+, not converged after \d+ products\)"):
        measure(dataset, tmp_path / "none.json", sharp())
    assert not list(tmp_path.glob("none*"))


# --- the rates of a run -----------------------------------------------------------------------------------------------


def test_the_rate_is_a_multiple_of_the_inverse_to_the_bit(
    dataset: Path, measured: Path, largest: float, tmp_path: Path
) -> None:
    trace = train(dataset, tmp_path / "sharp", sharp(), measured=measured)
    assert trace["lr"].to_pylist() == [0.3 / largest] * 12
    assert provenance(trace)["sharpness"] == largest
    # The same run by its absolute rate.
    plain = train(dataset, tmp_path / "plain", training_settings(lr=0.3 / largest))
    for name in ("lr", "batch_loss", "gradient_norm", "distance_from_start"):
        assert trace[name].to_pylist() == plain[name].to_pylist()


@pytest.mark.parametrize(
    ("schedule", "factors"),
    [
        ({"name": "step", "milestones": [5, 9], "factor": 0.5}, [1.0] * 5 + [0.5] * 4 + [0.25] * 3),
        ({"name": "cyclical", "lowest": 0.0, "period": 4}, [0.0, 0.5, 1.0, 0.5] * 3),
        ({"name": "trapezoid", "warmup": 4, "cooldown": 2}, [0.25, 0.5, 0.75] + [1.0] * 8 + [0.5]),
    ],
)
def test_a_schedule_multiplies(
    dataset: Path, measured: Path, largest: float, tmp_path: Path, schedule: dict[str, Any], factors: list[float]
) -> None:
    trace = train(dataset, tmp_path, sharp(lr=0.5, schedule=schedule), measured=measured)
    assert trace["lr"].to_pylist() == [0.5 * factor / largest for factor in factors]


def test_a_schedule_from_0_plans_its_first_interval_at_the_highest_rate(dataset: Path, largest: float) -> None:
    images = load_images(dataset, device=CPU)
    block = sharp(schedule={"name": "cyclical", "lowest": 0.0, "period": 4})
    trainer = Trainer(block, images, device=CPU)
    trainer.set_sharpness(largest)
    update = next(trainer.updates(0, 1))
    assert update.lr == 0.0
    subject, _ = trial(trainer, images, block, InterpOptions(), update)
    assert subject.interval == 0.3 / largest * update.direction_norm


def test_absolute_rates_stay_what_they_were(dataset: Path, measured: Path, tmp_path: Path) -> None:
    trace = train(dataset, tmp_path / "absent", training_settings())
    assert trace["lr"].to_pylist() == [0.1] * 12
    assert "sharpness" not in provenance(trace)
    assert set(load_checkpoint(tmp_path / "absent/checkpoints", 4, device=CPU).rule) == {"momentum"}
    train(dataset, tmp_path / "absolute", training_settings(lr_unit="absolute"), measured=measured)
    for name in ("trace.arrow", "checkpoints/step00000012.safetensors"):
        assert (tmp_path / "absent" / name).read_bytes() == (tmp_path / "absolute" / name).read_bytes()


def test_a_run_that_diverges_is_a_result(dataset: Path, measured: Path, tmp_path: Path) -> None:
    plain = {"entry": "sgdline.models:mlp", "kwargs": {"hidden": [16], "batch_norm": False}}
    trace = train(dataset, tmp_path, sharp(lr=1e30, model=plain), measured=measured)
    assert trace["status"].to_pylist()[-1] == "non_finite"
    assert saved_steps(tmp_path / "checkpoints") == [0]


def test_a_run_without_its_file_is_refused(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="sharpness must be the file of rule measure_sharpness, got None"):
        train(dataset, tmp_path, sharp())
    trainer = Trainer(sharp(), load_images(dataset, device=CPU), device=CPU)
    with pytest.raises(RuntimeError, match="has to be set first"):
        next(trainer.updates(0, 1))
    with pytest.raises(RuntimeError, match="has to be set first"):
        trainer.checkpoint(0)


# --- replays and interruptions ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("segments", [[[0, 12]], [[0, 4], [4, 8], [8, 12]], [[0, 5], [5, 6], [6, 12]]])
def test_every_segment_replays_with_the_same_rates(
    dataset: Path, measured: Path, largest: float, tmp_path: Path, segments: list[list[int]]
) -> None:
    noise = {"factor": 0.01, "reading": "variance", "batch_size": "auto"}
    optimizer = {"name": "sgd", "momentum": 0.9, "weight_decay": 0.01, "noise": noise}
    schedule = {"name": "step", "milestones": [7], "factor": 0.5}
    block = sharp(segments=segments, optimizer=optimizer, schedule=schedule)
    trace = train(dataset, tmp_path, block, measured=measured)
    rates = {}
    for segment in range(len(segments)):
        path = tmp_path / f"{segment}.arrow"
        settings = line_settings(block, every=1)
        probe_segment(dataset, tmp_path / "checkpoints", output=path, settings=settings, segment=segment, facts={})
        table = read_table(path, "line")
        assert provenance(table)["replay_drift"] == 0.0
        rates |= dict(zip(table["step"].to_pylist(), table["lr"].to_pylist(), strict=True))
    assert [rates[step] for step in range(12)] == trace["lr"].to_pylist() == [0.3 / largest] * 7 + [0.15 / largest] * 5
    kept = {
        float(load_checkpoint(tmp_path / "checkpoints", stop, device=CPU).rule["sharpness"]) for _, stop in segments
    }
    assert kept == {largest}


def test_an_interrupted_training_goes_on_with_the_same_rate(
    dataset: Path, measured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(dataset, tmp_path / "whole", sharp(), measured=measured)
    for step in (1, 6):
        with monkeypatch.context() as patch:
            interrupt(patch, step=step)
            with pytest.raises(KeyboardInterrupt):
                train(dataset, tmp_path / "cut", sharp(), measured=measured)
    train(dataset, tmp_path / "cut", sharp(), measured=measured)
    for name in ("trace.arrow", "checkpoints/step00000000.safetensors", "checkpoints/step00000012.safetensors"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_rows_of_an_interrupted_training_belong_to_their_unit(
    dataset: Path, measured: Path, largest: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        interrupt(patch, step=6)
        with pytest.raises(KeyboardInterrupt):
            train(dataset, tmp_path, sharp(), measured=measured)
    again = tmp_path / "again.json"
    again.write_text(json.dumps({"largest_eigenvalue": 2 * largest}))
    trace = train(dataset, tmp_path, sharp(), measured=again)
    assert trace["lr"].to_pylist() == [0.3 / (2 * largest)] * 12
    assert float(load_checkpoint(tmp_path / "checkpoints", 4, device=CPU).rule["sharpness"]) == 2 * largest


def test_a_continued_run_has_the_unit_of_its_own_start(
    dataset: Path, measured: Path, largest: float, tmp_path: Path
) -> None:
    parent = tmp_path / "parent"
    train(dataset, parent, sharp(), measured=measured)
    block = sharp(start_from={"training": sharp(), "step": 8}, lr=0.2)
    own = measure(dataset, tmp_path / "own.json", block, start=parent / "checkpoints")
    assert abs(own / largest - 1) > 0.01
    trace = train(dataset, tmp_path / "child", block, start=parent / "checkpoints", measured=tmp_path / "own.json")
    assert trace["lr"].to_pylist() == [0.2 / own] * 12
    assert float(load_checkpoint(tmp_path / "child/checkpoints", 0, device=CPU).rule["sharpness"]) == own
    # One with absolute rates takes nothing over.
    absolute = training_settings(start_from={"training": sharp(), "step": 8}, lr=0.2)
    trace = train(dataset, tmp_path / "absolute", absolute, start=parent / "checkpoints")
    assert trace["lr"].to_pylist() == [0.2] * 12
    assert load_checkpoint(tmp_path / "absolute/checkpoints", 0, device=CPU).rule == {}


def test_a_run_that_did_not_get_there_cannot_be_measured(dataset: Path, tmp_path: Path) -> None:
    block = sharp(start_from={"training": sharp(), "step": 8})
    with pytest.raises(SgdlineError, match="must have reached update 8, got no checkpoint"):
        measure(dataset, tmp_path / "none.json", block, start=tmp_path)


# --- figures ----------------------------------------------------------------------------------------------------------


def test_figures_write_the_rate_as_the_config_gives_it() -> None:
    assert style.lr_text({"lr": "0.5"}) == "0.5"
    assert style.lr_text({"lr": "0.5", "lr_unit": "absolute"}) == "0.5"
    assert style.lr_text({"lr": "0.5", "lr_unit": "sharpness"}) == "0.5/λ₀"
    named = {"lr": "2", "lr_unit": "sharpness", "batch_size": 64}
    assert [style.setting_text(named, key) for key in ("lr", "batch_size")] == ["2/λ₀", "64"]
    run = {"experiment": "walk", "model": "mlp", "dataset": "digits", "seed": 1, "probes": {}, **named}
    assert "lr 2/λ₀" in style.run_facts({}, run | {"optimizer": {"name": "sgd"}})
