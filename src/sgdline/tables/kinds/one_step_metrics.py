"""One row per row of kind one_step (C-M1, C-M2). Losses in nats; null where a number does not exist."""

import pyarrow as pa

from sgdline.tables.kind import F64_LIST, Kind, required

ONE_STEP_METRICS = Kind(
    "one_step_metrics",
    rule="analyse_run",
    schema=pa.schema(
        [
            required("step", pa.int64()),
            required("epoch", pa.float64()),
            required("lr", pa.float64()),
            required("batch", pa.int32()),
            pa.field("own_start_loss", pa.float64()),  # phi_B(0)
            # Smallest value on the grid, 0 included, its step size (the first one on ties), and whether the minimum
            # may lie elsewhere: at 0, or at an end of the logarithmic grid. The three are null without a finite loss.
            pa.field("own_min_loss", pa.float64()),
            pa.field("own_min_step_size", pa.float64()),
            pa.field("own_min_at_edge", pa.bool_()),
            pa.field("other_start_loss", pa.float64()),  # psi_B(0)
            pa.field("other_min_loss", pa.float64()),
            pa.field("other_min_step_size", pa.float64()),
            pa.field("other_min_at_edge", pa.bool_()),
            pa.field("validation_start_loss", pa.float64()),
            pa.field("validation_min_loss", pa.float64()),
            pa.field("validation_min_step_size", pa.float64()),
            pa.field("validation_min_at_edge", pa.bool_()),
            # own_min_step_size over that of the others and of the validation set; null if one of the two is at an edge
            pa.field("step_size_ratio", pa.float64()),
            pa.field("validation_step_size_ratio", pa.float64()),
            pa.field("predicted_ratio", pa.float64()),  # F8: (1/h)/(lr/2), with own_min_step_size as 1/h
            # Of the even grid from 0 to twice own_min_step_size; null unless the status is ok and all are finite.
            pa.field("coefficients", F64_LIST),  # (3,) of u^0, u^1, u^2 in the fit, u = eta / (2 own_min_step_size)
            pa.field("r_squared", pa.float64()),
            pa.field("largest_residual", pa.float64()),  # absolute, over own_start_loss - own_min_loss
            pa.field("convexity_rate", pa.float64()),
            required("train_loss", pa.float64()),  # L(theta)
            pa.field("end_train_loss", pa.float64()),  # of the trained network; null if the run did not get there
            required("status", pa.string()),  # that of the row of one_step
        ]
    ),
)
