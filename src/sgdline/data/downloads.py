"""Files of published data sets: fetched, verified, and missed in one sentence."""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from sgdline.errors import SgdlineError


def verify_files(source: str, folder: Path, files: Mapping[str, str]) -> None:
    """Raise one sentence if files (name -> md5) are missing or damaged."""
    from torchvision.datasets.utils import check_integrity

    missing = [name for name in files if not (folder / name).is_file()]
    if missing:
        raise missing_error(source, folder, missing)
    for name, md5 in files.items():
        if not check_integrity(folder / name, md5):
            raise SgdlineError(
                f"File {folder / name} must have the md5 sum {md5} of the published one, got another. "
                "Delete the file and put the right one there, or set download: true."
            )


def download_with(fetch: Callable[[], object], source: str, folder: Path, files: Mapping[str, str]) -> None:
    """Fetch files (name -> md5) that are missing or damaged, with their checksums verified.

    A folder that is complete is only read, so it may belong to somebody else.
    """
    from torchvision.datasets.utils import check_integrity

    if all(check_integrity(folder / name, md5) for name, md5 in files.items()):
        return
    with download_lock(folder):
        try:
            fetch()
        except (OSError, RuntimeError, EOFError, zlib.error, tarfile.TarError) as error:
            raise download_error(source, folder, list(files), str(error)) from error


@contextmanager
def download_lock(folder: Path) -> Iterator[None]:
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


def missing_error(source: str, folder: Path, missing: Sequence[str], *, otherwise: str = "") -> SgdlineError:
    """Return the sentence about files that are not there; `otherwise` is another way to get them."""
    return SgdlineError(
        f"Source {source} must have the files {', '.join(missing)} in {folder}, got none of these. "
        f"Put them there, or set download: true{otherwise}."
    )


def download_error(source: str, folder: Path, files: Sequence[str], fault: str) -> SgdlineError:
    """Return the sentence about a download that failed."""
    return SgdlineError(
        f"Download of {source} must reach its official site and pass its checksum, got: {' '.join(fault.split())}. "
        f"Try again, or put {', '.join(files)} into {folder} by hand."
    )
