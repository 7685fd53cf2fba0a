"""Probes of drawn batches: which ones they are, what is left of the run, and what cannot be measured."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from declared import made_probe
from networks import OwnNormalisation, Uncopyable
from small_runs import prepare_digits, probe_segment, training_settings
from torch import Tensor, nn

from sgdline.config import ConfigError, resolve_config
from sgdline.data.images import load_images
from sgdline.engine.plan import Plan
from sgdline.errors import SgdlineError
from sgdline.models.parameters import ParameterVector, buffers_of
from sgdline.probes.drawn_batches import BatchLosses, DrawnBatches
from sgdline.probes.fixed_batches.probe import FixedBatchesProbe
from sgdline.probes.one_step.probe import OneStepProbe
from sgdline.tables import provenance, read_table
from sgdline.train.loop import Trainer, Update
from sgdline.train.run import train_run
from sgdline.train.settings import ModelOptions, TrainingSettings

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
ONE_STEP: dict[str, Any] = {"every": 3, "batches": 2, "other_batches": 2, "step_sizes": 9, "lowest": 1e-2}
ONE_STEP |= {"highest": 1e2, "quadratic_points": 5, "validation": True}
FIXED: dict[str, Any] = {"every": 3, "first": 2, "batches": 2, "alphas": 3}
BLOCKS = {"one_step": ONE_STEP, "fixed_batches": FIXED}
PROBES: dict[str, Any] = {"one_step": OneStepProbe, "fixed_batches": FixedBatchesProbe}
MODELS: dict[str, dict[str, Any]] = {
    "mlp": {"entry": "sgdline.models:mlp", "kwargs": {"hidden": [6]}},
    "mlp_dropout": {"entry": "sgdline.models:mlp", "kwargs": {"hidden": [6], "dropout": 0.3}},
    "resnet": {"entry": "sgdline.models:tiny_resnet", "kwargs": {"width": 2}},
    # Buffers of their own that move with every forward pass in train mode, and that the next one reads.
    "averaging": {"entry": "networks:_Averaging", "kwargs": {}},
    # Measured in place.
    "uncopyable": {"entry": "networks:Uncopyable", "kwargs": {}},
}
STEPS = 8


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare_digits(tmp_path_factory.mktemp("dataset"), train=90)


def settings(model: str = "mlp", **changes: Any) -> TrainingSettings:
    block = {"batch_size": 20, "steps": STEPS, "segments": [[0, STEPS]]}
    return training_settings(model=MODELS[model], **{**block, **changes})


def trainer_of(dataset: Path, training: TrainingSettings) -> tuple[Trainer, Any]:
    images = load_images(dataset, device=CPU)
    return Trainer(training, images, device=CPU), images


def update_at(trainer: Trainer, step: int) -> Update:
    return next(update for update in trainer.updates(0, step + 1) if update.step == step)


def probed(dataset: Path, folder: Path, kind: str, training: TrainingSettings, **changes: Any) -> Any:
    if not (folder / "trace.arrow").exists():
        paths = {"trace": folder / "trace.arrow", "checkpoints": folder / "checkpoints"}
        train_run(dataset, **paths, settings=training, facts={})
    block = {"training": training, "probe": kind, "settings": BLOCKS[kind] | changes, "replay_tolerance": 0.0}
    output = folder / f"{kind}.arrow"
    probe_segment(dataset, folder / "checkpoints", output=output, settings=block, segment=0, facts={})
    return read_table(output, kind)


# -- the batches -------------------------------------------------------------------------------------------------------


def test_batches_are_functions_of_seed_and_number(dataset: Path) -> None:
    images = load_images(dataset, device=CPU)
    training = settings(augmentation={"crop_padding": 1, "flip": True})
    drawn, again = DrawnBatches(images, training), DrawnBatches(images, training)
    again.batch(5)
    batches = [drawn.batch(index) for index in range(4)]
    for index, batch in reversed(list(enumerate(batches))):
        other = again.batch(index)
        assert torch.equal(batch.rows, other.rows)
        assert torch.equal(batch.inputs, other.inputs)
        assert batch.mask_seed == other.mask_seed
        assert torch.equal(batch.targets, images.train.targets[batch.rows])
        assert not torch.equal(batch.inputs, images.train.inputs[batch.rows])
    # As many as fit share no image.
    rows = torch.cat([batch.rows for batch in batches])
    assert len(rows.unique()) == 80
    assert len({batch.mask_seed for batch in batches}) == 4
    moved = DrawnBatches(images, settings(seed=6, augmentation=asdict(training.augmentation)))
    assert not torch.equal(moved.batch(0).rows, batches[0].rows)
    plain = DrawnBatches(images, settings()).batch(0)
    assert torch.equal(plain.inputs, images.train.inputs[plain.rows])


def test_others_share_no_image(dataset: Path) -> None:
    images = load_images(dataset, device=CPU)
    drawn = DrawnBatches(images, settings())
    seen = []
    for index in range(3):
        others = drawn.others(index, count=3)
        rows = torch.cat([drawn.batch(index).rows, *(other.rows for other in others)])
        assert len(rows) == len(rows.unique()) == 80
        assert all(torch.equal(other.inputs, images.train.inputs[other.rows]) for other in others)
        assert torch.equal(drawn.others(index, count=2)[1].rows, others[1].rows)
        seen.append(others[0].rows)
    assert not torch.equal(seen[0], seen[1])


@pytest.mark.parametrize(
    ("model", "together"),
    [("mlp", True), ("resnet", True), ("mlp_dropout", False), ("averaging", False), ("uncopyable", False)],
)
def test_chunks_share_a_pass_where_that_changes_nothing(dataset: Path, model: str, together: bool) -> None:
    training = settings(model)
    trainer, images = trainer_of(dataset, training)
    plan = BatchLosses(trainer, images, training, validation=True).engine.network.plan
    assert plan.chunks_per_pass == (8 if together else 1)
    assert plan.in_place == (model == "uncopyable")


def test_statistics_that_nobody_knows_of_keep_chunks_apart(dataset: Path) -> None:
    training = settings()
    trainer, images = trainer_of(dataset, training)
    trainer.model = OwnNormalisation()
    engine = BatchLosses(trainer, images, training, validation=False).engine
    assert engine.network.plan.chunks_per_pass == 1


class _Float32Only(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(64, 10)

    def forward(self, images: Tensor) -> Tensor:
        assert self.head.weight.dtype is torch.float32
        return self.head(images.flatten(1))


@pytest.mark.parametrize(("model", "precision"), [(_Float32Only, "float32"), (Uncopyable, "float32")])
def test_networks_without_float64_go_without(dataset: Path, model: type[nn.Module], precision: str) -> None:
    training = settings()
    trainer, images = trainer_of(dataset, training)
    update = update_at(trainer, 0)
    trainer.model = model()
    trainer.vector = ParameterVector(trainer.model)
    probe = made_probe("one_step", trainer, images, training, ONE_STEP, Plan())
    assert probe.facts()["own_precision"] == precision
    for row in probe.measure(update):
        assert row["status"] == "ok"
        assert row["own_loss"].min() < row["own_loss"][0]


# -- the run -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", sorted(PROBES))
@pytest.mark.parametrize("model", sorted(MODELS))
def test_measuring_leaves_the_run_bit_for_bit(dataset: Path, kind: str, model: str) -> None:
    training = settings(model, augmentation={"crop_padding": 1, "flip": True})
    trainer, images = trainer_of(dataset, training)
    probe = made_probe(kind, trainer, images, training, BLOCKS[kind], Plan())
    updates = trainer.updates(0, STEPS)
    for _ in range(4):
        update = next(updates)
        probe.observe(update)
    kept = replace(update, gradient=update.gradient.clone(), direction=update.direction.clone())

    def state() -> list[Tensor]:
        modes = torch.tensor([module.training for module in trainer.model.modules()])
        pieces = [trainer.vector.value, torch.get_rng_state(), modes, update.gradient, update.direction]
        return [piece.clone() for piece in (*pieces, *buffers_of(trainer.model).values())]

    before = state()
    first = probe.measure(update)
    assert all(torch.equal(old, new) for old, new in zip(before, state(), strict=True))
    assert torch.equal(update.direction, kept.direction)
    for row, again in zip(first, probe.measure(update), strict=True):
        for column, value in row.items():
            np.testing.assert_array_equal(value, again[column], err_msg=column)
    following = next(updates)
    alone, _ = trainer_of(dataset, training)
    unmeasured = update_at(alone, 4)
    assert torch.equal(following.direction, unmeasured.direction)
    assert following.batch_loss == unmeasured.batch_loss


@pytest.mark.parametrize("kind", sorted(PROBES))
def test_an_interrupted_job_ends_with_the_same_table(
    dataset: Path, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = settings("mlp_dropout")
    whole = probed(dataset, tmp_path, kind, training)
    due = {"one_step": [0, 3, 6, 8], "fixed_batches": [0, 1, 3, 6, 8]}[kind]
    assert whole["step"].to_pylist() == [step for step in due for _ in range(2)]
    assert whole["batch"].to_pylist() == [0, 1] * len(due)
    expected = (tmp_path / f"{kind}.arrow").read_bytes()
    facts = provenance(whole)
    assert (facts["samples"], facts["batch_norm"], facts["replay_drift"]) == (90, "train", 0.0)
    measure = PROBES[kind].measure
    for last in due[1:]:
        (tmp_path / f"{kind}.arrow").unlink()

        def killed(probe: Any, update: Update, last: int = last) -> Any:
            if update.step == last:
                raise KeyboardInterrupt
            return measure(probe, update)

        def at_end(probe: Any) -> Any:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(PROBES[kind], "measure", killed)
            patch.setattr(PROBES[kind], "finish", at_end)
            with pytest.raises(KeyboardInterrupt):
                probed(dataset, tmp_path, kind, training)
        probed(dataset, tmp_path, kind, training)
        assert (tmp_path / f"{kind}.arrow").read_bytes() == expected


@pytest.mark.parametrize("kind", sorted(PROBES))
def test_a_run_that_diverges_has_its_rows(dataset: Path, tmp_path: Path, kind: str) -> None:
    training = settings(lr=1e30, momentum=0.0)
    training = replace(
        training, model=ModelOptions(entry="sgdline.models:mlp", kwargs={"hidden": [6], "batch_norm": False})
    )
    table = probed(dataset, tmp_path, kind, training, every=1)
    lost = provenance(read_table(tmp_path / "trace.arrow", "trace"))["diverged_at"]
    assert 0 < lost < 4
    assert sorted(set(table["step"].to_pylist())) == list(range(lost))
    if kind == "one_step":
        first = table.to_pylist()[0]
        # At a rate of 1e30 no step size of the grid lowers the loss; where they end is no number, and stays there.
        assert first["status"] == "flat"
        assert first["quadratic_own_loss"] is None
        assert math.isfinite(first["own_loss"][0])
        assert not np.isfinite(first["other_loss"][-1])


@pytest.mark.parametrize("kind", sorted(PROBES))
@pytest.mark.parametrize("wild", [math.nan, math.inf])
def test_parameters_that_are_not_finite_give_rows_that_say_so(dataset: Path, kind: str, wild: float) -> None:
    training = settings()
    trainer, images = trainer_of(dataset, training)
    update = update_at(trainer, 0)
    probe = made_probe(kind, trainer, images, training, BLOCKS[kind], Plan())
    probe.observe(update)
    trainer.vector.value[-3] = wild
    probe.observe(replace(update, step=3))
    rows = probe.measure(replace(update, step=3))
    assert [row["status"] for row in rows] == ["non_finite"] * 2
    assert not any(math.isfinite(row["train_loss"]) for row in rows)
    assert not any("quadratic_own_loss" in row for row in rows)
    assert all(row.get("convexity_gap") is None for row in rows)


def test_the_grid_lies_around_the_runs_rate_where_that_is_zero(dataset: Path) -> None:
    schedule = {"name": "trapezoid", "warmup": 4}
    training = settings(schedule=schedule, lr=0.5)
    trainer, images = trainer_of(dataset, training)
    probe = made_probe("one_step", trainer, images, training, ONE_STEP, Plan())
    for update in trainer.updates(0, STEPS):
        probe.observe(update)
        rows = probe.measure(update)
        around = update.lr or 0.5
        assert rows[0]["lr"] == update.lr
        np.testing.assert_allclose(rows[0]["step_sizes"], [0.0, *(around * np.logspace(-2, 2, 9))], rtol=1e-12)
        if update.step == 1:
            break
    assert probe._last_lr > 0


def test_without_validation_images_there_is_no_validation_loss(dataset: Path) -> None:
    training = settings()
    trainer, images = trainer_of(dataset, training)
    update = update_at(trainer, 0)
    kind = type(images.validation)
    bare = replace(images, validation=kind(images.validation.inputs[:0], images.validation.targets[:0]))
    for data, block in ((bare, ONE_STEP), (images, ONE_STEP | {"validation": False})):
        [row, _] = made_probe("one_step", trainer, data, training, block, Plan()).measure(update)
        assert "validation_loss" not in row


def test_batches_that_do_not_fit_are_refused(dataset: Path) -> None:
    training = settings()
    trainer, images = trainer_of(dataset, training)
    with pytest.raises(SgdlineError, match=r"must leave 5 batches of 20 within the 90 training images, got 4\. Lower"):
        made_probe("one_step", trainer, images, training, ONE_STEP | {"other_batches": 4}, Plan())
    made_probe("one_step", trainer, images, training, ONE_STEP | {"other_batches": 3}, Plan())


# -- configuration -----------------------------------------------------------------------------------------------------


def faults_of(block: dict[str, Any]) -> tuple[str, ...]:
    config = yaml.safe_load((ROOT / "config/config.yaml").read_text(encoding="utf-8"))
    experiment = config["experiments"]["walk_covariance"] | {"dataset": "digits", "batch_size": [64]}
    experiment |= {"figures": [], "probes": {"one_step": block}}
    config |= {"experiments": {"sweep": experiment}, "comparisons": {}, "run": ["sweep"]}
    try:
        resolve_config(config)
    except ConfigError as error:
        return error.faults
    return ()


def test_faulty_settings_are_one_fault() -> None:
    assert faults_of({}) == ()
    assert faults_of({"other_batches": 15}) == ()
    [fault] = faults_of({"other_batches": 16})
    assert fault == (
        "experiments.sweep.probes.one_step.other_batches must leave 17 batches of 64 within the 1024 training images, "
        "got 16. Lower it, or use smaller batches."
    )
    [fault] = faults_of({"lowest": 2.0, "highest": 1.0})
    assert fault == "experiments.sweep.probes.one_step.lowest must be below highest (1), got 2. Lower it."
