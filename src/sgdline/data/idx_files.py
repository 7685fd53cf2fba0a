"""idx files, in which MNIST and Fashion-MNIST are published."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sgdline.data.downloads import download_error, download_lock, missing_error
from sgdline.data.raw_images import Pixels, RawImages
from sgdline.data.sources.base import MOST_PIXELS
from sgdline.errors import SgdlineError
from sgdline.extras import extra_packages

_IDX_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def read_idx_files(
    source: str,
    folders: Sequence[Path],
    *,
    class_names: tuple[str, ...],
    torchvision_name: str,
    download: bool,
    otherwise: str = "",
) -> RawImages:
    """Read the four idx files from the first folder that has them all; the first folder takes downloads.

    Args:
        source: What messages call the source.
        folders: Where to look.
        class_names: Names of the classes.
        torchvision_name: The class of torchvision.datasets that knows the mirrors and the checksums.
        download: Whether missing files may be fetched.
        otherwise: Another way to get the files, for the message about missing ones.

    Returns:
        RawImages.

    Raises:
        SgdlineError: If files are missing or damaged.
    """
    found = next((folder for folder in folders if not _missing_idx_files(folder)), None)
    if found is None and download:
        found = folders[0]
        _download_idx(source, found, torchvision_name=torchvision_name)
    if found is None:
        missing = [f"{name}[.gz]" for name in _missing_idx_files(folders[0])]
        raise missing_error(source, folders[0], missing, otherwise=otherwise)
    train_images, train_labels, test_images, test_labels = (
        _read_idx(next(path for path in _idx_candidates(found, name) if path.exists()), dimensions=dimensions)
        for name, dimensions in zip(_IDX_FILES, (3, 1, 3, 1), strict=True)
    )
    return RawImages(
        train_images=train_images[:, None],
        train_labels=train_labels.astype(np.int64),
        test_images=test_images[:, None],
        test_labels=test_labels.astype(np.int64),
        class_names=class_names,
    )


def _idx_candidates(folder: Path, name: str) -> tuple[Path, Path]:
    return folder / name, folder / f"{name}.gz"


def _missing_idx_files(folder: Path) -> list[str]:
    return [name for name in _IDX_FILES if not any(path.exists() for path in _idx_candidates(folder, name))]


def _read_idx(path: Path, *, dimensions: int) -> Pixels:
    """Read one idx file of unsigned bytes, packed with gzip or not.

    Args:
        path: File; gzip if its name ends in .gz.
        dimensions: Number of dimensions that the file must have.

    Returns:
        The array, in the shape that the file states.

    Raises:
        SgdlineError: If the file is not such a file, or is cut off, too long or fails gzip's checksum.
    """
    fix = "Delete the file and fetch it again"
    length = 4 + 4 * dimensions
    packed = path.suffix == ".gz"
    try:
        with gzip.open(path) if packed else path.open("rb") as file:
            header = file.read(length)
            # Two zero bytes, the code of unsigned bytes, the number of dimensions; then each size, big-endian.
            if len(header) < length or header[:4] != bytes((0, 0, 8, dimensions)):
                raise SgdlineError(
                    f"File {path} must be an idx file of bytes with {dimensions} dimension(s), "
                    f"got one that begins {header[:4].hex() or 'and ends at once'}. {fix}."
                )
            shape = tuple(int.from_bytes(header[start : start + 4], "big") for start in range(4, length, 4))
            expected = int(np.prod(shape, dtype=object))
            if expected > MOST_PIXELS:
                raise SgdlineError(
                    f"File {path} must hold at most {MOST_PIXELS} numbers, got one that says {expected}. {fix}."
                )
            # One byte more than there should be: a small packed file can hold more than any memory.
            content = file.read(expected + 1)
    except (OSError, EOFError, zlib.error) as error:
        kind = "a whole gzip file" if packed else "a file that can be read"
        raise SgdlineError(f"File {path} must be {kind}, got a damaged one ({error}). {fix}.") from error
    if len(content) != expected:
        found = length + len(content) if len(content) < expected else "more" if packed else path.stat().st_size
        raise SgdlineError(f"File {path} must be {length + expected} bytes long, got {found}. {fix}.")
    return np.frombuffer(content, dtype=np.uint8).reshape(shape)


def _download_idx(source: str, folder: Path, *, torchvision_name: str) -> None:
    """Fetch the packed idx files, each under another name until torchvision has verified its checksum."""
    with extra_packages():
        import torchvision.datasets
        from torchvision.datasets.utils import download_url

    reader = getattr(torchvision.datasets, torchvision_name)
    with download_lock(folder):
        for name, md5 in reader.resources:
            if (folder / name).exists():
                continue
            unfinished = f"{name}.part"
            faults: list[str] = []
            for mirror in reader.mirrors:
                try:
                    download_url(f"{mirror}{name}", str(folder), unfinished, md5)
                except (OSError, RuntimeError) as error:
                    (folder / unfinished).unlink(missing_ok=True)
                    faults.append(f"{mirror}: {error}")
                    continue
                (folder / unfinished).replace(folder / name)
                break
            else:
                raise download_error(source, folder, [name], "; ".join(faults))
