"""The line probe: losses along theta_t + s*d_t, d_t = -m_t/||m_t||, s a Euclidean length.

Source: papers.md 2.2 with its clean rules: parameters are set from one copy, samples, chunks, augmentation and
dropout masks stay the same along a line, BatchNorm takes the statistics of each chunk of the training batch size
(or the running ones), means are sums over samples divided by N, accumulated in float64.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from sgdline.data.augmentation import augment
from sgdline.data.images import ImageData, ImageSet
from sgdline.errors import SgdlineError
from sgdline.models.parameters import ParameterVector, buffers_of, restore_buffers
from sgdline.probes.positions import choose_positions
from sgdline.seeds import derive_seed, generator
from sgdline.train.loop import Trainer, Update
from sgdline.train.vectors import inner

TABLE = "line"

# Divisor for a vanishing update vector (papers.md section 1); such lines carry the status zero_direction.
_SMALLEST_NORM = 1e-10


@dataclass(frozen=True)
class Chunk:
    """Samples that go through the network together; with BatchNorm in train mode they share its statistics."""

    inputs: Tensor  # (n, C, H, W)
    targets: Tensor  # (n,)
    mask_seed: int  # seed of the dropout masks, the same at every position


def cut_into_chunks(images: ImageSet, *, chunk_size: int, seed: int, purpose: str) -> list[Chunk]:
    """Cut a set, in its own order, into chunks; the last one may be smaller.

    Args:
        images: The set to measure on.
        chunk_size: Samples per chunk.
        seed: Seed of the run, for the dropout masks.
        purpose: Name of the masks' generator.
    """
    pairs = zip(torch.split(images.inputs, chunk_size), torch.split(images.targets, chunk_size), strict=True)
    return [Chunk(x, y, derive_seed(seed, purpose, index)) for index, (x, y) in enumerate(pairs)]


class LineEngine:
    """Per-sample losses of a network along lines in its parameter space; leaves the network as it was."""

    def __init__(self, model: nn.Module, vector: ParameterVector, *, batch_norm: str) -> None:
        """Take a network whose trainable parameters are the views of `vector`.

        Args:
            model: The network.
            vector: Its parameter vector.
            batch_norm: "train": statistics of each chunk, dropout on; "eval": running statistics, dropout off.
        """
        self._model = model
        self._vector = vector
        self._train_mode = batch_norm == "train"

    @contextmanager
    def line(self, direction: Tensor) -> Iterator[Line]:
        """Open the line through the present parameters along `direction`; close it with everything restored.

        Parameters, buffers, train/eval modes and the state of the global random generators come back bit for bit.

        Args:
            direction: Shape (p,). Positions are multiples of it, lengths if it is a unit vector.
        """
        origin = self._vector.value.clone()
        buffers = buffers_of(self._model)
        modes = [(module, module.training) for module in self._model.modules()]
        devices = [origin.device] if origin.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices), torch.no_grad():
            self._model.train(self._train_mode)
            try:
                yield Line(self._model, self._vector, origin, direction)
            finally:
                self._vector.value.copy_(origin)
                restore_buffers(self._model, buffers)
                for module, training in modes:
                    module.training = training


class Line:
    """An open line; see `LineEngine.line`."""

    def __init__(self, model: nn.Module, vector: ParameterVector, origin: Tensor, direction: Tensor) -> None:
        self._model = model
        self._vector = vector
        self._origin = origin
        self._direction = direction

    def losses(self, position: float, chunks: Sequence[Chunk]) -> list[Tensor]:
        """Return the per-sample losses of each chunk at a position, in nats. Shapes (n,), on the device.

        Cost: one forward pass over the chunks.
        """
        torch.add(self._origin, self._direction, alpha=position, out=self._vector.value)
        found = []
        for chunk in chunks:
            torch.manual_seed(chunk.mask_seed)
            found.append(functional.cross_entropy(self._model(chunk.inputs), chunk.targets, reduction="none"))
        return found


def mean_of(losses: Sequence[Tensor]) -> float:
    """Return the mean over all samples of all chunks, accumulated in float64."""
    flat = torch.cat(list(losses)).double()
    return float(flat.sum() / flat.numel())


@dataclass(frozen=True)
class _AtPosition:
    train: float
    direction_batch: float
    validation: float | None
    chunks: list[float]  # (C,)
    samples: list[float] | None  # (N,)


class Probe:
    """Measures one line at every n-th update of a run; see sgdline.probes.segment for the interface."""

    def __init__(
        self, trainer: Trainer, images: ImageData, run: Mapping[str, Any], settings: Mapping[str, Any]
    ) -> None:
        """Prepare the measuring sets.

        Args:
            trainer: The run to measure.
            images: Its data set.
            run: Its training slice.
            settings: The config's line block.

        Raises:
            SgdlineError: If BatchNorm in train mode would see a chunk of one sample.
        """
        self._trainer = trainer
        self._settings = settings
        self._engine = LineEngine(trainer.model, trainer.vector, batch_norm=settings["batch_norm"])
        seed, chunk_size = int(run["seed"]), int(run["batch_size"])
        measuring, validation = images.train, images.validation
        if settings["augment"]:
            measuring, validation = (
                ImageSet(
                    augment(
                        part.inputs,
                        **run["augmentation"],
                        fill=images.black,
                        generator=generator(seed, f"probe_augmentation_{name}"),
                    ),
                    part.targets,
                )
                for name, part in (("train", measuring), ("validation", validation))
            )
        self._train = cut_into_chunks(measuring, chunk_size=chunk_size, seed=seed, purpose="probe_masks")
        self._validation: list[Chunk] = []
        if settings["validation"] and len(validation.targets):
            self._validation = cut_into_chunks(
                validation, chunk_size=chunk_size, seed=seed, purpose="probe_masks_validation"
            )
        for chunks, key in ((self._train, "train"), (self._validation, "validation")):
            if settings["batch_norm"] == "train" and chunks and len(chunks[-1].targets) == 1:
                raise SgdlineError(
                    f"The last chunk of the {key} set must hold at least two samples for BatchNorm in train mode, "
                    f"got 1. Change the data set's {key} or batch_size so that the rest of the division is not 1."
                )

    def facts(self) -> dict[str, Any]:
        """Return what the table's metadata has to say about the measurement."""
        return {
            "batch_norm": self._settings["batch_norm"],
            "positions": self._settings["positions"],
            "samples": sum(len(chunk.targets) for chunk in self._train),
            "validation_samples": sum(len(chunk.targets) for chunk in self._validation),
            "chunk_sizes": [len(chunk.targets) for chunk in self._train],
        }

    def due(self, step: int) -> bool:
        """Return whether the line of this update is to be measured."""
        return step % int(self._settings["every"]) == 0

    def measure(self, update: Update) -> dict[str, Any]:
        """Measure the line of one update.

        Returns:
            A row of the table `line`.

        Cost: one forward pass over measuring and validation set per position, and one at the step itself.
        """
        divisor = update.direction_norm if update.direction_norm > 0 else _SMALLEST_NORM
        direction = (update.direction.double() / -divisor).to(update.direction.dtype)
        batch = [Chunk(update.inputs, update.targets, update.mask_seed)]
        found: dict[float, _AtPosition] = {}

        with self._engine.line(direction) as line:

            def measure(position: float) -> tuple[float, ...]:
                train = line.losses(position, self._train)
                validation = line.losses(position, self._validation) if self._validation else None
                here = _AtPosition(
                    train=mean_of(train),
                    direction_batch=mean_of(line.losses(position, batch)),
                    validation=None if validation is None else mean_of(validation),
                    chunks=[mean_of([losses]) for losses in train],
                    samples=torch.cat(train).tolist() if self._settings["sample_losses"] else None,
                )
                found[position] = here
                means = (here.train, here.direction_batch)
                return means if here.validation is None else (*means, here.validation)

            line_positions = choose_positions(measure, self._settings)
            step_length = update.lr * update.direction_norm
            nodes = [found[position] for position in line_positions.positions.tolist()]
            if step_length not in found:
                measure(step_length)

        at_step = found[step_length]
        errors = line_positions.errors
        status = line_positions.status
        if update.direction_norm == 0.0:
            status = "zero_direction"
        samples = [loss for node in nodes for loss in node.samples or []]
        return {
            "step": update.step,
            "epoch": update.epoch,
            "lr": update.lr,
            "direction_norm": update.direction_norm,
            "step_length": step_length,
            "direction_batch_slope": inner(direction, update.gradient),
            "panel_edges": line_positions.panel_edges.tolist(),
            "positions": line_positions.positions.tolist(),
            "train_loss": [node.train for node in nodes],
            "direction_batch_loss": [node.direction_batch for node in nodes],
            "validation_loss": [node.validation for node in nodes] if self._validation else None,
            "chunk_loss": [loss for node in nodes for loss in node.chunks],
            "sample_loss": samples if self._settings["sample_losses"] else None,
            "step_train_loss": at_step.train,
            "step_direction_batch_loss": at_step.direction_batch,
            "interpolation_error": None if errors is None or np.isnan(errors[0]) else float(errors[0]),
            "direction_batch_interpolation_error": None if errors is None or np.isnan(errors[1]) else float(errors[1]),
            "evaluations": len(found),
            "rings": line_positions.rings,
            "status": status,
        }
