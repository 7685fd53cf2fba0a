"""Arrow tables: what their kinds are, and how they are written and read."""

from sgdline.tables.content import Columns, Facts, Json, Row
from sgdline.tables.kind import Kind, kind_names, kind_of
from sgdline.tables.store import (
    TableWriter,
    concatenate,
    iterate_table,
    kind_at,
    provenance,
    read_provenance,
    read_table,
    write_table,
)

__all__ = [
    "Columns",
    "Facts",
    "Json",
    "Kind",
    "Row",
    "TableWriter",
    "concatenate",
    "iterate_table",
    "kind_at",
    "kind_names",
    "kind_of",
    "provenance",
    "read_provenance",
    "read_table",
    "write_table",
]
