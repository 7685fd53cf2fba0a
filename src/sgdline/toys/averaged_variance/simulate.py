"""Stationary variances of SGD's iterates and of their averages on the quadratic model: predicted and simulated."""

from __future__ import annotations

from typing import Any

import numpy as np

from sgdline.quadratic_model import equivalent_relative_lr
from sgdline.toys import _chains
from sgdline.toys.averaged_variance.options import AveragedVarianceOptions


def simulate(options: AveragedVarianceOptions) -> dict[str, list[Any]]:
    """Predict and simulate every average at every relative learning rate.

    Args:
        options: Of the toy.

    Returns:
        dict: Columns of the table `averaged_variance`, the rows of one learning rate after those of the other.

    Source: papers.md 3.2, F2 to F6 and the numeric check.
    """
    averages, rates = _chains.averages_of(options), [float(rate) for rate in options.relative_lr]
    found = _chains.simulate_averages(
        rates, averages, chains=options.chains, snapshots=options.snapshots, seed=options.seed
    )
    predicted = np.array([average.variance(np.array(rates)) for average in averages])
    columns = _chains.names(averages, rates)
    return columns | {
        "predicted": predicted.T.ravel().tolist(),
        "simulated": found.variances.T.ravel().tolist(),
        "standard_error": found.standard_errors.T.ravel().tolist(),
        "equivalent_lr": equivalent_relative_lr(predicted, 1.0).T.ravel().tolist(),
    }
