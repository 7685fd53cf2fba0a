"""Images of a declared source: read, and held against what `Source.read` promises."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from sgdline.data.raw_images import RawImages
from sgdline.data.sources.base import Source
from sgdline.declare.registry import name_of
from sgdline.entries import exit_words, where_words
from sgdline.errors import SgdlineError, cause_words
from sgdline.runtime import machine_fault


def read_source(source: Source, *, data_dir: str | Path, download: bool) -> RawImages:
    """Read all images of a source.

    Args:
        source: The data set.
        data_dir: Folder in which downloaded data sets lie, in the layout of torchvision.
        download: Fetch missing files from the official site of the source.

    Returns:
        RawImages, with labels of type int64.

    Raises:
        SgdlineError: If files are missing or damaged, or what is read is not what `Source.read` promises.
    """
    name = name_of(type(source))
    own = not type(source).__module__.startswith("sgdline.")
    fix = f"Change read of {name}" if own else "Fetch its files again"
    try:
        raw = source.read(data_dir=Path(data_dir), download=download)
    except SgdlineError:
        raise
    except SystemExit as error:
        raise SgdlineError(f"Source {name} must return its images, got {exit_words(error)}. {fix}.") from error
    except Exception as error:
        if not own or machine_fault(error):  # of our own sources the whole traceback is wanted
            raise
        raise SgdlineError(
            f"Source {name} must return its images, got {cause_words(error)}{where_words(error)}. {fix}."
        ) from error
    _check_types(raw, name)
    _check_images(raw, name, fix)
    _check_facts(raw, source, name, own=own)
    return replace(
        raw,
        train_labels=raw.train_labels.astype(np.int64, copy=False),
        test_labels=raw.test_labels.astype(np.int64, copy=False),
        class_names=tuple(raw.class_names),
    )


def _check_types(raw: object, name: str) -> None:
    """Refuse what is no RawImages of arrays of the right types; a source of ours cannot get here with that."""
    if not isinstance(raw, RawImages):
        raise SgdlineError(
            f"Source {name} must return a RawImages, got {type(raw).__name__}. Import it from sgdline.data.raw_images."
        )
    for part in ("train", "test"):
        images, labels = getattr(raw, f"{part}_images"), getattr(raw, f"{part}_labels")
        subject = f"{part}_images of source {name} must be a numpy array"
        if not isinstance(images, np.ndarray):
            raise SgdlineError(f"{subject}, got {type(images).__name__}. Write numpy.asarray(...).")
        if images.dtype != np.uint8:
            raise SgdlineError(
                f"{subject} of type uint8, got {images.dtype}. Scale the pixels to whole numbers from 0 to 255."
            )
        if images.ndim != 4:
            hint = "Grey images are images[:, None]." if images.ndim == 3 else "Reshape them."
            raise SgdlineError(f"{subject} of shape (N, C, H, W), got {images.shape}. {hint}")
        _, channels, height, width = images.shape
        if channels == height > 4 >= width:
            raise SgdlineError(
                f"{subject} of shape (N, C, H, W), got {images.shape}, whose channels are last. Write "
                "images.transpose(0, 3, 1, 2)."
            )
        subject = f"{part}_labels of source {name} must be a numpy array"
        if not isinstance(labels, np.ndarray) or labels.dtype.kind not in "iu":
            got = f"type {labels.dtype}" if isinstance(labels, np.ndarray) else type(labels).__name__
            raise SgdlineError(
                f"{subject} of whole numbers, got {got}. Write numpy.asarray(labels, dtype=numpy.int64)."
            )
        if labels.ndim != 1:
            raise SgdlineError(f"{subject} of shape (N,), got {labels.shape}. Give one number per image.")
    names = raw.class_names
    if not isinstance(names, tuple | list) or not names or not all(isinstance(text, str) for text in names):
        raise SgdlineError(f"class_names of source {name} must be texts, got {names!s:.60}. Give each a name.")
    if not isinstance(raw.scale, int | float) or not 0 < raw.scale <= 1:
        raise SgdlineError(f"scale of source {name} must be above 0 and at most 1, got {raw.scale!r}. Use 1 / 255.")


def _check_images(raw: RawImages, name: str, fix: str) -> None:
    for images, labels, files in (
        (raw.train_images, raw.train_labels, raw.train_files),
        (raw.test_images, raw.test_labels, raw.test_files),
    ):
        if len(images) != len(labels) or len(files) not in (0, len(images)):
            got = f"{len(labels)} labels" if len(images) != len(labels) else f"{len(files)} files"
            raise SgdlineError(
                f"Source {name} must have one label per image, got {len(images)} images and {got}. {fix}."
            )
        if len(labels) and not 0 <= labels.min() <= labels.max() < len(raw.class_names):
            raise SgdlineError(
                f"Labels of source {name} must be from 0 to {len(raw.class_names) - 1}, "
                f"got {labels.min()} to {labels.max()}. {fix}."
            )
        brightest = int(images.max(initial=0)) * raw.scale
        if brightest > 1 + 1e-6:
            raise SgdlineError(
                f"Pixels of source {name} times its scale must be at most 1, got {brightest:g}. Use scale 1 / 255."
            )
    train_shape, test_shape = raw.train_images.shape[1:], raw.test_images.shape[1:]
    if not len(raw.train_images) or 0 in train_shape:
        raise SgdlineError(
            f"Source {name} must have training images, got {len(raw.train_images)} of "
            f"{_shape_words(train_shape)} pixels. {fix}."
        )
    if len(raw.test_images) and test_shape != train_shape:
        raise SgdlineError(
            f"Test images of source {name} must be {_shape_words(train_shape)} pixels as its training images are, got "
            f"{_shape_words(test_shape)}. {fix}."
        )


def _check_facts(raw: RawImages, source: Source, name: str, *, own: bool) -> None:
    """What a source declares was used to check the configuration, so it has to be true."""
    facts = source.facts()
    _, channels, height, width = raw.train_images.shape
    found = [
        ("training images", facts.train, len(raw.train_images)),
        ("test images", facts.test, len(raw.test_images)),
        ("channels", facts.channels, channels),
        ("pixels a side", facts.side, height),
        ("pixels a side", facts.side, width),
    ]
    for what, declared, got in found:
        if declared is not None and got != declared:
            fix = f"Correct facts or read of {name}" if own else "Fetch its files again"
            raise SgdlineError(f"Source {name} must have the {declared} {what} that it declares, got {got}. {fix}.")


def _shape_words(shape: Sequence[int]) -> str:
    return "x".join(str(side) for side in shape)
