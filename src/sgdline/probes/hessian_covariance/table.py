"""One row per measured update of a small network: its exact Hessian H, the covariance C of its samples' gradients."""

import pyarrow as pa

from sgdline.probes.columns import UPDATE, probe_table
from sgdline.tables.kind import F64_LIST, required

HESSIAN_COVARIANCE = probe_table(
    "hessian_covariance",
    *UPDATE,
    required("train_loss", pa.float64()),  # L(theta_t) over the measuring set, nats
    pa.field("gradient_norm", pa.float64()),  # ||gbar||, gbar the mean of the samples' gradients
    # W-M10: largest absolute entry of H - (C + gbar gbar^T - (1/N) sum_i Hess(p_i)/p_i)
    pa.field("identity_error", pa.float64()),
    pa.field("hessian_eigenvalues", F64_LIST),  # the largest, descending, nats per squared length
    pa.field("covariance_eigenvalues", F64_LIST),  # as many, squared nats per squared length
    pa.field("cosine", pa.float64()),  # |cos| of the two top eigenvectors; null where C is 0
    pa.field("subspace_overlap", pa.float64()),  # ||U_H^T U_C||_F^2 / k of the k top ones, 0 to 1
    required("status", pa.string()),  # ok | non_finite
)
