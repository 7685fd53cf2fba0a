"""Building blocks that several families of networks share."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

InputShape = tuple[int, int, int]  # (channels, height, width)


def whole_number(name: str, value: int, *, least: int = 1) -> int:
    """Return `value` if it is a whole number of at least `least`.

    Raises:
        ValueError: If it is not; the text follows the house form of errors.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
    return value


def fraction(name: str, value: float) -> float:
    """Return `value` if it lies in [0, 1); dropout rates are such numbers.

    Raises:
        ValueError: If it does not.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise ValueError(f"{name} must be at least 0 and below 1, got {value!r}")
    return float(value)


def conv3x3(in_channels: int, out_channels: int, *, stride: int = 1) -> nn.Conv2d:
    """3x3 convolution with padding 1 and no bias; maps a side of n pixels to ceil(n / stride)."""
    return nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)


def conv1x1(in_channels: int, out_channels: int, *, stride: int = 1) -> nn.Conv2d:
    """1x1 convolution without bias; maps a side of n pixels to ceil(n / stride)."""
    return nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False)


def initialise_convolutions(model: nn.Module, *, fan: Literal["fan_in", "fan_out"]) -> None:
    """Draw all convolution weights from N(0, sqrt(2 / fan)) and set their biases to 0.

    fan_out of a k x k convolution is k*k*c_out (torch counts c_out without dividing by the groups), fan_in is
    k*k*c_in / groups. Normalisation layers keep the framework's weight 1 and bias 0. Draws come from torch's
    global generator, in the order of `model.modules()`.

    Args:
        model: Network, changed in place.
        fan: Which fan to use.

    Source: papers.md section 6, column "init".
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode=fan, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


class GlobalAveragePool(nn.Module):
    """Mean over all pixels: (N, C, H, W) -> (N, C); equals the papers' fixed pools at their image sizes."""

    def forward(self, images: Tensor) -> Tensor:
        """Average; see the class."""
        return torch.mean(images, dim=(2, 3))
