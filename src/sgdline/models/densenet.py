"""DenseNets of depth 3n+4: DenseNet-100-12 (sparse, ICML version)."""

from __future__ import annotations

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


class DenseLayer(nn.Module):
    """BN-ReLU-conv3x3 (behind BN-ReLU-conv1x1 with a bottleneck); its output is appended to the channels."""

    def __init__(self, in_channels: int, *, growth: int, bottleneck: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        if bottleneck:
            layers += [nn.BatchNorm2d(in_channels), nn.ReLU(), conv1x1(in_channels, 4 * growth)]
            in_channels = 4 * growth
        layers += [nn.BatchNorm2d(in_channels), nn.ReLU(), conv3x3(in_channels, growth)]
        self.new_features = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, in, H, W) to (N, in + growth, H, W)."""
        return torch.cat([images, self.new_features(images)], dim=1)


def densenet(
    *, input_shape: InputShape, num_classes: int, depth: int = 100, growth: int = 12, bottleneck: bool = False
) -> nn.Module:
    """DenseNet with three dense blocks for small images; DenseNet-100-12 by default.

    Args:
        input_shape: Channels, height and width of one image, sides of at least 4 pixels.
        num_classes: Number of logits.
        depth: Layers in all: 3n + 4 for n convolutions per block, 6n + 4 with bottlenecks.
        growth: Channels that each dense layer adds.
        bottleneck: The BC variant: 1x1 bottlenecks, transitions that halve the channels, a stem of 2*growth.

    Returns:
        The network, in train mode, drawn from torch's global generator: convolutions Kaiming normal with fan-out,
        linear bias 0.

    Raises:
        ValueError: If depth does not fit the blocks.

    Source: papers.md sections 4.4 and 6 name it; the structure is that of Huang et al. (2017).
    """
    whole_number("growth", growth)
    per_layer = 2 if bottleneck else 1
    if (whole_number("depth", depth) - 4) % (3 * per_layer) or depth <= 4:
        raise ValueError(f"depth must be {3 * per_layer}n + 4, got {depth!r}")
    # ASSUME: the plain variant with a stem of 16 channels; the paper's code for it is not in the repository.
    channels = 2 * growth if bottleneck else 16
    layers: list[nn.Module] = [conv3x3(input_shape[0], channels)]
    for block in range(3):
        for _ in range((depth - 4) // (3 * per_layer)):
            layers.append(DenseLayer(channels, growth=growth, bottleneck=bottleneck))
            channels += growth
        if block < 2:
            kept = channels // 2 if bottleneck else channels
            layers += [nn.BatchNorm2d(channels), nn.ReLU(), conv1x1(channels, kept), nn.AvgPool2d(2)]
            channels = kept
    layers += [nn.BatchNorm2d(channels), nn.ReLU(), GlobalAveragePool()]
    classifier = nn.Linear(channels, num_classes)
    model = nn.Sequential(*layers, classifier)
    initialise_convolutions(model, fan="fan_out")
    nn.init.zeros_(classifier.bias)
    return model
