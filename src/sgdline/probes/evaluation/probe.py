"""The evaluation probe: loss and accuracy of the network as a user would use it, on every split of the data set.

BatchNorm takes its running statistics, unlike in the line probe, and nothing is augmented. The network is that of
theta_t, before update t; the training's own forward pass of update t has moved the running statistics once by then. The
first evaluations see statistics that are still near their initial values. The network at the very end of a run is not
evaluated: the last row is that of the last due update.

Source: papers.md 7, L3 and L25 (evaluation without gradients, its mode stated).
"""

from __future__ import annotations

from typing import Any

from sgdline.probes.evaluation.options import EvaluationOptions
from sgdline.probes.evaluation.table import EVALUATION
from sgdline.probes.evaluator import Evaluator, all_splits
from sgdline.probes.probe import Probe, Rows
from sgdline.train.loop import Update


class EvaluationProbe(Probe[EvaluationOptions]):
    """Evaluates the network at every n-th update of a run."""

    table = EVALUATION

    def prepare(self) -> None:
        """Take the splits of the data set."""
        self._evaluator = Evaluator(self.trainer, all_splits(self.images), self.run)

    def facts(self) -> dict[str, Any]:
        """Return what the table's metadata has to say about the measurement."""
        return {"batch_norm": "eval", **self._evaluator.facts()}

    def measure(self, update: Update) -> Rows:
        """Evaluate the network at theta_t.

        Returns:
            One row of the table `evaluation`; null for a split without images.

        Cost: one forward pass of all splits.
        """
        return [{"step": update.step, "epoch": update.epoch, **self._evaluator.measure()}]
