"""The interpolation probe: which updates, the same losses as the line probe, no trace in the run, divergence."""

from __future__ import annotations

import math
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from declared import made_probe
from small_runs import RESNET, line_settings, prepare_digits, probe_segment, training_settings

from sgdline.analysis.intervals import average_intervals, measure_intervals
from sgdline.data.images import load_images
from sgdline.engine import trial
from sgdline.engine.hessian import cross_entropy
from sgdline.engine.plan import Plan, PlanReport, read_plan, write_plan
from sgdline.errors import SgdlineError
from sgdline.models.parameters import buffers_of
from sgdline.probes import planning
from sgdline.probes.gather import gather_segments
from sgdline.probes.interp import probe as interp
from sgdline.probes.settings import PlanSettings
from sgdline.tables import provenance, read_table
from sgdline.train.loop import Trainer, Update
from sgdline.train.run import train_run
from sgdline.train.settings import TrainingSettings

CPU = torch.device("cpu")
MODELS: dict[str, dict[str, Any]] = {
    "mlp": {"entry": "sgdline.models:mlp", "kwargs": {"hidden": [12]}},
    "mlp_dropout": {"entry": "sgdline.models:mlp", "kwargs": {"hidden": [12], "dropout": 0.3}},
    "resnet": RESNET,
    "plain": {"entry": "sgdline.models:mlp", "kwargs": {"hidden": [12], "batch_norm": False}},
    "smooth": {"entry": "networks:_Tied", "kwargs": {}},
    # A buffer of its own that moves with every forward pass in train mode, and that the next one reads.
    "averaging": {"entry": "networks:_Averaging", "kwargs": {}},
}
INTERP = {"every": 1, "epochs": None, "updates": None, "alphas": 6, "batch_norm": "train", "augment": False}
INTERP |= {"accuracy": False}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """90 training images in batches of 32: an epoch has batches of 32, 32 and 26."""
    return prepare_digits(tmp_path_factory.mktemp("dataset"), train=90)


def settings(model: str = "resnet", *, segments: int = 1, **changes: Any) -> TrainingSettings:
    edges = [9 * part // segments for part in range(segments + 1)]
    block = {"steps": 9, "segments": [list(part) for part in pairwise(edges)], "seed": 3}
    return training_settings(**{"model": MODELS[model], **block, **changes})


def slice_of(training: TrainingSettings, **changes: Any) -> dict[str, Any]:
    return {"training": training, "probe": "interp", "settings": {**INTERP, **changes}, "replay_tolerance": 0.0}


def train(dataset: Path, folder: Path, training: TrainingSettings) -> None:
    train_run(dataset, trace=folder / "trace.arrow", checkpoints=folder / "checkpoints", settings=training, facts={})


def probe(dataset: Path, folder: Path, whole: dict[str, Any], plan: Plan | None = None) -> pa.Table:
    """Measure all segments of a trained run and gather them; the replays must not drift at all."""
    if plan is not None:
        write_plan(folder / "plan.json", PlanReport(plan))
    kind, parts = whole["probe"], []
    for segment in range(len(whole["training"].segments)):
        parts.append(folder / f"{kind}{segment}.arrow")
        file = None if plan is None else folder / "plan.json"
        options = {"plan": file, "settings": whole, "segment": segment, "facts": {}, "output": parts[-1]}
        probe_segment(dataset, folder / "checkpoints", **options)
    gather_segments(parts, output=folder / f"{kind}.arrow", kind=kind)
    table = read_table(folder / f"{kind}.arrow", kind)
    assert provenance(table)["replay_drift"] in (0.0, None)
    return table


def trainer_of(dataset: Path, training: TrainingSettings) -> tuple[Trainer, Any]:
    images = load_images(dataset, device=CPU)
    return Trainer(training, images, device=CPU), images


def update_at(trainer: Trainer, step: int) -> Update:
    for update in trainer.updates(0, step + 1):
        found = update
    return found


# -- which updates -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, range(9)),
        ({"every": 2}, [0, 2, 4, 6, 8]),
        ({"epochs": [1]}, [0, 1, 2]),
        ({"epochs": [2]}, [3, 4, 5]),
        ({"epochs": [3, 1]}, [0, 1, 2, 6, 7, 8]),
        ({"updates": 1}, [0, 3, 6]),
        ({"updates": 2}, [0, 1, 3, 4, 6, 7]),
        ({"updates": 3}, range(9)),
        ({"updates": 50, "epochs": [2]}, [3, 4, 5]),
        ({"updates": 2, "epochs": [2, 3]}, [3, 4, 6, 7]),
        ({"every": 2, "updates": 2, "epochs": [2, 3]}, [4, 6]),
        ({"epochs": [4]}, []),
    ],
)
def test_updates_are_chosen_by_epoch_and_place_in_it(
    dataset: Path, options: dict[str, Any], expected: list[int]
) -> None:
    training = settings("mlp")
    trainer, images = trainer_of(dataset, training)
    measuring = made_probe("interp", trainer, images, training, {**INTERP, **options}, Plan())
    assert [step for step in range(9) if measuring.due(step)] == list(expected)
    # An epoch begins where the batches begin to come in another order.
    epochs = [update.epoch for update in trainer.updates(0, 9)]
    assert [step for step, epoch in enumerate(epochs) if epoch == int(epoch)] == [0, 3, 6]


def test_epochs_of_whole_batches_are_shorter(dataset: Path) -> None:
    training = settings("mlp", drop_last=True)
    trainer, images = trainer_of(dataset, training)
    measuring = made_probe("interp", trainer, images, training, {**INTERP, "epochs": [2, 4], "updates": 1}, Plan())
    assert [step for step in range(9) if measuring.due(step)] == [2, 6]
    assert measuring.facts()["updates_per_epoch"] == 2


def test_the_chosen_rows_are_those_of_all(dataset: Path, tmp_path: Path) -> None:
    # Losses are handed on between neighbours: what is left out between them must not show.
    training = settings("resnet")
    train(dataset, tmp_path, training)
    every = probe(dataset, tmp_path, slice_of(training)).to_pylist()
    some = probe(dataset, tmp_path, slice_of(training, epochs=[1, 3], updates=2)).to_pylist()
    assert [row["step"] for row in some] == [0, 1, 6, 7]
    assert some == [every[row["step"]] for row in some]
    assert every[4]["epoch"] == pytest.approx(1 + 32 / 90)


# -- the losses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_norm", ["train", "eval"])
@pytest.mark.parametrize("model", ["mlp_dropout", "resnet"])
def test_the_losses_are_those_of_a_line_through_the_same_points(dataset: Path, model: str, batch_norm: str) -> None:
    training = settings(model, augmentation={"crop_padding": 1, "flip": True})
    trainer, images = trainer_of(dataset, training)
    options = {"batch_norm": batch_norm, "augment": True}
    measuring = made_probe("interp", trainer, images, training, {**INTERP, **options}, Plan())
    for update in trainer.updates(0, 5):
        [row] = measuring.measure(update)
        length = row["step_length"]
        grid = {"interval": length, "resolution": length / 5, "validation": False, **options}
        block = line_settings(training, every=1, **grid)["settings"]
        [whole] = made_probe("line", trainer, images, training, block, Plan()).measure(update)
        ahead = whole["positions"] >= 0
        np.testing.assert_allclose(whole["positions"][ahead], row["alphas"] * length, rtol=1e-12)
        np.testing.assert_allclose(row["train_loss"], whole["train_loss"][ahead], rtol=0, atol=1e-6)
        assert row["train_loss"][-1] == whole["step_train_loss"]
        assert row["step_length"] == whole["step_length"]


def test_both_sources_give_the_same_intervals(dataset: Path, tmp_path: Path) -> None:
    # tanh and float64: the interpolant converges, so that what is read off a line is what is measured.
    training, plan = settings("smooth", lr=0.4), Plan(precision="float64", reseed=False)
    train(dataset, tmp_path, training)
    probe(dataset, tmp_path, slice_of(training, alphas=11), plan)
    lines = {"every": 1, "positions": "adaptive", "interval": 0.6, "tolerance": 1e-9, "max_rings": 3}
    probe(dataset, tmp_path, line_settings(training, **lines), plan)
    rows = {}
    for source in ("interp", "line"):
        files = [tmp_path / f"{source}_{kind}.arrow" for kind in ("intervals", "interval_epochs")]
        trace = tmp_path / "trace.arrow"
        measure_intervals(tmp_path / f"{source}.arrow", trace, files[0], source=source, provenance={})
        average_intervals(files[0], trace, files[1], provenance={})
        kinds = ("intervals", "interval_epochs")
        rows[source] = [read_table(file, kind).to_pylist() for file, kind in zip(files, kinds, strict=True)]
    (intervals, epochs), (read, averaged) = rows["interp"], rows["line"]
    for ours, theirs in zip(intervals + epochs, read + averaged, strict=True):
        assert ours.keys() == theirs.keys()
        for column, value in ours.items():
            if column == "train_loss" or isinstance(value, float):
                np.testing.assert_allclose(value, theirs[column], rtol=0, atol=1e-6, err_msg=column)
            elif column != "alphas":
                assert value == theirs[column], column
    assert all(row["status"] == "ok" for row in read)
    assert {row["interior_minimum"] for row in read} == {True, False}
    assert [row["start_loss"] for row in read[1:]] == [row["end_loss"] for row in read[:-1]]


@pytest.fixture(scope="module")
def trained(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run, cut into 1 and into 4 segments."""
    folder = tmp_path_factory.mktemp("trained")
    for segments in (1, 4):
        train(dataset, folder / str(segments), settings("resnet", segments=segments))
    return folder


@pytest.fixture(scope="module")
def exact(dataset: Path, trained: Path) -> list[float]:
    """Losses of the run's intervals in float64."""
    plan = Plan(precision="float64", reseed=False)
    losses: list[float] = probe(dataset, trained / "1", slice_of(settings("resnet")), plan)["train_loss"].to_pylist()
    return losses


@pytest.mark.parametrize(
    "plan",
    [
        Plan(),
        Plan(in_place=True),
        Plan(reseed=False, chunks_per_pass=3),
        Plan(reseed=False, chunks_per_pass=2, statistics="view", channels_last=True),
        Plan(reseed=False, positions_per_pass=4),
    ],
    ids=["simplest", "in_place", "together", "view", "positions"],
)
def test_any_number_of_segments_and_any_plan_give_the_same_rows(
    dataset: Path, trained: Path, exact: list[float], plan: Plan
) -> None:
    tables = []
    for segments in (1, 4):
        training = settings("resnet", segments=segments)
        whole = probe(dataset, trained / str(segments), slice_of(training, accuracy=True), plan)
        tables.append(whole.replace_schema_metadata(None))
    assert tables[0].num_rows == 9
    assert tables[1].equals(tables[0])
    for ours, theirs in zip(tables[0]["train_loss"].to_pylist(), exact, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("model", "batch_norm"), [("resnet", "eval"), ("averaging", "train"), ("resnet", "train")])
def test_an_end_is_taken_over_where_the_next_start_is_the_same(dataset: Path, model: str, batch_norm: str) -> None:
    training = settings(model)
    trainer, images = trainer_of(dataset, training)
    block = {**INTERP, "batch_norm": batch_norm}
    together = made_probe("interp", trainer, images, training, block, Plan())
    rows = [row for update in trainer.updates(0, 5) for row in together.measure(update)]
    again, _ = trainer_of(dataset, training)
    alone = [
        row
        for update in again.updates(0, 5)
        for row in made_probe("interp", again, images, training, block, Plan()).measure(update)
    ]
    for ours, theirs in zip(rows, alone, strict=True):
        np.testing.assert_array_equal(ours["train_loss"], theirs["train_loss"])
    for before, after in pairwise(rows):
        same = before["train_loss"][-1] == after["train_loss"][0]
        assert same == (batch_norm == "train" and model == "resnet")


def test_an_end_costs_one_pass_for_two_intervals(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = settings("mlp")
    trainer, images = trainer_of(dataset, training)
    measuring = made_probe("interp", trainer, images, training, INTERP, Plan())
    network, evaluations = measuring._lines.engine.network, []
    genuine = network._at

    def counted(*arguments: Any) -> Any:
        evaluations[-1] += 1
        return genuine(*arguments)

    monkeypatch.setattr(network, "_at", counted)
    for update in trainer.updates(0, 3):
        evaluations.append(0)
        measuring.measure(update)
    assert evaluations == [6, 5, 5]


def test_accuracy_comes_from_the_same_passes(dataset: Path, tmp_path: Path) -> None:
    training = settings("mlp_dropout")
    train(dataset, tmp_path, training)
    without = probe(dataset, tmp_path, slice_of(training))
    with_it = probe(dataset, tmp_path, slice_of(training, accuracy=True))
    assert without["train_accuracy"].null_count == 9
    assert with_it["train_loss"].equals(without["train_loss"])
    counts = np.array(with_it["train_accuracy"].to_pylist()) * 90
    np.testing.assert_allclose(counts, counts.round(), atol=1e-9)
    assert len(np.unique(counts)) > 5


def test_the_sign_of_a_loss_says_whether_the_answer_was_right() -> None:
    nan, inf = math.nan, math.inf
    outputs = torch.tensor([[2.0, 0.0], [2.0, 0.0], [500.0, 0.0], [0.0, 500.0], [1.0, 1.0], [nan, 0.0], [0.0, nan]])
    targets = torch.tensor([0, 1, 0, 1, 1, 0, 1])
    signed_loss = interp.signed(cross_entropy)
    signed = signed_loss(outputs, targets)
    assert torch.equal(signed.abs().nan_to_num(-1), cross_entropy(outputs, targets).abs().nan_to_num(-1))
    assert (signed[2], signed[3]) == (0.0, 0.0)  # right, and without any loss
    loss, accuracy = interp._summary(signed[None, :5])[0]
    assert loss == pytest.approx(float(cross_entropy(outputs, targets)[:5].double().mean()), rel=1e-12)
    assert accuracy == pytest.approx(3 / 5)
    assert interp._summary(signed[None])[0][1] == pytest.approx(3 / 7)
    worst = signed_loss(torch.tensor([[-inf, 0.0]]), torch.tensor([0]))
    assert interp._summary(worst[None]).tolist() == [[inf, 0.0]]


# -- the run -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("plan", [Plan(), Plan(in_place=True)], ids=["copy", "in_place"])
@pytest.mark.parametrize("model", ["averaging", "mlp_dropout", "resnet"])
def test_measuring_leaves_the_run_bit_for_bit(dataset: Path, model: str, plan: Plan) -> None:
    training = settings(model)
    trainer, images = trainer_of(dataset, training)
    measuring = made_probe("interp", trainer, images, training, {**INTERP, "accuracy": True}, plan)
    updates = trainer.updates(0, 9)
    for _ in range(5):
        update = next(updates)
    before, buffers, direction = trainer.checkpoint(4), buffers_of(trainer.model), update.direction.clone()
    modes = [module.training for module in trainer.model.modules()]
    state = torch.get_rng_state()
    measuring.measure(update)
    after = trainer.checkpoint(4)
    assert torch.equal(after.parameters, before.parameters)
    assert all(torch.equal(value, buffers[name]) for name, value in buffers_of(trainer.model).items())
    assert all(torch.equal(value, before.rule[name]) for name, value in after.rule.items())
    assert [module.training for module in trainer.model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(update.direction, direction)
    following = next(updates)
    alone, _ = trainer_of(dataset, training)
    unmeasured = update_at(alone, 5)
    assert torch.equal(following.direction, unmeasured.direction)


def test_an_interrupted_segment_goes_on_from_its_rows(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = settings("resnet")
    train(dataset, tmp_path, training)
    genuine, measured = interp.InterpProbe.measure, []

    def failing(own: Any, update: Update) -> list[dict[str, Any]]:
        measured.append(update.step)
        if len(measured) == 4:
            raise KeyboardInterrupt
        return genuine(own, update)

    monkeypatch.setattr(interp.InterpProbe, "measure", failing)
    options = {"settings": slice_of(training), "segment": 0, "facts": {}}
    with pytest.raises(KeyboardInterrupt):
        probe_segment(dataset, tmp_path / "checkpoints", output=tmp_path / "cut.arrow", **options)
    probe_segment(dataset, tmp_path / "checkpoints", output=tmp_path / "cut.arrow", **options)
    assert measured == [0, 1, 2, 3, *range(3, 9)]
    probe_segment(dataset, tmp_path / "checkpoints", output=tmp_path / "whole.arrow", **options)
    assert (tmp_path / "cut.arrow").read_bytes() == (tmp_path / "whole.arrow").read_bytes()


def test_a_run_that_diverges_keeps_what_was_finite(dataset: Path, tmp_path: Path) -> None:
    # Without BatchNorm one update of this length leaves no finite loss.
    schedule = {"name": "step", "milestones": [3], "factor": 1e38}
    training = settings("plain", segments=3, momentum=0.0, weight_decay=0.0, schedule=schedule)
    train(dataset, tmp_path, training)
    trace = read_table(tmp_path / "trace.arrow", "trace")
    assert trace["status"].to_pylist() == ["ok"] * 4 + ["non_finite"]
    table = probe(dataset, tmp_path, slice_of(training, accuracy=True))
    rows = table.to_pylist()
    assert [(row["step"], row["status"]) for row in rows] == [(0, "ok"), (1, "ok"), (2, "ok"), (3, "non_finite")]
    assert np.isfinite([row["train_loss"] for row in rows[:3]]).all()
    assert math.isfinite(rows[3]["train_loss"][0])
    assert not np.isfinite(rows[3]["train_loss"][-1])
    files = [tmp_path / "intervals.arrow", tmp_path / "interval_epochs.arrow"]
    measure_intervals(tmp_path / "interp.arrow", tmp_path / "trace.arrow", files[0], source="interp", provenance={})
    average_intervals(files[0], tmp_path / "trace.arrow", files[1], provenance={})
    lost = read_table(files[0], "intervals").to_pylist()[3]
    assert (lost["status"], lost["height"], lost["barrier"], lost["end_loss"]) == ("non_finite", None, None, None)
    assert lost["start_loss"] == rows[2]["train_loss"][-1]
    first, second = read_table(files[1], "interval_epochs").to_pylist()
    assert (first["epoch"], first["intervals"], first["left_out"]) == (1, 3, 0)
    assert (second["epoch"], second["intervals"], second["left_out"], second["height_mean"]) == (2, 0, 1, None)


def test_an_update_that_does_not_move_has_no_direction(dataset: Path, tmp_path: Path) -> None:
    training = settings("mlp", schedule={"name": "step", "milestones": [4], "factor": 0.0})
    train(dataset, tmp_path, training)
    rows = probe(dataset, tmp_path, slice_of(training)).to_pylist()
    assert [row["status"] for row in rows] == ["ok"] * 4 + ["zero_direction"] * 5
    for row in rows[4:]:
        assert row["step_length"] == 0.0
        assert len(set(row["train_loss"])) == 1


def test_a_chunk_of_one_sample_is_refused(dataset: Path) -> None:
    training = settings("resnet", batch_size=89, drop_last=True)
    trainer, images = trainer_of(dataset, training)
    with pytest.raises(SgdlineError, match="last chunk of a measuring set must hold at least two samples"):
        made_probe("interp", trainer, images, training, INTERP, Plan())
    made_probe("interp", trainer, images, training, {**INTERP, "batch_norm": "eval"}, Plan())


# -- the plan ----------------------------------------------------------------------------------------------------------


def plan_slice(training: TrainingSettings, **changes: Any) -> dict[str, Any]:
    block = {"precision": "float32", "precision_tolerance": 3e-5, "check_slope": True, "memory_gb": "auto", "plan": {}}
    return {"training": training, "probe": "interp", "settings": {**INTERP, **block, **changes}}


@pytest.mark.parametrize("factor", [1.0, 0.0])
@pytest.mark.slow
def test_a_plan_is_chosen_and_gives_the_losses_of_the_simplest(dataset: Path, tmp_path: Path, factor: float) -> None:
    # Factor 0: the first update has a direction, and a learning rate of 0.
    schedule = {"name": "step", "milestones": [0], "factor": factor}
    training = settings("resnet", schedule=schedule)
    train(dataset, tmp_path, training)
    whole = PlanSettings.from_json(plan_slice(training))
    planning.plan_probe(dataset, tmp_path / "checkpoints", output=tmp_path / "chosen.json", settings=whole)
    report = read_plan(tmp_path / "chosen.json")
    assert report.precision_error is not None
    assert 0 < report.precision_error < 1e-5
    simplest = probe(dataset, tmp_path, slice_of(training))
    chosen = probe(dataset, tmp_path, slice_of(training), report.plan)
    for ours, theirs in zip(chosen["train_loss"].to_pylist(), simplest["train_loss"].to_pylist(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("options", "lines"), [({}, 5), ({"epochs": [2]}, 2), ({"updates": 1, "every": 3}, 2)])
def test_the_trial_knows_the_work_of_the_largest_segment(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], lines: int
) -> None:
    seen: list[Any] = []

    def choose(subject: trial.Subject, wishes: trial.Wishes, work: trial.Work) -> PlanReport:
        seen.extend([subject, wishes, work])
        return PlanReport(Plan())

    monkeypatch.setattr(planning, "choose_plan", choose)
    training = settings("resnet", segments=2)
    train(dataset, tmp_path, training)
    whole = PlanSettings.from_json(plan_slice(training, **options))
    planning.plan_probe(dataset, tmp_path / "checkpoints", output=tmp_path / "plan.json", settings=whole)
    subject, wishes, work = seen
    # Segments of four and five updates.
    assert asdict(work) == {"lines": lines, "positions": 6, "samples": 90}
    assert (subject.chunk_size, subject.batch_norm, wishes.precision) == (32, "train", "float32")
    first = update_at(trainer_of(dataset, training)[0], 0)
    assert subject.interval == first.lr * first.direction_norm
