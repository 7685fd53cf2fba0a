"""Gradient alignment, stationarity and spectrum against naive float64 loops that share no code with the probes."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from declared import made_probe
from small_runs import prepare_digits, training_settings
from torch import Tensor, nn

from sgdline.data.images import ImageData, ImageSet, load_images
from sgdline.engine.hessian import Chunk
from sgdline.engine.lanczos_budget import smallest_budget
from sgdline.engine.plan import Plan
from sgdline.engine.projection import CountSketch
from sgdline.engine.top_eigenpairs import top_eigenpairs
from sgdline.models.parameters import ParameterVector
from sgdline.probes.fresh_batches import fresh_batches
from sgdline.probes.measuring_images import measuring_chunks
from sgdline.seeds import derive_seed
from sgdline.train.loop import Batch, Trainer
from sgdline.train.settings import TrainingSettings

CPU = torch.device("cpu")
SAMPLES = 90
HESSIAN: dict[str, Any] = {"samples": None, "batch_norm": "train", "augment": False}
HESSIAN |= {"tolerance": 1e-6, "max_products": 2000}
MODELS: dict[str, dict[str, Any]] = {
    "plain": {"entry": "sgdline.models:mlp", "kwargs": {"hidden": [2], "batch_norm": False}},
    "batch_norm": {"entry": "sgdline.models:mlp", "kwargs": {"hidden": [2]}},
    "dropout": {"entry": "sgdline.models:mlp", "kwargs": {"hidden": [2], "batch_norm": False, "dropout": 0.4}},
}
Matrix = npt.NDArray[np.float64]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """90 training images in chunks of 32: the last one has 26."""
    return prepare_digits(tmp_path_factory.mktemp("dataset"), train=SAMPLES, image_size=4)


def run_of(dataset: Path, model: str, *, double: bool = True) -> tuple[Trainer, ImageData, TrainingSettings, Any]:
    """A run in float64 (a ReLU's kink makes float32 gradients jump) at its update 5, and that update."""
    training = training_settings(model=MODELS[model], seed=3, lr=0.3)
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


def naive_full_gradient(network: nn.Module, chunks: Sequence[Chunk]) -> Matrix:
    """Gradient of the mean loss over all samples of the chunks."""
    parts = [
        naive_gradient(network, Batch(chunk.inputs, chunk.targets, chunk.targets, chunk.mask_seed)) * len(chunk.targets)
        for chunk in chunks
    ]
    return np.sum(parts, axis=0) / sum(len(chunk.targets) for chunk in chunks)


def dense_hessian(network: nn.Module, chunks: Sequence[Chunk]) -> Matrix:
    """Central differences of gradients, coordinate by coordinate. Shape (p, p)."""
    own = copy.deepcopy(network).double()
    rows = []
    for parameter in own.parameters():
        entries = parameter.detach().view(-1)
        for index, here in enumerate(entries.tolist()):
            ends = []
            for sign in (1, -1):
                entries[index] = here + sign * 1e-6
                ends.append(naive_full_gradient(own, chunks))
            entries[index] = here
            rows.append((ends[0] - ends[1]) / 2e-6)
    hessian = np.stack(rows)
    return (hessian + hessian.T) / 2


def naive_gradient(network: nn.Module, batch: Batch) -> Matrix:
    """Gradient of a batch's mean loss on a float64 copy, in the order of named_parameters. Shape (p,)."""
    own = copy.deepcopy(network).double().train()
    torch.manual_seed(batch.mask_seed)
    loss = nn.CrossEntropyLoss()(own(batch.inputs.double()), batch.targets)
    return np.concatenate([part.numpy().ravel() for part in torch.autograd.grad(loss, list(own.parameters()))])


def cosine(first: Matrix, second: Matrix) -> float:
    return float(first @ second / math.sqrt(first @ first) / math.sqrt(second @ second))


@pytest.mark.parametrize("model", ["plain", "batch_norm", "dropout"])
def test_alignment_is_that_of_a_loop_which_keeps_every_gradient(dataset: Path, model: str) -> None:
    trainer, images, training, _ = run_of(dataset, model)
    lags, every, steps = [1, 3, 4, 8], 4, 11
    settings = {"every": every, "batches": 3, "lags": lags, "projection": "auto"}
    training = replace(training, steps=steps)
    probe = made_probe("alignment", trainer, images, training, settings, Plan())
    batches = list(fresh_batches(images, training, purpose="alignment_batches", first=0, stop=3))
    assert all(len(set(batch.rows.tolist())) == 32 for batch in batches)
    whole = measuring_chunks(images, training, probe="alignment")
    kept: list[list[Matrix]] = []
    for update in trainer.updates(0, steps):
        kept.append([naive_gradient(trainer.model, batch) for batch in batches])
        full = naive_full_gradient(trainer.model, whole)
        probe.observe(update)
        if not probe.due(update.step):
            continue
        rows, now = probe.measure(update), kept[-1]
        assert [row["batch"] for row in rows] == [0, 1, 2]
        for row, own in zip(rows, now, strict=True):
            others = [cosine(own, other) for other in now if other is not own]
            assert row["other_batches_cosine"] == pytest.approx(sum(others) / 2, abs=1e-12)
            assert row["full_cosine"] == pytest.approx(cosine(own, full), abs=1e-12)
            assert row["gradient_norm"] == pytest.approx(math.sqrt(own @ own), rel=1e-12)
            assert row["full_gradient_norm"] == pytest.approx(math.sqrt(full @ full), rel=1e-12)
            assert row["status"] == "ok"
            for lag, found in zip(lags, row["lag_cosines"], strict=True):
                if lag > update.step:
                    assert found is None
                else:
                    expected = cosine(own, kept[update.step - lag][row["batch"]])
                    assert found == pytest.approx(expected, abs=1e-12)


def test_sketches_keep_cosines_on_average_to_their_standard_error() -> None:
    draws = torch.Generator().manual_seed(1)
    size, dimensions = 3000, 256
    first = torch.randn(size, generator=draws, dtype=torch.float64)
    other = torch.randn(size, generator=draws, dtype=torch.float64)
    for mixed in (0.0, 1.0, 5.0):
        second = mixed * first + other
        exact = float(first @ second / first.norm() / second.norm())
        found = []
        for seed in range(400):
            sketch = CountSketch(size, dimensions, seed=seed, device=CPU)
            found.append(float(sketch(first) @ sketch(second) / first.norm() / second.norm()))
        error = math.sqrt((1 + exact**2) / dimensions)
        assert np.mean(found) == pytest.approx(exact, abs=4 * error / 20)
        assert np.std(found) == pytest.approx(error, rel=0.15)


def test_a_sketched_alignment_is_near_the_exact_one(dataset: Path) -> None:
    trainer, images, training, _ = run_of(dataset, "plain", double=False)
    training = replace(training, steps=20)
    settings = {"every": 5, "batches": 2, "lags": [1, 5, 10], "projection": "none"}
    exact, sketched = (
        made_probe("alignment", trainer, images, training, settings | {"projection": kind}, Plan())
        for kind in ("none", 4096)
    )
    assert sketched.facts()["cosine_standard_error"] == 1 / 64
    for update in trainer.updates(0, 20):
        for probe in (exact, sketched):
            probe.observe(update)
        if exact.due(update.step):
            for row, near in zip(exact.measure(update), sketched.measure(update), strict=True):
                known = [key for key in row if key != "lag_cosines"]
                assert [row[key] for key in known] == [near[key] for key in known]
                for value, sketch in zip(row["lag_cosines"], near["lag_cosines"], strict=True):
                    assert (value is None) == (sketch is None)
                    assert value is None or (value != sketch and abs(value - sketch) < 5 * math.sqrt(2) / 64)


# -- eigenpairs --------------------------------------------------------------------------------------------------------


def test_top_eigenpairs_are_those_of_the_dense_matrix() -> None:
    rng = np.random.default_rng(0)
    basis, _ = np.linalg.qr(rng.standard_normal((80, 80)))
    values = np.concatenate([[-9.0, 5.0, 5.0, 4.0], np.linspace(-1, 1, 76)])  # a double one, and a large negative one
    matrix = basis * values @ basis.T
    found = top_eigenpairs(
        lambda vector: matrix @ vector, rng.standard_normal(80), 4, tolerance=1e-8, max_products=1000
    )
    assert found is not None
    assert found.converged
    np.testing.assert_allclose(found.values, [5.0, 5.0, 4.0, 1.0], rtol=1e-7)
    np.testing.assert_allclose(found.vectors.T @ found.vectors, np.eye(4), atol=1e-10)
    residuals = np.linalg.norm(matrix @ found.vectors - found.vectors * found.values, axis=0)
    np.testing.assert_allclose(found.residuals, residuals, atol=1e-12)


def test_top_eigenpairs_within_a_budget_and_without_a_value() -> None:
    rng = np.random.default_rng(0)
    diagonal = np.linspace(0.9, 1.0, 500)
    start, count = rng.standard_normal(500), 0

    def product(vector: Matrix) -> Matrix:
        nonlocal count
        count += 1
        return diagonal * vector

    least = smallest_budget(5)
    found = top_eigenpairs(product, start, 5, tolerance=1e-9, max_products=least)
    assert found is not None
    assert not found.converged
    assert found.products == count <= least
    assert top_eigenpairs(lambda vector: vector * math.nan, start, 5, tolerance=1e-3, max_products=99) is None
    flat = top_eigenpairs(np.zeros_like, start, 5, tolerance=1e-3, max_products=99)
    assert flat is not None
    assert flat.values.tolist() == [0.0] * 5
    with pytest.raises(ValueError, match="count must be from 1 to 499"):
        top_eigenpairs(product, start, 500, tolerance=1e-3, max_products=99)


# -- spectrum ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["plain", "batch_norm"])
def test_spectrum_is_that_of_dense_hessian_and_covariance(dataset: Path, model: str) -> None:
    trainer, images, training, update = run_of(dataset, model)
    count, epochs = 6, 3
    settings = {"every": 5, "eigenvalues": count, "epochs": epochs, "trace_draws": 400} | HESSIAN
    [row] = made_probe("spectrum", trainer, images, training, settings, Plan()).measure(update)
    chunks = measuring_chunks(
        images, training, probe="spectrum", samples=settings["samples"], augment=settings["augment"]
    )
    hessian = dense_hessian(trainer.model, chunks)
    values, vectors = np.linalg.eigh(hessian)
    values, vectors = values[::-1][:count], vectors[:, ::-1][:, :count]
    np.testing.assert_allclose(row["eigenvalues"], values, rtol=1e-5, atol=1e-6)
    assert row["status"] == "ok"
    assert abs(row["hessian_trace"] - np.trace(hessian)) < 4 * row["hessian_trace_error"]
    assert row["hessian_trace_error"] < 0.1 * abs(np.trace(hessian))
    # Two whole batches of an epoch: 32 and 32 of 90 samples.
    covariances, means = [], []
    for epoch in range(epochs):
        first = (5 * epochs + epoch) * 2
        batches = fresh_batches(images, training, purpose="spectrum_batches", first=first, stop=first + 2)
        gradients = np.stack([naive_gradient(trainer.model, batch) for batch in batches])
        covariances.append(np.cov(gradients, rowvar=False))
        means.append(gradients.mean(axis=0))
    covariance, mean = np.mean(covariances, axis=0), np.mean(means, axis=0)
    assert row["batches"] == 2 * epochs
    assert row["gradient_covariance_trace"] == pytest.approx(np.trace(covariance), rel=1e-10)
    along = np.einsum("pk,pq,qk->k", vectors, covariance, vectors)
    np.testing.assert_allclose(row["gradient_variances"], along, rtol=1e-3)
    np.testing.assert_allclose(np.abs(row["gradient_means"]), np.abs(mean @ vectors), rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(row["noise_variances"], along / values**2, rtol=1e-3)
    assert row["explained_share"] == pytest.approx(along.sum() / np.trace(covariance), rel=1e-3)


def test_variance_over_epochs_is_that_of_the_samples_over_the_batch_size(dataset: Path) -> None:
    """Without BatchNorm: S^2/B, S^2 with divisor N - 1, whatever the share of the samples that a batch has."""
    trainer, images, training, update = run_of(dataset, "plain")
    training = replace(training, batch_size=30)  # three batches hold all 90 samples
    settings = {"every": 5, "eigenvalues": 1, "epochs": 300, "trace_draws": 0} | HESSIAN
    [row] = made_probe("spectrum", trainer, images, training, settings, Plan()).measure(update)
    samples = [
        naive_gradient(
            trainer.model, Batch(images.train.inputs[i : i + 1], images.train.targets[i : i + 1], Tensor(), 0)
        )
        for i in range(SAMPLES)
    ]
    expected = np.var(np.stack(samples), axis=0, ddof=1).sum() / 30
    assert row["gradient_covariance_trace"] == pytest.approx(expected, rel=0.03)
    assert row["hessian_trace"] is None


# -- stationarity ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("start", "momentum"), [(0, 0.0), (0, 0.9), (3, 0.9)])
def test_stationarity_is_that_of_three_runs_kept_whole(dataset: Path, start: int, momentum: float) -> None:
    """Twins by hand: other batches from t0 on, and the run's own again from half of what is left."""
    steps, count = 12, 3
    training = training_settings(
        model={"entry": "sgdline.models:mlp", "kwargs": {"hidden": [2]}}, steps=steps, momentum=momentum, lr=0.3
    )
    images = load_images(dataset, device=CPU)
    trainer = Trainer(training, images, device=CPU)
    settings = {"start": start, "every": 1, "eigenvectors": count} | HESSIAN
    probe = made_probe("stationarity", trainer, images, training, settings, Plan())
    begin = trainer.checkpoint(0)
    probe.begin(begin)
    rows, path = [], []
    other_batches = Trainer(training, images, device=CPU, draws=derive_seed(training.seed, "twin")).batch
    for update in trainer.updates(0, steps):
        path.append(trainer.vector.value.clone())
        probe.observe(update)
        if probe.due(update.step):
            rows += probe.measure(update)
    path.append(trainer.vector.value.clone())
    rows += probe.finish()
    assert [row["step"] for row in rows] == list(range(start, steps + 1))
    assert len({tuple(other_batches(step).rows.tolist()) for step in range(steps)}) == steps
    assert not any(torch.equal(other_batches(step).rows, trainer.batch(step).rows) for step in range(steps))
    half = start + (steps - start) // 2

    def run(batch_of: Any) -> list[Tensor]:
        """SGD with momentum by hand, on a network of its own."""
        own = Trainer(training, images, device=CPU)
        own.load(begin)
        theta, velocity, found = own.vector.value, torch.zeros_like(own.vector.value), []
        for step in range(steps + 1):
            found.append(theta.clone())
            if step < steps:
                _, gradient = own.gradient(batch_of(step))
                velocity.mul_(momentum).add_(gradient + 0.01 * theta)
                theta.add_(velocity, alpha=-0.3)
        return found

    main = run(trainer.batch)
    twin = run(lambda step: (trainer.batch if step < start else other_batches)(step))
    rejoined = run(lambda step: (other_batches if start <= step < half else trainer.batch)(step))
    for row in rows:
        step = row["step"]
        moved = (main[step] - main[start]).double()
        assert row["squared_distance"] == pytest.approx(float(moved @ moved), rel=1e-3, abs=1e-9)
        for name, path_of_twin in (("twin", twin), ("rejoined", rejoined)):
            apart = (path_of_twin[step] - main[step]).double()
            if name == "rejoined" and step < half:
                assert "rejoined_squared_distance" not in row
            else:
                assert row[f"{name}_squared_distance"] == pytest.approx(float(apart @ apart), rel=1e-3, abs=1e-9)
    assert rows[-1]["twin_squared_distance"] > 0
    if start == 0:
        return  # one dense Hessian is enough
    chunks = measuring_chunks(
        images, training, probe="stationarity", samples=settings["samples"], augment=settings["augment"]
    )
    trainer.vector.value.copy_(path[start])
    values, vectors = np.linalg.eigh(dense_hessian(trainer.model, chunks))
    values, vectors = values[::-1][:count], vectors[:, ::-1][:, :count]
    np.testing.assert_allclose(rows[0]["eigenvalues"], values, rtol=1e-4)
    for row in rows:
        step = row["step"]
        for column, apart in (
            ("projections", main[step] - main[start]),
            ("twin_projections", twin[step] - main[step]),
            ("rejoined_projections", rejoined[step] - main[step]),
        ):
            if column in row:
                expected = np.abs(apart.double().numpy() @ vectors)
                np.testing.assert_allclose(np.abs(row[column]), expected, atol=2e-3)
    assert np.abs(rows[-1]["projections"]).max() > 0.05
