"""Miniatures of the papers' ResNets for runs of minutes on a CPU."""

from __future__ import annotations

from torch import nn

from sgdline.models._layers import InputShape
from sgdline.models.preact_resnet import preact_resnet56
from sgdline.models.resnet_cifar import ResNetA


def tiny_resnet(*, input_shape: InputShape, num_classes: int, width: int = 8, blocks_per_stage: int = 1) -> nn.Module:
    """ResNet-20 in small: type A shortcuts, three stages of widths w, 2w, 4w (19 218 parameters at 3 channels).

    Args:
        input_shape: Channels, height and width of one image.
        num_classes: Number of logits.
        width: Channels of the first stage.
        blocks_per_stage: Basic blocks in each stage; width 16 and 3 blocks are ResNet-20.

    Returns:
        The network, in train mode, drawn from torch's global generator, initialised as ResNet-20.

    Source: papers.md sections 8 and 9, run LS (our miniature).
    """
    return ResNetA(input_shape=input_shape, num_classes=num_classes, blocks_per_stage=blocks_per_stage, width=width)


def tiny_preact_resnet(
    *, input_shape: InputShape, num_classes: int, width: int = 8, blocks_per_stage: int = 1
) -> nn.Module:
    """Pre-activation ResNet-56 of walk in small; arguments as in `tiny_resnet`.

    Source: papers.md section 9, run WK (our miniature).
    """
    return preact_resnet56(
        input_shape=input_shape, num_classes=num_classes, width=width, blocks_per_stage=blocks_per_stage
    )
