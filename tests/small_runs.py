"""Small runs on real digits that several test files share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sgdline.data.prepare import prepare_dataset
from sgdline.data.sources.digits import Digits
from sgdline.declare.build import build
from sgdline.probes import segment
from sgdline.probes.settings import ProbeSettings
from sgdline.train.settings import TrainingSettings

MLP = {"entry": "sgdline.models:mlp", "kwargs": {"hidden": [16]}}
RESNET = {"entry": "small_runs:small_resnet", "kwargs": {"width": 4}}


class _SmallResNet(nn.Module):
    """Convolutions, BatchNorm and a shortcut, in as few operations as can be: tests make thousands of passes."""

    def __init__(self, channels: int, num_classes: int, width: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(channels, width, 3, stride=2, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.residual = nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))
        self.classifier = nn.Linear(width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.stem(images)
        return self.classifier(torch.relu(hidden + self.residual(hidden)).mean((2, 3)))


def small_resnet(*, input_shape: tuple[int, int, int], num_classes: int, width: int) -> nn.Module:
    return _SmallResNet(input_shape[0], num_classes, width)


def prepare_digits(folder: Path, *, train: int, validation: int = 40, image_size: int | None = None) -> Path:
    """Write a data set of scikit-learn's digits: 8x8 pixels, or fewer where every parameter costs."""
    path = folder / "digits.arrow"
    digits = Digits(train=train, validation=validation, test=10, image_size=image_size)
    prepare_dataset(digits, path, data_dir="data", download=False, provenance={})
    return path


def training_settings(*, momentum: float = 0.9, weight_decay: float = 0.01, **changes: Any) -> TrainingSettings:
    """Return the settings of a training; `segments` and everything else can be replaced, by blocks of the config."""
    block: dict[str, Any] = {
        "model": MLP,
        "lr": 0.1,
        "batch_size": 32,
        "seed": 5,
        "steps": 12,
        "segments": [[0, 4], [4, 8], [8, 12]],
        "threads": 1,
        "drop_last": False,
        "loss": {"name": "cross_entropy"},
        "optimizer": {"name": "sgd", "momentum": momentum, "weight_decay": weight_decay},
        "schedule": {"name": "constant"},
        "augmentation": {"crop_padding": 0, "flip": False},
    }
    return build(TrainingSettings, block | changes)


def probe_segment(*files: str | Path, settings: dict[str, Any], **others: Any) -> None:
    """Measure a segment as its script does, from the probe slice of the configuration."""
    segment.probe_segment(*files, settings=ProbeSettings.from_json(settings), **others)


def line_settings(training: TrainingSettings, **changes: Any) -> dict[str, Any]:
    """Return the probe slice of the line probe for a training slice."""
    line: dict[str, Any] = {"every": 2, "positions": "grid", "interval": 0.5, "resolution": 0.1, "tolerance": 1e-3}
    line |= {"max_rings": 1, "batch_norm": "train", "augment": False, "validation": True, "sample_losses": False}
    return {"training": training, "probe": "line", "settings": line | changes, "replay_tolerance": 0.0}


def plan_settings(
    training: TrainingSettings,
    *,
    precision: str = "float32",
    precision_tolerance: float = 3e-5,
    memory_gb: float | str = "auto",
    plan: dict[str, Any] | None = None,
    **changes: Any,
) -> dict[str, Any]:
    """Return the plan slice of the line probe for a training slice."""
    settings = line_settings(training, **changes)
    planning = {"precision": precision, "precision_tolerance": precision_tolerance, "memory_gb": memory_gb}
    planning["check_slope"] = True
    block = {**settings["settings"], **planning, "plan": plan or {}}
    return {"training": training, "probe": "line", "settings": block}
