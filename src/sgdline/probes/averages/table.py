"""One row per evaluation and average of iterates; the iterate itself is the first of them, treated the same way."""

import pyarrow as pa

from sgdline.probes.columns import EPOCH, STEP, probe_table
from sgdline.tables.kind import required

AVERAGES = probe_table(
    "averages",
    STEP,  # t, updates done: theta_t is the iterate
    EPOCH,
    required("average", pa.string()),  # iterate | ema | swa | two_point
    pa.field("parameter", pa.float64()),  # decay of ema, count of swa, distance of two_point; null: iterate
    pa.field("spacing", pa.int64()),  # updates between two iterates of swa; null for the others
    required("train_loss", pa.float64()),  # nats; eval mode, BatchNorm's statistics re-estimated
    required("train_accuracy", pa.float64()),  # share of samples, 0 to 1
    pa.field("validation_loss", pa.float64()),
    pa.field("validation_accuracy", pa.float64()),
    pa.field("test_loss", pa.float64()),
    pa.field("test_accuracy", pa.float64()),
    required("distance_from_iterate", pa.float64()),  # norm(average - theta_t), Euclidean length
    required("status", pa.string()),  # ok | non_finite
)
