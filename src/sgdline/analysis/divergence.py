"""Where a run was lost: one definition for claims and figures (no torch)."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from sgdline.analysis.columns import as_floats

_BLOWN_UP = 10.0  # times the first batch loss


def diverged_at(trace: pa.Table) -> int | None:
    """Return the update at which the run was lost, None if it was not.

    That is the first one with a value that is not finite. A network without BatchNorm can also end at a finite but
    useless loss: if the median batch loss of the last tenth of the updates is above 10 times the first one, the run was
    lost at its first update above it.

    Args:
        trace: Table of kind trace; columns step, batch_loss and status.
    """
    steps, losses = trace.column("step").to_pylist(), as_floats(trace, "batch_loss")
    lost = [status == "non_finite" for status in trace.column("status").to_pylist()]
    if not any(lost) and losses.size and np.median(losses[-max(1, losses.size // 10) :]) > _BLOWN_UP * losses[0]:
        lost = (losses > _BLOWN_UP * losses[0]).tolist()
    return next((step for step, gone in zip(steps, lost, strict=True) if gone), None)
