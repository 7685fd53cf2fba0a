"""Random crops and flips of a batch, drawn on the CPU so that every device sees the same images."""

from __future__ import annotations

import torch
from torch import Tensor


def augment(images: Tensor, *, crop_padding: int, flip: bool, fill: Tensor, generator: torch.Generator) -> Tensor:
    """Crop each image at a random place of its padded self and mirror it left to right with probability 1/2.

    The papers crop the raw image, padded with black, and normalise afterwards. Here images are normalised already, so
    the padding is what black has become: `fill`. The result is the same, bit for bit.

    Args:
        images: Normalised batch. Shape (B, C, H, W), any device.
        crop_padding: Pixels of padding on each side; 0: no crop. Offsets are uniform on 0 ... 2 * crop_padding.
        flip: Draw horizontal flips.
        fill: Padding per channel, (0 - mean) / std; `ImageData.black`. Shape (C,), dtype and device of images.
        generator: CPU generator; draws 2B offsets if cropping, then B flips if flipping.

    Returns:
        Shape (B, C, H, W). The very input if nothing is switched on.

    Raises:
        ValueError: If crop_padding is negative or fill does not fit the channels.

    Source: linesearch 2.1, walk 5.1.
    """
    count, channels, height, width = images.shape
    if crop_padding < 0:
        raise ValueError(f"crop_padding must be 0 or above, got {crop_padding}.")
    if fill.shape != (channels,):
        raise ValueError(f"fill must have one value for each of {channels} channels, got shape {tuple(fill.shape)}.")
    if crop_padding:
        offsets = torch.randint(0, 2 * crop_padding + 1, (2, count, 1), generator=generator).to(images.device)
        padded = fill.view(1, channels, 1, 1).repeat(count, 1, height + 2 * crop_padding, width + 2 * crop_padding)
        padded[:, :, crop_padding : crop_padding + height, crop_padding : crop_padding + width] = images
        rows = offsets[0] + torch.arange(height, device=images.device)  # (B, H)
        columns = offsets[1] + torch.arange(width, device=images.device)  # (B, W)
        strips = padded.gather(2, rows[:, None, :, None].expand(-1, channels, -1, padded.shape[3]))
        images = strips.gather(3, columns[:, None, None, :].expand(-1, channels, height, -1))
    if flip:
        mirrored = torch.randint(0, 2, (count, 1, 1, 1), generator=generator).bool().to(images.device)
        images = torch.where(mirrored, images.flip(3), images)
    return images
