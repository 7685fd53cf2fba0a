"""A run as the published sampler leaves it behind: pickles of synthetic lines, written from papers.md 2.2."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

BATCH = 4
LR = 0.1


def released_positions(step_length: float, *, interval: float = 0.5, resolution: float = 0.006) -> FloatArray:
    """Return the released grid: -I, -I+r, ... below 0; 0, r, ... below I; the step, twice if it meets one of them."""
    left = [-interval + k * resolution for k in range(int(2 * interval / resolution)) if -interval + k * resolution < 0]
    right = [k * resolution for k in range(int(2 * interval / resolution)) if k * resolution < interval]
    return np.sort(np.array([*left, *right, step_length]), kind="stable")


@dataclass(frozen=True)
class SyntheticLine:
    """Samples with the losses offset + slope*s + curvature/2*s^2 + cubic*s^3 along the line."""

    offset: FloatArray  # (n,)
    slope: FloatArray
    curvature: FloatArray
    cubic: FloatArray
    train: int  # the first ones are the measuring set, the next BATCH the direction batch, the rest validation
    direction_norm: float

    def losses(self, positions: FloatArray) -> FloatArray:
        """Return the loss of every sample. Shape (n, P)."""
        s = np.asarray(positions)[None, :]
        columns = (self.offset[:, None], self.slope[:, None], self.curvature[:, None], self.cubic[:, None])
        offset, slope, curvature, cubic = columns
        return offset + slope * s + curvature / 2 * s**2 + cubic * s**3

    def full(self, positions: FloatArray) -> FloatArray:
        """Return f. Shape (P,)."""
        return self.losses(positions)[: self.train].mean(axis=0)

    def batch(self, positions: FloatArray) -> FloatArray:
        """Return b. Shape (P,)."""
        return self.losses(positions)[self.train : self.train + BATCH].mean(axis=0)

    def fields(self, positions: FloatArray) -> list[Any]:
        """Return the eight entries of a file; the flag is false, as it always is."""
        losses = self.losses(positions)
        batch, validation = losses[self.train : self.train + BATCH], losses[self.train + BATCH :]
        step = LR * self.direction_norm
        return [losses[: self.train], validation, positions, batch, step, self.direction_norm, False, 3]


def synthetic_lines(count: int = 12, *, train: int = 10, validation: int = 4) -> list[SyntheticLine]:
    """Return lines whose full-batch minimum lies near 0.1 and whose direction batch's lies near 0.2."""
    draws = np.random.default_rng(7)
    lines = []
    for index in range(count):
        samples = train + BATCH + validation
        curvature = 8.0 + 0.3 * index + draws.uniform(-1, 1, samples)
        slope = -0.8 - 0.02 * index + draws.uniform(-0.1, 0.1, samples)
        slope[train : train + BATCH] *= 2.0
        offset = 2.0 / (1 + index) + draws.uniform(0, 0.3, samples)
        cubic = draws.uniform(-0.2, 0.2, samples)
        lines.append(SyntheticLine(offset, slope, curvature, cubic, train, direction_norm=1.1 + 0.07 * index))
    return lines


def write_pickle(folder: Path, step: int, fields: Any, *, protocol: int = 4) -> Path:
    """Write one file of the published sampler."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"line_data_{step}.pickle"
    path.write_bytes(pickle.dumps(fields, protocol=protocol))
    return path


def write_run(folder: Path, lines: list[SyntheticLine]) -> Path:
    """Write a run whose files have numbers without leading zeros, the norm a torch scalar; return the folder."""
    import torch

    for step, line in enumerate(lines):
        fields = line.fields(released_positions(LR * line.direction_norm))
        fields[5] = torch.tensor(line.direction_norm, dtype=torch.float64)
        write_pickle(folder, step, tuple(fields))
    return folder


def write_sgd_run(folder: Path, lines: list[SyntheticLine], *, lr: float, single: bool) -> Path:
    """Write a run of plain SGD with one learning rate: norms are slopes of the batches, `single` as torch has them."""
    import torch

    for step, line in enumerate(lines):
        slope = float(line.slope[line.train : line.train + BATCH].mean())
        norm = torch.tensor(-slope, dtype=torch.float32 if single else torch.float64)
        length = float(lr * norm)
        fields = line.fields(released_positions(length))
        fields[4:6] = length, norm
        write_pickle(folder, step, tuple(fields))
    return folder
