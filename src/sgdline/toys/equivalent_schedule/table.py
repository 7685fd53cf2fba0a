"""One row per relative learning rate, average and update: the schedule whose last iterate is the average (F7)."""

import pyarrow as pa

from sgdline.tables.kind import Kind, required

EQUIVALENT_SCHEDULE = Kind(
    "equivalent_schedule",
    rule="simulate_toy",
    schema=pa.schema(
        [
            required("relative_lr", pa.float64()),  # constant step a = lr*h of the run that is averaged
            required("average", pa.string()),  # ema | two_point | swa
            pa.field("decay", pa.float64()),  # of the EMA
            pa.field("count", pa.int64()),  # iterates in the mean: 2 for two points
            pa.field("spacing", pa.int64()),  # updates between two of them
            required("update", pa.int64()),  # t, from 0
            required("remaining", pa.int64()),  # updates after this one
            # ok | outside (not in [0, 2]: an iterate's weight is negative) | none (no schedule gives the average)
            required("status", pa.string()),
            pa.field("step", pa.float64()),  # a_t = W_t/S_t of this finite run
            pa.field("closed_form", pa.float64()),  # after a long history; null for a SWA of spacing above 1
            pa.field("constant_iterate", pa.float64()),  # theta_{t+1} - c* of the first chain, sigma = 1
            pa.field("schedule_iterate", pa.float64()),  # the same batches with the schedule
            # Of the whole run, the same in all of its rows.
            required("average_value", pa.float64()),  # of the first chain
            pa.field("difference", pa.float64()),  # largest |last iterate of the schedule - average| of all chains
        ]
    ),
)
