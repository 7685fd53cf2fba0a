"""The interpolation probe and its analysis against a naive loop in float64, written from papers.md 5.2 alone.

The loop trains a float64 copy of the network by hand, interpolates between its iterates as W-M1 says, and averages over
samples. It shares no code with the probe but the seeds of the random draws.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from declared import made_probe
from small_runs import RESNET, prepare_digits, training_settings
from torch import nn

from sgdline.data.augmentation import augment
from sgdline.data.batches import BatchOrder
from sgdline.data.images import ImageSet, load_images
from sgdline.engine.plan import Plan
from sgdline.models.loading import build_model
from sgdline.models.parameters import ParameterVector
from sgdline.seeds import derive_seed, generator
from sgdline.train.loop import Trainer
from sgdline.train.settings import TrainingSettings

CPU = torch.device("cpu")
SEED, SIZE, SAMPLES, LR, DECAY, STEPS = 3, 32, 90, 0.4, 0.01, 4
MODELS: dict[str, dict[str, Any]] = {
    "mlp": {"entry": "sgdline.models:mlp", "kwargs": {"hidden": [16]}},
    "mlp_dropout": {"entry": "sgdline.models:mlp", "kwargs": {"hidden": [16], "dropout": 0.3}},
    "resnet": RESNET,
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """90 training images in chunks of 32: the last one has 26."""
    return prepare_digits(tmp_path_factory.mktemp("dataset"), train=SAMPLES)


def measured(dataset: Path, training: TrainingSettings, block: dict[str, Any]) -> list[dict[str, Any]]:
    """Measure a run in float64: a ReLU's kink then cannot turn a rounded gradient into another run."""
    images = load_images(dataset, device=CPU)
    train = ImageSet(images.train.inputs.double(), images.train.targets)
    images = dataclasses.replace(images, train=train, black=images.black.double())
    trainer = Trainer(training, images, device=CPU)
    trainer.vector.release()
    trainer.model.double()
    trainer.vector = ParameterVector(trainer.model)
    probe = made_probe("interp", trainer, images, training, block, Plan(precision="float64"))
    return [row for update in trainer.updates(0, STEPS) if probe.due(update.step) for row in probe.measure(update)]


def naive(dataset: Path, training: TrainingSettings, block: dict[str, Any]) -> list[dict[str, Any]]:
    images = load_images(dataset, device=CPU)
    inputs, targets = images.train.inputs.double(), images.train.targets

    def augmented(pictures: torch.Tensor, purpose: str, index: int = 0) -> torch.Tensor:
        draws = generator(SEED, purpose, index)
        return augment(pictures, **asdict(training.augmentation), fill=images.black.double(), generator=draws)

    fixed = augmented(inputs, "probe_augmentation_train") if block["augment"] else inputs
    network = build_model(
        training.model.entry,
        training.model.kwargs,
        input_shape=images.image_shape,
        num_classes=images.num_classes,
        seed=derive_seed(SEED, "initialisation"),
    ).double()
    order = BatchOrder(SAMPLES, batch_size=SIZE, seed=SEED, drop_last=False)
    momentum, buffer = training.optimizer.momentum, None
    rows = []
    for step in range(STEPS):
        chosen = order.indices(step)
        network.train()
        torch.manual_seed(derive_seed(SEED, "dropout", step))
        loss = nn.CrossEntropyLoss()(network(augmented(inputs[chosen], "augmentation", step)), targets[chosen])
        gradients = torch.autograd.grad(loss, list(network.parameters()))
        decayed = [g + DECAY * p.detach() for g, p in zip(gradients, network.parameters(), strict=True)]
        buffer = decayed if buffer is None else [momentum * m + g for m, g in zip(buffer, decayed, strict=True)]
        here = [p.detach().clone() for p in network.parameters()]
        there = [p - LR * m for p, m in zip(here, buffer, strict=True)]
        losses, right = [], []
        for alpha in (k / 5 for k in range(6)):
            moved = copy.deepcopy(network)
            moved.train(block["batch_norm"] == "train")
            total, correct = 0.0, 0
            with torch.no_grad():
                for parameter, a, b in zip(moved.parameters(), here, there, strict=True):
                    parameter.copy_((1 - alpha) * a + alpha * b)
                for index, first in enumerate(range(0, SAMPLES, SIZE)):
                    part = slice(first, first + SIZE)
                    chunk = copy.deepcopy(moved)
                    torch.manual_seed(derive_seed(SEED, "probe_masks", index))
                    outputs = chunk(fixed[part])
                    total += float(nn.CrossEntropyLoss(reduction="sum")(outputs, targets[part]))
                    correct += int((outputs.max(dim=1).indices == targets[part]).sum())
            losses.append(total / SAMPLES)
            right.append(correct / SAMPLES)
        length = math.sqrt(sum(float(((b - a) ** 2).sum()) for a, b in zip(here, there, strict=True)))
        rows.append({"step": step, "train_loss": losses, "train_accuracy": right, "step_length": length})
        with torch.no_grad():
            for parameter, value in zip(network.parameters(), there, strict=True):
                parameter.copy_(value)
    return rows


@pytest.mark.parametrize("batch_norm", ["train", "eval"])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("model", sorted(MODELS))
def test_intervals_agree_with_the_naive_loop(dataset: Path, model: str, momentum: float, batch_norm: str) -> None:
    # Augmentation in training and probe goes with momentum, to keep the number of cases down.
    augmented = momentum > 0
    training = training_settings(
        momentum=momentum,
        weight_decay=DECAY,
        model=MODELS[model],
        lr=LR,
        seed=SEED,
        steps=STEPS,
        segments=[[0, STEPS]],
        augmentation={"crop_padding": 1 if augmented else 0, "flip": augmented},
    )
    block = {"every": 1, "epochs": None, "updates": None, "alphas": 6, "accuracy": True}
    block |= {"batch_norm": batch_norm, "augment": augmented}
    ours, theirs = measured(dataset, training, block), naive(dataset, training, block)
    assert [row["step"] for row in ours] == list(range(STEPS))
    for row, expected in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(row["alphas"], np.linspace(0, 1, 6), rtol=0, atol=1e-15)
        np.testing.assert_allclose(row["train_loss"], expected["train_loss"], rtol=0, atol=1e-10)
        np.testing.assert_array_equal(row["train_accuracy"], expected["train_accuracy"])
        assert row["step_length"] == pytest.approx(expected["step_length"], rel=1e-10)
        assert row["status"] == "ok"
    # The mean of the means of unequal chunks, or another alpha, would be seen.
    assert all(np.ptp(row["train_loss"]) > 1e-3 for row in ours)
    for before, after in itertools.pairwise(ours):
        assert (after["train_loss"][0] == before["train_loss"][-1]) == (batch_norm == "train")
