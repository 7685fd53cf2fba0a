"""scikit-learn's digits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sgdline.data.sources.base import Source, SourceFacts

if TYPE_CHECKING:
    from sgdline.data.raw_images import RawImages


@dataclass(frozen=True, kw_only=True)
class Digits(Source):
    """Real 8x8 images of digits with 17 grey levels; they come with scikit-learn and need no file."""

    def facts(self) -> SourceFacts:
        return SourceFacts(train=1797, test=0, channels=1, side=8)

    def read(self, *, data_dir: Path, download: bool) -> RawImages:
        import numpy as np

        from sgdline.data.raw_images import RawImages
        from sgdline.extras import extra_packages

        with extra_packages():
            from sklearn.datasets import load_digits

        digits = load_digits()
        return RawImages.without_test_set(
            digits.images[:, None].astype(np.uint8),
            digits.target.astype(np.int64),
            class_names=tuple(str(name) for name in digits.target_names),
            scale=1 / 16,
        )
