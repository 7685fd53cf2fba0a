"""Batches that are drawn once per run, the same at every update, and how their losses are measured.

Source: papers.md 3.3, C-M1 and C-M3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sgdline.data.batches import BatchOrder
from sgdline.data.images import ImageData, ImageSet
from sgdline.engine.lines import Line, LineEngine, chunk_means, mean_losses
from sgdline.engine.network import MeasuringSet, draws_random_numbers
from sgdline.engine.plan import Plan
from sgdline.errors import SgdlineError
from sgdline.probes.fresh_batches import batch_of_rows
from sgdline.probes.measuring_images import MeasuringImages, measuring_images
from sgdline.seeds import derive_seed, generator
from sgdline.train.batch import Batch
from sgdline.train.loop import Trainer
from sgdline.train.micro_batches import mask_seeds
from sgdline.train.settings import TrainingSettings

# Small networks pay for each pass rather than for its samples: several chunks share one, each with statistics of its
# own, if the losses stay the same but for rounding (a layer that mixes samples in its own way may change them).
_CHUNKS_PER_PASS = 8
_SAME_LOSS = 1e-4  # nats, and relative


class DrawnBatches:
    """Training batches of a run's batch size as functions of its seed and their number alone.

    ASSUME: they are what the run trains on, so they are augmented as its batches are, each with one fixed draw.
    """

    def __init__(self, images: ImageData, run: TrainingSettings) -> None:
        """Take the training set.

        Args:
            images: The run's data set.
            run: Its training slice.
        """
        self._images, self._run = images, run
        # The run's own seed also where it continues another run: both are measured on the same batches.
        self._seed = run.seed
        self._size = run.batch_size
        seed = derive_seed(self._seed, "drawn_batches")
        self._order = BatchOrder(len(images.train), batch_size=self._size, seed=seed, drop_last=True)

    def batch(self, index: int) -> Batch:
        """Return one of the fixed batches; as many as the training set holds are disjoint, then a new draw begins."""
        seed = derive_seed(self._seed, "drawn_batch", index)
        return batch_of_rows(self._images, self._run, self._order.indices(index), seed)

    def others(self, index: int, *, count: int) -> list[Batch]:
        """Return batches that share no image with a fixed one, nor with each other.

        Args:
            index: Number of the fixed batch.
            count: How many; together with the fixed one they must fit into the training set.
        """
        seed = derive_seed(self._seed, "other_batches", index)
        left = np.setdiff1d(np.arange(len(self._images.train)), self._order.indices(index).numpy())
        drawn = torch.from_numpy(left)[torch.randperm(len(left), generator=generator(seed, "rows"))]
        rows = [drawn[place * self._size : (place + 1) * self._size] for place in range(count)]
        return [
            batch_of_rows(self._images, self._run, own, derive_seed(seed, "batch", place))
            for place, own in enumerate(rows)
        ]


class BatchLosses:
    """Mean losses of batches and of whole splits along lines, BatchNorm in train mode with each chunk's statistics."""

    def __init__(self, trainer: Trainer, images: ImageData, run: TrainingSettings, *, validation: bool) -> None:
        """Make the engine and cut the splits into chunks.

        Args:
            trainer: The run, whose network and loss are taken.
            images: Its data set.
            run: Its training slice.
            validation: Whether the validation set is measured as well.

        Raises:
            SgdlineError: If BatchNorm would see a chunk of one sample.

        Cost: four forward passes over some chunks.
        """
        self._batch_size, self._chunk_size = run.batch_size, run.chunk_size
        measured = measuring_images(images, run, augment=False, validation=validation)
        first = slice(0, _CHUNKS_PER_PASS * self._chunk_size)
        tried = replace(measured, train=ImageSet(measured.train.inputs[first], measured.train.targets[first]))
        self._model, self._loss = trainer.model, trainer.loss.of_samples()
        self.engine = self._chosen_engine(tried)
        self.train = measured.prepared(self.engine)
        self.validation = measured.prepared(self.engine, "validation") if len(measured.validation) else None

    def prepared(self, batches: Sequence[Batch], *, engine: LineEngine | None = None) -> list[MeasuringSet]:
        """Cut batches of the run's batch size into its micro-batches, and join them where these divide the size.

        Args:
            batches: At least one.
            engine: What is to measure them; its own engine if None.
        """
        groups = [list(batches)] if self._batch_size % self._chunk_size == 0 else [[batch] for batch in batches]
        return [
            (engine or self.engine).prepare(
                torch.cat([batch.inputs for batch in group]),
                torch.cat([batch.targets for batch in group]),
                chunk_size=self._chunk_size,
                mask_seeds=[seed for batch in group for seed in mask_seeds(batch, self._chunk_size)],
                lasting=False,
            )
            for group in groups
        ]

    def batch_means(
        self, line: Line, positions: Sequence[float], measured: Sequence[MeasuringSet]
    ) -> NDArray[np.float64]:
        """Return the mean loss of each batch at positions of a line, nats.

        Args:
            line: An open line of the engine that the batches were prepared for.
            positions: K of them.
            measured: From `prepared`, of R batches.

        Returns:
            Shape (K, R).
        """
        losses = torch.cat([line.losses(positions, part) for part in measured], dim=1)
        return chunk_means(losses, [self._batch_size] * (losses.shape[1] // self._batch_size)).cpu().numpy()

    def present(self, measured: MeasuringSet) -> float:
        """Return the mean loss of a split at the present parameters, nats."""
        return float(mean_losses(_at_present(self.engine, measured))[0])

    def facts(self) -> dict[str, Any]:
        """Return what a table's metadata has to say about the splits."""
        return {
            "batch_norm": "train",
            "samples": self.train.samples,
            "validation_samples": 0 if self.validation is None else self.validation.samples,
            "chunk_sizes": list(self.train.sizes),
            "chunks_per_pass": self.engine.network.plan.chunks_per_pass,
        }

    def exact_engine(self, batch: Batch) -> tuple[LineEngine, str]:
        """Return an engine in float64 and its precision; in float32 if the network does not allow a float64 copy.

        Second differences down to a millionth of a curve's range (C-M2) are below what float32 resolves.

        Args:
            batch: One to try it on.

        Cost: one forward pass.
        """
        try:
            engine = LineEngine(self._model, self._loss, batch_norm="train", plan=Plan(precision="float64"))
            for part in self.prepared([batch], engine=engine):
                _at_present(engine, part)
        except Exception:  # a user's module can raise anything
            return self._engine_of(Plan()), "float32"
        return engine, "float64"

    def _chosen_engine(self, tried: MeasuringImages) -> LineEngine:
        """Return an engine that takes several chunks per pass, unless the network's losses are others then."""
        plain = self._engine_of(Plan())
        if plain.network.plan.in_place or draws_random_numbers(self._model, tried.train.inputs[:2], train_mode=True):
            return plain
        several = self._engine_of(Plan(reseed=False, chunks_per_pass=_CHUNKS_PER_PASS))
        expected, found = (_at_present(engine, tried.prepared(engine)) for engine in (plain, several))
        return several if torch.allclose(found, expected, rtol=_SAME_LOSS, atol=_SAME_LOSS) else plain

    def _engine_of(self, plan: Plan) -> LineEngine:
        """Return an engine on a copy of the network, or in place where it cannot be copied."""
        try:
            return LineEngine(self._model, self._loss, batch_norm="train", plan=plan)
        except SgdlineError:
            return LineEngine(self._model, self._loss, batch_norm="train", plan=Plan(in_place=True))


def _at_present(engine: LineEngine, measured: MeasuringSet) -> Tensor:
    """Return the loss of every sample at the network's present parameters. Shape (1, N)."""
    with engine.network.opened():
        return engine.network.losses(engine.network.origin()[None], measured)
