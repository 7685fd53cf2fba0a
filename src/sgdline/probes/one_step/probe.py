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
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sgdline.analysis.batch_curves import grid_minimum
from sgdline.engine.lines import mean_losses
from sgdline.errors import SgdlineError
from sgdline.probes.drawn_batches import BatchLosses, DrawnBatches
from sgdline.probes.gradients import batch_gradient
from sgdline.probes.one_step.options import OneStepOptions
from sgdline.probes.one_step.table import ONE_STEP
from sgdline.probes.probe import Probe, Rows
from sgdline.train.loop import Update
from sgdline.train.vectors import norm


class OneStepProbe(Probe[OneStepOptions]):
    """Sweeps the step size at every n-th update of a run."""

    table = ONE_STEP

    def prepare(self) -> None:
        """Draw the batches.

        Raises:
            SgdlineError: If the training set is too small for the other batches, or BatchNorm would see a chunk of
                one sample.
        """
        options, images, run = self.options, self.images, self.run
        samples, size, others = len(images.train), run.batch_size, options.other_batches
        if (others + 1) * size > samples:
            raise SgdlineError(
                f"probes.one_step.other_batches must leave {others + 1} batches of {size} within the {samples} "
                f"training images, got {others}. Lower it, or use smaller batches."
            )
        self._multiples: NDArray[np.float64] = np.concatenate(
            [[0.0], np.geomspace(options.lowest, options.highest, options.step_sizes)]
        )
        self._batches = DrawnBatches(images, run)
        self._losses = BatchLosses(self.trainer, images, run, validation=options.validation)
        self._exact, self._precision = self._losses.exact_engine(self._batches.batch(0))
        self._last_lr = 0.0

    def facts(self) -> dict[str, Any]:
        """Return what the table's metadata has to say about the measurement."""
        counts = {"batches": self.options.batches, "other_batches": self.options.other_batches}
        return {**self._losses.facts(), **counts, "own_precision": self._precision}

    def observe(self, update: Update) -> None:
        """Remember the learning rate of the last update."""
        self._last_lr = update.lr

    def measure(self, update: Update) -> Rows:
        """Measure the steps of all batches at theta_t.

        Returns:
            One row of the table `one_step` per batch.

        Cost: per batch one gradient; per step size one forward pass over the batch, the other batches and the
            validation set; per quadratic point one over the batch in float64. Besides, one over the training set.
            On the default's tiny_resnet (8x8, 8 batches of 64, 4 others each, 256 validation images) 2 to 4 s of one
            CPU core per position.
        """
        return self._rows(update.step, update.epoch, update.lr)

    def finish(self) -> Rows:
        """Measure the same at the run's last parameters."""
        return self._rows(*self.end(), self._last_lr)

    def _rows(self, step: int, epoch: float, lr: float) -> Rows:
        shared = {"step": step, "epoch": epoch, "lr": lr, "train_loss": self._losses.present(self._losses.train)}
        # ASSUME: where a schedule starts or ends at a rate of 0, the grid lies around the run's own rate.
        step_sizes = self._multiples * (lr if lr > 0.0 else self.trainer.in_unit(self.run.lr))
        return [{**shared, "batch": index, **self._swept(index, step_sizes)} for index in range(self.options.batches)]

    def _swept(self, index: int, step_sizes: NDArray[np.float64]) -> dict[str, Any]:
        """Return what one batch adds to its row."""
        batch = self._batches.batch(index)
        start, gradient = batch_gradient(self.trainer, batch)
        direction = self.trainer.vector.split(-gradient)
        places = step_sizes.tolist()
        row: dict[str, Any] = {"gradient_norm": norm(gradient), "step_sizes": step_sizes}
        finite = math.isfinite(start) and math.isfinite(row["gradient_norm"])
        everything = self._losses.prepared([batch, *self._batches.others(index, count=self.options.other_batches)])
        with self._losses.engine.line(direction) as line:
            losses = self._losses.batch_means(line, places, everything)
            row |= {"own_loss": losses[:, 0].copy(), "other_loss": losses[:, 1:].mean(axis=1)}
            if self._losses.validation is not None:
                row["validation_loss"] = mean_losses(line.losses(places, self._losses.validation)).cpu().numpy()
        lowest = grid_minimum(step_sizes, row["own_loss"]) if finite else None
        if lowest is not None and lowest.place > 0.0:
            even = np.linspace(0.0, 2.0 * lowest.place, self.options.quadratic_points)
            own = self._losses.prepared([batch], engine=self._exact)
            with self._exact.line(direction) as line:
                found = self._losses.batch_means(line, even.tolist(), own)[:, 0]
            row |= {"quadratic_step_sizes": even, "quadratic_own_loss": found}
        status = "non_finite" if lowest is None else "ok" if lowest.place > 0.0 else "flat"
        return {**row, "status": status}
