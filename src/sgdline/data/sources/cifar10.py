"""CIFAR-10, in the layout of torchvision."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sgdline.data.sources.base import Source, SourceFacts

if TYPE_CHECKING:
    from sgdline.data.raw_images import RawImages


@dataclass(frozen=True, kw_only=True)
class Cifar10(Source):
    """Photographs of 10 classes, colour, 32x32."""

    def facts(self) -> SourceFacts:
        return SourceFacts(train=50000, test=10000, channels=3, side=32)

    def read(self, *, data_dir: Path, download: bool) -> RawImages:
        from sgdline.data.cifar_batches import read_cifar

        return read_cifar("cifar10", data_dir, torchvision_name="CIFAR10", download=download)
