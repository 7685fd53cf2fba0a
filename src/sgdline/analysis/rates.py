"""Which learning rate the lines of a run had."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from sgdline.analysis.columns import as_floats

# Rates this close to their median, relative to it, are one. That of an imported line is the quotient of two lengths,
# each rounded to single precision (6e-8); a schedule changes a rate by far more.
_SAME_RATE = 1e-5


def constant_rate(table: pa.Table) -> float | None:
    """Return the learning rate of a run if all of its rows have the same one: the median; None if they have not.

    A row without a direction or without a finite rate does not count. None without any row that does.

    Args:
        table: With the columns lr and direction_norm: kinds `line`, `line_metrics`, `trace`.
    """
    rates = as_floats(table, "lr")[as_floats(table, "direction_norm") != 0]
    rates = rates[np.isfinite(rates)]
    if not rates.size:
        return None
    rate = float(np.median(rates))
    return rate if (np.abs(rates - rate) <= _SAME_RATE * abs(rate)).all() else None
