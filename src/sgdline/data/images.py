"""A prepared data set as normalised tensors, resident on the device."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sgdline.errors import SgdlineError
from sgdline.tables import provenance, read_table
from sgdline.tables.kinds.dataset import DATASET


@dataclass(frozen=True)
class ImageSet:
    """One split. It may be empty, validation and test at least."""

    inputs: Tensor  # (N, C, H, W) float32, normalised
    targets: Tensor  # (N,) int64

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True, kw_only=True)
class ImageData:
    """All splits of a data set, on one device."""

    train: ImageSet
    validation: ImageSet
    test: ImageSet
    image_shape: tuple[int, int, int]  # C, H, W
    num_classes: int
    source: str  # name of the source: digits, cifar10...
    mean: tuple[float, ...]  # per channel, in units of [0, 1]
    std: tuple[float, ...]
    black: Tensor  # (C,) float32, what a pixel of value 0 is after normalisation


def load_images(path: str | Path, *, device: torch.device | str) -> ImageData:
    """Load the table of `prepare_dataset`.

    A pixel v of channel c becomes (v * scale - mean_c) / std_c, computed in float64 and rounded once to float32: the
    same bits on every device.

    Args:
        path: Table of kind "dataset".
        device: Where all tensors are to lie.

    Returns:
        ImageData.

    Raises:
        SgdlineError: If the table is missing, damaged or its metadata does not fit its rows.
    """
    table = read_table(path, DATASET)
    facts = provenance(table)
    missing = sorted({"image_shape", "scale", "mean", "std", "class_names", "source"} - facts.keys())
    if missing:
        raise SgdlineError(
            f"Table {path} must have the metadata {', '.join(missing)}, got none. "
            f"Run the rule {DATASET.rule} again (delete the file and start snakemake)."
        )
    channels, height, width = image_shape = tuple(facts["image_shape"])
    # to_numpy of the flat values is a view: no Python object is made per pixel.
    flat = table.column("pixels").combine_chunks().flatten().to_numpy()
    if len(flat) != len(table) * channels * height * width:
        raise SgdlineError(
            f"Table {path} must hold {channels}x{height}x{width} pixels per row, got {len(flat)} in {len(table)} rows. "
            f"Run the rule {DATASET.rule} again (delete the file and start snakemake)."
        )
    pixels = flat.reshape(len(table), channels, height, width)
    labels, classes = table.column("label").to_numpy(), len(facts["class_names"])
    if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
        raise SgdlineError(
            f"Labels of {path} must be from 0 to {classes - 1}, got {labels.min()} to {labels.max()}. "
            f"Run the rule {DATASET.rule} again (delete the file and start snakemake)."
        )
    splits = np.asarray(table.column("split").to_pylist(), dtype=object)

    levels = np.arange(256, dtype=np.float64) * facts["scale"]
    normalised = ((levels - np.array(facts["mean"])[:, None]) / np.array(facts["std"])[:, None]).astype(np.float32)

    def select(split: str) -> ImageSet:
        rows = np.flatnonzero(splits == split)
        return ImageSet(
            inputs=torch.from_numpy(_look_up(pixels[rows], normalised)).to(device),
            targets=torch.from_numpy(labels[rows]).to(device),
        )

    return ImageData(
        train=select("train"),
        validation=select("validation"),
        test=select("test"),
        image_shape=image_shape,
        num_classes=classes,
        source=facts["source"],
        mean=tuple(facts["mean"]),
        std=tuple(facts["std"]),
        black=torch.from_numpy(normalised[:, 0].copy()).to(device),
    )


def _look_up(pixels: npt.NDArray[np.uint8], values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Replace each grey level of pixels (N, C, H, W) by its value in values (C, 256)."""
    inputs = np.empty(pixels.shape, dtype=np.float32)
    for channel, levels in enumerate(values):
        inputs[:, channel] = levels[pixels[:, channel]]
    return inputs
