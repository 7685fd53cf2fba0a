"""Columns between Arrow and numpy: null in a table is NaN in an array, and metadata is handed on."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sgdline import tables
from sgdline.tables import Facts

MEASURABLE = ("ok", "edge")  # status of a line that is resolved, finite and has a direction
_REPEATED = (
    "version", "seed", "device", "torch", "batch_norm", "samples", "positions", "dataset", "model", "imported",
    "imported_lr",
)  # fmt: skip


def as_floats(table: pa.Table, column: str) -> NDArray[np.float64]:
    """Return a numeric column as float64 with NaN in place of null. Shape (rows,)."""
    chunked = table.column(column).cast(pa.float64())
    return np.array(chunked.to_numpy(zero_copy_only=False), dtype=np.float64)


def measurable(table: pa.Table) -> NDArray[np.bool_]:
    """Return which lines of a table have a minimum that counts: those of status ok or edge. Shape (rows,)."""
    return np.array([status in MEASURABLE for status in table.column("status").to_pylist()], dtype=np.bool_)


def finite(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the finite ones of some values."""
    return values[np.isfinite(values)]


def median(values: NDArray[np.float64]) -> float:
    """Return the median of the finite values; NaN if there are none."""
    some = finite(values)
    return float(np.median(some)) if some.size else math.nan


def nullable(values: NDArray[np.float64]) -> pa.Array:
    """Return float64 values with null in place of everything that is not finite."""
    return pa.array(values, type=pa.float64(), mask=~np.isfinite(values))


def inherited_provenance(source: pa.Table, facts: Facts) -> dict[str, Any]:
    """Return the facts of an analysis with those of the table that it read under `source`.

    How the lines were measured is repeated above them, because figures name the BatchNorm mode, the data set and N from
    the table that they draw, whichever table that is.
    """
    measured = tables.provenance(source)
    repeated = {key: measured[key] for key in _REPEATED if key in measured}
    return {**repeated, **facts, "source": measured}
