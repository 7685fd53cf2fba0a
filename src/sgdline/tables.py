"""Arrow tables: their schemas, a writer that survives a kill, and readers that check.

Every kind of table is declared once in `SCHEMAS`. Files are Arrow IPC with zstd compression; their schema
metadata holds one JSON document under the key ``sgdline`` (see `provenance`), so that every number can be traced
to a config slice and a code digest. Tables hold no times and no dates: equal runs give equal bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.ipc

from sgdline.errors import SgdlineError

_METADATA_KEY = b"sgdline"
_ROWS_PER_BATCH = 1024
_OPTIONS = pa.ipc.IpcWriteOptions(compression="zstd")


def _required(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=False)


_F64_LIST = pa.list_(pa.float64())
_F32_LIST = pa.list_(pa.float32())

SCHEMAS: dict[str, pa.Schema] = {
    # One row per image. `pixels` is channel-major (C*H*W); shape and scale are in the metadata.
    "dataset": pa.schema(
        [
            _required("split", pa.string()),  # train | validation | test
            _required("source_index", pa.int64()),  # row in the source's training or test set
            _required("label", pa.int64()),
            _required("pixels", pa.list_(pa.uint8())),
        ]
    ),
    # One row per update t: theta_t -> theta_{t+1}; every value is taken at theta_t. Losses in nats.
    "trace": pa.schema(
        [
            _required("step", pa.int64()),
            _required("epoch", pa.float64()),
            _required("lr", pa.float64()),
            _required("batch_loss", pa.float64()),  # L_{B_t}(theta_t)
            _required("gradient_norm", pa.float64()),  # ||g_t||
            _required("direction_norm", pa.float64()),  # ||m_t||
            pa.field("gradient_cosine", pa.float64()),  # cos(g_{t-1}, g_t); null at the first update
            _required("distance_from_start", pa.float64()),  # ||theta_t - theta_0||
            _required("parameter_norm", pa.float64()),
            _required("status", pa.string()),  # ok | non_finite
        ]
    ),
    # One row per measured line. Positions are Euclidean lengths, ascending, 0 is always among them.
    "line": pa.schema(
        [
            _required("step", pa.int64()),
            _required("epoch", pa.float64()),
            _required("lr", pa.float64()),
            _required("direction_norm", pa.float64()),  # ||m_t||
            _required("step_length", pa.float64()),  # s_sgd = lr*||m_t||
            _required("direction_batch_slope", pa.float64()),  # exact d_t . g_t at s = 0
            _required("panel_edges", _F64_LIST),  # Chebyshev panels; empty: piecewise linear between positions
            _required("positions", _F64_LIST),  # (P,)
            _required("train_loss", _F64_LIST),  # (P,) mean over the measuring set
            _required("direction_batch_loss", _F64_LIST),  # (P,) mean over B_t
            pa.field("validation_loss", _F64_LIST),  # (P,)
            _required("chunk_loss", _F32_LIST),  # (P*C,) node-major, mean over each measuring chunk
            pa.field("sample_loss", _F32_LIST),  # (P*N,) node-major, on request
            _required("step_train_loss", pa.float64()),  # measured at s_sgd itself
            _required("step_direction_batch_loss", pa.float64()),  # measured at s_sgd itself
            pa.field("interpolation_error", pa.float64()),  # nats, full-batch curve; null for a grid
            pa.field("direction_batch_interpolation_error", pa.float64()),
            _required("evaluations", pa.int32()),  # full-batch evaluations, the one at s_sgd included
            _required("rings", pa.int32()),
            _required("status", pa.string()),  # ok | edge | unresolved | non_finite (full-batch curve) | zero_direction
        ]
    ),
    # One row per line and degree (M12). Coefficients in ascending powers of s.
    "line_fits": pa.schema(
        [
            _required("step", pa.int64()),
            _required("degree", pa.int32()),
            _required("coefficients", _F64_LIST),
            pa.field("mae", pa.float64()),  # mean absolute residual, nats
            _required("status", pa.string()),  # ok | unresolved | non_finite | out_of_range
        ]
    ),
    # One row per line (M1-M5, M10, consecutive M11). Null where the quantity does not exist.
    "line_metrics": pa.schema(
        [
            _required("step", pa.int64()),
            _required("epoch", pa.float64()),
            _required("lr", pa.float64()),
            _required("step_length", pa.float64()),
            _required("direction_norm", pa.float64()),
            pa.field("loss_at_zero", pa.float64()),  # f(0)
            pa.field("minimum_position", pa.float64()),  # s_opt, grid arg-min of f (M1)
            pa.field("minimum_position_vertex", pa.float64()),  # s_opt, vertex through its neighbours (M1)
            pa.field("minimum_loss", pa.float64()),
            pa.field("direction_batch_minimum_position", pa.float64()),  # s_dir (M2)
            pa.field("direction_batch_minimum_loss", pa.float64()),
            pa.field("train_slope", pa.float64()),  # D_f from the curve (M3)
            pa.field("train_curvature", pa.float64()),
            _required("direction_batch_slope", pa.float64()),  # exact D_b
            pa.field("direction_batch_slope_curve", pa.float64()),  # D_b from the curve (M3)
            pa.field("direction_batch_curvature", pa.float64()),
            pa.field("line_search_ratio", pa.float64()),  # s_opt (vertex) / ||m_t|| (M10)
            pa.field("consecutive_distance", pa.float64()),  # MAE to the next measured line (M11)
            _required("status", pa.string()),  # ok | edge | non_finite | zero_direction
        ]
    ),
    # One row per line of a distance panel (M11): `distances[j]` belongs to `other_steps[j]`.
    "line_distances": pa.schema(
        [
            _required("panel", pa.string()),  # first | rest
            _required("step", pa.int64()),
            _required("other_steps", pa.list_(pa.int64())),
            _required("distances", _F64_LIST),
        ]
    ),
}

# Named in error messages, so that the reader knows which rule writes the table.
RULES: dict[str, str] = {
    "dataset": "prepare_dataset",
    "trace": "train_run",
    "line": "probe_segment",
    "line_fits": "fit_lines",
    "line_metrics": "measure_lines",
    "line_distances": "measure_distances",
}


def _full_schema(kind: str, provenance: Mapping[str, Any]) -> pa.Schema:
    document = {"kind": kind, **provenance}
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return SCHEMAS[kind].with_metadata({_METADATA_KEY: text.encode()})


def _to_batch(schema: pa.Schema, rows: Sequence[Mapping[str, Any]]) -> pa.RecordBatch:
    columns = [pa.array([row.get(field.name) for row in rows], type=field.type) for field in schema]
    for field, column in zip(schema, columns, strict=True):
        if not field.nullable and column.null_count:
            raise ValueError(f"column {field.name!r} must not hold nulls, got {column.null_count}")
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _write_file(path: Path, schema: pa.Schema, table: pa.Table) -> None:
    """Write an IPC file next to `path` and move it into place in one step.

    Batches have a fixed number of rows, whatever the number of appends was: the file must not remember interruptions,
    and the lists of one batch must not outgrow their 32-bit offsets.
    """
    unfinished = path.with_name(path.name + ".writing")
    with pa.OSFile(str(unfinished), "wb") as sink, pa.ipc.new_file(sink, schema, options=_OPTIONS) as writer:
        for first in range(0, table.num_rows, _ROWS_PER_BATCH):
            for batch in table.slice(first, _ROWS_PER_BATCH).combine_chunks().to_batches():
                writer.write_batch(batch)
    unfinished.replace(path)


def write_table(
    path: str | Path, kind: str, columns: Mapping[str, Any] | pa.Table, *, provenance: Mapping[str, Any]
) -> None:
    """Write a whole table at once, atomically.

    Args:
        path: Target file.
        kind: A key of `SCHEMAS`.
        columns: Column name -> sequence, or an Arrow table; missing nullable columns become null.
        provenance: JSON-able facts for the metadata: config slice, code digest, seed, device...

    Raises:
        ValueError: If a required column is missing or holds nulls.
    """
    schema = _full_schema(kind, provenance)
    if not isinstance(columns, pa.Table):
        length = len(next(iter(columns.values())))
        missing = [field.name for field in schema if not field.nullable and field.name not in columns]
        if missing:
            raise ValueError(f"table {kind!r} must hold the columns {missing}")
        arrays = [
            pa.array(columns[field.name], type=field.type, from_pandas=False)
            if field.name in columns
            else pa.nulls(length, field.type)
            for field in schema
        ]
        columns = pa.Table.from_arrays(arrays, schema=schema)
    table = columns.replace_schema_metadata(schema.metadata).cast(schema)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    _write_file(Path(path), schema, table)


class TableWriter:
    """Append rows to a table; what a kill leaves behind is taken up by the next writer.

    Rows go to `<path>.part`, an Arrow stream, one record batch per `append`. `finish` turns the stream into the
    final file in one atomic step. If a stream with the same provenance is found at the start, its whole record
    batches are kept and offered as `recovered`; anything else is dropped.

    Example:
        with TableWriter(path, "trace", provenance=facts) as writer:
            for row in rows_after(writer.recovered):
                writer.append([row])
            writer.finish()
    """

    def __init__(self, path: str | Path, kind: str, *, provenance: Mapping[str, Any]) -> None:
        self._path = Path(path)
        self._part = self._path.with_name(self._path.name + ".part")
        self._schema = _full_schema(kind, provenance)
        self._kind = kind
        self._path.parent.mkdir(parents=True, exist_ok=True)
        kept = _whole_batches(self._part, self._schema)
        self.recovered: pa.Table = pa.Table.from_batches(kept, schema=self._schema)
        rewritten = self._part.with_name(self._part.name + ".writing")
        self._sink = pa.OSFile(str(rewritten), "wb")
        self._stream = pa.ipc.new_stream(self._sink, self._schema, options=_OPTIONS)
        for batch in kept:
            self._stream.write_batch(batch)
        self._sink.flush()
        rewritten.replace(self._part)

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Append rows as one record batch and hand it to the operating system."""
        if rows:
            self._stream.write_batch(_to_batch(self._schema, rows))
            self._sink.flush()

    def finish(self, facts: Mapping[str, Any] | None = None) -> None:
        """Close the stream and put the final file in place; `facts` found on the way join the metadata."""
        self.close()
        batches = _whole_batches(self._part, self._schema)
        schema = self._schema
        if facts:
            known = json.loads(schema.metadata[_METADATA_KEY])
            schema = _full_schema(self._kind, {**known, **facts})
        table = pa.Table.from_batches(batches, schema=self._schema)
        _write_file(self._path, schema, table.replace_schema_metadata(schema.metadata))
        self._part.unlink()

    def close(self) -> None:
        """Close the stream, keeping what was appended for a later writer."""
        if not self._sink.closed:
            self._stream.close()
            self._sink.close()

    def discard(self) -> None:
        """Close the stream and remove it: its rows are not to be taken up."""
        self.close()
        self._part.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _whole_batches(path: Path, schema: pa.Schema) -> list[pa.RecordBatch]:
    """Return the record batches of a stream up to the first torn one; none if it belongs to other facts."""
    batches: list[pa.RecordBatch] = []
    if not path.exists():
        return batches
    try:
        with pa.OSFile(str(path), "rb") as source, pa.ipc.open_stream(source) as reader:
            if not reader.schema.equals(schema, check_metadata=True):
                return []
            for batch in reader:
                batch.validate(full=True)
                batches.append(batch)
    except (pa.ArrowInvalid, OSError):
        pass  # a torn tail: everything before it is whole
    return batches


def read_table(path: str | Path, kind: str, *, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a table memory-mapped and check it against its schema.

    Args:
        path: File written by `write_table` or `TableWriter`.
        kind: The expected key of `SCHEMAS`.
        columns: Columns to return; all if None.

    Raises:
        SgdlineError: If the file is missing, damaged, of another kind, or lacks a column; the message names file,
            column and the rule to run again.
    """
    path = Path(path)
    again = f"Run the rule {RULES[kind]} again (delete the file and start snakemake)"
    if not path.exists():
        raise SgdlineError(f"Table {path} must exist, found nothing. {again}.")
    try:
        with pa.memory_map(str(path), "r") as source:
            schema = pa.ipc.open_file(source).schema
            _check_schema(schema, kind, path=path, again=again)
            wanted = None if columns is None else [schema.get_field_index(name) for name in columns]
            # Only the wanted columns are decompressed: a column of sample losses can be larger than the memory.
            table = pa.ipc.open_file(source, options=pa.ipc.IpcReadOptions(included_fields=wanted)).read_all()
            table.validate()
    except (pa.ArrowInvalid, pa.ArrowTypeError, OSError) as error:
        raise SgdlineError(f"Table {path} must be a whole Arrow file, got a damaged one ({error}). {again}.") from error
    return table if columns is None else table.select(list(columns))


def _check_schema(schema: pa.Schema, kind: str, *, path: Path, again: str) -> None:
    found = provenance(schema).get("kind")
    if found != kind:
        raise SgdlineError(f"Table {path} must be of kind {kind!r}, got {found!r}. {again}.")
    for field in SCHEMAS[kind]:
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


def concatenate(paths: Sequence[str | Path], kind: str, target: str | Path, *, facts: Mapping[str, Any]) -> None:
    """Join tables of one kind, in the given order, into `target`.

    Args:
        paths: At least one table.
        kind: Their kind.
        target: File to write.
        facts: Entries that replace those of the first table's provenance.
    """
    tables = [read_table(path, kind) for path in paths]
    document = {**provenance(tables[0]), **facts}
    joined = pa.concat_tables([table.replace_schema_metadata(None) for table in tables])
    write_table(target, kind, joined, provenance=document)
