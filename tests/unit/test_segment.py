"""Replays of segments: the comparison with the next checkpoint, and probes that follow a whole run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from small_runs import prepare_digits, probe_segment, training_settings

from sgdline.data.images import load_images
from sgdline.errors import SgdlineError
from sgdline.probes import settings as probe_settings
from sgdline.probes.base import EveryOptions
from sgdline.probes.evaluation.table import EVALUATION
from sgdline.probes.probe import Probe
from sgdline.probes.segment import _drift
from sgdline.tables import read_table
from sgdline.train.checkpoints import Checkpoint, checkpoint_path, load_checkpoint
from sgdline.train.loop import Trainer, Update
from sgdline.train.run import train_run

NAN, INF = math.nan, math.inf


def checkpoint(parameters: list[float], buffer: list[float], momentum: list[float]) -> Checkpoint:
    return Checkpoint(
        step=3,
        parameters=torch.tensor(parameters),
        buffers={"statistics": torch.tensor(buffer)},
        rule={"momentum": torch.tensor(momentum)},
    )


def test_the_largest_difference_anywhere_counts() -> None:
    saved = checkpoint([1.0, 2.0], [3.0], [4.0])
    assert _drift(checkpoint([1.0, 2.0], [3.0], [4.0]), saved) == 0.0
    assert _drift(checkpoint([1.5, 2.0], [3.0], [4.0]), saved) == 0.5
    assert _drift(checkpoint([1.5, 2.0], [1.0], [4.0]), saved) == 2.0
    assert _drift(checkpoint([1.5, 2.0], [1.0], [-4.0]), saved) == 8.0


@pytest.mark.parametrize("wild", [NAN, INF, -INF])
def test_values_that_are_not_finite_agree_only_with_themselves(wild: float) -> None:
    saved = checkpoint([1.0, wild], [wild, 5.0], [wild])
    assert _drift(checkpoint([1.0, wild], [wild, 5.0], [wild]), saved) == 0.0
    assert _drift(checkpoint([1.0, wild], [wild, 2.0], [wild]), saved) == 3.0
    assert _drift(checkpoint([1.0, wild], [wild, 5.0], [0.0]), saved) == INF
    finite = checkpoint([1.0, 2.0], [3.0, 5.0], [4.0])
    assert _drift(checkpoint([1.0, 2.0], [wild, 5.0], [4.0]), finite) == INF
    assert _drift(checkpoint([INF], [0.0], [0.0]), checkpoint([-INF], [0.0], [0.0])) == INF


@dataclass(frozen=True, kw_only=True)
class RememberingOptions(EveryOptions):
    sequential: ClassVar[bool] = True

    def measured_by(self) -> type[Remembering]:
        return Remembering


class Remembering(Probe[RememberingOptions]):
    """A probe that measures the mean of all parameters so far."""

    table = EVALUATION

    def prepare(self) -> None:
        self._sum, self._count = 0.0, 0

    def observe(self, update: Update) -> None:
        self._sum += float(self.trainer.vector.value.double().sum())
        self._count += 1

    def measure(self, update: Update) -> list[dict[str, Any]]:
        return [
            {"step": update.step, "epoch": update.epoch, "train_loss": self._sum / self._count, "train_accuracy": 0.0}
        ]

    def finish(self) -> list[dict[str, Any]]:
        last = float(self.trainer.vector.value.double().sum())
        mean = (self._sum + last) / (self._count + 1)
        return [{"step": 12, "epoch": 0.0, "train_loss": mean, "train_accuracy": 0.0}]


def test_a_sequential_probe_sees_every_update_and_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe_settings, "declaration", lambda kind, name: RememberingOptions)
    dataset = prepare_digits(tmp_path, train=100)
    training = training_settings()
    checkpoints = tmp_path / "checkpoints"
    train_run(dataset, trace=tmp_path / "trace.arrow", checkpoints=checkpoints, settings=training, facts={})
    settings = {"training": training, "probe": "remembering", "settings": {"every": 5}, "replay_tolerance": 0.0}
    output = tmp_path / "segment0.arrow"

    def probed() -> dict[str, list[float]]:
        probe_segment(dataset, checkpoints, output=output, settings=settings, segment=0, facts={})
        return read_table(output, "evaluation", columns=["step", "train_loss"]).to_pydict()

    # The naive way: the whole run once more, every iterate kept.
    trainer = Trainer(training, load_images(dataset, device=torch.device("cpu")), device=torch.device("cpu"))
    sums = [float(trainer.vector.value.double().sum()) for _ in trainer.updates(0, 12)]
    sums.append(float(trainer.vector.value.double().sum()))
    expected = [sum(sums[: step + 1]) / (step + 1) for step in (0, 5, 10, 12)]
    found = probed()
    assert found["step"] == [0, 5, 10, 12]
    assert found["train_loss"] == pytest.approx(expected, rel=1e-12)

    # An interrupted job has some rows; what it has seen before them it sees again.
    output.unlink()
    with monkeypatch.context() as killed:
        killed.setattr(Remembering, "finish", _kill)
        with pytest.raises(KeyboardInterrupt):
            probed()
    assert not output.exists()
    assert probed() == found


def _kill(probe: Remembering) -> list[dict[str, Any]]:
    raise KeyboardInterrupt


REMEMBERING_NETWORK = """
import random
import numpy as np
import torch
from torch import nn


class Remembers(nn.Module):
    def __init__(self, pixels, classes):
        super().__init__()
        self.layer = nn.Linear(pixels, classes)
        self.mean, self.late = torch.zeros(classes), None
        self.totals, self.table = np.zeros(classes, dtype=np.float32), {"gain": [1.0, torch.ones(1)]}
        self.passes, self.warm = 0, False
        self.of_torch, self.of_numpy = torch.Generator().manual_seed(1), np.random.default_rng(2)
        self.of_python = random.Random(3)
        self.record = []  # a recorder: nothing depends on it

    def forward(self, images):
        hidden = self.layer(images.flatten(1))
        drawn = float(torch.rand((), generator=self.of_torch)) + self.of_numpy.random() + self.of_python.random()
        scale = 1 + 0.1 * drawn + 0.01 * self.passes + self.table["gain"][0] * 0.1 + getattr(self, "extra", 0) * 0.1
        outputs = (hidden - self.mean) * scale + torch.from_numpy(self.totals) + (0 if self.late is None else self.late)
        outputs = outputs + self.table.get("made", 0) - self.table["gain"][1]
        if self.training:
            average = hidden.detach().mean(0)
            self.mean = 0.9 * self.mean + 0.1 * average
            self.late = average * 0.01 if self.late is None else 0.5 * self.late + 0.01 * average
            self.totals += 0.01 * average.numpy()
            self.passes, self.warm, self.extra = self.passes + 1, True, 0.5 * self.passes
            self.table["gain"][0] *= 0.9
            self.table["gain"][1].mul_(0.9)
            self.table["made"] = 0.01 * self.passes
            self.record.append(average)
        return outputs if self.warm else 2 * outputs


def network(*, input_shape, num_classes):
    return Remembers(input_shape[0] * input_shape[1] * input_shape[2], num_classes)
"""


def test_state_outside_of_buffers_replays_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("remembering.py").write_text(REMEMBERING_NETWORK, encoding="utf-8")
    dataset = prepare_digits(tmp_path, train=100)
    training = training_settings(model={"entry": "remembering.py:network", "kwargs": {}})
    checkpoints = tmp_path / "checkpoints"
    train_run(dataset, trace=tmp_path / "trace.arrow", checkpoints=checkpoints, settings=training, facts={})
    settings = {"training": training, "probe": "evaluation", "settings": {"every": 2}, "replay_tolerance": 0.0}
    for segment in (2, 1):
        output = tmp_path / f"segment{segment}.arrow"
        probe_segment(dataset, checkpoints, output=output, settings=settings, segment=segment, facts={})
    images = load_images(dataset, device=torch.device("cpu"))
    trainer = Trainer(training, images, device=torch.device("cpu"))
    for start, stop in training.segments:
        for going in (trainer, Trainer(training, images, device=torch.device("cpu"))):  # from a later state, and new
            going.load(load_checkpoint(checkpoints, start, device=torch.device("cpu")))
            list(going.updates(start, stop))
            found, saved = going.checkpoint(stop), load_checkpoint(checkpoints, stop, device=torch.device("cpu"))
            assert found.attributes.keys() == saved.attributes.keys()
            assert torch.equal(found.parameters, saved.parameters)
            assert _drift(found, saved) == 0.0
    names = {"mean", "late", "totals:array", "passes:number", "warm:number", "extra:number", "table.made:number"}
    names |= {"table.gain.0:number", "table.gain.1", *(f"of_{kind}:generator" for kind in ("torch", "numpy", "python"))}
    assert saved.attributes.keys() == names


@pytest.mark.parametrize(("missing", "segment"), [(0, 0), (4, 0), (4, 1), (8, 1), (12, 2)])
def test_a_checkpoint_that_is_gone_is_no_divergence(tmp_path: Path, missing: int, segment: int) -> None:
    dataset = prepare_digits(tmp_path, train=100)
    training = training_settings()
    checkpoints = tmp_path / "checkpoints"
    train_run(dataset, trace=tmp_path / "trace.arrow", checkpoints=checkpoints, settings=training, facts={})
    checkpoint_path(checkpoints, missing).unlink()
    settings = {"training": training, "probe": "evaluation", "settings": {"every": 2}, "replay_tolerance": 0.0}
    output = tmp_path / "segment.arrow"
    with pytest.raises(SgdlineError, match=f"got none of update {missing}. Delete the folder and start snakemake"):
        probe_segment(dataset, checkpoints, output=output, settings=settings, segment=segment, facts={})
    assert not output.exists()
