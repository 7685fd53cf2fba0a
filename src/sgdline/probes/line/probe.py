"""The line probe: losses along theta_t + s*d_t, d_t = -m_t/||m_t||, s a Euclidean length.

Source: papers.md 2.2 with its clean rules; the measuring itself is the line engine's (sgdline.engine).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor, nn

from sgdline.data.images import ImageData, ImageSet
from sgdline.engine.hessian import cross_entropy
from sgdline.engine.lines import Line, LineEngine, Together, chunk_means, mean_losses
from sgdline.engine.network import MeasuringSet
from sgdline.engine.plan import Plan
from sgdline.engine.positions import choose_positions
from sgdline.probes.measuring_images import measuring_images
from sgdline.tables.kinds.line import LINE
from sgdline.train.loop import Trainer, Update
from sgdline.train.micro_batches import mask_seeds
from sgdline.train.settings import TrainingSettings
from sgdline.train.vectors import inner

TABLE = LINE

# Divisor for a vanishing update vector (papers.md section 1); such lines carry the status zero_direction.
_SMALLEST_NORM = 1e-10


def unit_direction(update: Update) -> Tensor:
    """Return d_t = -m_t / ||m_t||. Shape (p,)."""
    divisor = update.direction_norm if update.direction_norm > 0 else _SMALLEST_NORM
    return (update.direction.double() / -divisor).to(update.direction.dtype)


@dataclass(frozen=True)
class AtPosition:
    """What is measured at one position of a line."""

    train: float  # mean losses, nats
    direction_batch: float
    validation: float | None
    chunks: np.ndarray[Any, Any]  # (C,) float32
    samples: np.ndarray[Any, Any] | None  # (N,) float32
    direction_batch_samples: np.ndarray[Any, Any] | None  # (B,) float32


@dataclass(frozen=True)
class MeasuredLine:
    """A line, and what other lines can take over from it."""

    row: dict[str, Any]  # of the table `line`
    at_zero: AtPosition
    at_step: AtPosition


class LineSampler:
    """Measures lines from the present position of a run, along the vector of any update."""

    def __init__(
        self, trainer: Trainer, images: ImageData, run: TrainingSettings, settings: Mapping[str, Any], plan: Plan
    ) -> None:
        """Prepare the measuring sets.

        Args:
            trainer: The run to measure.
            images: Its data set.
            run: Its training slice.
            settings: The config's line block.
            plan: How to make forward passes.

        Raises:
            SgdlineError: If BatchNorm in train mode would see a chunk of one sample, or the network does not allow
                the plan.
        """
        self._trainer = trainer
        self._settings = settings
        self._engine = LineEngine(trainer.model, cross_entropy, batch_norm=settings["batch_norm"], plan=plan)
        measured = measuring_images(images, run, settings)
        self._chunk_size = measured.chunk_size
        self._together: Together | None = None
        chunks = len(measured.mask_seeds("train"))
        if 1 < plan.chunks_per_pass >= chunks and self._chunk_size == run.batch_size:
            # A pass takes the whole training set: what else is measured at a position goes along. A batch of several
            # chunks does not: it may be as large as the training set.
            parts = [measured.train, measured.validation] if len(measured.validation) else [measured.train]
            batch = ImageSet(images.train.inputs[: measured.chunk_size], images.train.targets[: measured.chunk_size])
            pairs = [(part.inputs, part.targets) for part in (*parts, batch)]
            self._together = Together(self._engine, pairs, chunk_size=measured.chunk_size)
        self._train = self._prepared(measured.train, measured.chunk_size, measured.mask_seeds("train"))
        self._validation: MeasuringSet | None = None
        if len(measured.validation):
            seeds = measured.mask_seeds("validation")
            self._validation = self._prepared(measured.validation, measured.chunk_size, seeds)

    def _prepared(self, part: ImageSet, chunk_size: int, mask_seeds: list[int]) -> MeasuringSet:
        return self._engine.prepare(part.inputs, part.targets, chunk_size=chunk_size, mask_seeds=mask_seeds)

    def facts(self) -> dict[str, Any]:
        """Return what the table's metadata has to say about the measurement."""
        return {
            "batch_norm": self._settings["batch_norm"],
            "positions": self._settings["positions"],
            "samples": self._train.samples,
            "validation_samples": 0 if self._validation is None else self._validation.samples,
            "chunk_sizes": list(self._train.sizes),
        }

    def measure(self, update: Update, *, at_zero: AtPosition | None = None) -> MeasuredLine:
        """Measure the line of one update.

        Args:
            update: An update from the run's present position. It need not be the one that the run makes.
            at_zero: What an earlier line found at the same position; its direction batch is replaced.

        Cost: one forward pass over measuring and validation set per position, and one at the step itself.
        """
        direction = unit_direction(update)
        batch = self._engine.prepare(
            update.batch.inputs,
            update.batch.targets,
            chunk_size=self._chunk_size,
            mask_seeds=mask_seeds(update.batch, self._chunk_size),
            lasting=False,
        )
        joined = self._together
        if joined is not None and not joined.exchange(update.batch.inputs, update.batch.targets):
            joined = None
        found: dict[float, AtPosition] = {}
        self._engine.require_same()
        vector = self._trainer.vector
        # The very parameters that the next update starts from, so that its line can take over the losses. Before the
        # line: a network that is measured in place moves along it.
        target = vector.value.clone().add_(update.direction, alpha=-update.lr)
        parameters = self._engine.network.flatten(vector.split(target))

        with self._engine.line(vector.split(direction)) as line:
            if at_zero is not None:
                found[0.0] = self._replaced_batch(at_zero, line, batch)

            def measure(positions: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
                missing = [position for position in positions.tolist() if position not in found]
                if missing:
                    here = self._measured(lambda part: line.losses(missing, part), batch, joined)
                    found.update(zip(missing, here, strict=True))
                here = [found[position] for position in positions.tolist()]
                curves = [[h.train for h in here], [h.direction_batch for h in here]]
                if self._validation is not None:
                    curves.append([h.validation for h in here])  # type: ignore[misc]
                return np.array(curves)

            line_positions = choose_positions(measure, self._settings)
            step_length = update.lr * update.direction_norm
            nodes = [found[position] for position in line_positions.positions.tolist()]
            [at_step] = self._measured(lambda part: line.losses_at(parameters, part), batch, joined)

        errors = line_positions.errors
        status = line_positions.status
        if update.direction_norm == 0.0:
            status = "zero_direction"
        samples = [node.samples for node in nodes if node.samples is not None]
        batch_samples = [node.direction_batch_samples for node in nodes if node.direction_batch_samples is not None]
        row = {
            "step": update.step,
            "epoch": update.epoch,
            "lr": update.lr,
            "direction_norm": update.direction_norm,
            "step_length": step_length,
            "direction_batch_slope": inner(direction, update.gradient),
            "panel_edges": line_positions.panel_edges,
            "positions": line_positions.positions,
            "train_loss": np.array([node.train for node in nodes]),
            "direction_batch_loss": np.array([node.direction_batch for node in nodes]),
            "validation_loss": None if self._validation is None else np.array([node.validation for node in nodes]),
            "chunk_loss": np.concatenate([node.chunks for node in nodes]),
            "sample_loss": np.concatenate(samples) if samples else None,
            "direction_batch_sample_loss": np.concatenate(batch_samples) if batch_samples else None,
            "direction_batch_rows": update.batch.rows.numpy() if batch_samples else None,
            "step_train_loss": at_step.train,
            "step_direction_batch_loss": at_step.direction_batch,
            "interpolation_error": None if errors is None or np.isnan(errors[0]) else float(errors[0]),
            "direction_batch_interpolation_error": None if errors is None or np.isnan(errors[1]) else float(errors[1]),
            "evaluations": len(nodes) + 1,
            "rings": line_positions.rings,
            "status": status,
        }
        return MeasuredLine(row, found[0.0], at_step)

    def _measured(
        self, measure: Callable[[MeasuringSet], Tensor], batch: MeasuringSet, joined: Together | None
    ) -> list[AtPosition]:
        if joined is not None:
            return self._summaries(joined.losses(measure))
        sets = [self._train, *([] if self._validation is None else [self._validation]), batch]
        return self._summaries([measure(part) for part in sets])

    def _replaced_batch(self, known: AtPosition, line: Line, batch: MeasuringSet) -> AtPosition:
        own = line.losses([0.0], batch)
        samples = own[0].float().cpu().numpy() if self._settings["sample_losses"] else None
        mean = float(mean_losses(own)[0])
        return replace(known, direction_batch=mean, direction_batch_samples=samples)

    def _summaries(self, losses: list[Tensor]) -> list[AtPosition]:
        """Bring the means of (K, N) losses of train, validation if any, and batch to the host at once."""
        train, batch = losses[0], losses[-1]
        validation = losses[1] if len(losses) == 3 else None
        chunks = chunk_means(train, self._train.sizes).float().cpu().numpy()
        samples = batch_samples = None
        if self._settings["sample_losses"]:
            samples, batch_samples = train.float().cpu().numpy(), batch.float().cpu().numpy()
        train_means, batch_means = mean_losses(train).tolist(), mean_losses(batch).tolist()
        validation_means = None if validation is None else mean_losses(validation).tolist()
        return [
            AtPosition(
                train=train_means[index],
                direction_batch=batch_means[index],
                validation=None if validation_means is None else validation_means[index],
                chunks=chunks[index],
                samples=None if samples is None else samples[index],
                direction_batch_samples=None if batch_samples is None else batch_samples[index],
            )
            for index in range(len(train_means))
        ]


class Probe:
    """Measures one line at every n-th update of a run; see sgdline.probes.segment for the interface."""

    def __init__(
        self, trainer: Trainer, images: ImageData, run: TrainingSettings, settings: Mapping[str, Any], plan: Plan
    ) -> None:
        """Prepare the measurement; arguments and errors as in `LineSampler`."""
        self._every = int(settings["every"])
        self._lines = LineSampler(trainer, images, run, settings, plan)
        # Several positions in a pass: the same position alone may differ in its last bits.
        self._reuses = plan.positions_per_pass == 1 and depends_on_parameters_only(
            trainer.model, batch_norm=settings["batch_norm"]
        )
        self._next: tuple[int, AtPosition] | None = None

    def facts(self) -> dict[str, Any]:
        """Return what the table's metadata has to say about the measurement."""
        return self._lines.facts()

    def due(self, step: int) -> bool:
        """Return whether the line of this update is to be measured."""
        return step % self._every == 0

    def measure(self, update: Update) -> list[dict[str, Any]]:
        """Measure the line of one update.

        Returns:
            One row of the table `line`.

        Cost: that of `LineSampler.measure`; the pass at the step serves the next line, if that is measured, as its
            value at 0.
        """
        known, self._next = self._next, None
        at_zero = known[1] if known is not None and known[0] == update.step else None
        line = self._lines.measure(update, at_zero=at_zero)
        if self._reuses and self.due(update.step + 1):
            self._next = (update.step + 1, line.at_step)
        return [line.row]


def depends_on_parameters_only(model: nn.Module, *, batch_norm: str) -> bool:
    """Return whether the loss at theta_{t+1} is the same before and after the forward pass of update t + 1.

    It is if the only buffers are BatchNorm's running statistics and the line is measured without them.
    """
    statistics = {
        id(buffer)
        for module in model.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
        for buffer in module.buffers(recurse=False)
    }
    buffers = {id(buffer) for buffer in model.buffers()}
    return not buffers or (batch_norm == "train" and buffers <= statistics)
