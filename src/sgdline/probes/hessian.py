"""The Hessian of the full-batch loss at the present parameters of a run: Lanczos on a measuring set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from sgdline.data.images import ImageData
from sgdline.engine.eigenvalues import Vector
from sgdline.engine.hessian import FullBatchHessian
from sgdline.engine.lanczos_budget import smallest_budget
from sgdline.engine.top_eigenpairs import Eigenpairs, top_eigenpairs
from sgdline.errors import SgdlineError
from sgdline.probes.measuring_images import measuring_chunks
from sgdline.seeds import generator
from sgdline.train.loop import Trainer
from sgdline.train.settings import TrainingSettings

T = TypeVar("T")


class HessianOptions(Protocol):
    """What options of a probe say of its Hessian."""

    @property
    def samples(self) -> int | None: ...  # noqa: D102
    @property
    def batch_norm(self) -> str: ...  # noqa: D102
    @property
    def augment(self) -> bool: ...  # noqa: D102
    @property
    def tolerance(self) -> float: ...  # noqa: D102
    @property
    def max_products(self) -> int: ...  # noqa: D102


class MeasuredHessian:
    """The Hessian of a run's measuring set; leaves the run as it was."""

    def __init__(
        self, trainer: Trainer, images: ImageData, run: TrainingSettings, options: HessianOptions, *, probe: str
    ) -> None:
        """Cut the measuring set into chunks and draw the start of all Lanczos runs.

        Args:
            trainer: The run to measure.
            images: Its data set.
            run: Its training slice.
            options: The probe's.
            probe: Its name, for messages and for the draws.

        Raises:
            SgdlineError: If there are too few images, or BatchNorm in train mode would see a chunk of one sample.
        """
        self._device = trainer.vector.value.device
        self._options = options
        self._chunks = measuring_chunks(images, run, probe=probe, samples=options.samples, augment=options.augment)
        train_mode = options.batch_norm == "train"
        self._hessian = FullBatchHessian(
            trainer.model, trainer.vector, self._chunks, train_mode=train_mode, loss=trainer.loss.of_samples()
        )
        # One start for the whole run: no row depends on another, whatever the segments.
        draws = generator(run.seed, f"{probe}_start")
        self._start: Vector = torch.randn(trainer.vector.size, generator=draws, dtype=torch.float64).numpy()

    def facts(self) -> dict[str, Any]:
        """Return what a table's metadata has to say about the measuring set."""
        return {
            "batch_norm": self._options.batch_norm,
            "samples": self._hessian.samples,
            "chunk_sizes": [len(chunk.targets) for chunk in self._chunks],
            "tolerance": self._options.tolerance,
        }

    def found(self, search: Callable[..., T], *asked: Any) -> tuple[T, list[float]]:
        """Return what a search finds, and L(theta) in nats at each product that it took.

        Args:
            search: Takes a product, a start, `asked`, and tolerance and max_products by keyword.
            asked: What it takes besides.

        Raises:
            SgdlineError: If a layer has no second derivative.

        Cost: a product is as dear as about five forward passes over the measuring set.
        """
        losses: list[float] = []

        def product(vector: Vector) -> Vector:
            loss, image = self._hessian.loss_and_product(torch.tensor(vector, device=self._device))
            losses.append(loss)
            return image.cpu().numpy()

        budget = {"tolerance": self._options.tolerance, "max_products": self._options.max_products}
        with self._hessian.opened():
            return search(product, self._start, *asked, **budget), losses

    def quadratic_forms(self, vectors: Tensor) -> list[float]:
        """Return z^T H z of each row z. Shapes (n, p) -> (n,).

        Cost: one Hessian-vector product per row.
        """
        with self._hessian.opened():
            return [float(torch.dot(vector.double(), self._hessian.loss_and_product(vector)[1])) for vector in vectors]


class TopEigenpairs(MeasuredHessian):
    """The largest eigenvalues of a run's Hessian, with their eigenvectors."""

    def __init__(
        self,
        trainer: Trainer,
        images: ImageData,
        run: TrainingSettings,
        options: HessianOptions,
        *,
        probe: str,
        count: int,
    ) -> None:
        """Prepare as `MeasuredHessian` does, for a number of eigenvalues.

        Raises:
            SgdlineError: If there are too few parameters or products for them, or as for `MeasuredHessian`.
        """
        size, least = trainer.vector.size, smallest_budget(count)
        if not count < size:
            raise SgdlineError(
                f"The eigenvalues of probes.{probe} must be fewer than the network's {size} parameters, got {count}. "
                "Ask for fewer."
            )
        if options.max_products < least:
            raise SgdlineError(
                f"probes.{probe}.max_products must be at least {least} for {count} eigenvalues, got "
                f"{options.max_products}. Raise it, or ask for fewer eigenvalues."
            )
        super().__init__(trainer, images, run, options, probe=probe)
        self._count = count
        theory = run.optimizer.stationary_theory()
        self._setting = {
            "batch_size": run.batch_size,
            "training_samples": len(images.train),
            "momentum": None if theory is None else theory.momentum,
            "parameters": size,
        }

    def facts(self) -> dict[str, Any]:
        """Return what a table's metadata has to say about the measuring set, and what the quadratic model needs."""
        return super().facts() | self._setting

    def pairs(self) -> tuple[Eigenpairs | None, dict[str, Any]]:
        """Return the eigenpairs, None without finite products, and what a row has of them.

        Cost: see `sgdline.engine.top_eigenpairs`.
        """
        pairs, losses = self.found(top_eigenpairs, self._count)
        row: dict[str, Any] = {"train_loss": losses[0]}
        if pairs is None:
            return None, row | {"status": "non_finite"}
        row |= {"eigenvalues": pairs.values, "residuals": pairs.residuals, "products": pairs.products}
        return pairs, row | {"status": "ok" if pairs.converged else "not_converged"}
