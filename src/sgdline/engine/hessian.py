"""Derivatives of a full-batch loss: products of its Hessian with vectors, and gradients of its chunks.

Exact, one chunk's graph in memory at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from sgdline.engine.batchnorm import has_batch_norm
from sgdline.engine.network import Loss, per_sample
from sgdline.engine.samples import call, count_of
from sgdline.errors import SgdlineError
from sgdline.models.parameters import ParameterLayout, trainable_parameters
from sgdline.models.state import NetworkState, restored
from sgdline.models.tensors import same_values
from sgdline.runtime import beat
from sgdline.seeds import kept_generators, seed_libraries, seed_masks

# Words of torch's errors about layers without a second derivative, or without a deterministic one.
_NO_SECOND_DERIVATIVE = ("deterministic", "derivative for", "differentiate twice")
_WITHOUT_SECOND_DERIVATIVE = (
    "The network must have second derivatives that are deterministic on this device, got: {} Replace that layer, run "
    "on the CPU or leave this measurement out."
)


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the cross-entropy of each sample, nats. Shapes (n, classes), (n,) -> (n,)."""
    return nn.functional.cross_entropy(outputs, targets, reduction="none")


# Outputs and targets -> what each sample adds to the divisor. Shape (n,). None: 1 each.
Counts = Callable[[Any, Any], "Tensor | None"]


@dataclass(frozen=True)
class Chunk:
    """Samples that share a forward pass, and BatchNorm's statistics in train mode."""

    inputs: Any  # (n, ...)
    targets: Any  # (n, ...)
    mask_seed: int  # seed of the random masks
    weights: Tensor | None = None  # (n,), at least 0; None: all 1

    @property
    def samples(self) -> int:
        """Number of samples n."""
        return count_of(self.inputs)


@dataclass(frozen=True)
class Product:
    """What one pass along a vector v gives, in units of the loss and of Euclidean lengths of the parameters."""

    loss: float  # L(theta)
    slope: float  # g.v, g the gradient
    image: Tensor  # H v, (p,), float64


@dataclass(frozen=True)
class ChunkGradient:
    """A chunk's part of the gradient: L's gradient is the sum of `total` over the sum of `share`."""

    total: Tensor  # sum of w_i grad l_i, (p,), float64
    share: float  # sum of w_i c_i
    samples: int


class FullBatchHessian:
    """The derivatives of L(theta) = sum of w_i l_i / sum of w_i c_i over all samples, at the present parameters.

    The weights w_i and counts c_i are 1 unless they are given: then L is the mean loss. Products are those of the
    gradient's own graph (double backward), with the network's precision within a chunk and float64 sums over chunks.
    The masks of a chunk are the same in every product.

    Source: papers.md section 1 (full-batch loss) and 5.2, W-M7.
    """

    def __init__(
        self,
        model: nn.Module,
        layout: ParameterLayout,
        chunks: Sequence[Chunk],
        *,
        train_mode: bool,
        loss: Loss = cross_entropy,
        counts: Counts | None = None,
    ) -> None:
        """Take the network and what its loss is measured on.

        Args:
            model: The network; products leave it as it was, its gradients too.
            layout: Where its trainable parameters lie in a vector.
            chunks: The measuring set; the last chunk may be smaller.
            loss: Outputs and targets -> one loss per sample; several values of a sample (tokens) are averaged.
            train_mode: Whether BatchNorm takes the statistics of each chunk, and random masks are drawn; layers that a
                network in train mode keeps in eval mode stay so. False: eval mode.
            counts: Outputs and targets -> what each sample counts; no gradient goes through it.

        Raises:
            SgdlineError: If BatchNorm in train mode would see a chunk of one sample.
        """
        self._model = model
        self._loss = loss
        self._counts = counts
        self._layout = layout
        self._chunks = chunks
        self._train_mode = train_mode
        self.samples = sum(chunk.samples for chunk in chunks)
        self._shares: dict[int, float] = {}  # by place of the chunk: counts may need a pass
        self._checked = False
        if train_mode and chunks[-1].samples == 1 and has_batch_norm(model):
            raise SgdlineError(
                "The last chunk of a measuring set must hold at least two samples for BatchNorm in train mode, got 1 "
                f"({self.samples} in chunks of {chunks[0].samples}). Change the number of samples (samples, or a data "
                "set's train) or of those in a chunk (batch_size, chunk_size)."
            )

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Set the mode; at the end put back parameters, buffers, modes and random generators, bit for bit.

        Raises:
            SgdlineError: If the network works on its weights in eval mode: derivatives would be those of other ones.
        """
        with kept_generators(self._layout.device), restored(self._model):
            if not self._model.training:
                self._model.train(True)
            if not self._train_mode:
                values = dict(self._model.named_parameters()) | dict(self._model.named_buffers())
                before = {name: value.detach().clone() for name, value in values.items()}
                self._model.train(False)
                for name, value in before.items():
                    if not same_values(values[name].detach(), value):
                        raise SgdlineError(
                            "The network must leave its weights alone in eval mode, got other values of "
                            f"{name!r} (merged adapters?). Measure derivatives in train mode."
                        )
            yield

    def loss_and_product(self, direction: Tensor) -> tuple[float, Tensor]:
        """Return L(theta), nats for cross-entropy, and H v; see `product`."""
        found = self.product(direction)
        return found.loss, found.image

    def product(self, direction: Tensor) -> Product:
        """Return L(theta), its slope and the product of its Hessian along a vector. Call it within `opened`.

        Args:
            direction: Shape (p,), any floating-point dtype; rounded to that of the parameters.

        Raises:
            SgdlineError: If a layer has no second derivative, or no deterministic one, or nothing counts.

        Cost: one forward and two backward passes over the measuring set, about five forward passes.
        """
        parameters = trainable_parameters(self._model)
        along = {name: part.to(parameters[name]) for name, part in self._layout.split(direction).items()}
        total = torch.zeros(self._layout.size, dtype=torch.float64, device=self._layout.device)
        parts = self._layout.split(total)
        loss_sum, slope_sum = torch.zeros(2, dtype=torch.float64, device=self._layout.device).unbind()
        state = NetworkState(self._model, trainable=False, frozen=False)
        with second_derivatives():
            for place in range(len(self._chunks)):
                chunk_loss, slope, products = self._chunk_product(place, parameters, along)
                for name, product in products.items():
                    parts[name].add_(product)
                loss_sum += chunk_loss
                slope_sum += slope
                beat()
                state.restore()
        divisor = self.divisor()
        return Product(float(loss_sum) / divisor, float(slope_sum) / divisor, total.div_(divisor))

    def divisor(self) -> float:
        """Return the sum of weights times counts; known after a pass.

        Raises:
            SgdlineError: If it is 0 or not finite.
        """
        divisor = sum(self._shares[place] for place in range(len(self._chunks)))
        if not 0.0 < divisor < float("inf"):
            raise SgdlineError(f"Weights and counts of all samples must add up to more than 0, got {divisor:g}.")
        return divisor

    def chunk_gradients(self) -> Iterator[ChunkGradient]:
        """Yield the gradient of each chunk. Call it within `opened`.

        Cost: one forward and one backward pass over the measuring set, about three forward passes.
        """
        parameters = trainable_parameters(self._model)
        state = NetworkState(self._model, trainable=False, frozen=False)
        for place, chunk in enumerate(self._chunks):
            total = torch.zeros(self._layout.size, dtype=torch.float64, device=self._layout.device)
            gradients = _gradients(self._chunk_loss(place), parameters)
            for name, part in self._layout.split(total).items():
                part.copy_(gradients[name].to_dense())  # an embedding may give sparse ones
            beat()
            state.restore()
            yield ChunkGradient(total, self._shares[place], chunk.samples)

    def _chunk_product(
        self, place: int, parameters: dict[str, nn.Parameter], along: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Return the sum of a chunk's losses, its slope and its Hessian's product; the graph ends with the function."""
        total = self._chunk_loss(place)
        gradients = _gradients(total, parameters, create_graph=True)
        slope = torch.stack([(gradients[name] * along[name]).sum().double() for name in parameters]).sum()
        if not self._checked:
            refuse_cut_graphs(slope)
            self._checked = True
        return total.detach(), slope.detach(), _gradients(slope, parameters)

    def _chunk_loss(self, place: int) -> Tensor:
        """Return the weighted sum of a chunk's losses, float64, with its graph; note the chunk's share."""
        chunk = self._chunks[place]
        seed_masks(chunk.mask_seed, self._layout.device)
        seed_libraries(chunk.mask_seed)
        outputs = call(self._model, chunk.inputs, like=self._model)
        losses = per_sample(self._loss, outputs, chunk.targets).double()
        if place not in self._shares:
            self._shares[place] = self._share(outputs, chunk)
        return losses.sum() if chunk.weights is None else losses @ chunk.weights.to(losses)

    def _share(self, outputs: Any, chunk: Chunk) -> float:
        counts = None
        if self._counts is not None:
            with torch.no_grad():
                counts = self._counts(tree_map_only(Tensor, Tensor.detach, outputs), chunk.targets)
        if counts is None:
            return float(chunk.samples if chunk.weights is None else chunk.weights.double().sum())
        return float(counts.double().sum() if chunk.weights is None else counts.double() @ chunk.weights.double())


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
