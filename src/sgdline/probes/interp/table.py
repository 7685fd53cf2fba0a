"""One row per measured update: the full-batch loss from theta_t to theta_{t+1} (W-M1). Losses in nats."""

import pyarrow as pa

from sgdline.probes.columns import UPDATE, probe_table
from sgdline.tables.kind import F64_LIST, required

INTERP = probe_table(
    "interp",
    *UPDATE,
    required("step_length", pa.float64()),  # ||theta_{t+1} - theta_t|| = lr*||m_t||
    required("alphas", F64_LIST),  # (A,) from 0 to 1, both included
    required("train_loss", F64_LIST),  # (A,) mean over the measuring set
    pa.field("train_accuracy", F64_LIST),  # (A,) share of its samples, 0 to 1; on request
    required("status", pa.string()),  # ok | non_finite | zero_direction (theta_{t+1} is theta_t)
)
