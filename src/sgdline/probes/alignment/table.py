"""One row per measured update and fixed batch: how its gradient turns, and what it has in common with others."""

import pyarrow as pa

from sgdline.probes.columns import UPDATE, probe_table
from sgdline.tables.kind import F64_LIST, required

ALIGNMENT = probe_table(
    "alignment",
    *UPDATE,
    required("batch", pa.int32()),  # number of the fixed batch B, from 0
    # cos(g_B(theta_t), g_B(theta_{t-lag})) for each of the metadata's lags; null where there is none
    required("lag_cosines", F64_LIST),
    pa.field("other_batches_cosine", pa.float64()),  # mean over the other batches B' of cos(g_B, g_B')
    pa.field("full_cosine", pa.float64()),  # cos(g_B, grad L)
    required("gradient_norm", pa.float64()),  # ||g_B(theta_t)||, nats per length
    required("full_gradient_norm", pa.float64()),  # ||grad L(theta_t)||
    required("status", pa.string()),  # ok | zero_gradient | non_finite
)
