"""Sources of images: one loader each, all of them to the same raw form.

A new source is one function with the signature of the others and one line in `SOURCES`.
"""

from __future__ import annotations

import difflib
import gzip
import math
import os
import posixpath
import shutil
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from sgdline.data.image_folder import read_image_folder
from sgdline.data.raw_images import MOST_PIXELS, Labels, Pixels, RawImages, check_pixels
from sgdline.data.restricted_pickles import RefusedError, StoredArray, load_restricted, text_of
from sgdline.errors import SgdlineError
from sgdline.runtime import machine_fault
from sgdline.seeds import derive_seed


def load_source(settings: Mapping[str, Any], *, data_dir: str | Path, download: bool) -> RawImages:
    """Load all images of a source.

    Args:
        settings: One entry of the config's `datasets`, every key present; see config.schema.yaml.
        data_dir: Folder in which downloaded data sets lie, in the layout of torchvision.
        download: Fetch missing files from the official site of the source.

    Returns:
        RawImages.

    Raises:
        SgdlineError: If the source is unknown, files are missing or damaged, or labels do not fit the classes.
    """
    name = settings["source"]
    if name not in SOURCES:
        near = difflib.get_close_matches(str(name), SOURCES, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else "Choose one of them."
        raise SgdlineError(f"source must be one of {', '.join(SOURCES)}, got {name!r}. {hint}")
    raw = SOURCES[name](settings, data_dir=Path(data_dir), download=download)
    for images, labels in ((raw.train_images, raw.train_labels), (raw.test_images, raw.test_labels)):
        if len(images) != len(labels):
            raise SgdlineError(
                f"Source {name} must have one label per image, got {len(images)} images and {len(labels)} labels. "
                "Fetch its files again."
            )
        if len(labels) and not 0 <= labels.min() <= labels.max() < len(raw.class_names):
            raise SgdlineError(
                f"Labels of source {name} must be from 0 to {len(raw.class_names) - 1}, "
                f"got {labels.min()} to {labels.max()}. Fetch its files again."
            )
    train_shape, test_shape = raw.train_images.shape[1:], raw.test_images.shape[1:]
    if not len(raw.train_images) or 0 in train_shape:
        raise SgdlineError(
            f"Source {name} must have training images, got {len(raw.train_images)} of "
            f"{_shape_words(train_shape)} pixels. Fetch its files again."
        )
    if len(raw.test_images) and test_shape != train_shape:
        raise SgdlineError(
            f"Test images of source {name} must be {_shape_words(train_shape)} pixels as its training images are, got "
            f"{_shape_words(test_shape)}. Fetch its files again."
        )
    return raw


def _shape_words(shape: Sequence[int]) -> str:
    return "x".join(str(side) for side in shape)


# --- scikit-learn's digits --------------------------------------------------------------------------------------------


def _load_digits(settings: Mapping[str, Any], *, data_dir: Path, download: bool) -> RawImages:
    """Real 8x8 images of digits with 17 grey levels; they come with scikit-learn and need no file."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    return _without_test_set(
        digits.images[:, None].astype(np.uint8),
        digits.target.astype(np.int64),
        class_names=tuple(str(name) for name in digits.target_names),
        scale=1 / 16,
    )


# --- idx files: MNIST and Fashion-MNIST -------------------------------------------------------------------------------

_IDX_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def _load_mnist(settings: Mapping[str, Any], *, data_dir: Path, download: bool) -> RawImages:
    return _load_idx("mnist", [data_dir / "MNIST" / "raw"], torchvision_name="MNIST", download=download)


def _load_fashion_mnist(settings: Mapping[str, Any], *, data_dir: Path, download: bool) -> RawImages:
    """Look where torchvision keeps its files, then where Debian's package dataset-fashion-mnist installs them."""
    folders = [data_dir / "FashionMNIST" / "raw"]
    folders += [share / "datasets" / "fashion-mnist" for share in _share_folders()]
    return _load_idx(
        "fashion_mnist",
        folders,
        torchvision_name="FashionMNIST",
        download=download,
        otherwise=", or install the Debian package dataset-fashion-mnist",
    )


def _share_folders() -> list[Path]:
    """Return the share folders of the system (XDG base directory specification: relative ones do not count)."""
    listed = os.environ.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share"
    return [Path(entry) for entry in listed.split(":") if Path(entry).is_absolute()]


def _load_idx(
    source: str, folders: Sequence[Path], *, torchvision_name: str, download: bool, otherwise: str = ""
) -> RawImages:
    """Read the four idx files from the first folder that has them all; the first folder takes downloads."""
    found = next((folder for folder in folders if not _missing_idx_files(folder)), None)
    if found is None and download:
        found = folders[0]
        _download_idx(source, found, torchvision_name=torchvision_name)
    if found is None:
        missing = [f"{name}[.gz]" for name in _missing_idx_files(folders[0])]
        raise _missing_error(source, folders[0], missing, otherwise=otherwise)
    train_images, train_labels, test_images, test_labels = (
        _read_idx(next(path for path in _idx_candidates(found, name) if path.exists()), dimensions=dimensions)
        for name, dimensions in zip(_IDX_FILES, (3, 1, 3, 1), strict=True)
    )
    return RawImages(
        train_images=train_images[:, None],
        train_labels=train_labels.astype(np.int64),
        test_images=test_images[:, None],
        test_labels=test_labels.astype(np.int64),
        class_names=_IDX_CLASSES[source],
        scale=1 / 255,
    )


_IDX_CLASSES = {
    "mnist": tuple("0123456789"),
    "fashion_mnist": (
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
    ),
}


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
    mend = "Delete the file and fetch it again"
    length = 4 + 4 * dimensions
    packed = path.suffix == ".gz"
    try:
        with gzip.open(path) if packed else path.open("rb") as file:
            header = file.read(length)
            # Two zero bytes, the code of unsigned bytes, the number of dimensions; then each size, big-endian.
            if len(header) < length or header[:4] != bytes((0, 0, 8, dimensions)):
                raise SgdlineError(
                    f"File {path} must be an idx file of bytes with {dimensions} dimension(s), "
                    f"got one that begins {header[:4].hex() or 'and ends at once'}. {mend}."
                )
            shape = tuple(int.from_bytes(header[start : start + 4], "big") for start in range(4, length, 4))
            expected = int(np.prod(shape, dtype=object))
            if expected > MOST_PIXELS:
                raise SgdlineError(
                    f"File {path} must hold at most {MOST_PIXELS} numbers, got one that says {expected}. {mend}."
                )
            # One byte more than there should be: a small packed file can hold more than any memory.
            content = file.read(expected + 1)
    except (OSError, EOFError, zlib.error) as error:
        kind = "a whole gzip file" if packed else "a file that can be read"
        raise SgdlineError(f"File {path} must be {kind}, got a damaged one ({error}). {mend}.") from error
    if len(content) != expected:
        found = length + len(content) if len(content) < expected else "more" if packed else path.stat().st_size
        raise SgdlineError(f"File {path} must be {length + expected} bytes long, got {found}. {mend}.")
    return np.frombuffer(content, dtype=np.uint8).reshape(shape)


def _download_idx(source: str, folder: Path, *, torchvision_name: str) -> None:
    """Fetch the packed idx files, each under another name until torchvision has verified its checksum."""
    import torchvision.datasets
    from torchvision.datasets.utils import download_url

    reader = getattr(torchvision.datasets, torchvision_name)
    with _download_lock(folder):
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
                raise _download_error(source, folder, [name], "; ".join(faults))


# --- CIFAR and SVHN, in the layout of torchvision ---------------------------------------------------------------------

_LARGEST_MEMBER = 2**28  # bytes; the largest file of CIFAR has 155 MB


def _load_cifar10(settings: Mapping[str, Any], *, data_dir: Path, download: bool) -> RawImages:
    return _load_cifar("cifar10", data_dir, torchvision_name="CIFAR10", download=download)


def _load_cifar100(settings: Mapping[str, Any], *, data_dir: Path, download: bool) -> RawImages:
    return _load_cifar("cifar100", data_dir, torchvision_name="CIFAR100", download=download)


def _load_cifar(source: str, data_dir: Path, *, torchvision_name: str, download: bool) -> RawImages:
    """Read CIFAR's python batches.

    They are pickles, which may run code when they are read: none is opened before its checksum has been verified, and
    then by the reader that runs nothing.
    """
    import torchvision.datasets

    reader = getattr(torchvision.datasets, torchvision_name)
    folder = data_dir / reader.base_folder
    files = dict([*reader.train_list, *reader.test_list, (reader.meta["filename"], reader.meta["md5"])])
    if download:
        _download_with(lambda: _fetch_archive(reader, data_dir, folder, files), source, folder, files)
    _verify_files(source, folder, files)
    train, test = (
        [_read_batch(folder / name) for name, _ in batches] for batches in (reader.train_list, reader.test_list)
    )
    return RawImages(
        train_images=np.concatenate([images for images, _ in train]),
        train_labels=np.concatenate([labels for _, labels in train]),
        test_images=np.concatenate([images for images, _ in test]),
        test_labels=np.concatenate([labels for _, labels in test]),
        class_names=_read_class_names(folder / reader.meta["filename"], reader.meta["key"]),
        scale=1 / 255,
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


def _load_svhn(settings: Mapping[str, Any], *, data_dir: Path, download: bool) -> RawImages:
    """Read SVHN's cropped digits; the test set is the test file (papers.md L24)."""
    import torchvision.datasets

    reader = torchvision.datasets.SVHN
    files = {reader.split_list[split][1]: reader.split_list[split][2] for split in ("train", "test")}
    if download:
        _download_with(
            lambda: [reader(data_dir, split=split, download=True) for split in ("train", "test")],
            "svhn",
            data_dir,
            files,
        )
    _verify_files("svhn", data_dir, files)
    train, test = reader(data_dir, split="train"), reader(data_dir, split="test")
    return RawImages(
        train_images=np.ascontiguousarray(train.data),
        train_labels=np.atleast_1d(train.labels),
        test_images=np.ascontiguousarray(test.data),
        test_labels=np.atleast_1d(test.labels),
        class_names=tuple("0123456789"),
        scale=1 / 255,
    )


def _verify_files(source: str, folder: Path, files: Mapping[str, str]) -> None:
    """Raise one sentence if files (name -> md5) are missing or damaged."""
    from torchvision.datasets.utils import check_integrity

    missing = [name for name in files if not (folder / name).is_file()]
    if missing:
        raise _missing_error(source, folder, missing)
    for name, md5 in files.items():
        if not check_integrity(folder / name, md5):
            raise SgdlineError(
                f"File {folder / name} must have the md5 sum {md5} of the published one, got another. "
                "Delete the file and put the right one there, or set download: true."
            )


def _download_with(fetch: Callable[[], object], source: str, folder: Path, files: Mapping[str, str]) -> None:
    """Fetch files (name -> md5) that are missing or damaged, with their checksums verified.

    A folder that is complete is only read, so it may belong to somebody else.
    """
    from torchvision.datasets.utils import check_integrity

    if all(check_integrity(folder / name, md5) for name, md5 in files.items()):
        return
    with _download_lock(folder):
        try:
            fetch()
        except (OSError, RuntimeError, EOFError, zlib.error, tarfile.TarError) as error:
            raise _download_error(source, folder, list(files), str(error)) from error


@contextmanager
def _download_lock(folder: Path) -> Iterator[None]:
    """Let one job at a time download into a folder: two data sets of a config may share a source."""
    import fcntl

    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = (folder / ".download.lock").open("w")
    except OSError as error:
        raise SgdlineError(
            f"data_dir must be a folder that can be written to, got {folder} ({error.strerror}). Choose another one."
        ) from error
    with handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _missing_error(source: str, folder: Path, missing: Sequence[str], *, otherwise: str = "") -> SgdlineError:
    return SgdlineError(
        f"Source {source} must have the files {', '.join(missing)} in {folder}, got none of these. "
        f"Put them there, or set download: true{otherwise}."
    )


def _download_error(source: str, folder: Path, files: Sequence[str], fault: str) -> SgdlineError:
    return SgdlineError(
        f"Download of {source} must reach its official site and pass its checksum, got: {' '.join(fault.split())}. "
        f"Try again, or put {', '.join(files)} into {folder} by hand."
    )


# --- folders of image files -------------------------------------------------------------------------------------------


def _load_image_folder(settings: Mapping[str, Any], *, data_dir: Path, download: bool) -> RawImages:
    if settings["path"] is None:
        raise SgdlineError(
            "path must be the folder with train/<class>/* or <class>/* for source image_folder, got null. "
            "Set it in the data set."
        )
    return read_image_folder(Path(settings["path"]).expanduser(), image_size=settings["image_size"])


# --- noise ------------------------------------------------------------------------------------------------------------


def _load_random(settings: Mapping[str, Any], *, data_dir: Path, download: bool) -> RawImages:
    """Make seeded uniform noise of any shape, the classes in turn; for benchmarks, nothing can be learnt from it."""
    noise = settings["random"]
    shape = (noise["images"], noise["channels"], noise["size"], noise["size"])
    count = math.prod(shape)
    check_pixels(count, fix="Lower images, channels or size")
    # The raw stream of a bit generator is what numpy promises never to change.
    words = np.random.PCG64(derive_seed(noise["seed"], "random_images")).random_raw(-(-count // 8))
    images = words.astype("<u8").view(np.uint8)[:count].reshape(shape)
    labels = np.arange(noise["images"], dtype=np.int64) % noise["classes"]
    names = tuple(str(label) for label in range(noise["classes"]))
    return _without_test_set(images, labels, class_names=names, scale=1 / 255)


def _without_test_set(images: Pixels, labels: Labels, *, class_names: tuple[str, ...], scale: float) -> RawImages:
    return RawImages(
        train_images=images,
        train_labels=labels,
        test_images=images[:0],
        test_labels=labels[:0],
        class_names=class_names,
        scale=scale,
    )


SOURCES: dict[str, Callable[..., RawImages]] = {
    "digits": _load_digits,
    "fashion_mnist": _load_fashion_mnist,
    "mnist": _load_mnist,
    "cifar10": _load_cifar10,
    "cifar100": _load_cifar100,
    "svhn": _load_svhn,
    "image_folder": _load_image_folder,
    "random": _load_random,
}
