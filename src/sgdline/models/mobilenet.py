"""MobileNetV2 for small images: inverted residuals with ReLU6."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sgdline.models._layers import GlobalAveragePool, InputShape, fraction, initialise_convolutions, whole_number

# Expansion t, channels c, repeats n, stride s of the first repeat (papers.md section 6).
SETTINGS = (
    (1, 16, 1, 1),
    (6, 24, 2, 1),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def _conv_norm(
    in_channels: int, out_channels: int, *, kernel: int, stride: int = 1, groups: int = 1
) -> tuple[nn.Module, nn.Module]:
    convolution = nn.Conv2d(
        in_channels, out_channels, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False
    )
    return convolution, nn.BatchNorm2d(out_channels)


class InvertedResidual(nn.Module):
    """1x1 expansion (none if t = 1), 3x3 depthwise, linear 1x1 projection; the input is added if shapes agree."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = in_channels * expansion
        layers: list[nn.Module] = []
        if expansion != 1:
            layers += [*_conv_norm(in_channels, hidden, kernel=1), nn.ReLU6()]
        layers += [*_conv_norm(hidden, hidden, kernel=3, stride=stride, groups=hidden), nn.ReLU6()]
        layers += [*_conv_norm(hidden, out_channels, kernel=1)]
        self.residual = nn.Sequential(*layers)
        self.adds_input = stride == 1 and in_channels == out_channels

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, in, H, W) to (N, out, ceil(H/stride), ceil(W/stride))."""
        residual: Tensor = self.residual(images)
        return torch.add(images, residual) if self.adds_input else residual


class InvertedResidualNet(nn.Module):
    """Stem of stride 1, inverted residuals, 1x1 convolution, global mean, dropout, linear layer.

    Args:
        input_shape: Channels, height and width of one image.
        num_classes: Number of logits.
        stem_width: Channels behind the stem.
        settings: (expansion, channels, repeats, stride) of each stage.
        last_width: Channels of the last 1x1 convolution.
        dropout: Rate before the linear layer. Above 0 every forward pass in train mode is random.

    Source: papers.md section 6: convolutions Kaiming normal with fan-out, linear N(0, 0.01), bias 0.
    """

    def __init__(
        self,
        *,
        input_shape: InputShape,
        num_classes: int,
        stem_width: int,
        settings: Sequence[tuple[int, int, int, int]],
        last_width: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(*_conv_norm(input_shape[0], stem_width, kernel=3), nn.ReLU6())
        stages = []
        channels = stem_width
        for expansion, out_channels, repeats, stride in settings:
            members = []
            for repeat in range(repeats):
                members.append(
                    InvertedResidual(channels, out_channels, stride=stride if repeat == 0 else 1, expansion=expansion)
                )
                channels = out_channels
            stages.append(nn.Sequential(*members))
        self.stages = nn.Sequential(*stages)
        self.last = nn.Sequential(*_conv_norm(channels, last_width, kernel=1), nn.ReLU6())
        self.pool = GlobalAveragePool()
        self.dropout = nn.Dropout(fraction("dropout", dropout))
        self.classifier = nn.Linear(last_width, num_classes)
        initialise_convolutions(self, fan="fan_out")
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, C, H, W) to logits (N, num_classes)."""
        logits: Tensor = self.classifier(self.dropout(self.pool(self.last(self.stages(self.stem(images))))))
        return logits


def _scaled(channels: float) -> int:
    """Round to a multiple of 8, never down by more than a tenth (the rule of the MobileNets)."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def mobilenet_v2(
    *, input_shape: InputShape, num_classes: int, width_multiplier: float = 1.0, dropout: float = 0.2
) -> nn.Module:
    """MobileNetV2 with stem and second stage at stride 1 (2 236 682 parameters).

    Args:
        input_shape: Channels, height and width of one image.
        num_classes: Number of logits.
        width_multiplier: Factor on all channels; the last convolution never gets fewer than 1280.
        dropout: Rate before the linear layer; the paper's is 0.2.

    Returns:
        The network, in train mode, drawn from torch's global generator.

    Raises:
        ValueError: If an argument is out of range.

    Source: linesearch, supplement; papers.md section 6.
    """
    if isinstance(width_multiplier, bool) or not isinstance(width_multiplier, int | float) or width_multiplier <= 0:
        raise ValueError(f"width_multiplier must be above 0, got {width_multiplier!r}")
    return InvertedResidualNet(
        input_shape=input_shape,
        num_classes=num_classes,
        stem_width=_scaled(32 * width_multiplier),
        settings=[(t, _scaled(c * width_multiplier), n, s) for t, c, n, s in SETTINGS],
        last_width=_scaled(1280 * max(1.0, width_multiplier)),
        dropout=dropout,
    )


def tiny_mobilenet(
    *, input_shape: InputShape, num_classes: int, width: int = 8, blocks_per_stage: int = 2, dropout: float = 0.0
) -> nn.Module:
    """Small inverted-residual net for CPU runs: expansion 2, three stages of widths w, 2w, 4w, strides 1, 2, 2.

    Args:
        input_shape: Channels, height and width of one image.
        num_classes: Number of logits.
        width: Channels of stem and first stage; the last 1x1 convolution has sixteen times as many.
        blocks_per_stage: Inverted residuals in each stage.
        dropout: Rate before the linear layer.

    Returns:
        The network, in train mode, drawn from torch's global generator, initialised as `mobilenet_v2`.

    Source: papers.md section 9, run LSM (our miniature of the linesearch supplement).
    """
    whole_number("width", width)
    whole_number("blocks_per_stage", blocks_per_stage)
    # ASSUME: dropout 0 instead of the paper's 0.2, and a last width of 4x the stage's like 320 -> 1280: with so few
    # features the noise of the mask would hide what the miniature is to show.
    return InvertedResidualNet(
        input_shape=input_shape,
        num_classes=num_classes,
        stem_width=width,
        settings=[(2, width * 2**stage, blocks_per_stage, 1 if stage == 0 else 2) for stage in range(3)],
        last_width=16 * width,
        dropout=dropout,
    )
