"""Diagonal linear networks: data, descent of many chains at once and measures; shared by the toys of them.

The network is h(x) = <u*v, x>, its loss ||X(u*v) - y||^2 / (2n).

Source: papers.md 4.1 and 4.2.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from sgdline.runtime import inner_progress
from sgdline.toys.base import Descent, DiagonalOptions, ExtraDescent

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

RANK_TOLERANCE = 1e-15  # S-M4; at the noise of float64
SUPPORT_THRESHOLD = 1e-50  # S-M5
COARSE = 1e-6  # the second tolerance of both, relative to the largest (papers.md P10)

_FIRST_EVALUATIONS = 100  # updates 0 to 99 are all evaluated
_NEGLIGIBLE = 1e-22  # of the largest column: far below what moves a singular value at RANK_TOLERANCE
_CLEAR = 10.0  # how far a bound on singular values has to be above a tolerance to stand for them


@dataclass(frozen=True)
class Problem:
    """Data of a sparse linear regression."""

    inputs: FloatArray  # (n, d)
    targets: FloatArray  # (n,)
    test_inputs: FloatArray  # (m, d)
    test_targets: FloatArray  # (m,)
    solution: FloatArray  # beta, (d,): not negative, of length 1

    @classmethod
    def draw(cls, options: DiagonalOptions) -> Self:
        """Draw the published data.

        Source: papers.md 4.2: numpy's legacy generator, in this order.
        """
        dimensions = options.dimensions
        generator = np.random.RandomState(options.data_seed)
        mean, covariance = np.zeros(dimensions), np.eye(dimensions)
        inputs = generator.multivariate_normal(mean, covariance, options.samples)
        test_inputs = generator.multivariate_normal(mean, covariance, options.test_samples)
        solution = generator.standard_normal(dimensions)
        solution[options.nonzero :] = 0.0
        solution = np.abs(solution) / np.linalg.norm(solution)
        return cls(inputs, inputs @ solution, test_inputs, test_inputs @ solution, solution)


@dataclass(frozen=True)
class Setting:
    """How a chain descends: a constant step, or one that is divided once."""

    method: str  # sgd | gd | normalised_gd | n_sam | one_sam
    lr: float
    decay_at: float | None  # f: the step is divided after the update of iteration floor(f*T); None: never
    decay_factor: float
    rho: float = 0.0  # how far n_sam and one_sam ascend, in gradients
    weight_decay: float = 0.0  # share of u and v that every update takes away, whatever its step
    balancedness: float = 0.0  # share that it takes from the larger one of u_j and v_j and adds to the smaller one

    @classmethod
    def of(cls, descent: Descent | ExtraDescent) -> Self:
        """Return the setting that a toy's options describe; what they leave null is off."""
        entries = {field.name: getattr(descent, field.name) for field in fields(descent)}
        return cls(**{name: entry for name, entry in entries.items() if entry is not None or name == "decay_at"})

    def decay_iteration(self, updates: int) -> int | None:
        """Return the last iteration with the large step, floor(f*T); None where the step is constant."""
        return None if self.decay_at is None else math.floor(self.decay_at * updates + 1e-9)  # 0.29 * 100 is 29

    def lr_of(self, iteration: int, *, updates: int) -> float:
        """Return the step of an update."""
        decay = self.decay_iteration(updates)
        return self.lr if decay is None or iteration <= decay else self.lr / self.decay_factor


@dataclass(frozen=True)
class Chain:
    """One run of a setting."""

    setting: int  # its place in the list of settings
    number: int  # within the setting; 0: the published one
    index_seed: int | None  # of the samples' indices; None for gradient descent
    perturbation_seed: int | None  # of the change of the start; None: the start as it is


@dataclass(frozen=True)
class State:
    """All chains before the update of one iteration."""

    iteration: int
    u: FloatArray  # (chains, d)
    v: FloatArray  # (chains, d)
    average_u: FloatArray | None = None  # exponential averages of both
    average_v: FloatArray | None = None


def chains_of(settings: Sequence[Setting], *, index_seeds: Sequence[int], perturbed: int) -> list[Chain]:
    """Return the chains of all settings: one per index seed, then some of the first seed whose start is perturbed.

    Gradient descent draws no indices: it has one chain, and those with a perturbed start.

    Args:
        settings: In order.
        index_seeds: The first one is that of the published runs.
        perturbed: Chains with a perturbed start, per setting.
    """
    chains = []
    for place, setting in enumerate(settings):
        seeds: Sequence[int | None] = index_seeds if setting.method == "sgd" else [None]
        starts: list[tuple[int | None, int | None]] = [(seed, None) for seed in seeds]
        starts += [(seeds[0], number) for number in range(1, perturbed + 1)]
        chains += [Chain(place, number, *start) for number, start in enumerate(starts)]
    return chains


def evaluation_iterations(updates: int, evaluations: int) -> list[int]:
    """Return the iterations that are evaluated, ascending: the first 100, then evenly spaced ones short of T.

    Args:
        updates: T.
        evaluations: Points of the even spacing from 0 to T.

    Source: papers.md 4.2.
    """
    spaced = np.unique(np.round(np.linspace(0, updates, evaluations)))[:-1].astype(np.int64)
    return sorted({*range(min(_FIRST_EVALUATIONS, updates)), *spaced.tolist()})


def draw_indices(seed: int, *, samples: int, updates: int) -> IntArray:
    """Return the sample of every update, uniform with replacement. Shape (updates,)."""
    # Drawn at once: the legacy generator gives the same numbers one by one.
    return np.random.RandomState(seed).randint(samples, size=updates, dtype=np.int64)


def descend(
    problem: Problem,
    settings: Sequence[Setting],
    chains: Sequence[Chain],
    *,
    start: float,
    perturbation: float,
    updates: int,
    stops: Sequence[int],
    average_decay: float | None = None,
) -> Iterator[State]:
    """Run all chains side by side and yield them before the updates of some iterations.

    SGD takes one sample i per update: e = <x_i, u*v> - y_i, u -= lr*(e*x_i*v), v -= lr*(e*x_i*u), both from the old
    values. Gradient descent takes the mean over all samples; normalised, the u-gradient and the v-gradient each over
    its norm; n-SAM the gradient at (u, v) + rho*gradient; 1-SAM the mean of the samples' gradients, each at (u, v) +
    rho*(its own gradient). No chain depends on those beside it, to the last bit. Chains that diverge become infinite
    and NaN, and stay so.

    Args:
        problem: Data.
        settings: What the chains refer to.
        chains: Runs.
        start: Entries of u; v starts at 0.
        perturbation: Standard deviation of the relative change of a perturbed start.
        updates: T, the number of updates.
        stops: Iterations to yield at, ascending, up to T: T is the state after the last update.
        average_decay: b of the averages b*average + (1 - b)*iterate after every update; None leaves them out.

    Yields:
        State, of arrays that the next update overwrites.

    Source: papers.md 4.2; the order of the products decides the digits of runs at the edge of stability.
    """
    u = np.array([_start(chain, start, perturbation, problem.inputs.shape[1]) for chain in chains])
    v = np.zeros_like(u)
    groups = [group for kind in _GROUPS if (group := kind(problem, settings, chains, updates)).size]
    # Chains of one method lie side by side, so that each group works on views.
    order = np.concatenate([group.members for group in groups])
    back = np.argsort(order)
    u, v = u[order], v[order]
    averages = (u.copy(), v.copy()) if average_decay is not None else None
    scratch = np.empty_like(u)
    views, first = [], 0
    for group in groups:
        views.append((group, u[first : first + group.size], v[first : first + group.size]))
        first += group.size
    wanted = set(stops)
    with np.errstate(over="ignore", invalid="ignore"):
        count = max(wanted, default=-1) + 1
        for iteration in inner_progress(range(count), total=count, label="iterations"):
            if iteration in wanted:
                kept = averages or (None, None)
                yield State(iteration, u[back], v[back], *(None if mean is None else mean[back] for mean in kept))
            if iteration >= updates:
                return
            for group, own_u, own_v in views:
                group.update(own_u, own_v, iteration)
            if averages is not None and average_decay is not None:
                for mean, now in zip(averages, (u, v), strict=True):
                    mean *= average_decay
                    np.multiply(now, 1.0 - average_decay, out=scratch)
                    mean += scratch


def _start(chain: Chain, start: float, perturbation: float, dimensions: int) -> FloatArray:
    if chain.perturbation_seed is None:
        return np.full(dimensions, start)
    change = np.random.default_rng(chain.perturbation_seed).standard_normal(dimensions)
    perturbed: FloatArray = start * (1.0 + perturbation * change)
    return perturbed


class _Group:
    """Chains of one method, and their steps."""

    method: str

    def __init__(self, problem: Problem, settings: Sequence[Setting], chains: Sequence[Chain], updates: int) -> None:
        places = [place for place, chain in enumerate(chains) if settings[chain.setting].method == self.method]
        self.members: IntArray = np.array(places, dtype=np.int64)
        self.size = len(places)
        self.problem = problem
        own = [settings[chains[place].setting] for place in places]
        self.lr, self.rho, self._weight_decay, self._balancedness = (
            np.array([[getattr(setting, name)] for setting in own])
            for name in ("lr", "rho", "weight_decay", "balancedness")
        )
        self._shrinks = bool(self._weight_decay.any() or self._balancedness.any())
        self._decays: dict[int, list[int]] = {}
        for row, setting in enumerate(own):
            decay = setting.decay_iteration(updates)
            if decay is not None:
                self._decays.setdefault(decay, []).append(row)
        self._later = np.array([[setting.lr / setting.decay_factor] for setting in own])
        shape = (self.size, problem.inputs.shape[1])
        self.product, self.weighted, self.step_u, self.step_v = (np.empty(shape) for _ in range(4))

    def update(self, u: FloatArray, v: FloatArray, iteration: int) -> None:
        self.differentiate(u, v, iteration)
        self.step_u *= self.lr
        self.step_v *= self.lr
        if self._shrinks:
            # papers.md P16: v is compared with the old u.
            larger = np.sign(np.abs(u) - np.abs(v))
            self.step_u += (self._weight_decay + self._balancedness * larger) * u
            self.step_v += (self._weight_decay - self._balancedness * larger) * v
        u -= self.step_u
        v -= self.step_v
        rows = self._decays.get(iteration)
        if rows is not None:
            self.lr[rows] = self._later[rows]

    def differentiate(self, u: FloatArray, v: FloatArray, iteration: int) -> None:
        """Put the gradient that the method descends along into `step_u` and `step_v`."""
        raise NotImplementedError


class _Samples(_Group):
    """SGD, one sample an update."""

    method = "sgd"

    def __init__(self, problem: Problem, settings: Sequence[Setting], chains: Sequence[Chain], updates: int) -> None:
        super().__init__(problem, settings, chains, updates)
        samples = len(problem.targets)
        seeds = [chains[place].index_seed for place in self.members]
        drawn = {seed: draw_indices(seed, samples=samples, updates=updates) for seed in seeds if seed is not None}
        self._indices = np.empty((updates, self.size), dtype=np.int64)
        for row, seed in enumerate(seeds):
            assert seed is not None
            self._indices[:, row] = drawn[seed]

    def differentiate(self, u: FloatArray, v: FloatArray, iteration: int) -> None:
        own = self._indices[iteration]
        np.take(self.problem.inputs, own, axis=0, out=self.weighted, mode="clip")  # without a copy in between
        np.multiply(u, v, out=self.product)
        error = np.einsum("cd,cd->c", self.weighted, self.product)
        error -= self.problem.targets[own]
        self.weighted *= error[:, None]
        np.multiply(self.weighted, v, out=self.step_u)
        np.multiply(self.weighted, u, out=self.step_v)


class _Whole(_Group):
    """Gradient descent on all samples."""

    method = "gd"

    def differentiate(self, u: FloatArray, v: FloatArray, iteration: int) -> None:
        np.multiply(u, v, out=self.product)
        residuals = applied(self.problem.inputs, self.product)
        residuals -= self.problem.targets
        np.matmul(self.problem.inputs.T, residuals[..., None], out=self.weighted[..., None])
        np.multiply(self.weighted, v, out=self.step_u)
        np.multiply(self.weighted, u, out=self.step_v)
        self.step_u /= len(self.problem.targets)
        self.step_v /= len(self.problem.targets)


class _Normalised(_Whole):
    """Gradient descent with steps of a fixed length in u and in v."""

    method = "normalised_gd"

    def differentiate(self, u: FloatArray, v: FloatArray, iteration: int) -> None:
        super().differentiate(u, v, iteration)
        norms = [np.sqrt((step**2).sum(axis=1, keepdims=True)) for step in (self.step_u, self.step_v)]
        divisible = (norms[0] > 0.0) & (norms[1] > 0.0)
        for step, norm in zip((self.step_u, self.step_v), norms, strict=True):
            step /= np.where(divisible, norm, 1.0)


class _AscendedWhole(_Whole):
    """Sharpness-aware minimisation on all samples at once."""

    method = "n_sam"

    def differentiate(self, u: FloatArray, v: FloatArray, iteration: int) -> None:
        super().differentiate(u, v, iteration)
        super().differentiate(u + self.rho * self.step_u, v + self.rho * self.step_v, iteration)


class _AscendedSamples(_Whole):
    """Sharpness-aware minimisation on every sample by itself."""

    method = "one_sam"

    def __init__(self, problem: Problem, settings: Sequence[Setting], chains: Sequence[Chain], updates: int) -> None:
        super().__init__(problem, settings, chains, updates)
        self._squares, self._cubes = problem.inputs**2, problem.inputs**3

    def differentiate(self, u: FloatArray, v: FloatArray, iteration: int) -> None:
        # With a_i = rho*e_i sample i ascends to u + a_i*x_i*v and v + a_i*x_i*u. Their product, u*v + a_i*x_i*(u^2 +
        # v^2) + a_i^2*x_i^2*u*v, gives its new error without an array of (samples, d) per chain.
        np.multiply(u, v, out=self.product)
        errors = applied(self.problem.inputs, self.product) - self.problem.targets
        ascents = self.rho * errors
        errors += ascents * applied(self._squares, u**2 + v**2) + ascents**2 * applied(self._cubes, self.product)
        weighted = applied(self.problem.inputs.T, errors) / len(self.problem.targets)
        across = applied(self._squares.T, ascents * errors) / len(self.problem.targets)
        np.add(weighted * v, across * u, out=self.step_u)
        np.add(weighted * u, across * v, out=self.step_v)


_GROUPS: tuple[type[_Group], ...] = (_Samples, _Whole, _Normalised, _AscendedWhole, _AscendedSamples)


def applied(inputs: FloatArray, products: FloatArray) -> FloatArray:
    """Return X(u*v) of every u*v. Shape (..., d) to (..., n).

    One matrix-vector product each: the digits of a matrix product would depend on how many there are.
    """
    found: FloatArray = np.matmul(inputs, products[..., None])[..., 0]
    return found


def half_mse(products: FloatArray, inputs: FloatArray, targets: FloatArray) -> FloatArray:
    """Return ||X(u*v) - y||^2 / (2n) of every u*v. Shape (..., d) to (...); S-M1."""
    with np.errstate(over="ignore", invalid="ignore"):
        residuals = applied(inputs, products) - targets
        found: FloatArray = np.square(residuals).sum(axis=-1) / (2 * len(targets))
    return found


class FeatureRank:
    """Rank of the feature matrix [X diag(v), X diag(u)] on fixed inputs (S-M4).

    With w_j = sqrt(u_j^2 + v_j^2), the matrix is X diag(w) times a matrix of orthonormal rows, and X = QR: its singular
    values are those of R diag(w), which is a fifth of the work or less.
    """

    def __init__(self, inputs: FloatArray) -> None:
        self._triangle: FloatArray = np.linalg.qr(inputs)[1]
        values = np.linalg.svd(inputs, compute_uv=False)
        full = inputs.shape[0] >= inputs.shape[1]
        self._spread = float(values[-1] / values[0]) if full else 0.0

    def count(self, u: FloatArray, v: FloatArray, tolerances: Sequence[float]) -> list[int]:
        """Return the number of singular values above each tolerance, relative to the largest.

        Args:
            u: Shape (d,), finite.
            v: As u.
            tolerances: Above _NEGLIGIBLE.
        """
        widths = np.hypot(u, v)
        widest = widths.max()
        if widest == 0.0:
            return [0] * len(tolerances)
        # sigma_min(X) min w <= sigma_j <= sigma_max(X) max w
        if self._spread * widths.min() > _CLEAR * max(tolerances) * widest:
            return [len(widths)] * len(tolerances)
        # Widest first: the decomposition of such a graded matrix keeps the digits of its small singular values.
        order = np.argsort(-widths, kind="stable")
        order = order[widths[order] > _NEGLIGIBLE * widest]
        values = np.linalg.svd(self._triangle[:, order] * (widths[order] / widest), compute_uv=False)
        return [int((values > tolerance * values[0]).sum()) for tolerance in tolerances]


def hessian_range(problem: Problem, u: FloatArray, v: FloatArray) -> tuple[float, float]:
    """Return the smallest and the largest eigenvalue of the training loss's Hessian with respect to (u, v).

    With A = X^T X/n and r = X^T (X(u*v) - y)/n its blocks are diag(v) A diag(v), diag(v) A diag(u) + diag(r) and
    diag(u) A diag(u).

    Args:
        problem: Data.
        u: Shape (d,), finite.
        v: As u.
    """
    covariance = problem.inputs.T @ problem.inputs / len(problem.targets)
    residual = problem.inputs.T @ (problem.inputs @ (u * v) - problem.targets) / len(problem.targets)
    # papers.md P16: rows belong to u here, columns to v; the release exchanges the two mixed blocks.
    mixed = v[:, None] * covariance * u + np.diag(residual)
    hessian = np.block([[v[:, None] * covariance * v, mixed], [mixed.T, u[:, None] * covariance * u]])
    eigenvalues = np.linalg.eigvalsh(hessian)
    return float(eigenvalues[0]), float(eigenvalues[-1])


def names(
    settings: Sequence[Setting], chains: Sequence[Chain], stops: Sequence[int], *, updates: int
) -> dict[str, list[Any]]:
    """Return the columns that say which row is what: all iterations of one chain after those of the other."""
    rows = [(chain, settings[chain.setting], iteration) for chain in chains for iteration in stops]
    return {
        "setting": [chain.setting for chain, _, _ in rows],
        "method": [setting.method for _, setting, _ in rows],
        "lr": [setting.lr for _, setting, _ in rows],
        "decay_at": [setting.decay_at for _, setting, _ in rows],
        "decay_factor": [setting.decay_factor for _, setting, _ in rows],
        "chain": [chain.number for chain, _, _ in rows],
        "index_seed": [chain.index_seed for chain, _, _ in rows],
        "perturbed": [chain.perturbation_seed is not None for chain, _, _ in rows],
        "iteration": [iteration for _, _, iteration in rows],
        "step": [setting.lr_of(iteration, updates=updates) for _, setting, iteration in rows],
    }
