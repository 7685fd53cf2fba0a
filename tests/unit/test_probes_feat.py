"""Features of networks and the Jacobian: hooks on any network, the run left as it was, dense oracles."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from declared import made_probe
from small_runs import prepare_digits, probe_segment, training_settings
from torch import Tensor, nn
from torch.func import functional_call, jacrev

from sgdline.data.images import load_images
from sgdline.engine.plan import Plan
from sgdline.errors import SgdlineError
from sgdline.models.parameters import buffers_of
from sgdline.probes.gather import gather_segments
from sgdline.probes.jac import probe as jac
from sgdline.probes.layer_outputs import layers_of, listening
from sgdline.sparsity import pattern_distance, sparsity_coefficient
from sgdline.tables import provenance, read_table
from sgdline.train.loop import Trainer, Update
from sgdline.train.run import train_run
from sgdline.train.settings import ModelOptions, TrainingSettings

CPU = torch.device("cpu")
FEAT: dict[str, Any] = {"every": 3, "layers": ["*"], "samples": 50, "units": 1000, "threshold": 0.95}
FEAT |= {"rank_tolerance": 1e-4}
JAC: dict[str, Any] = {"every": 3, "samples": 11, "tolerance": 1e-4}
BLOCKS = {"feat": FEAT, "jac": JAC}
PLAIN = {"entry": "sgdline.models:mlp", "kwargs": {"hidden": [12, 7], "batch_norm": False}}
MODELS: dict[str, dict[str, Any]] = {
    "plain": PLAIN,
    "mlp_dropout": {"entry": "sgdline.models:mlp", "kwargs": {"hidden": [8], "dropout": 0.3}},
    "resnet": {"entry": "sgdline.models:tiny_resnet", "kwargs": {"width": 2}},
}


class TwoHeads(nn.Module):
    """A module that puts out no tensor, one that is never called, and one that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(64, 6)
        self.pair = _Pair()
        self.unused = nn.Linear(3, 3)
        self.again = nn.ReLU()
        self.head = nn.Linear(6, 10)

    def forward(self, images: Tensor) -> Tensor:
        hidden, _ = self.pair(self.again(self.body(images.flatten(1))))
        return self.head(self.again(hidden - 0.1))


class _Pair(nn.Module):
    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        return hidden, hidden


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare_digits(tmp_path_factory.mktemp("dataset"), train=90)


def settings(model: str = "plain", **changes: Any) -> TrainingSettings:
    return training_settings(model=MODELS[model], steps=9, segments=[[0, 9]], **changes)


def trainer_of(dataset: Path, training: TrainingSettings) -> tuple[Trainer, Any]:
    images = load_images(dataset, device=CPU)
    return Trainer(training, images, device=CPU), images


def probe_of(dataset: Path, kind: str, training: TrainingSettings, **changes: Any) -> tuple[Any, Trainer, Any]:
    trainer, images = trainer_of(dataset, training)
    return made_probe(kind, trainer, images, training, BLOCKS[kind] | changes, Plan()), trainer, images


def advance(trainer: Trainer, probe: Any, updates: int) -> Update:
    """Return the update of that number; the probe has seen all up to it."""
    for update in trainer.updates(0, updates + 1):
        probe.observe(update)
        if update.step == updates:
            return update
    raise AssertionError


# -- both --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", sorted(MODELS))
@pytest.mark.parametrize("kind", sorted(BLOCKS))
def test_measuring_leaves_the_run_bit_for_bit(dataset: Path, kind: str, model: str) -> None:
    probe, trainer, _ = probe_of(dataset, kind, settings(model))
    update = advance(trainer, probe, 3)
    kept = replace(update, gradient=update.gradient.clone(), direction=update.direction.clone())

    def state() -> list[Tensor]:
        modes = torch.tensor([module.training for module in trainer.model.modules()])
        hooks = torch.tensor([len(module._forward_hooks) for module in trainer.model.modules()])
        pieces = [trainer.vector.value, trainer.vector.gradient, torch.get_rng_state(), modes, hooks]
        return [piece.clone() for piece in (*pieces, *buffers_of(trainer.model).values())]

    before = state()
    first = probe.measure(update)
    assert all(torch.equal(old, new) for old, new in zip(before, state(), strict=True))
    assert torch.equal(update.gradient, kept.gradient)
    torch.manual_seed(99)  # whatever was drawn before, an update has one row
    assert probe.measure(update) == first


@pytest.mark.parametrize("kind", sorted(BLOCKS))
def test_a_run_has_a_table(dataset: Path, tmp_path: Path, kind: str) -> None:
    training = settings("resnet")
    train_run(dataset, trace=tmp_path / "t.arrow", checkpoints=tmp_path / "c", settings=training, facts={})
    block = {"training": training, "probe": kind, "settings": BLOCKS[kind], "replay_tolerance": 0.0}
    part, whole = tmp_path / "part.arrow", tmp_path / "whole.arrow"
    probe_segment(dataset, tmp_path / "c", output=part, settings=block, segment=0, facts={})
    gather_segments([part], output=whole, kind=kind)
    table = read_table(whole, kind)
    steps = [0, 3, 6, 9] if kind == "feat" else [0, 3, 6]
    assert sorted(set(table["step"].to_pylist())) == steps
    assert set(table["status"].to_pylist()) == {"ok"}
    assert provenance(table)["batch_norm"] == "eval"


@pytest.mark.parametrize("kind", sorted(BLOCKS))
def test_numbers_that_are_not_finite_are_a_status(dataset: Path, kind: str) -> None:
    probe, trainer, _ = probe_of(dataset, kind, settings())
    update = advance(trainer, probe, 3)
    trainer.vector.value[5] = math.nan
    rows = probe.measure(update)
    assert {row["status"] for row in rows} == {"non_finite"}
    assert all(row.get("rank") is None for row in rows)


@pytest.mark.parametrize("kind", sorted(BLOCKS))
def test_more_samples_than_images_are_refused(dataset: Path, kind: str) -> None:
    with pytest.raises(SgdlineError, match=rf"probes\.{kind}\.samples must be at most the 90 .* got 91"):
        probe_of(dataset, kind, settings(), samples=91)


# -- layers ------------------------------------------------------------------------------------------------------------


def test_patterns_are_compared_part_by_part(dataset: Path) -> None:
    model = trainer_of(dataset, settings("resnet"))[0].model
    names = [name for name, _ in model.named_modules() if name]
    assert layers_of(model, ["*"]) == [name for name in names if "." not in name]
    assert layers_of(model, ["stages.*"]) == [name for name in names if name.count(".") == 1 and "stages" in name]
    assert layers_of(model, [names[-1], names[0]]) == [names[0], names[-1]]


def test_a_pattern_without_a_module_names_the_nearest(dataset: Path) -> None:
    words = r"probes\.feat\.layers must match modules .* got 'stagse\.1'\. The nearest name is 'stages\.1'"
    with pytest.raises(SgdlineError, match=words):
        probe_of(dataset, "feat", settings("resnet"), layers=["stagse.1"])


def test_outputs_are_those_of_the_modules() -> None:
    model = TwoHeads()
    images = torch.randn(5, 1, 8, 8)
    found: dict[str, Tensor] = {}
    with listening(model, ["body", "again"], lambda name, output: found.update({name: output})):
        model(images)
    hidden = model.body(images.flatten(1))
    assert torch.equal(found["body"], hidden)
    assert torch.equal(found["again"], torch.relu(torch.relu(hidden) - 0.1))  # of its last call


def test_odd_modules_are_left_out_or_refused(dataset: Path) -> None:
    training = replace(settings(), model=ModelOptions(entry=f"{__name__}:TwoHeads"))
    trainer, images = trainer_of(dataset, settings())
    trainer.model = TwoHeads()
    probe = made_probe("feat", trainer, images, training, FEAT | {"layers": ["body", "unused"]}, Plan())
    assert probe.facts()["layers"] == ["body"]
    with pytest.raises(SgdlineError, match="one tensor, got tuple from 'pair'"):
        made_probe("feat", trainer, images, training, FEAT, Plan())
    with pytest.raises(SgdlineError, match="that the forward pass uses"):
        made_probe("feat", trainer, images, training, FEAT | {"layers": ["unused"]}, Plan())


def test_logits_are_left_out_unless_named(dataset: Path) -> None:
    found = probe_of(dataset, "feat", settings())[0].facts()["layers"]
    assert found == ["1", "2", "3", "4"]  # linear, ReLU, linear, ReLU; not flattening, not the last linear
    assert probe_of(dataset, "feat", settings(), layers=["5"])[0].facts()["layers"] == ["5"]


# -- features ----------------------------------------------------------------------------------------------------------


def test_rows_are_those_of_the_layers_outputs(dataset: Path) -> None:
    probe, trainer, images = probe_of(dataset, "feat", settings(), layers=["2", "4"])
    starts = _hidden(trainer.model, images.train.inputs[:50])
    [first, _] = probe.measure(advance(trainer, probe, 0))
    assert first["pattern_distance"] == 0.0
    update = next(update for update in trainer.updates(0, 9) if update.step == 8)
    rows = probe.measure(update)
    for row, phi, start in zip(rows, _hidden(trainer.model, images.train.inputs[:50]), starts, strict=True):
        assert row["sparsity"] == sparsity_coefficient(phi, threshold=0.95)
        assert row["sparsity_with_duplicates"] == (phi > 0).mean()
        assert row["active_units"] == (phi > 0).any(axis=0).mean()
        assert row["rank"] == np.linalg.matrix_rank(phi, tol=1e-4 * np.linalg.norm(phi, 2))
        assert row["pattern_distance"] == pattern_distance(phi, start) > 0
        assert (row["units"], row["measured_units"]) == (phi.shape[1], phi.shape[1])


def _hidden(model: nn.Module, inputs: Tensor) -> list[np.ndarray[Any, Any]]:
    with torch.no_grad():
        first = torch.relu(model[1](inputs.flatten(1)))  # type: ignore[index]
        second = torch.relu(model[3](first))  # type: ignore[index]
    return [first.double().numpy(), second.double().numpy()]


def test_a_large_layer_has_one_subset_for_the_whole_run(dataset: Path) -> None:
    training = settings("resnet")
    [whole, some, again] = [
        probe_of(dataset, "feat", training, layers=["stages.0"], units=units)[0] for units in (1000, 20, 20)
    ]
    everything, part = whole._activations()["stages.0"], some._activations()["stages.0"]
    assert everything.shape == (50, 128)
    chosen = some._units["stages.0"].numpy()
    assert (np.diff(chosen) > 0).all()
    assert (part == everything[:, chosen]).all()
    assert (again._units["stages.0"].numpy() == chosen).all()
    other = probe_of(dataset, "feat", replace(training, seed=6), layers=["stages.0"], units=20)[0]
    assert (other._units["stages.0"].numpy() != chosen).any()


def test_batches_of_a_pass_do_not_count(dataset: Path) -> None:
    probe, trainer, _ = probe_of(dataset, "feat", settings("resnet"))
    update = advance(trainer, probe, 3)
    rows = probe.measure(update)
    probe._samples_per_pass = 7
    for row, other in zip(rows, probe.measure(update), strict=True):
        assert row["sparsity"] == pytest.approx(other["sparsity"], abs=1e-3)


# -- Jacobian ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["plain", "resnet"])
@pytest.mark.parametrize("memory_rows", [1, 8, 1000])
def test_the_jacobian_is_that_of_jacrev(
    dataset: Path, monkeypatch: pytest.MonkeyPatch, model: str, memory_rows: int
) -> None:
    training = settings(model)
    trainer, images = trainer_of(dataset, training)
    size = trainer.vector.size
    monkeypatch.setattr(jac.JacProbe, "memory_bytes", 8 * size * memory_rows)
    probe = made_probe("jac", trainer, images, training, JAC, Plan())
    update = advance(trainer, probe, 3)
    dense = _dense_jacobian(trainer.model, images.train.inputs[:11], images.train.targets[:11])
    assert dense.shape == (11, size)
    np.testing.assert_allclose(probe.gram(), dense @ dense.T, rtol=1e-10, atol=1e-10 * np.linalg.norm(dense) ** 2)
    values = np.linalg.svd(dense, compute_uv=False)
    [row] = probe.measure(update)
    assert row["rank"] == (values / values[0] > 1e-4).sum()
    assert row["largest_singular_value"] == pytest.approx(values[0])
    assert row["frobenius_norm"] == pytest.approx(np.linalg.norm(dense))
    shares = values / values.sum()
    assert row["effective_rank"] == pytest.approx(-(shares * np.log(shares)).sum(), rel=1e-6)


def _dense_jacobian(model: nn.Module, inputs: Tensor, targets: Tensor) -> np.ndarray[Any, Any]:
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    parameters = {name: value.detach().double() for name, value in model.named_parameters()}
    buffers = {name: value.double() if value.is_floating_point() else value for name, value in model.named_buffers()}

    def chosen(values: dict[str, Tensor]) -> Tensor:
        return functional_call(model, (values, buffers), (inputs.double(),))[torch.arange(len(targets)), targets]

    found = jacrev(chosen)(parameters)
    for module, training in modes:
        module.training = training
    return torch.cat([found[name].flatten(1) for name in parameters], dim=1).numpy()


def test_equal_samples_have_one_row(dataset: Path) -> None:
    probe, trainer, _ = probe_of(dataset, "jac", settings())
    probe._inputs, probe._targets = probe._inputs[:1].repeat(5, 1, 1, 1), probe._targets[:1].repeat(5)
    [row] = probe.measure(advance(trainer, probe, 0))
    assert row["rank"] == 1
    assert row["effective_rank"] == pytest.approx(0.0, abs=1e-5)


class Branching(nn.Module):
    """Looks at its numbers, which no map over samples can."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(64, 10)

    def forward(self, images: Tensor) -> Tensor:
        logits = self.head(images.flatten(1))
        return logits if float(logits.sum()) > 0 else 2.0 * logits


def test_a_network_that_cannot_be_mapped_is_told(dataset: Path) -> None:
    probe, trainer, _ = probe_of(dataset, "jac", settings())
    update = advance(trainer, probe, 0)
    trainer.model = Branching()
    with pytest.raises(SgdlineError, match=r"probes\.jac needs a network .*Leave the probe out"):
        probe.measure(update)
