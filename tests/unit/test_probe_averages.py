"""The averages probe: BatchNorm's statistics, what it must leave alone, and what it holds."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from declared import made_probe
from hypothesis import given
from hypothesis import strategies as st
from small_runs import prepare_digits, training_settings
from torch import Tensor, nn

from sgdline.data.images import load_images
from sgdline.engine.hessian import Chunk
from sgdline.engine.plan import Plan
from sgdline.errors import SgdlineError
from sgdline.models.parameters import buffers_of
from sgdline.probes.averages.probe import RunningAverages, reestimate_batch_norm
from sgdline.probes.probe import Probe
from sgdline.tables import kind_of
from sgdline.train.loop import Trainer

CPU = torch.device("cpu")
SETTINGS: dict[str, Any] = {"every": 2, "ema": [0.9], "swa": [2], "swa_spacing": 1, "two_point": [1]}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare_digits(tmp_path_factory.mktemp("dataset"), train=90)


class Net(nn.Module):
    """Two normalisations, one of them used twice in a pass, one that stays in eval mode; dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 2)
        self.norm, self.frozen = nn.BatchNorm1d(4), nn.BatchNorm1d(4)
        self.dropout = nn.Dropout(0.3)

    def train(self, mode: bool = True) -> Net:
        super().train(mode)
        self.frozen.eval()
        return self

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.norm(self.first(inputs)).relu()
        return self.last(self.frozen(self.norm(self.dropout(hidden) + 1.0)))  # type: ignore[no-any-return]


def chunks(*sizes: int) -> list[Chunk]:
    draws = torch.Generator().manual_seed(3)
    return [Chunk(torch.randn(n, 3, generator=draws), torch.zeros(n, dtype=torch.long), 70 + n) for n in sizes]


def test_every_sample_has_one_weight_in_the_statistics() -> None:
    torch.manual_seed(0)
    model = Net()
    model.frozen.running_mean.fill_(0.25)
    model.norm.running_mean.fill_(math.nan)  # of no use, and it would stay
    parts = chunks(8, 8, 3)
    seen: list[Tensor] = []
    handle = model.norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].double()))
    reestimate_batch_norm(model, parts)
    handle.remove()
    weights = np.repeat([8, 8, 3], 2)
    assert [len(part) for part in seen] == weights.tolist()
    for found, taken in (
        (model.norm.running_mean, [part.mean(0) for part in seen]),
        (model.norm.running_var, [part.var(0) for part in seen]),
    ):
        expected = np.average([value.detach().numpy() for value in taken], axis=0, weights=weights)
        np.testing.assert_allclose(found.double().numpy(), expected, rtol=1e-6)
    assert model.norm.momentum == 0.1
    assert not model.norm._forward_pre_hooks
    assert torch.equal(model.frozen.running_mean, torch.full((4,), 0.25))
    assert model.norm.training
    again = buffers_of(model)
    reestimate_batch_norm(model, parts)  # the same masks
    assert all(torch.equal(again[name], value) for name, value in model.named_buffers())


def test_equal_chunks_give_torchs_cumulative_average_and_unequal_ones_do_not() -> None:
    torch.manual_seed(0)
    for sizes, alike in (((6, 6, 6), True), ((6, 6, 2), False)):
        ours = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
        theirs = copy.deepcopy(ours)
        theirs[1].momentum = None
        reestimate_batch_norm(ours, chunks(*sizes))
        for chunk in chunks(*sizes):
            theirs(chunk.inputs)
        assert torch.allclose(ours[1].running_mean, theirs[1].running_mean, rtol=1e-5, atol=1e-6) == alike


def trainer_of(dataset: Path, **changes: Any) -> tuple[Trainer, Probe[Any]]:
    images = load_images(dataset, device=CPU)
    training = training_settings(**changes)
    trainer = Trainer(training, images, device=CPU)
    return trainer, made_probe("averages", trainer, images, training, SETTINGS, Plan())


def test_the_trainer_stays_as_it_was_bit_for_bit(dataset: Path) -> None:
    model = {"entry": "sgdline.models:mlp", "kwargs": {"hidden": [8], "dropout": 0.3}}
    trainer, probe = trainer_of(dataset, model=model)
    undisturbed, _ = trainer_of(dataset, model=model)
    for update, other in zip(trainer.updates(0, 7), undisturbed.updates(0, 7), strict=True):
        probe.observe(update)
        torch.manual_seed(11)
        before = [torch.get_rng_state(), trainer.vector.gradient.clone(), update.direction.clone()]
        modes = [module.training for module in trainer.model.modules()]
        rows = probe.measure(update)
        torch.manual_seed(5)  # whatever was drawn before, an evaluation has its rows
        assert probe.measure(update) == rows
        torch.manual_seed(11)
        after = [torch.get_rng_state(), trainer.vector.gradient, update.direction]
        assert all(torch.equal(old, new) for old, new in zip(before, after, strict=True))
        assert [module.training for module in trainer.model.modules()] == modes
        assert torch.equal(trainer.vector.value, undisturbed.vector.value)
        assert update.batch_loss == other.batch_loss
        for (name, ours), theirs in zip(trainer.model.named_buffers(), undisturbed.model.buffers(), strict=True):
            assert torch.equal(ours, theirs), name
    assert probe.due(4)
    assert not probe.due(5)


def test_rows_and_facts_say_what_was_done(dataset: Path) -> None:
    trainer, probe = trainer_of(dataset)
    [row] = [row for row in _rows(trainer, probe) if row["average"] == "swa"][:1]
    assert set(row) == set(kind_of("averages").schema.names)
    facts = probe.facts()
    assert (facts["batch_norm"], facts["statistics"], facts["samples"]) == ("eval", "re-estimated", 90)
    assert facts["chunk_sizes"] == [32, 32, 26]
    assert facts["vectors_held"] == 3  # the EMA, one sum, one iterate
    assert facts["vectors_mb"] == pytest.approx(trainer.vector.size * (8 + 8 + 4) / 1e6)


def _rows(trainer: Trainer, probe: Probe[Any]) -> list[dict[str, Any]]:
    rows = []
    for update in trainer.updates(0, 4):
        probe.observe(update)
        if probe.due(update.step):
            rows += probe.measure(update)
    return rows


def test_without_batch_norm_there_is_no_pass_over_the_training_set(dataset: Path) -> None:
    model = {"entry": "sgdline.models:mlp", "kwargs": {"hidden": [8], "batch_norm": False}}
    trainer, probe = trainer_of(dataset, model=model)
    passes: list[bool] = []
    update = next(trainer.updates(0, 1))
    probe.observe(update)
    trainer.model.register_forward_pre_hook(lambda module, _: passes.append(module.training))
    assert len(probe.measure(update)) == 2  # no run is long enough for the others
    assert passes
    assert not any(passes)
    assert probe.facts()["statistics"] == "none"


def test_a_chunk_of_one_sample_is_refused_with_batch_norm_only(dataset: Path) -> None:
    trainer, probe = trainer_of(dataset, batch_size=89, drop_last=True)
    update = next(trainer.updates(0, 1))
    probe.observe(update)
    with pytest.raises(SgdlineError, match="at least two samples to re-estimate"):
        probe.measure(update)
    plain = {"entry": "sgdline.models:mlp", "kwargs": {"hidden": [8], "batch_norm": False}}
    trainer, probe = trainer_of(dataset, batch_size=89, drop_last=True, model=plain)
    update = next(trainer.updates(0, 1))
    probe.observe(update)
    assert probe.measure(update)[0]["status"] == "ok"


def test_empty_lists_leave_the_iterate_alone_and_hold_nothing(dataset: Path) -> None:
    images = load_images(dataset, device=CPU)
    training = training_settings()
    trainer = Trainer(training, images, device=CPU)
    probe = made_probe(
        "averages", trainer, images, training, {**SETTINGS, "ema": [], "swa": [], "two_point": []}, Plan()
    )
    assert [row["average"] for row in _rows(trainer, probe)] == ["iterate", "iterate"]
    assert (probe.facts()["vectors_held"], probe.facts()["vectors_mb"]) == (0, 0.0)


@given(
    steps=st.integers(1, 40),
    every=st.integers(1, 15),
    swa=st.lists(st.integers(2, 9), max_size=3, unique=True),
    spacing=st.integers(1, 4),
    two_point=st.lists(st.integers(1, 30), max_size=3, unique=True),
)
def test_nothing_is_held_longer_than_an_evaluation_needs_it(
    steps: int, every: int, swa: list[int], spacing: int, two_point: list[int]
) -> None:
    evaluations = [*range(0, steps, every), steps]
    running = RunningAverages(evaluations, ema=[0.5], swa=swa, spacing=spacing, two_point=two_point)
    most, most_bytes = running.largest_held(7, parameter_bytes=4)
    held = []
    path = [float(step * step) for step in range(steps + 1)]
    for step, value in enumerate(path):
        running.observe(step, torch.full((7,), value))
        needed = {
            past for past in range(step + 1) if any(late >= step and late - past in two_point for late in evaluations)
        }
        first = {late - (count - 1) * spacing: late for late in sorted(evaluations) for count in swa}
        begun = {start for start, late in first.items() if 0 <= start <= step <= late}
        assert running.held == 1 + len(needed) + len(begun)
        held.append((running.held, 7 * (8 + 8 * len(begun) + 4 * len(needed))))
        if step in evaluations:
            found = {
                (entry.name, entry.parameter): float(entry.value[0])
                for entry in running.at(step, torch.full((7,), value))
            }
            for count in swa:
                members = [step - index * spacing for index in range(count)]
                if members[-1] >= 0:
                    assert found.pop(("swa", count)) == pytest.approx(np.mean([path[place] for place in members]))
            for distance in two_point:
                if distance <= step:
                    assert found.pop(("two_point", distance)) == (value + path[step - distance]) / 2
            assert set(found) == {("ema", 0.5)}
    assert (most, most_bytes) == (max(count for count, _ in held), max(width for _, width in held))


class Restless(nn.Module):
    """Moves a buffer of its own in every pass, which its outputs depend on."""

    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.head, self.norm = nn.Linear(64, 10), nn.BatchNorm1d(10)
        self.register_buffer("count", torch.zeros(1))

    def forward(self, images: Tensor) -> Tensor:
        self.count += 1
        return self.norm(self.head(images.flatten(1))) * (1 + 0.1 * self.count)  # type: ignore[no-any-return]


def test_a_row_does_not_depend_on_those_before_it(dataset: Path) -> None:
    found = []
    for ema in ([], [0.5, 0.9]):
        images = load_images(dataset, device=CPU)
        training = training_settings()
        trainer = Trainer(training, images, device=CPU)
        torch.manual_seed(0)
        trainer.model = Restless()
        trainer.vector = type(trainer.vector)(trainer.model)
        probe = made_probe("averages", trainer, images, training, {**SETTINGS, "ema": ema}, Plan())
        found.append([row for row in _rows(trainer, probe) if row["average"] != "ema"])
    assert found[0] == found[1]
    assert [row["average"] for row in found[0]] == ["iterate", "iterate", "swa", "two_point"]


def test_losses_that_are_no_numbers_have_a_status(dataset: Path) -> None:
    model = {"entry": "sgdline.models:mlp", "kwargs": {"hidden": [8], "batch_norm": False}}
    trainer, probe = trainer_of(dataset, model=model)
    rows = []
    for update in trainer.updates(0, 3):
        if update.step == 1:
            before = trainer.vector.value.clone()
            trainer.vector.value[-10:] = math.inf
        probe.observe(update)
        if update.step == 1:
            trainer.vector.value.copy_(before)
        if probe.due(update.step):
            rows += probe.measure(update)
    status = {(row["step"], row["average"]): row["status"] for row in rows}
    assert status == {
        (0, "iterate"): "ok", (0, "ema"): "ok", (2, "iterate"): "ok", (2, "ema"): "non_finite",
        (2, "swa"): "non_finite", (2, "two_point"): "non_finite",
    }  # fmt: skip
    assert trainer.vector.value.isfinite().all()
