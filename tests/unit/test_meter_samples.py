"""Samples of any form: trees of tensors, loaders, several processes; each line against a naive loop in float64."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from two_processes import run_two

from sgdline.engine.plan import Plan
from sgdline.errors import SgdlineError
from sgdline.lines import LineMeter

PER_SAMPLE = nn.CrossEntropyLoss(reduction="none")
N, LENGTH, WORDS = 22, 7, 11
CHUNK = 8


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


class Lstm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, 6)
        self.cells = nn.LSTM(6, 9, batch_first=True)
        self.head = nn.Linear(9, WORDS)

    def forward(self, tokens: Tensor) -> Tensor:
        found: Tensor = self.head(self.cells(self.words(tokens))[0])
        return found


class TwoInputs(nn.Module):
    """Takes two inputs, in order or by name; the second may be left out."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(5, 4), nn.Linear(3, 4)
        self.head = nn.Sequential(nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 3))

    def forward(self, left: Tensor, right: Tensor | None = None) -> Tensor:
        hidden = self.left(left)
        found: Tensor = self.head(hidden if right is None else hidden + self.right(right))
        return found


class OneDict(TwoInputs):
    """Takes the dict itself."""

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:  # type: ignore[override]
        return {"logits": super().forward(batch["left"], batch["right"])}


def tokens_loss(outputs: Any, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The next token's cross-entropy; -100 marks padding."""
    logits = outputs if isinstance(outputs, Tensor) else outputs.logits
    following = targets[:, 1:]
    losses = PER_SAMPLE(logits[:, :-1].transpose(1, 2), following)
    return losses.sum(1), (following != -100).sum(1)


def vectors() -> tuple[Tensor, Tensor, Tensor]:
    return torch.randn(N, 5), torch.randn(N, 3), torch.randint(0, 3, (N,))


def padded_tokens() -> tuple[Tensor, Tensor, Tensor]:
    tokens, lengths = torch.randint(0, WORDS, (N, LENGTH)), torch.randint(3, LENGTH + 1, (N, 1))
    mask = (torch.arange(LENGTH) < lengths).long()
    return tokens, mask, torch.where(mask.bool(), tokens, -100)


def a_gpt() -> tuple[nn.Module, Any, Any, Any]:
    transformers = pytest.importorskip("transformers")
    tokens, mask, targets = padded_tokens()
    config = transformers.GPT2Config(
        vocab_size=WORDS, n_positions=LENGTH, n_embd=16, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0
    )
    return transformers.GPT2LMHeadModel(config), tokens_loss, {"input_ids": tokens, "attention_mask": mask}, targets


def an_lstm() -> tuple[nn.Module, Any, Any, Any]:
    tokens, _, targets = padded_tokens()
    return Lstm(), tokens_loss, tokens, targets


def two_in_order() -> tuple[nn.Module, Any, Any, Any]:
    left, right, targets = vectors()
    return TwoInputs(), PER_SAMPLE, (left, right), targets


def two_by_name() -> tuple[nn.Module, Any, Any, Any]:
    left, right, targets = vectors()
    return TwoInputs(), PER_SAMPLE, {"left": left, "right": right}, targets


def one_of_two() -> tuple[nn.Module, Any, Any, Any]:
    left, _, targets = vectors()
    return TwoInputs(), PER_SAMPLE, {"left": left, "right": None}, targets


def one_dict_and_targets_in_a_tree() -> tuple[nn.Module, Any, Any, Any]:
    left, right, targets = vectors()

    def loss(outputs: Any, targets: Any) -> Tensor:
        found: Tensor = targets["weight"] * PER_SAMPLE(outputs["logits"], targets["class"])
        return found

    return OneDict(), loss, {"left": left, "right": right}, {"class": targets, "weight": torch.rand(N)}


def shufflenet() -> tuple[nn.Module, Any, Any, Any]:
    from torchvision.models import shufflenet_v2_x0_5

    return shufflenet_v2_x0_5(num_classes=3), PER_SAMPLE, torch.randn(N, 3, 32, 32), torch.randint(0, 3, (N,))


CASES = [a_gpt, an_lstm, two_in_order, two_by_name, one_of_two, one_dict_and_targets_in_a_tree, shufflenet]


def cut(tree: Any, rows: slice) -> Any:
    if isinstance(tree, dict):
        return {key: cut(part, rows) for key, part in tree.items()}
    if isinstance(tree, tuple):
        return tuple(cut(part, rows) for part in tree)
    return None if tree is None else tree[rows]


def doubled(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: doubled(part) for key, part in tree.items()}
    if isinstance(tree, tuple):
        return tuple(doubled(part) for part in tree)
    return tree.double() if isinstance(tree, Tensor) and tree.is_floating_point() else tree


def applied(network: nn.Module, inputs: Any) -> Any:
    if isinstance(inputs, dict) and not isinstance(network, OneDict):
        return network(**inputs)
    return network(*inputs) if isinstance(inputs, tuple) else network(inputs)


def naive(
    network: nn.Module, loss: Callable[..., Any], inputs: Any, targets: Any, direction: dict[str, Tensor], s: float
) -> float:
    """Return the mean loss at a position, chunk by chunk in float64, from a copy whose parameters are set by name."""
    moved = copy.deepcopy(network).double()
    sums, counts = 0.0, 0.0
    with torch.no_grad():
        for name, parameter in moved.named_parameters():
            parameter.add_(s * direction[name].double())
        for first in range(0, N, CHUNK):
            rows = slice(first, min(first + CHUNK, N))
            found = loss(applied(moved, doubled(cut(inputs, rows))), doubled(cut(targets, rows)))
            losses, count = found if isinstance(found, tuple) else (found, torch.ones(len(found)))
            sums += float(losses.double().sum())
            counts += float(count.double().sum())
    return sums / counts


def direction_of(network: nn.Module) -> dict[str, Tensor]:
    parts = {name: torch.randn_like(p) for name, p in network.named_parameters()}
    norm = float(sum(float((part.double() ** 2).sum()) for part in parts.values())) ** 0.5
    return {name: part / norm for name, part in parts.items()}


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("case", CASES)
def test_lines_of_any_samples_agree_with_the_naive_loop(case: Any, mode: str) -> None:
    network, loss, inputs, targets = case()
    for module in network.modules():  # masks have a test of their own
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    network.train(mode == "train")
    direction = direction_of(network)
    plan = Plan() if case is shufflenet else None  # its trial takes long
    before = copy.deepcopy(network.state_dict())
    meter = LineMeter(
        network, loss, inputs, targets, chunk_size=CHUNK, mode=mode, plan=plan, interval=0.4, resolution=0.2
    )
    line = meter.measure(direction)
    assert line.status in ("ok", "edge")
    for position in (-0.4, 0.0, 0.4):
        expected = naive(network, loss, inputs, targets, direction, position)
        assert float(line.at([position])[0]) == pytest.approx(expected, abs=1e-5)
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in before.items())


@pytest.mark.parametrize(
    "plan", [None, Plan(), Plan(in_place=True), Plan(precision="float64", chunks_per_pass=2, reseed=False)]
)
def test_a_batch_has_its_own_line_at_the_same_positions(plan: Plan | None) -> None:
    network, loss, inputs, targets = two_by_name()
    options: dict[str, Any] = {"interval": 0.4, "resolution": 0.2, "plan": plan, "max_rings": 1}
    meter = LineMeter(network, loss, inputs, targets, chunk_size=CHUNK, **options)
    direction = direction_of(network)
    rows = slice(3, 9)
    batch = cut(inputs, rows), cut(targets, rows)
    line = meter.measure(direction, batch=batch)
    alone = LineMeter(network, loss, *batch, **options).measure(direction)
    assert line.batch is not None
    np.testing.assert_allclose(line.batch.losses, alone.losses, rtol=0, atol=1e-6)
    np.testing.assert_allclose(line.losses, meter.measure(direction).losses, rtol=0, atol=1e-6)
    network.zero_grad()
    loss(applied(network, batch[0]), batch[1]).mean().backward()
    step = meter.measure_step(torch.optim.SGD(network.parameters(), lr=0.01), batch=batch)
    assert step.batch is not None
    assert step.batch.slope is not None
    assert step.batch.slope.value < 0  # the step goes down on its own batch


def loader(**options: Any) -> DataLoader[Any]:
    left, _, targets = vectors()
    return DataLoader(TensorDataset(left, targets), batch_size=CHUNK, **options)


def test_a_loader_is_read_in_its_own_batches_and_draws_nothing() -> None:
    batches = loader(generator=torch.Generator().manual_seed(3))
    left, targets = (torch.cat([batch[index] for batch in batches]) for index in (0, 1))
    network = TwoInputs()
    direction = direction_of(network)
    options: dict[str, Any] = {"interval": 0.4, "resolution": 0.2, "plan": Plan()}
    state, own = torch.get_rng_state(), batches.generator.get_state()
    line = LineMeter(network, PER_SAMPLE, batches, **options).measure(direction)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(batches.generator.get_state(), own)
    joined = LineMeter(network, PER_SAMPLE, left, targets, chunk_size=CHUNK, **options).measure(direction)
    assert np.array_equal(line.losses, joined.losses)
    with_labels = [{"left": x, "labels": y} for x, y in batches]
    assert np.array_equal(
        LineMeter(network, PER_SAMPLE, with_labels_loader(with_labels), **options).measure(direction).losses,
        line.losses,
    )


class with_labels_loader:  # noqa: N801 - as short as a function
    def __init__(self, batches: list[Any]) -> None:
        self._batches = batches

    def __iter__(self) -> Any:
        return iter(self._batches)


def ragged() -> Any:
    return with_labels_loader([(torch.randn(4, 5), torch.zeros(4).long()), (torch.randn(4, 6), torch.zeros(4).long())])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (lambda: loader(shuffle=True), "same batches each time it is read, got another batch 0"),
        (lambda: iter(loader()), "can be read again"),
        (lambda: (batch for batch in loader()), "can be read again"),
        (lambda: with_labels_loader([]), "at least one sample"),
        (ragged, "Pad them to one length"),
        (
            lambda: with_labels_loader([(torch.randn(4, 5), torch.zeros(4)), (torch.randn(6, 5), torch.zeros(6))]),
            "one size",
        ),
        (lambda: with_labels_loader([torch.randn(4, 5)]), r"batches of \(inputs, targets\)"),
        (lambda: torch.randn(4, 5), "targets must be given"),
        (lambda: (torch.randn(4, 5), torch.zeros(4)), "targets must be given"),
    ],
)
def test_what_is_no_measuring_set_is_one_sentence(given: Callable[[], Any], words: str) -> None:
    with pytest.raises(SgdlineError, match=words):
        LineMeter(TwoInputs(), PER_SAMPLE, given())


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"left": torch.randn(N, 5), "right": torch.randn(N - 1, 3)}, "one length, one row per sample, got 22 and 21"),
        ({"left": torch.tensor(1.0)}, "got a single number"),
        ({"left": object()}, "without tensors"),
        ((torch.randn(N, 5), object()), "other objects"),
        ([], "without tensors"),
        ({"left": torch.randn(N - 1, 5)}, "same samples"),
        ({"middle": torch.randn(N, 5)}, "must take the inputs"),
    ],
)
def test_trees_that_are_no_samples_are_one_sentence(inputs: Any, words: str) -> None:
    with pytest.raises(SgdlineError, match=words):
        LineMeter(TwoInputs(), PER_SAMPLE, inputs, torch.zeros(N).long()).measure(direction_of(TwoInputs()))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_loss_under_autocast_is_that_of_a_pass_under_autocast(dtype: torch.dtype) -> None:
    network, loss, inputs, targets = two_in_order()
    meter = LineMeter(network, loss, inputs, targets, chunk_size=CHUNK, autocast=dtype, interval=0.4, resolution=0.2)
    line = meter.measure(direction_of(network))
    with torch.no_grad(), torch.autocast("cpu", dtype=dtype):
        chunks = [slice(first, first + CHUNK) for first in range(0, N, CHUNK)]
        outputs = [copy.deepcopy(network)(*cut(inputs, rows)) for rows in chunks]
        expected = torch.cat([loss(o.float(), targets[rows]) for o, rows in zip(outputs, chunks, strict=True)]).mean()
    exact = naive(network, loss, inputs, targets, direction_of(network), 0.0)
    assert line.loss == pytest.approx(float(expected), abs=1e-6)
    assert line.loss != pytest.approx(exact, abs=1e-6)  # a half is seen
    assert meter.report is not None
    assert meter.report.plan.precision == str(dtype).removeprefix("torch.")
    with pytest.raises(SgdlineError, match=r"bfloat16 or torch\.float16"):
        LineMeter(network, loss, inputs, targets, autocast=torch.float64)


def test_a_budget_leaves_lines_out_and_takes_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("sgdline.lines.time.perf_counter", lambda: now[0])
    network, loss, inputs, targets = two_in_order()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    meter = LineMeter(network, loss, inputs, targets, plan=Plan(), budget=0.5)
    along, ready = meter._along, meter._ready

    def slow(*arguments: Any, **options: Any) -> Any:
        now[0] += 2.0
        return along(*arguments, **options)

    def preparing(*arguments: Any) -> Any:
        now[0] += 0.0 if len(meter.log) else 8.0  # the first line chooses a plan
        return ready(*arguments)

    monkeypatch.setattr(meter, "_along", slow)
    monkeypatch.setattr(meter, "_ready", preparing)
    statuses, seconds = [], []
    for _ in range(60):
        now[0] += 1.0  # a training step
        optimizer.zero_grad()
        loss(network(*inputs), targets).mean().backward()
        before = network.left.weight.detach().clone()
        line = meter.measure_step(optimizer)
        assert not torch.equal(before, network.left.weight)
        statuses.append(line.status)
        seconds.append(line.seconds)
    measured = [step for step, status in enumerate(statuses) if status != "skipped"]
    # Spent and the next line stay below half of the training time: after 10 s from 24 s on, then every 4 s.
    assert measured[:3] == [0, 23, 27]
    assert set(np.diff(measured[1:])) == {4}
    assert [line.step for line in meter.log] == measured
    assert seconds[0] == 10.0
    spent = sum(line.seconds or 0.0 for line in meter.log)
    assert spent <= 0.5 * 60


# Each of two processes holds an unequal part of the measuring set, in chunks of 8.
PROCESS = """
import sys
from datetime import timedelta

import numpy as np
import torch
import torch.distributed as distributed
from torch import nn

from sgdline.errors import SgdlineError
from sgdline.lines import LineMeter, Plan

rank, store = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
distributed.init_process_group(
    "gloo", init_method=f"file://{store}", rank=rank, world_size=2, timeout=timedelta(seconds=60)
)
loss = nn.CrossEntropyLoss(reduction="none", ignore_index=2)
torch.manual_seed(0)
inputs, targets = torch.randn(40, 6), torch.randint(0, 3, (40,))
part = slice(0, 24) if rank == 0 else slice(24, 40)
network = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))
whole = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))
whole.load_state_dict(network.state_dict())
wrapped = nn.parallel.DistributedDataParallel(network)
options = {"chunk_size": 8, "plan": Plan()}
together = LineMeter(wrapped, loss, inputs[part], targets[part], group=distributed.group.WORLD, **options)
alone = LineMeter(whole, loss, inputs, targets, **options)
for network_, optimizer, meter in (
    (wrapped, torch.optim.SGD(wrapped.parameters(), lr=0.5), together),
    (whole, torch.optim.SGD(whole.parameters(), lr=0.5), alone),
):
    lines = []
    for update in range(3):
        network_.zero_grad()
        loss(network_(inputs[:16]), targets[:16]).mean().backward()
        lines.append(meter.measure_step(optimizer, batch=(inputs[:16][rank::2], targets[:16][rank::2]))
                     if meter is together else meter.measure_step(optimizer, batch=(inputs[:16], targets[:16])))
    for mine, other in zip(together.log, alone.log):
        assert np.array_equal(mine.positions, other.positions)
        assert np.abs(mine.losses - other.losses).max() < 1e-6
        assert np.abs(mine.batch.losses - other.batch.losses).max() < 1e-6
everyone = [None, None]
distributed.all_gather_object(everyone, [line.losses.tolist() for line in together.log])
assert everyone[0] == everyone[1]
# A fault of one process ends the line of all; so does another network.
broken = (lambda outputs, targets: loss(outputs, targets).mean()) if rank else loss
try:
    LineMeter(wrapped, broken, inputs[part], targets[part], group=distributed.group.WORLD, plan=Plan()).measure()
    raise AssertionError("no fault")
except SgdlineError as error:
    assert ("one value per sample" in str(error)) and (("rank 1" in str(error)) == (rank == 0)), error
with torch.no_grad():
    network[0].bias.grad.add_(rank)
try:
    together.measure()
    raise AssertionError("no fault")
except SgdlineError as error:
    assert "must measure the same step" in str(error), error
distributed.barrier()
distributed.destroy_process_group()
print("agreed")
"""


@pytest.mark.slow
def test_two_processes_measure_parts_of_a_set_and_agree(tmp_path: Path) -> None:
    run_two(PROCESS, tmp_path / "store", says="agreed", seconds=240)
    with pytest.raises(SgdlineError, match="process group"):
        LineMeter(TwoInputs(), PER_SAMPLE, *vectors()[::2], group="world")


def test_a_batch_in_which_nothing_counts_is_refused() -> None:
    torch.manual_seed(0)
    model, inputs, targets = nn.Linear(4, 3), torch.randn(16, 4), torch.arange(16) % 3
    loss = nn.CrossEntropyLoss(reduction="none", ignore_index=2)
    meter = LineMeter(model, loss, inputs, targets)
    loss(model(inputs), targets).mean().backward()
    for batch, words in (
        ((inputs[:0], targets[:0]), r"at least one sample, got none\."),
        ((inputs[:2], torch.full((2,), 2)), r"targets that count, got a sum of counts of 0\."),
    ):
        with pytest.raises(SgdlineError, match=words):
            meter.measure(batch=batch)


def test_a_flat_loss_of_tokens_is_refused_with_the_shape_that_it_should_have() -> None:
    inputs = torch.randint(0, 9, (16, 8))

    def flat(outputs: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(outputs.reshape(-1, 9), targets.reshape(-1), reduction="none")

    with pytest.raises(SgdlineError, match=r"got the shape \(128,\)\. Reshape it to \(16, 8\)"):
        LineMeter(nn.Embedding(9, 9), flat, inputs, inputs, interval=1.0).measure({"weight": torch.ones(9, 9)})
