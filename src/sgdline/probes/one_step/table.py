"""One row per measured position and fixed batch: losses after one step along its gradient (C-M1). Losses in nats.

A loss that is not finite, as after a huge step, stands in the lists as it is.
"""

import pyarrow as pa

from sgdline.probes.columns import EPOCH, LR, STEP, probe_table
from sgdline.tables.kind import F64_LIST, required

ONE_STEP = probe_table(
    "one_step",
    STEP,  # the last one: number of updates, at the run's last parameters
    EPOCH,
    LR,  # lr_t; at the last parameters that of the last update
    required("batch", pa.int32()),  # number of the fixed batch
    required("gradient_norm", pa.float64()),  # ||g_B||
    required("step_sizes", F64_LIST),  # (E,) eta of theta - eta*g_B: 0, then a log grid, ascending
    required("own_loss", F64_LIST),  # (E,) phi_B: L_B of the batch itself
    required("other_loss", F64_LIST),  # (E,) psi_B: mean over batches that share no image with it
    pa.field("validation_loss", F64_LIST),  # (E,) of the validation set; null if it is not measured
    pa.field("quadratic_step_sizes", F64_LIST),  # (Q,) evenly from 0 to twice the arg-min of own_loss
    pa.field("quadratic_own_loss", F64_LIST),  # (Q,) phi_B there; both null unless the status is ok
    required("train_loss", pa.float64()),  # L(theta) over the training set
    required("status", pa.string()),  # ok | flat (no step size lowers own_loss) | non_finite
)
