"""Batches that are drawn once per run, the same at every update, and how their losses are measured.

Source: papers.md 3.3, C-M1 and C-M3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sgdline.data.augmentation import augment
from sgdline.data.batches import BatchOrder
from sgdline.data.images import ImageData, ImageSet
from sgdline.engine.hessian import cross_entropy
from sgdline.engine.lines import Line, LineEngine, chunk_means, mean_losses
from sgdline.engine.network import MeasuringSet, draws_random_numbers
from sgdline.engine.plan import Plan
from sgdline.errors import SgdlineError
from sgdline.probes.measuring_images import measuring_images
from sgdline.seeds import derive_seed, generator
from sgdline.train.batch import Batch
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
        self._images = images
        self._augmentation = asdict(run.augmentation)
        # The run's own seed also where it continues another run: both are measured on the same batches.
        self._seed = run.seed
        self._size = run.batch_size
        seed = derive_seed(self._seed, "drawn_batches")
        self._order = BatchOrder(len(images.train), batch_size=self._size, seed=seed, drop_last=True)

    def batch(self, index: int) -> Batch:
        """Return one of the fixed batches; as many as the training set holds are disjoint, then a new draw begins."""
        return self._batch_of(self._order.indices(index), derive_seed(self._seed, "drawn_batch", index))

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
        return [self._batch_of(own, derive_seed(seed, "batch", place)) for place, own in enumerate(rows)]

    def _batch_of(self, rows: Tensor, seed: int) -> Batch:
        train = self._images.train
        here = rows.to(train.targets.device)
        draws = generator(seed, "augmentation")
        inputs = augment(train.inputs[here], **self._augmentation, fill=self._images.black, generator=draws)
        return Batch(inputs, train.targets[here], rows, derive_seed(seed, "dropout"))


class BatchLosses:
    """Mean losses of batches and of whole splits along lines, BatchNorm in train mode with each chunk's statistics."""

    def __init__(self, model: nn.Module, images: ImageData, run: TrainingSettings, *, validation: bool) -> None:
        """Make the engine and cut the splits into chunks.

        Args:
            model: The run's network.
            images: Its data set.
            run: Its training slice.
            validation: Whether the validation set is measured as well.

        Raises:
            SgdlineError: If BatchNorm would see a chunk of one sample.

        Cost: four forward passes over some chunks.
        """
        self._batch_size, self._chunk_size = run.batch_size, run.chunk_size
        measured = measuring_images(images, run, {"validation": validation, "augment": False})
        first = slice(0, _CHUNKS_PER_PASS * self._chunk_size)
        tried = ImageSet(measured.train.inputs[first], measured.train.targets[first])
        self.engine = self._chosen_engine(model, tried, measured.mask_seeds("train")[:_CHUNKS_PER_PASS])
        self.train = self._prepared_split(self.engine, measured.train, measured.mask_seeds("train"))
        self.validation: MeasuringSet | None = None
        if len(measured.validation):
            self.validation = self._prepared_split(self.engine, measured.validation, measured.mask_seeds("validation"))

    def _chosen_engine(self, model: nn.Module, tried: ImageSet, seeds: list[int]) -> LineEngine:
        """Return an engine that takes several chunks per pass, unless the network's losses are others then."""
        plain = _engine_of(model, Plan())
        if plain.network.plan.in_place or draws_random_numbers(model, tried.inputs[:2], train_mode=True):
            return plain
        several = _engine_of(model, Plan(reseed=False, chunks_per_pass=_CHUNKS_PER_PASS))
        expected, found = (
            _at_present(engine, self._prepared_split(engine, tried, seeds)) for engine in (plain, several)
        )
        return several if torch.allclose(found, expected, rtol=_SAME_LOSS, atol=_SAME_LOSS) else plain

    def _prepared_split(self, engine: LineEngine, part: ImageSet, seeds: list[int]) -> MeasuringSet:
        return engine.prepare(part.inputs, part.targets, chunk_size=self._chunk_size, mask_seeds=seeds)

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

    def exact_engine(self, model: nn.Module, batch: Batch) -> tuple[LineEngine, str]:
        """Return an engine in float64 and its precision; in float32 if the network does not allow a float64 copy.

        Second differences down to a millionth of a curve's range (C-M2) are below what float32 resolves.

        Args:
            model: The run's network.
            batch: One to try it on.

        Cost: one forward pass.
        """
        try:
            engine = LineEngine(model, cross_entropy, batch_norm="train", plan=Plan(precision="float64"))
            for part in self.prepared([batch], engine=engine):
                _at_present(engine, part)
        except Exception:  # a user's module can raise anything
            return _engine_of(model, Plan()), "float32"
        return engine, "float64"


def _at_present(engine: LineEngine, measured: MeasuringSet) -> Tensor:
    """Return the loss of every sample at the network's present parameters. Shape (1, N)."""
    with engine.network.opened():
        return engine.network.losses(engine.network.origin()[None], measured)


def _engine_of(model: nn.Module, plan: Plan) -> LineEngine:
    """Return an engine on a copy of the network, or in place where it cannot be copied."""
    try:
        return LineEngine(model, cross_entropy, batch_norm="train", plan=plan)
    except SgdlineError:
        return LineEngine(model, cross_entropy, batch_norm="train", plan=Plan(in_place=True))
