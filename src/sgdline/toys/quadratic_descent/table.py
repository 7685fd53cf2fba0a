"""One row per learning rate and step of gradient descent on a 2-D quadratic. Null: beyond the range of float64."""

import pyarrow as pa

from sgdline.tables.kind import Kind, required

QUADRATIC_DESCENT = Kind(
    "quadratic_descent",
    rule="simulate_toy",
    schema=pa.schema(
        [
            required("relative_lr", pa.float64()),  # lr * lambda_max
            required("lr", pa.float64()),
            required("status", pa.string()),  # over_damped | critical | under_damped | edge | diverging
            required("step", pa.int64()),  # t, from 0 to the number of steps
            pa.field("first_coordinate", pa.float64()),  # of theta_t, along the eigenvector of eigenvalues[0]
            pa.field("second_coordinate", pa.float64()),
            pa.field("loss", pa.float64()),  # L(theta_t)
            pa.field("gradient_cosine", pa.float64()),  # cos(g_{t-1}, g_t) (W-M3); null at step 0 and at gradients of 0
            # The interval from theta_t to theta_{t+1}; null at the last step.
            pa.field("floor_position", pa.float64()),  # alpha in [0, 1] of its lowest point; null where g_t = 0
            pa.field("floor_loss", pa.float64()),  # min over alpha of L (W-M2)
            pa.field("height", pa.float64()),  # H_t = (L_t + L_{t+1}) / 2 - floor (W-M6)
            pa.field("height_of_start", pa.float64()),  # H'_t = L_t - floor (W-M6)
        ]
    ),
)
