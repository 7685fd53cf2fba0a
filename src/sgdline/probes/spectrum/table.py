"""One row per measured update: the largest eigenvalues of the full-batch Hessian, and the gradient noise along them."""

import pyarrow as pa

from sgdline.probes.columns import UPDATE, probe_table
from sgdline.tables.kind import F64_LIST, required

SPECTRUM = probe_table(
    "spectrum",
    *UPDATE,
    required("train_loss", pa.float64()),  # L(theta_t) over the measuring set, nats
    pa.field("eigenvalues", F64_LIST),  # the k algebraically largest, descending, nats per squared length
    pa.field("residuals", F64_LIST),  # ||H v - lambda v||, in the unit of the eigenvalues
    # Along each eigenvector v_i, over the mini-batches: mean and unbiased variance of v_i . g_B
    pa.field("gradient_means", F64_LIST),  # nats per length
    pa.field("gradient_variances", F64_LIST),  # nats squared per squared length
    # sigma_i^2 = variance / lambda_i^2 of the batches' minimisers, squared length; null where lambda_i <= 0
    pa.field("noise_variances", F64_LIST),
    pa.field("gradient_covariance_trace", pa.float64()),  # the same variance summed over all p directions
    pa.field("explained_share", pa.float64()),  # sum of gradient_variances over it, 0 to 1; null if it is 0
    pa.field("hessian_trace", pa.float64()),  # Hutchinson's estimate; null if it was not asked for
    pa.field("hessian_trace_error", pa.float64()),  # its standard error; null below two draws
    required("batches", pa.int32()),  # mini-batches that were seen
    required("products", pa.int32()),  # Hessian-vector products of the eigenvalues
    required("converged", pa.bool_()),  # every residual <= tolerance * largest absolute eigenvalue
    required("status", pa.string()),  # ok | not_converged | non_finite
)
