"""One row per line and emulated batch (M13, M14): the samples of a selection, seen along the same line."""

import pyarrow as pa

from sgdline.tables.kind import Kind, required

LINE_BATCH_SIZES = Kind(
    "line_batch_sizes",
    rule="analyse_run",
    schema=pa.schema(
        [
            required("step", pa.int64()),
            required("selection", pa.string()),  # random | steepest | all
            required("batch_size", pa.int32()),
            required("draw", pa.int32()),
            pa.field("slope", pa.float64()),  # D_B, nats per length
            pa.field("curvature", pa.float64()),  # of the mean curve at 0
            pa.field("loss_at_zero", pa.float64()),
            pa.field("loss_variance", pa.float64()),  # over the samples at s = 0 (M14), nats^2
            pa.field("sgd_step_length", pa.float64()),  # -lr * D_B
            pa.field("sgd_improvement", pa.float64()),
            pa.field("sgd_distance", pa.float64()),  # s_opt - s, signed
            pa.field("pal_step_length", pa.float64()),  # M6
            pa.field("pal_improvement", pa.float64()),
            pa.field("pal_distance", pa.float64()),
            required("status", pa.string()),  # ok, or the line's own if not ok or edge
        ]
    ),
)
