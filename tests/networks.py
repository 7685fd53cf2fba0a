"""Small networks, one for each thing that the line engine has to get right, and a naive loop in float64."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as functional
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from sgdline.models import mlp, tiny_mobilenet, tiny_resnet

SHAPE = (1, 8, 8)


class _Tied(nn.Module):
    """Two layers that share one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(64, 64)
        self.second = nn.Linear(64, 64)
        self.second.weight = self.first.weight
        self.head = nn.Linear(64, 10)

    def forward(self, images: Tensor) -> Tensor:
        hidden = torch.tanh(self.first(images.flatten(1)))
        return self.head(torch.tanh(self.second(hidden)))


class _Functional(nn.Module):
    """Dropout called as a function: no module tells of it."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(64, 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(functional.dropout(images.flatten(1), 0.4, self.training))


class OwnNormalisation(nn.Module):
    """Statistics over the batch in a layer that nobody knows."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(64, 16)
        self.head = nn.Linear(16, 10)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.body(images.flatten(1))
        return self.head((hidden - hidden.mean(0)) / (hidden.std(0) + 0.1))


class _Averaging(nn.Module):
    """Centres by a running average that every forward pass in train mode moves."""

    average: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(64, 16)
        self.head = nn.Linear(16, 10)
        self.register_buffer("average", torch.zeros(16))

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.body(images.flatten(1))
        if self.training:
            self.average.lerp_(hidden.detach().mean(0), 0.3)
        return self.head(torch.tanh(hidden - self.average))


class LowRank(nn.Linear):
    """Merges its two factors into the frozen weight in eval mode."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.down = nn.Parameter(torch.randn(3, inputs) / 4)
        self.up = nn.Parameter(torch.randn(outputs, 3) / 4)
        self.weight.requires_grad = False
        self.merged = False

    def train(self, mode: bool = True) -> LowRank:
        super().train(mode)
        if mode == self.merged:
            self.weight.data += (-1 if mode else 1) * (self.up.data @ self.down.data)
            self.merged = not mode
        return self

    def forward(self, inputs: Tensor) -> Tensor:
        weight = self.weight if self.merged else self.weight + self.up @ self.down
        return functional.linear(inputs, weight, self.bias)


class Uncopyable(nn.Module):
    """Refuses to be copied, as networks with hooks around computed weights do."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(64, 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(images.flatten(1))

    def __deepcopy__(self, memo: object) -> Uncopyable:
        raise RuntimeError("not to be copied")


def _frozen() -> nn.Module:
    network = tiny_resnet(input_shape=SHAPE, num_classes=10, width=4)
    for parameter in list(network.parameters())[:3]:
        parameter.requires_grad_(False)
    return network


def _volumes() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, 1)),
        nn.Conv3d(1, 3, (1, 3, 3), bias=False),
        nn.BatchNorm3d(3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(108, 12),
        nn.BatchNorm1d(12, affine=False),
        nn.Tanh(),
        nn.Linear(12, 10),
    )


def _spectral() -> nn.Module:
    return nn.Sequential(nn.Flatten(), spectral_norm(nn.Linear(64, 16)), nn.Tanh(), nn.Linear(16, 10))


def _group_norm() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.GroupNorm(2, 8), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(72, 10)
    )


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "mlp": lambda: mlp(input_shape=SHAPE, num_classes=10, hidden=[12]),
    "mlp_dropout": lambda: mlp(input_shape=SHAPE, num_classes=10, hidden=[12], dropout=0.5),
    "functional_dropout": _Functional,
    "resnet": lambda: tiny_resnet(input_shape=SHAPE, num_classes=10, width=4),
    "mobilenet_dropout": lambda: tiny_mobilenet(input_shape=SHAPE, num_classes=10, blocks_per_stage=1, dropout=0.3),
    "group_norm": _group_norm,
    "batch_norm_3d_and_1d": _volumes,
    "tied": _Tied,
    "frozen": _frozen,
    "own_normalisation": OwnNormalisation,
    "running_average": _Averaging,
    "spectral_norm": _spectral,
}
RANDOM = {"mlp_dropout", "functional_dropout", "mobilenet_dropout"}
# These mix samples in ways that only the trial finds out; they go chunk by chunk.
MIXING = {"own_normalisation", "running_average"}
# These change buffers of their own in a forward pass, which vmap refuses.
STATEFUL = {"running_average", "spectral_norm"}


def make_network(name: str) -> nn.Module:
    """Return a network with random weights and running statistics of its own, in train mode."""
    torch.manual_seed(1)
    network = NETWORKS[name]()
    network.train()
    with torch.no_grad():
        network(torch.randn(16, *SHAPE))
    return network


def images(count: int, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(count, *SHAPE, generator=generator)
    return inputs, torch.randint(0, 10, (count,), generator=generator)


def unit_direction(network: nn.Module, *, seed: int = 3) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    parts = {
        name: torch.randn(parameter.shape, generator=generator)
        for name, parameter in network.named_parameters()
        if parameter.requires_grad
    }
    norm = sum(float((part.double() ** 2).sum()) for part in parts.values()) ** 0.5
    return {name: part / norm for name, part in parts.items()}


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(outputs, targets, reduction="none")


def naive_losses(
    network: nn.Module,
    direction: Mapping[str, Tensor],
    position: float,
    inputs: Tensor,
    targets: Tensor,
    *,
    chunk_size: int,
    mask_seeds: list[int],
    train_mode: bool = True,
    loss: Callable[[Tensor, Tensor], Tensor] = cross_entropy,
) -> Tensor:
    """Per-sample losses in float64: a fresh copy for every chunk, nothing shared with the engine. Shape (N,)."""
    found = []
    for index, first in enumerate(range(0, len(targets), chunk_size)):
        moved = copy.deepcopy(network).double()
        moved.train(train_mode)
        with torch.no_grad():
            for name, parameter in moved.named_parameters():
                if name in direction:
                    parameter += position * direction[name].double()
        state = torch.get_rng_state()
        torch.manual_seed(mask_seeds[index])
        with torch.no_grad():
            chunk = slice(first, first + chunk_size)
            labels = targets[chunk].double() if targets.is_floating_point() else targets[chunk]
            found.append(loss(moved(inputs[chunk].double()), labels))
        torch.set_rng_state(state)
    return torch.cat(found)
