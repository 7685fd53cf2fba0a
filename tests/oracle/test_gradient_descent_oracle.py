"""Micro-batches, isotropic noise and continued runs against naive float64 loops, from papers.md 5.1 and W-M8.

The naive loops walk over copies of plain torch modules, parameter by parameter, and share with the training only the
seeds of its random draws.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from declared import made_probe
from small_runs import RESNET, prepare_digits, training_settings
from torch import Tensor, nn

from sgdline.data.batches import BatchOrder
from sgdline.data.images import ImageData, ImageSet, load_images
from sgdline.engine.plan import Plan
from sgdline.models.loading import build_model
from sgdline.models.parameters import ParameterVector
from sgdline.seeds import derive_seed, generator
from sgdline.train.landscape import Landscape
from sgdline.train.loop import Trainer
from sgdline.train.settings import StartingPoint, TrainingSettings

CPU = torch.device("cpu")
SAMPLES, SEED, LR = 90, 3, 0.2
MODELS: dict[str, dict[str, Any]] = {
    "mlp": {"entry": "sgdline.models:mlp", "kwargs": {"hidden": [16]}},
    "mlp_dropout": {"entry": "sgdline.models:mlp", "kwargs": {"hidden": [16], "dropout": 0.3}},
    "no_batch_norm": {"entry": "sgdline.models:mlp", "kwargs": {"hidden": [16], "batch_norm": False}},
    "resnet": RESNET,
}
LINE = {"every": 1, "positions": "grid", "interval": 0.3, "resolution": 0.1, "tolerance": 1e-3, "max_rings": 1}
LINE |= {"batch_norm": "train", "augment": False, "validation": False, "sample_losses": False}
Part = tuple[Tensor, Tensor, int]  # inputs, targets, seed of the masks


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> ImageData:
    """90 training images in float64."""
    dataset = prepare_digits(tmp_path_factory.mktemp("dataset"), train=SAMPLES)
    found = load_images(dataset, device=CPU)
    train = ImageSet(found.train.inputs.double(), found.train.targets)
    return dataclasses.replace(found, train=train, black=found.black.double())


def settings(model: str, **changes: Any) -> TrainingSettings:
    return training_settings(**{"model": MODELS[model], "lr": LR, "seed": SEED, **changes})


def sgd(**changes: Any) -> dict[str, Any]:
    return {"name": "sgd", "momentum": 0.0, "weight_decay": 0.0, **changes}


def trainer_in_float64(images: ImageData, block: TrainingSettings) -> Trainer:
    trainer = Trainer(block, images, device=CPU)
    trainer.vector.release()
    trainer.model.double()
    trainer.vector = ParameterVector(trainer.model)
    return trainer


def network_of(images: ImageData, block: TrainingSettings) -> nn.Module:
    return (
        build_model(
            block.model.entry,
            block.model.kwargs,
            input_shape=images.image_shape,
            num_classes=images.num_classes,
            seed=derive_seed(SEED, "initialisation"),
        )
        .double()
        .train()
    )


def parts_of(images: ImageData, rows: Tensor, size: int, seed: int) -> list[Part]:
    """Micro-batches of these rows, each with masks of its own."""
    found = []
    for index, first in enumerate(range(0, len(rows), size)):
        own = rows[first : first + size]
        mask = derive_seed(seed, "micro_batch", index) if len(rows) > size else seed
        found.append((images.train.inputs[own], images.train.targets[own], mask))
    return found


def loss_and_gradient(network: nn.Module, parts: Iterable[Part]) -> tuple[float, list[Tensor], list[list[Tensor]]]:
    """Means over all samples; the mean gradient of each part as well. Running statistics of the network move."""
    parts = list(parts)
    samples = sum(len(targets) for _, targets, _ in parts)
    loss, whole, own = 0.0, [torch.zeros_like(p) for p in network.parameters()], []
    for inputs, targets, mask in parts:
        torch.manual_seed(mask)
        mean = nn.CrossEntropyLoss()(network(inputs), targets)
        own.append(list(torch.autograd.grad(mean, list(network.parameters()))))
        loss += float(mean.detach()) * len(targets) / samples
        for total, part in zip(whole, own[-1], strict=True):
            total += part * (len(targets) / samples)
    return loss, whole, own


def flat(tensors: Iterable[Tensor], trainer: Trainer) -> Tensor:
    """Tensors of a plain network in the order of the trainer's vector, whose weights may lie channels last."""
    vector = torch.empty_like(trainer.vector.value)
    for place, tensor in zip(trainer.vector.split(vector).values(), tensors, strict=True):
        place.copy_(tensor.detach())
    return vector


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


# --- micro-batches ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", list(MODELS))
@pytest.mark.parametrize("batch_size", [34, 50])
def test_a_batch_in_micro_batches_is_a_mean_over_samples(images: ImageData, model: str, batch_size: int) -> None:
    """34 = 16 + 16 + 2, and epochs of 90 = 34 + 34 + 22, or 50 + 40."""
    block = settings(model, batch_size=batch_size, micro_batch=16, optimizer=sgd(momentum=0.9, weight_decay=0.01))
    trainer, network = trainer_in_float64(images, block), network_of(images, block)
    order = BatchOrder(SAMPLES, batch_size=batch_size, seed=SEED, drop_last=False)
    memory = [torch.zeros_like(p) for p in network.parameters()]
    sizes = []
    trainer.model.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    unlike_means_of_means = False
    for update in trainer.updates(0, 4):
        parts = parts_of(images, order.indices(update.step), 16, derive_seed(SEED, "dropout", update.step))
        loss, gradient, own = loss_and_gradient(network, parts)
        assert update.batch_loss == pytest.approx(loss, rel=1e-10)
        close(update.gradient, flat(gradient, trainer))
        means = flat([sum(grads) / len(own) for grads in zip(*own, strict=True)], trainer)
        unlike_means_of_means |= float((means - update.gradient).norm() / means.norm()) > 1e-2
        memory = [
            0.9 * m + g + 0.01 * p.detach() for m, g, p in zip(memory, gradient, network.parameters(), strict=True)
        ]
        close(update.direction, flat(memory, trainer))
        with torch.no_grad():
            for parameter, m in zip(network.parameters(), memory, strict=True):
                parameter -= LR * m
    assert unlike_means_of_means, "the unequal last part must show"
    assert sizes[:3] == ([16, 16, 2] if batch_size == 34 else [16, 16, 16])
    close(trainer.vector.value, flat(network.parameters(), trainer))
    mine, theirs = dict(trainer.model.named_buffers()), dict(network.named_buffers())
    for name, buffer in theirs.items():
        torch.testing.assert_close(mine[name], buffer, rtol=1e-9, atol=1e-11)


def test_a_batch_that_fits_is_not_divided(images: ImageData) -> None:
    plain, wide = settings("resnet", batch_size=32), settings("resnet", batch_size=32, micro_batch=32)
    pairs = zip(
        trainer_in_float64(images, plain).updates(0, 4), trainer_in_float64(images, wide).updates(0, 4), strict=True
    )
    for one, other in pairs:
        assert one.batch_loss == other.batch_loss
        assert torch.equal(one.gradient, other.gradient)
        assert torch.equal(one.batch.rows, other.batch.rows)


def test_the_whole_set_in_one_batch_is_gradient_descent_on_the_measured_loss(images: ImageData) -> None:
    block = settings("resnet", batch_size=SAMPLES, micro_batch=32, optimizer=sgd())
    trainer, network = trainer_in_float64(images, block), network_of(images, block)
    largest = 0

    def remember(module: nn.Module, inputs: tuple[Tensor]) -> None:
        nonlocal largest
        largest = max(largest, len(inputs[0]))

    trainer.model.register_forward_pre_hook(remember)
    for update in trainer.updates(0, 4):
        parts = parts_of(images, torch.arange(SAMPLES), 32, 0)
        loss, gradient, _ = loss_and_gradient(network, parts)
        assert update.batch_loss == pytest.approx(loss, rel=1e-10)
        close(update.gradient, flat(gradient, trainer))
        assert update.epoch == update.step
        chunks = lambda: trainer._chunks  # noqa: E731
        measured = Landscape(
            trainer.model, trainer.vector, update.batch, update.batch_loss, loss=trainer.loss, chunks=chunks
        )
        full_loss, full = measured.full_gradient()
        assert full_loss == pytest.approx(loss, rel=1e-12)
        close(full, update.gradient)
        with torch.no_grad():
            for parameter, g in zip(network.parameters(), gradient, strict=True):
                parameter -= LR * g
    assert largest == 32, "no pass may hold more samples than a micro-batch"
    close(trainer.vector.value, flat(network.parameters(), trainer))


@pytest.mark.parametrize("reading", [None, "standard_deviation", "variance"])
def test_summed_micro_batches_step_as_released(images: ImageData, reading: str | None) -> None:
    """K1: three micro-batches of 30, whose gradients are summed and not divided; weight decay is added once.

    The noise is divided by 30/90.
    """
    noise = {} if reading is None else {"noise": {"factor": 0.04, "reading": reading, "batch_size": 30}}
    optimizer = sgd(weight_decay=0.01, gradient="sum", **noise)
    block = settings("mlp", batch_size=SAMPLES, micro_batch=30, optimizer=optimizer, drop_last=True)
    trainer, network = trainer_in_float64(images, block), network_of(images, block)
    product = 0.0 if reading is None else 0.04 * naive_largest_variance(images, network, size=30)
    deviation = product**0.5 if reading == "variance" else product
    for update in trainer.updates(0, 3):
        _, gradient, own = loss_and_gradient(network, parts_of(images, torch.arange(SAMPLES), 30, 0))
        assert len(own) == 3
        draws = torch.randn(trainer.vector.size, generator=generator(SEED, "noise", update.step)).double()
        released = trainer.vector.split(deviation * draws / (30 / 90)).values()
        summed = [
            sum(grads) + 0.01 * p.detach() + n
            for *grads, p, n in zip(*own, network.parameters(), released, strict=True)
        ]
        close(update.direction, flat(summed, trainer))
        close(update.gradient, flat(gradient, trainer))  # what is measured stays the gradient of the loss
        with torch.no_grad():
            for parameter, g in zip(network.parameters(), summed, strict=True):
                parameter -= LR * g
    close(trainer.vector.value, flat(network.parameters(), trainer))


@pytest.mark.parametrize("batch_size", [50, SAMPLES])
@pytest.mark.parametrize(("model", "chunks_per_pass"), [("resnet", 1), ("resnet", 4), ("mlp_dropout", 1)])
def test_lines_are_measured_in_chunks_of_the_micro_batch(
    images: ImageData, model: str, batch_size: int, chunks_per_pass: int
) -> None:
    block = settings(model, batch_size=batch_size, micro_batch=26, optimizer=sgd(momentum=0.5))
    trainer = trainer_in_float64(images, block)
    plan = Plan(precision="float64", chunks_per_pass=chunks_per_pass, reseed=model == "mlp_dropout")
    probe = made_probe("line", trainer, images, block, LINE, plan)
    assert probe.facts()["chunk_sizes"] == [26, 26, 26, 12]
    for update in trainer.updates(0, 3):
        before = trainer.checkpoint(update.step)
        [row] = probe.measure(update)
        after = trainer.checkpoint(update.step)
        assert torch.equal(before.parameters, after.parameters)
        assert all(torch.equal(before.buffers[name], buffer) for name, buffer in after.buffers.items())
        for position, train, own in zip(row["positions"], row["train_loss"], row["direction_batch_loss"], strict=True):
            moved = copy.deepcopy(trainer.model)
            with torch.no_grad():
                parts = trainer.vector.split(update.direction).values()
                for parameter, m in zip(moved.parameters(), parts, strict=True):
                    parameter -= position * m / update.direction_norm
            chunks = [
                (inputs, targets, derive_seed(SEED, "probe_masks", index))
                for index, (inputs, targets, _) in enumerate(parts_of(images, torch.arange(SAMPLES), 26, 0))
            ]
            whole = loss_and_gradient(moved, chunks)[0]
            masks = derive_seed(SEED, "dropout", update.step)
            batch = loss_and_gradient(moved, parts_of(images, update.batch.rows, 26, masks))[0]
            assert train == pytest.approx(whole, rel=1e-9)
            assert own == pytest.approx(batch, rel=1e-9)
        if batch_size == SAMPLES and model == "resnet":
            np.testing.assert_array_equal(row["train_loss"], row["direction_batch_loss"])


@pytest.mark.parametrize("name", ["pal", "fbpal_sgd"])
def test_rules_that_measure_do_so_in_micro_batches(images: ImageData, name: str) -> None:
    own = {"pal": {"beta": 0.0, "adaptation": 1.0, "max_step": 1e9}}
    own |= {"fbpal_sgd": {"every": 1, "average": 1, "reuse": "step_length"}}
    block = settings("resnet", batch_size=50, micro_batch=16, optimizer={"name": name, **own[name]})
    trainer = trainer_in_float64(images, block)
    update = next(trainer.updates(0, 1))
    rows = update.batch.rows if name == "pal" else torch.arange(SAMPLES)
    network = network_of(images, block)
    loss, gradient, _ = loss_and_gradient(copy.deepcopy(network), parts_of(images, rows, 16, 0))
    direction = update.direction / update.direction_norm
    with torch.no_grad():
        for parameter, d in zip(network.parameters(), trainer.vector.split(direction).values(), strict=True):
            parameter -= LR * d
    ahead = loss_and_gradient(network, parts_of(images, rows, 16, 0))[0]
    slope = -float(flat(gradient, trainer) @ direction)
    bend = (ahead - loss - slope * LR) / LR**2
    assert bend > 0
    assert update.lr * update.direction_norm == pytest.approx(-slope / (2 * bend), rel=1e-6)


# --- noise ------------------------------------------------------------------------------------------------------------


def naive_largest_variance(images: ImageData, network: nn.Module, *, size: int) -> float:
    """W-M8 from the stacked gradients of the mini-batches of an epoch, all of the same size."""
    order = BatchOrder(SAMPLES, batch_size=size, seed=SEED, drop_last=True)
    rows = []
    for index in range(SAMPLES // size):
        parts = parts_of(images, order.indices(index), size, derive_seed(SEED, "dropout", index))
        gradient = loss_and_gradient(copy.deepcopy(network), parts)[1]
        rows.append(torch.cat([part.flatten() for part in gradient]).numpy())
    return size * max(float(np.var([row[j] for row in rows])) for j in range(len(rows[0])))


@pytest.mark.parametrize(
    ("batch_size", "asked", "size"), [(32, "auto", 32), (SAMPLES, 20, 20), (16, 40, 40)], ids=["own", "whole", "other"]
)
@pytest.mark.parametrize("reading", ["variance", "standard_deviation"])
def test_noise_has_the_variance_of_the_first_gradients(
    images: ImageData, batch_size: int, asked: Any, size: int, reading: str
) -> None:
    noise = {"factor": 0.04, "reading": reading, "batch_size": asked}
    block = settings(
        "mlp_dropout", batch_size=batch_size, micro_batch=60, optimizer=sgd(weight_decay=0.01, noise=noise)
    )
    trainer, network = trainer_in_float64(images, block), network_of(images, block)
    variance = naive_largest_variance(images, network, size=size)
    deviation = 0.04 * variance if reading == "standard_deviation" else (0.04 * variance) ** 0.5
    order = BatchOrder(SAMPLES, batch_size=batch_size, seed=SEED, drop_last=False)
    noises = []
    for update in trainer.updates(0, 3):
        facts = trainer.facts()
        assert facts["noise_variance"] == pytest.approx(variance, rel=1e-9)  # of theta_0, at every update
        assert facts["noise_deviation"] == pytest.approx(deviation, rel=1e-9)
        assert facts["noise_batch_size"] == size
        rows = torch.arange(SAMPLES) if batch_size == SAMPLES else order.indices(update.step)
        parts = parts_of(images, rows, 60, derive_seed(SEED, "dropout", update.step))
        loss, gradient, _ = loss_and_gradient(network, parts)
        draws = torch.randn(trainer.vector.size, generator=generator(SEED, "noise", update.step)).double()
        noises.append(draws)
        noisy = flat(gradient, trainer) + deviation * draws
        close(update.gradient, flat(gradient, trainer))
        close(update.direction, noisy + 0.01 * flat(network.parameters(), trainer))
        before = trainer.vector.value.clone()
        with torch.no_grad():
            moves = trainer.vector.split(update.direction).values()
            for parameter, move in zip(network.parameters(), moves, strict=True):
                parameter -= LR * move
        assert torch.equal(trainer.vector.value, before)
        assert update.batch_loss == pytest.approx(loss, rel=1e-10)
    close(trainer.vector.value, flat(network.parameters(), trainer))
    whole = torch.stack(noises)
    assert float(whole.std()) == pytest.approx(1.0, abs=0.05)
    assert float(torch.corrcoef(whole).fill_diagonal_(0).abs().max()) < 0.1, "new at every update"


def test_measuring_the_variance_leaves_the_run_as_it_was(images: ImageData) -> None:
    """Noise far below rounding changes nothing: parameters, running statistics, masks and the global generator."""
    noise = {"factor": 1e-300, "reading": "variance", "batch_size": 20}
    quiet = trainer_in_float64(images, settings("mlp_dropout", optimizer=sgd(noise=noise)))
    plain = trainer_in_float64(images, settings("mlp_dropout", optimizer=sgd()))
    torch.manual_seed(5)
    state = torch.get_rng_state()
    start, expected = quiet.checkpoint(0), plain.checkpoint(0)
    assert torch.equal(torch.get_rng_state(), state)
    assert float(start.rule["noise_variance"]) > 0
    for one, other in zip(quiet.updates(0, 5), plain.updates(0, 5), strict=True):
        torch.testing.assert_close(one.direction, other.direction, rtol=0.0, atol=1e-140)  # a zero gets the noise
    assert start.buffers.keys() == expected.buffers.keys()
    assert all(torch.equal(start.buffers[name], buffer) for name, buffer in expected.buffers.items())
    torch.testing.assert_close(quiet.vector.value, plain.vector.value, rtol=0.0, atol=1e-140)


# --- continued runs ---------------------------------------------------------------------------------------------------


def test_a_continued_run_is_the_second_part_trained_by_hand(images: ImageData) -> None:
    """With another batch size, learning rate and rule: momentum starts anew, the draws are the child's own."""
    parent = settings("resnet", optimizer=sgd(momentum=0.9), batch_size=32)
    child = settings("resnet", optimizer=sgd(momentum=0.5), batch_size=40, lr=0.05)
    child = replace(child, start_from=StartingPoint(training=parent, step=5))
    first = trainer_in_float64(images, parent)
    for _ in first.updates(0, 5):
        pass
    network = network_of(images, parent)
    names = [name for name, _ in network.named_parameters()]
    split = first.vector.split(first.vector.value.clone())
    network.load_state_dict({**{name: split[name] for name in names}, **dict(first.model.named_buffers())})
    second = trainer_in_float64(images, child)
    second.continue_from(first.checkpoint(5))
    assert second.checkpoint(0).rule == {}
    assert second.previous_gradient is None
    seed = derive_seed(SEED, "continuation", 5)
    order = BatchOrder(SAMPLES, batch_size=40, seed=seed, drop_last=False)
    memory = [torch.zeros_like(p) for p in network.parameters()]
    for update in second.updates(0, 5):
        rows = order.indices(update.step)
        loss, gradient, _ = loss_and_gradient(network, parts_of(images, rows, 40, derive_seed(seed, "dropout", 0)))
        assert update.batch_loss == pytest.approx(loss, rel=1e-9)
        memory = [0.5 * m + g for m, g in zip(memory, gradient, strict=True)]
        with torch.no_grad():
            for parameter, m in zip(network.parameters(), memory, strict=True):
                parameter -= 0.05 * m
    close(second.vector.value, flat(network.parameters(), second))
