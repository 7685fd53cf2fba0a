"""Arrow files: a writer that survives a kill, and readers that check.

Every kind of table is declared once (`sgdline.table_modules`). Files are Arrow IPC with zstd compression; their
schema metadata holds one JSON document under the key ``sgdline`` (see `provenance`), so that every number can be traced
to a config slice and a code digest. Tables hold no times and no dates: equal runs give equal bytes.

Arrow's files have no checksums. Ours carry a seal (`sgdline.tables.seals`); readers compare what they read with it.

Tables may be far larger than the memory (the sample losses of one run: 27 GB). Writing, recovering, finishing and
joining them goes record batch by record batch; no more than a few batches are held at a time.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.ipc
from numpy.typing import NDArray

from sgdline.errors import SgdlineError
from sgdline.runtime import machine_fault
from sgdline.tables.content import Columns, Facts, Row
from sgdline.tables.kind import Kind, kind_names, kind_of
from sgdline.tables.seals import (
    BatchSeal,
    NoSealError,
    check_columns,
    check_head,
    column_checksums,
    read_seal,
    seal_file,
)
from sgdline.tables.stream import RowStream

_METADATA_KEY = b"sgdline"
# A record batch ends at whichever bound comes first. Both count content, not appends: see `_recut`.
_ROWS_PER_BATCH = 1024
_LIST_BYTES_PER_BATCH = 1 << 24
_OPTIONS = pa.ipc.IpcWriteOptions(compression="zstd")


def _kind(kind: Kind | str) -> Kind:
    return kind if isinstance(kind, Kind) else kind_of(kind)


def _full_schema(kind: Kind, provenance: Facts) -> pa.Schema:
    document = {"kind": kind.name, **provenance}
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return kind.schema.with_metadata({_METADATA_KEY: text.encode()})


def _to_array(values: Any, kind: pa.DataType) -> pa.Array:
    """Return a column; lists that are numpy arrays are copied as they are, without a Python number per entry."""
    arrays = [value for value in values if value is not None] if pa.types.is_list(kind) else []
    if not arrays or not all(type(value) is np.ndarray and value.ndim == 1 for value in arrays):
        return pa.array(values, type=kind, from_pandas=False)
    lengths = [0 if value is None else len(value) for value in values]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    # A null offset makes a null list; the last offset only ends the last list.
    null = np.array([*(value is None for value in values), False])
    entries = np.concatenate(arrays, dtype=kind.value_type.to_pandas_dtype(), casting="same_kind")
    return pa.ListArray.from_arrays(pa.array(offsets, type=pa.int32(), mask=null), pa.array(entries), type=kind)


def _to_batch(schema: pa.Schema, columns: Sequence[pa.Array]) -> pa.RecordBatch:
    for field, column in zip(schema, columns, strict=True):
        if not field.nullable and column.null_count:
            raise ValueError(f"column {field.name!r} must not hold nulls, got {column.null_count}")
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _entry_bytes(schema: pa.Schema) -> dict[str, int]:
    """Return the size of one entry of each list column."""
    return {field.name: field.type.value_type.bit_width // 8 for field in schema if pa.types.is_list(field.type)}


def _end_of_batch(ends: NDArray[np.int64], first: int, *, rows: int, size: int) -> int:
    """Return the first row that a batch has no room for.

    Args:
        ends: Bytes in the lists of all rows up to and including each one.
        first: The row that comes next.
        rows: Rows that the batch holds already.
        size: Bytes in their lists. A row that is larger than the bound on bytes gets a batch of its own.
    """
    before = int(ends[first - 1]) if first else 0
    stop = int(np.searchsorted(ends, before + _LIST_BYTES_PER_BATCH - size, side="right"))
    return min(max(stop, first if rows else first + 1), first + _ROWS_PER_BATCH - rows, len(ends))


def _spans(sizes: Sequence[int] | NDArray[np.int64]) -> Iterator[slice]:
    """Cut rows into record batches, given the bytes in the lists of each row."""
    ends = np.cumsum(np.asarray(sizes, dtype=np.int64))
    first = 0
    while first < len(ends):
        stop = _end_of_batch(ends, first, rows=0, size=0)
        yield slice(first, stop)
        first = stop


def _joined(parts: Sequence[pa.RecordBatch], schema: pa.Schema) -> pa.RecordBatch:
    """Return a fresh copy of the rows of all parts."""
    # Of a single part as well: bits and bytes beside a slice would get into the file, and the whole batch that it was
    # cut from would stay in memory.
    columns = [pa.concat_arrays([part.column(place) for part in parts]) for place in range(len(schema))]
    return _to_batch(schema, columns)


def _recut(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Yield the same rows in batches whose bounds follow from the rows alone.

    A file must not remember appends, interruptions or segments; its batches must fit into the memory, and their
    lists into 32-bit offsets.
    """
    entry_bytes = _entry_bytes(schema)
    pending: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in batches:
        sizes = np.zeros(batch.num_rows, dtype=np.int64)
        for name, width in entry_bytes.items():
            sizes += width * batch.column(name).value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
        ends = np.cumsum(sizes)
        first = 0
        while first < len(ends):
            stop = _end_of_batch(ends, first, rows=rows, size=size)
            pending.append(batch.slice(first, stop - first))
            rows += stop - first
            size += int(sizes[first:stop].sum())
            if stop < len(ends):  # the next row does not fit any more
                full = _joined(pending, schema)
                pending.clear()
                yield full
                rows = size = 0
            first = stop
    if rows:
        yield _joined(pending, schema)


def _write_file(path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    """Write an IPC file next to `path` and move it into place in one step."""
    unfinished = path.with_name(path.name + ".writing")
    ends: list[int] = []
    columns: list[dict[str, str]] = []
    try:
        with pa.OSFile(str(unfinished), "wb") as sink, pa.ipc.new_file(sink, schema, options=_OPTIONS) as writer:
            for batch in _recut(batches, schema):
                columns.append(column_checksums(batch))
                writer.write_batch(batch)
                ends.append(sink.tell())
        seal_file(unfinished, ends=ends, columns=columns)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    unfinished.replace(path)


def write_table(path: str | Path, kind: Kind | str, columns: Columns | pa.Table, *, provenance: Facts) -> None:
    """Write a whole table at once, atomically.

    Args:
        path: Target file.
        kind: What the table is, a `Kind` or its name.
        columns: Column name -> sequence, or an Arrow table; missing nullable columns become null.
        provenance: Facts for the metadata.

    Raises:
        ValueError: If a required column is missing or holds nulls.
    """
    kind = _kind(kind)
    schema = _full_schema(kind, provenance)
    if isinstance(columns, pa.Table):
        parts = columns.to_batches(max_chunksize=_ROWS_PER_BATCH)
        batches: Iterator[pa.RecordBatch] = (
            batch for part in parts for batch in pa.Table.from_batches([part]).cast(schema).to_batches()
        )
    else:
        missing = [field.name for field in schema if not field.nullable and field.name not in columns]
        if missing:
            raise ValueError(f"table {kind.name!r} must hold the columns {missing}")
        batches = _column_batches(columns, schema)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    _write_file(Path(path), schema, batches)


def _column_batches(columns: Columns, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Yield the rows of columns of equal length, converted batch by batch."""
    lengths = {name: len(columns[name]) for name in schema.names if name in columns}
    count = next(iter(lengths.values()))
    if set(lengths.values()) != {count}:
        raise ValueError(f"columns must have one length, got {lengths}")
    sizes = np.zeros(count, dtype=np.int64)
    for name, width in _entry_bytes(schema).items():
        if name in columns:
            sizes += np.array([0 if value is None else width * len(value) for value in columns[name]], dtype=np.int64)
    for span in _spans(sizes):
        nulls = [None] * (span.stop - span.start)
        values = [columns[name][span] if name in columns else nulls for name in schema.names]
        yield _to_batch(schema, [_to_array(own, field.type) for own, field in zip(values, schema, strict=True)])


class TableWriter:
    """Append rows to a table; what a kill leaves behind is taken up by the next writer.

    Rows go to `<path>.part`, a stream (`sgdline.tables.stream`) with one record batch per `append`.
    `finish` turns the stream into the final file in one atomic step. If a stream with the same provenance is found at
    the start, its whole record batches are kept; anything else is dropped.

    Attributes:
        recovered: The rows that were kept, in order, without their lists: those can be larger than the memory.

    Example:
        with TableWriter(path, "trace", provenance=facts) as writer:
            for row in rows_after(writer.recovered):
                writer.append([row])
            writer.finish()
    """

    def __init__(self, path: str | Path, kind: Kind | str, *, provenance: Facts) -> None:
        """Take up what there is of a table, or begin it.

        Raises:
            SgdlineError: If another process is writing the same table.
        """
        self._path = Path(path)
        self._kind = _kind(kind)
        self._schema = _full_schema(self._kind, provenance)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._stream = RowStream(self._path.with_name(self._path.name + ".part"), self._schema)
        small = [field for field in self._schema if not pa.types.is_list(field.type)]
        small_schema = pa.schema(small, metadata=self._schema.metadata)
        kept = [_joined([batch.select(small_schema.names)], small_schema) for batch in self._stream.batches()]
        self.recovered: pa.Table = pa.Table.from_batches(kept, schema=small_schema).combine_chunks()

    def append(self, rows: Sequence[Row]) -> None:
        """Append rows and hand them to the operating system: after a kill all of them are there, or none.

        Args:
            rows: Column name -> value; missing nullable columns become null. Lists may be numpy arrays, which are
                taken over without a Python number per entry.

        Raises:
            ValueError: If a required column is missing or null.
        """
        columns = [_to_array([row.get(field.name) for row in rows], field.type) for field in self._schema]
        self._stream.append(_to_batch(self._schema, columns))

    def finish(self, facts: Facts | None = None) -> None:
        """Put the final file in place and remove the stream; `facts` found on the way join the metadata."""
        self.put_in_place(facts)
        self.discard()

    def put_in_place(self, facts: Facts | None = None) -> None:
        """Put the final file in place as `finish` does, and keep the stream until `discard`."""
        schema = self._schema
        if facts:
            known = json.loads(schema.metadata[_METADATA_KEY])
            schema = _full_schema(self._kind, {**known, **facts})
        _write_file(self._path, schema, self._stream.batches())

    def close(self) -> None:
        """Close the stream, keeping what was appended for a later writer."""
        self._stream.close()

    def discard(self) -> None:
        """Close the stream and remove it: its rows are not to be taken up."""
        self._stream.remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_table(path: str | Path, kind: Kind | str, *, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a table memory-mapped and check it against its schema.

    Args:
        path: File written by `write_table` or `TableWriter`.
        kind: What it has to be, a `Kind` or its name.
        columns: Columns to return; all if None.

    Raises:
        SgdlineError: If the file is missing, damaged, of another kind, or lacks a column; the message names file,
            column and the rule to run again.
    """
    path, kind = Path(path), _kind(kind)
    schema, seals = _read_schema(path, kind)
    parts = list(_stored_batches(path, kind, schema, seals, columns=columns, mapped=True))
    names = kind.schema.names if columns is None else columns
    return pa.Table.from_batches(parts, schema=pa.schema([schema.field(name) for name in names], schema.metadata))


def kind_at(path: str | Path, name: str) -> Kind:
    """Return the kind of table of a name; one that the package does not know has the columns of its file.

    Args:
        path: A table of that kind.
        name: Of the kind: one of the package, or what a thing of the user's is called.

    Raises:
        SgdlineError: If the file is missing or damaged.
    """
    if name in kind_names():
        return kind_of(name)
    schema, _ = _read_schema(Path(path), Kind(name, rule="that makes it", schema=pa.schema([])))
    return Kind(name, rule="that makes it", schema=schema.remove_metadata())


def iterate_table(path: str | Path, kind: Kind | str, *, columns: Sequence[str]) -> Iterator[pa.Table]:
    """Yield a table part by part, for columns that are larger than the memory.

    Args:
        path: File written by `write_table` or `TableWriter`.
        kind: What it has to be, a `Kind` or its name.
        columns: Columns to return.

    Yields:
        The rows of one record batch at a time, in order; at most a few MiB, or one row.

    Raises:
        SgdlineError: As in `read_table`.
    """
    path, kind = Path(path), _kind(kind)
    for batch in _stored_batches(path, kind, *_read_schema(path, kind), columns=columns):
        yield pa.Table.from_batches([batch])


def read_provenance(path: str | Path, kind: Kind | str) -> dict[str, Any]:
    """Return the JSON document that a table carries; no rows are read.

    Args:
        path: File written by `write_table` or `TableWriter`.
        kind: What it has to be, a `Kind` or its name.

    Raises:
        SgdlineError: As in `read_table`, as far as that shows without reading rows.
    """
    return provenance(_read_schema(Path(path), _kind(kind))[0])


def _again(kind: Kind) -> str:
    if not kind.rule:
        return "Write it again (LineLog.write, sgdline import-lines)"
    return f"Run the rule {kind.rule} again (delete the file and start snakemake)"


@contextmanager
def _damage_named(path: Path, kind: Kind) -> Iterator[None]:
    """Turn what Arrow says about a damaged file into one sentence."""
    try:
        yield
    except NoSealError as error:
        raise SgdlineError(
            f"Table {path} must carry checksums, got none: an earlier version or another program wrote it. "
            f"{_again(kind)}."
        ) from error
    except MemoryError as error:  # damage, too, can ask for any number of bytes
        raise SgdlineError(
            f"Table {path} must be whole and fit into the memory, got a failed request for memory ({error}). Give the "
            f"job more memory, or: {_again(kind)}."
        ) from error
    except (pa.ArrowException, OSError, ValueError) as error:
        if machine_fault(error):
            raise
        raise SgdlineError(
            f"Table {path} must be a whole Arrow file, got a damaged one ({error}). {_again(kind)}."
        ) from error


def _read_schema(path: Path, kind: Kind) -> tuple[pa.Schema, list[BatchSeal]]:
    if not path.exists():
        raise SgdlineError(f"Table {path} must exist, found nothing. {_again(kind)}.")
    with _damage_named(path, kind):
        seals = read_seal(path)
        with pa.memory_map(str(path), "r") as source:
            schema = pa.ipc.open_file(source).schema
    _check_schema(schema, kind, path=path, again=_again(kind))
    return schema, seals


def _stored_batches(
    path: Path,
    kind: Kind,
    schema: pa.Schema,
    seals: Sequence[BatchSeal],
    *,
    columns: Sequence[str] | None = None,
    mapped: bool = False,
) -> Iterator[pa.RecordBatch]:
    """Yield the record batches of a file, compared with their checksums.

    Args:
        path: A table.
        kind: What it has to be.
        schema: Of the file, as the checksums, from `_read_schema`.
        seals: Checksums of its record batches.
        columns: Columns to yield; all if None.
        mapped: Read through a memory map. Pages that were read that way count as memory of the process.
    """
    names = kind.schema.names if columns is None else list(columns)
    # Only the wanted columns are decompressed: a column of sample losses can be larger than the memory. Arrow takes an
    # empty list for all columns; the first one of every kind is small.
    wanted = [schema.get_field_index(name) for name in names] or [0]
    options = pa.ipc.IpcReadOptions(included_fields=wanted)
    open_source = pa.memory_map if mapped else pa.OSFile
    with (
        _damage_named(path, kind),
        path.open("rb") as file,
        open_source(str(path), "r") as source,
        pa.ipc.open_file(source, options=options) as reader,
    ):
        for place, seal in enumerate(seals):
            check_head(file.fileno(), seal, place=place)
            batch = reader.get_batch(place)
            check_columns(batch, seal, place=place)
            yield batch.select(names)


def _check_schema(schema: pa.Schema, kind: Kind, *, path: Path, again: str) -> None:
    found = provenance(schema).get("kind")
    if found != kind.name:
        raise SgdlineError(f"Table {path} must be of kind {kind.name!r}, got {found!r}. {again}.")
    for field in kind.schema:
        position = schema.get_field_index(field.name)
        if position < 0:
            raise SgdlineError(f"Table {path} must have the column {field.name!r}, got none. {again}.")
        if schema.field(position).type != field.type:
            raise SgdlineError(
                f"Column {field.name!r} of {path} must be {field.type}, got {schema.field(position).type}. {again}."
            )


def provenance(table: pa.Table | pa.Schema) -> dict[str, Any]:
    """Return the JSON document that a table carries in its schema metadata; empty if it has none."""
    schema = table.schema if isinstance(table, pa.Table) else table
    text = (schema.metadata or {}).get(_METADATA_KEY)
    return json.loads(text) if text else {}


def concatenate(paths: Sequence[str | Path], kind: Kind | str, target: str | Path, *, facts: Facts) -> None:
    """Join tables of one kind, in the given order, into `target`.

    Args:
        paths: At least one table.
        kind: Their kind.
        target: File to write.
        facts: Entries that replace those of the first table's provenance.

    Raises:
        SgdlineError: As in `read_table`; `target` is then left as it was.
    """
    kind = _kind(kind)
    documents = [read_provenance(path, kind) for path in paths]  # first of all: most faults show here
    schema = _full_schema(kind, {**documents[0], **facts})
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    batches = (batch for path in map(Path, paths) for batch in _stored_batches(path, kind, *_read_schema(path, kind)))
    _write_file(Path(target), schema, batches)
