"""The largest eigenvalues of the full-batch Hessian at the present parameters of a run, with their eigenvectors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sgdline.data.images import ImageData
from sgdline.engine.eigenvalues import Vector
from sgdline.engine.hessian import FullBatchHessian
from sgdline.engine.lanczos_budget import smallest_budget
from sgdline.engine.top_eigenpairs import Eigenpairs, top_eigenpairs
from sgdline.errors import SgdlineError
from sgdline.probes.measuring_chunks import measuring_chunks
from sgdline.seeds import generator
from sgdline.train.loop import Trainer
from sgdline.train.settings import TrainingSettings


class HessianEigenpairs:
    """Lanczos on the Hessian of a run's measuring set, as the probe `hvp` has it; leaves the run as it was."""

    def __init__(
        self,
        trainer: Trainer,
        images: ImageData,
        run: TrainingSettings,
        settings: Mapping[str, Any],
        *,
        probe: str,
        count: int,
    ) -> None:
        """Cut the measuring set into chunks and draw the start of all Lanczos runs.

        Args:
            trainer: The run to measure.
            images: Its data set.
            run: Its training slice.
            settings: The probe's block, with samples, batch_norm, augment, tolerance and max_products.
            probe: Its name, for messages and for the draws.
            count: Number of eigenvalues.

        Raises:
            SgdlineError: If there are too few images, parameters or products, or BatchNorm in train mode would see a
                chunk of one sample.
        """
        self._device = trainer.vector.value.device
        self._settings = settings
        self._count = count
        size = trainer.vector.size
        if not count < size:
            raise SgdlineError(
                f"The eigenvalues of probes.{probe} must be fewer than the network's {size} parameters, got {count}. "
                "Ask for fewer."
            )
        least = smallest_budget(count)
        if int(settings["max_products"]) < least:
            raise SgdlineError(
                f"probes.{probe}.max_products must be at least {least} for {count} eigenvalues, got "
                f"{settings['max_products']}. Raise it, or ask for fewer eigenvalues."
            )
        self._chunks = measuring_chunks(images, run, settings, probe=probe)
        self._hessian = FullBatchHessian(
            trainer.model, trainer.vector, self._chunks, train_mode=settings["batch_norm"] == "train"
        )
        draws = generator(run.seed, f"{probe}_start")
        self._start: Vector = torch.randn(size, generator=draws, dtype=torch.float64).numpy()

    def facts(self) -> dict[str, Any]:
        """Return what a table's metadata has to say about the measuring set."""
        return {
            "batch_norm": self._settings["batch_norm"],
            "samples": self._hessian.samples,
            "chunk_sizes": [len(chunk.targets) for chunk in self._chunks],
            "tolerance": self._settings["tolerance"],
        }

    def found(self) -> tuple[Eigenpairs | None, float]:
        """Return the eigenpairs, None without finite products, and L(theta) in nats.

        Raises:
            SgdlineError: If a layer has no second derivative.

        Cost: see `sgdline.engine.top_eigenpairs`; a product is as dear as about five forward passes.
        """
        losses: list[float] = []

        def product(vector: Vector) -> Vector:
            loss, image = self._hessian.loss_and_product(torch.tensor(vector, device=self._device))
            losses.append(loss)
            return image.cpu().numpy()

        with self._hessian.opened():
            pairs = top_eigenpairs(
                product,
                self._start,
                self._count,
                tolerance=float(self._settings["tolerance"]),
                max_products=int(self._settings["max_products"]),
            )
        return pairs, losses[0]

    def quadratic_forms(self, vectors: Tensor) -> list[float]:
        """Return z^T H z of each row z. Shapes (n, p) -> (n,).

        Cost: one Hessian-vector product per row.
        """
        with self._hessian.opened():
            return [float(torch.dot(vector.double(), self._hessian.loss_and_product(vector)[1])) for vector in vectors]
