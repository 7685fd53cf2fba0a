"""Convolutions whose gradient torch cannot compute with channels-last weights on a CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch.overrides import TorchFunctionMode

# Channels from which on the faulty code is not reached: 8 with AVX2, 16 with AVX-512 (floats of a vector register).
_ENOUGH_CHANNELS = 16
_CONVOLUTIONS = (torch.conv2d, torch.conv_transpose2d)


class FragileConvolutions(TorchFunctionMode):
    """Notes a convolution of kernel 1, a stride above 1 and few input channels during forward passes.

    torch 2.15 writes beyond its memory in the gradient of such a convolution: the process ends or numbers change.
    Watching the calls finds functional convolutions too. A mode that watches dispatched operations would import torch's
    compiler: two seconds in every job.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: str | None = None  # in words

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        if func in _CONVOLUTIONS:
            weight = args[1] if len(args) > 1 else named["weight"]
            stride = args[3] if len(args) > 3 else named.get("stride", 1)
            steps = (stride,) if isinstance(stride, int) else tuple(stride)
            channels = weight.shape[1]  # of a transposed convolution: its outputs, the inputs of its gradient
            if tuple(weight.shape[2:]) == (1, 1) and max(steps) > 1 and channels < _ENOUGH_CHANNELS:
                self.found = f"a 1x1 convolution of {channels} channels with stride {max(steps)}"
        return func(*args, **named)
