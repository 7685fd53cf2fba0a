"""The Hessian of the full-batch loss along a run: largest and smallest eigenvalue, spectral norm.

Lanczos on exact Hessian-vector products over fixed chunks, fixed augmentation and fixed masks, to a tolerance; the
residual of every eigenvalue stands beside it (papers.md K8). Loss and Hessian are those of the data alone: weight decay
is no part of them. Validation loss and accuracy are measured as the evaluation probe does.

Source: papers.md 5.2, W-M7; 5.3, fig3 and fig6.
"""

from __future__ import annotations

import math
from typing import Any

from sgdline.engine.eigenvalues import spectrum_ends
from sgdline.probes.evaluator import Evaluator
from sgdline.probes.hessian import MeasuredHessian
from sgdline.probes.hvp.options import HvpOptions
from sgdline.probes.hvp.table import HVP
from sgdline.probes.probe import Probe, Rows, place_of
from sgdline.train.loop import Update


class HvpProbe(Probe[HvpOptions]):
    """Measures eigenvalues at every n-th update of a run."""

    table = HVP

    def prepare(self) -> None:
        """Cut the measuring set into chunks and draw the start of all Lanczos runs.

        Raises:
            SgdlineError: If there are too few images, or BatchNorm in train mode would see a chunk of one sample.
        """
        trainer, images, run = self.trainer, self.images, self.run
        self._hessian = MeasuredHessian(trainer, images, run, self.options, probe=self.table.name)
        self._validation = Evaluator(trainer, {"validation": images.validation}, run)

    def facts(self) -> dict[str, Any]:
        """Return what the table's metadata has to say about the measurement."""
        return self._hessian.facts()

    def measure(self, update: Update) -> Rows:
        """Measure the ends of the spectrum at theta_t.

        Returns:
            One row of the table `hvp`. Without finite products there are no eigenvalues, and the status says so.

        Raises:
            SgdlineError: If a layer has no second derivative.

        Cost: about 50 to 150 Hessian-vector products, each as dear as about five forward passes over the measuring
            set; at most twice max_products.
        """
        found, losses = self._hessian.found(spectrum_ends)
        loss, products = losses[0], len(losses)
        row: dict[str, Any] = {
            **place_of(update),
            "train_loss": loss,
            "products": products,
            **self._validation.measure(),
        }
        if found is None or not math.isfinite(loss):
            ends = dict.fromkeys(("converged", "largest_converged", "smallest_converged"), False)
            return [{**row, **ends, "status": "non_finite"}]
        converged = found.largest.converged and found.smallest.converged
        return [
            {
                **row,
                "largest_eigenvalue": found.largest.value,
                "smallest_eigenvalue": found.smallest.value,
                "spectral_norm": found.spectral_norm,
                "lr_times_largest": update.lr * found.largest.value,
                "largest_residual": found.largest.residual,
                "smallest_residual": found.smallest.residual,
                "largest_converged": found.largest.converged,
                "smallest_converged": found.smallest.converged,
                "converged": converged,
                "status": "ok" if converged else "not_converged",
            }
        ]
