"""Samples of any form: a tensor with the samples first, or a tuple, list or dict of such tensors.

Entries of a tree that are no tensors (None, numbers, words) belong to all samples and are handed on as they are.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

from sgdline.models.state import cast

# A tensor of the shape (n, ...), or a tuple, list or dict of such.
Samples = Any


def tensors_of(samples: Samples) -> list[Tensor]:
    """Return the tensors of samples, in a fixed order."""
    return [leaf for leaf in tree_leaves(samples) if isinstance(leaf, Tensor)]


def count_of(samples: Samples) -> int:
    """Return the number of samples n."""
    return len(samples) if isinstance(samples, Tensor) else len(tensors_of(samples)[0])


def device_of(samples: Samples) -> torch.device:
    """Return where samples are."""
    return samples.device if isinstance(samples, Tensor) else tensors_of(samples)[0].device


def rows_of(samples: Samples, rows: slice) -> Samples:
    """Return some of the samples, in the same form, as views."""
    return samples[rows] if isinstance(samples, Tensor) else tree_map_only(Tensor, lambda part: part[rows], samples)


def chunks_of(samples: Samples, size: int) -> Iterator[Samples]:
    """Yield samples in chunks of a size, in their order; the last one may be smaller."""
    for first in range(0, count_of(samples), size):
        yield rows_of(samples, slice(first, first + size))


def cast_samples(samples: Samples, dtype: torch.dtype) -> Samples:
    """Return samples in the precision of a real dtype; whole numbers stay as they are."""
    return tree_map_only(Tensor, lambda part: cast(part, dtype), samples)


def call(network: Callable[..., Any], inputs: Samples, *, like: nn.Module) -> Any:
    """Return what a network gives for inputs, as a plain forward pass would.

    A dict goes to `forward` by name and a tuple or list in order, if forward takes such arguments; otherwise as the
    one argument that it is.

    Args:
        network: What to call: the network, or compiled code of it.
        inputs: Its inputs.
        like: The network itself, whose `forward` is asked for its arguments.
    """
    arguments, named = arguments_of(like, inputs)
    return usable(network(*arguments, **named))


def arguments_of(network: nn.Module, inputs: Samples) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return inputs as positional and named arguments of a network's `forward`; see `call`."""
    if isinstance(inputs, Tensor):
        return (inputs,), {}
    try:
        signature = inspect.signature(network.forward)
        if isinstance(inputs, Mapping) and all(isinstance(name, str) for name in inputs):
            signature.bind(**inputs)
            return (), dict(inputs)
        if isinstance(inputs, tuple | list):
            signature.bind(*inputs)
            return tuple(inputs), {}
    except (TypeError, ValueError):  # other arguments, or a forward of a compiled language
        pass
    return (inputs,), {}


def usable(outputs: Any) -> Any:
    """Return outputs without the entries of a dict-like output that hold objects instead of tensors.

    Language models return the cache of their attention beside the logits; no loss needs it.
    """
    if not isinstance(outputs, Mapping):
        return outputs
    kept = {name: part for name, part in outputs.items() if are_plain(part)}
    if len(kept) == len(outputs):
        return outputs
    try:
        return type(outputs)(**kept)
    except TypeError:
        return outputs


def are_plain(outputs: Any) -> bool:
    """Return whether a tree holds tensors and plain values only."""
    return all(isinstance(leaf, Tensor | int | float | bool | str | None) for leaf in tree_leaves(outputs))
