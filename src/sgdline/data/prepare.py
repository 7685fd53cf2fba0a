"""From a source to the table of a data set: split, convert, measure the normalisation, write."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sgdline.data.raw_images import ImageFile, Labels, Pixels, RawImages, check_pixels
from sgdline.data.reading import read_source
from sgdline.data.shares import share_out
from sgdline.data.sources.base import Source
from sgdline.declare.registry import name_of
from sgdline.errors import SgdlineError
from sgdline.seeds import derive_seed
from sgdline.tables import Facts, write_table
from sgdline.tables.kinds.dataset import DATASET

_LOG = logging.getLogger(__name__)

Indices = npt.NDArray[np.int64]

SPLITS = ("train", "validation", "test")

# Fixed-point ITU-R 601 luma as Pillow computes it: 0.299 R + 0.587 G + 0.114 B in units of 2**-16, rounded.
_LUMA = np.array([19595, 38470, 7471], dtype=np.uint32)


def prepare_dataset(
    source: Source,
    output: str | Path,
    *,
    data_dir: str | Path,
    download: bool,
    provenance: Facts,
) -> None:
    """Load a source, split it and write one table of kind "dataset".

    The metadata of the table gets, beside `provenance`: image_shape [C, H, W], scale (pixel * scale lies in [0, 1]),
    mean and std per channel in those units, class_names, sizes per split, and source. The rows of a random or a
    stratified split are in random order, so that any run of rows is a fair sample. `source_index` counts within the
    source's test set for test images, and within its training set otherwise or if it has no test set.

    Args:
        source: The declared data set.
        output: Table to write.
        data_dir: Folder in which downloaded data sets lie.
        download: Fetch missing files.
        provenance: JSON-able facts for the metadata of the table.

    Raises:
        SgdlineError: If files are missing or damaged, sizes do not fit, or constants do not fit the channels.

    Source: linesearch 2.1 and walk 5.1 (splits, constants).
    """
    raw = read_source(source, data_dir=data_dir, download=download)
    indices = _split(raw, source)
    channels, height, width = raw.train_images.shape[1:]
    size = source.image_size
    count = sum(map(len, indices.values())) * (source.channels or channels)
    check_pixels(count * (size**2 if size else height * width), fix="Lower train, test or image_size")
    own_test_set = len(raw.test_images) > 0
    pixels, scale = {}, raw.scale
    labels = {}
    for split in SPLITS:
        from_test = split == "test" and own_test_set
        chosen = (raw.test_images if from_test else raw.train_images)[indices[split]]
        labels[split] = (raw.test_labels if from_test else raw.train_labels)[indices[split]]
        chosen = _convert_channels(chosen, source.channels)
        pixels[split], scale = _resize(chosen, source.image_size, scale=raw.scale)
    image_shape = list(pixels["train"].shape[1:])

    for split in SPLITS:
        _warn_of_missing_classes(split, labels[split], raw.class_names)
    _warn_of_copies(raw, indices, labels)
    mean, std = _normalisation(pixels["train"], scale, source)
    table = _to_table(indices, labels, pixels)
    write_table(
        output,
        DATASET,
        table,
        provenance={
            **provenance,
            "image_shape": image_shape,
            "scale": scale,
            "mean": mean,
            "std": std,
            "class_names": list(raw.class_names),
            "sizes": {split: len(indices[split]) for split in SPLITS},
            "source": name_of(type(source)),
        },
    )


# --- splits -----------------------------------------------------------------------------------------------------------


def _split(raw: RawImages, source: Source) -> dict[str, Indices]:
    """Choose the rows of each split: of the source's test set for `test` if it has one, of its training set else."""
    name, asked = name_of(type(source)), {"train": source.train, "validation": source.validation, "test": source.test}
    count, test_count = len(raw.train_images), len(raw.test_images)
    if test_count:
        sizes = _resolve_sizes({key: asked[key] for key in SPLITS[:2]}, count, pool=f"training set of {name}")
        sizes |= _resolve_sizes({"test": asked["test"]}, test_count, pool=f"test set of {name}")
    else:
        # The tail of a source without a test set serves as one; what is before it is its training set.
        sizes = _resolve_sizes(asked, count, pool=f"one set of {name}")
    if sizes["train"] < 1:
        raise SgdlineError("train must be at least one image, got 0. Raise it or lower validation and test.")
    shared = SPLITS[:2] if test_count else SPLITS
    parts = _cut(raw.train_labels, {split: sizes[split] for split in shared}, source, purpose="split")
    if test_count:
        parts |= _cut(raw.test_labels, {"test": sizes["test"]}, source, purpose="split_test")
    if source.split == "sequential":
        # Sources sorted by class would otherwise give measuring chunks of one class, with its BatchNorm statistics.
        for split in SPLITS[:2]:
            parts[split] = parts[split][_seeded_order(len(parts[split]), source, purpose=f"order_{split}")]
    return parts


def _cut(labels: Labels, sizes: Mapping[str, int], source: Source, *, purpose: str) -> dict[str, Indices]:
    """Cut a set into splits: the first of `sizes` from its front, the others from its end.

    What no split takes lies between the first and the others. A stratified split cuts each class so.
    """
    count = len(labels)
    sequential = source.split == "sequential"
    order = np.arange(count, dtype=np.int64) if sequential else _seeded_order(count, source, purpose=purpose)
    strata = labels[order] if source.split == "stratified" else np.zeros(count, dtype=np.int64)
    counts = np.bincount(strata)
    shares = share_out(counts, list(sizes.values()))
    ranks = np.empty(count, dtype=np.int64)  # of each image among those of its class
    ranks[np.argsort(strata, kind="stable")] = np.arange(count) - np.repeat(np.cumsum(counts) - counts, counts)
    starts = counts - np.cumsum(shares[::-1], axis=0)[::-1]
    starts[0] = 0
    return {
        split: order[(ranks >= start[strata]) & (ranks < (start + share)[strata])]
        for split, start, share in zip(sizes, starts, shares, strict=True)
    }


def _seeded_order(count: int, source: Source, *, purpose: str) -> Indices:
    # Sorting raw words: numpy promises the stream of a bit generator, not that of Generator.permutation.
    words = np.random.PCG64(derive_seed(source.split_seed, purpose)).random_raw(count)
    return np.argsort(words, kind="stable").astype(np.int64)


def _resolve_sizes(requested: Mapping[str, int | str], available: int, *, pool: str) -> dict[str, int]:
    """Turn `all` into what the numbers leave, and check that a pool of images is large enough."""
    unbounded = [key for key, size in requested.items() if size == "all"]
    if len(unbounded) > 1:
        raise SgdlineError(
            f"At most one of {', '.join(requested)} must be all where they share the {pool}, "
            f"got all for {' and '.join(unbounded)}. Give a number for {unbounded[-1]}."
        )
    left = available
    sizes: dict[str, int] = {}
    for key, size in requested.items():
        if size == "all":
            continue
        if int(size) > left:
            taken = ", ".join(f"{name}: {number}" for name, number in sizes.items())
            raise SgdlineError(
                f"{key} must be at most {left} of the {available} images in the {pool}"
                f"{f' (taken by {taken})' if taken else ''}, got {size}. Lower it."
            )
        sizes[key] = int(size)
        left -= int(size)
    sizes |= dict.fromkeys(unbounded, left)
    return sizes


def _warn_of_missing_classes(split: str, labels: Labels, class_names: tuple[str, ...]) -> None:
    missing = np.flatnonzero(np.bincount(labels, minlength=len(class_names)) == 0)
    if len(labels) and len(missing):
        names = ", ".join(class_names[label] for label in missing[:10]) + (", ..." if len(missing) > 10 else "")
        _LOG.warning(
            "The %s split has no image of %d of %d classes: %s.",
            "training" if split == "train" else split,
            len(missing),
            len(class_names),
            names,
        )


def _warn_of_copies(raw: RawImages, indices: Mapping[str, Indices], labels: Mapping[str, Labels]) -> None:
    """Report files with the same bytes in two splits, which make a network look better, or in two classes."""
    first: dict[bytes, tuple[str, int, ImageFile]] = {}
    pairs: dict[str, list[str]] = {"splits": [], "classes": []}
    for split in SPLITS:
        files = raw.test_files if split == "test" and len(raw.test_images) else raw.train_files
        if not files:  # of a source whose images have no files of their own
            continue
        for index, label in zip(indices[split].tolist(), labels[split].tolist(), strict=True):
            file = files[index]
            first_split, first_label, twin = first.setdefault(file.digest, (split, label, file))
            pair = f"{twin.name} in {first_split}, {file.name} in {split}"
            if split != first_split:
                pairs["splits"].append(pair)
            if label != first_label:
                pairs["classes"].append(pair)
    for what, found in pairs.items():
        if found:
            more = "; ..." if len(found) > 3 else ""
            _LOG.warning(
                "Pairs of files with the same bytes in two %s: %d (%s%s).", what, len(found), "; ".join(found[:3]), more
            )


# --- pixels -----------------------------------------------------------------------------------------------------------


def _convert_channels(images: Pixels, channels: int | None) -> Pixels:
    """Convert (N, C, H, W) to the wanted number of channels: ITU-R 601 luma for 1, repeated grey for 3."""
    present = images.shape[1]
    if channels is None or channels == present:
        return images
    if channels == 3 and present == 1:
        return np.repeat(images, 3, axis=1)
    if channels == 1 and present == 3:
        luma = np.full(images[:, :1].shape, 1 << 15, dtype=np.uint32)
        for channel, weight in enumerate(_LUMA):
            luma += images[:, channel : channel + 1] * weight
        return (luma >> 16).astype(np.uint8)
    raise SgdlineError(
        f"channels must be null for a source with {present} channels, got {channels}. "
        "Only grey and RGB images can be converted."
    )


def _resize(images: Pixels, image_size: int | None, *, scale: float) -> tuple[Pixels, float]:
    """Resize (N, C, H, W) to image_size squared with Pillow's bilinear filter; return the pixels and their scale."""
    count, channels, height, width = images.shape
    if image_size is None or (height, width) == (image_size, image_size):
        return images, scale
    from PIL import Image

    if scale != 1 / 255:
        # Few grey levels are spread over a byte first, so that rounding to whole ones loses little.
        spread = np.rint(np.minimum(np.arange(256) * scale, 1.0) * 255).astype(np.uint8)
        images = spread[images]
    resized = np.empty((count * channels, image_size, image_size), dtype=np.uint8)
    for position, plane in enumerate(images.reshape(count * channels, height, width)):
        picture = Image.fromarray(plane).resize((image_size, image_size), Image.Resampling.BILINEAR)
        resized[position] = np.asarray(picture)
    return resized.reshape(count, channels, image_size, image_size), 1 / 255


def _normalisation(images: Pixels, scale: float, source: Source) -> tuple[list[float], list[float]]:
    """Return mean and std per channel in units of [0, 1], measured in float64 over the training images or given.

    A measured std is at least one grey level: a constant channel stays finite.
    """
    channels = images.shape[1]
    measured_mean, measured_std = [], []
    for channel in range(channels):
        # Whole-number sums: the same bytes on every machine and in any order of the images.
        counts = [int(count) for count in np.bincount(images[:, channel].ravel(), minlength=256)]
        total = sum(counts)
        first = sum(count * level for level, count in enumerate(counts))
        second = sum(count * level**2 for level, count in enumerate(counts))
        mean = first / total * scale
        deviation = math.sqrt((total * second - first**2) / total**2) * scale
        if deviation < scale and source.std == "auto":
            _LOG.warning("Channel %d hardly varies: its std %g is raised to one grey level.", channel, deviation)
        measured_mean.append(mean)
        measured_std.append(max(deviation, scale))
    mean_values = _constants("mean", source.mean, auto=measured_mean, none=[0.0] * channels)
    std_values = _constants("std", source.std, auto=measured_std, none=[1.0] * channels)
    if min(std_values) <= 0:
        raise SgdlineError(f"std must be above 0 in every channel, got {std_values}. Correct the list or use auto.")
    return mean_values, std_values


def _constants(
    key: str, given: Literal["auto", "none"] | tuple[float, ...], *, auto: list[float], none: list[float]
) -> list[float]:
    if given == "auto":
        return auto
    if given == "none":
        return none
    if len(given) != len(auto) or not all(math.isfinite(value) for value in given):
        raise SgdlineError(
            f"{key} must be auto, none or a list of {len(auto)} finite number(s), one per channel, got {list(given)}. "
            "Correct the list."
        )
    return [float(value) for value in given]


def _to_table(
    indices: Mapping[str, Indices], labels: Mapping[str, npt.NDArray[np.int64]], pixels: Mapping[str, Pixels]
) -> pa.Table:
    flat = np.concatenate([pixels[split].reshape(-1) for split in SPLITS])
    count = sum(len(indices[split]) for split in SPLITS)
    offsets = np.arange(count + 1, dtype=np.int32) * np.int32(len(flat) // count)
    return pa.Table.from_arrays(
        [
            pa.array(np.repeat(SPLITS, [len(indices[split]) for split in SPLITS]).tolist(), type=pa.string()),
            pa.array(np.concatenate([indices[split] for split in SPLITS])),
            pa.array(np.concatenate([labels[split] for split in SPLITS])),
            pa.ListArray.from_arrays(pa.array(offsets), pa.array(flat)),
        ],
        schema=DATASET.schema,
    )
