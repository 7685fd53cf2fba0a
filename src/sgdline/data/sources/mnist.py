"""MNIST, in idx files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sgdline.data.sources.base import Source, SourceFacts

if TYPE_CHECKING:
    from sgdline.data.raw_images import RawImages


@dataclass(frozen=True, kw_only=True)
class Mnist(Source):
    """Written digits, grey, 28x28."""

    def facts(self) -> SourceFacts:
        return SourceFacts(train=60000, test=10000, channels=1, side=28)

    def read(self, *, data_dir: Path, download: bool) -> RawImages:
        from sgdline.data.idx_files import read_idx_files

        return read_idx_files(
            "mnist",
            [data_dir / "MNIST" / "raw"],
            class_names=tuple("0123456789"),
            torchvision_name="MNIST",
            download=download,
        )
