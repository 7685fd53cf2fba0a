"""Lines theta + s*d through a network's parameter space and the losses along them.

Source: papers.md 2.2 with its clean rules: parameters are set from one copy, samples, chunks, augmentation and
random masks stay the same along a line, BatchNorm takes the statistics of each chunk (or the running ones), means
are sums over samples divided by N, accumulated in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from sgdline.engine.network import Loss, MeasuringSet, Network
from sgdline.engine.plan import Plan
from sgdline.errors import SgdlineError


class LineEngine:
    """Per-sample losses of a network along lines in its parameter space; leaves the network as it was."""

    def __init__(self, model: nn.Module, loss: Loss, *, batch_norm: str, plan: Plan) -> None:
        """Make the engine.

        Args:
            model: The network.
            loss: Outputs and targets -> one loss per sample.
            batch_norm: "train": statistics of each chunk, dropout on; "eval": running statistics, dropout off.
            plan: How to make forward passes.

        Raises:
            SgdlineError: If the network does not allow the plan.
        """
        self.network = Network(model, loss, train_mode=batch_norm == "train", plan=plan)
        self.prepare = self.network.prepare
        self.difference = self.network.difference

    def require_same(self) -> None:
        """Refuse a copy that does not compute what the network computes.

        Raises:
            SgdlineError: If they differ.
        """
        fault = self.difference()
        if fault is not None:
            raise SgdlineError(
                f"A copy of the network must compute the same as the network, got {fault}. The network keeps something "
                "outside of its modules, or draws random numbers that no seed determines. Measure the network itself: "
                "in_place: true in the plan, in Python plan=Plan(in_place=True)."
            )

    @contextmanager
    def line(self, direction: Mapping[str, Tensor], *, origin: Mapping[str, Tensor] | None = None) -> Iterator[Line]:
        """Open the line through the present parameters along `direction`; close it with everything as it was.

        Parameters, buffers, train/eval modes and the state of the global random generators come back bit for bit.

        Args:
            direction: One tensor per trainable parameter. Positions are multiples of it, lengths if its norm over
                all of them is 1.
            origin: Where s = 0 lies, if not at the present parameters; one tensor per trainable parameter.

        Raises:
            SgdlineError: If the direction does not fit the network's parameters.
            DrawsError: If the plan says that the network draws no random numbers, and it drew some.
        """
        start = self.network.origin() if origin is None else self.network.flatten(origin)
        along = self.network.flatten(direction)
        with self.network.opened(), self.network.undrawn():
            yield Line(self.network, start, along)


class Together:
    """Several sets whose chunks share one forward pass; the last set is exchanged from line to line.

    For small networks a pass costs more than its samples. Chunks of another size than the others, the ends of the
    sets, get passes of their own.
    """

    def __init__(self, engine: LineEngine, parts: Sequence[tuple[Tensor, Tensor]], *, chunk_size: int) -> None:
        """Join sets.

        Args:
            engine: The engine; its plan takes several chunks per pass.
            parts: Inputs and targets of each set. The last one has at most chunk_size samples.
            chunk_size: Samples that share BatchNorm's statistics.
        """
        inputs, targets = zip(*parts, strict=True)
        whole = [len(part) - len(part) % chunk_size for part in targets]
        joined = [
            torch.cat([part[:count] for part, count in zip(kind, whole, strict=True)]) for kind in (inputs, targets)
        ]
        ends = [(x[count:], y[count:]) for x, y, count in zip(inputs, targets, whole, strict=True)]
        self._slot = slice(sum(whole[:-1]), sum(whole))
        # Where the samples of each set are among all of them, whole chunks first.
        firsts = [sum(whole[:index]) for index in range(len(whole))]
        self._ranges = [[slice(first, first + count)] for first, count in zip(firsts, whole, strict=True)]
        chunks = sum(whole) // chunk_size
        self._sets = [engine.prepare(*joined, chunk_size=chunk_size, mask_seeds=[0] * chunks, chunks_per_pass=chunks)]
        # The pass's own tensors: preparing may have converted what was given, and the exchange has to reach them.
        self._inputs, self._targets = self._sets[0].passes[0].inputs, self._sets[0].passes[0].targets
        begin = sum(whole)
        for index, (x, y) in enumerate(ends):
            if len(y):
                self._sets.append(engine.prepare(x, y, chunk_size=chunk_size, mask_seeds=[0], lasting=False))
                self._ranges[index].append(slice(begin, begin + len(y)))
                begin += len(y)

    def exchange(self, inputs: Tensor, targets: Tensor) -> bool:
        """Put another last set in the place of the present one; return False if it has another size."""
        if len(targets) != self._slot.stop - self._slot.start:
            return False
        self._inputs[self._slot] = inputs
        self._targets[self._slot] = targets
        return True

    def losses(self, measure: Callable[[MeasuringSet], Tensor]) -> list[Tensor]:
        """Return the losses of each set. Shapes (K, N_i).

        Args:
            measure: Set -> the losses of its samples, as the methods of `Line` give them. Shape (K, N).
        """
        found = torch.cat([measure(part) for part in self._sets], dim=1)
        return [torch.cat([found[:, part] for part in ranges], dim=1) for ranges in self._ranges]


class Line:
    """An open line; see `LineEngine.line`."""

    def __init__(self, network: Network, origin: Tensor, direction: Tensor) -> None:
        self._network = network
        self._origin = origin
        self._direction = direction

    def losses(self, positions: Sequence[float], measured: MeasuringSet) -> Tensor:
        """Return the loss of every sample at positions, in nats. Shape (K, N), on the network's device.

        Cost: one forward pass over the set per position.
        """
        steps = torch.tensor(list(positions), dtype=torch.float64, device=self._origin.device)
        return self._network.losses_along(self._origin, self._direction, steps, measured)

    def losses_at(self, parameters: Tensor, measured: MeasuringSet) -> Tensor:
        """Return the loss of every sample at a parameter vector in `Network.flatten`'s order. Shape (1, N)."""
        return self._network.losses(parameters[None], measured)


def mean_losses(losses: Tensor) -> Tensor:
    """Return the mean over samples, accumulated in float64. Shapes (K, N) -> (K,)."""
    return losses.double().sum(dim=-1) / losses.shape[-1]


def chunk_means(losses: Tensor, sizes: Sequence[int]) -> Tensor:
    """Return the mean over the samples of each chunk, accumulated in float64. Shapes (K, N) -> (K, C)."""
    parts = torch.split(losses.double(), list(sizes), dim=-1)
    return torch.stack([part.mean(dim=-1) for part in parts], dim=-1)
