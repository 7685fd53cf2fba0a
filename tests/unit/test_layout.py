"""The layout of a training's weights: channels last, except where that ends the process."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import prepare_digits, training_settings
from torch import nn

from sgdline.data.images import load_images
from sgdline.declare.schema import as_json
from sgdline.train.convolutions import FragileConvolutions
from sgdline.train.loop import Trainer

# Width 4: shortcuts of 4 and 8 channels. In a process of its own, since torch's fault ends it.
PROGRAM = """
import json, sys
from pathlib import Path
import torch
from sgdline.declare.build import build
from sgdline.engine.draws import DrawsIn
from sgdline.train.run import train_run
from sgdline.train.settings import TrainingSettings

folder, block = Path(sys.argv[1]), json.loads(sys.argv[2])
settings = build(TrainingSettings, block)
train_run(folder / "digits.arrow", trace=folder / "trace.arrow", checkpoints=folder / "c", settings=settings, facts={})
with DrawsIn(torch.float64):
    assert torch.zeros(2).sum() == 0
assert "torch._dynamo" not in sys.modules  # two seconds in every job
"""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare_digits(tmp_path_factory.mktemp("dataset"), train=64)


def is_channels_last(network: nn.Module) -> bool:
    wide = [weight for weight in network.parameters() if weight.dim() == 4 and weight[0, 0].numel() > 1]
    return all(weight.is_contiguous(memory_format=torch.channels_last) for weight in wide)


def model(entry: str, **kwargs: Any) -> dict[str, Any]:
    return {"entry": f"sgdline.models:{entry}", "kwargs": kwargs}


@pytest.mark.slow
def test_a_narrow_residual_net_can_be_trained(dataset: Path) -> None:
    narrow = training_settings(model=model("resnet18_plain", width=4), steps=3, segments=[[0, 3]])
    arguments = [str(dataset.parent), json.dumps(as_json(narrow, complete=True))]
    ended = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


def test_narrow_networks_keep_the_usual_layout(dataset: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="sgdline")
    images = load_images(dataset, device=torch.device("cpu"))
    narrow = Trainer(training_settings(model=model("resnet18_plain", width=4)), images, device=torch.device("cpu"))
    assert not is_channels_last(narrow.model)
    assert "resnet18_plain has a 1x1 convolution of 8 channels with stride 2, whose gradient" in caplog.text
    wide = Trainer(training_settings(model=model("tiny_resnet", width=8)), images, device=torch.device("cpu"))
    assert is_channels_last(wide.model)


@pytest.mark.parametrize(
    ("layer", "fragile"),
    [
        (nn.Conv2d(4, 8, 1, stride=2), True),
        (nn.Conv2d(15, 8, 1, stride=(1, 2)), True),
        (nn.ConvTranspose2d(32, 4, 1, stride=2), True),
        (nn.Conv2d(4, 8, 1), False),
        (nn.Conv2d(4, 8, 3, stride=2), False),
        (nn.Conv2d(16, 8, 1, stride=2), False),
    ],
)
def test_what_is_fragile(layer: nn.Conv2d, fragile: bool) -> None:
    watch = FragileConvolutions()
    with watch, torch.no_grad():
        nn.Sequential(layer)(torch.zeros(2, layer.in_channels, 8, 8))
        assert bool(watch.found) == fragile
        # A convolution that no module knows of.
        watch.found = None
        torch.nn.functional.conv2d(torch.zeros(2, 4, 8, 8), torch.zeros(8, 4, 1, 1), stride=2)
    assert watch.found
