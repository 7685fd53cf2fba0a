"""CIFAR ResNets with the parameter-free shortcut of type A: ResNet-20, -32, -56."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from sgdline.models._layers import GlobalAveragePool, InputShape, conv3x3, initialise_convolutions, whole_number


class ShortcutA(nn.Module):
    """Take every `stride`-th pixel and pad the channels with zeros, half of them before and half after.

    Doubling the channels puts out/4 zeros on each side. Shape (N, in, H, W) -> (N, out, ceil(H/s), ceil(W/s)).

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output, at least `in_channels`.
        stride: Distance between the pixels taken.

    Source: papers.md section 6, ResNet-20.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int) -> None:
        super().__init__()
        missing = out_channels - in_channels
        self.before = missing // 2
        self.after = missing - self.before
        self.stride = stride

    def forward(self, images: Tensor) -> Tensor:
        """Subsample and pad; see the class."""
        taken = images[:, :, :: self.stride, :: self.stride]
        return functional.pad(taken, (0, 0, 0, 0, self.before, self.after))


class BasicBlockA(nn.Module):
    """conv3x3-BN-ReLU-conv3x3-BN plus a shortcut of type A, then ReLU."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            conv3x3(in_channels, out_channels, stride=stride),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
            conv3x3(out_channels, out_channels),
            nn.BatchNorm2d(out_channels),
        )
        same = stride == 1 and in_channels == out_channels
        self.shortcut: nn.Module = nn.Identity() if same else ShortcutA(in_channels, out_channels, stride=stride)

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, in, H, W) to (N, out, ceil(H/stride), ceil(W/stride))."""
        return torch.relu(self.residual(images) + self.shortcut(images))


class ResNetA(nn.Module):
    """Stem, three stages of basic blocks with widths w, 2w, 4w and strides 1, 2, 2, global mean, linear layer.

    Args:
        input_shape: Channels, height and width of one image.
        num_classes: Number of logits.
        blocks_per_stage: Basic blocks in each of the three stages.
        width: Channels w of the first stage.

    Source: papers.md section 6, ResNet-20: convolution and linear weights Kaiming normal with fan-in, the linear
        bias as the framework draws it.
    """

    def __init__(self, *, input_shape: InputShape, num_classes: int, blocks_per_stage: int, width: int) -> None:
        super().__init__()
        whole_number("width", width)
        whole_number("blocks_per_stage", blocks_per_stage)
        self.stem = nn.Sequential(conv3x3(input_shape[0], width), nn.BatchNorm2d(width), nn.ReLU())
        stages = []
        channels = width
        for stage in range(3):
            out_channels = width * 2**stage
            blocks = []
            for block in range(blocks_per_stage):
                blocks.append(BasicBlockA(channels, out_channels, stride=2 if stage > 0 and block == 0 else 1))
                channels = out_channels
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.Sequential(*stages)
        self.pool = GlobalAveragePool()
        self.classifier = nn.Linear(channels, num_classes)
        initialise_convolutions(self, fan="fan_in")
        nn.init.kaiming_normal_(self.classifier.weight, mode="fan_in", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, C, H, W) to logits (N, num_classes)."""
        logits: Tensor = self.classifier(self.pool(self.stages(self.stem(images))))
        return logits


def resnet20(*, input_shape: InputShape, num_classes: int, width: int = 16) -> nn.Module:
    """ResNet-20 with type A shortcuts (269 722 parameters at 3 channels, 10 classes, width 16).

    Args:
        input_shape: Channels, height and width of one image.
        num_classes: Number of logits.
        width: Channels of the first stage; the next ones have twice and four times as many.

    Returns:
        The network, in train mode, drawn from torch's global generator.

    Source: linesearch, main text; papers.md section 6.
    """
    return ResNetA(input_shape=input_shape, num_classes=num_classes, blocks_per_stage=3, width=width)


def resnet32(*, input_shape: InputShape, num_classes: int, width: int = 16) -> nn.Module:
    """ResNet-32 with type A shortcuts (464 154 parameters); arguments as in `resnet20`."""
    return ResNetA(input_shape=input_shape, num_classes=num_classes, blocks_per_stage=5, width=width)


def resnet56(*, input_shape: InputShape, num_classes: int, width: int = 16) -> nn.Module:
    """ResNet-56 with type A shortcuts (853 018 parameters); arguments as in `resnet20`."""
    return ResNetA(input_shape=input_shape, num_classes=num_classes, blocks_per_stage=9, width=width)
