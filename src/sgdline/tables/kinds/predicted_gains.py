"""One row per evaluated average of iterates: its gain over the iterate, measured and predicted from the spectrum.

A gain is L(theta_t) - L(average), nats: positive where the average is better.
"""

import pyarrow as pa

from sgdline.tables.kind import Kind, required

PREDICTED_GAINS = Kind(
    "predicted_gains",
    rule="analyse_run",
    schema=pa.schema(
        [
            required("step", pa.int64()),  # t, updates done
            required("average", pa.string()),  # ema | swa | two_point
            required("parameter", pa.float64()),  # decay of ema, count of swa, distance of two_point
            pa.field("spacing", pa.int64()),  # updates between two iterates of swa; null for the others
            pa.field("measured_gain", pa.float64()),  # null where a loss is not finite
            # 1/2 sum_i lambda_i (V_i - Var_avg,i) over the directions that count; null where none does
            pa.field("stationary_gain", pa.float64()),  # stationary, batches with replacement (F2 to F5, F10)
            pa.field("epochwise_gain", pa.float64()),  # from the run's start at the minimum, each sample once an epoch
            pa.field("iterate_excess", pa.float64()),  # 1/2 sum_i lambda_i V_i, stationary: the most that can be gained
            pa.field("spectrum_step", pa.int64()),  # update of the spectrum: the nearest that was measured
            pa.field("directions", pa.int32()),  # that count: lambda > 0 and a stationary state at the run's lr
            pa.field("left_out", pa.int32()),  # measured directions that do not
            pa.field("smallest_scale", pa.float64()),  # a*N/B of the flattest direction that counts
            required("status", pa.string()),  # ok | no_spectrum | no_direction | non_finite
        ]
    ),
)
