"""One row per position of a run, batch size and fresh batch: its own gradient g_B."""

import pyarrow as pa

from sgdline.probes.columns import STEP, probe_table
from sgdline.tables.kind import required

OWN_DIRECTION = probe_table(
    "own_direction",
    STEP,
    required("batch_size", pa.int32()),
    required("draw", pa.int32()),
    required("gradient_norm", pa.float64()),  # ||g_B||
    required("full_gradient_norm", pa.float64()),  # ||g||, g = grad L over the measuring chunks
    pa.field("cosine", pa.float64()),  # cos(g_B, g)
    required("status", pa.string()),  # ok | non_finite
)
