"""Diagonal linear networks: the valley below the iterates, their averages, and how sharp the loss is there."""

from __future__ import annotations

from typing import Any

import numpy as np

from sgdline.runtime import inner_progress
from sgdline.toys import _diagonal
from sgdline.toys._diagonal import FloatArray
from sgdline.toys.diagonal_extras.options import DiagonalExtrasOptions


def simulate(options: DiagonalExtrasOptions) -> dict[str, list[Any]]:
    """Run all chains of all settings at once and look around at some iterations.

    Args:
        options: Of the toy.

    Returns:
        dict: Columns of the table `diagonal_extras`, by setting, chain and iteration.

    Source: sparse/ext_diag_extras, papers.md 4.2.
    """
    problem = _diagonal.Problem.draw(options)
    chosen = [_diagonal.Setting.of(descent) for descent in options.settings]
    chains = _diagonal.chains_of(chosen, index_seeds=options.index_seeds, perturbed=options.perturbed_starts)
    updates = options.updates
    stops = np.unique(np.round(np.linspace(0, updates, options.evaluations)))[:-1].astype(np.int64).tolist()
    states = _diagonal.descend(
        problem, chosen, chains, start=options.start, perturbation=options.perturbation, updates=updates,
        stops=stops, average_decay=options.average_decay,
    )  # fmt: skip
    found = []
    for state in states:
        projected = project(problem, state.u, state.v, lr=options.projection_lr, steps=options.projection_steps)
        found.append(_measure(problem, state, projected))
    measured = {name: np.array([stop[name] for stop in found]).T.ravel() for name in found[0]}
    columns = _diagonal.names(chosen, chains, stops, updates=updates)
    for name in ("rho", "weight_decay", "balancedness"):
        columns[name] = [getattr(chosen[place], name) for place in columns["setting"]]
    columns["status"] = ["ok" if fine else "diverged" for fine in np.isfinite(measured["train_loss"])]
    return columns | {
        name: [value if np.isfinite(value) else None for value in values.tolist()] for name, values in measured.items()
    }


def project(
    problem: _diagonal.Problem, u: FloatArray, v: FloatArray, *, lr: float, steps: int
) -> tuple[FloatArray, FloatArray]:
    """Return where gradient descent comes to from every chain.

    Args:
        problem: Data.
        u: Shape (chains, d).
        v: As u.
        lr: Its step.
        steps: Number of them.
    """
    u, v = u.copy(), v.copy()
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in inner_progress(range(steps), total=steps, label="steps"):
            residuals = _diagonal.applied(problem.inputs, u * v) - problem.targets
            weighted = _diagonal.applied(problem.inputs.T, residuals) / len(problem.targets)
            step_u = lr * (weighted * v)
            v -= lr * (weighted * u)
            u -= step_u
    return u, v


def _measure(
    problem: _diagonal.Problem, state: _diagonal.State, projected: tuple[FloatArray, FloatArray]
) -> dict[str, FloatArray]:
    """Return one value per chain and measure, NaN or infinite where there is none."""
    u, v = state.u, state.v
    assert state.average_u is not None
    assert state.average_v is not None
    with np.errstate(over="ignore", invalid="ignore"):
        points = {"": u * v, "projected_": projected[0] * projected[1], "averaged_": state.average_u * state.average_v}
        found = {}
        for name, products in points.items():
            found[f"{name}train_loss"] = _diagonal.half_mse(products, problem.inputs, problem.targets)
            found[f"{name}test_loss"] = _diagonal.half_mse(products, problem.test_inputs, problem.test_targets)
        errors = _diagonal.applied(problem.inputs, u * v) - problem.targets
        found["sample_gradient_square"] = (errors**2 * _diagonal.applied(problem.inputs**2, u**2 + v**2)).mean(axis=1)
    ranges = np.full((2, len(u)), np.nan)
    for row in np.flatnonzero(np.isfinite(found["train_loss"])):
        ranges[:, row] = _diagonal.hessian_range(problem, u[row], v[row])
    found["smallest_eigenvalue"], found["largest_eigenvalue"] = ranges
    return found
