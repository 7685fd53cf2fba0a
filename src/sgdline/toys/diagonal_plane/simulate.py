"""Diagonal linear networks on a plane through start, sparse solution and gradient flow's end: losses and descents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sgdline.runtime import inner_progress
from sgdline.toys import _diagonal
from sgdline.toys._diagonal import FloatArray
from sgdline.toys.diagonal_plane.options import DiagonalPlaneOptions
from sgdline.toys.diagonal_plane.table import DIAGONAL_PLANE

_FEW_BYTES = 1 << 24  # of residuals at once


@dataclass(frozen=True)
class Plane:
    """A plane in the space of (u, v) through the start."""

    origin: FloatArray  # (2d,)
    first: FloatArray  # (2d,), unit vector towards the sparse solution
    second: FloatArray  # (2d,), unit vector at right angles to it; with it reaches the end of gradient flow

    def coordinates(self, points: FloatArray) -> FloatArray:
        """Return both coordinates and the distance from the plane of every point. Shape (P, 2d) to (3, P)."""
        offsets = points - self.origin
        first, second = offsets @ self.first, offsets @ self.second
        beside = offsets - first[:, None] * self.first - second[:, None] * self.second
        return np.array([first, second, np.linalg.norm(beside, axis=1)])

    def points(self, first: FloatArray, second: FloatArray) -> FloatArray:
        """Return the points with these coordinates. Shapes (P,) to (P, 2d)."""
        found: FloatArray = self.origin + first[:, None] * self.first + second[:, None] * self.second
        return found


def plane_through(start: FloatArray, solution: FloatArray, end: FloatArray) -> Plane:
    """Return the plane through three points (u, v) of shape (2d,).

    Source: papers.md 4.2.
    """
    first = solution - start
    first = first / np.linalg.norm(first)
    second = end - start
    second = second - (second @ first) * first
    return Plane(start, first, second / np.linalg.norm(second))


def mirrored(points: FloatArray) -> FloatArray:
    """Multiply every pair (u_j, v_j) with u_j + v_j < 0 by -1: u*v stays, and so does every loss. Shape (P, 2d)."""
    half = points.shape[1] // 2
    signs = np.where(points[:, :half] + points[:, half:] < 0.0, -1.0, 1.0)
    found: FloatArray = points * np.hstack([signs, signs])
    return found


def plane_axes(options: DiagonalPlaneOptions) -> tuple[FloatArray, FloatArray]:
    """Return the coordinates of the surface's points along both directions."""
    (low, high), (bottom, top) = options.first_range, options.second_range
    count = options.resolution
    return np.linspace(low, high, count), np.linspace(bottom, top, count)


def kept_updates(updates: int, *, kept_first: int, kept_later: int) -> list[int]:
    """Return the numbers of updates after which a descent is kept: the first ones, then spaced in the logarithm."""
    later = np.unique(np.rint(np.geomspace(1, updates, kept_later))).astype(np.int64)
    return sorted({*range(min(kept_first, updates) + 1), *later.tolist(), updates})


def simulate(options: DiagonalPlaneOptions) -> dict[str, list[Any]]:
    """Descend with every setting and measure the losses on the plane.

    Args:
        options: Of the toy.

    Returns:
        dict: Columns of the table `diagonal_plane`. Setting 0 is the flow; the config's follow.

    Source: papers.md 4.2, sparse/fig_diag_2d_train. Coordinates are of u and v with their signs (papers.md P11); those
    of the mirror image, which has no negative u_j + v_j, stand beside them.
    """
    problem = _diagonal.Problem.draw(options)
    flow = _diagonal.Setting("gd", options.flow_lr, None, 1.0)
    chosen = [flow, *(_diagonal.Setting.of(descent) for descent in options.settings)]
    chains = _diagonal.chains_of(chosen, index_seeds=options.index_seeds, perturbed=options.perturbed_starts)
    chains = [chain for chain in chains if chain.setting > 0 or chain.number == 0]
    updates = options.updates
    kept = kept_updates(updates, kept_first=options.kept_first, kept_later=options.kept_later)
    states = _diagonal.descend(
        problem, chosen, chains, start=options.start, perturbation=options.perturbation, updates=updates,
        stops=kept,
    )  # fmt: skip
    paths = np.array([np.hstack([state.u, state.v]) for state in states])  # (kept, chains, 2d)
    root = np.sqrt(problem.solution)
    solution = np.hstack([root, root])
    if not np.isfinite(paths[-1, 0]).all():
        raise ValueError(f"flow_lr must leave gradient descent finite, got {options.flow_lr:g}. Lower it.")
    plane = plane_through(paths[0, 0], solution, paths[-1, 0])

    axes = plane_axes(options)
    first, second = (grid.ravel() for grid in np.meshgrid(*axes))
    rows = [
        _row(problem, plane, "surface", plane.points(first, second), [0] * len(first)),
        _row(problem, plane, "solution", solution[None, :], [0]),
    ]
    for place, chain in enumerate(chains):
        path, setting = paths[:, place], chosen[chain.setting]
        with np.errstate(over="ignore", invalid="ignore"):
            losses = _diagonal.half_mse(path[:, : root.size] * path[:, root.size :], problem.inputs, problem.targets)
        sound = int(np.argmin(np.append(np.isfinite(losses), False)))  # points before the first one that is not finite
        rows.append(
            _row(problem, plane, "descent", path[:sound], kept[:sound])
            | {
                "setting": chain.setting,
                "method": setting.method,
                "lr": setting.lr,
                "decay_at": setting.decay_at,
                "decay_factor": setting.decay_factor,
                "chain": chain.number,
                "index_seed": chain.index_seed,
                "status": "ok" if sound == len(kept) else "diverged",
            }
        )
    return {name: [row.get(name) for row in rows] for name in DIAGONAL_PLANE.schema.names}


def _row(
    problem: _diagonal.Problem, plane: Plane, part: str, points: FloatArray, updates: Sequence[int]
) -> dict[str, Any]:
    first, second, distance = plane.coordinates(points)
    mirror = plane.coordinates(mirrored(points))
    half = points.shape[1] // 2
    train, test = [], []
    portion = max(_FEW_BYTES // (8 * len(problem.test_targets)), 1)
    starts = range(0, len(points), portion)
    for begin in inner_progress(starts, total=len(starts), label="portions of the plane"):
        products = points[begin : begin + portion, :half] * points[begin : begin + portion, half:]
        train.append(_diagonal.half_mse(products, problem.inputs, problem.targets))
        test.append(_diagonal.half_mse(products, problem.test_inputs, problem.test_targets))
    return {
        "part": part,
        "status": "ok",
        "updates": list(updates),
        "first_coordinate": first,
        "second_coordinate": second,
        "distance": distance,
        "mirrored_first_coordinate": mirror[0],
        "mirrored_second_coordinate": mirror[1],
        "mirrored_distance": mirror[2],
        "train_loss": np.concatenate([np.empty(0), *train]),
        "test_loss": np.concatenate([np.empty(0), *test]),
    }
