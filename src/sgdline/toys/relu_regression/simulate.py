"""A ReLU network with one hidden layer that fits twelve points on a line, with step sizes that are small or large."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sgdline.toys import _relu_nets
from sgdline.toys._relu_nets import FloatArray, Layer, Problem, Start
from sgdline.toys.relu_regression.options import ReluRegressionOptions
from sgdline.toys.relu_regression.table import RELU_REGRESSION

UNITS = 100  # of the hidden layer
PARAMETERS = 3 * UNITS
_GRID_POINTS = 281  # of a fitted function
_MARGIN = 0.2  # of the grid beyond the points, on both sides


def samples() -> tuple[FloatArray, FloatArray]:
    """Return the twelve points. Shape (12,) each.

    Source: papers.md 4.3.
    """
    places = np.arange(-5.5, 6.0) / 4.0 + 0.07
    return places, 0.345 + np.array([-2.0, 1.5, 0.0, 0.0, 2.0, 1.0, 0.0, -1.0, 0.0, 1.0, 2.0, -1.0])


def grid() -> FloatArray:
    """Return where the column `fitted` has its values."""
    places, _ = samples()
    return np.linspace(places.min() - _MARGIN, places.max() + _MARGIN, _GRID_POINTS)


def start_of(seed: int) -> Start:
    """Draw the first parameters of a seed.

    Weights of the hidden layer +-2.5, its biases 2.5 N(0, 1), output weights 4 N(0, 1), in this order and behind what
    the constructors of both layers draw.

    Source: papers.md 4.3.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    _relu_nets.linear_defaults(generator, 1, UNITS, bias=True)
    _relu_nets.linear_defaults(generator, UNITS, 1, bias=False)
    signs = 2.0 * torch.round(torch.rand(UNITS, 1, generator=generator)) - 1.0
    biases = 2.5 * torch.randn(UNITS, generator=generator)
    outputs = 4.0 * torch.randn(1, UNITS, generator=generator)
    return [((2.5 * signs).numpy(), biases.numpy()), (outputs.numpy(), None)]


def simulate(options: ReluRegressionOptions) -> dict[str, list[Any]]:
    """Train the network with every schedule and several starts.

    Args:
        options: Of the toy.

    Returns:
        dict: Columns of the table `relu_regression`.

    Source: papers.md 4.3, fig_1d_regression, fig_1d_overregularized and fig_1d_snapshots.
    """
    places, targets = samples()
    # ASSUME: one draw of these points for all chains and evaluations; the rank depends on them by some units.
    rank_inputs = np.random.default_rng(options.seed).uniform(places.min(), places.max(), (PARAMETERS, 1))
    iterations = _relu_nets.iterations_of(options.log10_iterations)
    last = len(_relu_nets.evaluated_iterations(iterations)) - 1
    on = grid()[:, None]

    def more(iteration: int, evaluation: int, layers: Sequence[Layer]) -> dict[str, list[Any]]:
        if evaluation != last and evaluation not in options.snapshots:
            return {}
        outputs = _relu_nets.forward(layers, on)[0]
        return {"fitted": [[_relu_nets.finite_or_none(value) for value in row] for row in outputs]}

    rows = _relu_nets.simulate_runs(
        Problem(inputs=places[:, None], targets=targets, rank_inputs=rank_inputs),
        options, runs=options.runs, seed=options.seed, iterations=iterations, start_of=start_of, more=more,
    )  # fmt: skip
    return {name: [row.get(name) for row in rows] for name in RELU_REGRESSION.schema.names}
