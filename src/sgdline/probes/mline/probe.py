"""Lines in many directions from one position: those of all batches of the epoch that the position lies in.

At update t every batch B' of the epoch gives the vector m' that the update rule would have made of it in the place of
B_t, and the line along -m'/||m'|| is measured as the line probe measures its own. All lines start at the same theta_t,
with the same buffers and the same state of the update rule; the run then goes on with its own batch. Batches come from
the order of the run itself, not from the measuring set's (papers.md L16).

Source: papers.md 2.4, fig8, and 2.2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sgdline.data.images import ImageData
from sgdline.engine.plan import Plan
from sgdline.probes.gradients import batch_gradient
from sgdline.probes.line.probe import AtPosition, LineSampler
from sgdline.runtime import inner_progress
from sgdline.tables.kinds.mline import MLINE
from sgdline.train.loop import Trainer, Update
from sgdline.train.settings import TrainingSettings
from sgdline.train.vectors import norm

TABLE = MLINE


def line_block(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the line block that says how these lines are measured: neither validation set nor single samples."""
    return {**settings, "validation": False, "sample_losses": False}


def count_directions(trainer: Trainer, settings: Mapping[str, Any]) -> int:
    """Return the number of lines of a position: all batches of an epoch, or the first so many of them.

    Args:
        trainer: The run to measure.
        settings: The config's mline block.
    """
    batches, asked = trainer.updates_per_epoch, settings["directions"]
    return batches if asked == "all" else min(int(asked), batches)


class Probe:
    """Measures many lines at every n-th update of a run; see sgdline.probes.segment for the interface."""

    def __init__(
        self, trainer: Trainer, images: ImageData, run: TrainingSettings, settings: Mapping[str, Any], plan: Plan
    ) -> None:
        """Prepare the measurement.

        Args:
            trainer: The run to measure.
            images: Its data set.
            run: Its training slice.
            settings: The config's mline block.
            plan: How to make forward passes.

        Raises:
            SgdlineError: If BatchNorm in train mode would see a chunk of one sample, or the network does not allow
                the plan.
        """
        self._trainer = trainer
        self._every = int(settings["every"])
        self._directions = count_directions(trainer, settings)
        self._lines = LineSampler(trainer, images, run, line_block(settings), plan)
        # Several positions in a pass: the same position alone may differ in its last bits.
        self._reuses = plan.positions_per_pass == 1

    def facts(self) -> dict[str, Any]:
        """Return what the table's metadata has to say about the measurement."""
        return {**self._lines.facts(), "directions": self._directions}

    def due(self, step: int) -> bool:
        """Return whether lines are to be measured at this update."""
        return step % self._every == 0

    def measure(self, update: Update) -> list[dict[str, Any]]:
        """Measure the lines of all directions at the position of one update.

        Returns:
            One row of the table `mline` per direction, in the order of the batches. A batch whose loss or gradient is
            not finite gives a line without finite losses.

        Cost: per direction one gradient and one forward pass over the measuring set per position; the one at s = 0
            serves all directions.
        """
        first = update.step - update.step % self._trainer.updates_per_epoch
        rows = []
        at_zero: AtPosition | None = None
        for index in inner_progress(range(self._directions), total=self._directions, label="directions"):
            other = self._with_batch_of(update, first + index)
            line = self._lines.measure(other, at_zero=at_zero)
            rows.append({**line.row, "direction": index})
            # 0 times a direction that is not finite is no number either.
            if self._reuses and math.isfinite(other.direction_norm):
                at_zero = line.at_zero
        return rows

    def _with_batch_of(self, update: Update, step: int) -> Update:
        """Return the update that the run would make at its present position with the batch of another update.

        m' = m_t + (g' - g_t): the vectors of all update rules are linear in the gradient, so this is exact to rounding.
        ASSUME: lr_t stays; a rule that measures before it steps would choose another one for another batch.
        """
        if step == update.step:
            return update
        batch = self._trainer.batch(step)
        loss, gradient = batch_gradient(self._trainer, batch)
        direction = (update.direction.double() + gradient - update.gradient).to(update.direction.dtype)
        return replace(
            update,
            batch=batch,
            batch_loss=loss,
            gradient=gradient,
            direction=direction,
            direction_norm=norm(direction),
        )
