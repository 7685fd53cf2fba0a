"""BatchNorm with the statistics of each chunk although several chunks share one forward pass."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

logger = logging.getLogger(__name__)


@dataclass
class Layout:
    """How the samples of the present forward pass are divided; shared by all normalisations of a network."""

    sizes: tuple[int, ...] | None = None  # samples per chunk; None: the batch is one chunk
    grouped: bool = False  # equal chunks, statistics over a view (G, n, C, ...)


def _normalise(module: nn.modules.batchnorm._BatchNorm, inputs: Tensor, layout: Layout) -> Tensor:
    """Apply train-mode BatchNorm chunk by chunk; running statistics are neither read nor written."""
    module._check_input_dim(inputs)  # type: ignore[no-untyped-call]
    sizes = layout.sizes
    if sizes is None or len(sizes) == 1:
        return functional.batch_norm(inputs, None, None, module.weight, module.bias, True, 0.0, module.eps)
    if not layout.grouped:
        # The kernel of BatchNorm itself: each chunk gets the very same numbers as alone.
        parts = [
            functional.batch_norm(part, None, None, module.weight, module.bias, True, 0.0, module.eps)
            for part in torch.split(inputs, list(sizes))
        ]
        return torch.cat(parts)
    groups, features = len(sizes), inputs.shape[1]
    grouped = inputs.reshape(groups, sizes[0], *inputs.shape[1:])  # (G, n, C, ...)
    others = [axis for axis in range(1, grouped.dim()) if axis != 2]
    variance, mean = torch.var_mean(grouped, dim=others, correction=0, keepdim=True)  # (G, 1, C, 1, ...)
    scale = torch.rsqrt(variance + module.eps)
    if module.affine:
        shape = (1, 1, features, *([1] * (grouped.dim() - 3)))
        scale = scale * module.weight.view(shape)
        return torch.addcmul(module.bias.view(shape) - mean * scale, grouped, scale).flatten(0, 1)
    return ((grouped - mean) * scale).flatten(0, 1)


class _PerChunk:
    """Forward pass of a normalisation that asks the layout for its chunks."""

    chunk_layout: Layout

    def forward(self, inputs: Tensor) -> Tensor:
        assert isinstance(self, nn.modules.batchnorm._BatchNorm)
        if self.training or self.running_mean is None:
            return _normalise(self, inputs, self.chunk_layout)
        return super().forward(inputs)  # type: ignore[misc,no-any-return]


class _PerChunk1d(_PerChunk, nn.BatchNorm1d):
    pass


class _PerChunk2d(_PerChunk, nn.BatchNorm2d):
    pass


class _PerChunk3d(_PerChunk, nn.BatchNorm3d):
    pass


_REPLACEMENTS: dict[type[nn.Module], type[nn.Module]] = {
    nn.BatchNorm1d: _PerChunk1d,
    nn.BatchNorm2d: _PerChunk2d,
    nn.BatchNorm3d: _PerChunk3d,
}


def normalise_per_chunk(network: nn.Module) -> Layout:
    """Turn every BatchNorm of a network, in place, into one that works chunk by chunk.

    Parameters, buffers and names stay; only the forward pass is another. Subclasses of BatchNorm keep their own
    forward pass, so a network with such layers must be fed one chunk at a time (`mixes_samples` tells).

    Args:
        network: A network that belongs to the engine.

    Returns:
        The layout to set before each forward pass.
    """
    layout = Layout()
    for module in network.modules():
        replacement = _REPLACEMENTS.get(type(module))
        if replacement is not None:
            module.__class__ = replacement
            module.chunk_layout = layout  # type: ignore[assignment]
    return layout


def normalises_batches(network: nn.Module) -> bool:
    """Return whether any layer of the network, in its present mode, takes statistics over the batch."""
    return any(
        isinstance(module, nn.modules.batchnorm._BatchNorm) and (module.training or module.running_mean is None)
        for module in network.modules()
    )
