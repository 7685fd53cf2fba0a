"""One row per evaluated update: the network as a user would use it. BatchNorm with its running statistics."""

import pyarrow as pa

from sgdline.probes.columns import ITERATE, probe_table
from sgdline.tables.kind import required

EVALUATION = probe_table(
    "evaluation",
    *ITERATE,
    required("train_loss", pa.float64()),
    required("train_accuracy", pa.float64()),  # share of samples, 0 to 1
    pa.field("validation_loss", pa.float64()),
    pa.field("validation_accuracy", pa.float64()),
    pa.field("test_loss", pa.float64()),
    pa.field("test_accuracy", pa.float64()),
)
