"""Fixed batches along a run: L_B(theta_t) of K of them, and on the straight segment from the iterate measured before.

BatchNorm is in train mode with the statistics of each batch (micro-batch), and augmentation and masks of a batch are
the same at every iterate, so that L_B is one function of the parameters.

Source: papers.md 3.3, C-M3.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sgdline.analysis.batch_curves import convexity_gap
from sgdline.data.batches import BatchOrder
from sgdline.data.images import ImageData
from sgdline.engine.plan import Plan
from sgdline.probes.drawn_batches import BatchLosses, DrawnBatches
from sgdline.tables.kinds.fixed_batches import FIXED_BATCHES
from sgdline.train.loop import Trainer, Update
from sgdline.train.settings import TrainingSettings

TABLE = FIXED_BATCHES
SEQUENTIAL = True


class _Iterate(NamedTuple):
    """A measured iterate."""

    step: int
    parameters: Tensor  # (p,)


class Probe:
    """Measures fixed batches at chosen updates of a run; see sgdline.probes.segment for the interface."""

    def __init__(
        self, trainer: Trainer, images: ImageData, run: TrainingSettings, settings: Mapping[str, Any], plan: Plan
    ) -> None:
        """Draw the batches.

        Args:
            trainer: The run to measure.
            images: Its data set.
            run: Its training slice.
            settings: The config's fixed_batches block.
            plan: Not used; passes are plain ones.

        Raises:
            SgdlineError: If BatchNorm would see a chunk of one sample.
        """
        self._trainer = trainer
        self._every, self._first = int(settings["every"]), int(settings["first"])
        count = int(settings["alphas"])
        self._alphas: NDArray[np.float64] = np.arange(count) / (count - 1)
        drawn = DrawnBatches(images, run)
        self._losses = BatchLosses(trainer.model, images, run, validation=False)
        self._count = int(settings["batches"])
        self._batches = self._losses.prepared([drawn.batch(index) for index in range(self._count)])
        order = BatchOrder(len(images.train), batch_size=run.batch_size, seed=0, drop_last=run.drop_last)
        self._end = run.steps, order.epoch(run.steps)
        self._before: _Iterate | None = None
        self._here: _Iterate | None = None

    def facts(self) -> dict[str, Any]:
        """Return what the table's metadata has to say about the measurement."""
        return {**self._losses.facts(), "batches": self._count}

    def due(self, step: int) -> bool:
        """Return whether the batches are to be measured at this update."""
        return step % self._every == 0 or step < self._first

    def observe(self, update: Update) -> None:
        """Keep the parameters of every iterate that is measured, here or by a job that was interrupted."""
        if self.due(update.step):
            self._move_to(update.step)

    def _move_to(self, step: int) -> None:
        self._before, self._here = self._here, _Iterate(step, self._trainer.vector.value.detach().clone())

    def measure(self, update: Update) -> list[dict[str, Any]]:
        """Measure all batches at theta_t and on the segment that leads there.

        Returns:
            One row of the table `fixed_batches` per batch.

        Cost: one forward pass over the batches per alpha, the end of one segment being measured again as the start of
            the next, and one over the training set. On the default's tiny_resnet (8x8, 8 batches of 64, 11 alphas)
            0.1 s of one CPU core per iterate.
        """
        return self._rows(update.step, update.epoch)

    def finish(self) -> list[dict[str, Any]]:
        """Measure the same at the run's last parameters."""
        step, epoch = self._end
        self._move_to(step)
        return self._rows(step, epoch)

    def _rows(self, step: int, epoch: float) -> list[dict[str, Any]]:
        assert self._here is not None
        before, split = self._before, self._trainer.vector.split
        train_loss = self._losses.present(self._losses.train)
        # Without an iterate before there is no segment, only its end: a line from here to here.
        alphas = [1.0] if before is None else self._alphas.tolist()
        here, origin = split(self._here.parameters), split((before or self._here).parameters)
        # In float64: the difference of two float32 vectors need not be one.
        direction = {name: here[name].double() - origin[name].double() for name in here}
        with self._losses.engine.line(direction, origin=origin) as line:
            curves = self._losses.batch_means(line, alphas, self._batches)
        rows = []
        for index, losses in enumerate(curves.T.copy()):
            row: dict[str, Any] = {"step": step, "epoch": epoch, "batch": index, "train_loss": train_loss}
            row["loss"] = float(losses[-1])
            row["status"] = "ok" if np.isfinite(losses).all() else "non_finite"
            if before is not None:
                gap = convexity_gap(self._alphas, losses)
                row |= {"from_step": before.step, "alphas": self._alphas, "segment_loss": losses}
                row["convexity_gap"] = None if math.isnan(gap) else gap
            rows.append(row)
        return rows
