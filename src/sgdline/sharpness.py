"""Sharpness and gradient noise of the loss that a `sgdline.lines.LineMeter` measures, at the present parameters.

print(meter.sharpness())  # largest eigenvalue of the Hessian, with its residual
print(meter.sharpness(optimizer=adam))  # that of the preconditioned one, and where training becomes unstable
print(meter.directional_sharpness().curvature)  # along the negative of the present gradients
print(meter.noise_scale(batch_size=32).scale)  # batch size at which noise is as large as the gradient

The network, its gradients and all random generators come out of every call bit for bit as they went in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sgdline.engine.batchnorm import unsynchronised
from sgdline.engine.hessian import Chunk, Counts, FullBatchHessian
from sgdline.engine.lanczos_budget import smallest_budget
from sgdline.engine.network import Loss
from sgdline.engine.samples import Samples, count_of, rows_of
from sgdline.engine.top_eigenpairs import top_eigenpairs
from sgdline.errors import SgdlineError, first_line
from sgdline.models.parameters import ParameterLayout, bare_optimizer, moved_by, trainable_parameters, uncompiled
from sgdline.models.state import Steady, muted_hooks
from sgdline.runtime import restore_tf32, set_tf32
from sgdline.seeds import generator

__all__ = ["DirectionalSharpness", "MeasuredLoss", "NoiseScale", "Sharpness"]

Array = NDArray[np.float64]

# Where the next search starts, by what was searched. Shape (q,) each.
Starts = MutableMapping[Any, Array]

# A warm start holds this share of a generic vector: another eigenvalue may have become the largest, and a start that is
# an exact eigenvector leaves Lanczos nothing to go on.
_GENERIC = 0.1
# How far a Hessian may be from symmetric, relative to its largest eigenvalue: above the rounding of bfloat16.
_TWIST = 0.03


@dataclass(frozen=True, eq=False)
class Sharpness:
    """The largest eigenvalues of the Hessian of the measured loss, in units of loss per length^2.

    `str()` gives the values with their residuals, and says so if they have not converged.
    """

    values: Array  # (k,), descending; Rayleigh quotients, so never above the eigenvalues but for rounding
    residuals: Array  # (k,), ||H v - lambda v||: an eigenvalue is within that distance of the value
    converged: bool  # every residual is at most tolerance * the largest absolute value
    products: int  # Hessian-vector products that it took
    preconditioned: bool  # eigenvalues of P^(-1/2) H P^(-1/2) instead
    threshold: float | None  # training is unstable where `largest` is above; None: undefined, or no optimizer given

    @property
    def largest(self) -> float:
        """The largest eigenvalue, lambda_max. Look at `converged` as well: without it this is a lower bound only."""
        return float(self.values[0])

    def __str__(self) -> str:
        """Return the values with what has to be known of them."""
        pairs = zip(self.values, self.residuals, strict=True)
        text = ", ".join(f"{value:.6g} (residual {residual:.2g})" for value, residual in pairs)
        if not self.converged:
            text += f", not converged after {self.products} products"
        return text if self.threshold is None else f"{text}, threshold {self.threshold:.6g}"


@dataclass(frozen=True)
class DirectionalSharpness:
    """Curvature and slope of the measured loss along one direction d.

    Source: papers of the edge of stability: step sharpness (E-M1 where d is the gradient), K-M2.
    """

    curvature: float  # d.H d / ||d||^2, loss per length^2
    slope: float  # g.d / ||d||, loss per length
    length: float  # ||d||
    lr: float  # learning rate that d holds as an update: d = -lr Delta

    @property
    def lambda_dir(self) -> float:
        """K-M2: Delta.H Delta / Delta.g of the update d = -lr Delta; NaN unless d descends.

        On a parabola the update raises the loss where this is above 2 / lr.
        """
        return self.curvature * self.length / (-self.slope * self.lr) if self.slope < 0 else float("nan")


@dataclass(frozen=True)
class NoiseScale:
    """The simple gradient noise scale tr(Sigma) / |G|^2 of McCandlish et al. 2018, arXiv 1812.06162, appendix A.

    The measuring set is taken for N independent samples. G is the gradient of their distribution, Sigma the covariance
    of one sample's gradient. Batches are disjoint chunks of the set, g_b the mean gradient of one, g that of the set:

        tr(Sigma) = sum of n_b |g_b - g|^2 / (batches - 1)        |G|^2 = |g|^2 - tr(Sigma) / N

    Both are unbiased, for unequal batches too. For equal ones they are the paper's formulas, with a batch and the whole
    set as its two batch sizes. Batches without replacement need no correction: the same tr(Sigma) is unbiased for the
    covariance within the set, with N - 1 in its denominator. The set's own |G|^2 is `full_squared_gradient`, without
    error: for a training on exactly these samples take `scale_of_set`.

    A standard error is the jackknife's over the batches, NaN for fewer than three.
    """

    scale: float  # samples; NaN where the estimate of |G|^2 is not positive: too few samples to tell
    scale_error: float  # NaN also where |G|^2 is not positive without one of the batches
    trace: float  # tr(Sigma) per sample, loss^2 per length^2
    trace_error: float
    squared_gradient: float  # |G|^2 of the distribution, loss^2 per length^2; may come out negative
    squared_gradient_error: float
    full_squared_gradient: float  # |g|^2 of the measured samples
    batches: int
    batch_size: int  # of all batches but the last
    samples: int  # N

    @property
    def scale_of_set(self) -> float:
        """tr(Sigma) / |g|^2, in samples: the noise scale of a training on the measured samples."""
        return self.trace / self.full_squared_gradient if self.full_squared_gradient > 0 else float("nan")

    def __str__(self) -> str:
        """Return the scale with its standard error."""
        if math.isnan(self.scale):
            return f"no noise scale: the estimate of |G|^2 is {self.squared_gradient:.3g} with {self.samples} samples"
        return f"{self.scale:.6g} samples (standard error {self.scale_error:.2g}, {self.batches} batches)"


@dataclass(frozen=True)
class MeasuredLoss:
    """L(theta) = sum of w_i l_i / sum of w_i c_i on a measuring set, and how its passes are made."""

    model: nn.Module
    loss: Loss  # outputs and targets -> l_i
    counts: Counts | None  # outputs and targets -> c_i; None: all 1
    inputs: Samples  # of N samples
    targets: Samples  # of the same
    weights: Tensor | None  # (N,); None: all 1
    chunk_size: int  # samples that share a forward pass
    mask_seed: Callable[[int], int]  # place of a chunk -> seed of its random masks
    train_mode: bool  # statistics of each chunk and random masks, or eval mode
    hooks: bool  # whether the user's hooks belong to the network

    @property
    def samples(self) -> int:
        """Number of samples N."""
        return count_of(self.inputs)

    def hessian(self, layout: ParameterLayout, *, chunk_size: int | None = None) -> FullBatchHessian:
        """Return the derivatives of this loss, in chunks of its own size or of another one."""
        size = self.chunk_size if chunk_size is None else chunk_size
        chunks = [
            Chunk(
                inputs=rows_of(self.inputs, slice(first, first + size)),
                targets=rows_of(self.targets, slice(first, first + size)),
                mask_seed=self.mask_seed(place),
                weights=None if self.weights is None else self.weights[first : first + size],
            )
            for place, first in enumerate(range(0, self.samples, size))
        ]
        counts = None if self.counts is None else Steady(self.counts)
        return FullBatchHessian(
            self.model, layout, chunks, train_mode=self.train_mode, loss=Steady(self.loss), counts=counts
        )


# --- eigenvalues ------------------------------------------------------------------------------------------------------


def sharpness(
    measured: MeasuredLoss,
    k: int = 1,
    *,
    tolerance: float = 1e-2,
    optimizer: torch.optim.Optimizer | None = None,
    max_products: int = 1000,
    starts: Starts | None = None,
) -> Sharpness:
    """Find the largest eigenvalues of the Hessian, or of the preconditioned one: see `LineMeter.sharpness`.

    Args:
        measured: The loss.
        k: Number of eigenvalues.
        tolerance: Largest residual, relative to the largest absolute eigenvalue among the k.
        optimizer: torch.optim.SGD, Adam or AdamW; None: no threshold, all trainable parameters.
        max_products: Most Hessian-vector products.
        starts: Where the last call left its eigenvectors; read and written.

    Returns:
        Sharpness; NaN and not converged if a product is not finite.

    Raises:
        SgdlineError: If a number is out of range, the optimizer is not covered, or a layer has no second derivative.

    Source: Lanczos (ARPACK) on exact products, papers.md 5.2, W-M7; K-M5. Oracle in the tests: dense Hessians.
    """
    _check_whole("k", k)
    _check_whole("max_products", max_products)
    _check_positive("tolerance", tolerance)
    layout = ParameterLayout(measured.model)
    metric = _metric(measured.model, layout, optimizer)
    if k >= metric.size:
        raise SgdlineError(
            f"k must be below the number of parameters that are trained ({metric.size}), got {k}. Ask for fewer."
        )
    if max_products < smallest_budget(k):
        raise SgdlineError(
            f"max_products must be at least {smallest_budget(k)} for {k} eigenvalues, got {max_products}. "
            "Raise it, or ask for fewer eigenvalues."
        )
    hessian = measured.hessian(layout)

    products = 0
    first: tuple[Array, Array] | None = None  # a vector and its image: that of the start
    last: tuple[Array, Array] | None = None  # that of an eigenvector

    def product(vector: Array) -> Array:
        nonlocal products, first, last
        products += 1
        image = metric.to_own(hessian.product(metric.to_network(vector)).image)
        last = vector.copy(), image.copy()
        first = first or last
        return image

    draws = generator(0, "meter_sharpness")
    start: Array = torch.randn(metric.size, generator=draws, dtype=torch.float64).numpy()
    start /= np.linalg.norm(start)
    key = tuple(layout.names_and_shapes().items()), metric.size, metric.preconditioned
    if starts is not None and key in starts:
        start = starts[key] + _GENERIC * start
    with _opened(measured, hessian, "have second derivatives"):
        pairs = top_eigenpairs(product, start, int(k), tolerance=float(tolerance), max_products=int(max_products))
    if pairs is None:
        nothing = np.full(k, np.nan)
        return Sharpness(nothing, nothing, False, products, metric.preconditioned, metric.threshold)
    assert first is not None
    assert last is not None
    # s.H v = v.H s, and the start s is generic: a share 1/sqrt(q) of any other image shows.
    twist = abs(float(first[0] @ last[1] - last[0] @ first[1])) * math.sqrt(metric.size / (first[0] @ first[0]))
    if twist > max(_TWIST, tolerance) * float(np.abs(pairs.values).max()):
        raise SgdlineError(
            f"The network's Hessian must be symmetric, got one that is not (by about {twist:.2g}, its eigenvalue would "
            f"be {pairs.values[0]:.4g}). A layer's second derivative is wrong, as that of torch's fused "
            "weight_norm is. Measure the curvature of lines instead."
        )
    if starts is not None:
        starts.clear()  # one vector as long as the parameters is enough
        starts[key] = pairs.vectors.sum(axis=1) / math.sqrt(k)
    return Sharpness(
        pairs.values, pairs.residuals, pairs.converged, pairs.products, metric.preconditioned, metric.threshold
    )


@dataclass(frozen=True)
class _Metric:
    """The parameters that an optimizer moves, and P^(-1/2) of each."""

    places: Tensor | None  # (q,) places of the moved parameters in the network's vector; None: all of them
    scales: Tensor | None  # (q,), float64; None: 1 each
    parameters: int  # of the network, p
    device: torch.device
    threshold: float | None

    @property
    def size(self) -> int:
        return self.parameters if self.places is None else len(self.places)

    @property
    def preconditioned(self) -> bool:
        return self.scales is not None

    def to_network(self, vector: Array) -> Tensor:
        """Return P^(-1/2) v, 0 where nothing moves. Shapes (q,) -> (p,)."""
        own = torch.tensor(vector, device=self.device)  # a copy: ARPACK uses its memory again
        if self.scales is not None:
            own = own * self.scales
        if self.places is None:
            return own
        return torch.zeros(self.parameters, dtype=own.dtype, device=self.device).index_copy_(0, self.places, own)

    def to_own(self, vector: Tensor) -> Array:
        """Return P^(-1/2) v of what moves. Shapes (p,) -> (q,)."""
        own = vector if self.places is None else vector[self.places]
        found: Array = (own if self.scales is None else own * self.scales).cpu().numpy()
        return found


def _metric(model: nn.Module, layout: ParameterLayout, optimizer: torch.optim.Optimizer | None) -> _Metric:
    """Return what an optimizer moves and how it weighs it.

    Raises:
        SgdlineError: If the optimizer is not covered, or moves nothing of the network.
    """
    if optimizer is None:
        return _Metric(None, None, layout.size, layout.device, None)
    optimizer = bare_optimizer(optimizer)
    _check_covered(optimizer)
    group_of = {id(parameter): group for group in optimizer.param_groups for parameter in group["params"]}
    parameters = moved_by(optimizer, model)
    adam = isinstance(optimizer, torch.optim.Adam | torch.optim.AdamW)
    if adam:
        stepped = {name: p for name, p in parameters.items() if optimizer.state.get(p)}
        # A parameter that never had a gradient has no state and does not move.
        missing = [
            name for name, p in parameters.items() if name not in stepped and (p.grad is not None or not stepped)
        ]
        if missing:
            raise SgdlineError(
                f"optimizer must have taken a step with every parameter that it moves, got none with {missing[0]!r}. "
                "Measure after the first step."
            )
        parameters = stepped
    moved = torch.zeros(layout.size, dtype=torch.bool, device=layout.device)
    precision = torch.ones(layout.size, dtype=torch.float64, device=layout.device)  # P
    moved_parts, precision_parts = layout.split(moved), layout.split(precision)
    for name, parameter in parameters.items():
        moved_parts[name].fill_(True)
        if adam:
            precision_parts[name].copy_(_precondition(optimizer.state[parameter], group_of[id(parameter)]))
    precision = precision[moved]
    if not bool(((precision > 0) & torch.isfinite(precision)).all()):
        raise SgdlineError(
            "The optimizer's preconditioner must be finite and above 0, got a value that is not. "
            "Use an eps above 0, and measure before training diverges."
        )
    groups = {id(group): group for group in (group_of[id(parameter)] for parameter in parameters.values())}
    return _Metric(
        places=None if bool(moved.all()) else torch.nonzero(moved).flatten(),
        scales=precision.rsqrt() if adam else None,
        parameters=layout.size,
        device=layout.device,
        threshold=_common_threshold(optimizer, list(groups.values())),
    )


def _check_covered(optimizer: Any) -> None:
    advice = "Leave optimizer out for the eigenvalues of the Hessian itself."
    if not isinstance(optimizer, torch.optim.SGD | torch.optim.Adam | torch.optim.AdamW):
        raise SgdlineError(
            f"optimizer must be torch.optim.SGD, Adam or AdamW, got {type(optimizer).__name__}. {advice}"
        )
    for key in ("amsgrad", "maximize"):
        if any(group.get(key) for group in optimizer.param_groups):
            raise SgdlineError(f"optimizer must not use {key}, got {key}=True, which no formula here covers. {advice}")


def _precondition(state: Mapping[str, Any], group: Mapping[str, Any]) -> Tensor:
    """Return P = (1 - beta1^t) (sqrt(v_hat) + eps) of one parameter, float64. Source: K-M5."""
    beta1, beta2 = (float(beta) for beta in group["betas"])
    step = float(state["step"])
    mean_square = state["exp_avg_sq"].double() / (1.0 - beta2**step)
    precision: Tensor = (1.0 - beta1**step) * (mean_square.sqrt() + float(group["eps"]))
    return precision


def _common_threshold(optimizer: torch.optim.Optimizer, groups: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the threshold of all groups: None where they differ in more than the decay, else the lowest."""
    settings = {
        (
            *(float(group.get(key) or 0) for key in ("lr", "momentum", "dampening", "nesterov")),
            *(float(beta) for beta in group.get("betas", ())),
        )
        for group in groups
    }
    found = [_threshold(optimizer, group) for group in groups]
    known = [threshold for threshold in found if threshold is not None]
    return min(known) if len(settings) == 1 and len(known) == len(found) else None


def _threshold(optimizer: torch.optim.Optimizer, group: Mapping[str, Any]) -> float | None:
    """Return the eigenvalue above which steps along its eigenvector grow, on a quadratic at fixed P; None: undefined.

    The eigenvalue is that of the loss without the decay. Each is where the iteration's matrix has the eigenvalue -1.

    Source: Kalra et al. 2026, arXiv 2601.16979: gradient descent 2/lr - decay, heavy ball 2 (1 + beta)/lr - decay, Adam
    2 (1 + beta1)/((1 - beta1) lr); Nesterov, 2 (1 + beta)/(lr (1 + 2 beta)) - decay, arXiv 2604.14108. Decoupled decay
    (AdamW) multiplies Adam's by 1 - lr decay / 2; the paper's "- decay" is the same without momentum only. Adam's
    coupled decay goes through the preconditioner: undefined.
    """
    lr, decay = float(group["lr"]), float(group["weight_decay"])
    if not lr > 0:
        return None
    if isinstance(optimizer, torch.optim.SGD):
        momentum = float(group["momentum"])
        if not momentum:
            return 2 / lr - decay
        if group["nesterov"]:
            return 2 * (1 + momentum) / (lr * (1 + 2 * momentum)) - decay
        share = 1 - float(group["dampening"])
        return 2 * (1 + momentum) / (lr * share) - decay if share > 0 else None
    decoupled = group.get("decoupled_weight_decay", isinstance(optimizer, torch.optim.AdamW))
    if decay and not decoupled:
        return None
    beta1 = float(group["betas"][0])
    return (2 - lr * decay) * (1 + beta1) / ((1 - beta1) * lr)


# --- one direction ----------------------------------------------------------------------------------------------------


def directional_sharpness(
    measured: MeasuredLoss, direction: Mapping[str, Tensor], *, lr: float = 1.0
) -> DirectionalSharpness:
    """Measure curvature and slope along one direction: see `LineMeter.directional_sharpness`.

    Args:
        measured: The loss.
        direction: One tensor per trainable parameter, by name, of any length but 0.
        lr: Learning rate that the direction holds.

    Raises:
        SgdlineError: If the direction is zero, not finite or does not fit, lr is out of range, or a layer has no second
            derivative.

    Cost: one Hessian-vector product, about five forward passes over the measuring set.
    """
    _check_positive("lr", lr)
    layout = ParameterLayout(measured.model)
    flat = layout.join(direction)
    length = float(flat.norm())
    if not 0.0 < length < float("inf"):
        raise SgdlineError(
            f"The direction must have a finite length above 0, got {length:g}. Call backward() first, or pass one."
        )
    parameters = trainable_parameters(measured.model)
    unit = flat / length
    # What the product rounds the direction to, in half precision a vector of another length.
    rounded = layout.join({name: part.to(parameters[name].dtype) for name, part in layout.split(unit).items()})
    hessian = measured.hessian(layout)
    with _opened(measured, hessian, "have second derivatives"):
        found = hessian.product(rounded)
    size = float(rounded.norm())
    curvature = float(rounded @ found.image) / size**2
    return DirectionalSharpness(curvature, found.slope / size, length, float(lr))


# --- noise ------------------------------------------------------------------------------------------------------------


def noise_scale(measured: MeasuredLoss, *, batch_size: int | None = None) -> NoiseScale:
    """Estimate the gradient noise scale from the gradients of disjoint batches: see `LineMeter.noise_scale`.

    With weights w_i and counts c_i a batch's gradient is g_b = a_b / W_b, a_b the sum of w_i grad l_i and W_b that of
    w_i c_i. Then (a_b - W_b g) / (W / N) takes the place of n_b (g_b - g): the ratio to first order, N/W as on average.

    Args:
        measured: The loss.
        batch_size: Samples per batch; None: those of a chunk.

    Raises:
        SgdlineError: If there are fewer than two batches.

    Cost: two gradients over the measuring set, about six forward passes; memory: three vectors of p float64.

    Source: McCandlish et al. 2018, arXiv 1812.06162, appendix A. Oracle in the tests: all divisions of small sets.
    """
    if batch_size is not None:
        _check_whole("batch_size", batch_size)
    size = int(batch_size or measured.chunk_size)
    if size >= measured.samples:
        raise SgdlineError(
            f"batch_size must be below the number of measured samples ({measured.samples}), got {size}. "
            "Batches are chunks of the measuring set: pass for example the training batch size."
        )
    layout = ParameterLayout(measured.model)
    hessian = measured.hessian(layout, chunk_size=size)
    with _opened(measured, hessian, "allow a backward pass"):
        whole = torch.zeros(layout.size, dtype=torch.float64, device=layout.device)  # A: sum of a_b
        shared = torch.zeros_like(whole)  # B: sum of W_b a_b / n_b
        squares, shares, counts = [], [], []
        for part in hessian.chunk_gradients():
            whole += part.total
            shared.add_(part.total, alpha=part.share / part.samples)
            squares.append(float(part.total @ part.total))
            shares.append(part.share)
            counts.append(part.samples)
        hessian.divisor()
        # The same gradients again: what leaving one out needs of them cannot be known before their sum is.
        products = [(float(part.total @ whole), float(part.total @ shared)) for part in hessian.chunk_gradients()]
    sums = _Sums(
        squares=np.array(squares),
        shares=np.array(shares),
        counts=np.array(counts, dtype=np.float64),
        with_whole=np.array([product for product, _ in products]),
        with_shared=np.array([product for _, product in products]),
        whole_whole=float(whole @ whole),
        whole_shared=float(whole @ shared),
    )
    trace, square = (float(value) for value in sums.estimates(None))
    batches = len(squares)
    scale_error = trace_error = square_error = float("nan")
    if batches > 2:
        traces, left_squares = np.array([sums.estimates(left) for left in range(batches)]).T
        trace_error, square_error = _jackknife(traces), _jackknife(left_squares)
        if (left_squares > 0).all():
            scale_error = _jackknife(traces / left_squares)
    return NoiseScale(
        scale=trace / square if square > 0 else float("nan"),
        scale_error=scale_error if square > 0 else float("nan"),
        trace=trace,
        trace_error=trace_error,
        squared_gradient=square,
        squared_gradient_error=square_error,
        full_squared_gradient=sums.whole_whole / hessian.divisor() ** 2,
        batches=batches,
        batch_size=size,
        samples=measured.samples,
    )


@dataclass(frozen=True)
class _Sums:
    """Products of the batches' gradients: enough for the estimates from all batches, and from all but one."""

    squares: Array  # (m,), |a_b|^2
    shares: Array  # (m,), W_b
    counts: Array  # (m,), n_b
    with_whole: Array  # (m,), a_b.A
    with_shared: Array  # (m,), a_b.B
    whole_whole: float  # A.A
    whole_shared: float  # A.B

    def estimates(self, left: int | None) -> tuple[float, float]:
        """Return tr(Sigma) and |G|^2 without batch `left`; None: from all."""
        kept = np.ones(len(self.squares), dtype=bool)
        whole_whole, whole_shared = self.whole_whole, self.whole_shared
        if left is not None:
            kept[left] = False
            weight = self.shares[left] / self.counts[left]
            whole_whole += self.squares[left] - 2 * self.with_whole[left]
            whole_shared += weight * (self.squares[left] - self.with_whole[left]) - self.with_shared[left]
        shares, counts = self.shares[kept], self.counts[kept]
        total, samples = shares.sum(), counts.sum()
        if not total > 0:
            return float("nan"), float("nan")
        full_square = whole_whole / total**2
        # sum of |a_b - W_b g|^2 / n_b with g = A / W
        spread = (
            (self.squares[kept] / counts).sum() - 2 * whole_shared / total + (shares**2 / counts).sum() * full_square
        )
        trace = max(spread, 0.0) * (samples / total) ** 2 / (len(shares) - 1)
        return trace, full_square - trace / samples


def _jackknife(left_out: Array) -> float:
    """Return the standard error of an estimate from its values without each of the batches. Shape (m,)."""
    count = len(left_out)
    return float(np.sqrt((count - 1) / count * ((left_out - left_out.mean()) ** 2).sum()))


# --- passes -----------------------------------------------------------------------------------------------------------


@contextmanager
def _opened(measured: MeasuredLoss, hessian: FullBatchHessian, rule: str) -> Iterator[None]:
    """Make passes with derivatives of the network itself, in its own precision; all of it comes back.

    Args:
        measured: The loss.
        hessian: Its derivatives.
        rule: What the network must do, for the message where a user's module raises something.
    """
    model = measured.model
    parameters = list(trainable_parameters(model).values())
    try:
        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.enable_grad())
            stack.enter_context(torch.autocast(parameters[0].device.type, enabled=False, cache_enabled=False))
            stack.callback(restore_tf32, set_tf32(False))
            stack.enter_context(uncompiled(model))
            stack.enter_context(unsynchronised(model))
            stack.enter_context(nullcontext() if measured.hooks else muted_hooks(model))
            stack.enter_context(_muted_gradient_hooks(parameters))
            stack.enter_context(hessian.opened())
            yield
    except SgdlineError:
        raise
    except Exception as error:  # whatever a user's module or loss raises
        raise SgdlineError(
            f"The network must {rule}, got: {first_line(error)}. "
            "Call loss(model(inputs), targets).sum().backward() to see whether it fails without the meter as well."
        ) from error


@contextmanager
def _muted_gradient_hooks(parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    """Take the hooks of parameters away for a block: they scale, clip or record gradients of the training."""
    taken = [(parameter, parameter._backward_hooks) for parameter in parameters]
    try:
        for parameter in parameters:
            parameter._backward_hooks = None
        yield
    finally:
        for parameter, hooks in taken:
            parameter._backward_hooks = hooks


def _check_whole(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        got = repr(value) if isinstance(value, int | float | str) else type(value).__name__
        advice = " Pass it by name: optimizer=..." if isinstance(value, torch.optim.Optimizer) else ""
        raise SgdlineError(f"{name} must be a whole number above 0, got {got}.{advice}")


def _check_positive(name: str, value: Any) -> None:
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not number or not 0 < value < float("inf"):
        raise SgdlineError(f"{name} must be a finite number above 0, got {value!r}.")
