"""Single steps and fixed batches against a naive loop in float64 that copies the network for every loss.

The loop shares no code with the probes but the batches themselves and the seeds of their random masks.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from declared import made_probe
from small_runs import RESNET, prepare_digits, training_settings
from torch import Tensor, nn

from sgdline.data.images import ImageData, ImageSet, load_images
from sgdline.engine.plan import Plan
from sgdline.models.parameters import ParameterVector
from sgdline.probes.drawn_batches import DrawnBatches
from sgdline.seeds import derive_seed
from sgdline.train.loop import Batch, Trainer
from sgdline.train.settings import TrainingSettings

CPU = torch.device("cpu")
SAMPLES, SIZE, LR, STEPS = 90, 20, 0.3, 5
SWEEP: dict[str, Any] = {"every": 4, "batches": 3, "other_batches": 2, "step_sizes": 7, "lowest": 1e-1}
SWEEP |= {"highest": 1e2, "quadratic_points": 5, "validation": True}
FIXED: dict[str, Any] = {"every": 2, "first": 0, "batches": 3, "alphas": 5}
MODELS: dict[str, dict[str, Any]] = {
    "mlp_dropout": {"entry": "sgdline.models:mlp", "kwargs": {"hidden": [16], "dropout": 0.3}},
    "mlp": {"entry": "sgdline.models:mlp", "kwargs": {"hidden": [16]}},
    "resnet": RESNET,
    # Statistics of a batch that the engine does not know of: chunks must not share a pass.
    "own_normalisation": {"entry": "networks:OwnNormalisation", "kwargs": {}},
}
# With micro-batches of 8 a batch of 20 ends in one of 4; batches then do not line up with chunks.
CASES = [("mlp_dropout", 8), ("mlp", None), ("mlp", 8), ("resnet", 10), ("own_normalisation", None)]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare_digits(tmp_path_factory.mktemp("dataset"), train=SAMPLES, validation=30)


def settings(model: str, micro_batch: int | None) -> TrainingSettings:
    changes = {} if micro_batch is None else {"micro_batch": micro_batch}
    flips = {"crop_padding": 1, "flip": True}
    return training_settings(
        model=MODELS[model], lr=LR, batch_size=SIZE, steps=STEPS, segments=[[0, STEPS]], augmentation=flips, **changes
    )


def in_float64(dataset: Path, training: TrainingSettings) -> tuple[Trainer, ImageData]:
    images = load_images(dataset, device=CPU)
    parts = {
        name: ImageSet(getattr(images, name).inputs.double(), getattr(images, name).targets)
        for name in ("train", "validation")
    }
    images = dataclasses.replace(images, **parts, black=images.black.double())
    trainer = Trainer(training, images, device=CPU)
    trainer.vector.release()
    trainer.model.double()
    trainer.vector = ParameterVector(trainer.model)
    return trainer, images


def chunks(inputs: Tensor, targets: Tensor, seeds: list[int], size: int) -> list[tuple[Tensor, Tensor, int]]:
    firsts = range(0, len(targets), size)
    return [(inputs[f : f + size], targets[f : f + size], s) for f, s in zip(firsts, seeds, strict=True)]


def batch_chunks(batch: Batch, size: int) -> list[tuple[Tensor, Tensor, int]]:
    count = math.ceil(len(batch.targets) / size)
    seeds = [batch.mask_seed]
    if count > 1:
        seeds = [derive_seed(batch.mask_seed, "micro_batch", index) for index in range(count)]
    return chunks(batch.inputs, batch.targets, seeds, size)


def split_chunks(part: ImageSet, run: TrainingSettings, purpose: str, size: int) -> list[tuple[Tensor, Tensor, int]]:
    count = math.ceil(len(part.targets) / size)
    seeds = [derive_seed(run.seed, purpose, index) for index in range(count)]
    return chunks(part.inputs, part.targets, seeds, size)


def mean_loss(model: nn.Module, pieces: list[tuple[Tensor, Tensor, int]], shift: Any = None) -> Tensor:
    """Sum over samples divided by N, every chunk on a fresh copy; `shift` moves each parameter by a tensor."""
    total = torch.zeros((), dtype=torch.float64)
    moved = model
    if shift is not None:
        moved = copy.deepcopy(model)
        with torch.no_grad():
            for parameter, change in zip(moved.parameters(), shift, strict=True):
                parameter.add_(change)
    for inputs, targets, seed in pieces:
        torch.manual_seed(seed)
        total = total + nn.CrossEntropyLoss(reduction="sum")(moved.train()(inputs), targets)
    return total / sum(len(targets) for _, targets, _ in pieces)


def naive_sweep(
    model: nn.Module, batch: Batch, others: list[Batch], images: ImageData, run: dict[str, Any], etas: list[float]
) -> dict[str, list[float]]:
    size = run.micro_batch or SIZE
    own = batch_chunks(batch, size)
    gradients = torch.autograd.grad(mean_loss(model, own), list(model.parameters()))
    found: dict[str, list[float]] = {"own": [], "other": [], "validation": []}
    validation = split_chunks(images.validation, run, "probe_masks_validation", size)
    with torch.no_grad():
        for eta in etas:
            shift = [-eta * gradient for gradient in gradients]
            found["own"].append(float(mean_loss(model, own, shift)))
            losses = [float(mean_loss(model, batch_chunks(other, size), shift)) for other in others]
            found["other"].append(sum(losses) / len(losses))
            found["validation"].append(float(mean_loss(model, validation, shift)))
    return found


@pytest.mark.parametrize(("model", "micro_batch"), CASES)
def test_sweeps_agree_with_the_naive_loop(dataset: Path, model: str, micro_batch: int | None) -> None:
    training = settings(model, micro_batch)
    trainer, images = in_float64(dataset, training)
    probe = made_probe("one_step", trainer, images, training, SWEEP, Plan())
    drawn = DrawnBatches(images, training)
    rows, copies = [], []
    for update in trainer.updates(0, STEPS):
        probe.observe(update)
        if probe.due(update.step) and update.step > 0:
            copies += [copy.deepcopy(trainer.model)] * SWEEP["batches"]
            rows += probe.measure(update)
    copies += [copy.deepcopy(trainer.model)] * SWEEP["batches"]
    rows += probe.finish()
    assert [(row["step"], row["batch"]) for row in rows] == [(step, k) for step in (4, 5) for k in range(3)]
    assert [row["epoch"] for row in rows[::3]] == [80 / 90, 1.0]
    grid = [0.0, *(LR * 10 ** (-1 + k / 2) for k in range(7))]
    for row, network in zip(rows[2:], copies[2:], strict=True):
        np.testing.assert_allclose(row["step_sizes"], grid, rtol=1e-12)
        batch, others = drawn.batch(row["batch"]), drawn.others(row["batch"], count=2)
        expected = naive_sweep(network, batch, others, images, training, grid)
        for name, losses in expected.items():
            np.testing.assert_allclose(row[f"{name}_loss"], losses, rtol=1e-9, atol=1e-10, err_msg=name)
        lowest = grid[int(np.argmin(expected["own"]))]
        even = [lowest * k / 2 for k in range(5)]
        np.testing.assert_allclose(row["quadratic_step_sizes"], even, rtol=1e-12)
        along = naive_sweep(network, batch, others, images, training, even)["own"]
        np.testing.assert_allclose(row["quadratic_own_loss"], along, rtol=1e-9, atol=1e-10)
        whole = split_chunks(images.train, training, "probe_masks", training.micro_batch or SIZE)
        with torch.no_grad():
            assert row["train_loss"] == pytest.approx(float(mean_loss(network, whole)), abs=1e-10)
        assert row["status"] == "ok"
        # Means of unequal chunks, batches that are mixed up, or another place would be seen.
        assert np.ptp(row["own_loss"]) > 0.1
        assert abs(row["own_loss"][4] - row["other_loss"][4]) > 1e-3


@pytest.mark.parametrize(("model", "micro_batch"), CASES)
def test_fixed_batches_agree_with_the_naive_loop(dataset: Path, model: str, micro_batch: int | None) -> None:
    training = settings(model, micro_batch)
    size = training.micro_batch or SIZE
    trainer, images = in_float64(dataset, training)
    probe = made_probe("fixed_batches", trainer, images, training, FIXED, Plan())
    drawn = DrawnBatches(images, training)
    rows, copies = [], {}
    for update in trainer.updates(0, STEPS):
        probe.observe(update)
        if probe.due(update.step):
            copies[update.step] = copy.deepcopy(trainer.model)
            rows += probe.measure(update)
    copies[STEPS] = copy.deepcopy(trainer.model)
    rows += probe.finish()
    assert [(row["step"], row["batch"]) for row in rows] == [(step, k) for step in (0, 2, 4, 5) for k in range(3)]
    assert [row.get("from_step") for row in rows[::3]] == [None, 0, 2, 4]
    for row in rows:
        network, pieces = copies[row["step"]], batch_chunks(drawn.batch(row["batch"]), size)
        with torch.no_grad():
            assert row["loss"] == pytest.approx(float(mean_loss(network, pieces)), abs=1e-10)
            whole = split_chunks(images.train, training, "probe_masks", size)
            assert row["train_loss"] == pytest.approx(float(mean_loss(network, whole)), abs=1e-10)
        assert row["status"] == "ok"
        if row["step"] == 0:
            assert "segment_loss" not in row
            continue
        before = copies[row["from_step"]]
        steps = [b.detach() - a.detach() for a, b in zip(before.parameters(), network.parameters(), strict=True)]
        # Buffers are those of the network now: the loss is a function of the parameters alone.
        losses = []
        with torch.no_grad():
            for alpha in (0.0, 0.25, 0.5, 0.75, 1.0):
                losses.append(float(mean_loss(network, pieces, [(alpha - 1.0) * step for step in steps])))
        np.testing.assert_allclose(row["segment_loss"], losses, rtol=0, atol=1e-10)
        excess = max(loss - losses[0] - k / 4 * (losses[-1] - losses[0]) for k, loss in enumerate(losses))
        gap = max(excess, 0.0) / (max(losses) - min(losses))
        assert row["convexity_gap"] == pytest.approx(gap, abs=1e-7)


def test_curves_on_a_line_are_those_of_the_whole_line_in_closed_form(dataset: Path) -> None:
    """Small steps follow the first derivative, which is minus the squared norm of the batch's gradient."""
    training = settings("mlp", None)
    trainer, images = in_float64(dataset, training)
    block = SWEEP | {"lowest": 1e-5, "highest": 1.0, "step_sizes": 6}
    probe = made_probe("one_step", trainer, images, training, block, Plan())
    for row in probe.measure(next(trainer.updates(0, 1))):
        slope = (row["own_loss"][1] - row["own_loss"][0]) / row["step_sizes"][1]
        assert slope == pytest.approx(-(row["gradient_norm"] ** 2), rel=1e-3)
