"""The same run on a GPU: deterministic, exact replays, losses as on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_runs import line_settings, prepare_digits, probe_segment, training_settings

from sgdline.models.vgg import vgg11_tiny_imagenet
from sgdline.runtime import use_deterministic_kernels
from sgdline.tables import provenance, read_table
from sgdline.train.run import train_run

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

MODELS = {
    "mlp": {"entry": "sgdline.models:mlp", "kwargs": {"hidden": [16], "dropout": 0.2}},
    "resnet": {"entry": "sgdline.models:tiny_resnet", "kwargs": {"width": 8}},
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare_digits(tmp_path_factory.mktemp("dataset"), train=250, validation=70)


def settings(model: str) -> dict[str, Any]:
    augmentation = {"crop_padding": 1, "flip": True}
    training = training_settings(
        model=MODELS[model], steps=8, segments=[[0, 4], [4, 8]], weight_decay=0.0, augmentation=augmentation
    )
    return line_settings(training, augment=True)


def measure(dataset: Path, folder: Path, block: dict[str, Any]) -> list[dict[str, Any]]:
    checkpoints = folder / "checkpoints"
    train_run(dataset, trace=folder / "trace.arrow", checkpoints=checkpoints, settings=block["training"], facts={})
    rows: list[dict[str, Any]] = []
    for segment in range(2):
        path = folder / f"segment{segment}.arrow"
        probe_segment(dataset, checkpoints, output=path, settings=block, segment=segment, facts={})
        table = read_table(path, "line")
        assert provenance(table)["replay_drift"] == 0.0
        rows += table.to_pylist()
    return rows


@pytest.mark.parametrize("model", sorted(MODELS))
def test_equal_runs_give_equal_rows(dataset: Path, tmp_path: Path, model: str) -> None:
    first = measure(dataset, tmp_path / "first", settings(model))
    assert measure(dataset, tmp_path / "second", settings(model)) == first
    assert provenance(read_table(tmp_path / "first" / "segment0.arrow", "line"))["device"] != "cpu"


def test_losses_at_the_first_line_are_those_of_the_cpu(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_gpu = measure(dataset, tmp_path / "gpu", settings("resnet"))[0]
    monkeypatch.setattr("sgdline.runtime.pick_device", lambda: torch.device("cpu"))
    on_cpu = measure(dataset, tmp_path / "cpu", settings("resnet"))[0]
    for column in ("train_loss", "direction_batch_loss", "validation_loss"):
        np.testing.assert_allclose(on_gpu[column], on_cpu[column], atol=1e-4)


@pytest.mark.parametrize("side", [32, 48, 64, 96])
def test_vgg11_tiny_imagenet_has_deterministic_gradients(side: int) -> None:
    use_deterministic_kernels()
    network = vgg11_tiny_imagenet(input_shape=(3, side, side), num_classes=10, width=4).cuda()
    network(torch.ones(2, 3, side, side, device="cuda")).logsumexp(1).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
