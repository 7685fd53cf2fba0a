"""Runs with micro-batches and noise, and runs that continue others: replays, interruptions, divergence, bad input."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import line_settings, prepare_digits, probe_segment, training_settings

from sgdline.data.images import load_images
from sgdline.errors import SgdlineError
from sgdline.tables import provenance, read_table
from sgdline.train import run as training_run
from sgdline.train.checkpoints import load_checkpoint, saved_steps
from sgdline.train.loop import Trainer, draws_seed
from sgdline.train.run import train_run
from sgdline.train.settings import TrainingSettings

CPU = torch.device("cpu")
NOISE = {"factor": 0.01, "reading": "variance", "batch_size": "auto"}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare_digits(tmp_path_factory.mktemp("dataset"), train=100)


def sgd(**changes: Any) -> dict[str, Any]:
    return {"name": "sgd", "momentum": 0.9, "weight_decay": 0.01, **changes}


def noisy(**changes: Any) -> TrainingSettings:
    return training_settings(**{"optimizer": sgd(noise=NOISE), "micro_batch": 12, **changes})


def continued(parent: dict[str, Any], *, step: int = 8, **changes: Any) -> TrainingSettings:
    return training_settings(start_from={"training": parent, "step": step}, **{"lr": 0.05, **changes})


def train(dataset: Path, folder: Path, block: TrainingSettings, *, start: Path | None = None) -> None:
    train_run(
        dataset,
        trace=folder / "trace.arrow",
        checkpoints=folder / "checkpoints",
        settings=block,
        facts={},
        start=start,
    )


@pytest.fixture(scope="module")
def parent(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with noise, trained to its end."""
    folder = tmp_path_factory.mktemp("parent")
    train(dataset, folder, noisy())
    return folder


def interrupt(monkeypatch: pytest.MonkeyPatch, *, step: int) -> None:
    row = training_run._trace_row

    def failing_row(update: Any, *rest: Any) -> dict[str, Any]:
        if update.step == step:
            raise KeyboardInterrupt
        return row(update, *rest)

    monkeypatch.setattr(training_run, "_trace_row", failing_row)


# --- noise ------------------------------------------------------------------------------------------------------------


def test_every_segment_of_a_noisy_run_replays_to_the_bit(dataset: Path, parent: Path, tmp_path: Path) -> None:
    checkpoints = parent / "checkpoints"
    for segment in range(3):
        path = tmp_path / f"{segment}.arrow"
        probe_segment(dataset, checkpoints, output=path, settings=line_settings(noisy()), segment=segment, facts={})
        facts = provenance(read_table(path, "line"))
        assert facts["replay_drift"] == 0.0
        assert facts["chunk_sizes"] == [12] * 8 + [4]
    variances = {float(load_checkpoint(checkpoints, step, device=CPU).rule["noise_variance"]) for step in (0, 4, 8, 12)}
    facts = provenance(read_table(parent / "trace.arrow", "trace"))
    assert variances == {facts["noise_variance"]}
    assert facts["noise_deviation"] == pytest.approx((0.01 * facts["noise_variance"]) ** 0.5)
    assert facts["noise_batch_size"] == 32


def test_the_number_of_segments_does_not_change_a_noisy_run(dataset: Path, parent: Path, tmp_path: Path) -> None:
    train(dataset, tmp_path, noisy(segments=[[0, 12]]))
    one, other = (load_checkpoint(folder / "checkpoints", 12, device=CPU) for folder in (tmp_path, parent))
    assert torch.equal(one.parameters, other.parameters)


def test_noise_is_new_with_every_seed_and_of_the_size_that_the_reading_says(dataset: Path) -> None:
    images = load_images(dataset, device=CPU)
    updates = {}
    for name, block in {
        "variance": noisy(),
        "deviation": noisy(optimizer=sgd(noise={**NOISE, "reading": "standard_deviation"})),
        "plain": training_settings(micro_batch=12),
    }.items():
        updates[name] = next(Trainer(block, images, device=CPU).updates(0, 1)).direction.double()
    one, other = (updates[name] - updates["plain"] for name in ("variance", "deviation"))
    trainer = Trainer(noisy(), images, device=CPU)
    trainer.checkpoint(0)
    product = 0.01 * trainer.facts()["noise_variance"]
    torch.testing.assert_close(one / product**0.5, other / product, rtol=1e-3, atol=1e-3)
    assert float(one.std()) == pytest.approx(product**0.5, rel=0.1)


def test_a_run_without_finite_gradients_at_its_start_is_recorded(dataset: Path) -> None:
    images = load_images(dataset, device=CPU)
    images.train.inputs[3] = float("inf")
    trainer = Trainer(noisy(), images, device=CPU)
    updates = list(trainer.updates(0, 5))
    assert len(updates) == 1
    assert not updates[0].finite
    assert trainer.facts()["noise_variance"] is None


def test_a_noisy_run_that_diverges_is_a_result(dataset: Path, tmp_path: Path) -> None:
    plain = {"entry": "sgdline.models:mlp", "kwargs": {"hidden": [16], "batch_norm": False}}
    block = noisy(lr=1e30, model=plain)
    train(dataset, tmp_path, block)
    trace = read_table(tmp_path / "trace.arrow", "trace")
    assert trace["status"].to_pylist()[-1] == "non_finite"
    assert provenance(trace)["diverged_at"] == trace["step"].to_pylist()[-1] < 4
    assert saved_steps(tmp_path / "checkpoints") == [0]


# --- continued runs ---------------------------------------------------------------------------------------------------


def test_a_continued_run_starts_where_the_other_one_was(dataset: Path, parent: Path, tmp_path: Path) -> None:
    block = continued(noisy())
    train(dataset, tmp_path, block, start=parent / "checkpoints")
    there = load_checkpoint(parent / "checkpoints", 8, device=CPU)
    start = load_checkpoint(tmp_path / "checkpoints", 0, device=CPU)
    assert torch.equal(start.parameters, there.parameters)
    assert start.buffers.keys() == there.buffers.keys()
    assert all(torch.equal(start.buffers[name], buffer) for name, buffer in there.buffers.items())
    assert there.rule
    assert start.rule == {}
    assert start.previous_gradient is None
    rows = read_table(tmp_path / "trace.arrow", "trace").to_pylist()
    assert [row["step"] for row in rows] == list(range(12))
    assert (rows[0]["epoch"], rows[0]["distance_from_start"], rows[0]["gradient_cosine"]) == (0.0, 0.0, None)
    assert rows[1]["distance_from_start"] > 0
    for segment in range(3):  # a replay needs the checkpoints of the run itself only
        path = tmp_path / f"{segment}.arrow"
        probe_segment(
            dataset, tmp_path / "checkpoints", output=path, settings=line_settings(block), segment=segment, facts={}
        )
        assert provenance(read_table(path, "line"))["replay_drift"] == 0.0


def test_the_second_part_trained_by_hand_is_the_same_to_the_bit(dataset: Path, parent: Path, tmp_path: Path) -> None:
    block = continued(noisy(), optimizer=sgd(noise=NOISE))
    train(dataset, tmp_path, block, start=parent / "checkpoints")
    there = load_checkpoint(parent / "checkpoints", 8, device=CPU)
    trainer = Trainer(
        replace(block, start_from=None, seed=draws_seed(block)), load_images(dataset, device=CPU), device=CPU
    )
    with torch.no_grad():
        trainer.vector.value.copy_(there.parameters)
        for name, buffer in trainer.model.named_buffers():
            buffer.copy_(there.buffers[name])
    losses = [update.batch_loss for update in trainer.updates(0, 12)]
    assert read_table(tmp_path / "trace.arrow", "trace")["batch_loss"].to_pylist() == losses
    assert torch.equal(trainer.vector.value, load_checkpoint(tmp_path / "checkpoints", 12, device=CPU).parameters)
    variance = provenance(read_table(tmp_path / "trace.arrow", "trace"))["noise_variance"]
    assert variance != provenance(read_table(parent / "trace.arrow", "trace"))["noise_variance"]  # of its own start


def test_a_continued_run_draws_other_batches_and_is_measured_on_the_same_images(dataset: Path) -> None:
    images = load_images(dataset, device=CPU)
    blocks = [noisy(), continued(noisy()), continued(noisy(), step=4), continued(continued(noisy()), step=8)]
    seeds = [draws_seed(block) for block in blocks]
    assert seeds[0] == 5
    assert len(set(seeds)) == 4
    assert draws_seed(continued(noisy(), lr=0.2)) == seeds[1]
    trainers = [Trainer(block, images, device=CPU) for block in blocks]
    batches = [trainer.batch(0) for trainer in trainers]
    assert len({tuple(batch.rows.tolist()) for batch in batches}) == 4
    assert len({batch.mask_seed for batch in batches}) == 4
    chunks = [[chunk.mask_seed for chunk in trainer._chunks] for trainer in trainers[1:]]
    assert chunks[0] == chunks[1] == chunks[2]


def test_an_interrupted_continuation_goes_on_to_the_same_bytes(
    dataset: Path, parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    block = continued(noisy(), optimizer=sgd(noise=NOISE))
    train(dataset, tmp_path / "whole", block, start=parent / "checkpoints")
    for step in (1, 6):
        with monkeypatch.context() as patch:
            interrupt(patch, step=step)
            with pytest.raises(KeyboardInterrupt):
                train(dataset, tmp_path / "cut", block, start=parent / "checkpoints")
    train(dataset, tmp_path / "cut", block, start=parent / "checkpoints")
    for name in ("trace.arrow", "checkpoints/step00000000.safetensors", "checkpoints/step00000012.safetensors"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_rows_of_an_interrupted_continuation_belong_to_their_start(
    dataset: Path, parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    block = continued(noisy())
    with monkeypatch.context() as patch:
        interrupt(patch, step=6)
        with pytest.raises(KeyboardInterrupt):
            train(dataset, tmp_path / "cut", block, start=parent / "checkpoints")
    other = tmp_path / "other"
    train(dataset, other, noisy(lr=0.2))
    for name in ("cut", "whole"):
        train(dataset, tmp_path / name, block, start=other / "checkpoints")
    assert (tmp_path / "cut/trace.arrow").read_bytes() == (tmp_path / "whole/trace.arrow").read_bytes()


def test_a_run_that_did_not_get_there_cannot_be_continued(dataset: Path, parent: Path, tmp_path: Path) -> None:
    checkpoints = shutil.copytree(parent / "checkpoints", tmp_path / "parent")
    (checkpoints / "step00000008.safetensors").unlink()
    with pytest.raises(SgdlineError, match=r"must have reached update 8, got no checkpoint .*earlier segment boundary"):
        train(dataset, tmp_path / "child", continued(noisy()), start=checkpoints)
    assert not list((tmp_path / "child").glob("*"))


def test_a_run_of_another_model_cannot_be_continued(dataset: Path, parent: Path, tmp_path: Path) -> None:
    other = {"entry": "sgdline.models:mlp", "kwargs": {"hidden": [8]}}
    with pytest.raises(SgdlineError, match="same model"):
        train(dataset, tmp_path, continued(noisy(), model=other), start=parent / "checkpoints")


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"micro_batch": 31},
            r"Every micro-batch must hold at least two samples .*a batch of 32 in micro-batches of 31",
        ),
        (
            {"micro_batch": 3, "batch_size": 30, "drop_last": False},
            r"got one of 1 \(a batch of 10 in micro-batches of 3",
        ),
        ({"micro_batch": 12, "optimizer": sgd(gradient="sum")}, r"multiple of micro_batch \(12\) .*got a batch of 32"),
        ({"micro_batch": 16, "optimizer": sgd(gradient="sum"), "batch_size": 60}, "got a batch of 60"),
        ({"optimizer": sgd(noise={**NOISE, "batch_size": 51})}, "at most half of the 100 training images, got 51"),
        ({"optimizer": sgd(noise=NOISE), "batch_size": 100}, "at most half of the 100 training images, got 100"),
        ({"optimizer": sgd(noise={**NOISE, "batch_size": 1})}, "at least 2 for a network with BatchNorm, got 1"),
    ],
)
def test_impossible_settings_are_refused(dataset: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(SgdlineError, match=words):
        Trainer(training_settings(**changes), load_images(dataset, device=CPU), device=CPU)


def test_a_fresh_batch_with_a_single_sample_left_over_is_refused(dataset: Path) -> None:
    images = load_images(dataset, device=CPU)
    trainer = Trainer(training_settings(micro_batch=11, batch_size=32, drop_last=True), images, device=CPU)
    batch = trainer.batch(0)
    with pytest.raises(SgdlineError, match="a batch of 12 in micro-batches of 11"):
        trainer.gradient(type(batch)(batch.inputs[:12], batch.targets[:12], batch.rows[:12], 0))


def test_micro_batches_of_one_sample_are_fine_without_batch_norm(dataset: Path, tmp_path: Path) -> None:
    plain = {"entry": "sgdline.models:mlp", "kwargs": {"hidden": [4], "batch_norm": False}}
    train(dataset, tmp_path, training_settings(micro_batch=31, model=plain))
    assert read_table(tmp_path / "trace.arrow", "trace").num_rows == 12
