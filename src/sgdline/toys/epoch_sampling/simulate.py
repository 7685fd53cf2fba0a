"""Stationary variances on the quadratic model with batches drawn with and without replacement."""

from __future__ import annotations

from typing import Any

import numpy as np

from sgdline.quadratic_model import epochwise_variance
from sgdline.seeds import derive_seed
from sgdline.toys import _chains
from sgdline.toys.epoch_sampling.options import EpochSamplingOptions
from sgdline.toys.epoch_sampling.table import EPOCH_SAMPLING


def simulate(options: EpochSamplingOptions) -> dict[str, list[Any]]:
    """Simulate every average at every relative learning rate with both ways of drawing batches.

    Args:
        options: Of the toy.

    Returns:
        dict: Columns of the table `epoch_sampling`, by way of drawing, learning rate and average.

    Source: papers.md 3.2, F2 to F5 and the caveat.
    """
    averages, rates = _chains.averages_of(options), [float(rate) for rate in options.relative_lr]
    per_epoch = options.batches_per_epoch
    predicted = np.array([average.variance(np.array(rates)) for average in averages])
    columns: dict[str, list[Any]] = {name: [] for name in EPOCH_SAMPLING.schema.names}
    for sampling, batches in (("with_replacement", None), ("without_replacement", per_epoch)):
        found = _chains.simulate_averages(
            rates, averages, chains=options.chains, snapshots=options.snapshots, batches_per_epoch=batches,
            seed=derive_seed(options.seed, sampling),
        )  # fmt: skip
        epochwise = np.full(predicted.shape, np.nan)
        if batches is not None:
            epochwise[0] = epochwise_variance(rates, 1.0, batches_per_epoch=batches)  # averages[0]: the iterate
        block = _chains.names(averages, rates) | {
            "lr_per_epoch": [rate * per_epoch for rate in rates for _ in averages],
            "sampling": [sampling] * predicted.size,
            "predicted": predicted.T.ravel().tolist(),
            "predicted_epochwise": [None if np.isnan(value) else float(value) for value in epochwise.T.ravel()],
            "simulated": found.variances.T.ravel().tolist(),
            "standard_error": found.standard_errors.T.ravel().tolist(),
        }
        for name, values in block.items():
            columns[name] += values
    return columns
