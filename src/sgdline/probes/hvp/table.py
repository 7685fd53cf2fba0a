"""One row per measured update: both ends of the spectrum of the Hessian of the full-batch loss at theta_t."""

import pyarrow as pa

from sgdline.probes.columns import UPDATE, probe_table
from sgdline.tables.kind import required

HVP = probe_table(
    "hvp",
    *UPDATE,
    required("train_loss", pa.float64()),  # L(theta_t) over the measuring set, nats
    pa.field("largest_eigenvalue", pa.float64()),  # algebraically, nats per squared length
    pa.field("smallest_eigenvalue", pa.float64()),
    pa.field("spectral_norm", pa.float64()),  # max |lambda|
    pa.field("lr_times_largest", pa.float64()),  # lr_t * largest eigenvalue
    pa.field("largest_residual", pa.float64()),  # ||Hv - lambda v|| / |lambda|; null where lambda is 0
    pa.field("smallest_residual", pa.float64()),
    required("largest_converged", pa.bool_()),  # ||Hv - lambda v|| <= tolerance * spectral norm
    required("smallest_converged", pa.bool_()),
    required("converged", pa.bool_()),  # both of them
    required("products", pa.int32()),  # Hessian-vector products that the row took
    pa.field("validation_loss", pa.float64()),  # eval mode, running statistics; null without a validation set
    pa.field("validation_accuracy", pa.float64()),  # share of samples, 0 to 1
    required("status", pa.string()),  # ok | not_converged | non_finite
)
