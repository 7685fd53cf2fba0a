"""Probes of one position, mline and own_direction: they agree with the line probe and leave no trace in the run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from declared import made_probe
from small_runs import RESNET, line_settings, prepare_digits, probe_segment, training_settings
from torch import Tensor

from sgdline.data.images import load_images
from sgdline.engine.plan import Plan, PlanReport, write_plan
from sgdline.errors import SgdlineError
from sgdline.models.parameters import buffers_of
from sgdline.probes.gather import gather_segments
from sgdline.probes.mline import probe as mline
from sgdline.probes.own_direction import probe as own_direction
from sgdline.tables import provenance, read_table
from sgdline.train.batch import Batch
from sgdline.train.loop import Trainer, Update
from sgdline.train.rules.base import UpdateRule
from sgdline.train.rules.fbpal_sgd import FbpalSgd
from sgdline.train.rules.pal import Pal
from sgdline.train.run import train_run
from sgdline.train.settings import ModelOptions, TrainingSettings
from sgdline.train.vectors import inner, norm

CPU = torch.device("cpu")
MODELS: dict[str, dict[str, Any]] = {
    "mlp_dropout": {"entry": "sgdline.models:mlp", "kwargs": {"hidden": [12], "dropout": 0.3}},
    "resnet": RESNET,
    # Buffers of their own that move with every forward pass in train mode, and that the next one reads.
    "spectral": {"entry": "networks:_spectral", "kwargs": {}},
    "averaging": {"entry": "networks:_Averaging", "kwargs": {}},
}
AUGMENTATION = {"crop_padding": 1, "flip": True}
LINE = {"positions": "grid", "interval": 0.3, "resolution": 0.1, "tolerance": 1e-3, "max_rings": 1}
MLINE: dict[str, Any] = {"every": 3, "directions": "all", "line": LINE | {"batch_norm": "train", "augment": False}}
OWN = {"every": 3, "batch_sizes": [4, 16, 90], "draws": 3}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """90 training images in batches of 32: an epoch has batches of 32, 32 and 26."""
    return prepare_digits(tmp_path_factory.mktemp("dataset"), train=90)


def settings(model: str = "resnet", *, segments: int = 1, **changes: Any) -> TrainingSettings:
    edges = [9 * part // segments for part in range(segments + 1)]
    block = {"steps": 9, "segments": [list(part) for part in pairwise(edges)], "augmentation": AUGMENTATION, "seed": 3}
    return training_settings(**{"model": MODELS[model], **block, **changes})


def slice_of(probe: str, training: TrainingSettings, **changes: Any) -> dict[str, Any]:
    if probe == "line":
        return line_settings(training, **{**MLINE["line"], "every": 3, "validation": False, **changes})
    if probe == "mline":
        own = {key: changes.pop(key) for key in ("every", "directions") if key in changes}
        block = {**MLINE, **own, "line": MLINE["line"] | changes}
    else:
        block = {**OWN, **changes}
    return {"training": training, "probe": probe, "settings": block, "replay_tolerance": 0.0}


def train(dataset: Path, folder: Path, training: TrainingSettings) -> None:
    train_run(dataset, trace=folder / "trace.arrow", checkpoints=folder / "checkpoints", settings=training, facts={})


def probe(
    dataset: Path, folder: Path, kind: str, training: TrainingSettings, plan: Plan | None = None, **changes: Any
) -> pa.Table:
    """Measure all segments of a trained run and gather them; the replays must not drift at all."""
    if plan is not None:
        write_plan(folder / "plan.json", PlanReport(plan))
    parts = []
    for segment in range(len(training.segments)):
        parts.append(folder / f"{kind}{segment}.arrow")
        probe_segment(
            dataset,
            folder / "checkpoints",
            plan=None if plan is None else folder / "plan.json",
            output=parts[-1],
            settings=slice_of(kind, training, **changes),
            segment=segment,
            facts={},
        )
    gather_segments(parts, output=folder / f"{kind}.arrow", kind=kind)
    table = read_table(folder / f"{kind}.arrow", kind)
    assert provenance(table)["replay_drift"] == 0.0
    return table


def trainer_of(dataset: Path, training: TrainingSettings) -> tuple[Trainer, Any]:
    images = load_images(dataset, device=CPU)
    return Trainer(training, images, device=CPU), images


def update_at(trainer: Trainer, step: int) -> Update:
    for update in trainer.updates(0, step + 1):
        found = update
    return found


# -- mline -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("positions", ["grid", "adaptive"])
@pytest.mark.parametrize(
    ("model", "plan"),
    [
        ("mlp_dropout", None),
        ("spectral", None),
        ("resnet", None),
        ("resnet", Plan(reseed=False, chunks_per_pass=3)),
        ("resnet", Plan(reseed=False, positions_per_pass=4, statistics="view")),
    ],
    ids=["dropout", "spectral", "plain", "together", "positions"],
)
@pytest.mark.slow
def test_the_line_of_the_update_s_own_batch_is_that_of_the_line_probe(
    dataset: Path, tmp_path: Path, model: str, plan: Plan | None, positions: str
) -> None:
    training = settings(model)
    train(dataset, tmp_path, training)
    # Every second update: the batches of the epochs in turn, the smaller last one among them.
    shared = {"every": 2, "positions": positions}
    lines = probe(dataset, tmp_path, "line", training, plan, **shared).to_pylist()
    many = probe(dataset, tmp_path, "mline", training, plan, **shared).to_pylist()
    assert [(row["step"], row["direction"]) for row in many] == [
        (step, batch) for step in (0, 2, 4, 6, 8) for batch in range(3)
    ]
    own = {row["step"]: row for row in many if row["direction"] == row["step"] % 3}
    assert len(own) == len(lines) == 5
    for expected in lines:
        found = own[expected["step"]]
        for column, value in expected.items():
            if plan is not None and column == "direction_batch_loss":
                # At 0 the batch goes alone where the full-batch loss is known already.
                np.testing.assert_allclose(found[column], value, rtol=1e-6)
            else:
                assert found[column] == value, column
    for step in (0, 2, 4, 6, 8):
        here = [row for row in many if row["step"] == step]
        # One position: the full-batch loss at 0 is the same; directions are not.
        assert len({row["train_loss"][row["positions"].index(0.0)] for row in here}) == 1
        assert len({row["direction_norm"] for row in here}) == 3
        assert len({(row["lr"], row["epoch"]) for row in here}) == 1


def test_the_first_batches_of_an_epoch_or_all_of_them(dataset: Path, tmp_path: Path) -> None:
    training = settings()
    train(dataset, tmp_path, training)
    whole = probe(dataset, tmp_path, "mline", training)
    assert provenance(whole)["directions"] == 3
    assert (whole["validation_loss"].null_count, whole["sample_loss"].null_count) == (whole.num_rows, whole.num_rows)
    more = probe(dataset, tmp_path, "mline", training, directions=99).replace_schema_metadata(None)
    assert more.equals(whole.replace_schema_metadata(None))
    two = probe(dataset, tmp_path, "mline", training, directions=2)
    kept = whole.filter(pa.array(np.isin(whole["direction"].to_numpy(), [0, 1])))
    assert two.replace_schema_metadata(None).equals(kept.replace_schema_metadata(None))
    training = replace(training, drop_last=True)
    train(dataset, tmp_path / "whole_batches", training)
    assert set(probe(dataset, tmp_path / "whole_batches", "mline", training)["direction"].to_pylist()) == {0, 1}


@pytest.mark.parametrize(("kind", "wrong"), [("loss", float("nan")), ("inf", float("inf")), ("some", float("nan"))])
def test_a_batch_without_a_finite_gradient_gives_a_line_without_losses(
    dataset: Path, monkeypatch: pytest.MonkeyPatch, kind: str, wrong: float
) -> None:
    training = settings(momentum=0.0, weight_decay=0.0)
    trainer, images = trainer_of(dataset, training)
    measuring = made_probe("mline", trainer, images, training, MLINE, Plan())
    update = update_at(trainer, 4)  # batch 1 of its epoch
    before = measuring.measure(update)
    genuine = mline.batch_gradient

    def spoilt(run: Trainer, batch: Batch) -> tuple[float, Tensor]:
        loss, gradient = genuine(run, batch)
        if len(batch.targets) == 26:
            return loss, gradient
        gradient[: 1 if kind == "some" else None] = wrong
        return wrong if kind == "loss" else loss, gradient

    monkeypatch.setattr(mline, "batch_gradient", spoilt)
    rows = measuring.measure(update)
    assert [row["status"] for row in rows] == ["non_finite", before[1]["status"], before[2]["status"]]
    assert not np.isfinite(rows[0]["direction_norm"])
    positions = rows[0]["positions"]
    assert not np.isfinite(rows[0]["train_loss"][positions != 0.0]).any()
    assert np.isnan(rows[0]["direction_batch_slope"])
    # What the spoilt line found at 0 is not handed on.
    for index in (1, 2):
        np.testing.assert_array_equal(rows[index]["train_loss"], before[index]["train_loss"])


def test_a_batch_without_a_gradient_has_no_direction(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = settings(momentum=0.0, weight_decay=0.0)
    trainer, images = trainer_of(dataset, training)
    measuring = made_probe("mline", trainer, images, training, MLINE, Plan())
    update = update_at(trainer, 0)
    monkeypatch.setattr(mline, "batch_gradient", lambda run, batch: (0.0, torch.zeros_like(run.vector.value)))
    rows = measuring.measure(update)
    assert [row["status"] == "zero_direction" for row in rows] == [False, True, True]
    assert [row["step_length"] for row in rows[1:]] == [0.0, 0.0]
    assert len(set(rows[1]["train_loss"].tolist())) == 1


# -- own_direction -----------------------------------------------------------------------------------------------------


def test_batches_depend_on_update_size_and_draw_alone(dataset: Path, tmp_path: Path) -> None:
    training = settings("mlp_dropout")
    train(dataset, tmp_path, training)
    few = probe(dataset, tmp_path, "own_direction", training)
    assert [(row["step"], row["batch_size"], row["draw"]) for row in few.to_pylist()] == [
        (step, size, draw) for step in (0, 3, 6) for size in (4, 16, 90) for draw in range(3)
    ]
    facts = provenance(few)
    assert (facts["batch_norm"], facts["samples"], facts["chunk_sizes"]) == ("train", 90, [32, 32, 26])
    known = {(row["step"], row["batch_size"], row["draw"]): row for row in few.to_pylist()}
    other = probe(dataset, tmp_path, "own_direction", training, every=6, batch_sizes=[90, 8, 4], draws=5)
    shared = [row for row in other.to_pylist() if row["batch_size"] != 8 and row["draw"] < 3]
    assert len(shared) == 2 * 2 * 3
    for row in shared:
        assert row == known[row["step"], row["batch_size"], row["draw"]]
    # Different draws are different batches.
    assert len({row["gradient_norm"] for row in other.to_pylist()}) == other.num_rows


def test_fresh_batches_are_drawn_without_replacement_and_augmented(dataset: Path) -> None:
    training = settings()
    trainer, images = trainer_of(dataset, training)
    measuring = made_probe("own_direction", trainer, images, training, OWN, Plan())
    batches = {draw: measuring._fresh_batch(3, 16, draw) for draw in range(50)}
    for batch in batches.values():
        assert len(batch.inputs) == len(batch.targets) == len(set(batch.rows.tolist())) == 16
        assert torch.equal(batch.targets, images.train.targets[batch.rows])
    counts = np.bincount(torch.cat([batch.rows for batch in batches.values()]).numpy(), minlength=90)
    # 50 draws of 16 of 90: 8.9 on average, standard deviation 2.7.
    assert counts.min() >= 1
    assert counts.max() <= 20
    assert len({batch.mask_seed for batch in batches.values()}) == 50
    plain = images.train.inputs[batches[0].rows]
    same = [torch.equal(one, other) for one, other in zip(batches[0].inputs, plain, strict=True)]
    assert not all(same)
    unaugmented = settings(augmentation={"crop_padding": 0, "flip": False})
    measuring = made_probe("own_direction", trainer, images, unaugmented, OWN, Plan())
    assert torch.equal(measuring._fresh_batch(3, 16, 0).inputs, plain)


def test_a_batch_of_the_whole_set_has_the_full_gradient(dataset: Path) -> None:
    # Without BatchNorm and augmentation it does not matter which samples share a pass.
    model = ModelOptions(entry="sgdline.models:mlp", kwargs={"hidden": [12], "batch_norm": False})
    training = replace(settings(augmentation={"crop_padding": 0, "flip": False}), model=model)
    trainer, images = trainer_of(dataset, training)
    measuring = made_probe("own_direction", trainer, images, training, OWN, Plan())
    rows = measuring.measure(update_at(trainer, 3))
    for row in rows:
        assert abs(row["cosine"]) <= 1 + 1e-12
        if row["batch_size"] == 90:
            assert row["gradient_norm"] == pytest.approx(row["full_gradient_norm"], rel=1e-5)
            assert row["cosine"] == pytest.approx(1.0, abs=1e-6)
    assert len({row["full_gradient_norm"] for row in rows}) == 1


def test_gradients_that_are_not_finite_or_vanish_have_no_cosine(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = settings()
    trainer, images = trainer_of(dataset, training)
    measuring = made_probe(
        "own_direction", trainer, images, training, {**OWN, "batch_sizes": [4, 16], "draws": 1}, Plan()
    )
    update = update_at(trainer, 0)
    values = iter([float("nan"), 0.0])
    monkeypatch.setattr(
        own_direction, "batch_gradient", lambda run, batch: (0.0, torch.full_like(run.vector.value, next(values)))
    )
    spoilt, zero = measuring.measure(update)
    assert (spoilt["status"], spoilt["cosine"], np.isnan(spoilt["gradient_norm"])) == ("non_finite", None, True)
    assert (zero["status"], zero["cosine"], zero["gradient_norm"]) == ("ok", None, 0.0)
    assert spoilt["full_gradient_norm"] > 0
    trainer.vector.value[0] = float("nan")
    values = iter([1.0, 1.0])
    for row in measuring.measure(update):
        assert (row["status"], row["cosine"], np.isnan(row["full_gradient_norm"])) == ("non_finite", None, True)


def test_sizes_that_the_training_set_does_not_allow_are_told(dataset: Path) -> None:
    training = settings()
    trainer, images = trainer_of(dataset, training)
    automatic = made_probe(
        "own_direction", trainer, images, training, {**OWN, "batch_sizes": "auto", "draws": 1}, Plan()
    )
    update = next(iter(trainer.updates(0, 1)))
    assert [row["batch_size"] for row in automatic.measure(update)] == [8, 16, 32, 64]
    with pytest.raises(SgdlineError, match=r"batch_sizes must be at most the 90 training images, got 91\. Remove it"):
        made_probe("own_direction", trainer, images, training, {**OWN, "batch_sizes": [91, 4]}, Plan())
    single = settings(batch_size=89, drop_last=True)
    trainer, images = trainer_of(dataset, single)
    measuring = made_probe("own_direction", trainer, images, single, OWN, Plan())
    with pytest.raises(SgdlineError, match="last chunk of the training set must hold at least two samples"):
        measuring.measure(update_at(trainer, 0))


# -- both --------------------------------------------------------------------------------------------------------------

PROBES: dict[str, Callable[..., Any]] = {
    "line": lambda *run: made_probe("line", *run, slice_of("line", run[2])["settings"], Plan()),
    "mline": lambda *run: made_probe("mline", *run, MLINE, Plan()),
    "mline_in_place": lambda *run: made_probe("mline", *run, MLINE, Plan(in_place=True)),
    "own_direction": lambda *run: made_probe("own_direction", *run, OWN, Plan()),
}


@pytest.mark.parametrize("kind", sorted(PROBES))
@pytest.mark.parametrize("model", sorted(MODELS))
def test_measuring_leaves_the_run_bit_for_bit(dataset: Path, model: str, kind: str) -> None:
    training = settings(model)
    trainer, images = trainer_of(dataset, training)
    measuring = PROBES[kind](trainer, images, training)
    updates = trainer.updates(0, 9)
    for _ in range(5):
        update = next(updates)
    before, buffers = trainer.checkpoint(4), buffers_of(trainer.model)
    kept = replace(update, gradient=update.gradient.clone(), direction=update.direction.clone())
    modes = [module.training for module in trainer.model.modules()]
    state = torch.get_rng_state()
    first = measuring.measure(update)
    after = trainer.checkpoint(4)
    assert torch.equal(after.parameters, before.parameters)
    assert all(torch.equal(value, buffers[name]) for name, value in buffers_of(trainer.model).items())
    assert all(torch.equal(value, before.rule[name]) for name, value in after.rule.items())
    assert [module.training for module in trainer.model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(update.gradient, kept.gradient)
    assert torch.equal(update.direction, kept.direction)
    # The same again, and the run goes on as one that nobody measured.
    second = measuring.measure(update)
    for one, other in zip(first, second, strict=True):
        for column, value in one.items():
            np.testing.assert_array_equal(value, other[column], err_msg=column)
    following = next(updates)
    alone, _ = trainer_of(dataset, training)
    unmeasured = update_at(alone, 5)
    assert torch.equal(following.direction, unmeasured.direction)
    assert following.batch_loss == unmeasured.batch_loss


@pytest.mark.parametrize("kind", ["mline", "own_direction"])
@pytest.mark.parametrize("model", ["mlp_dropout", "resnet"])
@pytest.mark.slow
def test_any_number_of_segments_gives_the_same_rows(dataset: Path, tmp_path: Path, model: str, kind: str) -> None:
    tables = []
    for segments in (1, 2, 4):
        training = settings(model, segments=segments)
        train(dataset, tmp_path / str(segments), training)
        table = probe(dataset, tmp_path / str(segments), kind, training)
        tables.append(table.replace_schema_metadata(None))
    assert tables[0].num_rows == {"mline": 9, "own_direction": 27}[kind]
    assert tables[1].equals(tables[0])
    assert tables[2].equals(tables[0])


@pytest.mark.parametrize("kind", ["mline", "own_direction"])
def test_an_interrupted_segment_keeps_its_positions(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    training = settings(segments=1)
    train(dataset, tmp_path, training)
    module = {"mline": mline, "own_direction": own_direction}[kind]
    genuine, calls, measured = module.batch_gradient, [], []

    def failing(run: Trainer, batch: Batch) -> tuple[float, Tensor]:
        calls.append(len(batch.targets))
        # In the midst of the second position.
        if len(calls) == {"mline": 4, "own_direction": 9 + 5}[kind]:
            raise KeyboardInterrupt
        return genuine(run, batch)

    owner = {"mline": mline.MlineProbe, "own_direction": own_direction.OwnDirectionProbe}[kind]
    measure = owner.measure

    def noting(own: Any, update: Update) -> list[dict[str, Any]]:
        measured.append(update.step)
        return measure(own, update)

    monkeypatch.setattr(module, "batch_gradient", failing)
    monkeypatch.setattr(owner, "measure", noting)
    options = {"settings": slice_of(kind, training), "segment": 0, "facts": {}}
    with pytest.raises(KeyboardInterrupt):
        probe_segment(dataset, tmp_path / "checkpoints", output=tmp_path / "cut.arrow", **options)
    assert measured == [0, 3]
    probe_segment(dataset, tmp_path / "checkpoints", output=tmp_path / "cut.arrow", **options)
    assert measured == [0, 3, 3, 6]
    probe_segment(dataset, tmp_path / "checkpoints", output=tmp_path / "whole.arrow", **options)
    assert (tmp_path / "cut.arrow").read_bytes() == (tmp_path / "whole.arrow").read_bytes()


@pytest.mark.parametrize("kind", ["mline", "own_direction"])
def test_a_run_that_diverged_before_a_segment_gives_an_empty_table(dataset: Path, tmp_path: Path, kind: str) -> None:
    training = settings(segments=3, lr=1e30, momentum=0.0)
    train(dataset, tmp_path, training)
    for segment, rows in ((0, None), (2, 0)):
        path = tmp_path / f"{segment}.arrow"
        options = {"settings": slice_of(kind, training, every=1), "segment": segment, "facts": {}, "output": path}
        probe_segment(dataset, tmp_path / "checkpoints", **options)
        table = read_table(path, kind)
        if rows is None:
            assert set(table["step"].to_pylist()) >= {0}
        else:
            assert table.num_rows == rows


@pytest.mark.parametrize("optimizer", [Pal(), FbpalSgd(momentum=0.9, every=3, average=2)])
def test_update_rules_that_choose_their_step_have_linear_directions_too(dataset: Path, optimizer: UpdateRule) -> None:
    assert optimizer.linear_in_gradient
    training = replace(settings("mlp_dropout"), optimizer=optimizer)
    trainer, images = trainer_of(dataset, training)
    measuring = made_probe("mline", trainer, images, training, MLINE, Plan())
    for update in trainer.updates(0, 5):
        if update.step == 3:
            kept = replace(update, direction=update.direction.clone())
            rows = measuring.measure(update)
            gradients = [mline.batch_gradient(trainer, trainer.batch(step))[1] for step in (3, 4, 5)]
    # m' = g' + what the rule remembers, which is m - g of the update itself.
    memory = kept.direction.double() - kept.gradient
    assert norm(memory) > 0
    for row, gradient in zip(rows, gradients, strict=True):
        expected = memory + gradient
        assert row["direction_norm"] == pytest.approx(norm(expected), rel=1e-6)
        assert row["direction_batch_slope"] == pytest.approx(-inner(expected, gradient) / norm(expected), rel=1e-5)
        assert row["lr"] == kept.lr
