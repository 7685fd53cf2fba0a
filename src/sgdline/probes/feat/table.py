"""One row per measured update and layer: how sparse the layer's outputs are. BatchNorm with its running statistics."""

import pyarrow as pa

from sgdline.probes.columns import ITERATE, probe_table
from sgdline.tables.kind import required

FEAT = probe_table(
    "feat",
    *ITERATE,
    required("layer", pa.string()),  # name of the module
    required("units", pa.int64()),  # of the layer
    required("measured_units", pa.int64()),  # of them, the same ones at every update
    pa.field("sparsity", pa.float64()),  # share of active entries, duplicate units removed (S-M6); 0 to 1
    pa.field("sparsity_with_duplicates", pa.float64()),  # the same without removal
    pa.field("active_units", pa.float64()),  # share of measured units that are active on some sample
    pa.field("effective_rank", pa.float64()),  # entropy of the singular values, nats (S-M7)
    pa.field("rank", pa.int64()),  # of (samples, measured units), singular values above the tolerance
    pa.field("pattern_distance", pa.float64()),  # share of entries active now or at the run's start, not both
    required("status", pa.string()),  # ok | non_finite
)
