"""The averages probe against a run that keeps every iterate, and a network written out in numpy, all in float64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from small_runs import prepare_digits, probe_segment, training_settings

from sgdline.data.images import load_images
from sgdline.probes.averages import probe as averages
from sgdline.probes.averages.probe import AveragesProbe
from sgdline.tables import provenance, read_table
from sgdline.train.loop import Trainer, Update
from sgdline.train.run import train_run
from sgdline.train.settings import TrainingSettings

CPU = torch.device("cpu")
Vector = NDArray[np.float64]
HIDDEN, STEPS = 8, 23
MODEL = {"entry": "sgdline.models:mlp", "kwargs": {"hidden": [HIDDEN]}}
SETTINGS = {"every": 6, "ema": [0.5, 0.9], "swa": [2, 4], "swa_spacing": 3, "two_point": [1, 6, 19]}
EVALUATED = [0, 6, 12, 18, STEPS]
TRAINING = training_settings(model=MODEL, steps=STEPS, segments=[[0, 8], [8, STEPS]], lr=0.2)  # batches 32, 32, 26


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare_digits(tmp_path_factory.mktemp("dataset"), train=90)


@pytest.fixture(scope="module")
def trained(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    train_run(dataset, trace=folder / "trace", checkpoints=folder / "checkpoints", settings=TRAINING, facts={})
    return folder / "checkpoints"


def probed(
    dataset: Path, checkpoints: Path, output: Path, training: TrainingSettings = TRAINING
) -> list[dict[str, Any]]:
    probe = {"training": training, "probe": "averages", "settings": SETTINGS, "replay_tolerance": 0.0}
    probe_segment(dataset, checkpoints, output=output, settings=probe, segment=0, facts={})
    rows: list[dict[str, Any]] = read_table(output, "averages").to_pylist()
    return rows


def iterates(dataset: Path) -> list[Vector]:
    trainer = Trainer(TRAINING, load_images(dataset, device=CPU), device=CPU)
    kept = [trainer.vector.value.double().numpy().copy() for _ in trainer.updates(0, STEPS)]
    return [*kept, trainer.vector.value.double().numpy().copy()]


def naive_averages(kept: list[Vector], step: int) -> dict[tuple[str, float | None], Vector]:
    """Every average that ends at an update, by its words in papers.md C-M6."""
    found: dict[tuple[str, float | None], Vector] = {("iterate", None): kept[step]}
    for decay in SETTINGS["ema"]:
        mean = kept[0]
        for theta in kept[1 : step + 1]:
            mean = decay * mean + (1 - decay) * theta
        found["ema", decay] = mean
    for count in SETTINGS["swa"]:
        members = [step - 3 * index for index in range(count)]
        if members[-1] >= 0:
            found["swa", count] = np.mean([kept[member] for member in members], axis=0)
    for distance in SETTINGS["two_point"]:
        if distance <= step:
            found["two_point", distance] = (kept[step] + kept[step - distance]) / 2
    return found


def naive_evaluation(theta: Vector, dataset: Path) -> dict[str, float]:
    """Loss and accuracy of linear - BatchNorm - ReLU - linear, its statistics re-estimated."""
    images = load_images(dataset, device=CPU)
    shapes = [(HIDDEN, 64), (HIDDEN,), (HIDDEN,), (HIDDEN,), (10, HIDDEN), (10,)]
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])
    assert ends[-1] == len(theta)
    first, bias, gamma, beta, second, last = (
        part.reshape(shape) for part, shape in zip(np.split(theta, ends[:-1]), shapes, strict=True)
    )

    def hidden(part: Any) -> Vector:
        inputs: Vector = part.inputs.double().flatten(1).numpy()
        return inputs @ first.T + bias

    means, variances, weights = [], [], []
    before = hidden(images.train)
    for start in range(0, len(before), 32):
        chunk = before[start : start + 32]
        means.append(chunk.mean(axis=0))
        variances.append(chunk.var(axis=0, ddof=1))
        weights.append(len(chunk))
    assert weights == [32, 32, 26]
    mean = np.average(means, axis=0, weights=weights)
    variance = np.average(variances, axis=0, weights=weights)
    found = {}
    for name in ("train", "validation", "test"):
        part = getattr(images, name)
        normal = (hidden(part) - mean) / np.sqrt(variance + 1e-5) * gamma + beta
        logits = np.maximum(normal, 0) @ second.T + last
        targets = part.targets.numpy()
        logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        found[f"{name}_loss"] = -logs[np.arange(len(targets)), targets].mean()
        found[f"{name}_accuracy"] = (logits.argmax(axis=1) == targets).mean()
    return found


def test_averages_agree_with_a_run_that_keeps_every_iterate(dataset: Path, trained: Path, tmp_path: Path) -> None:
    rows = probed(dataset, trained, tmp_path / "averages.arrow")
    kept = iterates(dataset)
    by_step = {step: [row for row in rows if row["step"] == step] for step in EVALUATED}
    assert [row["step"] for row in rows] == sorted(row["step"] for row in rows)
    assert sum(map(len, by_step.values())) == len(rows)
    for step, own in by_step.items():
        expected = naive_averages(kept, step)
        assert [(row["average"], row["parameter"]) for row in own] == list(expected)
        for row, theta in zip(own, expected.values(), strict=True):
            assert row["spacing"] == (3 if row["average"] == "swa" else None)
            assert row["epoch"] == pytest.approx(step // 3 + step % 3 * 32 / 90)
            assert row["status"] == "ok"
            distance = float(np.linalg.norm(theta - kept[step]))
            assert row["distance_from_iterate"] == pytest.approx(distance, abs=1e-6)
            for name, value in naive_evaluation(theta, dataset).items():
                assert row[name] == pytest.approx(value, rel=2e-5, abs=1e-12), (step, row["average"], name)
    # Statistics that were left as the training had them would be seen.
    assert len({round(row["train_loss"], 4) for row in by_step[STEPS]}) == len(by_step[STEPS])


def test_vectors_agree_and_no_more_are_held_than_planned(dataset: Path) -> None:
    kept = iterates(dataset)
    running = averages.RunningAverages(
        EVALUATED, ema=SETTINGS["ema"], swa=SETTINGS["swa"], spacing=3, two_point=SETTINGS["two_point"]
    )
    held = []
    for step, theta in enumerate(kept):
        running.observe(step, torch.tensor(theta, dtype=torch.float32))
        held.append(running.held)
        if step in EVALUATED:
            expected = list(naive_averages(kept, step).items())[1:]
            found = list(running.at(step, torch.tensor(theta, dtype=torch.float32)))
            assert [(entry.name, entry.parameter) for entry in found] == [key for key, _ in expected]
            for entry, (_, vector) in zip(found, expected, strict=True):
                np.testing.assert_allclose(entry.value.numpy(), vector, rtol=0, atol=1e-12)
    assert running.largest_held(100, parameter_bytes=4)[0] == max(held)


class _Killed(AveragesProbe):
    killed_at = STEPS

    def measure(self, update: Update) -> list[dict[str, Any]]:
        if update.step >= self.killed_at:
            raise KeyboardInterrupt
        return super().measure(update)

    def finish(self) -> list[dict[str, Any]]:
        raise KeyboardInterrupt


@pytest.mark.parametrize("killed_at", [6, 18, STEPS])
def test_a_killed_job_goes_on_to_the_same_rows(
    dataset: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_at: int
) -> None:
    whole = probed(dataset, trained, tmp_path / "whole.arrow")
    output = tmp_path / "averages.arrow"
    with monkeypatch.context() as killing:
        killing.setattr(_Killed, "killed_at", killed_at)
        killing.setattr(averages, "AveragesProbe", _Killed)
        with pytest.raises(KeyboardInterrupt):
            probed(dataset, trained, output)
    assert not output.exists()
    assert output.with_name(output.name + ".part").exists()
    assert probed(dataset, trained, output) == whole
    assert output.read_bytes() == (tmp_path / "whole.arrow").read_bytes()


def test_a_diverging_run_has_rows_up_to_its_end(dataset: Path, tmp_path: Path) -> None:
    plain = {"entry": "sgdline.models:mlp", "kwargs": {"hidden": [HIDDEN], "batch_norm": False}}
    training = training_settings(model=plain, steps=STEPS, segments=[[0, STEPS]], lr=1e19)
    train_run(dataset, trace=tmp_path / "trace", checkpoints=tmp_path / "run", settings=training, facts={})
    lost = provenance(read_table(tmp_path / "trace", "trace"))["diverged_at"]
    assert 0 < lost < 6
    rows = probed(dataset, tmp_path / "run", tmp_path / "averages.arrow", training)
    assert {row["step"] for row in rows} == {0}
    # Every update: the last ones have parameters far out, and a status where their losses are no numbers.
    close = {**SETTINGS, "every": 1}
    probe = {"training": training, "probe": "averages", "settings": close, "replay_tolerance": 0.0}
    probe_segment(dataset, tmp_path / "run", output=tmp_path / "all.arrow", settings=probe, segment=0, facts={})
    rows = read_table(tmp_path / "all.arrow", "averages").to_pylist()
    assert sorted({row["step"] for row in rows}) == list(range(lost))
    for row in rows:
        losses = [row[f"{name}_loss"] for name in ("train", "validation", "test")]
        assert (row["status"] == "ok") == bool(np.isfinite(losses).all())
