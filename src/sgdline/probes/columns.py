"""Columns that many tables of probes have."""

import pyarrow as pa

from sgdline.tables.kind import Kind, required

STEP = required("step", pa.int64())  # t, updates done: theta_t is measured
EPOCH = required("epoch", pa.float64())  # epochs done
LR = required("lr", pa.float64())  # lr_t

ITERATE = (STEP, EPOCH)
UPDATE = (*ITERATE, LR)


def probe_table(name: str, *columns: pa.Field) -> Kind:
    """Return the kind of table that a probe fills.

    Args:
        name: The probe's name.
        columns: Its columns; the first is `STEP`.
    """
    return Kind(name, rule="probe_segment", schema=pa.schema(columns))
