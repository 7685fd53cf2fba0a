"""Probes of the Hessian: they leave the run as it was, do not depend on segments, and say what they cannot measure."""

from __future__ import annotations

import math
import weakref
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from declared import made_probe
from small_runs import RESNET, prepare_digits, probe_segment, training_settings
from torch import Tensor, nn

from sgdline.config import ConfigError, resolve_config
from sgdline.config.declarations import configuration_schema
from sgdline.data.images import load_images
from sgdline.engine.hessian import Chunk, FullBatchHessian
from sgdline.engine.plan import Plan
from sgdline.errors import SgdlineError
from sgdline.models.parameters import ParameterVector, buffers_of
from sgdline.probes.gather import gather_segments
from sgdline.tables import provenance, read_table
from sgdline.train.loop import Trainer, Update
from sgdline.train.run import train_run
from sgdline.train.settings import ModelOptions, TrainingSettings

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
HVP: dict[str, Any] = {"every": 3, "samples": None, "batch_norm": "train", "augment": False}
HVP |= {"tolerance": 1e-2, "max_products": 300}
COVARIANCE: dict[str, Any] = {"every": 3, "samples": 40, "batch_norm": "eval", "augment": False, "top": 3}
BLOCKS = {"hvp": HVP, "hessian_covariance": COVARIANCE}
PROBES = ("hvp", "hessian_covariance")
MODELS: dict[str, dict[str, Any]] = {
    "plain": {"entry": "sgdline.models:mlp", "kwargs": {"hidden": [2], "batch_norm": False}},
    "mlp_dropout": {"entry": "sgdline.models:mlp", "kwargs": {"hidden": [2], "dropout": 0.3}},
    "resnet": RESNET | {"kwargs": {"width": 2}},
    # Buffers of their own that move with every forward pass in train mode, and that the next one reads.
    "averaging": {"entry": "networks:_Averaging", "kwargs": {}},
}
AUGMENTATION = {"crop_padding": 1, "flip": True}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """50 training images in chunks of 32 and 18."""
    return prepare_digits(tmp_path_factory.mktemp("dataset"), train=50)


def settings(model: str = "plain", *, segments: int = 1, **changes: Any) -> TrainingSettings:
    edges = [9 * part // segments for part in range(segments + 1)]
    bounds = [list(bound) for bound in pairwise(edges)]
    return training_settings(model=MODELS[model], steps=9, segments=bounds, **changes)


def trainer_of(dataset: Path, training: TrainingSettings) -> tuple[Trainer, Any]:
    images = load_images(dataset, device=CPU)
    return Trainer(training, images, device=CPU), images


def update_at(trainer: Trainer, step: int) -> Update:
    return next(update for update in trainer.updates(0, step + 1) if update.step == step)


def train(dataset: Path, folder: Path, training: TrainingSettings) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    paths = {"trace": folder / "trace.arrow", "checkpoints": folder / "checkpoints"}
    train_run(dataset, **paths, settings=training, facts={})


def probed(dataset: Path, folder: Path, kind: str, training: TrainingSettings, **changes: Any) -> Any:
    block = {"training": training, "probe": kind, "settings": BLOCKS[kind] | changes, "replay_tolerance": 0.0}
    paths = []
    for segment in range(len(training.segments)):
        paths.append(folder / f"{kind}{segment}.arrow")
        options = {"output": paths[-1], "settings": block, "segment": segment, "facts": {}}
        probe_segment(dataset, folder / "checkpoints", **options)
    gather_segments(paths, output=folder / f"{kind}.arrow", kind=kind)
    return read_table(folder / f"{kind}.arrow", kind)


# -- both --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "model"),
    [*(("hvp", model) for model in sorted(MODELS)), *(("hessian_covariance", m) for m in ("plain", "mlp_dropout"))],
)
def test_measuring_leaves_the_run_bit_for_bit(dataset: Path, kind: str, model: str) -> None:
    training = settings(model, augmentation=AUGMENTATION)
    trainer, images = trainer_of(dataset, training)
    measuring = made_probe(kind, trainer, images, training, BLOCKS[kind] | {"augment": True}, Plan())
    updates = trainer.updates(0, 9)
    for _ in range(4):
        update = next(updates)
    kept = replace(update, gradient=update.gradient.clone(), direction=update.direction.clone())
    sums = trainer.vector.gradient
    held = [(parameter.grad, parameter.grad.clone()) for parameter in trainer.model.parameters()]

    def state() -> list[Tensor]:
        modes = torch.tensor([module.training for module in trainer.model.modules()])
        pieces = [trainer.vector.value, sums, torch.get_rng_state(), modes, update.gradient, update.direction]
        return [piece.clone() for piece in (*pieces, *buffers_of(trainer.model).values())]

    before = state()
    [first] = measuring.measure(update)
    assert all(torch.equal(old, new) for old, new in zip(before, state(), strict=True))
    for parameter, (views, values) in zip(trainer.model.parameters(), held, strict=True):
        assert parameter.grad is views
        assert torch.equal(views, values)
        assert parameter.requires_grad
    assert torch.equal(update.gradient, kept.gradient)
    torch.manual_seed(99)  # whatever was drawn before, an update has one row
    [second] = measuring.measure(update)
    assert first.keys() == second.keys()
    for column, value in first.items():
        np.testing.assert_array_equal(value, second[column], err_msg=column)
    # The run goes on as one that nobody measured.
    following = next(updates)
    alone, _ = trainer_of(dataset, training)
    unmeasured = update_at(alone, 4)
    assert torch.equal(following.direction, unmeasured.direction)
    assert following.batch_loss == unmeasured.batch_loss


@pytest.mark.parametrize("kind", sorted(PROBES))
@pytest.mark.slow
def test_any_number_of_segments_gives_the_same_rows(dataset: Path, tmp_path: Path, kind: str) -> None:
    tables = []
    for segments in (1, 4):
        training = settings("mlp_dropout", segments=segments)
        train(dataset, tmp_path / str(segments), training)
        tables.append(probed(dataset, tmp_path / str(segments), kind, training))
    plain = [table.replace_schema_metadata(None) for table in tables]
    assert plain[0]["step"].to_pylist() == [0, 3, 6]
    assert plain[1].equals(plain[0])
    facts = provenance(tables[0])
    expected = {"hvp": ("train", 50, [32, 18]), "hessian_covariance": ("eval", 40, [32, 8])}[kind]
    assert (facts["batch_norm"], facts["samples"], facts["chunk_sizes"]) == expected


@pytest.mark.parametrize("kind", sorted(PROBES))
def test_a_run_that_diverges_has_its_rows(dataset: Path, tmp_path: Path, kind: str) -> None:
    training = settings(segments=3, lr=1e30, momentum=0.0)
    train(dataset, tmp_path, training)
    lost = provenance(read_table(tmp_path / "trace.arrow", "trace"))["diverged_at"]
    assert 0 < lost < 4
    table = probed(dataset, tmp_path, kind, training, every=1)
    assert table["step"].to_pylist() == list(range(lost))
    assert table["status"].to_pylist()[0] == "ok"
    assert provenance(read_table(tmp_path / f"{kind}2.arrow", kind))["samples"] > 0


@pytest.mark.parametrize("kind", sorted(PROBES))
@pytest.mark.parametrize("wild", [math.nan, math.inf])
def test_parameters_that_are_not_finite_give_a_row_that_says_so(dataset: Path, kind: str, wild: float) -> None:
    training = settings()
    trainer, images = trainer_of(dataset, training)
    update = update_at(trainer, 0)
    measuring = made_probe(kind, trainer, images, training, BLOCKS[kind], Plan())
    trainer.vector.value[-3] = wild
    [row] = measuring.measure(update)
    assert row["status"] == "non_finite"
    assert not math.isfinite(row["train_loss"])
    values = {"largest_eigenvalue", "smallest_eigenvalue", "spectral_norm", "hessian_eigenvalues", "cosine"}
    assert not values & {name for name, value in row.items() if value is not None}
    if kind == "hvp":
        assert (row["converged"], row["largest_converged"], row["smallest_converged"]) == (False, False, False)


@pytest.mark.parametrize("kind", sorted(PROBES))
def test_augmentation_has_fixed_draws(dataset: Path, kind: str) -> None:
    training = settings(augmentation=AUGMENTATION)
    trainer, images = trainer_of(dataset, training)
    update = update_at(trainer, 0)
    rows = [
        made_probe(kind, trainer, images, training, BLOCKS[kind] | {"augment": augment}, Plan()).measure(update)[0]
        for augment in (False, True, True)
    ]
    assert rows[1]["train_loss"] == rows[2]["train_loss"] != rows[0]["train_loss"]


class _Once(torch.autograd.Function):
    """A layer without a second derivative."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return values * 2

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, slope: Tensor) -> Tensor:
        return slope * 2


class Once(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(64, 10)

    def forward(self, images: Tensor) -> Tensor:
        return _Once.apply(self.head(images.flatten(1)))


class Attention(nn.Module):
    """Its fused backward pass has no derivative of its own."""

    def __init__(self, *, fused: bool) -> None:
        super().__init__()
        self.fused = fused
        self.embed = nn.Linear(8, 8)
        self.head = nn.Linear(64, 10)

    def forward(self, images: Tensor) -> Tensor:
        rows = self.embed(images)
        if self.fused:
            return self.head(nn.functional.scaled_dot_product_attention(rows, rows, rows).flatten(1))
        shares = torch.softmax(rows @ rows.transpose(-1, -2) / 8**0.5, dim=-1)
        return self.head((shares @ rows).flatten(1))


class Idle(nn.Module):
    """Has a parameter that nothing depends on."""

    def __init__(self) -> None:
        super().__init__()
        self.idle = nn.Parameter(torch.ones(3))
        self.head = nn.Linear(64, 3)

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.pad(self.head(images.flatten(1)), (0, 7))


@pytest.mark.parametrize("kind", sorted(PROBES))
def test_parameters_without_effect_have_zeros(dataset: Path, kind: str) -> None:
    training = settings()
    trainer, images = trainer_of(dataset, training)
    update = update_at(trainer, 0)
    rows = []
    for names in (("idle", "head.weight", "head.bias"), ("head.weight", "head.bias")):
        torch.manual_seed(4)
        trainer.model = Idle()
        for name, parameter in trainer.model.named_parameters():
            parameter.requires_grad_(name in names)
        trainer.vector = ParameterVector(trainer.model)
        rows += made_probe(kind, trainer, images, training, BLOCKS[kind], Plan()).measure(update)
    for column in ("largest_eigenvalue", "spectral_norm", "hessian_eigenvalues", "cosine", "gradient_norm"):
        if column in rows[0]:
            np.testing.assert_allclose(rows[0][column], rows[1][column], rtol=1e-5, err_msg=column)
    assert rows[0]["status"] == rows[1]["status"] == "ok"


@pytest.mark.parametrize("kind", sorted(PROBES))
def test_what_cannot_be_measured_is_told(dataset: Path, kind: str) -> None:
    training = settings()
    trainer, images = trainer_of(dataset, training)
    with pytest.raises(SgdlineError, match=rf"{kind}\.samples must be at most the 50 training images, got 51\."):
        made_probe(kind, trainer, images, training, BLOCKS[kind] | {"samples": 51}, Plan())
    update = update_at(trainer, 0)
    trainer.model = Once()
    trainer.vector = ParameterVector(trainer.model)
    with pytest.raises(SgdlineError, match=r"must have second derivatives .*once differentiable.* Replace that layer"):
        made_probe(kind, trainer, images, training, BLOCKS[kind], Plan()).measure(update)


@pytest.mark.parametrize("kind", sorted(PROBES))
def test_fused_attention_is_that_of_the_formula(dataset: Path, kind: str) -> None:
    training = settings()
    trainer, images = trainer_of(dataset, training)
    update = update_at(trainer, 0)
    rows = []
    for fused in (True, False):
        torch.manual_seed(3)
        trainer.model = Attention(fused=fused)
        trainer.vector = ParameterVector(trainer.model)
        rows += made_probe(kind, trainer, images, training, BLOCKS[kind], Plan()).measure(update)
    for column in ("largest_eigenvalue", "spectral_norm", "hessian_eigenvalues", "gradient_norm"):
        if column in rows[0]:
            np.testing.assert_allclose(rows[0][column], rows[1][column], rtol=1e-4, err_msg=column)


# -- hvp ---------------------------------------------------------------------------------------------------------------


class _Saved:
    """What a graph keeps for its backward passes, and nobody else."""

    def __init__(self, values: Tensor) -> None:
        self.values = values


@pytest.mark.parametrize("train_mode", [True, False])
def test_one_chunk_has_a_graph_at_a_time(train_mode: bool) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 10))
    alive: list[weakref.ref[_Saved]] = []
    left = []

    def save(values: Tensor) -> _Saved:
        saved = _Saved(values)
        alive.append(weakref.ref(saved))
        return saved

    network.register_forward_pre_hook(lambda module, inputs: left.append(sum(ref() is not None for ref in alive)))
    draws = torch.Generator().manual_seed(1)
    inputs, targets = torch.randn(70, 1, 8, 8, generator=draws), torch.arange(70) % 10
    chunks = [Chunk(inputs[first : first + 8], targets[first : first + 8], first) for first in range(0, 70, 8)]
    vector = ParameterVector(network)
    hessian = FullBatchHessian(network, vector, chunks, train_mode=train_mode)
    with hessian.opened(), torch.autograd.graph.saved_tensors_hooks(save, lambda saved: saved.values):
        hessian.loss_and_product(torch.ones(vector.size))
    assert len(alive) > 9 * 5
    assert left == [0] * 9


def test_validation_is_that_of_the_evaluation_probe(dataset: Path) -> None:
    training = settings("mlp_dropout")
    trainer, images = trainer_of(dataset, training)
    update = update_at(trainer, 3)
    [row] = made_probe("hvp", trainer, images, training, HVP, Plan()).measure(update)
    [expected] = made_probe("evaluation", trainer, images, training, {"every": 1}, Plan()).measure(update)
    assert row["validation_loss"] == expected["validation_loss"]
    assert row["validation_accuracy"] == expected["validation_accuracy"]
    bare = replace(
        images, validation=type(images.validation)(images.validation.inputs[:0], images.validation.targets[:0])
    )
    [row] = made_probe("hvp", trainer, bare, training, HVP, Plan()).measure(update)
    assert not {"validation_loss", "validation_accuracy"} & row.keys()


def test_an_eigenvalue_that_did_not_converge_is_stored_as_such(dataset: Path, tmp_path: Path) -> None:
    training = settings("mlp_dropout")
    train(dataset, tmp_path, training)
    tight = probed(dataset, tmp_path, "hvp", training, every=6, tolerance=1e-12, max_products=75).to_pylist()
    loose = probed(dataset, tmp_path, "hvp", training, every=6).to_pylist()
    assert len(tight) == 2
    for row, good in zip(tight, loose, strict=True):
        # float32 does not get to 1e-12, whatever the budget.
        assert (row["status"], row["converged"], row["largest_converged"]) == ("not_converged", False, False)
        assert row["products"] <= 2 * 75
        assert row["largest_residual"] > 1e-12
        assert (good["status"], good["converged"]) == ("ok", True)
        # Rayleigh quotients lie inside of the spectrum.
        assert row["largest_eigenvalue"] <= good["largest_eigenvalue"] * (1 + 1e-2)
        assert row["smallest_eigenvalue"] >= good["smallest_eigenvalue"] - 1e-2 * good["spectral_norm"]


def test_a_chunk_of_one_sample_is_refused_where_batch_norm_needs_more(dataset: Path) -> None:
    training = settings("mlp_dropout")
    trainer, images = trainer_of(dataset, training)
    block = HVP | {"samples": 33}
    with pytest.raises(
        SgdlineError, match=r"at least two samples for BatchNorm in train mode, got 1 \(33 in chunks of 32"
    ):
        made_probe("hvp", trainer, images, training, block, Plan())
    made_probe("hvp", trainer, images, training, block | {"batch_norm": "eval"}, Plan())


# -- hessian_covariance ------------------------------------------------------------------------------------------------


def test_networks_that_the_covariance_is_not_for_are_refused(dataset: Path) -> None:
    training = settings("mlp_dropout")
    trainer, images = trainer_of(dataset, training)
    with pytest.raises(SgdlineError, match=r"hessian_covariance\.batch_norm must be eval for a network with BatchNorm"):
        made_probe("hessian_covariance", trainer, images, training, COVARIANCE | {"batch_norm": "train"}, Plan())
    size = trainer.vector.size
    with pytest.raises(SgdlineError, match=rf"must be from {size + 1} \(top\) to 2,000 .* got {size}\."):
        made_probe("hessian_covariance", trainer, images, training, COVARIANCE | {"top": size + 1}, Plan())
    training = replace(
        training, model=ModelOptions(entry="sgdline.models:mlp", kwargs={"hidden": [30], "batch_norm": False})
    )
    trainer, images = trainer_of(dataset, training)
    with pytest.raises(SgdlineError, match=r"must be from 3 \(top\) to 2,000 for the probe .* got 2,260\."):
        made_probe("hessian_covariance", trainer, images, training, COVARIANCE, Plan())
    training = replace(training, model=ModelOptions(entry="networks:Uncopyable", kwargs={}))
    trainer, images = trainer_of(dataset, training)
    update = update_at(trainer, 0)
    with pytest.raises(SgdlineError, match="must be copyable for the probe hessian_covariance"):
        made_probe("hessian_covariance", trainer, images, training, COVARIANCE, Plan()).measure(update)


def test_one_sample_has_no_covariance_to_compare(dataset: Path) -> None:
    training = settings()
    trainer, images = trainer_of(dataset, training)
    update = update_at(trainer, 0)
    [row] = made_probe("hessian_covariance", trainer, images, training, COVARIANCE | {"samples": 1}, Plan()).measure(
        update
    )
    assert (row["cosine"], row["subspace_overlap"], row["status"]) == (None, None, "ok")
    assert list(row["covariance_eigenvalues"]) == [0.0] * 3
    assert row["identity_error"] < 1e-8


# -- configuration -----------------------------------------------------------------------------------------------------


def faults_of(text: str) -> tuple[str, ...]:
    config = yaml.safe_load((ROOT / "config/config.yaml").read_text(encoding="utf-8"))
    experiment = config["experiments"]["walk_covariance"] | {"dataset": "digits", "batch_size": [64], "figures": []}
    config |= {"experiments": {"walk_covariance": experiment | yaml.safe_load(text)}, "comparisons": {}}
    with pytest.raises(ConfigError) as caught:
        resolve_config(config)
    return caught.value.faults


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "probes: {hvp: {samples: 1025}}",
            "probes.hvp.samples must be at most the training images of digits (1024), got 1025. Lower it, or set it to "
            "null.",
        ),
        (
            "probes: {hessian_covariance: {samples: 1025}}",
            "probes.hessian_covariance.samples must be at most the training images of digits (1024), got 1025. Lower "
            "it, or set it to null.",
        ),
        (
            "probes: {hvp: {samples: 129}}",
            "batch_size[0] must not leave a chunk of one sample when probes.hvp.batch_norm is train, got 64, which "
            "leaves one of the 129 samples over. Set probes.hvp.samples to 128, or use another batch size.",
        ),
        (
            "{batch_size: [33], probes: {hvp: {}}}",
            "batch_size[0] must not leave a chunk of one sample when probes.hvp.batch_norm is train, got 33, which "
            "leaves one of the 1024 train images over. Set probes.hvp.samples to 1023, or use another batch size.",
        ),
        (
            "probes: {hvp: {augment: true}}",
            "probes.hvp.augment must be false without an augmentation, got true. Set crop_padding or flip as well.",
        ),
        (
            "probes: {hvp: {max_products: 74}}",
            "probes.hvp.max_products must be a whole number from 75 to 1000000, got 74.",
        ),
        ("probes: {hvp: {tolerance: 1.0}}", "probes.hvp.tolerance must be "),
    ],
)
def test_faulty_settings_are_one_fault(text: str, expected: str) -> None:
    [fault] = faults_of(text)
    assert fault.startswith(f"experiments.walk_covariance.{expected}")


@pytest.mark.parametrize("text", ["probes: {hvp: {samples: 129, batch_norm: eval}}", "probes: {hvp: {samples: 128}}"])
def test_sound_settings_are_none(text: str) -> None:
    with pytest.raises(pytest.fail.Exception):
        faults_of(text)


def test_the_smallest_budget_is_the_schemas() -> None:
    from sgdline.engine.eigenvalues import SMALLEST_BUDGET

    assert configuration_schema()["$defs"]["HvpOptions"]["properties"]["max_products"]["minimum"] == SMALLEST_BUDGET
