"""One row per position of a run (step) and batch of its epoch: the line along the update that this batch would give."""

import pyarrow as pa

from sgdline.probes.columns import probe_table
from sgdline.probes.line.table import LINE
from sgdline.tables.kind import required

_STEP, *_REST = LINE.schema

MLINE = probe_table("mline", _STEP, required("direction", pa.int32()), *_REST)
