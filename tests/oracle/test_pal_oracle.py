"""PAL and FBPAL&SGD against naive loops over plain torch modules, written from papers.md M6 and M7 alone.

The naive loops know nothing of flat vectors, landscapes or rules: they deep-copy the network for every loss that they
want to know, walk over its parameters one by one, keep their own lists, and compute in float64. Only the draws of the
batches are shared. They either run freely, or start each update from the parameters that the training had there: the
first steps on these networks are long, and what float32 rounds grows fast.
"""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_runs import prepare_digits, training_settings
from torch import Tensor, nn

from sgdline.data.batches import BatchOrder
from sgdline.data.images import load_images
from sgdline.models.loading import build_model
from sgdline.seeds import derive_seed
from sgdline.tables import read_table
from sgdline.train.checkpoints import load_checkpoint
from sgdline.train.run import train_run
from sgdline.train.settings import TrainingSettings

CPU = torch.device("cpu")
UPDATES = 20
SIZE = 32
TRAIN = 100  # the last chunk holds 4 images
Tensors = list[Tensor]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare_digits(tmp_path_factory.mktemp("dataset"), train=TRAIN)


def settings(block: dict[str, Any], *, lr: float) -> TrainingSettings:
    return training_settings(
        optimizer=block,
        lr=lr,
        batch_size=SIZE,
        seed=7,
        steps=UPDATES,
        segments=[[step, step + 1] for step in range(UPDATES)],  # a checkpoint before every update
        drop_last=True,
    )


def mean_loss(network: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    return nn.functional.cross_entropy(network(inputs), targets)


def gradients(loss: Tensor, network: nn.Module) -> Tensors:
    return list(torch.autograd.grad(loss, list(network.parameters())))


def dot(first: Tensors, second: Tensors) -> float:
    return sum(float((a.double() * b.double()).sum()) for a, b in zip(first, second, strict=True))


def moved(network: nn.Module, direction: Tensors, factor: float) -> nn.Module:
    """A copy of the network at theta + factor * direction."""
    other = copy.deepcopy(network)
    with torch.no_grad():
        for parameter, part in zip(other.parameters(), direction, strict=True):
            parameter += factor * part
    return other


def step_by_parabola(c: float, slope: float, c_ahead: float, mu: float) -> tuple[float, bool]:
    """M6; the second value says whether the step is that of a vertex."""
    a = (c_ahead - c - slope * mu) / mu**2
    if not math.isfinite(a) or not math.isfinite(slope) or slope >= 0:
        return 0.0, False
    return (-slope / (2 * a), True) if a > 0 else (mu, False)


class Run:
    """The network at its start, in float64, and its batches."""

    def __init__(self, dataset: Path, block: TrainingSettings, *, guide: Path | None) -> None:
        self.images = load_images(dataset, device=CPU)
        self.network = (
            build_model(
                block.model.entry,
                block.model.kwargs,
                input_shape=self.images.image_shape,
                num_classes=self.images.num_classes,
                seed=derive_seed(7, "initialisation"),
            )
            .double()
            .train()
        )
        self.inputs = self.images.train.inputs.double()
        self.order = BatchOrder(TRAIN, batch_size=SIZE, seed=7, drop_last=True)
        self.guide = guide

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Return a batch; go to the parameters and buffers that the guide has before this update, if there is one."""
        if self.guide is not None:
            there = load_checkpoint(self.guide, step, device=CPU)
            nn.utils.vector_to_parameters(there.parameters.double(), self.network.parameters())
            for name, buffer in self.network.named_buffers():
                buffer.copy_(there.buffers[name])
        rows = self.order.indices(step)
        return self.inputs[rows], self.images.train.targets[rows]

    def chunks(self) -> list[tuple[Tensor, Tensor]]:
        targets = self.images.train.targets
        return [(self.inputs[i : i + SIZE], targets[i : i + SIZE]) for i in range(0, TRAIN, SIZE)]

    def full_loss(self, network: nn.Module) -> float:
        copied = copy.deepcopy(network)
        return sum(float(mean_loss(copied, *chunk).detach()) * len(chunk[1]) for chunk in self.chunks()) / TRAIN

    def full_gradient(self) -> Tensors:
        total: Tensors = [torch.zeros_like(parameter) for parameter in self.network.parameters()]
        for chunk in self.chunks():
            copied = copy.deepcopy(self.network)
            for sum_so_far, part in zip(total, gradients(mean_loss(copied, *chunk), copied), strict=True):
                sum_so_far += part * (len(chunk[1]) / TRAIN)
        return total


def naive_pal(run: Run, *, mu: float, beta: float, adaptation: float, max_step: float) -> list[float]:
    """Return the length of each step; the network of the run moves."""
    lengths = []
    previous = [torch.zeros_like(parameter) for parameter in run.network.parameters()]
    for step in range(UPDATES):
        batch = run.batch(step)
        before = copy.deepcopy(run.network)  # the running statistics move with the training's own forward pass
        loss = mean_loss(run.network, *batch)
        own = gradients(loss, run.network)
        previous = [g + beta * p for g, p in zip(own, previous, strict=True)]
        norm = math.sqrt(dot(previous, previous))
        slope = -dot(own, previous) / norm
        with torch.no_grad():
            ahead = float(mean_loss(moved(before, previous, -mu / norm), *batch))
        s, vertex = step_by_parabola(float(loss.detach()), slope, ahead, mu)
        s = min(s * adaptation if vertex else s, max_step)
        with torch.no_grad():
            for parameter, part in zip(run.network.parameters(), previous, strict=True):
                parameter -= s / norm * part
        lengths.append(s)
    return lengths


def naive_fbpal(
    run: Run, *, mu: float, every: int, average: int, reuse: str, momentum: float, weight_decay: float
) -> list[float]:
    """Return the length of each step; the network of the run moves."""
    lengths, values = [], []
    buffer: Tensors = [torch.zeros_like(parameter) for parameter in run.network.parameters()]
    for step in range(UPDATES):
        batch = run.batch(step)
        before = copy.deepcopy(run.network)
        own = gradients(mean_loss(run.network, *batch), run.network)
        with torch.no_grad():
            buffer = [
                momentum * m + g + weight_decay * p
                for m, g, p in zip(buffer, own, run.network.parameters(), strict=True)
            ]
        norm = math.sqrt(dot(buffer, buffer))
        batch_slope = abs(dot(own, buffer)) / norm
        if step in (0, 1) or step % every == 0:
            slope = -dot(run.full_gradient(), buffer) / norm
            ahead = run.full_loss(moved(before, buffer, -mu / norm))
            s, _ = step_by_parabola(run.full_loss(before), slope, ahead, mu)
            if step <= every:  # a value of the first updates is used as it is, and is not among the averaged ones
                values.clear()
            values.append(s / batch_slope if reuse == "lr" else s)
        value = float(np.mean(values[-average:]))
        s = value * batch_slope if reuse == "lr" else value
        with torch.no_grad():
            for parameter, part in zip(run.network.parameters(), buffer, strict=True):
                parameter -= s / norm * part
        lengths.append(s)
    return lengths


def check(folder: Path, run: Run, lengths: list[float], *, tolerance: float) -> None:
    trace = read_table(folder / "trace.arrow", "trace")
    np.testing.assert_allclose(trace["lr"].to_numpy() * trace["direction_norm"].to_numpy(), lengths, rtol=tolerance)
    end = load_checkpoint(folder / "checkpoints", UPDATES, device=CPU)
    expected = nn.utils.parameters_to_vector(run.network.parameters()).detach()
    start = load_checkpoint(folder / "checkpoints", 0, device=CPU).parameters
    assert float((end.parameters - expected).norm()) < tolerance * float((expected - start).norm())
    for name, buffer in run.network.named_buffers():
        torch.testing.assert_close(end.buffers[name].double(), buffer.double(), rtol=5 * tolerance, atol=tolerance)


def train(dataset: Path, folder: Path, block: TrainingSettings) -> None:
    train_run(dataset, trace=folder / "trace.arrow", checkpoints=folder / "checkpoints", settings=block, facts={})


@pytest.mark.parametrize(
    ("mu", "beta", "adaptation", "max_step", "free"),
    [
        (0.1, 0.4, 1 / 0.6, 3.16, False),
        (1.0, 0.4, 1 / 0.6, 3.16, True),
        (0.5, 0.0, 1.0, 3.16, True),
        (0.1, 0.4, 2.0, 0.3, True),
    ],
)
def test_pal_is_the_naive_loop(
    dataset: Path, tmp_path: Path, mu: float, beta: float, adaptation: float, max_step: float, free: bool
) -> None:
    options = {"beta": beta, "adaptation": adaptation, "max_step": max_step}
    block = settings({"name": "pal", **options}, lr=mu)
    train(dataset, tmp_path, block)
    run = Run(dataset, block, guide=None if free else tmp_path / "checkpoints")
    lengths = naive_pal(run, mu=mu, **options)
    assert max_step > 1 or lengths.count(max_step) > 5
    check(tmp_path, run, lengths, tolerance=5e-3 if free else 1e-3)


@pytest.mark.parametrize(
    ("mu", "reuse", "momentum", "weight_decay", "every", "average", "free"),
    [
        (0.1, "lr", 0.0, 0.0, 4, 3, False),
        (0.1, "step_length", 0.0, 0.0, 4, 3, False),
        (0.1, "lr", 0.6, 0.01, 1, 2, False),
        (0.1, "lr", 0.0, 0.0, 100, 15, False),
        (1.0, "lr", 0.6, 0.01, 4, 3, True),
        (1.0, "step_length", 0.0, 0.0, 4, 3, True),
    ],
)
def test_fbpal_sgd_is_the_naive_loop(
    dataset: Path,
    tmp_path: Path,
    mu: float,
    reuse: str,
    momentum: float,
    weight_decay: float,
    every: int,
    average: int,
    free: bool,
) -> None:
    own = {"every": every, "average": average, "reuse": reuse}
    shared = {"momentum": momentum, "weight_decay": weight_decay}
    block = settings({"name": "fbpal_sgd", **shared, **own}, lr=mu)
    train(dataset, tmp_path, block)
    run = Run(dataset, block, guide=None if free else tmp_path / "checkpoints")
    lengths = naive_fbpal(run, mu=mu, **own, **shared)
    assert min(lengths) > 0
    check(tmp_path, run, lengths, tolerance=5e-3 if free else 1e-3)
