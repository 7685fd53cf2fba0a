"""Small ReLU networks trained one sample at a time, many of them at once; shared by the toys that have one.

Of C networks with layers of the same widths every one has weights, a learning rate and an order of samples of its own.
No number of a network depends on which others are trained beside it.

Source: papers.md 4.1 and 4.3.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from sgdline import sparsity
from sgdline.runtime import inner_progress
from sgdline.toys.base import StepSizes

if TYPE_CHECKING:
    import torch

FloatArray = npt.NDArray[Any]  # float32 while training, float64 while measuring
IntArray = npt.NDArray[np.int64]

FIRST_EVALUATIONS = 100  # iterations 0 to 99 are all evaluated
_EVALUATIONS = 151  # points of the grid over the run, both of its ends included

# Between the seeds of two chains: far from the published seeds, those of the data among them.
_SEED_STRIDE = 100


@dataclass
class Layer:
    """One layer of every network."""

    weight: FloatArray  # (C, units, inputs)
    bias: FloatArray | None  # (C, units)


@dataclass(frozen=True)
class Features:
    """One network at one evaluation, in float64; NaN, and None for the rank, where parameters are not finite."""

    rank: int | None  # of the Jacobian (S-M4); None as well where it was not asked for
    sparsity: list[float]  # of each hidden layer (S-M6)
    active: list[float]  # share of activations that are not 0
    effective_rank: list[float]
    nuclear_norm: float  # of the last hidden layer's activations times the output weights
    pattern_distance: list[float]  # from the start


def linear_defaults(generator: torch.Generator, inputs: int, units: int, *, bias: bool) -> FloatArray | None:
    """Draw what the constructor of torch's linear layer draws, in its order, and return the bias.

    The weights, which the toys replace, are drawn all the same: what is drawn later depends on it.

    Args:
        generator: Takes the place of the process's own.
        inputs: Fan-in.
        units: Outputs.
        bias: Whether the layer has one.

    Returns:
        The bias, uniform within 1/sqrt(inputs) of 0. Shape (units,), float32; None without one.
    """
    import torch

    bound = 1.0 / math.sqrt(inputs)
    torch.empty(units, inputs).uniform_(-bound, bound, generator=generator)
    if not bias:
        return None
    drawn: FloatArray = torch.empty(units).uniform_(-bound, bound, generator=generator).numpy()
    return drawn


def sample_order(seed: int, *, samples: int, iterations: int) -> IntArray:
    """Draw the sample of every iteration as the released code does. Shape (iterations,).

    Each one is `numpy.random.choice(samples, size=1, replace=False)` of the legacy generator, which is the first entry
    of a permutation of all samples: its stream, and not a plain draw of an index.
    """
    generator = np.random.RandomState(seed)
    return np.fromiter((generator.permutation(samples)[0] for _ in range(iterations)), np.int64, count=iterations)


def iterations_of(log10_iterations: float) -> int:
    """Return T = floor(10^q) + 1, which papers.md 4.3 gives the length of runs as."""
    return int(10.0**log10_iterations) + 1


def evaluated_iterations(iterations: int) -> list[int]:
    """Return the iterations before whose update a run is evaluated, ascending.

    Source: papers.md 4.3: the first hundred, and a grid over the run without its end, so that the last one lies a 150th
    of the run before it.
    """
    grid = np.unique(np.round(np.linspace(0, iterations, _EVALUATIONS)).astype(np.int64))[:-1]
    return sorted({*range(min(FIRST_EVALUATIONS, iterations)), *grid.tolist()})


def learning_rates(runs: Sequence[StepSizes], *, iterations: int) -> FloatArray:
    """Return the learning rate of every iteration of every run, float64. Shape (iterations, R).

    Args:
        runs: Step sizes.
        iterations: T.

    Source: papers.md 4.3. Up to iteration floor(f T) the rate is lr + (w - 1) lr (i/T)^e: it warms up towards the end
    of the run and not towards the decay (7.2, P8), where it has reached lr (1 + (w - 1) f^e). From that iteration on
    it is this value over the divisor.
    """
    rates = np.empty((iterations, len(runs)))
    places = np.arange(iterations)
    for column, run in enumerate(runs):
        last = iterations if run.decay_at is None else decay_iteration(run.decay_at, iterations=iterations)
        share = np.minimum(places, last) / iterations
        rates[:, column] = run.lr * (1.0 + (run.warm_up - 1.0) * share**run.warm_up_exponent)
        if run.decay_at is not None:
            rates[last:, column] /= run.decay_factor
    return rates


def decay_iteration(decay_at: float, *, iterations: int) -> int:
    """Return the first iteration with a decayed learning rate, floor(f T)."""
    # Not one less where the product is a whole number but for rounding.
    return math.floor(decay_at * iterations + 1e-9)


def forward(layers: Sequence[Layer], inputs: FloatArray) -> tuple[FloatArray, list[FloatArray]]:
    """Return outputs and activations of the hidden layers, in float64.

    Args:
        layers: Of C networks.
        inputs: Shape (n, d).

    Returns:
        Outputs of shape (C, n), and one array of shape (C, n, units) per hidden layer.
    """
    activations: list[FloatArray] = []
    current = np.asarray(inputs, dtype=np.float64)
    for place, layer in enumerate(layers):
        current = current @ layer.weight.astype(np.float64).transpose(0, 2, 1)
        if layer.bias is not None:
            current = current + layer.bias.astype(np.float64)[:, None, :]
        if place < len(layers) - 1:
            current = np.maximum(current, 0.0)
            activations.append(current)
    return current[..., 0], activations


def losses(layers: Sequence[Layer], inputs: FloatArray, targets: FloatArray) -> FloatArray:
    """Return the mean squared error of every network, without the 1/2 (S-M1, papers.md P12). Shape (C,)."""
    found: FloatArray = ((forward(layers, inputs)[0] - targets) ** 2).mean(axis=1)
    return found


def jacobian(layers: Sequence[Layer], network: int, inputs: FloatArray) -> FloatArray:
    """Return the gradient of one network's output with respect to all of its parameters, for every input.

    Args:
        layers: Of C networks.
        network: Which one.
        inputs: Shape (n, d).

    Returns:
        Shape (n, p), float64; layer by layer, the weights row by row and then the bias.

    Source: papers.md S-M4. Oracle in the tests: torch.func.jacrev.
    """
    own = [Layer(layer.weight[[network]], None if layer.bias is None else layer.bias[[network]]) for layer in layers]
    activations = [np.asarray(inputs, dtype=np.float64), *(hidden[0] for hidden in forward(own, inputs)[1])]
    slopes = np.ones((len(inputs), 1))  # of the output with respect to a layer's outputs before the ReLU
    blocks: list[FloatArray] = []
    for layer, below, first in zip(
        reversed(own), reversed(activations), [*[False] * (len(own) - 1), True], strict=True
    ):
        block = (slopes[:, :, None] * below[:, None, :]).reshape(len(inputs), -1)
        blocks.insert(0, block if layer.bias is None else np.hstack([block, slopes]))
        if not first:
            slopes = (slopes @ layer.weight[0].astype(np.float64)) * (below > 0.0)
    return np.hstack(blocks)


def jacobian_rank(matrix: FloatArray, *, tolerance: float) -> int | None:
    """Return the number of singular values above `tolerance` times the largest; None where an entry is not finite.

    From the eigenvalues of the smaller Gram matrix, several times as fast as singular values: these are exact to some
    1e-8 of the largest, which a tolerance must exceed by far.
    """
    if not np.isfinite(matrix).all():
        return None
    scale = np.abs(matrix).max(initial=0.0)
    if scale == 0.0:
        return 0
    matrix = matrix / scale
    gram = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    values = np.linalg.eigvalsh(gram)
    return int((values > tolerance**2 * values[-1]).sum())


def parameter_norms(layers: Sequence[Layer]) -> FloatArray:
    """Return the Euclidean norm of all parameters of every network. Shape (C,)."""
    squares = sum(
        (values.astype(np.float64) ** 2).reshape(len(values), -1).sum(axis=1)
        for layer in layers
        for values in (layer.weight, layer.bias)
        if values is not None
    )
    found: FloatArray = np.sqrt(squares)
    return found


def flat_parameters(layers: Sequence[Layer], network: int) -> list[float | None]:
    """Return all parameters of one network, layer by layer, the weights row by row and then the bias."""
    parts = [values[network].ravel() for layer in layers for values in (layer.weight, layer.bias) if values is not None]
    return [finite_or_none(value) for value in np.concatenate(parts)]


def measure_features(
    layers: Sequence[Layer],
    network: int,
    *,
    hidden: Sequence[FloatArray],
    hidden_at_start: Sequence[FloatArray],
    rank_inputs: FloatArray | None,
    rank_tolerance: float,
    duplicate_threshold: float,
) -> Features:
    """Measure one network.

    Args:
        layers: Of C networks.
        network: Which one.
        hidden: Activations of its hidden layers on the training samples. Shape (n, units) each.
        hidden_at_start: The same before the first update.
        rank_inputs: Where the Jacobian is taken; None leaves the rank out.
        rank_tolerance: Of S-M4.
        duplicate_threshold: Of S-M6.
    """
    if not all(np.isfinite(values).all() for values in hidden):
        lost = [math.nan] * len(hidden)
        return Features(None, lost, lost, lost, math.nan, lost)
    rank = None
    if rank_inputs is not None:
        rank = jacobian_rank(jacobian(layers, network, rank_inputs), tolerance=rank_tolerance)
    return Features(
        rank=rank,
        sparsity=[
            sparsity.sparsity_coefficient(values, threshold=duplicate_threshold, normalize_rows=True)
            for values in hidden
        ],
        active=[sparsity.active_share(values) for values in hidden],
        effective_rank=[sparsity.effective_rank(values) for values in hidden],
        nuclear_norm=sparsity.nuclear_norm(hidden[-1] * layers[-1].weight[network, 0].astype(np.float64)),
        pattern_distance=[
            sparsity.pattern_distance(start, values) for start, values in zip(hidden_at_start, hidden, strict=True)
        ],
    )


def train(
    layers: Sequence[Layer],
    inputs: FloatArray,
    targets: FloatArray,
    *,
    orders: IntArray,
    rates: FloatArray,
    evaluated: Sequence[int],
    evaluate: Callable[[int], None],
) -> IntArray:
    """Train all networks with one sample per update, in place.

    Args:
        layers: Of C networks; their parameters are changed, and have the precision of the training.
        inputs: Samples. Shape (n, d).
        targets: Shape (n,).
        orders: Sample of every iteration. Shape (T, C).
        rates: Learning rate of every iteration. Shape (T, C).
        evaluated: Iterations before whose update `evaluate` is called. Training ends at the last one.
        evaluate: Takes the iteration.

    Returns:
        The first iteration at which a network's output was not finite, -1 where there was none. Shape (C,).
    """
    precision = layers[0].weight.dtype
    inputs, targets, steps = inputs.astype(precision), targets.astype(precision), (2.0 * rates).astype(precision)
    wanted, last = set(evaluated), evaluated[-1]
    lost = np.full(orders.shape[1], -1, dtype=np.int64)
    weights, biases = [layer.weight for layer in layers], [layer.bias for layer in layers]
    with np.errstate(over="ignore", invalid="ignore"):
        for iteration in inner_progress(range(last + 1), total=last + 1, label="iterations"):
            if iteration in wanted:
                evaluate(iteration)
            if iteration == last:
                break
            chosen = orders[iteration]
            activations = [inputs[chosen]]
            for weight, bias in zip(weights, biases, strict=True):
                # Not a matrix product, whose rounding would depend on how many networks there are.
                values = (weight * activations[-1][:, None, :]).sum(axis=2)
                if bias is not None:
                    values += bias
                activations.append(np.maximum(values, 0.0))
            residuals = values[:, 0] - targets[chosen]
            finite = np.isfinite(residuals)
            if not finite.all():
                lost[~finite & (lost < 0)] = iteration
            moves = (steps[iteration] * residuals)[:, None]
            for place in range(len(layers) - 1, -1, -1):
                below, weight, bias = activations[place], weights[place], biases[place]
                change = moves[:, :, None] * below[:, None, :]
                if bias is not None:
                    bias -= moves
                if place:
                    # For one output the sum is a copy.
                    moves = (weight * moves[:, :, None]).sum(axis=1) * (below > 0.0)
                weight -= change
    return lost


@dataclass(frozen=True)
class Problem:
    """What networks are trained on and measured on."""

    inputs: FloatArray  # (n, d)
    targets: FloatArray  # (n,)
    rank_inputs: FloatArray  # where Jacobians are taken
    test_inputs: FloatArray | None = None
    test_targets: FloatArray | None = None


# One layer's weight, (units, inputs), and bias, (units,).
Start = Sequence[tuple[FloatArray, FloatArray | None]]
# Of an iteration, the place of its evaluation and the layers: more columns, one entry per network.
More = Callable[[int, int, Sequence[Layer]], Mapping[str, Sequence[Any]]]


class ChainsAsked(Protocol):
    """Options that the toys share: which chains beside the published one, and how features are measured."""

    @property
    def other_seeds(self) -> int:
        """Further chains with starts and orders of their own."""

    @property
    def perturbed_starts(self) -> int:
        """Further chains whose start is changed a little."""

    @property
    def perturbation(self) -> float:
        """Standard deviation of that change, relative."""

    @property
    def rank_every(self) -> int:
        """The rank is measured at every n-th evaluation."""

    @property
    def rank_tolerance(self) -> float:
        """Singular values count above this share of the largest."""

    @property
    def duplicate_threshold(self) -> float:
        """Units are duplicates above this absolute correlation."""


def simulate_runs(
    problem: Problem,
    options: ChainsAsked,
    *,
    runs: Sequence[StepSizes],
    seed: int,
    iterations: int,
    start_of: Callable[[int], Start],
    more: More,
) -> list[dict[str, Any]]:
    """Train the same networks with every schedule, all at once, and measure them.

    Args:
        problem: Samples.
        options: Of the toy.
        runs: Schedules, see `learning_rates`.
        seed: Of the published chain: of its start and of its order of samples.
        iterations: T.
        start_of: First parameters of a seed.
        more: Further columns.

    Returns:
        Rows by evaluation, run and chain. Chains of one name have the same start and the same order in all runs:
        `published`; `perturbed`, whose start differs from the published one's by a relative `perturbation`; `seed`,
        with another start and another order.

    Source: papers.md 4.1, 4.3 and 7.2, P13.
    """
    chains = _chains(options, seed=seed)
    starts = [_start_of_chain(chain, start_of(chain.seed), size=options.perturbation) for chain in chains]
    drawn = {
        own: sample_order(own, samples=len(problem.inputs), iterations=iterations)
        for own in {chain.seed for chain in chains}
    }
    orders = np.tile(np.stack([drawn[chain.seed] for chain in chains], axis=1), (1, len(runs)))
    rates = np.repeat(learning_rates(runs, iterations=iterations), len(chains), axis=1)
    layers = [
        Layer(
            np.tile(np.stack([start[place][0] for start in starts]), (len(runs), 1, 1)),
            _tiled([start[place][1] for start in starts], len(runs)),
        )
        for place in range(len(starts[0]))
    ]
    at_start = [values.copy() for values in forward(layers, problem.inputs)[1]]
    evaluated = evaluated_iterations(iterations)
    rows: list[dict[str, Any]] = []

    def evaluate(iteration: int) -> None:
        place = bisect.bisect_left(evaluated, iteration)
        with_rank = place % options.rank_every == 0 or place == len(evaluated) - 1
        outputs, hidden = forward(layers, problem.inputs)
        train_losses = ((outputs - problem.targets) ** 2).mean(axis=1)
        test_losses = None
        if problem.test_inputs is not None and problem.test_targets is not None:
            test_losses = losses(layers, problem.test_inputs, problem.test_targets)
        norms, further = parameter_norms(layers), more(iteration, place, layers)
        for network in range(len(norms)):
            chain = chains[network % len(chains)]
            features = measure_features(
                layers,
                network,
                hidden=[values[network] for values in hidden],
                hidden_at_start=[values[network] for values in at_start],
                rank_inputs=problem.rank_inputs if with_rank else None,
                rank_tolerance=options.rank_tolerance,
                duplicate_threshold=options.duplicate_threshold,
            )
            rows.append(
                {
                    "run": network // len(chains),
                    "chain": chain.name,
                    "seed": chain.seed,
                    "number": chain.number,
                    "evaluation": place,
                    "iteration": iteration,
                    "learning_rate": float(rates[iteration, network]),
                    "train_loss": finite_or_none(train_losses[network]),
                    "test_loss": None if test_losses is None else finite_or_none(test_losses[network]),
                    "rank": features.rank,
                    "sparsity": [finite_or_none(value) for value in features.sparsity],
                    "active": [finite_or_none(value) for value in features.active],
                    "effective_rank": [finite_or_none(value) for value in features.effective_rank],
                    "nuclear_norm": finite_or_none(features.nuclear_norm),
                    "pattern_distance": [finite_or_none(value) for value in features.pattern_distance],
                    "parameter_norm": finite_or_none(norms[network]),
                    # Both ends: what neurons have become.
                    "parameters": flat_parameters(layers, network) if place in (0, len(evaluated) - 1) else None,
                }
                | {name: values[network] for name, values in further.items()}
            )

    with np.errstate(over="ignore", invalid="ignore"):
        lost = train(
            layers, problem.inputs, problem.targets, orders=orders, rates=rates, evaluated=evaluated, evaluate=evaluate
        )  # fmt: skip
    for place, row in enumerate(rows):
        at = int(lost[place % len(lost)])
        row["diverged_at"] = None if at < 0 else at
    return rows


def _tiled(biases: Sequence[FloatArray | None], runs: int) -> FloatArray | None:
    found = [bias for bias in biases if bias is not None]
    return np.tile(np.stack(found), (runs, 1)) if found else None


@dataclass(frozen=True)
class _Chain:
    name: str  # published | perturbed | seed
    seed: int
    number: int  # among those of its name


def _chains(options: ChainsAsked, *, seed: int) -> list[_Chain]:
    return [
        _Chain("published", seed, 0),
        *(_Chain("seed", seed + _SEED_STRIDE * (number + 1), number) for number in range(options.other_seeds)),
        *(_Chain("perturbed", seed, number) for number in range(options.perturbed_starts)),
    ]


def _start_of_chain(chain: _Chain, start: Start, *, size: float) -> Start:
    start = [(weight.astype(np.float64), None if bias is None else bias.astype(np.float64)) for weight, bias in start]
    if chain.name != "perturbed":
        return start
    generator = np.random.default_rng([chain.seed, chain.number])

    def moved(values: FloatArray) -> FloatArray:
        found: FloatArray = values * (1.0 + size * generator.standard_normal(values.shape))
        return found

    return [(moved(weight), None if bias is None else moved(bias)) for weight, bias in start]


def finite_or_none(value: float) -> float | None:
    """Return a number as a table holds it: null where it is not finite."""
    return float(value) if math.isfinite(value) else None
