"""One row per measured iterate and fixed batch: its loss there and on the way from the one before (C-M3), nats."""

import pyarrow as pa

from sgdline.probes.columns import EPOCH, STEP, probe_table
from sgdline.tables.kind import F64_LIST, required

FIXED_BATCHES = probe_table(
    "fixed_batches",
    STEP,  # the last one: number of updates, at the run's last parameters
    EPOCH,
    required("batch", pa.int32()),  # number of the fixed batch
    required("loss", pa.float64()),  # L_B(theta_t)
    required("train_loss", pa.float64()),  # L(theta_t) over the training set
    pa.field("from_step", pa.int64()),  # the iterate measured before; null at the first one, as all below
    pa.field("alphas", F64_LIST),  # (A,) from 0 at that one to 1 here, both included
    pa.field("segment_loss", F64_LIST),  # (A,) L_B on the straight segment between the two
    # largest excess over the chord / range of the segment; null where that is 0 or not finite
    pa.field("convexity_gap", pa.float64()),
    required("status", pa.string()),  # ok | non_finite
)
