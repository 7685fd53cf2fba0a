"""One row per measured update: the Jacobian of the logit of each sample's class with respect to all parameters."""

import pyarrow as pa

from sgdline.probes.columns import ITERATE, probe_table
from sgdline.tables.kind import required

JAC = probe_table(
    "jac",
    *ITERATE,
    required("samples", pa.int64()),  # rows n of the Jacobian
    required("parameters", pa.int64()),  # columns p
    pa.field("rank", pa.int64()),  # #{sigma_j / sigma_1 > tolerance} (S-M4)
    pa.field("effective_rank", pa.float64()),  # entropy of the singular values, nats (S-M7)
    pa.field("largest_singular_value", pa.float64()),  # logit per length
    pa.field("frobenius_norm", pa.float64()),  # logit per length
    required("status", pa.string()),  # ok | non_finite
)
