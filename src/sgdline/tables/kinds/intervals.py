"""One row per measured update t (W-M1, W-M2, W-M5, W-M6), with what the trace says of it. Losses in nats.

Null where the quantity does not exist: everything between start_loss and start_height, both excluded, unless the status
is ok; barrier_height where there is no barrier.
"""

import pyarrow as pa

from sgdline.tables.kind import F64_LIST, Kind, required

INTERVALS = Kind(
    "intervals",
    rule="analyse_run",
    schema=pa.schema(
        [
            required("step", pa.int64()),
            required("epoch", pa.float64()),
            required("lr", pa.float64()),
            required("step_length", pa.float64()),
            required("alphas", F64_LIST),  # (A,) from 0 to 1, both included
            required("train_loss", F64_LIST),  # (A,) NaN where it was not measured or is not finite
            pa.field("start_loss", pa.float64()),  # L(theta_t)
            pa.field("end_loss", pa.float64()),  # L(theta_{t+1})
            pa.field("floor_loss", pa.float64()),  # least loss at the alphas (W-M2)
            pa.field("floor_alpha", pa.float64()),
            pa.field("interior_minimum", pa.bool_()),  # below both ends
            pa.field("barrier", pa.bool_()),  # W-M5
            pa.field("barrier_height", pa.float64()),  # above the higher end
            pa.field("barrier_tolerance", pa.float64()),  # what a barrier has to exceed
            pa.field("height", pa.float64()),  # H_t (W-M6)
            pa.field("start_height", pa.float64()),  # H'_t (W-M6)
            pa.field("gradient_cosine", pa.float64()),  # W-M3, from the trace
            pa.field("distance_from_start", pa.float64()),  # W-M4 at theta_t, from the trace
            pa.field("parameter_norm", pa.float64()),  # from the trace
            required("status", pa.string()),  # ok | unresolved | out_of_range | non_finite | zero_direction
        ]
    ),
)
