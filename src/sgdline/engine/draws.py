"""Random draws that do not depend on the precision of the network."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

_aten = torch.ops.aten


class DrawsInFloat32(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Makes each random draw on float32 tensors of the same layout and converts the result."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded not in func.tags:
            return func(*args, **kwargs)
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor) and _other(leaf.dtype)]
        dtype = kwargs.get("dtype")
        if not given and not (isinstance(dtype, torch.dtype) and _other(dtype)):
            return func(*args, **kwargs)
        if func is _aten.native_dropout.default:  # exact: only the mask is drawn
            inputs, share, train = args
            _, mask = func(torch.ones_like(inputs, dtype=torch.float32), share, train)
            kept = 0.0 if share == 1.0 else 1.0 / (1.0 - share)
            return (inputs * mask * kept if train is not False else inputs.clone()), mask
        if "attention" in func._schema.name:  # fused: draws within the kernel, if at all, in the precision that it has
            return func(*args, **kwargs)
        narrow = tree_map_only(Tensor, lambda t: t.float() if _other(t.dtype) else t, (args, kwargs))
        if isinstance(dtype, torch.dtype) and _other(dtype):
            narrow[1]["dtype"] = torch.float32
        found = func(*narrow[0], **narrow[1])
        # What the draw changes in place: the tensor itself, the noise of rrelu.
        names = [argument.name for argument in func._schema.arguments]
        for argument in func._schema.arguments:
            if argument.alias_info is not None and argument.alias_info.is_write:
                place = names.index(argument.name)
                old, new = (
                    given_args[place] if place < len(given_args) else given_kwargs.get(argument.name)
                    for given_args, given_kwargs in ((args, kwargs), narrow)
                )
                if isinstance(old, Tensor) and old is not new:
                    old.copy_(new)
                    if isinstance(found, Tensor) and found is new:
                        return old
        like = given[0].dtype if dtype is None else dtype
        return tree_map_only(Tensor, lambda t: t.to(like) if t.is_floating_point() else t, found)


def _other(dtype: torch.dtype) -> bool:
    return dtype.is_floating_point and dtype != torch.float32
