"""Folders of image files: which files count, how each becomes an RGB image, and one line that says what was read.

The rules are documented in config/README.md, "Image folders".
"""

from __future__ import annotations

import hashlib
import logging
import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sgdline.data.raw_images import ImageFile, Pixels, RawImages
from sgdline.errors import SgdlineError
from sgdline.runtime import inner_progress, machine_fault

if TYPE_CHECKING:
    from PIL import Image

_LOG = logging.getLogger(__name__)

_IMAGE_SUFFIXES = frozenset(
    (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".pbm", ".pgm", ".pnm", ".ppm", ".tif", ".tiff", ".webp")
)
# What systems, network storages and tools leave in folders beside what begins with a point; in lower case.
_JUNK = frozenset(
    (
        *("__macosx", "icon\r", "network trash folder", "temporary items"),  # macOS
        *(
            "$recycle.bin",
            "recycler",
            "system volume information",
            "thumbs.db",
            "ehthumbs.db",
            "desktop.ini",
        ),  # Windows
        *("@eadir", "#recycle", "#snapshot", "@tmp", "@recycle", "@recently-snapshot", "@__thumb"),  # network storages
        *("lost+found", "__pycache__"),
    )
)
_SPLIT_NAMES = {
    "training": ("train", "training"),
    "validation": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
_LISTED = 10  # faults in a message
_EXAMPLES = 3  # names per reason in the log


@dataclass
class _Report:
    """What is said about a folder after it was read."""

    root: Path
    skipped: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))  # reason -> names
    modes: Counter[str] = field(default_factory=Counter)  # of images that were not RGB, as Pillow calls them
    transparent: int = 0
    deep: int = 0  # of 16 bit
    deepest: int = 0  # largest value among them
    turned: int = 0
    animated: int = 0
    resized: int = 0
    faults: dict[str, str] = field(default_factory=dict)  # path below root -> reason

    def name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def line(self, what: str) -> str:
        """Return the line that says what was read."""
        parts = [what]
        if self.modes:
            parts.append(f"converted to RGB: {_counted(self.modes)}")
        if self.transparent:
            parts.append(f"laid over white: {self.transparent}")
        if self.deep:
            parts.append(f"reduced from 16 to 8 bit: {self.deep} (largest value {self.deepest} of 65535)")
        if self.turned:
            parts.append(f"turned as EXIF says: {self.turned}")
        if self.animated:
            parts.append(f"only the first frame read: {self.animated}")
        parts.append(f"resized: {self.resized}")
        skipped = [f"{reason} {_counted(names)}" for reason, names in sorted(self.skipped.items()) if names]
        parts.append(f"skipped: {', '.join(skipped) or 'nothing'}")
        return f"{'; '.join(parts)}."


def _counted(names: Counter[str]) -> str:
    common = sorted(names.items(), key=lambda item: (-item[1], item[0]))
    shown = ", ".join(f"{name} {count}" if count > 1 else name for name, count in common[:_EXAMPLES])
    return f"{names.total()} ({shown}{', ...' if len(common) > _EXAMPLES else ''})"


def read_image_folder(root: Path, *, image_size: int | None) -> RawImages:
    """Read `train/<class>/*` with its test set, or `<class>/*`, as RGB images.

    Class folders are searched to any depth, in the order of their names, and are numbered by the training folder.
    The test set is the labelled validation file of Tiny-ImageNet (val/val_annotations.txt), whose own test images have
    no labels; or else test/<class>/*; or else val/<class>/*. A folder without train/ has no test set.

    Args:
        root: Folder of the data set.
        image_size: Pixels a side; None if all images have one size.

    Returns:
        RawImages, with their files.

    Raises:
        SgdlineError: If folders do not fit each other, or with one list of all images that cannot be read.
    """
    report = _Report(root)
    folders = _subfolders(root, report) if root.is_dir() else {}
    splits = _split_folders(root, folders)
    base = splits.get("training", root)
    if splits and base == root:
        found = ", ".join(folder.name for folder in splits.values())
        raise SgdlineError(
            f"path must be a folder with train/ beside {found}, or with class folders alone, got {root}. "
            "Put the training images into train/<class>/."
        )
    classes = _subfolders(base, report) if splits else folders
    if not classes:
        raise SgdlineError(
            f"path must be a folder with train/<class>/* or <class>/* in it, got {base}, which "
            f"{'has no class folders' if base.is_dir() else 'is no folder'}. Put one folder of images per class there."
        )
    if not splits:
        _check_pool(root, folders)
    train = _labelled_files(classes, classes, report)
    full = {label for _, label in train}
    empty = [name for label, name in enumerate(classes) if label not in full]
    if empty:
        raise SgdlineError(
            f"Class folders of {base} must hold images ({', '.join(sorted(_IMAGE_SUFFIXES))}), got none in "
            f"{_first(empty)}. Add images or delete the folders."
        )
    test_folder, test = _test_files(splits, classes, report)
    if splits:
        report.skipped["folders that are not read"].update(
            folder.name for folder in folders.values() if folder not in (base, test_folder)
        )
        _warn_of_unread_validation(splits, test_folder)
    images, files = _read_images([path for path, _ in train + test], report, image_size=image_size)
    labels = np.array([label for _, label in train + test], dtype=np.int64)
    count = len(train)
    sets = f"{base.name} {count}" if splits else "one set for all splits"
    sets += f", {test_folder.name} {len(test)}" if test_folder else ""
    _LOG.info("%s", report.line(f"Read {len(labels)} images of {len(classes)} classes from {root} ({sets})"))
    return RawImages(
        train_images=images[:count],
        train_labels=labels[:count],
        test_images=images[count:],
        test_labels=labels[count:],
        class_names=tuple(classes),
        scale=1 / 255,
        train_files=tuple(files[:count]),
        test_files=tuple(files[count:]),
    )


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:_LISTED]) + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")


# --- which files ------------------------------------------------------------------------------------------------------


def _entries(folder: Path, report: _Report) -> list[Path]:
    """Return what is in a folder in the order of names, without what systems and tools have left there."""
    try:
        entries = sorted(folder.iterdir(), key=lambda entry: entry.name)
    except OSError as error:
        if machine_fault(error):
            raise
        raise SgdlineError(
            f"Folder {folder} must be readable, got: {error.strerror}. Correct its rights or delete it."
        ) from error
    kept = []
    for entry in entries:
        if entry.name.startswith(".") or entry.name.lower() in _JUNK:
            report.skipped["hidden or of the system"]["._*" if entry.name.startswith("._") else entry.name] += 1
        else:
            kept.append(entry)
    return kept


def _subfolders(folder: Path, report: _Report) -> dict[str, Path]:
    """Return the folders in a folder by their names in composed form (NFC), in the order of these."""
    found: dict[str, Path] = {}
    for entry in _entries(folder, report):
        if not entry.is_dir():
            reason = "outside of class folders" if _is_image_name(entry) else "not named as images"
            report.skipped[reason][_kind(entry)] += 1
            continue
        if _leads_back(_real(entry), (_real(report.root), _real(folder))):
            report.skipped["links to a folder above them"][report.name(entry)] += 1
            continue
        # macOS has written names in decomposed form: the same name there and here must be one class.
        name = unicodedata.normalize("NFC", entry.name)
        twin = found.setdefault(name, entry)
        if twin != entry:
            raise SgdlineError(
                f"Folders of {folder} must have names that look different, got {twin.name!a} and {entry.name!a}, both "
                f"{name!r}. Put the images of both into one of them."
            )
    return dict(sorted(found.items()))


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _leads_back(real: Path, above: Iterable[Path]) -> bool:
    """Return whether a folder is one of those that led to it, or holds one of them."""
    return any(folder.is_relative_to(real) for folder in above)


def _is_image_name(path: Path) -> bool:
    return path.suffix.lower() in _IMAGE_SUFFIXES


def _kind(path: Path) -> str:
    return path.suffix.lower() or path.name


def _split_folders(root: Path, folders: Mapping[str, Path]) -> dict[str, Path]:
    """Return the folders of training, validation and test; whether names are in capitals does not count."""
    found: dict[str, Path] = {}
    for name, folder in folders.items():
        split = next((split for split, names in _SPLIT_NAMES.items() if name.lower() in names), None)
        if split is None:
            continue
        if split in found:
            raise SgdlineError(
                f"path must be a folder with one folder of {split} images, got {found[split].name} and {folder.name} "
                f"in {root}. Merge them, or give one of them a name that begins with a point."
            )
        found[split] = folder
    return found


def _check_pool(root: Path, folders: Mapping[str, Path]) -> None:
    """Refuse a folder that lies too high in the tree: what is in it looks like classes as well."""
    for folder in folders.values():
        inner = [entry.name for entry in folder.iterdir() if entry.name.lower() in _SPLIT_NAMES["training"]]
        if inner:
            raise SgdlineError(
                f"path must be a folder with train/<class>/* or <class>/* in it, got {root}, where {folder.name} holds "
                f"{inner[0]}. Write path: {folder}."
            )
    if len(folders) == 1:
        [folder] = folders.values()
        raise SgdlineError(
            f"path must be a folder with train/<class>/* or at least two folders <class>/* in it, got {root}, which "
            f"holds {folder.name} alone. If that holds the classes, write path: {folder}."
        )


def _labelled_files(folders: Mapping[str, Path], classes: Iterable[str], report: _Report) -> list[tuple[Path, int]]:
    labels = {name: label for label, name in enumerate(classes)}
    return [(path, labels[name]) for name, folder in folders.items() for path in _image_files(folder, report)]


def _image_files(folder: Path, report: _Report) -> list[Path]:
    """Return the image files of a class folder and of all folders in it in the order of their names, links followed.

    Each folder is read once, by its own name rather than by that of a link to it.
    """
    # Folders to read, each with the real paths of those that led to it and of its own.
    folders: list[tuple[Path, tuple[Path, ...]]] = [(folder, (_real(report.root), _real(folder.parent), _real(folder)))]
    links: list[tuple[Path, tuple[Path, ...]]] = []
    read: set[Path] = set()
    found: list[Path] = []
    while folders or links:
        current, above = folders.pop() if folders else links.pop(0)
        if above[-1] in read:
            report.skipped["links to a folder that is read"][report.name(current)] += 1
            continue
        read.add(above[-1])
        for entry in _entries(current, report):
            if entry.is_dir():
                real = _real(entry)
                if _leads_back(real, above):
                    report.skipped["links to a folder above them"][report.name(entry)] += 1
                else:
                    (links if entry.is_symlink() else folders).append((entry, (*above, real)))
            elif not _is_image_name(entry):
                report.skipped["not named as images"][_kind(entry)] += 1
            elif entry.is_file():
                found.append(entry)
            else:
                reason = "links to nothing" if entry.is_symlink() else "not regular files"
                report.skipped[reason][report.name(entry)] += 1
    return sorted(found, key=lambda path: path.parts)


def _test_files(
    splits: Mapping[str, Path], classes: Mapping[str, Path], report: _Report
) -> tuple[Path | None, list[tuple[Path, int]]]:
    """Return the folder of the test set and its files; no folder if there is none."""
    validation = splits.get("validation")
    if validation is not None and (validation / "val_annotations.txt").is_file():
        return validation, _annotated_files(validation / "val_annotations.txt", list(classes))
    for folder in (splits.get("test"), validation):
        found = {} if folder is None else _subfolders(folder, report)
        if folder is None or not found:
            continue
        unknown = [name for name in found if name not in classes]
        if unknown:
            raise SgdlineError(
                f"Class folders of {folder} must be among those of {splits['training']}, got {_first(unknown)}. "
                "Rename or delete them; upper and lower case count."
            )
        return folder, _labelled_files(found, classes, report)
    return None, []


def _warn_of_unread_validation(splits: Mapping[str, Path], test_folder: Path | None) -> None:
    validation = splits.get("validation")
    if validation is not None and test_folder is not None and test_folder != validation:
        _LOG.warning(
            "The images of %s are not read: %s is the test set, and validation images are drawn from %s.",
            validation,
            test_folder.name,
            splits["training"].name,
        )


def _annotated_files(annotations: Path, class_names: Sequence[str]) -> list[tuple[Path, int]]:
    """Read lines of the form `<file> <tab> <class> <tab> ...`; the files lie in images/ beside them."""
    labels = {name: label for label, name in enumerate(class_names)}
    files = []
    for number, line in enumerate(annotations.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        parts = line.split("\t")
        if not line.strip():
            continue
        label = labels.get(unicodedata.normalize("NFC", parts[1])) if len(parts) > 1 else None
        # A name of a file, not a path out of the folder.
        if label is None or Path(parts[0]).name != parts[0]:
            raise SgdlineError(
                f"Line {number} of {annotations} must be a file and a class of the training folder, got {line!r}. "
                "Correct the line or fetch the data set again."
            )
        files.append((annotations.parent / "images" / parts[0], label))
    return files


# --- from files to pixels ---------------------------------------------------------------------------------------------


def _read_images(paths: Sequence[Path], report: _Report, *, image_size: int | None) -> tuple[Pixels, list[ImageFile]]:
    """Read image files as RGB into one array (N, 3, H, W), resized to image_size squared where it is given."""
    images: Pixels | None = None
    files: list[ImageFile] = []
    sizes: dict[tuple[int, ...], list[str]] = defaultdict(list)  # height and width -> names
    for position, path in enumerate(inner_progress(paths, total=len(paths), label="images")):
        name = report.name(path)
        try:
            image, digest = _read_image(path, report, image_size=image_size)
        except _FaultyImageError as fault:
            report.faults[name] = str(fault)
            continue
        files.append(ImageFile(name, digest))
        sizes[image.shape[1:]].append(name)
        if images is None:
            images = np.empty((len(paths), *image.shape), dtype=np.uint8)
        if image.shape == images.shape[1:]:
            images[position] = image
    usual = max(sizes, key=lambda size: len(sizes[size]), default=())
    for height, width in sizes:
        if (height, width) != usual:
            reason = f"is {width}x{height} pixels, not {usual[1]}x{usual[0]}"
            report.faults |= dict.fromkeys(sizes[height, width], reason)
    if report.faults:
        raise _faults_error(report, len(paths), several_sizes=len(sizes) > 1)
    assert images is not None  # every class folder holds images
    return images, files


def _faults_error(report: _Report, count: int, *, several_sizes: bool) -> SgdlineError:
    listed = [f"{name} {reason}" for name, reason in sorted(report.faults.items())]
    more = ""
    if len(listed) > _LISTED:
        _LOG.error("All faulty images of %s:\n%s", report.root, "\n".join(listed))
        more = f"; and {len(listed) - _LISTED} more, all of them in the log"
    return SgdlineError(
        f"Images of {report.root} must be whole files{' of one size' if several_sizes else ''}, got {len(listed)} of "
        f"{count} that are not: {'; '.join(listed[:_LISTED])}{more}. "
        f"{'Set image_size to resize all images, and delete' if several_sizes else 'Delete'}, convert or fetch again "
        "what cannot be read."
    )


class _FaultyImageError(Exception):
    """The reason why an image cannot be used, to be read after its name."""


def _read_image(path: Path, report: _Report, *, image_size: int | None) -> tuple[Pixels, bytes]:
    """Return the pixels (3, H, W) of an image file and the digest of its bytes."""
    from PIL import Image, UnidentifiedImageError

    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").digest()
            file.seek(0)
            start = file.read(40)
            file.seek(0)
            try:
                with Image.open(file) as image:
                    rgb = _to_rgb(image, report)
            except UnidentifiedImageError:
                raise _FaultyImageError(_unknown_content(start)) from None
    except _FaultyImageError:
        raise
    # A damaged file can make Pillow raise nearly anything; one that says it is huge is refused before it is unpacked.
    except Exception as error:
        if machine_fault(error):
            raise
        words = error.strerror if isinstance(error, OSError) and error.strerror else " ".join(str(error).split())
        raise _FaultyImageError(f"cannot be read ({words[:100] or type(error).__name__})") from error
    if image_size is not None and rgb.size != (image_size, image_size):
        rgb = rgb.resize((image_size, image_size), Image.Resampling.BILINEAR)
        report.resized += 1
    return np.asarray(rgb).transpose(2, 0, 1), digest


def _unknown_content(start: bytes) -> str:
    if not start:
        return "is empty"
    if start.startswith(b"version https://git-lfs"):
        return "is a pointer of Git LFS (run git lfs pull)"
    return "is no image of a known format"


def _to_rgb(image: Image.Image, report: _Report) -> Image.Image:
    """Return the first frame as RGB: 16 bit reduced to 8, transparency laid over white, turned as EXIF says."""
    # Pillow turns TIFF files by itself, while it loads them.
    stored = _orientation(image)
    image.load()
    orientation = _orientation(image)
    mode = image.mode
    if mode.startswith("I;16") or (mode == "I" and image.format in ("PNG", "PPM")):
        rgb = _from_16_bit(image, report)
    elif mode.startswith(("I", "F")):
        kind = "32-bit or signed numbers" if mode.startswith("I") else "floating-point numbers"
        raise _FaultyImageError(f"has {kind}, which have no fixed white (convert it to 8 or 16 bits per channel)")
    elif image.has_transparency_data:
        rgba = image.convert("RGBA")
        rgb = _over_white(rgba)
        # An alpha channel that is opaque everywhere hides nothing.
        report.transparent += bool((np.asarray(rgba)[..., 3] < 255).any())
    else:
        rgb = image.convert("RGB")
    rgb = _turned(rgb, orientation)
    if mode != "RGB":
        report.modes[mode] += 1
    report.turned += stored != 1
    report.animated += _has_more_frames(image)
    return rgb


def _from_16_bit(image: Image.Image, report: _Report) -> Image.Image:
    """Keep the higher byte, as Pillow does with 16 bit per colour."""
    from PIL import Image

    values = np.asarray(image)
    grey = (values >> 8).astype(np.uint8)
    clear = image.info.get("transparency")
    if clear is not None:
        report.transparent += bool((values == clear).any())
        grey[values == clear] = 255
    report.deep += 1
    report.deepest = max(report.deepest, int(values.max()))
    return Image.fromarray(grey).convert("RGB")


def _over_white(rgba: Image.Image) -> Image.Image:
    from PIL import Image

    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


def _orientation(image: Image.Image) -> int:
    """Return how EXIF says that the image is stored, from 1 to 8; 1, upright, if it says nothing that makes sense."""
    try:
        stored = image.getexif().get(0x0112)
    # What is damaged here may be anything, and the pixels are whole all the same.
    except Exception as error:
        if machine_fault(error):
            raise
        return 1
    return stored if isinstance(stored, int) and 1 <= stored <= 8 else 1


def _turned(image: Image.Image, orientation: int) -> Image.Image:
    from PIL.Image import Transpose

    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    return image.transpose(turns[orientation]) if orientation in turns else image


def _has_more_frames(image: Image.Image) -> bool:
    try:
        return bool(getattr(image, "is_animated", False))
    # The first frame has been read; others do not count, whole or not.
    except Exception as error:
        if machine_fault(error):
            raise
        return False
