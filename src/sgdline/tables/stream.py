"""What a job appends rows to until its table is whole; a kill at any moment loses no row that was appended.

A stream is a row of frames: the length and a checksum of a payload, then the payload, an Arrow message. That of the
first frame is the table's schema, with its provenance; each of the others is one record batch. Rows are appended in
place. Of what an interrupted job left, everything before the first torn or damaged frame is kept; the rest is cut off.

The job that writes a stream holds a lock on it, which ends with its process. A job that outlived its Snakemake and the
one that was started in its place can therefore not write into each other's rows.
"""

from __future__ import annotations

import fcntl
import logging
import os
import struct
import zlib
from collections.abc import Iterator
from io import FileIO
from pathlib import Path

import pyarrow as pa
import pyarrow.ipc

from sgdline.errors import SgdlineError

logger = logging.getLogger(__name__)

_LENGTH = struct.Struct("<Q")
_CHECKSUM = struct.Struct("<I")
_HEADER_BYTES = _LENGTH.size + _CHECKSUM.size


class RowStream:
    """A file of record batches that one job at a time appends to."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        """Open a stream, or begin one.

        Args:
            path: Its file.
            schema: Of its batches. Rows that were left with another schema, provenance included, are dropped.

        Raises:
            SgdlineError: If another process is writing it.
        """
        self._path = path
        self._schema = schema
        self._file = _open_locked(path)
        self._end = self._kept_end()
        if self._end == 0:
            self._file.truncate(0)
            self._write(schema.serialize())
        else:
            self._file.truncate(self._end)

    def _kept_end(self) -> int:
        """Return where the last whole frame ends; 0 if there is nothing to keep."""
        size = os.fstat(self._file.fileno()).st_size
        end = 0
        for payload, stop in self._frames():
            if end == 0 and not _is_schema(payload, self._schema):
                return 0
            end = stop
        if end < size:
            kept = "nothing before it is whole" if end == 0 else "what stands before it is kept"
            logger.warning("The rows of %s are torn or damaged from byte %d of %d on; %s.", self._path, end, size, kept)
        return end

    def _frames(self) -> Iterator[tuple[bytearray, int]]:
        """Yield the payloads of the whole frames up to the first one that is not, and where each ends."""
        size = os.fstat(self._file.fileno()).st_size
        place = 0
        while place + _HEADER_BYTES <= size:
            self._file.seek(place)
            header = self._read(_HEADER_BYTES)
            length = _LENGTH.unpack_from(header)[0]
            place += _HEADER_BYTES + length
            if place > size:
                return
            payload = self._read(length)
            if header != _header(payload):
                return
            yield payload, place

    def _read(self, count: int) -> bytearray:
        """Return the next bytes; one call of the system gives at most 2 GiB of them."""
        content = bytearray(count)
        left = memoryview(content)
        while left and (read := self._file.readinto(left)):
            left = left[read:]
        return content

    def append(self, batch: pa.RecordBatch) -> None:
        """Append rows and hand them to the operating system: after a kill all of them are there, or none."""
        self._write(batch.serialize())

    def _write(self, payload: pa.Buffer) -> None:
        self._file.seek(self._end)
        for part in (memoryview(_header(payload)), memoryview(payload)):
            while part:  # a disk that fills up takes the first bytes and refuses the next ones
                part = part[self._file.write(part) :]
        self._end += _HEADER_BYTES + len(payload)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the record batches, in order.

        Raises:
            SgdlineError: If the file was damaged since it was opened.
        """
        end = 0
        for payload, stop in self._frames():
            if end:
                yield pa.ipc.read_record_batch(pa.py_buffer(payload), self._schema)
            end = stop
        if end != self._end:
            raise SgdlineError(
                f"The rows of {self._path} must be whole, got damaged ones from byte {end} of {self._end} on. "
                "Start snakemake again, which makes them again."
            )

    def close(self) -> None:
        """Close the file and give up the lock; the rows stay for a later job."""
        self._file.close()

    def remove(self) -> None:
        """Remove the file, then close it."""
        self._path.unlink(missing_ok=True)
        self.close()


def _header(payload: bytearray | pa.Buffer) -> bytes:
    length = _LENGTH.pack(len(payload))
    # Of the length as well: a run of zeros, as a file system can leave it, must not be taken for empty frames.
    return length + _CHECKSUM.pack(zlib.crc32(payload, zlib.crc32(length)))


def _is_schema(payload: bytearray, schema: pa.Schema) -> bool:
    try:
        return bool(pa.ipc.read_schema(pa.py_buffer(payload)).equals(schema, check_metadata=True))
    except (pa.ArrowException, OSError):
        return False  # the frame is whole, so another version wrote it


def _open_locked(path: Path) -> FileIO:
    while True:
        file = FileIO(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.close()
            raise SgdlineError(
                f"The rows of {path} must have one job that writes them, got another process at work: a job that "
                f"outlived its Snakemake. Wait until it ends, or end it (on its machine fuser {path} tells its number, "
                "squeue --me a cluster's), then start snakemake again."
            ) from error
        except OSError:
            logger.info("The file system of %s knows no locks; two jobs at once would not be noticed.", path)
            return file
        try:
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        except FileNotFoundError:
            pass
        file.close()  # finished and removed by its writer between our two calls
