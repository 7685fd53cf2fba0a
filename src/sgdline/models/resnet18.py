"""Post-activation ResNet-18 and ResNet-34 with projection shortcuts, with and without the max-pool."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sgdline.models._layers import (
    GlobalAveragePool,
    InputShape,
    conv1x1,
    conv3x3,
    initialise_convolutions,
    whole_number,
)

NORMS = ("batch", "group")


def normalisation(norm: str, channels: int, *, width: int) -> nn.Module:
    """Return BatchNorm, or GroupNorm with width/2 groups.

    Args:
        norm: batch or group.
        channels: Channels to normalise, a multiple of `width`.
        width: Channels of the network's first stage.

    Raises:
        ValueError: If `norm` is unknown, or the width is odd with group norm.

    Source: papers.md section 6, "group-norm versions (w/2 groups)".
    """
    if norm not in NORMS:
        raise ValueError(f"norm must be one of {', '.join(NORMS)}, got {norm!r}")
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    if width % 2:
        raise ValueError(f"width must be even with norm 'group', got {width!r}")
    return nn.GroupNorm(width // 2, channels)


class BasicBlock(nn.Module):
    """conv3x3-norm-ReLU-conv3x3-norm plus identity or conv1x1-norm, then ReLU."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int, norm: str, width: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            conv3x3(in_channels, out_channels, stride=stride),
            normalisation(norm, out_channels, width=width),
            nn.ReLU(),
            conv3x3(out_channels, out_channels),
            normalisation(norm, out_channels, width=width),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                conv1x1(in_channels, out_channels, stride=stride), normalisation(norm, out_channels, width=width)
            )

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, in, H, W) to (N, out, ceil(H/stride), ceil(W/stride))."""
        return torch.relu(self.residual(images) + self.shortcut(images))


class ResNet(nn.Module):
    """3x3 stem, four stages of basic blocks with widths w, 2w, 4w, 8w and strides 1, 2, 2, 2, mean, linear layer.

    `stages[0]` to `stages[3]` and `pool` give the five blocks whose feature sparsity the sparse paper measures.

    Args:
        input_shape: Channels, height and width of one image.
        num_classes: Number of logits.
        blocks: Blocks of each of the four stages.
        width: Channels w of the first stage.
        max_pool: Put the 3x3 max-pool of stride 2 behind the stem.
        norm: batch or group.

    Source: papers.md section 6, ResNet-18 and resnet18_plain.
    """

    def __init__(
        self,
        *,
        input_shape: InputShape,
        num_classes: int,
        blocks: Sequence[int],
        width: int,
        max_pool: bool,
        norm: str = "batch",
    ) -> None:
        super().__init__()
        whole_number("width", width)
        self.stem = nn.Sequential(conv3x3(input_shape[0], width), normalisation(norm, width, width=width), nn.ReLU())
        if max_pool:
            self.stem.append(nn.MaxPool2d(3, stride=2, padding=1))
        stages = []
        channels = width
        for stage, count in enumerate(blocks):
            out_channels = width * 2**stage
            members = []
            for block in range(count):
                stride = 2 if stage > 0 and block == 0 else 1
                members.append(BasicBlock(channels, out_channels, stride=stride, norm=norm, width=width))
                channels = out_channels
            stages.append(nn.Sequential(*members))
        self.stages = nn.Sequential(*stages)
        self.pool = GlobalAveragePool()
        self.classifier = nn.Linear(channels, num_classes)
        initialise_convolutions(self, fan="fan_out")

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, C, H, W) to logits (N, num_classes)."""
        logits: Tensor = self.classifier(self.pool(self.stages(self.stem(images))))
        return logits


def resnet18(*, input_shape: InputShape, num_classes: int, width: int = 64) -> nn.Module:
    """CIFAR variant of the ImageNet ResNet-18 that keeps the max-pool (11 173 962 parameters).

    Args:
        input_shape: Channels, height and width of one image.
        num_classes: Number of logits.
        width: Channels of the first stage.

    Returns:
        The network, in train mode, drawn from torch's global generator: convolutions Kaiming normal with fan-out,
        the linear layer as the framework draws it.

    Source: linesearch, supplement; papers.md section 6.
    """
    return ResNet(input_shape=input_shape, num_classes=num_classes, blocks=(2, 2, 2, 2), width=width, max_pool=True)


def _plain(*, input_shape: InputShape, num_classes: int, blocks: Sequence[int], width: int, norm: str) -> ResNet:
    model = ResNet(
        input_shape=input_shape, num_classes=num_classes, blocks=blocks, width=width, max_pool=False, norm=norm
    )
    nn.init.zeros_(model.classifier.bias)
    return model


def resnet18_plain(*, input_shape: InputShape, num_classes: int, width: int = 64, norm: str = "batch") -> nn.Module:
    """Post-activation ResNet-18 without max-pool (11 173 962 parameters at width 64, 701 466 at 16, 176 402 at 8).

    Args:
        input_shape: Channels, height and width of one image.
        num_classes: Number of logits.
        width: Channels of the first stage.
        norm: batch, or group for GroupNorm with width/2 groups.

    Returns:
        The network, in train mode, drawn from torch's global generator: convolutions Kaiming normal with fan-out,
        linear weights as the framework draws them, linear bias 0.

    Source: sparse, section 4.4 of papers.md; structure in section 6.
    """
    return _plain(input_shape=input_shape, num_classes=num_classes, blocks=(2, 2, 2, 2), width=width, norm=norm)


def resnet34_plain(*, input_shape: InputShape, num_classes: int, width: int = 64, norm: str = "batch") -> nn.Module:
    """Post-activation ResNet-34 without max-pool (21 282 122 parameters); arguments as in `resnet18_plain`."""
    return _plain(input_shape=input_shape, num_classes=num_classes, blocks=(3, 4, 6, 3), width=width, norm=norm)
