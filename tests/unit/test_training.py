"""Training: torch's own SGD as oracle, schedules, divergence, resumption, checkpoints."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_runs
import torch
from small_runs import prepare_digits, probe_segment, training_settings
from torch import nn

from sgdline.data.batches import BatchOrder
from sgdline.data.images import load_images
from sgdline.errors import SgdlineError
from sgdline.models.loading import build_model
from sgdline.seeds import derive_seed
from sgdline.tables import provenance, read_table, write_table
from sgdline.train import run as training_run
from sgdline.train.checkpoints import Checkpoint, load_checkpoint, save_checkpoint, saved_steps
from sgdline.train.leftovers import forget_training
from sgdline.train.rules.sgd import Sgd
from sgdline.train.run import train_run
from sgdline.train.schedules.constant import Constant
from sgdline.train.schedules.step import StepDecay
from sgdline.train.settings import TrainingSettings

CPU = torch.device("cpu")


STEP = {"name": "step", "milestones": [6], "factor": 0.5}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare_digits(tmp_path_factory.mktemp("dataset"), train=100)


def settings(**changes: Any) -> TrainingSettings:
    return training_settings(**{"schedule": STEP, "augmentation": {"crop_padding": 1, "flip": True}, **changes})


def line_settings(training: TrainingSettings) -> dict[str, Any]:
    return small_runs.line_settings(training, positions="adaptive", tolerance=1e-2, max_rings=2)


def train(dataset: Path, folder: Path, block: TrainingSettings) -> None:
    train_run(dataset, trace=folder / "trace.arrow", checkpoints=folder / "checkpoints", settings=block, facts={})


def test_a_run_is_that_of_torch_optim(dataset: Path, tmp_path: Path) -> None:
    block = settings(augmentation={"crop_padding": 0, "flip": False})
    train(dataset, tmp_path, block)
    images = load_images(dataset, device=CPU)
    network = build_model(
        block.model.entry,
        block.model.kwargs,
        input_shape=images.image_shape,
        num_classes=images.num_classes,
        seed=derive_seed(5, "initialisation"),
    )
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [6], gamma=0.5)
    order = BatchOrder(100, batch_size=32, seed=5, drop_last=False)
    flat = nn.utils.parameters_to_vector
    start = flat(network.parameters()).detach().clone()
    sizes: list[int] = []
    previous: torch.Tensor | None = None
    for row in read_table(tmp_path / "trace.arrow", "trace").to_pylist():
        rows = order.indices(row["step"])
        sizes.append(len(rows))
        assert row["lr"] == pytest.approx(schedule.get_last_lr()[0])
        assert row["distance_from_start"] == pytest.approx(
            float((flat(network.parameters()).detach() - start).norm()), rel=1e-4, abs=1e-6
        )
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(network(images.train.inputs[rows]), images.train.targets[rows])
        loss.backward()
        gradient = torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])
        assert row["batch_loss"] == pytest.approx(loss.item(), rel=1e-4)
        assert row["gradient_norm"] == pytest.approx(float(gradient.norm()), rel=1e-3)
        optimizer.step()
        schedule.step()
        if previous is not None:
            expected = float(nn.functional.cosine_similarity(gradient, previous, dim=0))
            assert row["gradient_cosine"] == pytest.approx(expected, abs=1e-3)
        else:
            assert row["gradient_cosine"] is None
        previous = gradient
    assert sizes[:5] == [32, 32, 32, 4, 32]
    end = load_checkpoint(tmp_path / "checkpoints", 12, device=CPU)
    torch.testing.assert_close(end.parameters, flat(network.parameters()).detach(), rtol=1e-4, atol=1e-5)


def test_step_schedule_handles_several_milestones_at_once() -> None:
    schedule = StepDecay(milestones=(3, 5)).rates(1.0, steps=10)
    assert [schedule(t) for t in (0, 2, 3, 4, 5, 9)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    assert Constant().rates(0.3, steps=10)(10**6) == 0.3


def test_momentum_state_survives_a_checkpoint(tmp_path: Path) -> None:
    declared = Sgd(momentum=0.5)
    rule, parameters, gradient = declared.rule(), torch.zeros(3), torch.tensor([1.0, 2.0, 3.0])
    torch.testing.assert_close(rule.direction(parameters, gradient), gradient)
    save_checkpoint(tmp_path, Checkpoint(step=1, parameters=parameters, rule=rule.state()))
    again = declared.rule()
    again.load(load_checkpoint(tmp_path, 1, device=CPU).rule)
    torch.testing.assert_close(again.direction(parameters, gradient), 1.5 * gradient)


@pytest.mark.parametrize("interrupt_at", [0, 3, 5, 11])
def test_an_interrupted_training_goes_on_to_the_same_bytes(
    dataset: Path, tmp_path: Path, interrupt_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    block = settings()
    train(dataset, tmp_path / "whole", block)
    row, computed = training_run._trace_row, []

    def failing_row(update: Any, *rest: Any) -> dict[str, Any]:
        computed.append(update.step)
        if update.step == interrupt_at and len(computed) <= interrupt_at + 1:
            raise KeyboardInterrupt
        return row(update, *rest)

    monkeypatch.setattr(training_run, "_trace_row", failing_row)
    with pytest.raises(KeyboardInterrupt):
        train(dataset, tmp_path / "cut", block)
    assert not (tmp_path / "cut" / "trace.arrow").exists()
    assert not (tmp_path / "cut" / "checkpoints").exists()
    before = len(computed)
    train(dataset, tmp_path / "cut", block)
    # Whole segments before the interruption are not made again.
    assert computed[before] == interrupt_at // 4 * 4
    for name in ("trace.arrow", "checkpoints/step00000012.safetensors"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    # A kill at the last instant makes Snakemake delete both; nothing is computed again.
    shutil.rmtree(tmp_path / "cut" / "checkpoints")
    (tmp_path / "cut" / "trace.arrow").unlink()
    before = len(computed)
    train(dataset, tmp_path / "cut", block)
    assert len(computed) == before
    assert (tmp_path / "cut" / "trace.arrow").read_bytes() == (tmp_path / "whole" / "trace.arrow").read_bytes()
    forget_training(tmp_path / "cut")
    assert sorted(path.name for path in (tmp_path / "cut").iterdir()) == ["checkpoints", "trace.arrow"]


def test_leftovers_of_other_settings_are_not_used(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = training_run._trace_row

    def failing_row(update: Any, *rest: Any) -> dict[str, Any]:
        if update.step == 9:
            raise KeyboardInterrupt
        return row(update, *rest)

    monkeypatch.setattr(training_run, "_trace_row", failing_row)
    with pytest.raises(KeyboardInterrupt):
        train_run(
            dataset,
            trace=tmp_path / "a" / "trace.arrow",
            checkpoints=tmp_path / "a" / "checkpoints",
            settings=settings(lr=0.3),
            facts={"slice": "other"},
        )
    monkeypatch.undo()
    train(dataset, tmp_path / "a", settings())
    train(dataset, tmp_path / "b", settings())
    assert (tmp_path / "a" / "trace.arrow").read_bytes() == (tmp_path / "b" / "trace.arrow").read_bytes()


def test_a_diverging_run_is_a_result(dataset: Path, tmp_path: Path) -> None:
    block = settings(lr=1e30, model={"entry": "sgdline.models:mlp", "kwargs": {"hidden": [16], "batch_norm": False}})
    train(dataset, tmp_path, block)
    trace = read_table(tmp_path / "trace.arrow", "trace")
    diverged_at = provenance(trace)["diverged_at"]
    assert 0 < diverged_at < 4
    assert trace["step"].to_pylist() == list(range(diverged_at + 1))
    assert trace["status"].to_pylist() == ["ok"] * diverged_at + ["non_finite"]
    assert saved_steps(tmp_path / "checkpoints") == [0]
    rows = []
    for segment in range(3):
        path = tmp_path / f"segment{segment}.arrow"
        probe_segment(
            dataset, tmp_path / "checkpoints", output=path, settings=line_settings(block), segment=segment, facts={}
        )
        rows.append(read_table(path, "line"))
    assert rows[0]["step"].to_pylist() == list(range(0, diverged_at, 2))
    assert [table.num_rows for table in rows[1:]] == [0, 0]
    assert np.isfinite(rows[0]["train_loss"].to_pylist()[0]).any()


def test_a_drifting_replay_is_refused(dataset: Path, tmp_path: Path) -> None:
    block = settings()
    train(dataset, tmp_path, block)
    end = load_checkpoint(tmp_path / "checkpoints", 4, device=CPU)
    end.parameters[7] += 1e-3
    save_checkpoint(tmp_path / "checkpoints", end)
    probe = {
        "checkpoints": tmp_path / "checkpoints",
        "output": tmp_path / "line.arrow",
        "segment": 0,
        "facts": {},
    }
    with pytest.raises(SgdlineError, match=r"replay_tolerance = 0 .*got 0\.001"):
        probe_segment(dataset, settings=line_settings(block), **probe)
    assert list(tmp_path.glob("line.arrow*")) == [], "rows of a drifting replay must not be taken up"
    probe_segment(dataset, settings=line_settings(block) | {"replay_tolerance": 2e-3}, **probe)
    assert provenance(read_table(tmp_path / "line.arrow", "line"))["replay_drift"] == pytest.approx(1e-3, rel=1e-2)


def test_an_interrupted_probe_keeps_its_rows(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sgdline.probes.line.probe import LineProbe

    block = settings()
    train(dataset, tmp_path, block)
    measure, measured = LineProbe.measure, []

    def failing_measure(probe: LineProbe, update: Any) -> dict[str, Any]:
        measured.append(update.step)
        if len(measured) == 2:
            raise KeyboardInterrupt
        return measure(probe, update)

    monkeypatch.setattr(LineProbe, "measure", failing_measure)
    probe = {"settings": line_settings(block), "segment": 1, "facts": {}}
    with pytest.raises(KeyboardInterrupt):
        probe_segment(dataset, tmp_path / "checkpoints", output=tmp_path / "cut.arrow", **probe)
    probe_segment(dataset, tmp_path / "checkpoints", output=tmp_path / "cut.arrow", **probe)
    assert measured == [4, 6, 6]
    probe_segment(dataset, tmp_path / "checkpoints", output=tmp_path / "whole.arrow", **probe)
    assert (tmp_path / "cut.arrow").read_bytes() == (tmp_path / "whole.arrow").read_bytes()


def test_rows_of_an_interrupted_probe_belong_to_their_data_and_start(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sgdline.probes.line.probe import LineProbe

    block = settings()
    train(dataset, tmp_path, block)
    measure, measured = LineProbe.measure, []

    def failing_measure(probe: LineProbe, update: Any) -> dict[str, Any]:
        measured.append(update.step)
        if len(measured) % 2 == 0:
            raise KeyboardInterrupt
        return measure(probe, update)

    monkeypatch.setattr(LineProbe, "measure", failing_measure)
    probe = {"output": tmp_path / "line.arrow", "settings": line_settings(block), "segment": 0, "facts": {}}
    with pytest.raises(KeyboardInterrupt):
        probe_segment(dataset, tmp_path / "checkpoints", **probe)
    other = tmp_path / "other.arrow"
    table = read_table(dataset, "dataset")
    write_table(other, "dataset", table, provenance={**provenance(table), "mean": [0.1]})
    with pytest.raises(KeyboardInterrupt):
        probe_segment(other, tmp_path / "checkpoints", **probe)
    start = load_checkpoint(tmp_path / "checkpoints", 0, device=CPU)
    start.parameters[3] += 1e-3
    save_checkpoint(tmp_path / "checkpoints", start)
    with pytest.raises(KeyboardInterrupt):
        probe_segment(other, tmp_path / "checkpoints", **probe)
    assert measured == [0, 2] * 3


@pytest.mark.parametrize("changes", [{"batch_size": 1}, {"batch_size": 33, "drop_last": False}])
def test_a_batch_of_one_sample_is_refused_with_batch_norm(
    dataset: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    with pytest.raises(SgdlineError, match=r"at least two samples for BatchNorm, got a batch of 1 \(100 images"):
        train(dataset, tmp_path, settings(**changes))
    plain = {"entry": "sgdline.models:mlp", "kwargs": {"hidden": [4], "batch_norm": False}}
    train(dataset, tmp_path, settings(**changes, model=plain))
    assert read_table(tmp_path / "trace.arrow", "trace").num_rows == 12


def test_checkpoint_errors_say_what_to_do(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(SgdlineError, match=r"step00000003\.safetensors must exist"):
        load_checkpoint(tmp_path, 3, device=CPU)
    train(dataset, tmp_path, settings())
    path = tmp_path / "checkpoints" / "step00000004.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(SgdlineError, match=r"whole safetensors file.*trains the run again"):
        load_checkpoint(tmp_path / "checkpoints", 4, device=CPU)
    shutil.rmtree(tmp_path / "checkpoints")


def test_a_checkpoint_of_another_model_is_refused(dataset: Path, tmp_path: Path) -> None:
    train(dataset, tmp_path, settings())
    other = settings(model={"entry": "sgdline.models:mlp", "kwargs": {"hidden": [8]}})
    with pytest.raises(SgdlineError, match="same model"):
        probe_segment(
            dataset,
            tmp_path / "checkpoints",
            output=tmp_path / "line.arrow",
            settings=line_settings(other),
            segment=0,
            facts={},
        )
