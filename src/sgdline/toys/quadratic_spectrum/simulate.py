"""SGD on the quadratic model with many eigenvalues: transient, stationary state, shell and pairs of runs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sgdline import quadratic_model as model
from sgdline.runtime import inner_progress
from sgdline.toys.quadratic_spectrum.options import QuadraticSpectrumOptions
from sgdline.toys.quadratic_spectrum.table import QUADRATIC_SPECTRUM

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class _State:
    """All chains after one update, relative to c*."""

    iterates: FloatArray  # (chains, D)
    emas: FloatArray  # (chains, D)
    twins: FloatArray  # (chains, D), the same batches from another start


def simulate(options: QuadraticSpectrumOptions) -> dict[str, list[Any]]:
    """Run many chains from one point and compare them with the model at every recorded update.

    Args:
        options: Of the toy.

    Returns:
        dict: Columns of the table `quadratic_spectrum`.

    Source: papers.md 3.2, F1 to F3, F5, F11, F12, F13.
    """
    eigenvalues = np.geomspace(options.largest_eigenvalue, options.smallest_eigenvalue, options.directions)
    noise = 1.0 / eigenvalues if options.noise == "hessian" else np.ones_like(eigenvalues)
    a = options.lr * eigenvalues
    stationary = model.stationary_variance(a, noise)
    start = options.start * np.sqrt(stationary)
    decay, distance, updates = options.ema_decay, options.two_point_distance, options.updates
    recorded = _spread(updates, options.points)
    chains = _run(
        a, noise, start, decay=decay, seed=options.seed, chains=options.chains,
        kept={*recorded, *(update - distance for update in recorded if update >= distance)},
    )  # fmt: skip

    rows: list[dict[str, Any]] = []

    def add(
        quantity: str, update: int, values: FloatArray, predicted: float | FloatArray, limit: float | None, **more: Any
    ) -> None:
        rows.append(
            {name: None for name in QUADRATIC_SPECTRUM.schema.names}
            | {
                "quantity": quantity,
                "update": update,
                "predicted": float(predicted),
                "stationary": limit,
                "simulated": float(values.mean()),
                "deviation": float(values.std(ddof=1)),
                "standard_error": float(values.std(ddof=1) / math.sqrt(len(values))),
            }
            | more
        )

    limits = {
        "iterate": stationary,
        "ema": model.ema_variance(a, noise, decay=decay),
        "two_point": model.two_point_variance(a, noise, distance=distance),
    }
    paired = options.chains // 2 * 2  # an odd chain is no pair
    moments = _Moments(a, noise, start, decay=decay, updates=updates)
    for update in recorded:
        state = chains[update]
        points = {"iterate": state.iterates, "ema": state.emas}
        expected = {"iterate": moments.iterate(update), "ema": moments.ema(update)}
        if update >= distance:
            points["two_point"] = (state.iterates + chains[update - distance].iterates) / 2.0
            expected["two_point"] = moments.two_point(update, distance)
        mean, variance = expected["iterate"]
        add(
            "loss", update, 0.5 * state.iterates**2 @ eigenvalues, model.excess_loss(eigenvalues, mean**2 + variance),
            float(model.excess_loss(eigenvalues, stationary)),
        )  # fmt: skip
        for name, values in points.items():
            mean, variance = expected[name]
            radius, deviation = _shell(mean, variance, stationary)
            limit = float(model.shell_radius(limits[name], stationary)[0])
            shell = (values**2 / stationary).sum(axis=1)
            add(f"shell_{name}", update, shell, radius, limit, predicted_deviation=deviation)
        apart = ((state.iterates - state.twins) ** 2).sum(axis=1)
        add("same_batches", update, apart, model.same_batches_distance(a, start, updates=update).sum(), 0.0)
        apart = ((state.iterates[:paired:2] - state.iterates[1:paired:2]) ** 2).sum(axis=1)
        between = model.different_batches_distance(a, noise, updates=update).sum()
        add("different_batches", update, apart, between, float(2.0 * stationary.sum()))
        apart = ((state.emas[:paired:2] - state.emas[1:paired:2]) ** 2).sum(axis=1)
        between = 2.0 * expected["ema"][1].sum()
        add("different_batches_ema", update, apart, between, float(2.0 * limits["ema"].sum()))
        if update == recorded[-1]:
            for name, values in points.items():
                for place, eigenvalue in enumerate(eigenvalues):
                    mean, variance = expected[name]
                    centred = (values[:, place] - mean[place]) ** 2
                    add(
                        f"variance_{name}", update, centred, variance[place], float(limits[name][place]),
                        eigenvalue=float(eigenvalue), relative_lr=float(a[place]),
                    )  # fmt: skip
    return {name: [row[name] for row in rows] for name in QUADRATIC_SPECTRUM.schema.names}


def _run(
    relative_lr: FloatArray,
    noise_variance: FloatArray,
    start: FloatArray,
    *,
    decay: float,
    chains: int,
    seed: int,
    kept: set[int],
) -> dict[int, _State]:
    """Run all chains from one start, and beside each one its twin from c*; keep the states after some updates."""
    generator = np.random.default_rng(seed)
    iterates = np.tile(start, (chains, 1))
    emas, twins = iterates.copy(), np.zeros_like(iterates)
    noise = np.empty_like(iterates)
    factor, scale = 1.0 - relative_lr, relative_lr * np.sqrt(noise_variance)
    found = {}
    for update in inner_progress(range(max(kept) + 1), total=max(kept) + 1, label="updates"):
        if update in kept:
            found[update] = _State(iterates.copy(), emas.copy(), twins.copy())
        generator.standard_normal(out=noise)
        noise *= scale
        for positions in (iterates, twins):
            positions *= factor
            positions += noise
        emas *= decay
        emas += (1.0 - decay) * iterates
    return found


class _Moments:
    """Means and variances of iterates and averages at every update, from one start without a variance."""

    def __init__(
        self, relative_lr: FloatArray, noise_variance: FloatArray, start: FloatArray, *, decay: float, updates: int
    ) -> None:
        self._a, self._noise, self._start, self._decay = relative_lr, noise_variance, start, decay
        kept = 1.0 - relative_lr
        # y_t = b y_{t-1} + (1 - b) x_t: how y_t depends on the start, and on the minimiser n updates before.
        of_start, response = np.ones_like(relative_lr), np.zeros_like(relative_lr)
        iterate, memory = np.ones_like(relative_lr), np.ones_like(relative_lr)
        means, responses = [of_start], [response]
        for _ in range(updates):
            iterate = kept * iterate
            of_start = decay * of_start + (1.0 - decay) * iterate
            response = decay * response + (1.0 - decay) * memory
            memory = kept * memory
            means.append(of_start)
            responses.append(response)
        self._ema_means = np.array(means) * start
        self._ema_variances = relative_lr**2 * noise_variance * np.cumsum(np.array(responses) ** 2, axis=0)

    def iterate(self, update: int) -> tuple[FloatArray, FloatArray]:
        return (
            model.transient_mean(self._a, self._start, updates=update),
            model.transient_variance(self._a, self._noise, updates=update),
        )

    def ema(self, update: int) -> tuple[FloatArray, FloatArray]:
        return self._ema_means[update], self._ema_variances[update]

    def two_point(self, update: int, distance: int) -> tuple[FloatArray, FloatArray]:
        (mean, variance), (old_mean, old_variance) = self.iterate(update), self.iterate(update - distance)
        covariance = model.autocorrelation(self._a, lag=distance) * old_variance
        return (mean + old_mean) / 2.0, (variance + old_variance + 2.0 * covariance) / 4.0


def _shell(mean: FloatArray, variance: FloatArray, stationary: FloatArray) -> tuple[float, float]:
    """Return mean and standard deviation of y^T diag(V)^{-1} y for Gaussian y whose mean is not 0."""
    radius, deviation = model.shell_radius(variance, stationary)
    more = 4.0 * (variance * mean**2 / stationary**2).sum()
    return float(radius + (mean**2 / stationary).sum()), float(np.sqrt(deviation**2 + more))


def _spread(updates: int, points: int) -> list[int]:
    """Return updates from 0 to the last one, evenly in the logarithm of update + 1 as far as whole numbers allow."""
    places: IntArray = np.unique(np.rint(np.geomspace(1, updates + 1, points)).astype(np.int64)) - 1
    found: list[int] = places.tolist()
    return found
