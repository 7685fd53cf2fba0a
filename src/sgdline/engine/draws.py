"""Random draws that do not depend on the precision of the network."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

_aten = torch.ops.aten


class DrawsIn(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Makes each random draw on tensors of one dtype and of the same layout, and converts the result.

    Fused attention draws within its kernel, in the precision that it computes in; it is left alone.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._dtype = dtype

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded not in func.tags or "attention" in func._schema.name:
            return func(*args, **kwargs)
        others = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor) and self._other(leaf.dtype)]
        dtype = kwargs.get("dtype")
        asked = isinstance(dtype, torch.dtype) and self._other(dtype)
        if not others and not asked:
            return func(*args, **kwargs)
        if func is _aten.native_dropout.default:  # exact: only the mask is drawn
            inputs, share, train = args
            _, mask = func(torch.ones_like(inputs, dtype=self._dtype), share, train)
            kept = 0.0 if share == 1.0 else 1.0 / (1.0 - share)
            return (inputs * mask * kept if train is not False else inputs.clone()), mask
        drawn = tree_map_only(Tensor, lambda t: t.to(self._dtype) if self._other(t.dtype) else t, (args, kwargs))
        if asked:
            drawn[1]["dtype"] = self._dtype
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
        return tree_map_only(Tensor, lambda t: t.to(like) if t.is_floating_point() else t, found)

    def _other(self, dtype: torch.dtype) -> bool:
        return dtype.is_floating_point and dtype != self._dtype


def _argument(given: tuple[tuple[Any, ...], dict[str, Any]], place: int, name: str) -> Any:
    args, kwargs = given
    return args[place] if place < len(args) else kwargs.get(name)
