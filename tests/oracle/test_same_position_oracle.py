"""Lines and gradients at one position against naive loops in float64, and their analysis against plain numpy.

The naive loops train a float64 copy of the network by hand and share no code with the probes but the seeds of the
random draws. The law of the batch size is tested against the gradients of all single samples.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from declared import made_probe
from line_tables import make_line_table
from small_runs import RESNET, prepare_digits, training_settings
from torch import Tensor, nn

from sgdline.analysis.power_law import fit_power_law
from sgdline.analysis.same_position import measure_same_position
from sgdline.data.augmentation import augment
from sgdline.data.batches import BatchOrder
from sgdline.data.images import ImageSet, load_images
from sgdline.engine.plan import Plan
from sgdline.errors import SgdlineError
from sgdline.models.loading import build_model
from sgdline.models.parameters import ParameterVector
from sgdline.seeds import derive_seed, generator
from sgdline.tables import kind_of, provenance, read_table, write_table
from sgdline.train.loop import Trainer
from sgdline.train.settings import ModelOptions, TrainingSettings

CPU = torch.device("cpu")
MOMENTUM, DECAY, LR, SEED, SIZE, SAMPLES, STEPS = 0.9, 0.01, 0.2, 3, 32, 90, 6
MODELS: dict[str, dict[str, Any]] = {
    "mlp": {"entry": "sgdline.models:mlp", "kwargs": {"hidden": [16]}},
    "mlp_dropout": {"entry": "sgdline.models:mlp", "kwargs": {"hidden": [16], "dropout": 0.3}},
    "resnet": RESNET,
}
LINE = {"positions": "grid", "interval": 0.3, "resolution": 0.1, "tolerance": 1e-3, "max_rings": 1}
MLINE = {"every": 5, "directions": "all", "line": LINE | {"batch_norm": "train", "augment": False}}
OWN = {"every": 5, "batch_sizes": [5, 40], "draws": 2}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """90 training images in batches of 32: the last one of an epoch has 26."""
    return prepare_digits(tmp_path_factory.mktemp("dataset"), train=SAMPLES)


def settings(model: str, *, augmented: bool, momentum: float = MOMENTUM) -> TrainingSettings:
    return training_settings(
        momentum=momentum,
        weight_decay=DECAY,
        model=MODELS[model],
        lr=LR,
        seed=SEED,
        augmentation={"crop_padding": 1 if augmented else 0, "flip": augmented},
    )


class Naive:
    """A run in float64, step by step; every gradient comes from a fresh copy of the network."""

    def __init__(self, dataset: Path, training: TrainingSettings) -> None:
        self.images = load_images(dataset, device=CPU)
        self.training = training
        self.inputs, self.targets = self.images.train.inputs.double(), self.images.train.targets
        shape, classes = self.images.image_shape, self.images.num_classes
        seed = derive_seed(SEED, "initialisation")
        self.network = build_model(
            training.model.entry, training.model.kwargs, input_shape=shape, num_classes=classes, seed=seed
        ).double()
        self.network.train()
        self.order = BatchOrder(SAMPLES, batch_size=SIZE, seed=SEED, drop_last=False)
        self.buffer: list[Tensor] | None = None

    def augmented(self, pictures: Tensor, draws: torch.Generator) -> Tensor:
        fill = self.images.black.double()
        return augment(pictures, **asdict(self.training.augmentation), fill=fill, generator=draws)

    def batch(self, step: int) -> tuple[Tensor, Tensor, int]:
        rows = self.order.indices(step)
        pictures = self.augmented(self.inputs[rows], generator(SEED, "augmentation", step))
        return pictures, self.targets[rows], derive_seed(SEED, "dropout", step)

    def losses(self, network: nn.Module, inputs: Tensor, targets: Tensor, mask: int) -> Tensor:
        torch.manual_seed(mask)
        return nn.CrossEntropyLoss(reduction="none")(copy.deepcopy(network)(inputs), targets)

    def gradient(self, inputs: Tensor, targets: Tensor, mask: int) -> list[Tensor]:
        own = copy.deepcopy(self.network)
        torch.manual_seed(mask)
        loss = nn.CrossEntropyLoss()(own(inputs), targets)
        return list(torch.autograd.grad(loss, list(own.parameters())))

    def vector(self, gradient: list[Tensor]) -> list[Tensor]:
        decayed = [g + DECAY * p.detach() for g, p in zip(gradient, self.network.parameters(), strict=True)]
        if self.buffer is None:
            return decayed
        momentum = self.training.optimizer.momentum
        return [momentum * m + g for m, g in zip(self.buffer, decayed, strict=True)]

    def advance(self, step: int) -> None:
        self.buffer = self.vector(self.gradient(*self.batch(step)))
        with torch.no_grad():
            for parameter, m in zip(self.network.parameters(), self.buffer, strict=True):
                parameter -= LR * m

    def chunks(self, inputs: Tensor) -> list[tuple[Tensor, Tensor, int]]:
        return [
            (inputs[first : first + SIZE], self.targets[first : first + SIZE], derive_seed(SEED, "probe_masks", index))
            for index, first in enumerate(range(0, SAMPLES, SIZE))
        ]


def length(parts: Sequence[Tensor]) -> float:
    return math.sqrt(sum(float((part**2).sum()) for part in parts))


def product(one: Sequence[Tensor], other: Sequence[Tensor]) -> float:
    return sum(float((a * b).sum()) for a, b in zip(one, other, strict=True))


def measured(dataset: Path, training: TrainingSettings, kind: str, block: dict[str, Any]) -> list[dict[str, Any]]:
    """Measure a run in float64, where its gradients are those of the naive loop to many digits.

    In float32 they are not on every machine: where rounding takes a ReLU's input to the other side of 0, the gradient
    jumps (by 5e-3 of its length, seen at an input of 7e-7), however well the losses agree.
    """
    images = load_images(dataset, device=CPU)
    train = ImageSet(images.train.inputs.double(), images.train.targets)
    images = dataclasses.replace(images, train=train, black=images.black.double())
    trainer = Trainer(training, images, device=CPU)
    trainer.vector.release()
    trainer.model.double()
    trainer.vector = ParameterVector(trainer.model)
    probe = made_probe(kind, trainer, images, training, block, Plan(precision="float64"))
    updates = (update for update in trainer.updates(0, STEPS) if probe.due(update.step))
    return [row for update in updates for row in probe.measure(update)]


# -- probes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", sorted(MODELS))
@pytest.mark.parametrize("momentum", [0.0, MOMENTUM])
def test_directions_and_lines_agree_with_the_naive_loop(dataset: Path, model: str, momentum: float) -> None:
    training = settings(model, augmented=momentum > 0, momentum=momentum)
    rows = iter(measured(dataset, training, "mline", MLINE))
    naive = Naive(dataset, training)
    for step in range(STEPS):
        if step % 5 == 0:
            for batch in range(3):
                row = next(rows)
                assert (row["step"], row["direction"]) == (step, batch)
                inputs, targets, mask = naive.batch(step // 3 * 3 + batch)
                gradient = naive.gradient(inputs, targets, mask)
                vector = naive.vector(gradient)
                norm = length(vector)
                assert row["direction_norm"] == pytest.approx(norm, rel=1e-10)
                assert row["step_length"] == pytest.approx(LR * row["direction_norm"], rel=1e-12)
                assert row["direction_batch_slope"] == pytest.approx(-product(vector, gradient) / norm, rel=1e-10)
                np.testing.assert_allclose(row["positions"], np.arange(-3, 4) * 0.1, rtol=0, atol=0)
                for position, full, own in [
                    *zip(row["positions"], row["train_loss"], row["direction_batch_loss"], strict=True),
                    (row["step_length"], row["step_train_loss"], row["step_direction_batch_loss"]),
                ]:
                    moved = copy.deepcopy(naive.network)
                    with torch.no_grad():
                        for parameter, part in zip(moved.parameters(), vector, strict=True):
                            parameter -= position / norm * part
                        whole = torch.cat([naive.losses(moved, *chunk) for chunk in naive.chunks(naive.inputs)])
                        batch_loss = float(naive.losses(moved, inputs, targets, mask).mean())
                    assert full == pytest.approx(float(whole.mean()), abs=1e-10)
                    assert own == pytest.approx(batch_loss, abs=1e-10)
        naive.advance(step)
    assert next(rows, None) is None


@pytest.mark.parametrize("model", sorted(MODELS))
@pytest.mark.parametrize("augmented", [False, True])
def test_own_gradients_agree_with_the_naive_loop(dataset: Path, model: str, augmented: bool) -> None:
    training = settings(model, augmented=augmented)
    rows = iter(measured(dataset, training, "own_direction", OWN))
    naive = Naive(dataset, training)
    fixed = naive.augmented(naive.inputs, generator(SEED, "probe_augmentation_train"))
    assert torch.equal(fixed, naive.inputs) != augmented
    for step in range(STEPS):
        if step % 5 == 0:
            # The mean over samples: the last chunk of 26 counts less than those of 32.
            full = [torch.zeros_like(parameter) for parameter in naive.network.parameters()]
            for chunk in naive.chunks(fixed):
                for total, part in zip(full, naive.gradient(*chunk), strict=True):
                    total += len(chunk[1]) / SAMPLES * part
            for size, draw in itertools.product((5, 40), range(2)):
                row = next(rows)
                assert (row["step"], row["batch_size"], row["draw"]) == (step, size, draw)
                seed = derive_seed(SEED, "own_direction", step)
                seed = derive_seed(derive_seed(seed, "batch_size", size), "draw", draw)
                chosen = torch.randperm(SAMPLES, generator=generator(seed, "rows"))[:size]
                pictures = naive.augmented(naive.inputs[chosen], generator(seed, "augmentation"))
                gradient = naive.gradient(pictures, naive.targets[chosen], derive_seed(seed, "dropout"))
                assert row["gradient_norm"] == pytest.approx(length(gradient), rel=1e-10)
                assert row["full_gradient_norm"] == pytest.approx(length(full), rel=1e-10)
                cosine = product(gradient, full) / length(gradient) / length(full)
                assert row["cosine"] == pytest.approx(cosine, abs=1e-10)
                assert row["status"] == "ok"
        naive.advance(step)
    assert next(rows, None) is None


def test_the_norms_of_fresh_batches_follow_the_law(dataset: Path) -> None:
    # No BatchNorm, no dropout, no augmentation: a sample's gradient does not depend on its batch.
    draws, sizes = 300, [2, 30, 60, SAMPLES]
    training = settings("mlp", augmented=False)
    training = replace(
        training, model=ModelOptions(entry="sgdline.models:mlp", kwargs={"hidden": [8], "batch_norm": False})
    )
    rows = measured(dataset, training, "own_direction", {"every": 5, "batch_sizes": sizes, "draws": draws})
    naive = Naive(dataset, training)
    for step in range(STEPS):
        if step % 5 == 0:
            singles = []
            for index in range(SAMPLES):
                part = naive.gradient(naive.inputs[index : index + 1], naive.targets[index : index + 1], 0)
                singles.append(torch.cat([each.reshape(-1) for each in part]))
            gradients = torch.stack(singles)
            mean = gradients.mean(dim=0)
            square = float((mean**2).sum())
            trace = float(((gradients - mean) ** 2).sum()) / SAMPLES
            here = [row for row in rows if row["step"] == step]
            assert here[0]["full_gradient_norm"] ** 2 == pytest.approx(square, rel=1e-4)
            for size in sizes:
                norms = np.array([row["gradient_norm"] for row in here if row["batch_size"] == size])
                assert len(norms) == draws
                expected = square + trace / size * (SAMPLES - size) / (SAMPLES - 1)
                error = np.std(norms**2, ddof=1) / math.sqrt(draws)
                assert abs(np.mean(norms**2) - expected) < 4 * error + 1e-5 * expected, (step, size)
                if size in (30, 60):  # without the factor of the finite population this test would fail
                    assert square + trace / size - expected > 8 * error
        naive.advance(step)


# -- analysis ----------------------------------------------------------------------------------------------------------


def mline_table(functions: Sequence[Callable[[Any], Any]], steps: Sequence[int], **options: Any) -> pa.Table:
    lines = make_line_table(functions, steps=steps, **options)
    counts: dict[int, int] = {}
    directions = []
    for step in steps:
        directions.append(counts.get(step, 0))
        counts[step] = directions[-1] + 1
    return pa.Table.from_arrays(
        [
            pa.array(directions, pa.int32()) if field.name == "direction" else lines.column(field.name)
            for field in kind_of("mline").schema
        ],
        schema=kind_of("mline").schema,
    )


def analysed(folder: Path, table: pa.Table, **changes: Any) -> list[dict[str, Any]]:
    folder.mkdir(parents=True, exist_ok=True)
    write_table(folder / "mline.arrow", "mline", table, provenance={"batch_norm": "train", "samples": 7, "seed": 1})
    options = {"window": 0.2, "resolution": 0.006, "same_position_degrees": [1, 2, 3], **changes}
    written = folder / "mline_metrics.arrow"
    measure_same_position(folder / "mline.arrow", written, **options, provenance={"experiment": "x"})
    found = read_table(folder / "mline_metrics.arrow", "mline_metrics")
    facts = provenance(found)
    assert (facts["experiment"], facts["batch_norm"], facts["samples"]) == ("x", "train", 7)
    assert facts["source"]["kind"] == "mline"
    rows: list[dict[str, Any]] = found.to_pylist()
    return rows


def wavy(index: int) -> Callable[[Any], Any]:
    a, b, c = 1.5 + 0.3 * index, 0.05 + 0.02 * index, 0.6 * math.sin(index)
    return lambda s: 0.4 + a * (s - b) ** 2 + c * s**3 + 0.02 * np.cos(9 * s + index)


@pytest.mark.parametrize("positions", ["grid", "adaptive"])
def test_lines_of_a_position_are_compared_as_naive_loops_do(tmp_path: Path, positions: Any) -> None:
    # 3 lines at update 0, 5 at 100, 1 at 200.
    steps = [0] * 3 + [100] * 5 + [200]
    norms = [0.5 + 0.1 * index for index in range(9)]
    functions = [wavy(index) for index in range(9)]
    table = mline_table(functions, steps, positions=positions, direction_norm=norms, nodes=33)
    rows = analysed(tmp_path, table)
    grid = np.arange(-33, 34) * 0.006
    fine = np.arange(-5000, 5001) * 1e-4
    assert [(row["step"], row["direction"]) for row in rows] == [
        (step, direction) for step, count in ((0, 3), (100, 5), (200, 1)) for direction in range(count)
    ]
    for index, row in enumerate(rows):
        own = functions[index]
        best = fine[np.argmin(own(fine))]
        assert row["minimum_position"] == pytest.approx(best, abs=2e-3)
        assert row["minimum_loss"] == pytest.approx(own(best), abs=1e-4)
        assert row["line_search_ratio"] == pytest.approx(row["minimum_position"] / norms[index], rel=1e-12)
        assert row["direction_norm"] == norms[index]
        here = [other for other, step in enumerate(steps) if step == steps[index]]
        assert row["other_directions"] == list(range(len(here)))
        for other, distance in zip(here, row["distances"], strict=True):
            ours, theirs = own(grid) - own(fine).min(), functions[other](grid) - functions[other](fine).min()
            expected = sum(abs(x - y) for x, y in zip(ours, theirs, strict=True)) / len(grid)
            assert distance == pytest.approx(expected, abs=1e-4)
            assert (distance == 0.0) == (other == index)
        assert row["degrees"] == [1, 2, 3]
        for degree, error in zip(row["degrees"], row["mae"], strict=True):
            residual = own(grid) - np.polyval(np.polyfit(grid, own(grid), degree), grid)
            assert error == pytest.approx(np.abs(residual).mean(), rel=2e-3 if positions == "adaptive" else 1e-9)
        assert row["status"] == "ok"


def test_lines_without_finite_losses_or_direction_have_no_numbers(tmp_path: Path) -> None:
    def spoilt(s: Any) -> Any:
        return np.where(np.abs(s) < 1e-12, 1.0, np.nan)

    functions = [wavy(0), spoilt, wavy(2), lambda s: 1.0 + 0.0 * s, wavy(1)]
    status = ["ok", "non_finite", "edge", "zero_direction", "unresolved"]
    norms = [1.0, float("nan"), 1.0, 0.0, 1.0]
    table = mline_table(functions, [0] * 5, status=status, direction_norm=norms)
    rows = analysed(tmp_path, table)
    assert [row["status"] for row in rows] == status
    for index in (0, 2):
        found = np.array(rows[index]["distances"])
        np.testing.assert_array_equal(np.isnan(found), [False, True, False, True, True])
        assert np.isfinite(rows[index]["mae"]).all()
        assert rows[index]["minimum_position"] is not None
    for index in (1, 3, 4):
        assert rows[index]["minimum_position"] is None
        assert np.isnan(rows[index]["distances"]).all()
        assert np.isnan(rows[index]["mae"]).all()
        assert None not in rows[index]["mae"] + rows[index]["distances"]
    assert [row["line_search_ratio"] is None for row in rows] == [False, True, False, True, True]
    assert (rows[3]["minimum_position"], rows[3]["minimum_loss"]) == (None, None)


def test_a_window_beyond_what_was_measured_leaves_no_number(tmp_path: Path) -> None:
    rows = analysed(tmp_path, mline_table([wavy(0), wavy(1)], [0, 0], half_width=0.15))
    for row in rows:
        assert np.isnan(row["distances"]).all()
        assert np.isnan(row["mae"]).all()
        assert row["minimum_position"] is not None


def test_empty_tables_and_degrees_that_do_not_fit(tmp_path: Path) -> None:
    assert analysed(tmp_path / "empty", mline_table([], [])) == []
    [row] = analysed(tmp_path / "one", mline_table([wavy(0)], [5]), same_position_degrees=[2, 1, 2])
    assert (row["other_directions"], row["distances"], row["degrees"]) == ([0], [0.0], [1, 2])
    with pytest.raises(SgdlineError, match=r"same_position_degrees must be below .* \(5\), got 5"):
        analysed(tmp_path / "steep", mline_table([wavy(0)], [5]), same_position_degrees=[1, 5], resolution=0.1)


# -- power laws --------------------------------------------------------------------------------------------------------


def test_a_power_law_is_found_exactly() -> None:
    sizes = np.array([4, 8, 16, 64, 1024])
    for exponent, prefactor in ((-1.0, 3.0), (-0.5, 1e-6), (0.0, 2.0), (2.5, 7.0)):
        fit = fit_power_law(sizes, prefactor * sizes.astype(float) ** exponent)
        assert fit.points == 5
        assert fit.exponent == pytest.approx(exponent, abs=1e-12)
        assert fit.prefactor == pytest.approx(prefactor, rel=1e-12)
        np.testing.assert_allclose(fit.at(sizes), prefactor * sizes.astype(float) ** exponent, rtol=1e-12)


def test_a_noisy_power_law_is_that_of_polyfit() -> None:
    rng = np.random.default_rng(3)
    sizes = rng.uniform(1, 500, size=40)
    values = 4 * sizes**-0.8 * np.exp(0.3 * rng.standard_normal(40))
    slope, offset = np.polyfit(np.log(sizes), np.log(values), 1)
    fit = fit_power_law(sizes, values)
    assert fit.exponent == pytest.approx(slope, rel=1e-10)
    assert fit.prefactor == pytest.approx(math.exp(offset), rel=1e-10)


def test_only_positive_finite_pairs_count() -> None:
    sizes = [1.0, 2.0, 4.0, 8.0, 16.0, 0.0, float("nan"), -2.0]
    values = [1.0, float("nan"), 0.25, -1.0, float("inf"), 1.0, 1.0, 1.0]
    fit = fit_power_law(sizes, values)
    assert (fit.points, fit.exponent) == (2, pytest.approx(-1.0))
    for lost in (fit_power_law([], []), fit_power_law([3.0], [1.0]), fit_power_law([2.0, 2.0], [1.0, 3.0])):
        assert math.isnan(lost.exponent)
        assert math.isnan(lost.prefactor)
        assert np.isnan(lost.at([1.0, 2.0])).all()
    with pytest.raises(ValueError, match=r"same shape \(n,\), got \(2,\) and \(1,\)"):
        fit_power_law([1.0, 2.0], [1.0])
