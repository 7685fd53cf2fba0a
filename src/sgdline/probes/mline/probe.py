"""Lines in many directions from one position: those of all batches of the epoch that the position lies in.

At update t every batch B' of the epoch gives the vector m' that the update rule would have made of it in the place of
B_t, and the line along -m'/||m'|| is measured as the line probe measures its own. All lines start at the same theta_t,
with the same buffers and the same state of the update rule; the run then goes on with its own batch. Batches come from
the order of the run itself, not from the measuring set's (papers.md L16).

Source: papers.md 2.4, fig8, and 2.2.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from sgdline.probes.gradients import batch_gradient
from sgdline.probes.line.probe import AtPosition, LineSampler
from sgdline.probes.mline.options import MlineOptions
from sgdline.probes.mline.table import MLINE
from sgdline.probes.probe import Probe, Rows
from sgdline.runtime import inner_progress
from sgdline.train.loop import Update
from sgdline.train.vectors import norm


class MlineProbe(Probe[MlineOptions]):
    """Measures many lines at every n-th update of a run."""

    table = MLINE

    def prepare(self) -> None:
        """Prepare the measurement; errors as in `LineSampler`."""
        batches, asked = self.trainer.updates_per_epoch, self.options.directions
        self._directions = batches if asked == "all" else min(asked, batches)
        measured = replace(self.options.line, validation=False, sample_losses=False)
        self._lines = LineSampler(self.trainer, self.images, self.run, measured, self.plan)
        # Several positions in a pass: the same position alone may differ in its last bits.
        self._reuses = self.plan.positions_per_pass == 1

    def facts(self) -> dict[str, Any]:
        """Return what the table's metadata has to say about the measurement."""
        return {**self._lines.facts(), "directions": self._directions}

    def measure(self, update: Update) -> Rows:
        """Measure the lines of all directions at the position of one update.

        Returns:
            One row of the table `mline` per direction, in the order of the batches. A batch whose loss or gradient is
            not finite gives a line without finite losses.

        Cost: per direction one gradient and one forward pass over the measuring set per position; the one at s = 0
            serves all directions.
        """
        first = update.step - update.step % self.trainer.updates_per_epoch
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

        m' = m_t + (g' - g_t): exact to rounding, as the options ask for an update rule that is linear in the gradient
        (`needs_linear_rule`).
        ASSUME: lr_t stays; a rule that measures before it steps would choose another one for another batch.
        """
        if step == update.step:
            return update
        batch = self.trainer.batch(step)
        loss, gradient = batch_gradient(self.trainer, batch)
        direction = (update.direction.double() + gradient - update.gradient).to(update.direction.dtype)
        return replace(
            update,
            batch=batch,
            batch_loss=loss,
            gradient=gradient,
            direction=direction,
            direction_norm=norm(direction),
        )
