"""PAL and FBPAL&SGD on losses whose parabolas are known, what they measure with, and their runs as a whole."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_runs import prepare_digits, probe_segment, training_settings
from torch import Tensor, nn

from sgdline.data.images import load_images
from sgdline.declare.build import build_thing
from sgdline.errors import SgdlineError
from sgdline.losses.cross_entropy import CrossEntropy
from sgdline.models import mlp
from sgdline.models.parameters import ParameterVector, buffers_of
from sgdline.tables import provenance, read_table
from sgdline.train import run as training_run
from sgdline.train.batch import Batch
from sgdline.train.checkpoints import load_checkpoint
from sgdline.train.landscape import Landscape
from sgdline.train.loop import Trainer
from sgdline.train.rules._parabola import parabola_step, usable_lr
from sgdline.train.rules.base import Move
from sgdline.train.run import train_run
from sgdline.train.settings import TrainingSettings

CPU = torch.device("cpu")
PAL = {"beta": 0.4, "adaptation": 1 / 0.6, "max_step": 3.16}
FBPAL = {"every": 3, "average": 2, "reuse": "lr"}


def pal_block(**changes: Any) -> dict[str, Any]:
    return {"name": "pal", **PAL, **changes}


def fbpal_block(*, momentum: float = 0.0, weight_decay: float = 0.0, **changes: Any) -> dict[str, Any]:
    shared = {"name": "fbpal_sgd", "momentum": momentum, "weight_decay": weight_decay}
    return {**shared, **FBPAL, **changes}


def make_update_rule(block: dict[str, Any]) -> Any:
    return build_thing("update_rule", block, tag="name").rule()


# -- the parabolic step ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mu", [0.1, 1.0, 7.0])
def test_the_step_ends_in_the_vertex_of_a_parabola(mu: float) -> None:
    loss, slope, bend = 2.3, -1.7, 0.9
    ahead = loss + slope * mu + bend * mu**2
    assert parabola_step(loss, slope, ahead, measuring_step=mu) == pytest.approx(1.7 / 1.8)
    assert parabola_step(loss, slope, ahead, measuring_step=mu, adaptation=2.5) == pytest.approx(2.5 * 1.7 / 1.8)


@pytest.mark.parametrize(
    ("slope", "ahead", "expected"),
    [
        (-1.0, 0.4, 0.5),  # concave: a = -0.4
        (-1.0, 0.5, 0.5),  # straight: a = 0
        (0.0, 2.0, 0.0),
        (1.0, 2.0, 0.0),
        (1.0, 0.4, 0.0),  # ascends and bends down
        (-1.0, math.nan, 0.0),
        (-1.0, math.inf, 0.0),
        (-1.0, -math.inf, 0.0),
        (math.nan, 2.0, 0.0),
        (-math.inf, 2.0, 0.0),
        (math.inf, 2.0, 0.0),
    ],
)
def test_the_step_without_a_vertex(slope: float, ahead: float, expected: float) -> None:
    # The adaptation has no say here.
    assert parabola_step(1.0, slope, ahead, measuring_step=0.5, adaptation=3.0) == expected


def test_a_loss_that_is_not_finite_gives_no_step() -> None:
    assert parabola_step(math.nan, -1.0, 0.4, measuring_step=0.5) == 0.0
    assert parabola_step(math.inf, -1.0, 0.4, measuring_step=0.5) == 0.0


def test_a_direction_that_float32_cannot_scale_gives_no_step() -> None:
    direction = torch.full((4,), 1e-40)
    assert usable_lr(0.5, direction, 2e-40) == 0.0
    assert usable_lr(0.5, torch.zeros(4), 0.0) == 0.0
    assert usable_lr(0.5, torch.zeros(4), math.nan) == 0.0
    assert usable_lr(0.5, torch.ones(4), 2.0) == 0.25


# -- on a quadratic loss -----------------------------------------------------------------------------------------------


class Quadratic(nn.Module):
    """Logits whose cross-entropy for class 0 is 0.7 + (theta-b)'A(theta-b)/2, whatever the images."""

    matrix: Tensor
    centre: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.tensor([1.0, -0.5, 2.0], dtype=torch.float64))
        self.register_buffer("matrix", torch.tensor([[2.0, 0.3, 0.0], [0.3, 0.7, -0.1], [0.0, -0.1, 1.1]]).double())
        self.register_buffer("centre", torch.tensor([0.2, 0.1, -0.3]).double())

    def loss(self) -> Tensor:
        off = self.theta - self.centre
        return 0.7 + off @ self.matrix @ off / 2

    def forward(self, images: Tensor) -> Tensor:
        logit = -torch.log(torch.expm1(self.loss()))
        return torch.stack([logit, torch.zeros_like(logit)]).expand(len(images), 2)


def batch_of(count: int, *, seed: int = 0) -> Batch:
    return Batch(torch.zeros(count, 1, 1, 1), torch.zeros(count, dtype=torch.int64), torch.arange(count), seed)


def quadratic_moves(block: dict[str, Any], *, updates: int, mu: float) -> tuple[Quadratic, list[Move], list[Tensor]]:
    """Return the network, the updates and the parameters before each of them and at the end."""
    model, rule, moves, visited = Quadratic().train(), make_update_rule(block), [], []
    vector = ParameterVector(model)
    for step in range(updates):
        vector.zero_gradient()
        loss = model.loss()
        loss.backward()
        landscape = Landscape(
            model,
            vector,
            batch_of(4),
            float(loss.detach()),
            loss=CrossEntropy(),
            chunks=lambda: [batch_of(4), batch_of(3)],
        )
        visited.append(vector.value.clone())
        moves.append(rule.move(vector.value, vector.gradient.clone(), step=step, lr=mu, landscape=landscape))
        vector.value.add_(moves[-1].direction, alpha=-moves[-1].lr)
    return model, moves, [*visited, vector.value.clone()]


@pytest.mark.parametrize("beta", [0.0, 0.4])
def test_pal_lands_on_the_minimum_of_each_line_of_a_quadratic_loss(beta: float) -> None:
    block = pal_block(beta=beta, adaptation=1.0, max_step=100.0)
    model, moves, visited = quadratic_moves(block, updates=5, mu=0.1)
    previous = torch.zeros(3, dtype=torch.float64)
    for move, (before, after) in zip(moves, pairwise(visited), strict=True):
        gradient = model.matrix @ (before - model.centre)
        previous = gradient + beta * previous
        torch.testing.assert_close(move.direction, previous)
        exact = float(gradient @ previous / (previous @ model.matrix @ previous))
        # A line that ascends has no step; with an exact line search and beta < 1 there is none.
        assert exact > 0
        assert move.lr == pytest.approx(exact, rel=1e-6)
        assert abs(float((model.matrix @ (after - model.centre)) @ previous)) < 1e-6 * float(previous @ previous)


def test_the_adaptation_stretches_and_the_cap_cuts_pals_step() -> None:
    _, [plain], _ = quadratic_moves(pal_block(adaptation=1.0, max_step=100.0), updates=1, mu=0.1)
    _, [stretched], _ = quadratic_moves(pal_block(adaptation=1.5, max_step=100.0), updates=1, mu=0.1)
    _, [cut], _ = quadratic_moves(pal_block(adaptation=1.5, max_step=0.01), updates=1, mu=0.1)
    assert stretched.lr == pytest.approx(1.5 * plain.lr)
    assert cut.lr * float(cut.direction.norm()) == pytest.approx(0.01)


@pytest.mark.parametrize("reuse", ["lr", "step_length"])
def test_fbpal_sgd_measures_exactly_and_reuses_what_it_says(reuse: str) -> None:
    model, moves, visited = quadratic_moves(fbpal_block(reuse=reuse), updates=9, mu=0.2)
    values: list[float] = []
    for step, (move, before) in enumerate(zip(moves, visited, strict=False)):
        gradient = model.matrix @ (before - model.centre)
        torch.testing.assert_close(move.direction, gradient)
        if step in (0, 1, 3, 6):
            best = float(gradient @ gradient / (gradient @ model.matrix @ gradient))
            values.append(best if reuse == "lr" else best * float(gradient.norm()))
        # Updates 0 and 1 do not enter the mean.
        mean = values[-1] if step < 6 else float(np.mean(values[-2:]))
        assert move.lr == pytest.approx(mean if reuse == "lr" else mean / float(gradient.norm()), rel=1e-6)


# -- on a made-up landscape --------------------------------------------------------------------------------------------


class MadeUp:
    """Answers as it is told, and keeps what it was asked."""

    def __init__(self, *, ahead: float = 1.0, loss: float = 1.0, full_gradient: Tensor | None = None) -> None:
        self.batch_loss = loss
        self.ahead = ahead
        self.full = full_gradient
        self.asked: list[Tensor] = []

    def batch_loss_at(self, displacement: Tensor) -> float:
        self.asked.append(displacement)
        return self.ahead

    full_loss_at = batch_loss_at

    def full_gradient(self) -> tuple[float, Tensor]:
        assert self.full is not None
        return self.batch_loss, self.full.double()


G = torch.tensor([3.0, 4.0])


def test_pal_measures_at_mu_and_keeps_its_own_memory() -> None:
    rule = make_update_rule(pal_block())
    # b(s) = 1 - 5 s + 20 s^2: the vertex is at 1/8.
    landscape = MadeUp(ahead=1 - 5 * 0.1 + 20 * 0.01)
    first = rule.move(torch.zeros(2), G, step=0, lr=0.1, landscape=landscape)
    torch.testing.assert_close(landscape.asked[0], -0.1 * G.double() / 5)
    assert first.lr * 5 == pytest.approx(1 / 8 / 0.6)
    against = -0.5 * G
    again = make_update_rule(pal_block())
    again.load(rule.state())
    for copy in (rule, again):
        # m = -0.5 g + 0.4 g points against the gradient of this batch no longer: slope -0.25/0.1*||..||.
        second = copy.move(torch.zeros(2), against, step=1, lr=0.1, landscape=MadeUp(ahead=0.2))
        torch.testing.assert_close(second.direction, -0.1 * G)
        assert second.lr * 0.5 == pytest.approx(0.1), "slope -2.5, a < 0: the measuring step itself"
    torch.testing.assert_close(G, torch.tensor([3.0, 4.0]))


def test_pal_does_not_step_where_its_line_ascends_or_has_no_direction() -> None:
    rule = make_update_rule(pal_block())
    rule.move(torch.zeros(2), G, step=0, lr=0.1, landscape=MadeUp())
    ascending = rule.move(torch.zeros(2), -0.1 * G, step=1, lr=0.1, landscape=MadeUp(ahead=0.5))
    torch.testing.assert_close(ascending.direction, 0.3 * G)
    assert ascending.lr == 0.0
    for ahead in (math.nan, math.inf):
        assert make_update_rule(pal_block()).move(G, G, step=0, lr=0.1, landscape=MadeUp(ahead=ahead)).lr == 0.0
    nowhere = MadeUp()
    assert make_update_rule(pal_block()).move(G, torch.zeros(2), step=0, lr=0.1, landscape=nowhere).lr == 0.0
    broken = make_update_rule(pal_block()).move(G, torch.tensor([math.nan, 1.0]), step=0, lr=0.1, landscape=nowhere)
    assert broken.lr == 0.0
    assert math.isnan(float(broken.direction[0]))
    assert not nowhere.asked


def test_sgd_leaves_the_learning_rate_and_the_landscape_alone() -> None:
    rule = make_update_rule({"name": "sgd", "momentum": 0.5, "weight_decay": 0.1})
    weights = torch.tensor([1.0, -1.0])
    first = rule.move(weights, G, step=0, lr=0.25, landscape=None)  # type: ignore[arg-type]
    second = rule.move(weights, G, step=1, lr=0.125, landscape=None)  # type: ignore[arg-type]
    torch.testing.assert_close(first.direction, G + 0.1 * weights)
    torch.testing.assert_close(second.direction, 1.5 * (G + 0.1 * weights))
    assert (first.lr, second.lr) == (0.25, 0.125)


def test_fbpal_sgd_counts_zeros_leaves_out_what_is_not_finite_and_falls_back_to_mu() -> None:
    def lr_after(*landscapes: MadeUp, **changes: Any) -> list[float]:
        rule = make_update_rule(fbpal_block(every=1, average=2, **changes))
        return [
            rule.move(torch.zeros(2), G, step=step, lr=0.1, landscape=landscape).lr
            for step, landscape in enumerate(landscapes)
        ]

    # f(s) = 1 - 5 s + a s^2 along G, whose norm is 5: the learning rate of the vertex is 5/(2a)/5.
    def vertex(lr: float) -> MadeUp:
        return MadeUp(ahead=1 - 0.5 + 0.01 / (2 * lr), full_gradient=G)

    climbs = MadeUp(ahead=2.0, full_gradient=-G)
    lost = MadeUp(ahead=math.nan, full_gradient=G)
    # The value of update 0 is used once, and not in the means.
    first = vertex(5.0)
    assert lr_after(first, vertex(0.4), vertex(0.2), vertex(0.6)) == pytest.approx([5.0, 0.4, 0.3, 0.4])
    assert lr_after(first, vertex(0.4), climbs, climbs) == pytest.approx([5.0, 0.4, 0.2, 0.1])
    assert lr_after(lost, lost, vertex(0.4), lost, vertex(0.2)) == pytest.approx([0.1, 0.1, 0.4, 0.4, 0.3])
    assert lr_after(climbs, lost) == pytest.approx([0.1, 0.1])
    # The step length reused: 0.1 is a length then, and the vertex of lr 0.4 lies at 2.
    assert lr_after(lost, vertex(0.4), reuse="step_length") == pytest.approx([0.1 / 5, 0.4])
    assert lr_after(MadeUp(ahead=1.0, loss=math.nan, full_gradient=G)) == pytest.approx([0.1])


def test_fbpal_sgd_with_momentum_uses_the_slope_of_the_present_batch_along_its_line() -> None:
    rule = make_update_rule(fbpal_block(momentum=0.5, every=10))
    full = torch.tensor([2.0, 2.0])
    # D_f = -(2, 2).(3, 4)/5 = -2.8
    landscape = MadeUp(ahead=1 - 0.28 + 7 * 0.01, full_gradient=full)
    first = rule.move(torch.zeros(2), G, step=0, lr=0.1, landscape=landscape)
    lr = 2.8 / 14 / 5
    assert first.lr == pytest.approx(lr)
    second = rule.move(torch.zeros(2), torch.tensor([1.0, 0.0]), step=2, lr=0.1, landscape=MadeUp())
    torch.testing.assert_close(second.direction, torch.tensor([2.5, 2.0]))
    norm = math.hypot(2.5, 2.0)
    assert second.lr * norm == pytest.approx(lr * 2.5 / norm)


def test_states_are_tensors_and_come_back() -> None:
    for block in (pal_block(), fbpal_block(momentum=0.5, every=1), fbpal_block(every=1, reuse="step_length")):
        one, other = make_update_rule(block), make_update_rule(block)
        assert one.state() == {}
        other.load({})
        for step in range(3):
            landscape = MadeUp(ahead=1.2, full_gradient=G)
            one.move(torch.zeros(2), G + step, step=step, lr=0.1, landscape=landscape)
        state = one.state()
        assert state
        assert all(isinstance(tensor, Tensor) for tensor in state.values())
        other.load(state)
        landscape = MadeUp(ahead=1.1, full_gradient=G)
        moves = [rule.move(torch.zeros(2), G, step=3, lr=0.1, landscape=landscape) for rule in (one, other)]
        assert moves[0].lr == moves[1].lr
        assert torch.equal(moves[0].direction, moves[1].direction)
        # What was handed out is not what goes on changing.
        assert all(not torch.equal(one.state()[name], tensor) for name, tensor in state.items() if "value" not in name)


# -- what a landscape measures -----------------------------------------------------------------------------------------


def dropout_network() -> nn.Module:
    torch.manual_seed(4)
    return mlp(input_shape=(1, 8, 8), num_classes=10, hidden=[12], dropout=0.4).train()


def random_batch(count: int, *, seed: int) -> Batch:
    draws = torch.Generator().manual_seed(seed)
    inputs = torch.randn(count, 1, 8, 8, generator=draws)
    return Batch(inputs, torch.randint(0, 10, (count,), generator=draws), torch.arange(count), seed)


def naive(model: nn.Module, theta: Tensor, batch: Batch) -> tuple[float, Tensor]:
    """Sum of the losses of a batch and its gradient in float64: a copy of the network, masks seeded by hand."""
    import copy

    own = copy.deepcopy(model).double().train()
    nn.utils.vector_to_parameters(theta.double(), own.parameters())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(batch.mask_seed)
        keep = torch.nn.functional.dropout(torch.ones(len(batch.targets), 12), 0.4).double()
    hidden = torch.relu(own[2](own[1](own[0](batch.inputs.double())))) * keep
    loss = nn.functional.cross_entropy(own[5](hidden), batch.targets, reduction="sum")
    gradient = torch.autograd.grad(loss, list(own.parameters()))
    return float(loss.detach()), torch.cat([part.flatten() for part in gradient])


def test_a_landscape_measures_batch_and_training_set_and_puts_everything_back() -> None:
    model = dropout_network()
    reference = dropout_network()
    start = nn.utils.parameters_to_vector(reference.parameters()).detach()
    vector = ParameterVector(model)
    batch, chunks = random_batch(9, seed=1), [random_batch(8, seed=2), random_batch(8, seed=3), random_batch(3, seed=4)]
    landscape = Landscape(model, vector, batch, 1.0, loss=CrossEntropy(), chunks=lambda: chunks)
    away = 0.3 * torch.randn(len(start), dtype=torch.float64, generator=torch.Generator().manual_seed(9))

    before = (vector.value.clone(), buffers_of(model), torch.get_rng_state())
    found = (landscape.batch_loss_at(away), landscape.full_loss_at(away), landscape.full_gradient())
    assert torch.equal(vector.value, before[0])
    assert torch.equal(torch.get_rng_state(), before[2])
    assert all(torch.equal(buffer, before[1][name]) for name, buffer in model.named_buffers())
    assert model.training

    assert found[0] == pytest.approx(naive(reference, start + away, batch)[0] / 9, rel=1e-5)
    assert found[1] == pytest.approx(sum(naive(reference, start + away, chunk)[0] for chunk in chunks) / 19, rel=1e-5)
    at_start = [naive(reference, start, chunk) for chunk in chunks]
    assert found[2][0] == pytest.approx(sum(loss for loss, _ in at_start) / 19, rel=1e-5)
    assert found[2][1].dtype == torch.float64
    torch.testing.assert_close(found[2][1], sum(gradient for _, gradient in at_start) / 19, rtol=1e-4, atol=1e-6)


def test_a_failing_measurement_puts_everything_back_too() -> None:
    model = dropout_network()
    vector = ParameterVector(model)
    good = random_batch(4, seed=1)
    bad = Batch(torch.zeros(4, 1, 3, 3), good.targets, good.rows, 0)
    before = (vector.value.clone(), buffers_of(model), torch.get_rng_state())
    landscape = Landscape(model, vector, bad, 1.0, loss=CrossEntropy(), chunks=lambda: [good, bad])
    for measure in (landscape.batch_loss_at, landscape.full_loss_at, lambda _: landscape.full_gradient()):
        with pytest.raises(RuntimeError):
            measure(torch.ones(vector.size))
        assert torch.equal(vector.value, before[0])
        assert torch.equal(torch.get_rng_state(), before[2])
        assert all(torch.equal(buffer, before[1][name]) for name, buffer in model.named_buffers())


def test_every_chunk_finds_the_same_buffers() -> None:
    from networks import make_network

    model = make_network("running_average")
    vector = ParameterVector(model)
    chunk = random_batch(6, seed=1)
    zero = torch.zeros(vector.size)
    one = Landscape(model, vector, chunk, 1.0, loss=CrossEntropy(), chunks=lambda: [chunk])
    three = Landscape(model, vector, chunk, 1.0, loss=CrossEntropy(), chunks=lambda: [chunk] * 3)
    assert three.full_loss_at(zero) == pytest.approx(one.full_loss_at(zero), rel=1e-12)
    assert three.full_gradient()[0] == pytest.approx(one.full_gradient()[0], rel=1e-12)


# -- whole runs --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare_digits(tmp_path_factory.mktemp("dataset"), train=100)


def settings(block: dict[str, Any], *, segments: int = 3, **changes: Any) -> TrainingSettings:
    bounds = [list(part) for part in pairwise(12 * part // segments for part in range(segments + 1))]
    own = {"optimizer": block, "segments": bounds, "augmentation": {"crop_padding": 1, "flip": True}}
    dropout = {"entry": "sgdline.models:mlp", "kwargs": {"hidden": [16], "dropout": 0.2}}
    return training_settings(**{"model": dropout, **own, **changes})


def train(dataset: Path, folder: Path, block: TrainingSettings) -> list[dict[str, Any]]:
    train_run(dataset, trace=folder / "trace.arrow", checkpoints=folder / "checkpoints", settings=block, facts={})
    rows: list[dict[str, Any]] = read_table(folder / "trace.arrow", "trace").to_pylist()
    return rows


BLOCKS: dict[str, Callable[[], dict[str, Any]]] = {
    "pal": pal_block,
    "fbpal_sgd_lr": lambda: fbpal_block(momentum=0.5, weight_decay=0.01),
    "fbpal_sgd_step_length": lambda: fbpal_block(reuse="step_length"),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_segments_do_not_change_a_run_and_every_one_replays_to_the_bit(
    dataset: Path, tmp_path: Path, name: str
) -> None:
    tables = {}
    for segments in (1, 4):
        block = settings(BLOCKS[name](), segments=segments)
        folder = tmp_path / str(segments)
        rows = train(dataset, folder, block)
        probe = {"training": block, "probe": "evaluation", "settings": {"every": 2}, "replay_tolerance": 0.0}
        evaluated = []
        for segment in range(segments):
            path = folder / f"{segment}.arrow"
            probe_segment(dataset, folder / "checkpoints", output=path, settings=probe, segment=segment, facts={})
            table = read_table(path, "evaluation")
            assert provenance(table)["replay_drift"] == 0.0
            evaluated += table.to_pylist()
        tables[segments] = (rows, evaluated)
    assert tables[1] == tables[4]
    assert len(tables[1][1]) == 6
    assert len({row["lr"] for row in tables[1][0]}) > 3


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("interrupt_at", [3, 9])
def test_an_interrupted_run_goes_on_to_the_same_bytes(
    dataset: Path, tmp_path: Path, name: str, interrupt_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    block = settings(BLOCKS[name]())
    train(dataset, tmp_path / "whole", block)
    row = training_run._trace_row

    def failing_row(update: Any, *rest: Any) -> dict[str, Any]:
        if update.step == interrupt_at:
            raise KeyboardInterrupt
        return row(update, *rest)

    monkeypatch.setattr(training_run, "_trace_row", failing_row)
    with pytest.raises(KeyboardInterrupt):
        train(dataset, tmp_path / "cut", block)
    monkeypatch.undo()
    train(dataset, tmp_path / "cut", block)
    for file in ("trace.arrow", "checkpoints/step00000012.safetensors"):
        assert (tmp_path / "cut" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


def test_the_trace_holds_the_learning_rate_that_was_used(dataset: Path, tmp_path: Path) -> None:
    rows = train(dataset, tmp_path, settings(pal_block(max_step=0.2), segments=12, lr=0.05))
    saved = [load_checkpoint(tmp_path / "checkpoints", step, device=CPU).parameters for step in range(13)]
    for row, (before, after) in zip(rows, pairwise(saved), strict=True):
        assert row["status"] == "ok"
        length = row["lr"] * row["direction_norm"]
        assert length <= 0.2 * (1 + 1e-9)
        assert float((after.double() - before.double()).norm()) == pytest.approx(length, rel=1e-4, abs=1e-6)
    assert max(row["lr"] * row["direction_norm"] for row in rows) == pytest.approx(0.2)


def test_the_schedule_moves_the_measuring_step(dataset: Path, tmp_path: Path) -> None:
    schedule = {"name": "step", "milestones": [1], "factor": 0.01}
    plain = train(dataset, tmp_path / "plain", settings(pal_block(), lr=0.5))
    smaller = train(dataset, tmp_path / "scheduled", settings(pal_block(), lr=0.5, schedule=schedule))
    assert plain[0]["lr"] == smaller[0]["lr"]
    assert plain[1]["batch_loss"] == smaller[1]["batch_loss"]
    assert plain[1]["lr"] != smaller[1]["lr"]


def test_updates_without_a_step_are_updates(dataset: Path, tmp_path: Path) -> None:
    plain = {"entry": "sgdline.models:mlp", "kwargs": {"hidden": [16], "batch_norm": False}}
    rows = train(dataset, tmp_path, settings(pal_block(), lr=1e30, model=plain))
    assert len(rows) == 12
    assert {row["lr"] for row in rows} == {0.0}
    assert {row["distance_from_start"] for row in rows} == {0.0}
    assert {row["status"] for row in rows} == {"ok"}


def test_a_run_that_becomes_nan_ends_as_with_sgd(dataset: Path, tmp_path: Path) -> None:
    plain = {"entry": "sgdline.models:mlp", "kwargs": {"hidden": [16], "batch_norm": False}}
    for name, block in (("pal", pal_block()), ("fbpal_sgd", fbpal_block())):
        trainer = Trainer(settings(block, model=plain), load_images(dataset, device=CPU), device=CPU)
        trainer.vector.value[:] = math.nan
        updates = list(trainer.updates(0, 12))
        assert [update.finite for update in updates] == [False], name
        assert trainer._rule.state().get("values") is None
    rows = train(dataset, tmp_path, settings(fbpal_block(), lr=1e30, model=plain))
    assert [row["status"] for row in rows] == ["ok", "non_finite"], "mu stands in for the measurement that failed"


def test_a_chunk_of_one_sample_is_refused_where_the_training_set_is_measured(dataset: Path, tmp_path: Path) -> None:
    block = settings(fbpal_block(), batch_size=33, drop_last=True)
    with pytest.raises(SgdlineError, match=r"at least two samples .* got 1 \(100 images in chunks of 33\)"):
        train(dataset, tmp_path, block)
    plain = {"entry": "sgdline.models:mlp", "kwargs": {"hidden": [16], "batch_norm": False}}
    assert (
        len(train(dataset, tmp_path / "a", settings(fbpal_block(), batch_size=33, drop_last=True, model=plain))) == 12
    )
    assert len(train(dataset, tmp_path / "b", settings(pal_block(), batch_size=33, drop_last=True))) == 12
