"""One row per epoch with a measured update: its intervals of status ok together. Standard deviations divide by n.

Null where no interval has the quantity.
"""

import pyarrow as pa

from sgdline.tables.kind import Kind, required

INTERVAL_EPOCHS = Kind(
    "interval_epochs",
    rule="analyse_run",
    schema=pa.schema(
        [
            required("epoch", pa.int64()),  # from 1
            required("intervals", pa.int64()),  # of status ok; all columns but the last one are over these
            required("left_out", pa.int64()),  # measured intervals of another status
            pa.field("share_interior", pa.float64()),  # of the intervals, 0 to 1
            required("barriers", pa.int64()),
            pa.field("barrier_height_mean", pa.float64()),  # over the barriers, nats
            pa.field("barrier_height_max", pa.float64()),
            pa.field("start_loss_mean", pa.float64()),  # nats
            pa.field("height_mean", pa.float64()),  # H (W-M6), nats
            pa.field("height_std", pa.float64()),
            pa.field("height_variance", pa.float64()),  # nats^2
            pa.field("start_height_mean", pa.float64()),  # H' (W-M6), nats
            pa.field("start_height_std", pa.float64()),
            pa.field("start_height_variance", pa.float64()),
            pa.field("gradient_cosine_mean", pa.float64()),
            pa.field("gradient_cosine_std", pa.float64()),
            pa.field("gradient_cosine_variance", pa.float64()),
            pa.field("gradient_cosine_min", pa.float64()),
            pa.field("distance_from_start", pa.float64()),  # at the last update of the epoch, measured or not
        ]
    ),
)
