"""Stationary variances with heavy-ball momentum on the quadratic model: predicted and simulated."""

from __future__ import annotations

from typing import Any

import numpy as np

from sgdline.seeds import derive_seed
from sgdline.toys import _chains
from sgdline.toys.momentum_variance.options import MomentumVarianceOptions
from sgdline.toys.momentum_variance.table import MOMENTUM_VARIANCE


def simulate(options: MomentumVarianceOptions) -> dict[str, list[Any]]:
    """Predict and simulate every average at every momentum and relative learning rate.

    Args:
        options: Of the toy.

    Returns:
        dict: Columns of the table `momentum_variance`, by momentum, learning rate and average.

    Source: papers.md 3.2, F10.
    """
    averages, rates = _chains.averages_of(options), [float(rate) for rate in options.relative_lr]
    columns: dict[str, list[Any]] = {name: [] for name in MOMENTUM_VARIANCE.schema.names}
    for place, momentum in enumerate(float(momentum) for momentum in options.momentum):
        found = _chains.simulate_averages(
            rates, averages, chains=options.chains, snapshots=options.snapshots, momentum=momentum,
            seed=derive_seed(options.seed, "momentum_variance", place),
        )  # fmt: skip
        predicted = np.array([average.variance(np.array(rates), momentum=momentum) for average in averages])
        without = np.array([average.variance(np.array(rates) / (1.0 - momentum)) for average in averages])
        block = _chains.names(averages, rates) | {
            "momentum": [momentum] * predicted.size,
            "predicted": predicted.T.ravel().tolist(),
            "simulated": found.variances.T.ravel().tolist(),
            "standard_error": found.standard_errors.T.ravel().tolist(),
            "without_momentum": [float(value) if np.isfinite(value) else None for value in without.T.ravel()],
        }
        for name, values in block.items():
            columns[name] += values
    return columns
