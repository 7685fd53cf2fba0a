"""One row per position of a run (step) and batch of its epoch: the line along the update that this batch would give."""

import pyarrow as pa

from sgdline.tables.kind import Kind, required
from sgdline.tables.kinds.line import LINE

_STEP, *_REST = LINE.schema

MLINE = Kind("mline", rule="probe_segment", schema=pa.schema([_STEP, required("direction", pa.int32()), *_REST]))
