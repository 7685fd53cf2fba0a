"""Pre-activation ResNets: ResNet-56 (walk), ResNet-10, -18, -34 and WRN-28-10 (sparse)."""

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
from sgdline.models.resnet18 import normalisation


class PreActivationBlock(nn.Module):
    """norm-ReLU-conv3x3-norm-ReLU-conv3x3 plus a shortcut, a bare 1x1 convolution where the shape changes."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int, norm: str, width: int) -> None:
        super().__init__()
        self.activation = nn.Sequential(normalisation(norm, in_channels, width=width), nn.ReLU())
        self.residual = nn.Sequential(
            conv3x3(in_channels, out_channels, stride=stride),
            normalisation(norm, out_channels, width=width),
            nn.ReLU(),
            conv3x3(out_channels, out_channels),
        )
        projects = stride != 1 or in_channels != out_channels
        self.projection = conv1x1(in_channels, out_channels, stride=stride) if projects else None

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, in, H, W) to (N, out, ceil(H/stride), ceil(W/stride))."""
        activated = self.activation(images)
        # ASSUME: a projection sees the activated input, as in the pre-activation paper of He et al. (2016); the
        # identity sees the raw one. papers.md fixes the parameters of the shortcut, not the place of its input.
        shortcut = images if self.projection is None else self.projection(activated)
        return torch.add(self.residual(activated), shortcut)


class PreActivationResNet(nn.Module):
    """Bare 3x3 stem, stages of pre-activation blocks, final norm-ReLU, global mean, linear layer.

    Args:
        input_shape: Channels, height and width of one image.
        num_classes: Number of logits.
        stem_width: Channels behind the stem.
        widths: Channels of each stage; the first stage has stride 1, the others 2.
        blocks: Blocks of each stage.
        norm: batch or group; groups are half of `stem_width`.

    Source: papers.md section 6: convolutions N(0, sqrt(2/(k*k*c_out))), linear layer as the framework draws it.
    """

    def __init__(
        self,
        *,
        input_shape: InputShape,
        num_classes: int,
        stem_width: int,
        widths: Sequence[int],
        blocks: Sequence[int],
        norm: str = "batch",
    ) -> None:
        super().__init__()
        self.stem = conv3x3(input_shape[0], stem_width)
        stages = []
        channels = stem_width
        for stage, (out_channels, count) in enumerate(zip(widths, blocks, strict=True)):
            members = []
            for block in range(count):
                stride = 2 if stage > 0 and block == 0 else 1
                members.append(PreActivationBlock(channels, out_channels, stride=stride, norm=norm, width=stem_width))
                channels = out_channels
            stages.append(nn.Sequential(*members))
        self.stages = nn.Sequential(*stages)
        self.activation = nn.Sequential(normalisation(norm, channels, width=stem_width), nn.ReLU())
        self.pool = GlobalAveragePool()
        self.classifier = nn.Linear(channels, num_classes)
        initialise_convolutions(self, fan="fan_out")

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, C, H, W) to logits (N, num_classes)."""
        logits: Tensor = self.classifier(self.pool(self.activation(self.stages(self.stem(images)))))
        return logits


def preact_resnet56(
    *, input_shape: InputShape, num_classes: int, width: int = 16, blocks_per_stage: int = 9
) -> nn.Module:
    """Pre-activation ResNet-56 with widths w, 2w, 4w (855 578 parameters at 3 channels, 10 classes, width 16).

    Args:
        input_shape: Channels, height and width of one image.
        num_classes: Number of logits.
        width: Channels of the first stage.
        blocks_per_stage: Blocks in each of the three stages.

    Returns:
        The network, in train mode, drawn from torch's global generator.

    Source: walk; papers.md section 6.
    """
    whole_number("width", width)
    whole_number("blocks_per_stage", blocks_per_stage)
    return PreActivationResNet(
        input_shape=input_shape,
        num_classes=num_classes,
        stem_width=width,
        widths=(width, 2 * width, 4 * width),
        blocks=(blocks_per_stage,) * 3,
    )


def _four_stages(
    *, input_shape: InputShape, num_classes: int, blocks: Sequence[int], width: int, norm: str
) -> nn.Module:
    whole_number("width", width)
    model = PreActivationResNet(
        input_shape=input_shape,
        num_classes=num_classes,
        stem_width=width,
        widths=[width * 2**stage for stage in range(4)],
        blocks=blocks,
        norm=norm,
    )
    nn.init.zeros_(model.classifier.bias)
    return model


def preact_resnet10(*, input_shape: InputShape, num_classes: int, width: int = 64, norm: str = "batch") -> nn.Module:
    """Tiny pre-activation net of sparse, one block per stage (4 901 450 parameters); as `preact_resnet18`."""
    return _four_stages(input_shape=input_shape, num_classes=num_classes, blocks=(1, 1, 1, 1), width=width, norm=norm)


def preact_resnet18(*, input_shape: InputShape, num_classes: int, width: int = 64, norm: str = "batch") -> nn.Module:
    """Pre-activation ResNet-18 without max-pool (11 172 170 parameters).

    Args:
        input_shape: Channels, height and width of one image.
        num_classes: Number of logits.
        width: Channels of the first stage.
        norm: batch, or group for GroupNorm with width/2 groups.

    Returns:
        The network, in train mode, drawn from torch's global generator; the linear bias is 0.

    Source: sparse; papers.md section 6.
    """
    return _four_stages(input_shape=input_shape, num_classes=num_classes, blocks=(2, 2, 2, 2), width=width, norm=norm)


def preact_resnet34(*, input_shape: InputShape, num_classes: int, width: int = 64, norm: str = "batch") -> nn.Module:
    """Pre-activation ResNet-34 without max-pool (21 280 330 parameters); arguments as in `preact_resnet18`."""
    return _four_stages(input_shape=input_shape, num_classes=num_classes, blocks=(3, 4, 6, 3), width=width, norm=norm)


def wide_resnet28(*, input_shape: InputShape, num_classes: int, widening: int = 10, width: int = 16) -> nn.Module:
    """Wide ResNet-28 (WRN-28-10 by default: 36 479 194 parameters), without dropout.

    Args:
        input_shape: Channels, height and width of one image.
        num_classes: Number of logits.
        widening: Factor between `width` and the channels of the first stage.
        width: Channels behind the stem.

    Returns:
        The network, in train mode, drawn from torch's global generator; the linear bias is 0.

    Source: sparse; papers.md section 6.
    """
    whole_number("width", width)
    whole_number("widening", widening)
    model = PreActivationResNet(
        input_shape=input_shape,
        num_classes=num_classes,
        stem_width=width,
        widths=[width * widening * 2**stage for stage in range(3)],
        blocks=(4, 4, 4),
    )
    nn.init.zeros_(model.classifier.bias)
    return model
