"""One row per line (M1-M5, M10, consecutive M11). Null where the quantity does not exist."""

import pyarrow as pa

from sgdline.tables.kind import Kind, required

LINE_METRICS = Kind(
    "line_metrics",
    rule="analyse_run",
    schema=pa.schema(
        [
            required("step", pa.int64()),
            required("epoch", pa.float64()),
            required("lr", pa.float64()),
            required("step_length", pa.float64()),
            required("direction_norm", pa.float64()),
            pa.field("loss_at_zero", pa.float64()),  # f(0)
            pa.field("minimum_position", pa.float64()),  # s_opt, grid arg-min of f (M1)
            pa.field("minimum_position_vertex", pa.float64()),  # s_opt, vertex through its neighbours (M1)
            pa.field("minimum_loss", pa.float64()),
            pa.field("direction_batch_minimum_position", pa.float64()),  # s_dir (M2)
            pa.field("direction_batch_minimum_loss", pa.float64()),
            pa.field("train_slope", pa.float64()),  # D_f from the curve (M3)
            pa.field("train_curvature", pa.float64()),
            required("direction_batch_slope", pa.float64()),  # exact D_b
            pa.field("direction_batch_slope_curve", pa.float64()),  # D_b from the curve (M3)
            pa.field("direction_batch_curvature", pa.float64()),
            pa.field("line_search_ratio", pa.float64()),  # s_opt (vertex) / ||m_t|| (M10)
            pa.field("consecutive_distance", pa.float64()),  # MAE to the next measured line (M11)
            required("status", pa.string()),  # ok | edge | non_finite | zero_direction
        ]
    ),
)
