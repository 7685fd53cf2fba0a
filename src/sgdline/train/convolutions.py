"""Convolutions whose gradient torch cannot compute with channels-last weights on a CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

# Channels from which on the faulty code is not reached: 8 with AVX2, 16 with AVX-512 (floats of a vector register).
_ENOUGH_CHANNELS = 16


class FragileConvolutions(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes a convolution of kernel 1, a stride above 1 and few input channels during forward passes.

    torch 2.15 writes beyond its memory in the gradient of such a convolution: the process ends or numbers change.
    Watching the operations finds functional convolutions too.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: str | None = None  # in words

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.ops.aten.convolution.default:
            weight, stride = args[1], args[3]
            channels = weight.shape[1]  # of a transposed convolution: its outputs, the inputs of its gradient
            pointwise = weight.dim() == 4 and tuple(weight.shape[2:]) == (1, 1)
            if pointwise and max(stride) > 1 and channels < _ENOUGH_CHANNELS:
                self.found = f"a 1x1 convolution of {channels} channels with stride {max(stride)}"
        return func(*args, **(kwargs or {}))
