"""Random draws that do not depend on the precision of the network."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

from sgdline.engine.dispatch import DispatchMode

_aten = torch.ops.aten


class DrawsIn(DispatchMode):  # type: ignore[no-untyped-call]
    """Makes each random draw on tensors of one dtype and of the same layout, and converts the result.

    Fused attention draws within its kernel, in the precision that it computes in; it is left alone.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self._dtype = dtype

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded not in func.tags or "attention" in func._schema.name:
            return func(*args, **kwargs)
        others = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor) and self._other(leaf.dtype)]
        dtype: Any = kwargs.get("dtype")
        asked = isinstance(dtype, torch.dtype) and self._other(dtype)
        if not others and not asked:
            return func(*args, **kwargs)
        if func is _aten.native_dropout.default:  # exact: only the mask is drawn
            inputs, share, train = args
            _, mask = func(torch.ones_like(inputs, dtype=self._dtype), share, train)
            kept = 0.0 if share == 1.0 else 1.0 / (1.0 - share)
            return (inputs * mask * kept if train is not False else inputs.clone()), mask
        drawn = tree_map_only(Tensor, self._converted, (args, kwargs))
        if asked:
            drawn[1]["dtype"] = self._counterpart(dtype)
        found = func(*drawn[0], **drawn[1])
        # What the draw changes in place: the tensor itself, the noise of rrelu.
        for place, argument in enumerate(func._schema.arguments):
            if argument.alias_info is None or not argument.alias_info.is_write:
                continue
            old, new = (_argument(given, place, argument.name) for given in ((args, kwargs), drawn))
            if isinstance(old, Tensor) and isinstance(new, Tensor) and old is not new:
                old.copy_(new)
                if found is new:
                    return old
        like = dtype if asked else others[0].dtype
        return tree_map_only(Tensor, lambda t: _like(t, like), found)

    def _counterpart(self, dtype: torch.dtype) -> torch.dtype:
        return _complex(self._dtype) if dtype.is_complex else self._dtype

    def _other(self, dtype: torch.dtype) -> bool:
        return (dtype.is_floating_point or dtype.is_complex) and dtype != self._counterpart(dtype)

    def _converted(self, tensor: Tensor) -> Tensor:
        """Return a tensor in the other precision with its strides: torch fills dense tensors in another order."""
        if not self._other(tensor.dtype):
            return tensor
        dtype = self._counterpart(tensor.dtype)
        if tensor.layout != torch.strided:
            return tensor.to(dtype)
        repeated = [size > 1 and stride == 0 for size, stride in zip(tensor.shape, tensor.stride(), strict=True)]
        once = tensor[tuple(slice(0, 1) if repeats else slice(None) for repeats in repeated)]
        found = torch.empty_strided(once.shape, once.stride(), dtype=dtype, device=tensor.device)
        return found.copy_(once).expand(tensor.shape)


def _complex(dtype: torch.dtype) -> torch.dtype:
    return torch.complex128 if dtype == torch.float64 else torch.complex64


def _like(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Return what was drawn in the precision of a real or complex dtype."""
    if tensor.is_complex():
        return tensor.to(dtype if dtype.is_complex else _complex(dtype))
    return tensor.to(dtype.to_real() if dtype.is_complex else dtype) if tensor.is_floating_point() else tensor


def _argument(given: tuple[tuple[Any, ...], dict[str, Any]], place: int, name: str) -> Any:
    args, kwargs = given
    return args[place] if place < len(args) else kwargs.get(name)
