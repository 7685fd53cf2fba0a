"""The published sampler's way to measure a line: the yardstick of the benchmark. Not used by sgdline itself.

Source: papers.md 2.2 for the positions and the batches, L4 for the moving parameters, L9 for the irregular positions.
The differences from the release are all in its favour: samples lie on the device already (no loading, no augmentation),
the last incomplete batch is kept, and a line never takes more than one ring.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from torch import Tensor, nn

INTERVAL = 0.5  # half-width I of the measured interval, Euclidean length
RESOLUTION = 0.006  # spacing r

# Inputs (n, ...) and targets (n,), on the device.
Samples = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class PublishedLine:
    """Losses of every sample along a line, on the host."""

    positions: NDArray[np.float64]  # (P,)
    train: NDArray[np.float32]  # (P, N), nats
    validation: NDArray[np.float32]  # (P, N_validation)
    direction_batch: NDArray[np.float32]  # (P, B)


def published_positions(step_length: float) -> NDArray[np.float64]:
    """Return where the release measures: -I, -I + r, ... below 0; 0, r, 2r, ... below I; and the step itself.

    I is no multiple of r, so the gap left of 0 is 0.002 instead of 0.006.

    Args:
        step_length: s_sgd, Euclidean length.

    Returns:
        Ascending positions. Shape (169,).
    """
    left = np.arange(-INTERVAL, 0.0, RESOLUTION)
    right = np.arange(0.0, INTERVAL, RESOLUTION)
    return np.sort(np.concatenate([left, right, [step_length]]))


def sample_line(
    model: nn.Module,
    direction: Mapping[str, Tensor],
    *,
    positions: Sequence[float],
    train: Samples,
    validation: Samples,
    direction_batch: Samples,
    batch_size: int,
) -> PublishedLine:
    """Measure a line the way of the release: eager, one batch at a time, parameters moved from position to position.

    Args:
        model: The network; it is in train mode afterwards, with the parameters and buffers that it had.
        direction: Unit vector, one tensor per trainable parameter.
        positions: Where to measure, Euclidean length: all of `published_positions`, or some to time a part of a line.
        train: Measuring set.
        validation: Validation set.
        direction_batch: The batch that gave the direction.
        batch_size: Samples per forward pass.

    Returns:
        PublishedLine: One row per position.
    """
    found: dict[str, list[Any]] = {"train": [], "validation": [], "direction_batch": []}
    sets = {"train": train, "validation": validation, "direction_batch": direction_batch}
    model.train()
    with torch.no_grad(), _put_back(model):
        present = 0.0
        for position in positions:
            _move(model, direction, position - present)
            present = position
            for name, (inputs, targets) in sets.items():
                found[name].append(_losses(model, inputs, targets, batch_size=batch_size))
    return PublishedLine(np.array(positions), **{name: np.stack(rows) for name, rows in found.items()})


def _move(model: nn.Module, direction: Mapping[str, Tensor], length: float) -> None:
    for name, parameter in model.named_parameters():
        if name in direction:
            parameter.add_(direction[name], alpha=length)


def _losses(model: nn.Module, inputs: Tensor, targets: Tensor, *, batch_size: int) -> NDArray[np.float32]:
    """Return the loss of every sample, brought to the host batch by batch. Shape (N,)."""
    found = []
    for first in range(0, len(targets), batch_size):
        part = slice(first, first + batch_size)
        losses = functional.cross_entropy(model(inputs[part]), targets[part], reduction="none")
        found.append(losses.cpu().numpy())
    return np.concatenate(found)


@contextmanager
def _put_back(model: nn.Module) -> Iterator[None]:
    """Put parameters and buffers back at the end. The release does not; it costs one copy a line."""
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    try:
        yield
    finally:
        model.load_state_dict(state)
