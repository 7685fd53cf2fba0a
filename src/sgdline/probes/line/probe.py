"""The line probe: losses along theta_t + s*d_t, d_t = -m_t/||m_t||, s a Euclidean length.

Source: papers.md 2.2 with its clean rules; the measuring itself is the line engine's (sgdline.engine).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from sgdline.data.images import ImageData, ImageSet
from sgdline.engine.lines import Line, Together, chunk_means, mean_losses
from sgdline.engine.network import MeasuringSet
from sgdline.engine.plan import Plan
from sgdline.engine.positions import choose_positions
from sgdline.probes.line.options import LineOptions
from sgdline.probes.line.table import LINE
from sgdline.probes.probe import Probe, Rows, place_of
from sgdline.probes.update_lines import NextStart, UpdateLines, unit_direction
from sgdline.train.loop import Trainer, Update
from sgdline.train.micro_batches import mask_seeds
from sgdline.train.settings import TrainingSettings
from sgdline.train.vectors import inner


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


class LineSampler(UpdateLines):
    """Measures lines from the present position of a run, along the vector of any update."""

    def __init__(
        self, trainer: Trainer, images: ImageData, run: TrainingSettings, options: LineOptions, plan: Plan
    ) -> None:
        """Prepare the measuring sets; arguments and errors as in `UpdateLines`."""
        super().__init__(
            trainer,
            images,
            run,
            plan,
            loss=trainer.loss.of_samples(),
            batch_norm=options.batch_norm,
            augment=options.augment,
            validation=options.validation,
        )
        self.options = options
        measured, self._chunk_size = self.measured, self.measured.chunk_size
        self._together: Together | None = None
        chunks = len(measured.mask_seeds("train"))
        if 1 < plan.chunks_per_pass >= chunks and self._chunk_size == run.batch_size:
            # A pass takes the whole training set: what else is measured at a position goes along. A batch of several
            # chunks does not: it may be as large as the training set.
            parts = [measured.train, measured.validation] if len(measured.validation) else [measured.train]
            batch = ImageSet(images.train.inputs[: self._chunk_size], images.train.targets[: self._chunk_size])
            pairs = [(part.inputs, part.targets) for part in (*parts, batch)]
            self._together = Together(self.engine, pairs, chunk_size=self._chunk_size)

    def facts(self) -> dict[str, Any]:
        """Return what the table's metadata has to say about the measurement."""
        validation = 0 if self.validation is None else self.validation.samples
        return {**super().facts(), "positions": self.options.positions, "validation_samples": validation}

    def measure(self, update: Update, *, at_zero: AtPosition | None = None) -> MeasuredLine:
        """Measure the line of one update.

        Args:
            update: An update from the run's present position. It need not be the one that the run makes.
            at_zero: What an earlier line found at the same position; its direction batch is replaced.

        Cost: one forward pass over measuring and validation set per position, and one at the step itself.
        """
        options = self.options
        batch = self.engine.prepare(
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
        with self.opened(update) as (line, parameters):
            if at_zero is not None:
                found[0.0] = self._replaced_batch(at_zero, line, batch)

            def measure(positions: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
                missing = [position for position in positions.tolist() if position not in found]
                if missing:
                    here = self._measured(lambda part: line.losses(missing, part), batch, joined)
                    found.update(zip(missing, here, strict=True))
                here = [found[position] for position in positions.tolist()]
                curves = [[h.train for h in here], [h.direction_batch for h in here]]
                if self.validation is not None:
                    curves.append([h.validation for h in here])  # type: ignore[misc]
                return np.array(curves)

            line_positions = choose_positions(
                measure,
                grid=options.positions == "grid",
                interval=options.interval,
                max_rings=options.max_rings,
                resolution=options.resolution,
                tolerance=options.tolerance,
            )
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
            **place_of(update),
            "direction_norm": update.direction_norm,
            "step_length": step_length,
            "direction_batch_slope": inner(unit_direction(update), update.gradient),
            "panel_edges": line_positions.panel_edges,
            "positions": line_positions.positions,
            "train_loss": np.array([node.train for node in nodes]),
            "direction_batch_loss": np.array([node.direction_batch for node in nodes]),
            "validation_loss": None if self.validation is None else np.array([node.validation for node in nodes]),
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
        sets = [self.train, *([] if self.validation is None else [self.validation]), batch]
        return self._summaries([measure(part) for part in sets])

    def _replaced_batch(self, known: AtPosition, line: Line, batch: MeasuringSet) -> AtPosition:
        own = line.losses([0.0], batch)
        samples = own[0].float().cpu().numpy() if self.options.sample_losses else None
        mean = float(mean_losses(own)[0])
        return replace(known, direction_batch=mean, direction_batch_samples=samples)

    def _summaries(self, losses: list[Tensor]) -> list[AtPosition]:
        """Bring the means of (K, N) losses of train, validation if any, and batch to the host at once."""
        train, batch = losses[0], losses[-1]
        validation = losses[1] if len(losses) == 3 else None
        chunks = chunk_means(train, self.train.sizes).float().cpu().numpy()
        samples = batch_samples = None
        if self.options.sample_losses:
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


class LineProbe(Probe[LineOptions]):
    """Measures one line at every n-th update of a run."""

    table = LINE

    def prepare(self) -> None:
        """Prepare the measurement; errors as in `LineSampler`."""
        self.lines = LineSampler(self.trainer, self.images, self.run, self.options, self.plan)
        # Several positions in a pass: the same position alone may differ in its last bits.
        self._reuses = self.plan.positions_per_pass == 1 and self.lines.end_is_next_start
        self._starts: NextStart[AtPosition] = NextStart()

    def facts(self) -> dict[str, Any]:
        """Return what the table's metadata has to say about the measurement."""
        return self.lines.facts()

    def measure(self, update: Update) -> Rows:
        """Measure the line of one update.

        Returns:
            One row of the table `line`.

        Cost: that of `LineSampler.measure`; the pass at the step serves the next line, if that is measured, as its
            value at 0.
        """
        line = self.lines.measure(update, at_zero=self._starts.take(update.step))
        if self._reuses and self.due(update.step + 1):
            self._starts.keep(update.step + 1, line.at_step)
        return [line.row]
