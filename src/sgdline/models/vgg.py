"""VGG nets: VGG-11 with BatchNorm (walk), its Tiny-ImageNet version, VGG-16 without (sparse), a small one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sgdline.models._layers import InputShape, fraction, initialise_convolutions, whole_number

# Channels of the convolutions in units of the first one's, grouped between the five 2x2 max-pools.
VGG11_STAGES = ((1,), (2,), (4, 4), (8, 8), (8, 8))
VGG16_STAGES = ((1, 1), (2, 2), (4, 4, 4), (8, 8, 8), (8, 8, 8))


class AveragePool(nn.Module):
    """nn.AdaptiveAvgPool2d to a square, cell by cell: its own gradient has no deterministic kernel on a GPU.

    Args:
        side: Height and width of the result.
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, images: Tensor) -> Tensor:
        """Average images (N, C, H, W) to (N, C, side, side)."""
        rows, columns = self._spans(images.shape[2]), self._spans(images.shape[3])
        cells = [images[:, :, row, column].mean((2, 3)) for row in rows for column in columns]
        return torch.stack(cells, dim=2).view(*images.shape[:2], self.side, self.side)

    def _spans(self, length: int) -> list[slice]:
        side = self.side
        return [slice(cell * length // side, -(-(cell + 1) * length // side)) for cell in range(side)]


class Vgg(nn.Module):
    """Stages of 3x3 convolutions (with bias), each closed by a 2x2 max-pool; then linear layers with ReLU.

    Args:
        input_shape: Channels, height and width of one image.
        num_classes: Number of logits.
        stages: Channels of each convolution, grouped by stage.
        hidden: Units of the hidden linear layers.
        pooled_side: Side of the feature map that the classifier sees, 1 for 32x32 images in the papers.
        batch_norm: Put BatchNorm between convolution and ReLU.
        dropout: Rate behind each hidden linear layer.

    Source: papers.md section 6, VGG-11: convolutions N(0, sqrt(2/(9*c_out))), their biases 0, linear layers as the
        framework draws them.
    """

    def __init__(
        self,
        *,
        input_shape: InputShape,
        num_classes: int,
        stages: Sequence[Sequence[int]],
        hidden: Sequence[int],
        pooled_side: int = 1,
        batch_norm: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        fraction("dropout", dropout)
        channels, height, width = input_shape
        features: list[nn.Module] = []
        for stage in stages:
            for out_channels in stage:
                features.append(nn.Conv2d(channels, out_channels, 3, padding=1))
                if batch_norm:
                    features.append(nn.BatchNorm2d(out_channels))
                features.append(nn.ReLU())
                channels = out_channels
            # ASSUME: a side that has come down to one pixel is not pooled further, so that images below 32x32 pass;
            # at 32x32 and above every pool is the papers' 2x2.
            factors = (min(2, height), min(2, width))
            if factors != (1, 1):
                features.append(nn.MaxPool2d(factors))
            height, width = height // factors[0], width // factors[1]
        self.features = nn.Sequential(*features)
        # ASSUME: other image sizes than the papers' are averaged (or, if smaller, repeated) to the paper's feature
        # map, which keeps the number of parameters; at the papers' sizes this is the identity.
        fits = (height, width) == (pooled_side, pooled_side)
        self.pool: nn.Module = nn.Identity() if fits else AveragePool(pooled_side)
        units = channels * pooled_side**2
        layers: list[nn.Module] = [nn.Flatten()]
        for count in hidden:
            layers += [nn.Linear(units, count), nn.ReLU()]
            if dropout:
                layers.append(nn.Dropout(dropout))
            units = count
        layers.append(nn.Linear(units, num_classes))
        self.classifier = nn.Sequential(*layers)
        initialise_convolutions(self, fan="fan_out")

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, C, H, W) to logits (N, num_classes)."""
        logits: Tensor = self.classifier(self.pool(self.features(images)))
        return logits


def _scaled(stages: Sequence[Sequence[int]], width: int) -> list[list[int]]:
    whole_number("width", width)
    return [[width * factor for factor in stage] for stage in stages]


def vgg11(
    *, input_shape: InputShape, num_classes: int, width: int = 64, batch_norm: bool = True, dropout: float = 0.0
) -> nn.Module:
    """VGG-11 with BatchNorm and the classifier 512-512-512-10 (9 756 426 parameters).

    Args:
        input_shape: Channels, height and width of one image.
        num_classes: Number of logits.
        width: Channels of the first convolution; hidden linear layers have 8*width units.
        batch_norm: Put BatchNorm between convolution and ReLU.
        dropout: Rate behind each hidden linear layer; the paper's is 0.

    Returns:
        The network, in train mode, drawn from torch's global generator.

    Source: walk; papers.md section 6.
    """
    return Vgg(
        input_shape=input_shape,
        num_classes=num_classes,
        stages=_scaled(VGG11_STAGES, width),
        hidden=(8 * width, 8 * width),
        batch_norm=batch_norm,
        dropout=dropout,
    )


def vgg11_tiny_imagenet(
    *, input_shape: InputShape, num_classes: int, width: int = 64, batch_norm: bool = True, dropout: float = 0.0
) -> nn.Module:
    """VGG-11 with the Tiny-ImageNet classifier 2048-1024-512-200 on 64x64 images; arguments as in `vgg11`.

    Source: walk; papers.md section 6.
    """
    return Vgg(
        input_shape=input_shape,
        num_classes=num_classes,
        stages=_scaled(VGG11_STAGES, width),
        hidden=(16 * width, 8 * width),
        pooled_side=2,
        batch_norm=batch_norm,
        dropout=dropout,
    )


def vgg16(*, input_shape: InputShape, num_classes: int, width: int = 64, batch_norm: bool = False) -> nn.Module:
    """VGG-16 without BatchNorm and with one linear layer (sparse); arguments as in `vgg11`.

    Source: papers.md section 6, "other sparse models".
    """
    # ASSUME: a single linear layer and the initialisation of sparse's ResNets; papers.md gives no details.
    model = Vgg(
        input_shape=input_shape,
        num_classes=num_classes,
        stages=_scaled(VGG16_STAGES, width),
        hidden=(),
        batch_norm=batch_norm,
    )
    for module in model.classifier.modules():
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
    return model


def tiny_vgg(*, input_shape: InputShape, num_classes: int, width: int = 8, batch_norm: bool = True) -> nn.Module:
    """Small VGG for CPU runs: one convolution per stage, widths w, 2w, 4w, classifier 4w-4w-classes.

    Source: papers.md section 9, run GD and run WK (our miniature of VGG-11).
    """
    return Vgg(
        input_shape=input_shape,
        num_classes=num_classes,
        stages=_scaled(((1,), (2,), (4,)), width),
        hidden=(4 * width,),
        batch_norm=batch_norm,
    )
