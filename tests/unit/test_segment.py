"""Replays of segments: the comparison with the next checkpoint, and probes that follow a whole run."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from small_runs import prepare_digits, training_settings

from sgdline.data.images import load_images
from sgdline.errors import SgdlineError
from sgdline.probes.segment import _drift, probe_segment
from sgdline.tables import read_table
from sgdline.tables.kinds.evaluation import EVALUATION
from sgdline.train.checkpoints import Checkpoint, checkpoint_path
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


class Remembering:
    """A probe that measures the mean of all parameters so far."""

    def __init__(self, trainer: Trainer, *_: Any) -> None:
        self._trainer = trainer
        self._sum, self._count = 0.0, 0

    def facts(self) -> dict[str, Any]:
        return {}

    def due(self, step: int) -> bool:
        return step % 5 == 0

    def observe(self, update: Update) -> None:
        self._sum += float(self._trainer.vector.value.double().sum())
        self._count += 1

    def measure(self, update: Update) -> list[dict[str, Any]]:
        return [
            {"step": update.step, "epoch": update.epoch, "train_loss": self._sum / self._count, "train_accuracy": 0.0}
        ]

    def finish(self) -> list[dict[str, Any]]:
        last = float(self._trainer.vector.value.double().sum())
        mean = (self._sum + last) / (self._count + 1)
        return [{"step": 12, "epoch": 0.0, "train_loss": mean, "train_accuracy": 0.0}]


def test_a_sequential_probe_sees_every_update_and_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("sgdline.probes.remembering")
    vars(module).update({"TABLE": EVALUATION, "SEQUENTIAL": True, "Probe": Remembering})
    monkeypatch.setitem(sys.modules, module.__name__, module)
    dataset = prepare_digits(tmp_path, train=100)
    training = training_settings()
    checkpoints = tmp_path / "checkpoints"
    train_run(dataset, trace=tmp_path / "trace.arrow", checkpoints=checkpoints, settings=training, facts={})
    settings = {"training": training, "probe": "remembering", "settings": {}, "replay_tolerance": 0.0}
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
