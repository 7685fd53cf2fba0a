"""Checksums of tables, which Arrow's files do not have: a seal at the end of each file, and what compares it.

A seal stands before the footer of an Arrow file, where Arrow's readers never look: a JSON document, its length, its
checksum and a mark. It holds CRC-32s of the footer (schema, provenance, places of the record batches), of the head of
each record batch, and of the values of each column of each batch. Footer and heads are compared before Arrow gets to
see them: over damaged ones it can end the process. Columns are compared as they are read, so that a reader of two
columns out of a table larger than the memory reads no more than these two.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

_MARK = b"SGDLSEAL"
_SEAL_END = struct.Struct("<II8s")  # length and checksum of the document, mark
_FILE_END = struct.Struct("<i6s")  # of an Arrow file: length of its footer, mark
_HEAD_START = struct.Struct("<Ii")  # of a message: continuation mark, length of the rest of its head
_FIRST_MESSAGE = 8  # where the schema stands, a head without a body


class NoSealError(ValueError):
    """An Arrow file without a seal."""


@dataclass(frozen=True)
class BatchSeal:
    """Checksums of one record batch."""

    start: int  # of its head in the file, bytes
    head_bytes: int
    head: str  # checksum
    columns: Mapping[str, str]  # name -> checksum of the values


def seal_file(path: Path, *, ends: Sequence[int], columns: Sequence[Mapping[str, str]]) -> None:
    """Put a seal into a finished Arrow file.

    Args:
        path: The file.
        ends: Where each record batch ends, in bytes.
        columns: For each record batch, the checksums of its columns.
    """
    with path.open("r+b") as file:
        footer_start = _footer_start(file.fileno(), path.stat().st_size)
        footer = os.pread(file.fileno(), path.stat().st_size - footer_start, footer_start)
        batches = []
        start = _FIRST_MESSAGE + _head_bytes(file.fileno(), _FIRST_MESSAGE)
        for end, own in zip(ends, columns, strict=True):
            size = _head_bytes(file.fileno(), start)
            head = _text(zlib.crc32(os.pread(file.fileno(), size, start)))
            batches.append({"start": start, "head_bytes": size, "head": head, "columns": dict(own)})
            start = end
        document = {"footer": _text(zlib.crc32(footer)), "batches": batches}
        content = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
        file.seek(footer_start)
        file.write(content + _SEAL_END.pack(len(content), zlib.crc32(content), _MARK) + footer)


def read_seal(path: Path) -> list[BatchSeal]:
    """Return the checksums of a table's record batches; those of seal and footer are compared.

    Raises:
        NoSealError: If the file has no seal.
        ValueError: If seal or footer are damaged.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        footer_start = _footer_start(file.fileno(), size)
        end_start = footer_start - _SEAL_END.size
        if end_start < 0:
            raise ValueError("the file is too short")
        length, checksum, mark = _SEAL_END.unpack(os.pread(file.fileno(), _SEAL_END.size, end_start))
        if mark != _MARK:
            raise NoSealError("no checksums before its footer")
        content = os.pread(file.fileno(), length, end_start - length) if length <= end_start else b""
        if zlib.crc32(content) != checksum or not content:
            raise ValueError("its checksums are not what was written")
        document: dict[str, Any] = json.loads(content)
        if _text(zlib.crc32(os.pread(file.fileno(), size - footer_start, footer_start))) != document["footer"]:
            raise ValueError("its footer is not what was written")
    return [BatchSeal(**batch) for batch in document["batches"]]


def _head_bytes(file: int, start: int) -> int:
    continuation, length = _HEAD_START.unpack(os.pread(file, _HEAD_START.size, start))
    if continuation != 0xFFFFFFFF:
        raise RuntimeError(f"a message of Arrow's must begin at byte {start}, found none")
    return _HEAD_START.size + int(length)


def _footer_start(file: int, size: int) -> int:
    if size < _FILE_END.size:
        raise ValueError("the file is too short")
    length, mark = _FILE_END.unpack(os.pread(file, _FILE_END.size, size - _FILE_END.size))
    start: int = size - _FILE_END.size - length
    if mark != b"ARROW1" or length <= 0 or start < 0:
        raise ValueError("the end of the file is not that of an Arrow file")
    return start


def check_head(file: int, seal: BatchSeal, *, place: int) -> None:
    """Compare the head of a record batch with its checksum, before Arrow reads it.

    Args:
        file: Descriptor of the open file.
        seal: Of the record batch.
        place: Its number.

    Raises:
        ValueError: If they differ.
    """
    if _text(zlib.crc32(os.pread(file, seal.head_bytes, seal.start))) != seal.head:
        raise ValueError(f"the head of record batch {place} is not what was written")


def check_columns(batch: pa.RecordBatch, seal: BatchSeal, *, place: int) -> None:
    """Compare the columns of a record batch, or some of them, with their checksums.

    Raises:
        ValueError: If they differ.
    """
    batch.validate(full=True)
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if seal.columns[name] != _text(_crc(column, 0)):
            raise ValueError(f"column {name!r} of record batch {place} is not what was written")


def column_checksums(batch: pa.RecordBatch) -> dict[str, str]:
    """Return the checksum of each column of a record batch: of its values, whatever way Arrow stores them."""
    return {name: _text(_crc(column, 0)) for name, column in zip(batch.schema.names, batch.columns, strict=True)}


def _text(crc: int) -> str:
    return f"{crc:08x}"


def _crc(array: pa.Array, crc: int) -> int:
    """Return the CRC-32 of numbers, truth values, texts or lists; nulls count, what lies beneath them does not."""
    crc = zlib.crc32(f"{len(array)},{array.null_count};".encode(), crc)
    if array.null_count:
        crc = zlib.crc32(np.packbits(array.is_null().to_numpy(zero_copy_only=False)).data, crc)
        if not pa.types.is_list(array.type):
            array = array.drop_null()
    if pa.types.is_list(array.type):
        lengths = array.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
        return _crc(array.flatten(), zlib.crc32(lengths.data, crc))
    if pa.types.is_string(array.type):
        texts = [text.encode() for text in array.to_pylist()]
        lengths = np.array([len(text) for text in texts], dtype=np.int64)
        return zlib.crc32(b"".join(texts), zlib.crc32(lengths.data, crc))
    return zlib.crc32(array.to_numpy(zero_copy_only=False).data, crc)
