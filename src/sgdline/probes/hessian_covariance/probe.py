"""The exact Hessian of a small network's full-batch loss beside the covariance of its samples' gradients, in float64.

With p_i the probability of sample i's class, Hess(-log p_i) = g_i g_i^T - Hess(p_i)/p_i, hence

    H = C + gbar gbar^T - (1/N) sum_i Hess(p_i)/p_i,

C the covariance of the gradients g_i, gbar their mean. Both sides are computed independently of each other: H from the
cross-entropy, the sum from the probabilities.

Source: papers.md 5.2, W-M10; 5.3, ext_hessian_covariance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from sgdline.data.images import ImageData
from sgdline.engine.batchnorm import has_batch_norm
from sgdline.engine.hessian import Chunk, refuse_cut_graphs, second_derivatives
from sgdline.engine.plan import Plan
from sgdline.errors import SgdlineError
from sgdline.models.parameters import count_parameters, trainable_parameters
from sgdline.models.state import NetworkState, copied, to_float64
from sgdline.probes.measuring_chunks import measuring_chunks
from sgdline.runtime import inner_progress
from sgdline.seeds import kept_generators, seed_masks
from sgdline.tables.kinds.hessian_covariance import HESSIAN_COVARIANCE
from sgdline.train.loop import Trainer, Update
from sgdline.train.settings import TrainingSettings

TABLE = HESSIAN_COVARIANCE

# A row takes 2 p backward passes over the measuring set and some p x p matrices in float64.
_MOST_PARAMETERS = 2000

_ROWS_PER_PASS = 64  # backward passes that are made together

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Curvature:
    """What a small network's loss looks like to second order, float64."""

    loss: float  # nats
    mean_gradient: Matrix  # gbar, (p,)
    hessian: Matrix  # H, (p, p)
    covariance: Matrix  # C, (p, p)
    probability_term: Matrix  # (1/N) sum_i Hess(p_i)/p_i, (p, p)


class Probe:
    """Measures matrices at every n-th update of a run; see sgdline.probes.segment for the interface."""

    def __init__(
        self, trainer: Trainer, images: ImageData, run: TrainingSettings, settings: Mapping[str, Any], plan: Plan
    ) -> None:
        """Cut the measuring set into chunks.

        Args:
            trainer: The run to measure.
            images: Its data set.
            run: Its training slice.
            settings: The config's hessian_covariance block.
            plan: Not used: everything is in float64.

        Raises:
            SgdlineError: If the network is too large or has fewer parameters than eigenvectors are asked for, if its
                samples depend on each other, or if there are too few images.
        """
        self._trainer = trainer
        self._settings = settings
        self._train_mode = settings["batch_norm"] == "train"
        size, top = count_parameters(trainer.model), int(settings["top"])
        if not top <= size <= _MOST_PARAMETERS:
            raise SgdlineError(
                f"The parameters of a network must be from {top} (top) to {_MOST_PARAMETERS:,} for the probe "
                f"hessian_covariance, got {size:,}. Use a smaller network, or measure hvp."
            )
        if self._train_mode and has_batch_norm(trainer.model):
            raise SgdlineError(
                "probes.hessian_covariance.batch_norm must be eval for a network with BatchNorm, got train, in which "
                "a sample's gradient depends on its chunk. Set it to eval, or use a network without BatchNorm."
            )
        self._chunks = measuring_chunks(images, run, settings, probe="hessian_covariance")

    def facts(self) -> dict[str, Any]:
        """Return what the table's metadata has to say about the measurement."""
        sizes = [len(chunk.targets) for chunk in self._chunks]
        return {
            "batch_norm": self._settings["batch_norm"],
            "samples": sum(sizes),
            "chunk_sizes": sizes,
            "parameters": count_parameters(self._trainer.model),  # what random directions are compared in
        }

    def due(self, step: int) -> bool:
        """Return whether matrices are to be measured at this update."""
        return step % int(self._settings["every"]) == 0

    def measure(self, update: Update) -> list[dict[str, Any]]:
        """Measure Hessian and covariance at theta_t.

        Returns:
            One row of the table `hessian_covariance`.

        Raises:
            SgdlineError: If the network cannot be copied, or a layer has no second derivative.

        Cost: per chunk 2 p + n backward passes through its graph, n its samples; memory about six p x p matrices.
        """
        try:
            network = copied(self._trainer.model)
        except SgdlineError as error:
            raise SgdlineError(
                f"The network must be copyable for the probe hessian_covariance, got: {error.__cause__}. "
                "Leave the probe out."
            ) from error
        to_float64(network)  # all through; the run's own network stays in its own precision, untouched
        network.train(self._train_mode)
        with kept_generators(self._trainer.vector.value.device), second_derivatives():
            found = curvature(network, self._chunks)
        row = {"step": update.step, "epoch": update.epoch, "lr": update.lr, "train_loss": found.loss}
        return [row | _compared(found, top=int(self._settings["top"]))]


def curvature(network: nn.Module, chunks: Sequence[Chunk]) -> Curvature:
    """Compute Hessian, covariance and probability term of the loss over all chunks, column by column.

    Backward passes only: forward-mode derivatives of BatchNorm are wrong in torch (docs/development.md).

    Args:
        network: In float64 and in the mode to measure in; its state is put back after each chunk. The loss of a
            sample must not depend on the others of its chunk.
        chunks: The measuring set.

    Returns:
        Curvature.

    Cost: per chunk 2 p + n backward passes through its graph, n its samples; memory does not grow with N.
    """
    parameters = list(trainable_parameters(network).values())
    size = sum(parameter.numel() for parameter in parameters)
    hessian, term, scatter = torch.zeros(3, size, size, dtype=torch.float64, device=parameters[0].device)
    mean, loss, seen = torch.zeros_like(hessian[0]), 0.0, 0
    state = NetworkState(network, trainable=False, frozen=False)
    for chunk in inner_progress(chunks, total=len(chunks), label="chunks"):
        losses, gradients, chunk_hessian, chunk_term = _chunk_curvature(network, chunk, parameters)
        state.restore()
        hessian += chunk_hessian
        term += chunk_term
        loss += float(losses.sum())
        # Means and centred products of two parts joined: no memory for all gradients, no difference of large numbers.
        chunk_mean, count = gradients.mean(0), len(gradients)
        centred, apart = gradients - chunk_mean, chunk_mean - mean
        scatter += centred.T @ centred + torch.outer(apart, apart) * (seen * count / (seen + count))
        mean += apart * (count / (seen + count))
        seen += count
    arrays = [each.cpu().numpy() for each in (mean, hessian / seen, scatter / seen, term / seen)]
    return Curvature(loss / seen, *arrays)


def _chunk_curvature(
    network: nn.Module, chunk: Chunk, parameters: list[nn.Parameter]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return losses (n,), their gradients (n, p), the Hessian of their sum, and sum_i Hess(p_i)/p_i of a chunk."""
    inputs = chunk.inputs.double() if chunk.inputs.is_floating_point() else chunk.inputs
    seed_masks(chunk.mask_seed, inputs.device)
    outputs = network(inputs)
    losses = functional.cross_entropy(outputs, chunk.targets, reduction="none")
    probabilities = torch.softmax(outputs, 1).gather(1, chunk.targets[:, None])[:, 0]
    weighted = (probabilities / probabilities.detach()).sum()  # the weights 1/p_i are constants
    gradients = _gradients(losses, parameters)
    return losses.detach(), gradients, _hessian(losses.sum(), parameters), _hessian(weighted, parameters)


def _gradients(values: Tensor, parameters: list[nn.Parameter]) -> Tensor:
    """Return the gradient of each of several scalars as a row; zeros for what one does not depend on. Shape (n, p)."""
    rows = []
    groups = torch.split(torch.eye(len(values), dtype=values.dtype, device=values.device), _ROWS_PER_PASS)
    for units in inner_progress(groups, total=len(groups), label="groups of backward passes"):
        parts = torch.autograd.grad(
            values, parameters, grad_outputs=units, is_grads_batched=True, retain_graph=True, allow_unused=True
        )
        here = [
            units.new_zeros(len(units), parameter.numel()) if part is None else part.reshape(len(units), -1)
            for part, parameter in zip(parts, parameters, strict=True)
        ]
        rows.append(torch.cat(here, 1))
    return torch.cat(rows)


def _hessian(scalar: Tensor, parameters: list[nn.Parameter]) -> Tensor:
    """Return the Hessian of a scalar, row by row. Shape (p, p)."""
    parts = torch.autograd.grad(scalar, parameters, create_graph=True, allow_unused=True, materialize_grads=True)
    gradient = torch.cat([part.reshape(-1) for part in parts])
    refuse_cut_graphs(gradient)
    return _gradients(gradient, parameters)


def _compared(found: Curvature, *, top: int) -> dict[str, Any]:
    """Return what is stored of two matrices: the identity's error, and how far their top eigenvectors agree."""
    mean, hessian, covariance = found.mean_gradient, found.hessian, found.covariance
    right_side = covariance + np.outer(mean, mean) - found.probability_term
    if not (np.isfinite(hessian).all() and np.isfinite(right_side).all() and np.isfinite(found.loss)):
        return {"status": "non_finite"}
    values, vectors = _top(hessian, top)
    own_values, own_vectors = _top(covariance, top)
    products = vectors.T @ own_vectors
    exists = own_values[0] > 0
    return {
        "gradient_norm": float(np.linalg.norm(mean)),
        "identity_error": float(np.abs(hessian - right_side).max()),
        "hessian_eigenvalues": values,
        "covariance_eigenvalues": own_values,
        "cosine": float(abs(products[0, 0])) if exists else None,
        "subspace_overlap": float((products**2).sum() / top) if exists else None,
        "status": "ok",
    }


def _top(matrix: Matrix, count: int) -> tuple[Matrix, Matrix]:
    """Return the largest eigenvalues, descending, and their eigenvectors as columns. Shapes (k,), (p, k)."""
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    return values[::-1][:count].copy(), vectors[:, ::-1][:, :count]
