"""What a kind of table is; each one is declared in a module of its own (`sgdline.table_modules`)."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module

import pyarrow as pa

from sgdline.table_modules import table_modules

F64_LIST = pa.list_(pa.float64())
F32_LIST = pa.list_(pa.float32())


@dataclass(frozen=True)
class Kind:
    """One kind of table."""

    name: str
    rule: str  # that writes it: named in error messages; empty: no workflow is known to
    schema: pa.Schema


def required(name: str, values: pa.DataType) -> pa.Field:
    """Return a column that holds no nulls."""
    return pa.field(name, values, nullable=False)


def kind_names() -> list[str]:
    """Return the names of all kinds of tables, sorted."""
    return list(table_modules())


def kind_of(name: str) -> Kind:
    """Return the kind of table of that name.

    The package itself imports the kinds that it uses, so that digests of code see them; a name is for kinds that are
    known at run time only, and for interactive use.

    Args:
        name: One of `kind_names()`.

    Raises:
        KeyError: If there is no such kind.
    """
    if name not in kind_names():
        raise KeyError(f"kind must be one of {', '.join(kind_names())}, got {name!r}")
    found: Kind = getattr(import_module(f"sgdline.{table_modules()[name]}"), name.upper())
    return found
