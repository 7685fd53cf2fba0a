"""Images as a source holds them: what every loader returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sgdline.errors import SgdlineError

Pixels = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]

MOST_PIXELS = 2**31 - 1  # in the one table of a data set


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
    scale: float  # pixel * scale lies in [0, 1]
    train_files: tuple[ImageFile, ...] = ()  # N of them where each image has a file of its own
    test_files: tuple[ImageFile, ...] = ()  # M of them


def check_pixels(count: int, *, fix: str) -> None:
    """Raise one sentence if a data set has more pixel values than its table can hold."""
    if count > MOST_PIXELS:
        raise SgdlineError(f"A data set must hold at most {MOST_PIXELS} pixel values, got {count}. {fix}.")
