"""The same positions of one line by loss-landscapes and by `LineMeter`, each in a process of its own.

`linear_interpolation` of the public library loss-landscapes (pip install loss-landscapes) moves the parameters in place
and calls a metric at each position. Its metric `Loss` is one forward pass over all samples.
The differences are in its favour: copying its two networks is not timed, and the faster of its metric and of one in
chunks is the yardstick. `LineMeter` is timed with its checks.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
import torch.nn.functional as functional
from measuring import Worker, median, spread, worker
from torch import Tensor, nn

from sgdline.lines import LineMeter
from sgdline.models import mlp, tiny_mobilenet, tiny_vgg
from sgdline.models.parameters import count_parameters

INTERVAL = 0.1  # half-width, Euclidean length
STEPS = 16  # so many spacings from end to end
CHUNK = 64
LINES = 1000  # that the meter is said to have ahead: one at each step of a short training
WAYS = ("whole", "chunks")  # how the metric of loss-landscapes evaluates the samples


class SmallGpt(nn.Module):
    """A decoder of two blocks over characters."""

    def __init__(self, *, vocabulary: int = 65, context: int = 64, width: int = 128, heads: int = 4) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.places = nn.Embedding(context, width)
        self.blocks = nn.ModuleList(_Block(width, heads) for _ in range(2))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)

    def forward(self, words: Tensor) -> Tensor:
        """Return logits (n, vocabulary, T), as cross-entropy wants them, for tokens (n, T)."""
        hidden = self.tokens(words) + self.places.weight[: words.shape[1]]
        for block in self.blocks:
            hidden = block(hidden)
        return self.head(self.norm(hidden)).transpose(1, 2)


class _Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention, self.projection = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.perceptron = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, hidden: Tensor) -> Tensor:
        parts = self.attention(self.first(hidden)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(*parts.unbind(), is_causal=True)
        hidden = hidden + self.projection(attended.transpose(1, 2).flatten(2))
        return hidden + self.perceptron(self.second(hidden))


def _torchvision_resnet18() -> nn.Module:
    import torchvision.models

    return torchvision.models.resnet18(num_classes=10)


_RGB: dict[str, Any] = {"input_shape": (3, 32, 32), "num_classes": 10}
_GREY: dict[str, Any] = {"input_shape": (1, 8, 8), "num_classes": 10}


@dataclass(frozen=True)
class Subject:
    """A network and what it is measured on."""

    name: str
    make: Callable[[], nn.Module]
    shape: tuple[int, ...]  # of an input
    samples: int


def subjects() -> list[Subject]:
    """Return what is compared, small ones first."""
    return [
        Subject("mlp", lambda: mlp(**_GREY, hidden=[64, 48]), (1, 8, 8), 1024),
        Subject("mlp, larger set", lambda: mlp(**_GREY, hidden=[64, 48]), (1, 8, 8), 8192),
        Subject("small GPT", SmallGpt, (64,), 256),
        Subject("tiny_vgg", lambda: tiny_vgg(**_RGB, width=16), (3, 32, 32), 256),
        Subject("tiny_mobilenet", lambda: tiny_mobilenet(**_RGB), (3, 32, 32), 256),
        Subject("torchvision resnet18", _torchvision_resnet18, (3, 32, 32), 128),
    ]


class _Line:
    """A network in eval mode, samples of noise, and the unit vector against the gradient: the same in each process."""

    def __init__(self, name: str, *, small: bool) -> None:
        torch.manual_seed(0)
        subject = next(subject for subject in subjects() if subject.name == name)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = subject.make().to(self.device)
        self.samples = 32 if small else subject.samples
        self.chunk = 16 if small else CHUNK
        self.steps = 4 if small else STEPS
        inputs = torch.randn(self.samples, *subject.shape)
        targets = torch.randint(0, 10, (self.samples,))
        if len(subject.shape) == 1:
            inputs, targets = torch.randint(0, 65, (2, self.samples, *subject.shape)).unbind()
        self.inputs, self.targets = inputs.to(self.device), targets.to(self.device)
        # The running statistics of BatchNorm follow the samples, as after a training.
        self.model.train()
        with torch.no_grad():
            for part in self.inputs.split(self.chunk):
                self.model(part)
        self.model.eval()
        functional.cross_entropy(self.model(self.inputs[: self.chunk]), self.targets[: self.chunk]).backward()
        slopes = {key: p.grad for key, p in self.model.named_parameters() if p.grad is not None}
        length = torch.sqrt(sum((part.double() ** 2).sum() for part in slopes.values()))
        self.direction = {key: (-part / length).to(part.dtype) for key, part in slopes.items()}

    def synchronise(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


class Landscapes(_Line):
    """`loss_landscapes.linear_interpolation`."""

    def measure(self, way: str) -> dict[str, Any]:
        """Return seconds and losses of a line."""
        import loss_landscapes
        from loss_landscapes.metrics import Loss, Metric

        line = self

        class InChunks(Metric):
            def __call__(self, wrapped: Any) -> float:
                total = torch.zeros((), device=line.device)
                for inputs, targets in zip(line.inputs.split(line.chunk), line.targets.split(line.chunk), strict=True):
                    total += functional.cross_entropy(wrapped.forward(inputs), targets) * len(targets)
                return (total / line.samples).item()

        spacing = 2 * INTERVAL / self.steps
        # It takes a step before it measures.
        start, end = self._at(-INTERVAL - spacing), self._at(INTERVAL)
        metric = InChunks() if way == "chunks" else Loss(functional.cross_entropy, self.inputs, self.targets)
        self.synchronise()
        begun = time.perf_counter()
        losses = loss_landscapes.linear_interpolation(start, end, metric, steps=self.steps + 1)
        self.synchronise()
        return {"seconds": time.perf_counter() - begun, "losses": np.asarray(losses, dtype=np.float64)}

    def _at(self, position: float) -> nn.Module:
        moved = copy.deepcopy(self.model)
        with torch.no_grad():
            for key, parameter in moved.named_parameters():
                parameter.add_(self.direction[key], alpha=position)
        return moved

    def parameters(self) -> int:
        """Return how many parameters the network has."""
        return count_parameters(self.model)


class Meter(_Line):
    """`LineMeter` on a grid."""

    def __init__(self, name: str, *, small: bool) -> None:
        super().__init__(name, small=small)
        self.meter = LineMeter(
            self.model,
            nn.CrossEntropyLoss(reduction="none"),
            self.inputs,
            self.targets,
            chunk_size=self.chunk,
            mode="eval",
            interval=INTERVAL,
            resolution=2 * INTERVAL / self.steps,
            max_rings=1,
            lines=LINES,
        )

    def measure(self) -> dict[str, Any]:
        """Return seconds and losses of a line."""
        self.synchronise()
        begun = time.perf_counter()
        line = self.meter.measure(self.direction)
        self.synchronise()
        seconds = time.perf_counter() - begun
        np.testing.assert_allclose(line.positions, np.linspace(-INTERVAL, INTERVAL, self.steps + 1), atol=1e-12)
        return {"seconds": seconds, "losses": line.losses}

    def plan(self) -> str:
        """Return the plan that the trial has chosen."""
        assert self.meter.report is not None
        return str(self.meter.report.plan)


def compare(*, repeats: int, small: bool, threads: int) -> dict[str, Any]:
    """Measure one line of each network in both ways in turn; the first one warms up.

    Args:
        repeats: Lines that count.
        small: Few samples and positions, to see that it works.
        threads: CPU threads at most.
    """
    # Compiling the others takes a minute.
    chosen = subjects()[:1] if small else subjects()
    rows = [_compare(subject.name, repeats=repeats, small=small, threads=threads) for subject in chosen]
    return {"version": version("loss-landscapes"), "rows": rows}


def _compare(name: str, *, repeats: int, small: bool, threads: int) -> dict[str, Any]:
    with (
        worker(Landscapes, name, small=small, cores=threads) as landscapes,
        worker(Meter, name, small=small, cores=threads) as meter,
    ):
        for process in (landscapes, meter):
            process.ready()
        way, first = _warm_up(landscapes, meter)
        theirs, ours, differences = [], [], []
        for _ in range(repeats):
            other, own = landscapes.call("measure", way), meter.call("measure")
            theirs.append(other["seconds"])
            ours.append(own["seconds"])
            differences.append(float(np.abs(other["losses"] - own["losses"]).max()))
        return {
            "network": name,
            "parameters": landscapes.call("parameters"),
            "samples": 32 if small else next(s.samples for s in subjects() if s.name == name),
            "positions": len(own["losses"]),
            "yardstick": way,
            "theirs": spread(theirs),
            "ours": spread(ours),
            "ratio": spread([other / own for other, own in zip(theirs, ours, strict=True)]),
            "largest_difference": max(differences),
            "loss_range": float(np.ptp(own["losses"])),
            "first_line_seconds": first,
            "plan": meter.call("plan"),
        }


def _warm_up(landscapes: Worker, meter: Worker) -> tuple[str, float]:
    """Return the faster way of loss-landscapes, and the seconds of the meter's first line, trial included."""
    seconds: Mapping[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(3):
        for way in WAYS:
            seconds[way].append(landscapes.call("measure", way)["seconds"])
    return min(WAYS, key=lambda way: median(seconds[way][1:])), float(meter.call("measure")["seconds"])
