"""The Hessian of the full-batch loss along a run: largest and smallest eigenvalue, spectral norm.

Lanczos on exact Hessian-vector products over fixed chunks, fixed augmentation and fixed masks, to a tolerance; the
residual of every eigenvalue stands beside it (papers.md K8). Loss and Hessian are those of the data alone: weight decay
is no part of them. Validation loss and accuracy are measured as the evaluation probe does.

Source: papers.md 5.2, W-M7; 5.3, fig3 and fig6.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch

from sgdline.data.images import ImageData
from sgdline.engine.eigenvalues import Eigenvalue, Spectrum, Vector, largest_eigenvalue, spectrum_ends
from sgdline.engine.hessian import FullBatchHessian
from sgdline.engine.plan import Plan
from sgdline.probes.evaluation.probe import Evaluator
from sgdline.probes.measuring_chunks import measuring_chunks
from sgdline.seeds import generator
from sgdline.tables.kinds.hvp import HVP
from sgdline.train.loop import Trainer, Update
from sgdline.train.settings import TrainingSettings

TABLE = HVP
T = TypeVar("T")


class Probe:
    """Measures eigenvalues at every n-th update of a run; see sgdline.probes.segment for the interface."""

    def __init__(
        self, trainer: Trainer, images: ImageData, run: TrainingSettings, settings: Mapping[str, Any], plan: Plan
    ) -> None:
        """Cut the measuring set into chunks and draw the start of all Lanczos runs.

        Args:
            trainer: The run to measure.
            images: Its data set.
            run: Its training slice.
            settings: The config's hvp block.
            plan: Not used; passes are plain ones.

        Raises:
            SgdlineError: If there are too few images, or BatchNorm in train mode would see a chunk of one sample.
        """
        self._settings = settings
        self._device = trainer.vector.value.device
        self._chunks = measuring_chunks(images, run, settings, probe="hvp")
        self._hessian = FullBatchHessian(
            trainer.model, trainer.vector, self._chunks, train_mode=settings["batch_norm"] == "train"
        )
        self._validation = Evaluator(trainer.model, {"validation": images.validation}, run)
        # One start for the whole run: no row depends on another, whatever the segments.
        draws = generator(run.seed, "hvp_start")
        self._start: Vector = torch.randn(trainer.vector.size, generator=draws, dtype=torch.float64).numpy()

    def facts(self) -> dict[str, Any]:
        """Return what the table's metadata has to say about the measurement."""
        return {
            "batch_norm": self._settings["batch_norm"],
            "samples": self._hessian.samples,
            "chunk_sizes": [len(chunk.targets) for chunk in self._chunks],
            "tolerance": self._settings["tolerance"],
        }

    def due(self, step: int) -> bool:
        """Return whether eigenvalues are to be measured at this update."""
        return step % int(self._settings["every"]) == 0

    def measure(self, update: Update) -> list[dict[str, Any]]:
        """Measure the ends of the spectrum at theta_t.

        Returns:
            One row of the table `hvp`. Without finite products there are no eigenvalues, and the status says so.

        Raises:
            SgdlineError: If a layer has no second derivative.

        Cost: about 50 to 150 Hessian-vector products, each as dear as about five forward passes over the measuring
            set; at most twice max_products.
        """
        found, loss, products = self._measured()
        row: dict[str, Any] = {
            "step": update.step,
            "epoch": update.epoch,
            "lr": update.lr,
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

    def largest(self) -> tuple[Eigenvalue, int] | None:
        """Return the largest eigenvalue at the present parameters and the products that it took; None if not finite."""
        return self._found(largest_eigenvalue)[0]

    def _measured(self) -> tuple[Spectrum | None, float, int]:
        """Return the ends of the spectrum, L(theta) and the number of products that it took."""
        found, losses = self._found(spectrum_ends)
        return found, losses[0], len(losses)

    def _found(self, search: Callable[..., T]) -> tuple[T, list[float]]:
        """Return what a search finds in the Hessian at the present parameters, and the loss at every product."""
        losses: list[float] = []

        def product(vector: Vector) -> Vector:
            loss, image = self._hessian.loss_and_product(torch.tensor(vector, device=self._device))
            losses.append(loss)
            return image.cpu().numpy()

        with self._hessian.opened():
            found = search(
                product,
                self._start,
                tolerance=float(self._settings["tolerance"]),
                max_products=int(self._settings["max_products"]),
            )
        return found, losses
