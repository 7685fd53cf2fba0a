"""Fashion-MNIST, in idx files."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sgdline.data.sources.base import Source, SourceFacts

if TYPE_CHECKING:
    from sgdline.data.raw_images import RawImages

CLASS_NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


@dataclass(frozen=True, kw_only=True)
class FashionMnist(Source):
    """Pictures of clothes, grey, 28x28."""

    def facts(self) -> SourceFacts:
        return SourceFacts(train=60000, test=10000, channels=1, side=28)

    def read(self, *, data_dir: Path, download: bool) -> RawImages:
        from sgdline.data.idx_files import read_idx_files

        # Where torchvision keeps its files, then where Debian's package dataset-fashion-mnist installs them.
        folders = [data_dir / "FashionMNIST" / "raw"]
        folders += [share / "datasets" / "fashion-mnist" for share in _share_folders()]
        return read_idx_files(
            "fashion_mnist",
            folders,
            class_names=CLASS_NAMES,
            torchvision_name="FashionMNIST",
            download=download,
            otherwise=", or install the Debian package dataset-fashion-mnist",
        )


def _share_folders() -> list[Path]:
    """Return the share folders of the system (XDG base directory specification: relative ones do not count)."""
    listed = os.environ.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share"
    return [Path(entry) for entry in listed.split(":") if Path(entry).is_absolute()]
