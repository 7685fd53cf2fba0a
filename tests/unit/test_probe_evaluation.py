"""The evaluation probe against a naive loop, sample by sample, and what it must leave alone."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from declared import made_probe
from small_runs import RESNET, prepare_digits, probe_segment, training_settings
from torch import Tensor, nn

from sgdline.data.images import ImageData, ImageSet, load_images
from sgdline.engine.plan import Plan
from sgdline.models.parameters import buffers_of
from sgdline.tables import kind_of, provenance, read_table
from sgdline.train.loop import Trainer
from sgdline.train.run import train_run
from sgdline.train.settings import TrainingSettings

CPU = torch.device("cpu")
MODELS = {
    "mlp_dropout": {"entry": "sgdline.models:mlp", "kwargs": {"hidden": [16], "dropout": 0.3}},
    "resnet": RESNET,
    "no_batch_norm": {"entry": "sgdline.models:mlp", "kwargs": {"hidden": [16], "batch_norm": False}},
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """90 training, 40 validation and 10 test images; passes of 32."""
    return prepare_digits(tmp_path_factory.mktemp("dataset"), train=90)


def settings(model: str = "mlp_dropout", **changes: Any) -> TrainingSettings:
    return training_settings(**{"model": MODELS[model], "batch_size": 8, **changes})


def naive(model: nn.Module, part: ImageSet) -> tuple[float, float]:
    """Every image alone, in eval mode and float64."""
    own = copy.deepcopy(model).double().eval()
    losses, hits = [], 0
    with torch.no_grad():
        for image, label in zip(part.inputs.double(), part.targets.tolist(), strict=True):
            outputs = own(image[None])[0]
            losses.append(float(outputs.logsumexp(0) - outputs[label]))
            hits += int(outputs.tolist().index(max(outputs.tolist())) == label)
    return math.fsum(losses) / len(losses), hits / len(losses)


@pytest.mark.parametrize("model", MODELS)
def test_rows_are_those_of_a_naive_loop(dataset: Path, model: str) -> None:
    images = load_images(dataset, device=CPU)
    trainer = Trainer(settings(model), images, device=CPU)
    probe = made_probe("evaluation", trainer, images, settings(model), {"every": 5}, Plan())
    seen = []
    for update in trainer.updates(0, 12):
        if not probe.due(update.step):
            continue
        [row] = probe.measure(update)
        seen.append(row["step"])
        assert row["epoch"] == update.epoch
        for name in ("train", "validation", "test"):
            loss, accuracy = naive(trainer.model, getattr(images, name))
            assert row[f"{name}_loss"] == pytest.approx(loss, rel=1e-5), name
            assert row[f"{name}_accuracy"] == accuracy, name
    assert seen == [0, 5, 10]
    assert row.keys() == set(kind_of("evaluation").schema.names)


def test_the_size_of_passes_does_not_matter(dataset: Path) -> None:
    images = load_images(dataset, device=CPU)
    trainer = Trainer(settings(), images, device=CPU)
    update = next(trainer.updates(0, 1))
    rows = [
        made_probe("evaluation", trainer, images, settings(batch_size=size), {"every": 1}, Plan()).measure(update)[0]
        for size in (1, 7, 64)
    ]
    for row in rows[1:]:
        for name, value in row.items():
            assert value == pytest.approx(rows[0][name], rel=1e-6), name


class Restless(nn.Module):
    """Draws random numbers and moves a buffer of its own in eval mode too, and has a part that stays in eval mode."""

    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(64, 10)
        self.norm = nn.BatchNorm1d(10)
        self.register_buffer("count", torch.zeros(1))

    def forward(self, images: Tensor) -> Tensor:
        self.count += 1
        return nn.functional.dropout(self.norm(self.head(images.flatten(1))), 0.2) + 1e-3 * self.count


def test_the_trainer_stays_as_it_was_bit_for_bit(dataset: Path) -> None:
    images = load_images(dataset, device=CPU)
    trainer = Trainer(settings(), images, device=CPU)
    trainer.model = Restless()
    trainer.vector = type(trainer.vector)(trainer.model)
    probe = made_probe("evaluation", trainer, images, settings(), {"every": 1}, Plan())
    update = next(trainer.updates(3, 4))
    trainer.model.norm.eval()
    torch.manual_seed(11)

    def state() -> list[Tensor]:
        modes = torch.tensor([module.training for module in trainer.model.modules()])
        pieces = [trainer.vector.value, trainer.vector.gradient, torch.get_rng_state(), modes]
        return [piece.clone() for piece in (*pieces, *buffers_of(trainer.model).values())]

    before = state()
    first = probe.measure(update)
    torch.manual_seed(99)  # whatever was drawn before, an update has one row
    assert probe.measure(update) == first
    torch.manual_seed(11)
    assert all(torch.equal(old, new) for old, new in zip(before, state(), strict=True))
    assert update.finite


def test_splits_without_images_are_null(dataset: Path, tmp_path: Path) -> None:
    images = load_images(dataset, device=CPU)
    empty = ImageSet(images.test.inputs[:0], images.test.targets[:0])
    facts = {name: getattr(images, name) for name in ImageData.__dataclass_fields__}
    bare = ImageData(**{**facts, "validation": empty, "test": empty})
    trainer = Trainer(settings(), bare, device=CPU)
    probe = made_probe("evaluation", trainer, bare, settings(), {"every": 1}, Plan())
    [row] = probe.measure(next(trainer.updates(0, 1)))
    assert row.keys() == {"step", "epoch", "train_loss", "train_accuracy"}
    expected = {"batch_norm": "eval", "samples": 90, "validation_samples": 0, "test_samples": 0}
    assert probe.facts() == expected


def test_outputs_that_are_not_numbers_answer_nothing(dataset: Path) -> None:
    images = load_images(dataset, device=CPU)
    trainer = Trainer(settings("no_batch_norm"), images, device=CPU)
    update = next(trainer.updates(0, 1))
    trainer.vector.value[-10:] = math.nan  # the biases of the last layer
    [row] = made_probe("evaluation", trainer, images, settings(), {"every": 1}, Plan()).measure(update)
    assert math.isnan(row["train_loss"])
    assert (row["train_accuracy"], row["test_accuracy"]) == (0.0, 0.0)


def test_the_table_says_how_it_was_measured_and_a_diverged_run_has_its_rows(dataset: Path, tmp_path: Path) -> None:
    block = settings("no_batch_norm", lr=1e30)
    train_run(
        dataset, trace=tmp_path / "trace.arrow", checkpoints=tmp_path / "checkpoints", settings=block, facts={"run": 1}
    )
    lost = provenance(read_table(tmp_path / "trace.arrow", "trace"))["diverged_at"]
    assert 0 < lost < 4
    probe = {"training": block, "probe": "evaluation", "settings": {"every": 1}, "replay_tolerance": 0.0}
    counts = []
    for segment in range(3):
        path = tmp_path / f"{segment}.arrow"
        probe_segment(dataset, tmp_path / "checkpoints", output=path, settings=probe, segment=segment, facts={"run": 1})
        table = read_table(path, "evaluation")
        counts.append(len(table))
        facts = provenance(table)
        assert (facts["batch_norm"], facts["samples"], facts["test_samples"]) == ("eval", 90, 10)
    assert counts == [lost, 0, 0]
