"""Hessian products, eigenvalues and gradient covariances against dense float64 matrices that share no code with them.

The dense Hessians are central differences of gradients, each chunk on a fresh copy of the network; where there is no
BatchNorm, torch.func as well (its forward mode is wrong with BatchNorm in train mode, see docs/development.md).
"""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import scipy.linalg
import torch
import torch.nn.functional as functional
from declared import made_probe
from networks import NETWORKS, STATEFUL, images, make_network
from small_runs import prepare_digits, training_settings
from torch import Tensor, nn

from sgdline.data.images import ImageData, ImageSet, load_images
from sgdline.engine.eigenvalues import SMALLEST_BUDGET, spectrum_ends
from sgdline.engine.hessian import Chunk, FullBatchHessian
from sgdline.engine.plan import Plan
from sgdline.models.parameters import ParameterVector
from sgdline.probes.hessian_covariance import probe as hessian_covariance
from sgdline.probes.sharpness import measure_sharpness
from sgdline.seeds import derive_seed
from sgdline.train.checkpoints import save_checkpoint
from sgdline.train.loop import Trainer
from sgdline.train.settings import AugmentationOptions, StartingPoint, TrainingSettings

CPU = torch.device("cpu")
SEED, SIZE, SAMPLES = 3, 32, 90
HVP: dict[str, Any] = {"every": 4, "samples": None, "batch_norm": "train", "augment": False}
HVP |= {"tolerance": 1e-6, "max_products": 2000}
COVARIANCE: dict[str, Any] = {"every": 4, "samples": None, "batch_norm": "train", "augment": False, "top": 4}
MODELS: dict[str, dict[str, Any]] = {
    "plain": {"entry": "sgdline.models:mlp", "kwargs": {"hidden": [2], "batch_norm": False}},
    "batch_norm": {"entry": "sgdline.models:mlp", "kwargs": {"hidden": [2]}},
    "dropout": {"entry": "sgdline.models:mlp", "kwargs": {"hidden": [2], "batch_norm": False, "dropout": 0.4}},
}
Matrix = npt.NDArray[np.float64]


def chunks_of(inputs: Tensor, targets: Tensor, size: int = SIZE) -> list[Chunk]:
    return [
        Chunk(inputs[first : first + size], targets[first : first + size], derive_seed(SEED, "probe_masks", index))
        for index, first in enumerate(range(0, len(targets), size))
    ]


def naive_gradient(
    network: nn.Module, chunks: Sequence[Chunk], move: Callable[[nn.Module], None], *, train_mode: bool = True
) -> dict[str, Tensor]:
    """Gradient of sum over samples / N at moved parameters, every chunk on a fresh float64 copy."""
    total: dict[str, Tensor] = {}
    samples = sum(len(chunk.targets) for chunk in chunks)
    for chunk in chunks:
        own = copy.deepcopy(network).double()
        own.train(train_mode)
        with torch.no_grad():
            move(own)
        for name, part in gradient(own, chunk).items():
            total[name] = total.get(name, torch.zeros_like(part)) + part / samples
    return total


def gradient(own: nn.Module, chunk: Chunk) -> dict[str, Tensor]:
    trained = {name: p for name, p in own.named_parameters() if p.requires_grad}
    torch.manual_seed(chunk.mask_seed)
    loss = nn.CrossEntropyLoss(reduction="sum")(own(chunk.inputs.double()), chunk.targets)
    return dict(zip(trained, torch.autograd.grad(loss, list(trained.values())), strict=True))


def differences(network: nn.Module, chunks: Sequence[Chunk], *, train_mode: bool = True) -> Matrix:
    """Dense Hessian by central differences, in the order of named_parameters. Shape (p, p)."""
    own = copy.deepcopy(network).double()
    own.train(train_mode)
    rows = []
    for parameter in own.parameters():
        for entry in range(parameter.numel()):
            index = np.unravel_index(entry, parameter.shape)
            here, row = float(parameter.detach()[index]), 0.0
            for sign in (1, -1):
                with torch.no_grad():
                    parameter[index] = here + sign * 1e-6
                for chunk in chunks:
                    row = row + sign * torch.cat([part.reshape(-1) for part in gradient(own, chunk).values()])
            with torch.no_grad():
                parameter[index] = here
            rows.append(row / 2e-6 / sum(len(chunk.targets) for chunk in chunks))
    return torch.stack(rows).numpy()


def run_of(dataset: Path, model: str, *, double: bool = True) -> tuple[Trainer, ImageData, TrainingSettings, Any]:
    """A run in float64 (a ReLU's kink makes float32 gradients jump) at its update 5, and that update."""
    training = training_settings(model=MODELS[model], seed=SEED, lr=0.3)
    data = load_images(dataset, device=CPU)
    if double:
        train, validation = (ImageSet(part.inputs.double(), part.targets) for part in (data.train, data.validation))
        data = dataclasses.replace(data, train=train, validation=validation, black=data.black.double())
    trainer = Trainer(training, data, device=CPU)
    if double:
        trainer.vector.release()
        trainer.model.double()
        trainer.vector = ParameterVector(trainer.model)
    update = next(each for each in trainer.updates(0, 6) if each.step == 5)  # the network stands at theta_5
    return trainer, data, training, update


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """90 training images in chunks of 32: the last one has 26."""
    return prepare_digits(tmp_path_factory.mktemp("dataset"), train=SAMPLES, image_size=4)


# -- products ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("train_mode", [True, False])
@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_products_are_differences_of_gradients(name: str, train_mode: bool) -> None:
    if train_mode and name in STATEFUL:
        pytest.skip("its gradient leaves out what its state depends on, so it is not the derivative of its loss")
    network = make_network(name).double()
    inputs, targets = images(23)
    chunks = chunks_of(inputs.double(), targets, size=10)  # 10, 10 and 3
    vector = ParameterVector(network)
    draws = torch.Generator().manual_seed(7)
    direction = torch.randn(vector.size, generator=draws, dtype=torch.float64)
    direction /= direction.norm()
    hessian = FullBatchHessian(network, vector, chunks, train_mode=train_mode)
    with hessian.opened():
        loss, product = hessian.loss_and_product(direction)
    along = vector.split(direction)

    def moved(by: float) -> Callable[[nn.Module], None]:
        def move(own: nn.Module) -> None:
            for key, part in along.items():
                own.get_parameter(key).add_(part, alpha=by)

        return move

    ends = [naive_gradient(network, chunks, moved(by), train_mode=train_mode) for by in (1e-6, -1e-6)]
    found = vector.split(product)
    scale = float(product.norm())
    assert scale > 1e-3
    for key, part in found.items():
        expected = (ends[0][key] - ends[1][key]) / 2e-6
        torch.testing.assert_close(part, expected, rtol=0, atol=1e-7 * max(scale, 1.0))
    losses = []
    for chunk in chunks:
        own = copy.deepcopy(network)
        own.train(train_mode)
        torch.manual_seed(chunk.mask_seed)
        losses.append(functional.cross_entropy(own(chunk.inputs), chunk.targets, reduction="none"))
    assert loss == pytest.approx(float(torch.cat(losses).detach().mean()), rel=1e-12)


# -- ends of spectra ---------------------------------------------------------------------------------------------------

SPECTRA: dict[str, Matrix] = {
    "positive": np.linspace(0.5, 9.0, 150) ** 2,
    "negative": -(np.linspace(0.5, 9.0, 150) ** 2),
    "smallest_dominates": np.concatenate([np.linspace(-0.1, 0.1, 140), [-7.0, -3.0, 2.0]]),
    "largest_dominates": np.concatenate([np.linspace(-0.01, 0.01, 140), [50.0, 20.0, -0.02]]),
    "tie": np.concatenate([np.linspace(-0.5, 0.5, 140), [3.0, -3.0]]),
    "low_rank": np.concatenate([np.zeros(145), [4.0, -1.0, 0.5]]),
    "identity": np.full(40, 2.5),
    "repeated": np.concatenate([np.linspace(-1, 1, 100), [5.0, 5.0, -2.0, -2.0]]),
    "two": np.array([-3.0, 1.0]),
    "five": np.array([0.1, -0.2, 0.3, 4.0, -5.0]),
}


def symmetric(spectrum: Matrix, seed: int = 0) -> Matrix:
    basis = np.linalg.qr(np.random.default_rng(seed).standard_normal((len(spectrum),) * 2))[0]
    matrix: Matrix = basis * spectrum @ basis.T
    return (matrix + matrix.T) / 2


@pytest.mark.parametrize("name", sorted(SPECTRA))
def test_ends_are_those_of_the_dense_spectrum(name: str) -> None:
    matrix = symmetric(SPECTRA[name])
    start = np.random.default_rng(1).standard_normal(len(matrix))
    calls: list[Matrix] = []

    def product(vector: Matrix) -> Matrix:
        calls.append(vector)
        return matrix @ vector

    kept = start.copy()
    found = spectrum_ends(product, start, tolerance=1e-8, max_products=1000)
    values = np.linalg.eigvalsh(matrix)
    assert found is not None
    assert found.largest.value == pytest.approx(values[-1], abs=1e-7 * np.abs(values).max())
    assert found.smallest.value == pytest.approx(values[0], abs=1e-7 * np.abs(values).max())
    assert found.spectral_norm == pytest.approx(np.abs(values).max(), rel=1e-7)
    assert (found.largest.converged, found.smallest.converged) == (True, True)
    assert found.products == len(calls)
    assert np.array_equal(start, kept)
    assert spectrum_ends(product, start, tolerance=1e-8, max_products=1000) == found


def test_an_end_that_does_not_converge_is_an_estimate_and_said_to_be_one() -> None:
    values = np.linspace(-1.0, 1.0, 3000)
    calls = 0

    def product(vector: Matrix) -> Matrix:
        nonlocal calls
        calls += 1
        return values * vector

    start = np.random.default_rng(1).standard_normal(len(values))
    found = spectrum_ends(product, start, tolerance=1e-9, max_products=SMALLEST_BUDGET)
    assert found is not None
    assert calls == found.products <= 2 * SMALLEST_BUDGET
    for end in (found.largest, found.smallest):
        assert not end.converged
        assert end.residual is not None
        assert end.residual > 1e-9
        assert 0.9 < abs(end.value) < 1  # a Rayleigh quotient never leaves the spectrum
        assert np.abs(values - end.value).min() <= end.residual * abs(end.value)
    assert found.smallest.value < 0 < found.largest.value


def test_the_ends_converge_each_for_itself() -> None:
    values = np.concatenate([np.linspace(-1.0, 1.0, 3000), [40.0]])
    start = np.random.default_rng(1).standard_normal(len(values))
    found = spectrum_ends(lambda v: values * v, start, tolerance=1e-9, max_products=SMALLEST_BUDGET)
    assert found is not None
    assert (found.largest.converged, found.smallest.converged) == (True, False)
    assert found.spectral_norm == pytest.approx(40.0, rel=1e-9)


@pytest.mark.parametrize("wild", [np.nan, np.inf])
@pytest.mark.parametrize("at", [1, 2, 30])
def test_products_that_are_not_finite_give_no_spectrum(wild: float, at: int) -> None:
    values, calls = np.linspace(-1.0, 1.0, 200), 0

    def product(vector: Matrix) -> Matrix:
        nonlocal calls
        calls += 1
        image = values * vector
        if calls == at:
            image[3] = wild
        return image

    assert spectrum_ends(product, np.ones(200), tolerance=1e-6, max_products=500) is None
    assert calls == at


def test_an_operator_that_is_zero_has_the_eigenvalue_zero() -> None:
    found = spectrum_ends(lambda v: 0 * v, np.ones(30), tolerance=1e-3, max_products=100)
    assert found is not None
    assert (found.largest.value, found.smallest.value, found.spectral_norm) == (0.0, 0.0, 0.0)
    assert (found.largest.residual, found.largest.converged, found.products) == (None, True, 1)


# -- the probe hvp -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "batch_norm", "samples"),
    [
        ("plain", "train", None),
        ("batch_norm", "train", 45),
        ("batch_norm", "eval", None),
        ("dropout", "train", 45),
    ],
)
def test_rows_have_the_ends_of_the_dense_hessian(
    dataset: Path, model: str, batch_norm: str, samples: int | None
) -> None:
    trainer, data, training, update = run_of(dataset, model)
    block = {**HVP, "batch_norm": batch_norm, "samples": samples}
    [row] = made_probe("hvp", trainer, data, training, block, Plan()).measure(update)
    count = samples or SAMPLES
    chunks = chunks_of(data.train.inputs[:count], data.train.targets[:count])
    assert len(chunks[-1].targets) < SIZE
    parts = [differences(trainer.model, [chunk], train_mode=batch_norm == "train") for chunk in chunks]
    dense = sum(len(chunk.targets) / count * part for chunk, part in zip(chunks, parts, strict=True))
    assert np.abs(dense - dense.T).max() < 1e-7 * np.abs(dense).max()
    values = np.linalg.eigvalsh((dense + dense.T) / 2)
    scale = np.abs(values).max()
    assert row["largest_eigenvalue"] == pytest.approx(values[-1], abs=1e-6 * scale)
    assert row["smallest_eigenvalue"] == pytest.approx(values[0], abs=1e-6 * scale)
    assert row["spectral_norm"] == pytest.approx(scale, rel=1e-6)
    assert row["lr_times_largest"] == update.lr * row["largest_eigenvalue"]
    assert (row["converged"], row["status"]) == (True, "ok")
    assert row["largest_residual"] * abs(row["largest_eigenvalue"]) <= 1e-6 * scale * 1.001
    # A mean of the chunks' means, which weighs the samples of the last chunk more, is another matrix.
    means = sum(parts) / len(chunks)
    wrong = np.linalg.eigvalsh((means + means.T) / 2)
    assert abs(wrong[-1] - values[-1]) > 1e-4 * scale


def test_the_dense_hessian_is_that_of_torch_without_batch_norm(dataset: Path) -> None:
    trainer, data, _, _ = run_of(dataset, "plain")
    dense = differences(trainer.model, chunks_of(data.train.inputs, data.train.targets))
    np.testing.assert_allclose(dense, func_hessian(trainer.model, data.train.inputs, data.train.targets), atol=1e-7)


def func_hessian(
    network: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    scalar: Callable[[Tensor, Tensor], Tensor] = functional.cross_entropy,
) -> Matrix:
    """Reverse mode twice for a scalar of outputs and targets, in the order of named_parameters."""
    shapes = {name: p.shape for name, p in network.named_parameters()}
    flat = torch.cat([p.detach().contiguous().reshape(-1) for p in network.parameters()])

    def at(vector: Tensor) -> Tensor:
        parts = torch.split(vector, [shape.numel() for shape in shapes.values()])
        named = {name: part.view(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}
        return scalar(torch.func.functional_call(network, named, (inputs,)), targets)

    return torch.func.jacrev(torch.func.jacrev(at))(flat).numpy()


def test_in_float32_the_rows_are_the_same_to_its_precision(dataset: Path) -> None:
    trainer, data, training, update = run_of(dataset, "batch_norm", double=False)
    [row] = made_probe("hvp", trainer, data, training, {**HVP, "tolerance": 1e-4}, Plan()).measure(update)
    values = np.linalg.eigvalsh(differences(trainer.model, chunks_of(data.train.inputs, data.train.targets)))
    scale = np.abs(values).max()
    assert row["largest_eigenvalue"] == pytest.approx(values[-1], abs=1e-4 * scale)
    assert row["smallest_eigenvalue"] == pytest.approx(values[0], abs=1e-4 * scale)
    assert row["status"] == "ok"


class Squares(nn.Module):
    """Logits are signed squares: at 0 there is no gradient, and the Hessian has a closed form."""

    def __init__(self, sign: float) -> None:
        super().__init__()
        self.linear = nn.Linear(16, 10, bias=False)
        self.sign = sign
        nn.init.zeros_(self.linear.weight)

    def forward(self, images: Tensor) -> Tensor:
        return self.sign * self.linear(images.flatten(1)) ** 2


def test_at_a_saddle_the_spectral_norm_is_not_the_largest_eigenvalue(dataset: Path) -> None:
    _, data, training, update = run_of(dataset, "plain")
    flat, labels = data.train.inputs.flatten(1).numpy(), data.train.targets.numpy()
    # Block k of the Hessian: 2 sign / N * sum_i (1/10 - [y_i = k]) x_i x_i^T.
    blocks = [2 / SAMPLES * (flat.T * (0.1 - (labels == k))) @ flat for k in range(10)]
    values = np.sort(np.concatenate([np.linalg.eigvalsh(block) for block in blocks]))
    assert values[0] < 0 < values[-1]
    apart = []
    for sign in (1.0, -1.0):
        trainer = Trainer(training, load_images(dataset, device=CPU), device=CPU)
        trainer.model = Squares(sign).double()
        trainer.vector = ParameterVector(trainer.model)
        [row] = made_probe("hvp", trainer, data, training, HVP, Plan()).measure(update)
        ends = np.sort(sign * values)[[0, -1]]
        assert row["smallest_eigenvalue"] == pytest.approx(ends[0], rel=1e-6)
        assert row["largest_eigenvalue"] == pytest.approx(ends[1], rel=1e-6)
        assert row["spectral_norm"] == max(abs(row["smallest_eigenvalue"]), abs(row["largest_eigenvalue"]))
        assert row["train_loss"] == pytest.approx(np.log(10), rel=1e-12)
        apart.append(row["spectral_norm"] > 1.01 * row["largest_eigenvalue"])
    assert sorted(apart) == [False, True]


# -- the probe hessian_covariance --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("model", "batch_norm"), [("plain", "train"), ("batch_norm", "eval")])
def test_covariance_rows_agree_with_naive_loops(dataset: Path, model: str, batch_norm: str) -> None:
    trainer, data, training, update = run_of(dataset, model, double=False)
    block = {**COVARIANCE, "batch_norm": batch_norm, "samples": 40}  # chunks of 32 and 8
    probe = made_probe("hessian_covariance", trainer, data, training, block, Plan())
    [row] = probe.measure(update)
    network = copy.deepcopy(trainer.model).double()
    network.train(batch_norm == "train")
    inputs, targets = data.train.inputs[:40].double(), data.train.targets[:40]
    hessian = differences(network, chunks_of(inputs, targets), train_mode=batch_norm == "train")
    gradients, terms = [], []
    for image, label in zip(inputs, targets, strict=True):
        outputs = network(image[None])
        parts = torch.autograd.grad(functional.cross_entropy(outputs, label[None]), list(network.parameters()))
        gradients.append(torch.cat([part.reshape(-1) for part in parts]).numpy())
        probability = lambda logits, label: logits.softmax(1)[0, label]  # noqa: E731
        curvature = func_hessian(network, image[None], label, probability)
        terms.append(curvature / float(outputs.detach().softmax(1)[0, label]))
    mean = np.mean(gradients, axis=0)
    covariance = np.cov(np.array(gradients).T, bias=True)
    assert probe.facts()["parameters"] == len(mean)
    assert np.abs(hessian - (covariance + np.outer(mean, mean) - np.mean(terms, axis=0))).max() < 1e-7
    assert row["identity_error"] < 1e-8
    assert row["gradient_norm"] == pytest.approx(np.linalg.norm(mean), rel=1e-10)
    values, vectors = np.linalg.eigh((hessian + hessian.T) / 2)
    own_values, own_vectors = np.linalg.eigh(covariance)
    np.testing.assert_allclose(row["hessian_eigenvalues"], values[::-1][:4], rtol=1e-7)
    np.testing.assert_allclose(row["covariance_eigenvalues"], own_values[::-1][:4], rtol=1e-10)
    assert row["cosine"] == pytest.approx(abs(vectors[:, -1] @ own_vectors[:, -1]), abs=1e-6)
    angles = scipy.linalg.subspace_angles(vectors[:, -4:], own_vectors[:, -4:])
    assert row["subspace_overlap"] == pytest.approx(np.mean(np.cos(angles) ** 2), abs=1e-6)
    assert 0 < row["subspace_overlap"] < 1
    losses = functional.cross_entropy(network(inputs), targets)
    assert row["train_loss"] == pytest.approx(float(losses.detach()), rel=1e-12)


@pytest.mark.parametrize("model", ["plain", "dropout"])
def test_the_matrices_themselves(dataset: Path, model: str) -> None:
    trainer, data, _, _ = run_of(dataset, model)
    chunks = chunks_of(data.train.inputs, data.train.targets)
    dense = differences(trainer.model, chunks)  # before the probe's function: it moves no buffers of this network
    found = hessian_covariance.curvature(trainer.model, chunks)
    np.testing.assert_allclose(found.hessian, dense, atol=1e-7)
    right_side = found.covariance + np.outer(found.mean_gradient, found.mean_gradient) - found.probability_term
    np.testing.assert_allclose(found.hessian, right_side, rtol=0, atol=1e-8)
    assert np.abs(found.probability_term).max() > 0.01
    # As few samples per chunk as one likes; masks belong to chunks.
    if model == "plain":
        finer = hessian_covariance.curvature(trainer.model, chunks_of(data.train.inputs, data.train.targets, size=7))
        for name in ("mean_gradient", "hessian", "covariance", "probability_term"):
            np.testing.assert_allclose(getattr(finer, name), getattr(found, name), rtol=0, atol=1e-12)


# -- where runs start --------------------------------------------------------------------------------------------------


def largest_of(trainer: Trainer, data: ImageData) -> float:
    dense = differences(trainer.model, chunks_of(data.train.inputs, data.train.targets))
    return float(np.linalg.eigvalsh((dense + dense.T) / 2)[-1])


@pytest.mark.parametrize("model", sorted(MODELS))
def test_learning_rates_are_in_units_of_the_dense_hessian_at_the_start(
    dataset: Path, model: str, tmp_path: Path
) -> None:
    training = training_settings(model=MODELS[model], seed=SEED, lr_unit="sharpness")
    # Of the training, not of the measurement.
    training = replace(training, augmentation=AugmentationOptions(crop_padding=1, flip=True))
    measure_sharpness(dataset, output=tmp_path / "start.json", settings=training)
    found = json.loads((tmp_path / "start.json").read_text())
    data = load_images(dataset, device=CPU)
    parent = Trainer(training_settings(model=MODELS[model], seed=SEED, lr=0.3), data, device=CPU)
    at_start = largest_of(parent, data)
    assert at_start > 0.1
    assert found["largest_eigenvalue"] == pytest.approx(at_start, rel=1e-3)

    # A continued run: the Hessian where it begins.
    list(parent.updates(0, 8))
    save_checkpoint(tmp_path, parent.checkpoint(8))
    before = training_settings(model=MODELS[model], seed=SEED)
    child = replace(training, start_from=StartingPoint(training=before, step=8))
    measure_sharpness(dataset, output=tmp_path / "later.json", settings=child, start=tmp_path)
    later = json.loads((tmp_path / "later.json").read_text())["largest_eigenvalue"]
    assert later == pytest.approx(largest_of(parent, data), rel=1e-3)
    assert abs(later / at_start - 1) > 0.01
