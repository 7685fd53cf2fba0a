"""Images as a source holds them: what every loader returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sgdline.data.sources.base import MOST_PIXELS
from sgdline.errors import SgdlineError

Pixels = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]


class ImageFile(NamedTuple):
    """The file of one image."""

    name: str  # path below the folder of the data set
    digest: bytes  # of its bytes; equal for copies


@dataclass(frozen=True, kw_only=True)
class RawImages:
    """Images as a source holds them, before any split.

    A source without a test set of its own has empty test arrays; the test split is then drawn from its training images.
    """

    train_images: Pixels  # (N, C, H, W)
    train_labels: Labels  # (N,)
    test_images: Pixels  # (M, C, H, W), M may be 0
    test_labels: Labels  # (M,)
    class_names: tuple[str, ...]
    scale: float = 1 / 255  # pixel * scale lies in [0, 1]
    train_files: tuple[ImageFile, ...] = ()  # N of them where each image has a file of its own
    test_files: tuple[ImageFile, ...] = ()  # M of them

    @classmethod
    def without_test_set(
        cls, images: Pixels, labels: Labels, *, class_names: tuple[str, ...], scale: float = 1 / 255
    ) -> RawImages:
        """Return images of a source whose splits share them."""
        return cls(
            train_images=images,
            train_labels=labels,
            test_images=images[:0],
            test_labels=labels[:0],
            class_names=class_names,
            scale=scale,
        )


def check_pixels(count: int, *, fix: str) -> None:
    """Raise one sentence if a data set has more pixel values than its table can hold."""
    if count > MOST_PIXELS:
        raise SgdlineError(f"A data set must hold at most {MOST_PIXELS} pixel values, got {count}. {fix}.")
