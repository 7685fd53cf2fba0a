"""One row per measured update: how far a run and its twins are from where it was at update t0, and where to."""

import pyarrow as pa

from sgdline.probes.columns import STEP, probe_table
from sgdline.tables.kind import F64_LIST, required

STATIONARITY = probe_table(
    "stationarity",
    STEP,
    pa.field("epoch", pa.float64()),  # null at the run's end, which has no update, as lr
    pa.field("lr", pa.float64()),
    required("updates", pa.int64()),  # t - t0
    required("squared_distance", pa.float64()),  # ||theta_t - theta_t0||^2, squared length
    # v_i . (theta_t - theta_t0), v_i the eigenvectors of the full-batch Hessian at t0; null without them
    pa.field("projections", F64_LIST),
    # Twins that share the run's state at t0. One sees other batches from there on,
    pa.field("twin_squared_distance", pa.float64()),  # from the run; null once the twin diverged
    pa.field("twin_projections", F64_LIST),  # of its distance from the run
    # the other leaves with it and sees the run's batches again from the metadata's `rejoins_at` on.
    pa.field("rejoined_squared_distance", pa.float64()),  # null before it rejoins
    pa.field("rejoined_projections", F64_LIST),
    # At t0 only, null elsewhere:
    pa.field("eigenvalues", F64_LIST),  # the k algebraically largest, descending, nats per squared length
    pa.field("residuals", F64_LIST),  # ||H v - lambda v||, in the unit of the eigenvalues
    pa.field("train_loss", pa.float64()),  # over the measuring set, nats
    pa.field("products", pa.int32()),  # Hessian-vector products that they took
    required("status", pa.string()),  # ok | not_converged (eigenvalues) | non_finite (no eigenvalues)
)
