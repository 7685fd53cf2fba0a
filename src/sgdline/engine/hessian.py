"""Products of the Hessian of a full-batch loss with vectors: exact, one chunk's graph in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sgdline.engine.batchnorm import has_batch_norm
from sgdline.engine.network import Loss, per_sample
from sgdline.errors import SgdlineError
from sgdline.models.parameters import ParameterVector, trainable_parameters
from sgdline.models.state import NetworkState, restored
from sgdline.runtime import beat
from sgdline.seeds import kept_generators, seed_masks

# Words of torch's errors about layers without a second derivative, or without a deterministic one.
_NO_SECOND_DERIVATIVE = ("deterministic", "derivative for", "differentiate twice")
_WITHOUT_SECOND_DERIVATIVE = (
    "The network must have second derivatives that are deterministic on this device, got: {} Replace that layer, run "
    "on the CPU or leave the probe out."
)


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the cross-entropy of each sample, nats. Shapes (n, classes), (n,) -> (n,)."""
    return nn.functional.cross_entropy(outputs, targets, reduction="none")


@dataclass(frozen=True)
class Chunk:
    """Samples that share a forward pass, and BatchNorm's statistics in train mode."""

    inputs: Tensor  # (n, ...)
    targets: Tensor  # (n, ...)
    mask_seed: int  # seed of the random masks


class FullBatchHessian:
    """The Hessian of L(theta) = (1/N) sum over chunks of sum over samples of l_i, at the present parameters.

    Products are those of the gradient's own graph (double backward), with the network's precision within a chunk and
    float64 sums over chunks. The masks of a chunk are the same in every product.

    Source: papers.md section 1 (full-batch loss) and 5.2, W-M7.
    """

    def __init__(
        self,
        model: nn.Module,
        vector: ParameterVector,
        chunks: Sequence[Chunk],
        *,
        train_mode: bool,
        loss: Loss = cross_entropy,
    ) -> None:
        """Take the network and what its loss is measured on.

        Args:
            model: The network; products leave it as it was, its gradients too.
            vector: Its trainable parameters.
            chunks: The measuring set; the last chunk may be smaller.
            loss: Outputs and targets -> one loss per sample; several values of a sample (tokens) are averaged.
            train_mode: Whether BatchNorm takes the statistics of each chunk, and random masks are drawn.

        Raises:
            SgdlineError: If BatchNorm in train mode would see a chunk of one sample.
        """
        self._model = model
        self._loss = loss
        self._vector = vector
        self._chunks = chunks
        self._train_mode = train_mode
        self.samples = sum(len(chunk.targets) for chunk in chunks)
        self._checked = False
        if train_mode and len(chunks[-1].targets) == 1 and has_batch_norm(model):
            raise SgdlineError(
                "The last chunk of a measuring set must hold at least two samples for BatchNorm in train mode, got 1 "
                f"({self.samples} in chunks of {len(chunks[0].targets)}). Change the probe's samples, the data set's "
                "train or batch_size."
            )

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Set the mode; at the end put back parameters, buffers, modes and random generators, bit for bit."""
        with kept_generators(self._vector.value.device), restored(self._model):
            self._model.train(self._train_mode)
            yield

    def loss_and_product(self, direction: Tensor) -> tuple[float, Tensor]:
        """Return L(theta) and the product of the Hessian with a vector. Call it within `opened`.

        Args:
            direction: Shape (p,), any floating-point dtype; rounded to that of the parameters.

        Returns:
            L(theta) in nats, and H v. Shape (p,), float64, on the parameters' device.

        Raises:
            SgdlineError: If a layer has no second derivative, or no deterministic one.

        Cost: one forward and two backward passes over the measuring set, about five forward passes.
        """
        value = self._vector.value
        along = self._vector.split(direction.to(value))
        parameters = trainable_parameters(self._model)
        total = torch.zeros_like(value, dtype=torch.float64)
        parts = self._vector.split(total)
        loss_sum = torch.zeros((), dtype=torch.float64, device=value.device)
        state = NetworkState(self._model, trainable=False, frozen=False)
        with second_derivatives():
            for chunk in self._chunks:
                chunk_loss, products = _chunk_product(
                    self._model, self._loss, chunk, parameters, along, check=not self._checked
                )
                self._checked = True
                for name, product in products.items():
                    parts[name].add_(product)
                loss_sum += chunk_loss
                beat()
                state.restore()
        return float(loss_sum) / self.samples, total.div_(self.samples)


def _chunk_product(
    model: nn.Module,
    loss: Loss,
    chunk: Chunk,
    parameters: dict[str, nn.Parameter],
    along: dict[str, Tensor],
    *,
    check: bool,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the sum of a chunk's losses and the product of that sum's Hessian; the graph ends with the function."""
    seed_masks(chunk.mask_seed, chunk.inputs.device)
    losses = per_sample(loss, model(chunk.inputs), chunk.targets)
    gradients = _gradients(losses.sum(), parameters, create_graph=True)
    slope = torch.stack([(gradients[name] * along[name]).sum() for name in parameters]).sum()
    if check:
        refuse_cut_graphs(slope)
    return losses.detach().double().sum(), _gradients(slope, parameters)


def refuse_cut_graphs(gradient: Tensor) -> None:
    """Refuse a gradient with a part that cannot be differentiated: torch would leave that part out without a word.

    The node with which torch marks the end of such a graph raises its error only if something is asked for behind it,
    and a parameter never is.

    Args:
        gradient: Any function of gradients that were made with create_graph.

    Raises:
        SgdlineError: If a layer's gradient is marked as once differentiable.
    """
    seen, ahead = set(), [gradient.grad_fn]
    while ahead:
        node = ahead.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if node.name() == "torch::autograd::Error":
            raise SgdlineError(_WITHOUT_SECOND_DERIVATIVE.format("a layer whose gradient is once differentiable."))
        ahead += [following for following, _ in node.next_functions]


@contextmanager
def second_derivatives() -> Iterator[None]:
    """Report a layer without a second derivative in one sentence; attention is computed by its formula.

    The fused kernels of attention have no second derivative.

    Raises:
        SgdlineError: In place of torch's own error.
    """
    from torch.nn.attention import SDPBackend, sdpa_kernel

    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    except RuntimeError as error:
        if not any(words in str(error) for words in _NO_SECOND_DERIVATIVE):
            raise
        raise SgdlineError(_WITHOUT_SECOND_DERIVATIVE.format(str(error).splitlines()[0])) from error


def _gradients(scalar: Tensor, parameters: dict[str, nn.Parameter], *, create_graph: bool = False) -> dict[str, Tensor]:
    """Return the gradient of a scalar by name, zeros for what it does not depend on; `grad` is left alone."""
    found = torch.autograd.grad(
        scalar, list(parameters.values()), create_graph=create_graph, allow_unused=True, materialize_grads=True
    )
    return dict(zip(parameters, found, strict=True))
