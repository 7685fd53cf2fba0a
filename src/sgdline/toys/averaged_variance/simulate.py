"""Stationary variances of SGD's iterates and of their averages on the quadratic model: predicted and simulated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sgdline.quadratic_model import equivalent_relative_lr
from sgdline.tables.kinds.averaged_variance import AVERAGED_VARIANCE
from sgdline.toys import _chains

TABLE = AVERAGED_VARIANCE


def simulate(settings: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Predict and simulate every average at every relative learning rate.

    Args:
        settings: `relative_lr`, `ema_decay`, `two_point_distance`, `swa_spacing` (lists), `swa_count`, `chains`,
            `snapshots`, `seed`.

    Returns:
        dict: Columns of the table `averaged_variance`, the rows of one learning rate after those of the other.

    Source: papers.md 3.2, F2 to F6 and the numeric check.
    """
    averages, rates = _chains.averages_of(settings), [float(rate) for rate in settings["relative_lr"]]
    found = _chains.simulate_averages(
        rates, averages, chains=settings["chains"], snapshots=settings["snapshots"], seed=settings["seed"]
    )
    predicted = np.array([average.variance(np.array(rates)) for average in averages])
    columns = _chains.names(averages, rates)
    return columns | {
        "predicted": predicted.T.ravel().tolist(),
        "simulated": found.variances.T.ravel().tolist(),
        "standard_error": found.standard_errors.T.ravel().tolist(),
        "equivalent_lr": equivalent_relative_lr(predicted, 1.0).T.ravel().tolist(),
    }
