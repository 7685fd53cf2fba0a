"""Networks that keep state outside of parameters and buffers: right lines, nothing left changed, nothing stale.

The oracle is a naive float64 loop over freshly built networks: nothing is copied, nothing is shared with the engine.
"""

from __future__ import annotations

import random
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as functional
from networks import LowRank, cross_entropy, unit_direction
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune
from torch.nn.utils import spectral_norm as old_spectral_norm

from sgdline.engine.plan import Plan
from sgdline.errors import SgdlineError
from sgdline.lines import LineMeter, MeasuredLine
from sgdline.models.state import NetworkState

Make = Callable[[], nn.Module]
CHUNK = 16
POSITIONS = 0.2
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*torch.jit.* is deprecated"),
    pytest.mark.filterwarnings("ignore:Sparse CS. tensor support is in beta"),
]


def samples(count: int = 40) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 12, generator=generator), torch.randint(0, 5, (count,), generator=generator)


INPUTS, TARGETS = samples()


class MergesForItsChild(nn.Module):
    """The parent folds a scale into its layer when it goes to eval mode; the layer knows nothing of it."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((5, 1), 1.5))
        self.layer = nn.Linear(12, 5)
        self.folded = False

    def train(self, mode: bool = True) -> MergesForItsChild:
        super().train(mode)
        if not mode and not self.folded:
            self.layer.weight.data *= self.scale.data
        elif mode and self.folded:
            self.layer.weight.data /= self.scale.data
        self.folded = not mode
        return self

    def forward(self, inputs: Tensor) -> Tensor:
        weight = self.layer.weight if self.folded else self.scale * self.layer.weight
        return functional.linear(inputs, weight, self.layer.bias)


class CachesInEval(nn.Module):
    """Keeps a product of its parameters in a plain attribute when it goes to eval mode."""

    cached: Tensor | None

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(12, 4, bias=False), nn.Linear(4, 5, bias=False)
        self.cached = None

    def train(self, mode: bool = True) -> CachesInEval:
        super().train(mode)
        self.cached = None if mode else (self.second.weight @ self.first.weight).detach()
        return self

    def forward(self, inputs: Tensor) -> Tensor:
        product = self.second.weight @ self.first.weight if self.cached is None else self.cached
        return functional.linear(inputs, product)


class Squared(nn.Module):
    """A parametrization that is nobody's but the user's."""

    def forward(self, weight: Tensor) -> Tensor:
        return weight.sign() * weight.square()


class RunningMean(nn.Module):
    """A running mean in a plain tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(12, 5)
        self.mean = torch.zeros(5)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.layer(inputs)
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * hidden.detach().mean(0)
        return hidden - self.mean


class OwnGenerators(nn.Module):
    """Draws from generators that belong to it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(12, 5)
        self.of_numpy, self.of_python = np.random.default_rng(3), random.Random(4)
        self.of_torch = torch.Generator().manual_seed(5)
        self.legacy = np.random.RandomState(6)

    def forward(self, inputs: Tensor) -> Tensor:
        drawn = self.of_numpy.random() + self.of_python.random() + self.legacy.rand()
        return self.layer(inputs) * (1 + drawn + float(torch.rand((), generator=self.of_torch)))


class Grows(nn.Module):
    """A list, a deque and a set that grow with each forward pass, and a counter that changes it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(12, 5)
        self.passes, self.sizes, self.recent = 0, [1.0], deque([0.5], maxlen=3)
        self.seen = {0}

    def forward(self, inputs: Tensor) -> Tensor:
        self.passes += 1
        self.sizes.append(float(self.passes))
        self.recent.append(self.passes)
        self.seen.add(self.passes)
        return self.layer(inputs) * (1 + 0.1 * self.passes + 0.1 * sum(self.sizes) + 0.1 * sum(self.recent))


class HoldsArrays(nn.Module):
    """A numpy array, containers of tensors, and one that holds itself."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(12, 5)
        self.shift = np.linspace(0.0, 1.0, 5)
        self.scales = OrderedDict(outer=[torch.full((5,), 2.0), (torch.ones(1), 3)])
        self.itself: list[Any] = []
        self.itself.append(self.itself)

    def forward(self, inputs: Tensor) -> Tensor:
        self.shift += 0.5
        outer, (inner, factor) = self.scales["outer"]
        return self.layer(inputs) * outer * inner * factor + torch.from_numpy(self.shift).to(inputs.dtype)


class Centres(nn.Module):
    """Takes a running mean away, in train mode and in eval mode alike."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(12))

    def forward(self, inputs: Tensor) -> Tensor:
        with torch.no_grad():
            self.mean.mul_(0.5).add_(inputs.mean(0), alpha=0.5)
        return inputs - self.mean


@dataclass(slots=True)
class Notes:
    passes: int = 0
    mean: Tensor = field(default_factory=lambda: torch.zeros(5))
    centres: Centres = field(default_factory=Centres)


class HidesState(nn.Module):
    """State in a namespace, in a dataclass with slots, and in modules that hide in them and in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(12, 5)
        self.hidden = [Centres()]
        self.notes, self.space = Notes(), SimpleNamespace(passes=0, inner=SimpleNamespace(owner=self, seen=[1.0]))

    def forward(self, inputs: Tensor) -> Tensor:
        self.space.passes += 1
        self.notes.passes += 1
        self.space.inner.seen.append(0.5)
        hidden = self.layer(self.notes.centres(self.hidden[0](inputs)))
        self.notes.mean = 0.9 * self.notes.mean + 0.1 * hidden.detach().mean(0)
        factor = self.space.passes + self.notes.passes + sum(self.space.inner.seen)
        return (hidden - self.notes.mean) * (0.5 + 0.1 * factor)


class MixesBySparseMatrices(nn.Module):
    """A sparse buffer, a sparse matrix in a plain attribute that each pass changes, one in a list."""

    by_place: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(12, 5)
        dense = torch.rand(12, 12) * (torch.rand(12, 12) < 0.3)
        self.register_buffer("by_place", dense.to_sparse())
        self.by_row, self.listed = dense.to_sparse_csr(), [dense.to_sparse_csc()]
        self.frozen = nn.Parameter(dense.T.to_sparse(), requires_grad=False)

    def forward(self, inputs: Tensor) -> Tensor:
        mixed = inputs.t()
        for matrix in (self.by_place, self.by_row, self.listed[0], self.frozen):
            mixed = mixed + torch.sparse.mm(matrix.to(inputs.dtype), mixed)
        self.by_row.values().mul_(1.5)
        self.listed[0] = self.listed[0] * 2.0
        return self.layer(mixed.t())


class IsItsOwnCopy(nn.Module):
    """Will not be copied, and does not say so."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(12, 5)

    def __deepcopy__(self, known: dict[int, Any]) -> IsItsOwnCopy:
        return self

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layer(inputs)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.LSTM(3, 6, num_layers=2, dropout=0.4, batch_first=True)
        self.head = nn.Linear(6, 5)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.body(inputs.view(-1, 4, 3))[0][:, -1])


class Attends(nn.Module):
    """Attention with a mask that it caches, and the keys of the last pass."""

    keys: Tensor | None

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.head = nn.Linear(12, 5)
        self.masks: dict[int, Tensor] = {}
        self.keys = None

    def forward(self, inputs: Tensor) -> Tensor:
        rows = inputs.view(-1, 3, 4)
        if 3 not in self.masks:
            self.masks[3] = torch.triu(torch.ones(3, 3, dtype=torch.bool), 1)
        self.keys = rows * 2
        mixed, _ = self.attention(rows, self.keys, rows, attn_mask=self.masks[3])
        return self.head(mixed.flatten(1))


class ComputedBuffer(nn.Module):
    """A buffer that is the end of a graph after each forward pass."""

    shift: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(12, 5)
        self.register_buffer("shift", torch.zeros(5))

    def forward(self, inputs: Tensor) -> Tensor:
        self.shift = self.layer.weight.sum(1)
        return self.layer(inputs) + self.shift


class KeepsItsOwnMode(nn.Module):
    """Its `train` keeps a frozen BatchNorm in eval mode; a layer is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(12, 12)
        self.frozen, self.norm = nn.BatchNorm1d(12), nn.BatchNorm1d(12)
        self.frozen.weight.requires_grad_(False)
        self.head = nn.Linear(12, 5)
        self.again = self.layer

    def train(self, mode: bool = True) -> KeepsItsOwnMode:
        super().train(mode)
        self.frozen.eval()
        return self

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.norm(self.again(torch.tanh(self.frozen(self.layer(inputs))))))


class CallsAFunction(nn.Module):
    """A function around a layer: a copy would compute with the original's."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(12, 5)
        layer = self.layer
        self.steps = [lambda inputs: layer(inputs).tanh()]

    def forward(self, inputs: Tensor) -> Tensor:
        return self.steps[0](inputs)


class Locked(nn.Module):
    """Holds what cannot be copied, and a BatchNorm whose statistics move."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(12, 6), nn.BatchNorm1d(6), nn.Linear(6, 5))
        self.lock = threading.Lock()

    def forward(self, inputs: Tensor) -> Tensor:
        with self.lock:
            return self.body(inputs)


class DrawsGlobally(nn.Module):
    """Draws from the global generators of numpy and Python."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(12, 5)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layer(inputs) * (1 + np.random.rand() + random.random())  # noqa: NPY002


def two_layers(first: nn.Module) -> nn.Module:
    return nn.Sequential(first, nn.Tanh(), nn.Linear(6, 5))


def scripted() -> nn.Module:
    return torch.jit.script(nn.Sequential(nn.Linear(12, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 5)))


def parametrized() -> nn.Module:
    layer = nn.Linear(12, 6)
    parametrize.register_parametrization(layer, "weight", Squared())
    return two_layers(layer)


def squash(module: nn.Module, _inputs: Any, outputs: Tensor) -> Tensor:
    return 3 * torch.tanh(outputs)


def hooked() -> nn.Module:
    network = nn.Sequential(nn.Linear(12, 6), nn.Tanh(), nn.Linear(6, 5))
    network[2].register_forward_hook(squash)
    return network


NETWORKS: dict[str, Make] = {
    "low_rank": lambda: nn.Sequential(LowRank(12, 6), nn.Tanh(), nn.Linear(6, 5)),
    "merging_parent": MergesForItsChild,
    "cached_in_eval": CachesInEval,
    "own_parametrization": parametrized,
    "new_weight_norm": lambda: two_layers(parametrizations.weight_norm(nn.Linear(12, 6))),
    "new_spectral_norm": lambda: two_layers(parametrizations.spectral_norm(nn.Linear(12, 6))),
    "orthogonal": lambda: two_layers(parametrizations.orthogonal(nn.Linear(12, 6))),
    "old_weight_norm": lambda: two_layers(torch.nn.utils.weight_norm(nn.Linear(12, 6))),
    "old_spectral_norm": lambda: two_layers(old_spectral_norm(nn.Linear(12, 6))),
    "pruned": lambda: two_layers(prune.l1_unstructured(nn.Linear(12, 6), "weight", 0.5)),
    "running_mean": RunningMean,
    "own_generators": OwnGenerators,
    "growing": Grows,
    "arrays": HoldsArrays,
    "hidden_state": HidesState,
    "sparse": MixesBySparseMatrices,
    "lstm_dropout": Recurrent,
    "attention_caches": Attends,
    "computed_buffer": ComputedBuffer,
    "own_modes": KeepsItsOwnMode,
    "global_draws": DrawsGlobally,
    "scripted": scripted,
    "data_parallel": lambda: nn.DataParallel(nn.Sequential(nn.Linear(12, 6), nn.BatchNorm1d(6), nn.Linear(6, 5))),
    # These need the trial: they cannot be copied, or a plan has to let hooks fire.
    "function": CallsAFunction,
    "locked": Locked,
    "own_copy": lambda: nn.Sequential(nn.Linear(12, 12), IsItsOwnCopy()),
    "hooked": hooked,
}
PINNED = {
    "function": Plan(in_place=True),
    "locked": Plan(in_place=True),
    "own_copy": Plan(in_place=True),
    "hooked": Plan(hooks=True),
}


def made(make: Make) -> nn.Module:
    torch.manual_seed(7)
    return make().train()


def everything(model: nn.Module) -> dict[str, Any]:
    """What must come back: values, gradients, identities, modes, plain attributes, generators."""
    found: dict[str, Any] = {"torch": torch.get_rng_state(), "python": random.getstate()}
    found["numpy"] = str(np.random.get_state())  # noqa: NPY002
    for name, parameter in model.named_parameters():
        found[f"parameter {name}"] = (id(parameter), parameter.requires_grad)
        if parameter.layout == torch.strided:
            found[f"parameter place {name}"] = parameter.data_ptr()
        found[f"value {name}"] = remembered(parameter)
        found[f"gradient {name}"] = None if parameter.grad is None else parameter.grad.clone()
    for name, buffer in model.named_buffers():
        found[f"buffer {name}"] = remembered(buffer)
    for name, module in model.named_modules():
        found[f"mode {name}"] = (module.training, type(module), list(module._forward_hooks.values()))
        if not isinstance(module, torch.jit.ScriptModule):
            plain = vars(module).keys() - vars(nn.Module()).keys()
            found |= {f"attribute {name}.{key}": remembered(vars(module)[key]) for key in plain}
    return found


def remembered(value: Any, depth: int = 3) -> Any:
    if isinstance(value, Tensor):
        return value.detach().clone() if value.layout == torch.strided else value.detach().to_dense()
    if isinstance(value, nn.Module):
        return [value.training, *(buffer.clone() for buffer in value.buffers())]
    if isinstance(value, Notes):
        return [value.passes, value.mean.clone(), remembered(value.centres)]
    if isinstance(value, SimpleNamespace) and depth:
        return remembered(vars(value), depth - 1)
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value.copy())
    if isinstance(value, torch.Generator):
        return value.get_state()
    if isinstance(value, random.Random):
        return value.getstate()
    if isinstance(value, np.random.Generator):
        return str(value.bit_generator.state)
    if isinstance(value, np.random.RandomState):
        return str(value.get_state())
    if isinstance(value, dict) and depth:
        return {key: remembered(child, depth - 1) for key, child in value.items()}
    if isinstance(value, list | tuple | deque | set) and depth:
        return [remembered(child, depth - 1) for child in value]
    return value


def same(old: Any, new: Any) -> bool:
    if isinstance(old, Tensor):
        return isinstance(new, Tensor) and old.dtype == new.dtype and torch.equal(old, new)
    if isinstance(old, dict):
        return old.keys() == new.keys() and all(same(old[key], new[key]) for key in old)
    if old is new:
        return True
    if isinstance(old, list):
        return len(old) == len(new) and all(map(same, old, new))
    return bool(old == new)


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    return sorted(name for name in old.keys() | new.keys() if not same(old.get(name), new.get(name)))


def naive_loss(
    make: Make,
    position: float,
    *,
    mode: str,
    direction: Mapping[str, Tensor],
    seeds: list[int],
    change: Callable[[nn.Module], object] = lambda model: None,
    batch: bool = True,
) -> float:
    """Mean loss in float64: each chunk by a network of its own, built from the seed."""
    losses = []
    for index, first in enumerate(range(0, len(TARGETS), CHUNK)):
        model = made(make)
        if batch:
            model(INPUTS[:CHUNK])  # the training's own pass
        change(model)
        model.double()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name in direction:
                    parameter += position * direction[name].double()
        model.train(mode == "train")
        torch.manual_seed(seeds[index])
        np.random.seed(seeds[index] % 2**32)  # noqa: NPY002
        random.seed(seeds[index])
        rows = slice(first, first + CHUNK)
        with torch.no_grad():
            losses.append(cross_entropy(model(INPUTS[rows].double()), TARGETS[rows]))
    return float(torch.cat(losses).mean())


def meter_of(model: nn.Module, *, mode: str = "train", plan: Plan | None = None, **options: Any) -> LineMeter:
    given = {"interval": POSITIONS, "resolution": POSITIONS, "max_rings": 1, **options}
    return LineMeter(model, cross_entropy, INPUTS, TARGETS, chunk_size=CHUNK, mode=mode, plan=plan, **given)


def assert_right(line: MeasuredLine, make: Make, **naive: Any) -> None:
    assert len(line.positions) == 3
    for position, loss in zip(line.positions, line.losses, strict=True):
        assert loss == pytest.approx(naive_loss(make, position, **naive), abs=1e-5)


# What eval mode makes another network of.
IN_EVAL = ["low_rank", "merging_parent", "cached_in_eval", "old_spectral_norm", "running_mean", "own_modes", "scripted"]


@pytest.mark.parametrize(
    ("name", "mode", "precision"),
    [
        *((name, "train", "float32") for name in NETWORKS),
        *((name, "eval", "float32") for name in IN_EVAL),
        *((name, "train", "float64") for name in ("hidden_state", "sparse", "arrays")),
    ],
)
def test_the_line_is_right_and_the_network_comes_back(name: str, mode: str, precision: str) -> None:
    model = made(NETWORKS[name])
    cross_entropy(model(INPUTS[:CHUNK]), TARGETS[:CHUNK]).mean().backward()
    direction = unit_direction(model)
    meter = meter_of(model, mode=mode, plan=PINNED.get(name, Plan(precision=precision)))
    before = everything(model)
    lines = [meter.measure(direction) for _ in range(2)]
    assert changes(before, everything(model)) == []
    np.testing.assert_array_equal(lines[0].losses, lines[1].losses)
    seeds = meter._mask_seeds()
    assert_right(lines[1], NETWORKS[name], mode=mode, direction=direction, seeds=seeds)


@pytest.mark.parametrize(
    "name", ["function", "locked", "own_copy", "hooked", "low_rank", "own_generators", "hidden_state", "sparse"]
)
def test_the_trial_finds_a_plan_for_them(name: str) -> None:
    model = made(NETWORKS[name])
    cross_entropy(model(INPUTS[:CHUNK]), TARGETS[:CHUNK]).mean().backward()
    direction = unit_direction(model)
    meter = meter_of(model, mode="eval")
    before = everything(model)
    line = meter.measure(direction)
    assert changes(before, everything(model)) == []
    assert meter.report is not None
    assert meter.report.plan.in_place == (name in ("function", "locked", "own_copy"))
    assert meter.report.plan.hooks == (name == "hooked")
    assert_right(line, NETWORKS[name], mode="eval", direction=direction, seeds=meter._mask_seeds())


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("function", "must move as the network does"),
        ("locked", "must be copyable"),
        ("own_copy", "must be copyable"),
        ("hooked", "must let hooks fire"),
    ],
)
def test_a_plan_that_measures_another_network_is_refused(name: str, words: str) -> None:
    model = made(NETWORKS[name])
    before = everything(model)
    with pytest.raises(SgdlineError, match=words):
        meter_of(model, plan=Plan()).measure(unit_direction(model))
    assert changes(before, everything(model)) == []


@pytest.mark.parametrize("name", ["hidden_state", "sparse"])
def test_a_network_that_moves_itself_keeps_what_it_hides(name: str) -> None:
    model = made(NETWORKS[name])
    model(INPUTS[:CHUNK])
    before = everything(model)
    meter = meter_of(model, plan=Plan(in_place=True))
    line = meter.measure(unit_direction(model))
    assert changes(before, everything(model)) == []
    assert_right(line, NETWORKS[name], mode="train", direction=unit_direction(model), seeds=meter._mask_seeds())


def test_objects_are_followed_up_to_some_thousand_values() -> None:
    class Program:
        def __init__(self) -> None:
            self.itself, self.rows, self.picture = self, [[row] for row in range(10**4)], torch.zeros(1).expand(2**25)

    model = nn.Linear(2, 2)
    model.program = Program()  # type: ignore[assignment]
    cells = NetworkState(model)._cells
    assert len(cells) < 5000
    assert not any(getattr(cell, "_tensor", None) is model.program.picture for cell in cells)


def test_a_part_may_be_called_module_and_gradients_may_be_sparse() -> None:
    words = torch.randint(0, 9, (20, 4), generator=torch.Generator().manual_seed(2))
    found = []
    for sparse in (False, True):
        model = made(
            lambda sparse=sparse: nn.Sequential(nn.Embedding(9, 3, sparse=sparse), nn.Flatten(), nn.Linear(12, 5))
        )
        inside = torch.optim.swa_utils.AveragedModel(model)  # its parameters are module.0.weight, ...
        cross_entropy(inside(words), TARGETS[:20]).mean().backward()
        meter = LineMeter(inside, cross_entropy, words, TARGETS[:20], interval=0.1, plan=Plan())
        given = {name: -p.grad.to_dense() for name, p in inside.named_parameters() if p.grad is not None}
        found += [meter.measure().losses, meter.measure(given).losses]
    for line in found[1:]:
        np.testing.assert_allclose(line, found[0], rtol=1e-6)


def test_a_network_in_eval_mode_is_measured_in_train_mode() -> None:
    def in_eval() -> nn.Module:
        return nn.Sequential(nn.Linear(12, 6), nn.BatchNorm1d(6), nn.Dropout(0.4), nn.Linear(6, 5))

    model = made(in_eval).eval()
    before = everything(model)
    direction = unit_direction(model)
    meter = meter_of(model, plan=Plan())
    line = meter.measure(direction)
    assert changes(before, everything(model)) == []
    assert_right(line, in_eval, mode="train", direction=direction, seeds=meter._mask_seeds(), batch=False)


class Stale(CachesInEval):
    """Computes its product once, whatever the parameters do afterwards."""

    def train(self, mode: bool = True) -> Stale:
        nn.Module.train(self, mode)
        return self

    def forward(self, inputs: Tensor) -> Tensor:
        if self.cached is None:
            self.cached = (self.second.weight @ self.first.weight).detach()
        return functional.linear(inputs, self.cached) + 0 * self.first(inputs).sum()


class Merged(nn.Module):
    """Was merged once and for all; its parameters are left over."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.spare = nn.Linear(12, 5), nn.Linear(12, 5)
        self.register_buffer("weight", self.layer.weight.detach().clone())

    def forward(self, inputs: Tensor) -> Tensor:
        return functional.linear(inputs, self.weight) + (self.spare(inputs) - self.spare(inputs).detach())  # type: ignore[arg-type]


@pytest.mark.parametrize("make", [Stale, Merged])
def test_a_loss_that_does_not_follow_its_parameters_is_refused(make: Make) -> None:
    model = made(make)
    with torch.no_grad():
        model(INPUTS[:2])
    before = everything(model)
    direction = unit_direction(model)
    if make is Stale:  # no gradient and no slope: the line is flat, and says so
        line = meter_of(model, plan=Plan()).measure(direction)
        assert np.ptp(line.losses) == 0.0
        assert np.isnan(line.minimum_position)
    else:
        with pytest.raises(SgdlineError, match="must follow its parameters"):
            meter_of(model, plan=Plan()).measure(direction)
        assert meter_of(model, plan=Plan(), check_slope=False).measure(direction).losses.shape == (3,)
    assert changes(before, everything(model)) == []


# --- what changes between two lines ---------------------------------------------------------------------------------


class Schedule:
    def __init__(self) -> None:
        self.temperature = 1.0


class Changing(nn.Module):
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(12, 8), nn.Linear(8, 5)])
        self.drop, self.activation = nn.Dropout(0.0), nn.ReLU()
        self.temperature, self.shift, self.schedule = 1.0, np.zeros(8), Schedule()
        self.options = {"gain": [1.0]}
        self.register_buffer("scale", torch.ones(1))

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.layers[0](inputs) * self.options["gain"][0] + torch.from_numpy(self.shift).to(inputs.dtype)
        hidden = self.drop(self.activation(hidden))
        return self.layers[1](hidden) * self.scale / (self.temperature * self.schedule.temperature)


def other_layer(model: Any) -> None:
    torch.manual_seed(17)
    model.layers[1] = nn.Linear(8, 5)


def other_hook(model: Any) -> None:
    model.layers[1].register_forward_hook(squash)


def new_parameter(model: Any) -> None:
    model.layers[1].weight = nn.Parameter(torch.full((5, 8), 0.3))


CHANGES: dict[str, Callable[[Any], object]] = {
    "temperature": lambda model: setattr(model, "temperature", 0.25),
    "dropout": lambda model: setattr(model.drop, "p", 0.5),
    "activation": lambda model: setattr(model, "activation", nn.Tanh()),
    "numpy_array_in_place": lambda model: model.shift.__iadd__(1.0),
    "number_in_an_object": lambda model: setattr(model.schedule, "temperature", 0.25),
    "another_object": lambda model: setattr(model, "schedule", type("Hot", (), {"temperature": 4.0})()),
    "number_in_a_list_in_a_dict": lambda model: model.options["gain"].__setitem__(0, 3.0),
    "layer_of_a_list": other_layer,
    "buffer_registered_again": lambda model: model.register_buffer("scale", torch.full((5,), 2.0)),
    "parameter_registered_again": new_parameter,
    "hook": other_hook,
    "forward_replaced": lambda model: setattr(model.activation, "forward", torch.sin),
}


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("name", CHANGES)
def test_what_has_changed_since_the_last_line_is_measured(name: str, *, together: bool) -> None:
    if together and name == "dropout":
        pytest.skip("masks are drawn chunk by chunk")
    model = made(Changing)
    # Where chunks share a pass the plan is held against the network after the line, and the copy not before it.
    plan = Plan(hooks=True, chunks_per_pass=2, reseed=False) if together else Plan(hooks=True)
    meter = meter_of(model, plan=plan)
    direction = unit_direction(model)
    before = meter.measure(direction)
    CHANGES[name](model)
    line = meter.measure(direction)
    assert abs(line.losses - before.losses).max() > 1e-3
    seeds = meter._mask_seeds()
    assert_right(line, Changing, mode="train", direction=direction, seeds=seeds, change=CHANGES[name], batch=False)


def test_a_network_that_makes_new_objects_is_planned_once() -> None:
    class Remembers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(12, 5)

        def forward(self, inputs: Tensor) -> Tensor:
            self.last = Schedule()
            return self.layer(inputs)

    model = made(Remembers)
    meter = meter_of(model)
    direction = unit_direction(model)
    first = meter.measure(direction)
    report = meter.report
    model(INPUTS)
    np.testing.assert_array_equal(meter.measure(direction).losses, first.losses)
    assert meter.report is report


# --- hooks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["module", "parent", "pre", "global"])
def test_hooks_that_only_look_fire_for_two_samples_at_most(kind: str) -> None:
    model = made(lambda: nn.Sequential(nn.Linear(12, 6), nn.Tanh(), nn.Linear(6, 5)))
    fired: list[int] = []

    def note(_module: nn.Module, inputs: Any, *_: Any) -> None:
        fired.append(len(inputs[0]))

    handle = {
        "module": model[0].register_forward_hook,  # type: ignore[index]
        "parent": model.register_forward_hook,
        "pre": model[2].register_forward_pre_hook,  # type: ignore[index]
        "global": nn.modules.module.register_module_forward_hook,
    }[kind](note)
    try:
        meter_of(model).measure(unit_direction(model))
        assert fired
        assert max(fired) == 2
        meter = meter_of(model, plan=Plan())
        direction = unit_direction(model)
        meter.measure(direction)
        fired.clear()
        meter.measure(direction)
        assert fired == []
        model(INPUTS)  # the hooks are back
        assert fired
    finally:
        handle.remove()


def test_a_global_hook_that_changes_outputs_belongs_to_the_network() -> None:
    def make() -> nn.Module:
        return nn.Sequential(nn.Linear(12, 6), nn.Linear(6, 5))

    model = made(make)
    direction = unit_direction(model)
    handle = nn.modules.module.register_module_forward_hook(squash)
    try:
        meter = meter_of(model)
        line = meter.measure(direction)
        assert_right(line, make, mode="train", direction=direction, seeds=meter._mask_seeds(), batch=False)
    finally:
        handle.remove()
    without = meter.measure(direction)  # planned anew
    assert_right(without, make, mode="train", direction=direction, seeds=meter._mask_seeds(), batch=False)
    assert abs(without.losses - line.losses).max() > 1e-2


# --- precision --------------------------------------------------------------------------------------------------------


def test_a_network_in_half_precision_is_measured_in_float64() -> None:
    model = made(lambda: nn.Sequential(nn.Linear(12, 6), nn.Tanh(), nn.Linear(6, 5)).bfloat16())
    inputs, direction = INPUTS.bfloat16(), unit_direction(model)
    meter = LineMeter(model, cross_entropy, inputs, TARGETS, interval=0.2, resolution=0.2, max_rings=1)
    line = meter.measure(direction)
    assert meter.report is not None
    assert meter.report.plan.precision == "float64"
    for position, loss in zip(line.positions, line.losses, strict=True):
        exact = made(lambda: nn.Sequential(nn.Linear(12, 6), nn.Tanh(), nn.Linear(6, 5)).bfloat16()).double()
        with torch.no_grad():
            for name, parameter in exact.named_parameters():
                parameter += position * direction[name].double()
            assert loss == pytest.approx(float(cross_entropy(exact(inputs.double()), TARGETS).mean()), abs=1e-8)


# --- training ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["low_rank", "old_weight_norm", "running_mean", "own_generators", "growing", "locked"])
def test_a_training_does_not_notice_its_meter(name: str) -> None:
    finals = []
    for measured in (False, True):
        model = made(NETWORKS[name])
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1, momentum=0.9)
        meter = meter_of(model, plan=PINNED.get(name, Plan()))
        torch.manual_seed(9)
        for _ in range(3):
            optimizer.zero_grad()
            cross_entropy(model(INPUTS[:CHUNK]), TARGETS[:CHUNK]).mean().backward()
            if measured:
                meter.measure_step(optimizer)
            else:
                optimizer.step()
        finals.append(everything(model))
    differing = changes(finals[0], finals[1])
    # The two networks are other objects.
    assert not [name for name in differing if not name.startswith("parameter ") and name != "attribute .lock"]


# --- chunks that share a pass -------------------------------------------------------------------------------------


class Trims(nn.Module):
    """Leaves out the columns that all samples of a batch leave empty."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.layer = nn.Embedding(20, 8), nn.Linear(8, 5)

    def forward(self, inputs: Tensor) -> Tensor:
        longest = int((inputs > 0).sum(1).max())
        return self.layer(self.words(inputs[:, :longest]).mean(1))


class Boxed:
    __slots__ = ("value",)

    def __init__(self, value: float) -> None:
        self.value = value


class Scales(nn.Module):
    """What it keeps in an object matters to some samples only."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.box, self.shift = nn.Linear(8, 5), Boxed(1.0), False

    def forward(self, inputs: Tensor) -> Tensor:
        outputs = self.layer(inputs - inputs[:1] if self.shift else inputs)
        return outputs * torch.where(inputs[:, :1] > 2.5, self.box.value, 1.0)


class ByReference(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 5)
        self.weights = [self.layer.weight]

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs @ self.weights[0].T + self.layer.bias


class Shrinks(nn.Module):
    gain: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.box = nn.Linear(8, 5), Boxed(8)
        self.register_buffer("gain", torch.ones(8))

    def forward(self, inputs: Tensor) -> Tensor:
        rest = torch.ones(8 - int(self.box.value))
        return self.layer(inputs * torch.cat([self.gain, rest]))


def shrink(model: Any) -> None:
    model.box.value, model.gain = 5, torch.ones(5)


def words(count: int) -> Tensor:
    draws = torch.Generator().manual_seed(3)
    lengths = torch.where(torch.arange(count) < count // 2, 12, torch.randint(2, 12, (count,), generator=draws))
    return torch.randint(1, 20, (count, 12), generator=draws) * (torch.arange(12) < lengths[:, None])


def vectors(count: int) -> Tensor:
    inputs = torch.randn(count, 8, generator=torch.Generator().manual_seed(3)).clamp(-2, 2)
    inputs[count // 5 :, 0] = 3.0
    return inputs


SHARED: dict[str, tuple[Make, Callable[[int], Tensor], Callable[[Any], object] | None]] = {
    "trims_to_the_longest_sample": (Trims, words, None),
    "state_that_later_chunks_see": (Scales, vectors, lambda model: setattr(model.box, "value", 3.0)),
    "mixing_that_begins_later": (Scales, vectors, lambda model: setattr(model, "shift", True)),
    "stale_state_that_fails": (Shrinks, vectors, shrink),
}


@pytest.mark.parametrize("name", SHARED)
def test_all_chunks_that_share_a_pass_are_held_against_the_network(name: str) -> None:
    make, samples, change = SHARED[name]
    torch.manual_seed(0)
    model, inputs, targets = make(), samples(512), torch.randint(0, 5, (512,))
    meter = LineMeter(model, cross_entropy, inputs, targets, chunk_size=8, mode="eval")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(3):
        if step == 1 and change is not None:
            change(model)
        optimizer.zero_grad()
        cross_entropy(model(inputs[:8]), targets[:8]).mean().backward()
        with torch.no_grad():
            chunks = zip(inputs.split(8), targets.split(8), strict=True)
            expected = float(torch.cat([cross_entropy(model(x), y) for x, y in chunks]).double().mean())
        assert meter.measure_step(optimizer).loss == pytest.approx(expected, abs=1e-5)


def test_a_pinned_plan_that_mixes_chunks_or_positions_is_refused() -> None:
    inputs, targets = vectors(128), torch.zeros(128, dtype=torch.long)
    mixing = Scales()
    mixing.shift = True
    for model, plan, words_of_it in (
        (mixing, Plan(chunks_per_pass=4, reseed=False), "The network mixes samples"),
        (ByReference(), Plan(positions_per_pass=4, reseed=False), "position by position"),
    ):
        meter = LineMeter(model, cross_entropy, inputs, targets, chunk_size=16, mode="eval", plan=plan)
        cross_entropy(model(inputs), targets).mean().backward()
        with pytest.raises(SgdlineError, match=words_of_it):
            meter.measure_step(torch.optim.SGD(model.parameters(), lr=0.1))
