"""Noise."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from sgdline.data.sources.base import MOST_PIXELS, Source, SourceFacts
from sgdline.declare.vocabulary import Ge, Le

if TYPE_CHECKING:
    from sgdline.data.raw_images import RawImages
    from sgdline.declare.run_facts import Fault


@dataclass(frozen=True, kw_only=True)
class RandomImages(Source):
    """Seeded uniform noise of any shape, the classes in turn; for benchmarks, nothing can be learnt from it."""

    images: Annotated[int, Ge(1), Le(100000000)] = 2048
    """Images to make."""
    classes: Annotated[int, Ge(2), Le(100000)] = 10
    """Classes."""
    channels: Annotated[int, Ge(1), Le(1000)] = 3  # type: ignore[assignment]  # made with as many, not converted
    """Channels."""
    size: Annotated[int, Ge(1), Le(8192)] = 32
    """Pixels a side."""
    seed: Annotated[int, Ge(0)] = 0
    """Seed of the noise."""

    def facts(self) -> SourceFacts:
        return SourceFacts(train=self.images, test=0, channels=self.channels, side=self.size)

    def read(self, *, data_dir: Path, download: bool) -> RawImages:
        import numpy as np

        from sgdline.data.raw_images import RawImages, check_pixels
        from sgdline.seeds import derive_seed

        shape = (self.images, self.channels, self.size, self.size)
        count = math.prod(shape)
        check_pixels(count, fix="Lower images, channels or size")
        # The raw stream of a bit generator is what numpy promises never to change.
        words = np.random.PCG64(derive_seed(self.seed, "random_images")).random_raw(-(-count // 8))
        return RawImages.without_test_set(
            words.astype("<u8").view(np.uint8)[:count].reshape(shape),
            np.arange(self.images, dtype=np.int64) % self.classes,
            class_names=tuple(str(label) for label in range(self.classes)),
        )

    def faults(self) -> Iterator[Fault]:
        from sgdline.declare.run_facts import Fault

        made = self.images * self.channels * self.size**2
        if made > MOST_PIXELS:
            yield Fault(
                ("images",),
                f"must leave at most {MOST_PIXELS} pixel values in the data set, got {made}. Take fewer images or "
                "smaller ones.",
            )
        yield from super().faults()
