"""The python batches of CIFAR-10 and CIFAR-100."""

from __future__ import annotations

import posixpath
import shutil
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sgdline.data.downloads import download_with, verify_files
from sgdline.data.raw_images import Labels, Pixels, RawImages
from sgdline.data.restricted_pickles import RefusedError, StoredArray, load_restricted, text_of
from sgdline.errors import SgdlineError
from sgdline.extras import extra_packages
from sgdline.runtime import machine_fault

_LARGEST_MEMBER = 2**28  # bytes; the largest file of CIFAR has 155 MB


def read_cifar(source: str, data_dir: Path, *, torchvision_name: str, download: bool) -> RawImages:
    """Read CIFAR's python batches.

    They are pickles, which may run code when they are read: none is opened before its checksum has been verified, and
    then by the reader that runs nothing.

    Args:
        source: What messages call the source.
        data_dir: Folder in which downloaded data sets lie.
        torchvision_name: The class of torchvision.datasets that knows the files and their checksums.
        download: Whether missing files may be fetched.

    Returns:
        RawImages.

    Raises:
        SgdlineError: If files are missing or damaged.
    """
    with extra_packages():
        import torchvision.datasets

    reader = getattr(torchvision.datasets, torchvision_name)
    folder = data_dir / reader.base_folder
    files = dict([*reader.train_list, *reader.test_list, (reader.meta["filename"], reader.meta["md5"])])
    if download:
        download_with(lambda: _fetch_archive(reader, data_dir, folder, files), source, folder, files)
    verify_files(source, folder, files)
    train, test = (
        [_read_batch(folder / name) for name, _ in batches] for batches in (reader.train_list, reader.test_list)
    )
    return RawImages(
        train_images=np.concatenate([images for images, _ in train]),
        train_labels=np.concatenate([labels for _, labels in train]),
        test_images=np.concatenate([images for images, _ in test]),
        test_labels=np.concatenate([labels for _, labels in test]),
        class_names=_read_class_names(folder / reader.meta["filename"], reader.meta["key"]),
    )


def _read_batch(path: Path) -> tuple[Pixels, Labels]:
    """Return images (N, 3, 32, 32) and labels (N,) of one of CIFAR's batches."""
    batch = _read_mapping(path)
    stored, labels = batch.get("data"), batch.get("labels", batch.get("fine_labels"))
    rows = stored.get() if isinstance(stored, StoredArray) else np.empty(0)
    sound = rows.dtype == np.uint8 and rows.ndim == 2 and rows.shape[1] == 3 * 32 * 32
    if not sound or not isinstance(labels, list) or not all(isinstance(label, int) for label in labels):
        raise _batch_error(path, "something else")
    return rows.reshape(-1, 3, 32, 32).astype(np.uint8, copy=False), np.array(labels, dtype=np.int64)


def _read_class_names(path: Path, key: str) -> tuple[str, ...]:
    names = _read_mapping(path).get(key)
    words = [text_of(name) for name in names] if isinstance(names, list) else []
    found = tuple(word for word in words if word is not None)
    if not found or len(found) != len(words):
        raise _batch_error(path, f"no list of names under {key}")
    return found


def _read_mapping(path: Path) -> dict[str | None, object]:
    try:
        found = load_restricted(path.read_bytes(), mappings=True)
    except RefusedError as error:
        raise _batch_error(path, f"{error}; nothing of it was run") from error
    # A damaged or foreign file can make the unpickler raise nearly anything.
    except Exception as error:
        if machine_fault(error):
            raise
        raise _batch_error(path, " ".join(str(error).split())[:100] or type(error).__name__) from error
    if not isinstance(found, dict):
        raise _batch_error(path, "something else")
    return {text_of(key): entry for key, entry in found.items()}


def _batch_error(path: Path, found: str) -> SgdlineError:
    return SgdlineError(
        f"File {path} must be a batch of CIFAR's python version, got {found}. Delete the file and fetch it again."
    )


def _fetch_archive(reader: Any, data_dir: Path, folder: Path, files: Mapping[str, str]) -> None:
    """Fetch an archive, verify it and take these files out of it; where they go is not the archive's to say."""
    from torchvision.datasets.utils import download_url

    download_url(reader.url, str(data_dir), reader.filename, reader.tgz_md5)
    wanted = {posixpath.join(reader.base_folder, name): folder / name for name in files}
    with tarfile.open(data_dir / reader.filename) as archive:
        for member in archive:
            target = wanted.get(posixpath.normpath(member.name))
            if target is None or not member.isreg():
                continue
            if member.size > _LARGEST_MEMBER:
                raise tarfile.TarError(f"{member.name} says that it has {member.size} bytes")
            content = archive.extractfile(member)
            assert content is not None  # a regular file has content
            unfinished = target.with_name(f"{target.name}.part")
            with content, unfinished.open("wb") as copy:
                shutil.copyfileobj(content, copy)
            unfinished.replace(target)
