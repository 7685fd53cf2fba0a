"""One step on one batch: what it does to the batch's own loss, to other batches and to the validation set.

At theta each of K fixed batches B gives the gradient g_B, and phi_B(eta) = L_B(theta - eta*g_B) is measured at
eta = 0 and on a logarithmic grid around the learning rate; psi_B(eta) is the mean loss after the same step over other
batches of the training set, and the validation set is measured at the same places. Around its minimum phi_B is measured
once more on an even grid, in float64: a second difference of a millionth of its range is to be seen.

The last position is that of the trained network, after the last update.

Source: papers.md 3.3, C-M1 and C-M2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sgdline.analysis.batch_curves import grid_minimum
from sgdline.data.batches import BatchOrder
from sgdline.data.images import ImageData
from sgdline.engine.lines import mean_losses
from sgdline.engine.plan import Plan
from sgdline.errors import SgdlineError
from sgdline.probes.drawn_batches import BatchLosses, DrawnBatches
from sgdline.probes.gradients import batch_gradient
from sgdline.tables.kinds.one_step import ONE_STEP
from sgdline.train.loop import Trainer, Update
from sgdline.train.settings import TrainingSettings
from sgdline.train.vectors import norm

TABLE = ONE_STEP

# The trained network is measured as well, and that only who sees the end of the run can do.
SEQUENTIAL = True


class Probe:
    """Sweeps the step size at every n-th update of a run; see sgdline.probes.segment for the interface."""

    def __init__(
        self, trainer: Trainer, images: ImageData, run: TrainingSettings, settings: Mapping[str, Any], plan: Plan
    ) -> None:
        """Draw the batches.

        Args:
            trainer: The run to measure.
            images: Its data set.
            run: Its training slice.
            settings: The config's one_step block.
            plan: Not used; passes are plain ones.

        Raises:
            SgdlineError: If the training set is too small for the other batches, or BatchNorm would see a chunk of
                one sample.
        """
        self._trainer = trainer
        self._run = run
        self._every, self._count = int(settings["every"]), int(settings["batches"])
        self._others = int(settings["other_batches"])
        samples, size = len(images.train), run.batch_size
        if (self._others + 1) * size > samples:
            raise SgdlineError(
                f"probes.one_step.other_batches must leave {self._others + 1} batches of {size} within the {samples} "
                f"training images, got {self._others}. Lower it, or use smaller batches."
            )
        self._multiples: NDArray[np.float64] = np.concatenate(
            [[0.0], np.geomspace(float(settings["lowest"]), float(settings["highest"]), int(settings["step_sizes"]))]
        )
        self._quadratic_points = int(settings["quadratic_points"])
        self._batches = DrawnBatches(images, run)
        self._losses = BatchLosses(trainer.model, images, run, validation=bool(settings["validation"]))
        self._exact, self._precision = self._losses.exact_engine(trainer.model, self._batches.batch(0))
        order = BatchOrder(samples, batch_size=size, seed=0, drop_last=run.drop_last)
        self._end = run.steps, order.epoch(run.steps)
        self._last_lr = 0.0

    def facts(self) -> dict[str, Any]:
        """Return what the table's metadata has to say about the measurement."""
        counts = {"batches": self._count, "other_batches": self._others, "own_precision": self._precision}
        return {**self._losses.facts(), **counts}

    def due(self, step: int) -> bool:
        """Return whether steps are to be measured at this update."""
        return step % self._every == 0

    def observe(self, update: Update) -> None:
        """Remember the learning rate of the last update."""
        self._last_lr = update.lr

    def measure(self, update: Update) -> list[dict[str, Any]]:
        """Measure the steps of all batches at theta_t.

        Returns:
            One row of the table `one_step` per batch.

        Cost: per batch one gradient; per step size one forward pass over the batch, the other batches and the
            validation set; per quadratic point one over the batch in float64. Besides, one over the training set.
            On the default's tiny_resnet (8x8, 8 batches of 64, 4 others each, 256 validation images) 2 to 4 s of one
            CPU core per position.
        """
        return self._rows(update.step, update.epoch, update.lr)

    def finish(self) -> list[dict[str, Any]]:
        """Measure the same at the run's last parameters."""
        return self._rows(*self._end, self._last_lr)

    def _rows(self, step: int, epoch: float, lr: float) -> list[dict[str, Any]]:
        shared = {"step": step, "epoch": epoch, "lr": lr, "train_loss": self._losses.present(self._losses.train)}
        # ASSUME: where a schedule starts or ends at a rate of 0, the grid lies around the run's own rate.
        step_sizes = self._multiples * (lr if lr > 0.0 else self._trainer.in_unit(self._run.lr))
        return [{**shared, "batch": index, **self._swept(index, step_sizes)} for index in range(self._count)]

    def _swept(self, index: int, step_sizes: NDArray[np.float64]) -> dict[str, Any]:
        """Return what one batch adds to its row."""
        batch = self._batches.batch(index)
        start, gradient = batch_gradient(self._trainer, batch)
        direction = self._trainer.vector.split(-gradient)
        places = step_sizes.tolist()
        row: dict[str, Any] = {"gradient_norm": norm(gradient), "step_sizes": step_sizes}
        finite = math.isfinite(start) and math.isfinite(row["gradient_norm"])
        everything = self._losses.prepared([batch, *self._batches.others(index, count=self._others)])
        with self._losses.engine.line(direction) as line:
            losses = self._losses.batch_means(line, places, everything)
            row |= {"own_loss": losses[:, 0].copy(), "other_loss": losses[:, 1:].mean(axis=1)}
            if self._losses.validation is not None:
                row["validation_loss"] = mean_losses(line.losses(places, self._losses.validation)).cpu().numpy()
        lowest = grid_minimum(step_sizes, row["own_loss"]) if finite else None
        if lowest is not None and lowest.place > 0.0:
            even = np.linspace(0.0, 2.0 * lowest.place, self._quadratic_points)
            own = self._losses.prepared([batch], engine=self._exact)
            with self._exact.line(direction) as line:
                found = self._losses.batch_means(line, even.tolist(), own)[:, 0]
            row |= {"quadratic_step_sizes": even, "quadratic_own_loss": found}
        status = "non_finite" if lowest is None else "ok" if lowest.place > 0.0 else "flat"
        return {**row, "status": status}
