"""One row per measured line. Positions are Euclidean lengths, ascending, 0 is always among them."""

from dataclasses import replace

import pyarrow as pa

from sgdline.probes.columns import UPDATE, probe_table
from sgdline.tables.kind import F32_LIST, F64_LIST, required

LINE = probe_table(
    "line",
    *UPDATE,
    required("direction_norm", pa.float64()),  # ||m_t||
    required("step_length", pa.float64()),  # s_sgd = lr*||m_t||
    required("direction_batch_slope", pa.float64()),  # exact d_t . g_t at s = 0
    required("panel_edges", F64_LIST),  # Chebyshev panels; empty: piecewise linear between positions
    required("positions", F64_LIST),  # (P,)
    required("train_loss", F64_LIST),  # (P,) mean over the measuring set
    pa.field("direction_batch_loss", F64_LIST),  # (P,) mean over B_t; null where the batch's line was not measured
    pa.field("validation_loss", F64_LIST),  # (P,)
    required("chunk_loss", F32_LIST),  # (P*C,) node-major, mean over each measuring chunk
    pa.field("sample_loss", F32_LIST),  # (P*N,) node-major, on request
    pa.field("direction_batch_sample_loss", F32_LIST),  # (P*B,) node-major, on request
    pa.field("direction_batch_rows", pa.list_(pa.int64())),  # (B,) rows of B_t in the training set, on request
    required("step_train_loss", pa.float64()),  # measured at s_sgd itself
    required("step_direction_batch_loss", pa.float64()),  # measured at s_sgd itself
    pa.field("interpolation_error", pa.float64()),  # nats, full-batch curve; null for a grid
    pa.field("direction_batch_interpolation_error", pa.float64()),
    required("evaluations", pa.int32()),  # full-batch evaluations, the one at s_sgd included
    required("rings", pa.int32()),
    pa.field("window", pa.float64()),  # half-width of the line's own parabola; null: that of the analysis
    pa.field("rounding_error", pa.float64()),  # of the plan, nats per max(1, loss); null: the metadata have the plan
    required("status", pa.string()),  # ok | edge | unresolved | non_finite (full-batch curve) | zero_direction
)
# The same table where it may come from anywhere: of a log, imported, of the workflow.
LINES_OF_A_FILE = replace(LINE, rule="")
