"""Networks, losses and steps of real life: lines are right or refused, and networks come back as they were."""

from __future__ import annotations

import copy
import functools
import random
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from networks import LowRank
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import prune

from sgdline.engine.hessian import Chunk, FullBatchHessian
from sgdline.engine.plan import Plan, PlanReport
from sgdline.errors import SgdlineError
from sgdline.lines import LineMeter
from sgdline.models.parameters import ParameterVector

PER_SAMPLE = nn.CrossEntropyLoss(reduction="none")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def samples(count: int = 96) -> tuple[Tensor, Tensor]:
    draws = torch.Generator().manual_seed(1)
    return torch.randn(count, 16, generator=draws), torch.randint(0, 4, (count,), generator=draws)


def backward(network: nn.Module, loss: Callable[..., Tensor] = PER_SAMPLE) -> float:
    """Compute the full-batch gradient; return its norm."""
    inputs, targets = samples()
    network.zero_grad()
    loss(network(inputs), targets).mean().backward()
    return float(sum((p.grad.double() ** 2).sum() for p in network.parameters() if p.grad is not None)) ** 0.5


def meter(network: nn.Module, loss: Any = PER_SAMPLE, **options: Any) -> LineMeter:
    inputs, targets = samples()
    return LineMeter(network, loss, inputs, targets, **{"plan": Plan(), "interval": 0.5, **options})


def slope(line: Any) -> float:
    ahead, back = line.at([1e-3, -1e-3])
    return float(ahead - back) / 2e-3


# --- weights that are not where they seem -----------------------------------------------------------------------------


class Merging(nn.Module):
    """Its parent does the merging, into a plain tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.scale = nn.Linear(16, 4, bias=False), nn.Parameter(torch.tensor(1.5))
        self.ready: Tensor | None = None

    def train(self, mode: bool = True) -> Merging:
        self.ready = None if mode else (self.scale * self.first.weight).detach().clone()
        return super().train(mode)

    def forward(self, inputs: Tensor) -> Tensor:
        return functional.linear(inputs, self.scale * self.first.weight if self.ready is None else self.ready)


@pytest.mark.parametrize("plan", [Plan(), Plan(in_place=True), Plan(positions_per_pass=2, reseed=False), None])
@pytest.mark.parametrize(
    "build", [lambda: nn.Sequential(LowRank(16, 8), nn.ReLU(), nn.Linear(8, 4)), lambda: nn.Sequential(Merging())]
)
@pytest.mark.parametrize("eval_first", [False, True])
def test_merged_weights_follow_and_come_apart(build: Any, plan: Plan | None, eval_first: bool) -> None:
    network = build()
    norm = backward(network)
    network.train(not eval_first)
    before = copy.deepcopy(network.state_dict()), [module.training for module in network.modules()]
    line = meter(network, mode="eval", plan=plan).measure()
    assert slope(line) == pytest.approx(-norm, rel=5e-3)
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[0][name]), name
    assert [module.training for module in network.modules()] == before[1]


def test_old_and_new_norms_of_weights_stay() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        old = nn.Sequential(nn.utils.weight_norm(nn.Linear(16, 8)), nn.ReLU(), nn.Linear(8, 4))
    new = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(16, 8)), nn.ReLU(), nn.Linear(8, 4))
    pruned = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 4))
    prune.random_unstructured(pruned[0], "weight", amount=0.5)
    for network in (old, new, pruned):
        norm = backward(network)
        kept = network[0].weight.detach().clone()
        assert slope(meter(network).measure()) == pytest.approx(-norm, rel=2e-2)
        assert torch.equal(network[0].weight, kept)


class Straight(nn.Module):
    """Rounds its weights and passes the gradient straight through: a step smaller than a level changes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(16, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        weight = self.body.weight
        return functional.linear(inputs, weight + ((8 * weight).round() / 8 - weight).detach(), self.body.bias)


class Stopped(Straight):
    """Leaves a part of the gradient out; its losses are right."""

    def forward(self, inputs: Tensor) -> Tensor:
        outputs = self.body(inputs)
        return outputs - 0.3 * (outputs**2).detach()


def test_a_gradient_that_the_loss_does_not_follow_is_refused_or_allowed(caplog: pytest.LogCaptureFixture) -> None:
    network: nn.Module = Straight()
    backward(network)
    with pytest.raises(SgdlineError, match=r"no change along the gradient of 'body\.weight'"):
        meter(network).measure()
    assert np.isfinite(meter(network, check_slope=False).measure().losses).all()
    network = Stopped()
    backward(network)
    inputs, targets = samples()
    line = meter(network).measure()
    assert line.at([0.0])[0] == pytest.approx(PER_SAMPLE(network(inputs), targets).mean().item(), abs=1e-5)
    assert "gradients are stopped" in caplog.text


# --- networks that change between lines -------------------------------------------------------------------------------


class Tempered(nn.Module):
    """A number, a schedule, an array and a plain tensor in the forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.temperature, self.shift = nn.Linear(16, 4), 1.0, np.zeros(4, dtype=np.float32)
        self.options: dict[str, Any] = {"gain": torch.ones(4)}
        self.act: Callable[[Tensor], Tensor] = torch.relu
        self.drop = nn.Dropout(0.0)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs = self.drop(self.act(self.head(inputs))) / self.temperature
        return (outputs + torch.from_numpy(self.shift).to(outputs.dtype)) * self.options["gain"]


def _cool(network: Tempered) -> None:
    network.temperature = 0.25


def _shift(network: Tempered) -> None:
    network.shift[:] = [1, 2, 3, 4]


def _gain(network: Tempered) -> None:
    network.options["gain"] = torch.tensor([1.0, 2.0, 0.5, 3.0])


def _activation(network: Tempered) -> None:
    network.act = torch.tanh


def _layer(network: Tempered) -> None:
    network.drop = nn.Sequential(nn.Softplus())  # type: ignore[assignment]


@pytest.mark.parametrize("change", [_cool, _shift, _gain, _activation, _layer])
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_what_changes_outside_of_parameters_is_followed(change: Callable[[Any], None], precision: str) -> None:
    network = Tempered()
    own = meter(network, plan=Plan(precision=precision))
    backward(network)
    own.measure()
    change(network)
    backward(network)
    inputs, targets = samples()
    with torch.no_grad():
        expected = PER_SAMPLE(network(inputs), targets).mean().item()
    assert own.measure().at([0.0])[0] == pytest.approx(expected, abs=1e-5)


# --- state that a forward pass moves ----------------------------------------------------------------------------------


class Stateful(nn.Module):
    """Everything that a forward pass can move besides buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(16, 4)
        self.mean = torch.zeros(4)
        self.calls, self.history = 0, [0.0]
        self.draws = torch.Generator().manual_seed(3)
        self.arrays, self.plain = np.random.default_rng(3), random.Random(3)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs = self.head(inputs)
        self.mean = 0.9 * self.mean + 0.1 * outputs.detach().mean(0)
        self.calls += 1
        self.history.append(float(self.calls))
        noise = torch.randn(4, generator=self.draws) + float(self.arrays.normal()) + self.plain.gauss(0, 1)
        return outputs - self.mean + 0.1 * noise + 0.01 * self.calls


def state_of(network: Stateful) -> list[Any]:
    return [
        network.mean.clone(),
        torch.tensor(network.calls),
        torch.tensor(network.history),
        network.draws.get_state(),
        torch.tensor(network.arrays.bit_generator.state["state"]["state"] % 2**62),
        torch.tensor(network.plain.getstate()[1]),
        *(parameter.detach().clone() for parameter in network.parameters()),
    ]


@pytest.mark.parametrize("plan", [Plan(), Plan(in_place=True), None])
def test_state_outside_of_buffers_stays(plan: Plan | None) -> None:
    network = Stateful()
    backward(network)
    before, libraries = state_of(network), (torch.get_rng_state(), random.getstate(), np.random.get_state()[2])  # noqa: NPY002
    line = meter(network, plan=plan, chunk_size=32).measure()
    assert all(torch.equal(new, old) for new, old in zip(state_of(network), before, strict=True))
    assert torch.equal(torch.get_rng_state(), libraries[0])
    assert (random.getstate(), np.random.get_state()[2]) == libraries[1:]  # noqa: NPY002
    # Every pass finds the state that the network has: the loss at 0 is that of a copy, chunk by chunk.
    inputs, targets = samples()
    with torch.no_grad():
        parts = [
            PER_SAMPLE(copy.deepcopy(network)(x), y) for x, y in zip(inputs.split(32), targets.split(32), strict=True)
        ]
    assert line.at([0.0])[0] == pytest.approx(float(torch.cat(parts).mean()), abs=1e-5)


def test_draws_from_global_generators_are_the_same_all_along_a_line() -> None:
    class Chancy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(16, 4)

        def forward(self, inputs: Tensor) -> Tensor:
            return self.head(inputs) * (1 + random.random() + np.random.rand())  # noqa: NPY002

    network = Chancy()
    backward(network)
    state = random.getstate()
    line = meter(network).measure()
    assert line.status == "ok"
    assert line.error is not None
    assert line.error < 1e-3
    assert random.getstate() == state


def test_recording_hooks_are_silent_and_changing_hooks_are_kept(caplog: pytest.LogCaptureFixture) -> None:
    recorded, network = [], nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 4))
    network[0].register_forward_hook(lambda *_: recorded.append(1))
    backward(network)
    recorded.clear()
    own = meter(network, plan=None)
    own.measure()
    own.measure()
    assert len(recorded) <= 1
    network[1].register_forward_hook(lambda _, __, outputs: 2 * outputs)
    norm = backward(network)
    changed = meter(network, plan=None)
    assert slope(changed.measure()) == pytest.approx(-norm, rel=1e-2)
    assert changed.report is not None
    assert changed.report.plan.hooks
    assert "hooks change what it computes" in caplog.text


def test_a_copy_that_holds_on_to_the_original_is_noticed() -> None:
    class Closing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(16, 4)
            self.function = lambda inputs: self.head(inputs)

        def forward(self, inputs: Tensor) -> Tensor:
            return self.function(inputs)

    network = Closing()
    norm = backward(network)
    own = meter(network, plan=None)
    assert slope(own.measure()) == pytest.approx(-norm, rel=1e-2)
    assert own.report is not None
    assert own.report.plan.in_place


# --- losses -----------------------------------------------------------------------------------------------------------


class Weighted(nn.Module):
    """A loss with a float32 tensor inside a list of a nested module."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Module()
        self.inner.scales = [torch.full((4,), 2.0)]

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.nll_loss(functional.log_softmax(outputs, 1), targets, self.inner.scales[0], reduction="none")


def test_tensors_of_a_loss_do_not_switch_float64_off(caplog: pytest.LogCaptureFixture) -> None:
    network = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 4))
    backward(network)
    fine: dict[str, Any] = {"plan": None, "interval": 1e-5, "tolerance": 1e-9}
    exact = meter(network, **fine).measure().parabola.curvature
    ones = torch.full((4,), 2.0)
    for loss, factor in (
        (nn.CrossEntropyLoss(weight=ones, reduction="none"), 1.0),  # torch's mean divides by the weights
        (functools.partial(functional.cross_entropy, weight=ones, reduction="none"), 2.0),
        (Weighted(), 2.0),
    ):
        assert meter(network, loss, **fine).measure().parabola.curvature == pytest.approx(factor * exact, rel=1e-3)
    closed = lambda outputs, targets: functional.cross_entropy(outputs, targets, weight=ones, reduction="none")  # noqa: E731
    caplog.clear()
    meter(network, closed, plan=None).measure()
    assert "no comparison with float64" in caplog.text


def _contrastive(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(outputs @ outputs.T, torch.arange(len(outputs)), reduction="none")


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (lambda outputs, targets: (outputs[:, :1] - targets.float()) ** 2, "must be a loss per sample"),
        (_contrastive, "must be a loss per sample"),
        (lambda outputs, targets: PER_SAMPLE(outputs, targets) / targets.float().sum(), "must be a loss per sample"),
        (lambda outputs, targets: PER_SAMPLE(outputs, targets).long(), "real floating-point"),
        (lambda outputs, targets: PER_SAMPLE(outputs, targets).tolist(), "must return a tensor"),
        (lambda outputs, targets: torch.empty(len(targets), 0), "must return one value per sample"),
        (lambda outputs, targets: (PER_SAMPLE(outputs, targets), 1.0), r"got \(Tensor, float\)"),
        (lambda outputs, targets: (PER_SAMPLE(outputs, targets),), "a tuple of 1"),
        (lambda outputs, targets: (PER_SAMPLE(outputs, targets), targets, targets), "a tuple of 3"),
        (lambda outputs, targets: (PER_SAMPLE(outputs, targets), targets * 1j), "counts of the dtype"),
        (lambda outputs, targets: (PER_SAMPLE(outputs, targets), targets - 2), "counts below 0"),
        (lambda outputs, targets: (outputs, targets), "sums of the shape"),
    ],
)
def test_losses_that_are_none_per_sample_are_refused(loss: Any, words: str) -> None:
    network = nn.Linear(16, 4)
    backward(network)
    with pytest.raises(SgdlineError, match=words):
        meter(network, loss).measure()


class Counting(nn.Module):
    """A loss that grows with every call and keeps an average of what it has seen."""

    average: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("average", torch.zeros(4))
        self.calls = 0

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        self.calls += 1
        self.average.mul_(0.9).add_(outputs.detach().mean(0), alpha=0.1)
        return PER_SAMPLE(outputs, targets) * self.calls


def _nested(kept: Counting, outputs: Tensor, targets: Tensor) -> Tensor:
    found: Tensor = kept(outputs, targets)
    return found


def _closed(kept: Counting) -> Callable[..., Tensor]:
    calls = 1

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        kept(outputs, targets)
        return PER_SAMPLE(outputs, targets) * calls

    return loss


_calls, _kept = 1, Counting()


def _global(kept: Counting) -> Callable[..., Tensor]:
    """Return a loss whose state lies in variables of its module, as in a script."""
    global _calls, _kept
    _calls, _kept = 1, kept
    return _counting


def _counting(outputs: Tensor, targets: Tensor) -> Tensor:
    global _calls
    _calls += 1
    _kept(outputs, targets)
    return PER_SAMPLE(outputs, targets) * _calls


@pytest.mark.parametrize(
    ("build", "plan"),
    [
        (_global, Plan()),
        (lambda kept: kept, Plan()),
        (lambda kept: kept, Plan(in_place=True)),
        (lambda kept: kept.forward, Plan(precision="float64")),
        (lambda kept: functools.partial(_nested, kept), None),
        (_closed, None),
        (lambda kept: lambda outputs, targets: (kept(outputs, targets), torch.ones(len(targets))), Plan()),
    ],
)
def test_a_loss_with_state_starts_from_the_same_one_every_time(build: Any, plan: Plan | None) -> None:
    network, kept = nn.Linear(16, 4), Counting()
    norm = backward(network)
    kept(torch.ones(8, 4), torch.zeros(8, dtype=torch.long))
    average = kept.average.clone()
    inputs, targets = samples()
    own = meter(network, build(kept), plan=plan, chunk_size=32)
    for _ in range(2):
        line = own.measure()
        assert line.at([0.0])[0] == pytest.approx(2 * PER_SAMPLE(network(inputs), targets).mean().item(), abs=1e-5)
        assert slope(line) == pytest.approx(-2 * norm, rel=1e-2)
    assert kept.calls == 1
    assert torch.equal(kept.average, average)


@pytest.mark.parametrize("plan", [Plan(), Plan(precision="float64")])
@pytest.mark.parametrize("share", [1e-5, 0.3])
def test_a_loss_may_draw_random_numbers(share: float, plan: Plan) -> None:
    network = nn.Linear(16, 4)
    norm = backward(network)
    before = torch.get_rng_state(), random.getstate()
    noisy = lambda outputs, targets: PER_SAMPLE(outputs + share * torch.randn_like(outputs), targets)  # noqa: E731
    line = meter(network, noisy, plan=plan).measure()
    assert slope(line) == pytest.approx(-norm, rel=10 * share + 1e-2)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == random.getstate()


class Shaped(nn.Module):
    """Outputs whose samples are not first, or that are as long as a chunk by chance."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.head, self.codes, self.kind = nn.Linear(4, 4), nn.Parameter(torch.randn(16, 4)), kind

    def forward(self, inputs: Tensor) -> Any:
        steps = self.head(inputs.view(-1, 4, 4))
        if self.kind == "codes":
            return {"of": steps.mean(1), "codes": self.codes}
        if self.kind == "joined":
            return steps.flatten(0, 1)
        return steps.repeat(1, 4, 1).transpose(0, 1) if self.kind == "square" else steps.transpose(0, 1)


SHAPED: dict[str, Callable[..., Tensor]] = {
    "codes": lambda outputs, targets: torch.cdist(outputs["of"], outputs["codes"]).min(1).values,
    "joined": lambda outputs, targets: PER_SAMPLE(outputs, targets.repeat_interleave(4)).view(len(targets), -1),
    "square": lambda outputs, targets: PER_SAMPLE(outputs.permute(1, 2, 0), targets[:, None].expand(-1, len(outputs))),
    # As one writes it: every sample has all the steps.
    "time_first": lambda outputs, targets: functional.ctc_loss(
        outputs.log_softmax(-1),
        1 + targets[:, None] % 3,
        torch.full((outputs.shape[1],), outputs.shape[0]),
        torch.ones(len(targets), dtype=torch.long),
        reduction="none",
    ),
}


@pytest.mark.parametrize("kind", sorted(SHAPED))
def test_samples_need_not_come_first_in_outputs(kind: str) -> None:
    network = Shaped(kind)
    norm = backward(network, SHAPED[kind])
    for size in (16, 24):
        line = meter(network, SHAPED[kind], chunk_size=size).measure()
        assert slope(line) == pytest.approx(-norm, rel=1e-2)
    mixing = lambda outputs, targets: SHAPED[kind](outputs, targets) / targets.float().sum()  # noqa: E731
    with pytest.raises(SgdlineError, match="must be a loss per sample"):
        meter(network, mixing, chunk_size=16).measure()


class Several(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.head, self.kind = nn.Linear(16, 4), kind

    def forward(self, inputs: Tensor) -> Any:
        outputs = self.head(inputs)
        return {"tuple": (outputs, outputs.tanh()), "dict": {"logits": outputs, "scale": outputs.mean()}}[self.kind]


@pytest.mark.parametrize(("kind", "key"), [("tuple", 0), ("dict", "logits")])
@pytest.mark.parametrize("plan", [Plan(), Plan(positions_per_pass=2, reseed=False), None])
def test_outputs_may_be_trees_of_tensors(kind: str, key: Any, plan: Plan | None) -> None:
    network, inputs, targets = Several(kind), *samples()

    def loss(outputs: Any, wanted: Tensor) -> Tensor:
        return ((outputs[key] - functional.one_hot(wanted, 4)) ** 2).mean(1)

    loss(network(inputs), targets).mean().backward()
    expected = loss(network(inputs), targets).mean().item()
    assert meter(network, loss, mode="eval", plan=plan).measure().at([0.0])[0] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
def test_padding_and_class_weights_give_torchs_mean(smoothing: float, weighted: bool) -> None:
    inputs, _ = samples(50)
    targets = torch.randint(0, 5, (50, 3))
    targets[::3, 1:] = -100
    network = nn.Sequential(nn.Linear(16, 15), nn.Unflatten(1, (5, 3)))
    options = {"weight": torch.rand(5) + 0.1 if weighted else None, "label_smoothing": smoothing}
    expected = nn.CrossEntropyLoss(**options)(network(inputs), targets)  # type: ignore[arg-type]
    expected.backward()
    loss = nn.CrossEntropyLoss(**options, reduction="none")  # type: ignore[arg-type]

    def pairs(outputs: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        kept = (wanted != -100).double()
        each = kept if options["weight"] is None else kept * options["weight"][wanted.clamp(min=0)]  # type: ignore[index]
        return loss(outputs, wanted).sum(1), each.sum(1)

    for given in (loss, pairs):
        line = LineMeter(network, given, inputs, targets, chunk_size=16, plan=Plan(), interval=0.1).measure()
        assert line.at([0.0])[0] == pytest.approx(expected.item(), abs=1e-5)


def test_weights_of_samples() -> None:
    network, inputs, targets = nn.Linear(16, 4), *samples()
    weights = torch.rand(len(targets))
    backward(network)
    with torch.no_grad():
        expected = float((weights * PER_SAMPLE(network(inputs), targets)).sum() / weights.sum())
    assert meter(network, weights=weights, chunk_size=20).measure().at([0.0])[0] == pytest.approx(expected, abs=1e-6)


def test_products_for_token_targets_are_those_of_the_dense_hessian() -> None:
    inputs = torch.randn(7, 3, dtype=torch.float64)
    targets = torch.randint(0, 2, (7, 5))
    network = nn.Sequential(nn.Linear(3, 10), nn.Unflatten(1, (2, 5))).double()
    PER_SAMPLE(network(inputs), targets).mean().backward()
    gradients = [parameter.grad.clone() for parameter in network.parameters() if parameter.grad is not None]

    def mean(weight: Tensor, bias: Tensor) -> Tensor:
        outputs = functional.linear(inputs, weight, bias).unflatten(1, (2, 5))
        return functional.cross_entropy(outputs, targets)

    blocks = torch.autograd.functional.hessian(mean, (network[0].weight.detach(), network[0].bias.detach()))
    dense = torch.cat([torch.cat([b.reshape(a, -1) for b in row], 1) for a, row in zip((30, 10), blocks, strict=True)])
    vector = ParameterVector(network)
    for parameter, gradient in zip(network.parameters(), gradients, strict=True):
        parameter.grad = gradient
    chunks = [Chunk(inputs[:4], targets[:4], 0), Chunk(inputs[4:], targets[4:], 1)]
    hessian = FullBatchHessian(network, vector, chunks, train_mode=True)
    direction = torch.randn(vector.size, dtype=torch.float64)
    with hessian.opened():
        loss, product = hessian.loss_and_product(direction)
    assert loss == pytest.approx(mean(network[0].weight, network[0].bias).item(), rel=1e-12)
    torch.testing.assert_close(product, dense @ direction, rtol=1e-9, atol=1e-12)
    assert all(p.grad is g for p, g in zip(network.parameters(), gradients, strict=True))


# --- steps ------------------------------------------------------------------------------------------------------------


class SharpnessAware(torch.optim.Optimizer):
    """A step in two halves."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, {"rho": 0.5})
        self.base = torch.optim.SGD(self.param_groups, lr=0.1)

    @torch.no_grad()
    def first_step(self) -> None:
        for parameter in self.param_groups[0]["params"]:
            self.state[parameter]["moved"] = parameter.grad * self.param_groups[0]["rho"]
            parameter.add_(self.state[parameter]["moved"])

    @torch.no_grad()
    def second_step(self) -> None:
        for parameter in self.param_groups[0]["params"]:
            parameter.sub_(self.state[parameter]["moved"])
        self.base.step()

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        self.second_step()


def test_a_step_in_two_halves_is_measured_from_where_it_started() -> None:
    network, (inputs, targets) = nn.Linear(16, 4), samples()
    optimizer, own = SharpnessAware(network.parameters()), meter(network)
    backward(network)
    expected = PER_SAMPLE(network(inputs), targets).mean().item()
    with own.step() as step:
        optimizer.first_step()
        backward(network)
        optimizer.second_step()
    assert step.line.at([0.0])[0] == pytest.approx(expected, abs=1e-5)
    assert step.line.step_loss == pytest.approx(PER_SAMPLE(network(inputs), targets).mean().item(), abs=1e-5)
    with pytest.raises(SgdlineError, match="in two halves"):
        own.measure_step(optimizer)
    with own.step() as unfinished, pytest.raises(SgdlineError, match="after the"):
        _ = unfinished.line


class Steps:
    """Ways to take a step; each is measured by a meter, or not."""

    @staticmethod
    def adamw(network: nn.Module, losses: Callable[[], Tensor], own: LineMeter | None) -> Callable[[], object]:
        optimizer = torch.optim.AdamW(network.parameters(), lr=0.01)

        def step() -> None:
            for _ in range(2):  # gradients add up
                (losses() / 2).backward()
            optimizer.step() if own is None else own.measure_step(optimizer)
            optimizer.zero_grad()

        return step

    @staticmethod
    def sharpness_aware(network: nn.Module, losses: Callable[[], Tensor], own: Any) -> Callable[[], object]:
        optimizer = SharpnessAware(network.parameters())

        def step() -> None:
            losses().backward()
            with nullcontext() if own is None else own.step(optimizer):
                optimizer.first_step()
                optimizer.zero_grad()
                losses().backward()
                optimizer.second_step()
            optimizer.zero_grad()

        return step

    @staticmethod
    def lbfgs(network: nn.Module, losses: Callable[[], Tensor], own: Any) -> Callable[[], object]:
        optimizer = torch.optim.LBFGS(network.parameters(), lr=0.1, max_iter=3)

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = losses()
            loss.backward()
            return loss

        return lambda: optimizer.step(closure) if own is None else own.measure_step(optimizer, closure)

    @staticmethod
    def scaled(network: nn.Module, losses: Callable[[], Tensor], own: Any) -> Callable[[], object]:
        first = torch.optim.SGD(list(network.parameters())[:2], lr=0.1)
        second = torch.optim.Adam(list(network.parameters())[2:], lr=0.01)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)

        def step() -> None:
            scaler.scale(losses()).backward()
            with nullcontext() if own is None else own.step(first, second):
                scaler.step(first)
                scaler.step(second)
                scaler.update()
            network.zero_grad()

        return step


@pytest.mark.parametrize("way", ["adamw", "sharpness_aware", "lbfgs", "scaled"])
def test_a_training_with_a_meter_is_bit_for_bit_that_without(way: str) -> None:
    inputs, targets = samples()
    finals = []
    for measured in (False, True):
        torch.manual_seed(1)
        network = nn.Sequential(nn.Linear(16, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 4))
        own = LineMeter(network, PER_SAMPLE, inputs, targets, chunk_size=32) if measured else None
        step = getattr(Steps, way)(network, lambda net=network: PER_SAMPLE(net(inputs[:32]), targets[:32]).mean(), own)
        for _ in range(4):
            step()
        if own is not None:
            assert [line.step for line in own.log] == [0, 1, 2, 3]
            assert all(line.evaluations > 0 for line in own.log)
            assert own.log[0].step_learning_rate == {"adamw": 0.01, "sharpness_aware": 0.1}.get(way)
        finals.append(network.state_dict())
    assert all(torch.equal(value, finals[1][key]) for key, value in finals[0].items())


def test_scaled_gradients_are_noticed_and_measured_in_a_block() -> None:
    network, (inputs, targets) = nn.Linear(16, 4), samples()
    optimizer, scaler = torch.optim.SGD(network.parameters(), lr=0.1), torch.amp.GradScaler("cpu")
    scaler.scale(PER_SAMPLE(network(inputs), targets).mean()).backward()
    start = copy.deepcopy(network.state_dict())
    with pytest.raises(SgdlineError, match=r"meter\.step\(\)"):
        meter(network).measure_step(optimizer)
    assert all(torch.equal(value, start[name]) for name, value in network.state_dict().items())
    own = meter(network)
    with own.step() as step:
        scaler.step(optimizer)
        scaler.update()
    assert step.line.step_length == pytest.approx(0.1 * backward(copy_of(network, start)), rel=1e-4)
    scaler.scale(PER_SAMPLE(network(inputs), targets).mean() * float("inf")).backward()
    with own.step() as skipped:
        scaler.step(optimizer)
        scaler.update()
    assert skipped.line.status == "zero_direction"


@pytest.mark.parametrize("error", [0.0, 1e-9])
def test_gradients_are_not_scaled_where_the_network_fits_the_measured_samples(error: float) -> None:
    network, (inputs, _) = nn.Linear(16, 1), samples()
    network, inputs, squares = network.double(), inputs.double(), nn.MSELoss(reduction="none")
    targets = network(inputs).detach() + error
    for scale in (1.0, 65536.0):
        network.zero_grad()
        (scale * squares(network(inputs), targets + torch.linspace(0, 0.3, len(inputs))[:, None]).mean()).backward()
        own = LineMeter(network, squares, inputs, targets, chunk_size=48, plan=Plan())
        optimizer = torch.optim.SGD(network.parameters(), lr=1e-3)
        if scale == 1.0:
            assert own.measure_step(optimizer).status in ("ok", "edge")
        else:
            with pytest.raises(SgdlineError, match="got scaled ones"):
                own.measure_step(optimizer)


def test_a_parameter_that_is_frozen_within_a_step_is_refused() -> None:
    network = nn.Linear(16, 4)
    with pytest.raises(SgdlineError, match="got a frozen one: 'bias'"), meter(network).step():
        network.bias.requires_grad_(False)


def copy_of(network: nn.Module, state: dict[str, Tensor]) -> nn.Module:
    found = copy.deepcopy(network)
    found.load_state_dict(state)
    return found


def test_optimizers_that_do_not_fit_and_those_with_a_closure() -> None:
    network, (inputs, targets) = nn.Linear(16, 4), samples()
    backward(network)
    own = meter(network)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for wrong, words in (
        (torch.optim.SGD(nn.Linear(16, 4).parameters(), lr=0.1), "another network"),
        (torch.optim.lr_scheduler.StepLR(optimizer, 1), "got StepLR"),
        (torch.optim.LBFGS(network.parameters()), "needs a closure"),
    ):
        with pytest.raises(SgdlineError, match=words):
            own.measure_step(wrong)  # type: ignore[arg-type]
        if "closure" not in words:
            with pytest.raises(SgdlineError, match=words), own.step(wrong):  # type: ignore[arg-type]
                pass

    def closure() -> Tensor:
        network.zero_grad()
        loss = PER_SAMPLE(network(inputs), targets).mean()
        loss.backward()
        return loss

    expected = closure().item()
    line = own.measure_step(torch.optim.LBFGS(network.parameters(), max_iter=3), closure)
    assert line.at([0.0])[0] == pytest.approx(expected, abs=1e-5)
    assert line.step_loss is not None
    assert line.step_loss < expected


def test_a_minimum_at_the_edge_is_none_and_auto_finds_it() -> None:
    network, (inputs, _) = nn.Linear(16, 1), samples()
    wanted, loss = 2 * inputs[:, :1], nn.MSELoss(reduction="none")
    loss(network(inputs), wanted).mean().backward()
    short = LineMeter(network, loss, inputs, wanted, plan=Plan(), interval=0.05, max_rings=1).measure()
    assert short.status == "edge"
    assert np.isnan(short.minimum_position)
    found = LineMeter(network, loss, inputs, wanted, plan=Plan()).measure()
    assert found.minimum_position == pytest.approx(found.parabola.vertex, abs=1e-2)


def test_wrapped_networks_are_measured_inside() -> None:
    network = nn.Linear(16, 4)
    norm = backward(network)
    wrapped = nn.DataParallel(network)
    assert slope(meter(wrapped).measure()) == pytest.approx(-norm, rel=1e-3)
    direction = {f"module.{name}": -p.grad for name, p in network.named_parameters() if p.grad is not None}
    assert slope(meter(wrapped).measure(direction)) == pytest.approx(-norm, rel=1e-3)


# --- what changes after the first line, and plans that do not fit ----------------------------------------------------

SHORT = {"chunk_size": 16, "interval": 0.4, "resolution": 0.2, "max_rings": 1, "plan": None}


class Centred(nn.Module):
    """Mixes the samples of a pass, once it is switched on."""

    on = False

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs - inputs.mean(0) if self.on else inputs


class OwnNorm(nn.BatchNorm1d):
    """No layer that is known to be normalised chunk by chunk."""


def around(layer: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(16, 8), layer, nn.ReLU(), nn.Linear(8, 4))


@pytest.mark.parametrize(
    ("layer", "change"),
    [
        (nn.Dropout(0.0), lambda layer: setattr(layer, "p", 0.5)),
        (Centred(), lambda layer: setattr(layer, "on", True)),
        (OwnNorm(8).eval(), lambda layer: layer.train()),
    ],
    ids=["dropout", "mixing", "norm"],
)
def test_what_is_switched_on_after_the_first_line_is_planned_for(
    layer: nn.Module, change: Callable[[nn.Module], None]
) -> None:
    network = around(layer)
    backward(network)
    lines = meter(network, **SHORT)
    lines.measure()
    change(layer)
    assert np.array_equal(lines.measure().losses, meter(network, **SHORT).measure().losses)


class Moody(nn.Module):
    """Draws for samples of one kind only."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(16, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        noisy = inputs[:, 0] > 1.0
        if noisy.any():
            inputs = inputs.clone()
            inputs[noisy] += torch.randn_like(inputs[noisy])
        return self.head(inputs)


@pytest.mark.parametrize("together", [{}, {"positions_per_pass": 4}, {"chunks_per_pass": 2}])
def test_draws_that_the_first_samples_do_not_show_are_seeded(
    together: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def chosen(subject: Any, wishes: Any, work: Any) -> PlanReport:
        """Choose as a trial does that has not seen the draws, whatever its timings."""
        alone = wishes.pinned.chunks_per_pass == 1
        return PlanReport(
            Plan(reseed=bool(wishes.pinned.reseed), **({} if alone or wishes.pinned.reseed else together))
        )

    monkeypatch.setattr("sgdline.lines.choose_plan", chosen)
    network = Moody()
    inputs, targets = samples()
    inputs[:16, 0] = 0.0
    PER_SAMPLE(network(inputs), targets).mean().backward()
    lines = LineMeter(network, PER_SAMPLE, inputs, targets, **SHORT)
    line = lines.measure()
    assert lines.report is not None
    assert lines.report.plan.reseed
    plain = LineMeter(network, PER_SAMPLE, inputs, targets, **{**SHORT, "plan": Plan()}).measure()
    np.testing.assert_allclose(line.losses, plain.losses, rtol=1e-6)


class Singleton(nn.Module):
    """A backbone that copies share."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(16, 8)

    def __deepcopy__(self, memo: Any) -> Singleton:
        return self

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layer(inputs)


@pytest.mark.parametrize("plan", [None, Plan(), Plan(precision="float64")])
def test_a_network_that_copies_share_stays_as_it_is(plan: Plan | None) -> None:
    network = around(Singleton())
    network[0] = nn.Identity()
    norm = backward(network)
    weight = network[1].layer.weight
    before = weight.detach().clone()
    lines = meter(network, plan=plan)
    if plan is None:
        assert slope(lines.measure()) == pytest.approx(-norm, rel=2e-2)
    else:
        with pytest.raises(SgdlineError, match=r"shares modules or tensors.*plan=Plan\(in_place=True\)"):
            lines.measure()
    assert weight.requires_grad
    assert weight.grad is not None
    assert torch.equal(weight, before)  # its precision too


class RootMeanSquare(nn.Module):
    """In float32 whatever comes in, as language models have it."""

    def forward(self, inputs: Tensor) -> Tensor:
        wide = inputs.float()
        return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6)).type_as(inputs)


class Half(nn.Module):
    """Opens an autocast of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = around(nn.Identity())

    def forward(self, inputs: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.inner(inputs).float()


@pytest.mark.parametrize("plan", [None, Plan()])
@pytest.mark.parametrize("kind", ["loss", "norm", "autocast"])
def test_precision_of_a_networks_own_is_no_fault(
    kind: str, plan: Plan | None, caplog: pytest.LogCaptureFixture
) -> None:
    network = {"loss": around(nn.Identity()), "norm": around(RootMeanSquare()), "autocast": Half()}[kind]
    wide = functools.partial(functional.cross_entropy, reduction="none")
    loss: Any = (lambda outputs, targets: wide(outputs.float(), targets)) if kind == "loss" else PER_SAMPLE
    norm = backward(network, loss)
    inputs, targets = samples()
    line = LineMeter(network, loss, inputs, targets, plan=plan, interval=0.5).measure()
    ahead, back = line.at([0.1, -0.1])  # half precision is not smooth
    assert (ahead - back) / 0.2 == pytest.approx(-norm, rel=5e-2)
    assert "some gradients are stopped" not in caplog.text


class Rigid(nn.Module):
    """Knows no other precision than float32."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(8, 8)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.inner(inputs.float())


@pytest.mark.parametrize(
    ("layer", "plan", "words"),
    [
        (nn.Dropout(0.5), Plan(reseed=False), "needs a network and a loss that draw no random numbers"),
        (nn.Dropout(0.5), Plan(reseed=False, chunks_per_pass=3), "draw no random numbers"),
        (OwnNorm(8), Plan(reseed=False, chunks_per_pass=3), "must compute what the network computes chunk by chunk"),
        (Rigid(), Plan(precision="float64"), r"must allow the plan in use, got: .*\. Leave plan out"),
        (
            nn.LSTM(8, 8),
            Plan(reseed=False, positions_per_pass=2),
            r"must allow the plan in use, got: .*\. Leave plan out",
        ),
    ],
)
def test_a_pinned_plan_that_measures_something_else_is_refused(layer: nn.Module, plan: Plan, words: str) -> None:
    class First(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, inputs: Tensor) -> Tensor:
            found = self.layer(inputs)
            return found[0] if isinstance(found, tuple) else found

    network = around(First())
    backward(network)
    with pytest.raises(SgdlineError, match=words):
        meter(network, **{**SHORT, "plan": plan}).measure()
