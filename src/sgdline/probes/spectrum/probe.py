"""The spectrum that the quadratic model needs: Hessian eigenvalues of a network and the gradient noise along them.

The model (papers.md 3.2) lets every mini-batch have the full-batch Hessian and a minimiser of its own; along
eigenvector v_i the minimisers have the variance sigma_i^2 = Var(v_i . g_B)/lambda_i^2.

The variance is the unbiased one over the batches of an epoch, which have no sample in common, averaged over epochs.
Where a sample's gradient does not depend on its batch, its expectation is S^2/B, S^2 the variance of the samples'
gradients with divisor N - 1: batch gradients' variance if they were drawn with replacement, whatever B/N is.

Source: papers.md 3.2, F2 and F11; 3.3, C-M5.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from sgdline.engine.eigenvalues import Matrix, Vector
from sgdline.errors import SgdlineError
from sgdline.probes.fresh_batches import fresh_batches
from sgdline.probes.gradients import batch_gradient
from sgdline.probes.hessian import TopEigenpairs
from sgdline.probes.probe import Probe, Rows, place_of
from sgdline.probes.spectrum.options import SpectrumOptions
from sgdline.probes.spectrum.table import SPECTRUM
from sgdline.runtime import inner_progress
from sgdline.seeds import generator
from sgdline.train.loop import Update


class SpectrumProbe(Probe[SpectrumOptions]):
    """Measures the spectrum at every n-th update of a run."""

    table = SPECTRUM

    def prepare(self) -> None:
        """Prepare the measuring set.

        Raises:
            SgdlineError: If an epoch has a single batch, or as for `TopEigenpairs`.
        """
        images, run, count = self.images, self.run, self.options.eigenvalues
        self._hessian = TopEigenpairs(self.trainer, images, run, self.options, probe=self.table.name, count=count)
        self._batches_per_epoch = len(images.train) // run.batch_size
        if self._batches_per_epoch < 2:
            raise SgdlineError(
                f"An epoch must have at least two whole batches for the probe spectrum, got {self._batches_per_epoch} "
                f"({len(images.train)} images in batches of {run.batch_size}). Lower batch_size."
            )

    def facts(self) -> dict[str, Any]:
        """Return what the table's metadata has to say about the measurement."""
        return self._hessian.facts() | {"updates_per_epoch": self.trainer.updates_per_epoch}

    def measure(self, update: Update) -> Rows:
        """Measure the spectrum at theta_t.

        Returns:
            One row of the table `spectrum`.

        Raises:
            SgdlineError: If a layer has no second derivative.

        Cost: the products of `top_eigenpairs`, one product for each draw of the trace, and `epochs` epochs of
            gradients.
        """
        pairs, found = self._hessian.pairs()
        row = {**place_of(update), "train_loss": found["train_loss"], "batches": 0, "products": 0, "converged": False}
        row["status"] = "non_finite"
        if pairs is None or not np.isfinite(found["train_loss"]):
            return [row]
        row |= {**found, "status": "non_finite"}
        noise = self._noise(pairs.vectors, step=update.step)
        if noise is None:
            return [row]
        means, variances, trace, batches = noise
        positive = pairs.values > 0
        minimisers = [
            float(variance / value**2) if own else None
            for variance, value, own in zip(variances, pairs.values, positive, strict=True)
        ]
        return [
            {
                **row,
                "gradient_means": means,
                "gradient_variances": variances,
                "noise_variances": minimisers,
                "gradient_covariance_trace": trace,
                "explained_share": float(variances.sum() / trace) if trace > 0 else None,
                **self._trace(update.step),
                "batches": batches,
                "converged": pairs.converged,
                "status": found["status"],
            }
        ]

    def _noise(self, vectors: Matrix, *, step: int) -> tuple[Vector, Vector, float, int] | None:
        """Return mean and variance of v_i . g_B (k,), the trace of the covariance, and the number of batches.

        None if a gradient is not finite.
        """
        device = self.trainer.vector.value.device
        directions = torch.tensor(vectors, device=device)
        per_epoch, epochs = self._batches_per_epoch, self.options.epochs
        variances, traces, means = [], [], []
        for epoch in inner_progress(range(epochs), total=epochs, label="epochs of gradients"):
            # Batches of their own at every update: rows are independent, and no function of the segments.
            first = (step * epochs + epoch) * per_epoch
            batches = fresh_batches(
                self.images, self.run, purpose="spectrum_batches", first=first, stop=first + per_epoch
            )
            origin = total = None
            projections, squares = [], []
            for batch in inner_progress(batches, total=per_epoch, label="gradients"):
                gradient = batch_gradient(self.trainer, batch)[1].double()
                if not bool(torch.isfinite(gradient).all()):
                    return None
                # Distances from the first gradient: no difference of large numbers.
                origin = gradient if origin is None else origin
                apart = gradient - origin
                total = apart if total is None else total + apart
                projections.append((directions.T @ apart).cpu().numpy())
                squares.append(float(apart @ apart))
            assert origin is not None
            assert total is not None
            along = np.stack(projections)
            means.append((directions.T @ origin).cpu().numpy() + along.mean(axis=0))
            variances.append(along.var(axis=0, ddof=1))
            traces.append((sum(squares) - float(total @ total) / per_epoch) / (per_epoch - 1))
        return np.mean(means, axis=0), np.mean(variances, axis=0), float(np.mean(traces)), per_epoch * epochs

    def _trace(self, step: int) -> dict[str, float | None]:
        """Return Hutchinson's estimate of the Hessian's trace, the mean of z^T H z over random signs z."""
        count = self.options.trace_draws
        if count == 0:
            return {"hessian_trace": None, "hessian_trace_error": None}
        value = self.trainer.vector.value
        draws = generator(self.run.seed, "spectrum_trace", step)
        signs = 2.0 * torch.randint(2, (count, value.numel()), generator=draws) - 1.0
        forms = self._hessian.quadratic_forms(signs.to(value))
        error = float(np.std(forms, ddof=1) / np.sqrt(count)) if count > 1 else None
        return {"hessian_trace": float(np.mean(forms)), "hessian_trace_error": error}
