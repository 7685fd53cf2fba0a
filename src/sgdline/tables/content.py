"""Types of what goes into tables: where JSON and Arrow begin, nothing narrower can be said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

Json: TypeAlias = "str | int | float | bool | Sequence[Json] | Mapping[str, Json] | None"
"""A value that JSON can hold."""

Facts: TypeAlias = Mapping[str, Json]
"""What the metadata of a table say of its making: labels, config slice, code digest, seed, device and so on."""

Columns: TypeAlias = Mapping[str, Any]
"""Columns of a table by name, of equal length: lists, numpy or Arrow arrays, of the types that its kind names."""

Row: TypeAlias = Mapping[str, Any]
"""A row of a table: column name -> value of the type that its kind names; lists may be numpy arrays."""
