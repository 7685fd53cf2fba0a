"""Diagonal linear networks trained with small, large and decayed steps: losses, rank and support along many chains."""

from __future__ import annotations

from typing import Any

import numpy as np

from sgdline.toys import _diagonal
from sgdline.toys._diagonal import FloatArray
from sgdline.toys.diagonal_networks.options import DiagonalNetworksOptions

_TOLERANCES = (_diagonal.RANK_TOLERANCE, _diagonal.COARSE)


def simulate(options: DiagonalNetworksOptions) -> dict[str, list[Any]]:
    """Run all chains of all settings at once and evaluate them.

    Args:
        options: Of the toy.

    Returns:
        dict: Columns of the table `diagonal_networks`, by setting, chain and iteration.

    Source: papers.md 4.1 (S-M1, S-M2, S-M4, S-M5) and 4.2.
    """
    problem = _diagonal.Problem.draw(options)
    chosen = [_diagonal.Setting.of(descent) for descent in options.settings]
    chains = _diagonal.chains_of(chosen, index_seeds=options.index_seeds, perturbed=options.perturbed_starts)
    updates = options.updates
    stops = _diagonal.evaluation_iterations(updates, options.evaluations)
    # First 2d test inputs: as many as there are parameters.
    features = _diagonal.FeatureRank(problem.test_inputs[: 2 * options.dimensions])
    found: list[dict[str, list[Any]]] = []
    states = _diagonal.descend(
        problem, chosen, chains, start=options.start, perturbation=options.perturbation, updates=updates,
        stops=stops,
    )  # fmt: skip
    for state in states:
        found.append(_measure(problem, features, state.u, state.v))
    columns = _diagonal.names(chosen, chains, stops, updates=updates)
    columns["status"] = ["ok" if losses is not None else "diverged" for losses in _by_chain(found, "train_loss")]
    return columns | {name: _by_chain(found, name) for name in found[0]}


def _by_chain(found: list[dict[str, list[Any]]], name: str) -> list[Any]:
    """Return a measure in the order of the table: all iterations of one chain after those of the other."""
    return [value for of_chain in zip(*(stop[name] for stop in found), strict=True) for value in of_chain]


def _measure(
    problem: _diagonal.Problem, features: _diagonal.FeatureRank, u: FloatArray, v: FloatArray
) -> dict[str, list[Any]]:
    """Return one value per chain and measure, None for chains that have diverged."""
    with np.errstate(over="ignore", invalid="ignore"):
        products = u * v
        sizes = np.abs(products)
        train = _diagonal.half_mse(products, problem.inputs, problem.targets)
        numbers = {
            "train_loss": train,
            "test_loss": _diagonal.half_mse(products, problem.test_inputs, problem.test_targets),
            "norm": np.sqrt((u**2).sum(axis=1) + (v**2).sum(axis=1)),
            "imbalance": np.sqrt(np.square(np.abs(u) - np.abs(v)).sum(axis=1)),
            "product_l1": sizes.sum(axis=1),
        }
        counts = {
            "support": (sizes > _diagonal.SUPPORT_THRESHOLD).sum(axis=1),
            "coarse_support": (sizes > _diagonal.COARSE * sizes.max(axis=1, keepdims=True)).sum(axis=1),
        }
    sound = np.all([np.isfinite(values) for values in numbers.values()], axis=0)
    ranks = [
        features.count(own_u, own_v, _TOLERANCES) if fine else [None, None]
        for own_u, own_v, fine in zip(u, v, sound, strict=True)
    ]
    found: dict[str, list[Any]] = {
        name: [value if fine else None for value, fine in zip(values.tolist(), sound, strict=True)]
        for name, values in {**numbers, **counts}.items()
    }
    return found | {"rank": [rank[0] for rank in ranks], "coarse_rank": [rank[1] for rank in ranks]}
