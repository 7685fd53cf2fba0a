"""SVHN's cropped digits, in the layout of torchvision."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sgdline.data.sources.base import Source, SourceFacts

if TYPE_CHECKING:
    from sgdline.data.raw_images import RawImages


@dataclass(frozen=True, kw_only=True)
class Svhn(Source):
    """House numbers, colour, 32x32; the test set is the test file (papers.md L24)."""

    def facts(self) -> SourceFacts:
        return SourceFacts(train=73257, test=26032, channels=3, side=32)

    def read(self, *, data_dir: Path, download: bool) -> RawImages:
        import numpy as np

        from sgdline.data.downloads import download_with, verify_files
        from sgdline.data.raw_images import RawImages
        from sgdline.extras import extra_packages

        with extra_packages():
            import torchvision.datasets

        reader = torchvision.datasets.SVHN
        files = {reader.split_list[split][1]: reader.split_list[split][2] for split in ("train", "test")}
        if download:
            download_with(
                lambda: [reader(data_dir, split=split, download=True) for split in ("train", "test")],
                "svhn",
                data_dir,
                files,
            )
        verify_files("svhn", data_dir, files)
        train, test = reader(data_dir, split="train"), reader(data_dir, split="test")
        return RawImages(
            train_images=np.ascontiguousarray(train.data),
            train_labels=np.atleast_1d(train.labels),
            test_images=np.ascontiguousarray(test.data),
            test_labels=np.atleast_1d(test.labels),
            class_names=tuple("0123456789"),
        )
