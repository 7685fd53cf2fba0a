"""Derivatives of a meter's loss against dense float64 Hessians, closed forms and naive loops that share no code."""

from __future__ import annotations

import copy
import itertools
import math
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as functional
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from sgdline.errors import SgdlineError
from sgdline.lines import LineMeter
from sgdline.seeds import derive_seed

SAMPLES, CHUNK = 23, 10  # chunks of 10, 10 and 3
CROSS_ENTROPY = nn.CrossEntropyLoss(reduction="none")
PADDING = -1


class Tied(nn.Module):
    """Two layers that share one weight, beside a frozen one."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)
        self.second.weight = self.first.weight
        self.head.weight.requires_grad = False

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(torch.tanh(self.second(torch.tanh(self.first(inputs)))))


class Attention(nn.Module):
    """Fused attention over pairs of numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.mix, self.head = nn.Linear(2, 6), nn.Linear(4, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        queries, keys, values = self.mix(inputs.unflatten(1, (2, 2))).chunk(3, dim=-1)
        return self.head(functional.scaled_dot_product_attention(queries, keys, values).flatten(1))


def tokens(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Sum over the tokens of a sample that are no padding, and their number."""
    losses = functional.cross_entropy(outputs.transpose(1, 2), targets.clamp(min=0), reduction="none")
    kept = targets != PADDING
    return (losses * kept).sum(1), kept.sum(1)


def token_mean(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    losses = functional.cross_entropy(outputs.transpose(1, 2), targets, ignore_index=PADDING, reduction="none")
    return losses.sum(1), (targets != PADDING).sum(1).to(losses)


def per_sample(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    return functional.cross_entropy(outputs, targets, reduction="none"), torch.ones(len(targets), dtype=outputs.dtype)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "plain": lambda: nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)),
    "batch_norm": lambda: nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 3)),
    "dropout": lambda: nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Dropout(0.4), nn.Linear(6, 3)),
    "tied": Tied,
    "attention": Attention,
    "tokens": lambda: nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 15), nn.Unflatten(1, (5, 3))),
}
CASES = [
    ("plain", "train", False),
    ("batch_norm", "train", True),
    ("batch_norm", "eval", False),
    ("dropout", "train", False),
    ("tied", "train", True),
    ("attention", "train", False),
    ("tokens", "train", False),
    ("tokens", "train", True),
]


def setting(
    name: str, mode: str = "train", weighted: bool = False, chunk_size: int = CHUNK
) -> tuple[nn.Module, LineMeter, Callable[[Tensor], Tensor]]:
    """Return a network, its meter, and the loss as a function of the flat trainable parameters, written out."""
    torch.manual_seed(3)
    network = NETWORKS[name]().double()
    inputs = torch.randn(SAMPLES, 4, dtype=torch.float64)
    targets = torch.randint(0, 3, (SAMPLES, 5) if name == "tokens" else (SAMPLES,))
    if name == "tokens":
        targets[torch.rand(SAMPLES, 5) < 0.3] = PADDING
    network(inputs)  # running statistics of its own
    weights = torch.rand(SAMPLES, dtype=torch.float64) if weighted else None
    loss = tokens if name == "tokens" else CROSS_ENTROPY
    meter = LineMeter(network, loss, inputs, targets, weights=weights, chunk_size=chunk_size, mode=mode)
    naive = token_mean if name == "tokens" else per_sample
    own = copy.deepcopy(network).train(mode == "train")
    buffers = {key: value.clone() for key, value in own.named_buffers()}

    def mean(flat: Tensor) -> Tensor:
        parts, first = {}, 0
        for key, parameter in own.named_parameters():
            if parameter.requires_grad:
                parts[key] = flat[first : first + parameter.numel()].view(parameter.shape)
                first += parameter.numel()
        total, count = flat.new_zeros(()), flat.new_zeros(())
        for place, begin in enumerate(range(0, SAMPLES, CHUNK)):
            rows = slice(begin, begin + CHUNK)
            torch.manual_seed(derive_seed(0, "line_masks", place))
            state = {key: value.clone() for key, value in buffers.items()}
            with sdpa_kernel(SDPBackend.MATH):
                outputs = torch.func.functional_call(own, {**parts, **state}, (inputs[rows],))
            sums, counts = naive(outputs, targets[rows])
            scale = torch.ones_like(sums) if weights is None else weights[rows]
            total, count = total + (scale * sums).sum(), count + (scale * counts).sum()
        return total / count

    return network, meter, mean


def flat_parameters(network: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in network.parameters() if p.requires_grad])


def dense_hessian(mean: Callable[[Tensor], Tensor], network: nn.Module) -> Tensor:
    hessian: Tensor = torch.autograd.functional.hessian(mean, flat_parameters(network), vectorize=True)  # type: ignore[assignment]
    return hessian


def everything(network: nn.Module) -> list[Any]:
    """Return all that a measurement might change, as values that can be compared."""
    tensors = [*network.parameters(), *network.buffers(), *(p.grad for p in network.parameters() if p.grad is not None)]
    bits = [tensor.detach().numpy().tobytes() for tensor in tensors]
    places = [id(tensor) for tensor in tensors] + [tensor.data_ptr() for tensor in tensors]
    modes = [module.training for module in network.modules()]
    draws = torch.get_rng_state().numpy().tobytes(), np.random.get_state()[1].tobytes(), random.getstate()  # type: ignore[index,union-attr]  # noqa: NPY002
    return [bits, places, modes, draws]


@pytest.mark.parametrize(("name", "mode", "weighted"), CASES)
def test_eigenvalues_and_directions_are_those_of_the_dense_hessian(name: str, mode: str, weighted: bool) -> None:
    network, meter, mean = setting(name, mode, weighted)
    dense = dense_hessian(mean, network)
    expected = torch.linalg.eigvalsh(dense).flip(0)[:3].numpy()
    for place, parameter in enumerate(network.parameters()):
        parameter.grad = torch.full_like(parameter, 0.1 * place - 0.3) if parameter.requires_grad else None
    before = everything(network)
    found = meter.sharpness(3, tolerance=1e-9)
    np.testing.assert_allclose(found.values, expected, rtol=1e-8)
    assert found.converged
    assert found.largest == found.values[0] > 1e-3
    flat = torch.randn(len(dense), dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    trained = {key: p for key, p in network.named_parameters() if p.requires_grad}
    parts = torch.split(flat, [p.numel() for p in trained.values()])
    direction = {key: part.view(p.shape) for (key, p), part in zip(trained.items(), parts, strict=True)}
    along = meter.directional_sharpness(direction, lr=0.2)
    assert everything(network) == before
    gradient: Tensor = torch.autograd.functional.jacobian(mean, flat_parameters(network))  # type: ignore[assignment]
    assert along.curvature == pytest.approx(float(flat @ dense @ flat / (flat @ flat)), rel=1e-10)
    assert along.slope == pytest.approx(float(gradient @ flat / flat.norm()), rel=1e-10)
    update = -flat if along.slope > 0 else flat
    delta = -update / 0.2
    descending = meter.directional_sharpness(
        {key: -part if along.slope > 0 else part for key, part in direction.items()}, lr=0.2
    )
    assert descending.lambda_dir == pytest.approx(float(delta @ dense @ delta / (delta @ gradient)), rel=1e-10)
    assert math.isnan(replace(descending, slope=-descending.slope).lambda_dir)


def test_the_largest_eigenvalue_is_that_of_a_naive_power_iteration() -> None:
    """PyHessian's definition: products of each batch, weighted by its samples, and power iteration on their mean."""
    torch.manual_seed(0)
    network = nn.Linear(4, 3)  # softmax regression: no negative eigenvalue
    inputs, targets = torch.randn(50, 4), torch.randint(0, 3, (50,))
    found = LineMeter(network, CROSS_ENTROPY, inputs, targets, chunk_size=16).sharpness(tolerance=1e-4)
    parameters = list(network.parameters())
    vectors = [torch.ones_like(p) for p in parameters]
    value = 0.0
    for _ in range(200):
        norm = sum((v**2).sum() for v in vectors) ** 0.5
        vectors = [v / norm for v in vectors]
        images = [torch.zeros_like(p) for p in parameters]
        for batch_inputs, batch_targets in zip(inputs.split(16), targets.split(16), strict=True):
            loss = functional.cross_entropy(network(batch_inputs), batch_targets)
            gradients = torch.autograd.grad(loss, parameters, create_graph=True)
            products = torch.autograd.grad(gradients, parameters, grad_outputs=vectors)
            for image, product in zip(images, products, strict=True):
                image += product * len(batch_inputs)
        images = [image / 50 for image in images]
        value = float(sum((v * image).sum() for v, image in zip(vectors, images, strict=True)))
        vectors = images
    assert found.largest == pytest.approx(value, rel=1e-4)
    assert not found.preconditioned
    assert found.threshold is None


def test_a_linear_regression_has_its_closed_form() -> None:
    torch.manual_seed(0)
    inputs, targets = torch.randn(37, 5), torch.randn(37, 1)
    network = nn.Linear(5, 1, bias=False)
    meter = LineMeter(
        network, lambda outputs, targets: (outputs - targets).squeeze(1) ** 2 / 2, inputs, targets, chunk_size=8
    )
    hessian = inputs.double().T @ inputs.double() / 37
    np.testing.assert_allclose(meter.sharpness(2).values, torch.linalg.eigvalsh(hessian).flip(0)[:2], rtol=1e-5)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.25)
    assert meter.sharpness(optimizer=optimizer).threshold == 8.0
    ((network(inputs) - targets) ** 2 / 2).mean().backward()
    assert network.weight.grad is not None
    gradient = network.weight.grad.double().flatten()
    expected = float(gradient @ hessian @ gradient / (gradient @ gradient))
    for lr in (1.0, 0.25):  # plain SGD: K-M2 is the step sharpness, whatever the rate
        found = meter.directional_sharpness(lr=lr)
        assert found.curvature == pytest.approx(expected, rel=1e-5)
        assert found.lambda_dir == pytest.approx(expected, rel=1e-5)
    step = meter.directional_sharpness({"weight": -0.25 * network.weight.grad}, lr=0.25)
    assert step.lambda_dir == pytest.approx(expected, rel=1e-5)
    assert step.length == pytest.approx(0.25 * float(gradient.norm()), rel=1e-5)


# --- optimizers -------------------------------------------------------------------------------------------------------


def trained_setting(make: Callable[[nn.Module], torch.optim.Optimizer]) -> tuple[nn.Module, LineMeter, Any, Any]:
    network, meter, mean = setting("plain")
    optimizer = make(network)
    inputs, targets = torch.randn(40, 4, dtype=torch.float64), torch.randint(0, 3, (40,))
    for rows in torch.arange(40).split(8):
        optimizer.zero_grad()
        functional.cross_entropy(network(inputs[rows]), targets[rows]).backward()
        optimizer.step()
    return network, meter, mean, optimizer


@pytest.mark.parametrize("frozen", [False, True])
def test_adam_s_sharpness_is_that_of_the_dense_preconditioned_hessian(frozen: bool) -> None:
    """With `frozen` the first layer is not the optimizer's: it does not move, and counts for nothing."""
    network, meter, mean, optimizer = trained_setting(
        lambda network: torch.optim.AdamW(
            network[2].parameters() if frozen else network.parameters(),
            lr=0.01,
            betas=(0.8, 0.95),
            eps=1e-4,  # type: ignore[index]
        )
    )
    dense = dense_hessian(mean, network)
    parts = []
    for parameter in optimizer.param_groups[0]["params"]:
        state = optimizer.state[parameter]
        assert float(state["step"]) == 5
        parts.append(((1 - 0.8**5) * ((state["exp_avg_sq"] / (1 - 0.95**5)).sqrt() + 1e-4)).flatten())
    scales = torch.cat(parts) ** -0.5
    moved = dense[-len(scales) :, -len(scales) :]
    expected = torch.linalg.eigvalsh(scales[:, None] * moved * scales).flip(0)[:2]
    before = everything(network)
    found = meter.sharpness(2, optimizer=optimizer, tolerance=1e-8)
    assert everything(network) == before
    np.testing.assert_allclose(found.values, expected, rtol=1e-7)
    assert found.preconditioned
    assert found.threshold == pytest.approx((2 - 0.01 * 0.01) * 1.8 / (0.2 * 0.01))
    plain = meter.sharpness(optimizer=torch.optim.SGD(optimizer.param_groups[0]["params"], lr=0.1), tolerance=1e-8)
    assert plain.largest == pytest.approx(float(torch.linalg.eigvalsh(moved)[-1]), rel=1e-7)
    assert plain.threshold == pytest.approx(20)


OPTIMIZERS: dict[str, Callable[[list[nn.Parameter]], torch.optim.Optimizer]] = {
    "sgd": lambda own: torch.optim.SGD(own, lr=0.1, weight_decay=0.5),
    "heavy_ball": lambda own: torch.optim.SGD(own, lr=0.1, momentum=0.9, dampening=0.4, weight_decay=0.5),
    "nesterov": lambda own: torch.optim.SGD(own, lr=0.1, momentum=0.7, nesterov=True, weight_decay=0.5),
    "adam": lambda own: torch.optim.Adam(own, lr=0.1, betas=(0.9, 1 - 1e-15)),
    "adamw": lambda own: torch.optim.AdamW(own, lr=0.1, betas=(0.8, 1 - 1e-15), weight_decay=0.7),
}


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_steps_grow_above_the_threshold_and_shrink_below_it(name: str) -> None:
    """The optimizer itself on a quadratic with that sharpness; Adam with a preconditioner that does not move."""
    for share, grows in ((0.98, False), (1.02, True)):
        point = nn.Linear(2, 1, bias=False).double()  # loss: curvature/2 * |w|^2
        optimizer = OPTIMIZERS[name](list(point.parameters()))
        [weight] = point.parameters()
        if isinstance(optimizer, torch.optim.Adam):
            square = torch.full_like(weight, 1e-6)
            optimizer.state[weight] = {
                "step": torch.tensor(1e9, dtype=torch.float64),
                "exp_avg": torch.zeros_like(weight),
                "exp_avg_sq": square,
            }
        inputs = torch.eye(2, dtype=torch.float64) * math.sqrt(2)
        curvature = 1.0

        def loss(outputs: Tensor, targets: Tensor) -> Tensor:
            return curvature / 2 * outputs.squeeze(1) ** 2  # noqa: B023

        unit = LineMeter(point, loss, inputs, torch.zeros(2)).sharpness(optimizer=optimizer)
        assert unit.threshold is not None
        curvature = share * unit.threshold / unit.largest
        again = LineMeter(point, loss, inputs, torch.zeros(2)).sharpness(optimizer=optimizer)
        assert again.largest == pytest.approx(share * unit.threshold, rel=1e-6)
        with torch.no_grad():
            weight.fill_(1e-9)
        for _ in range(1500):
            weight.grad = curvature * weight.detach()
            optimizer.step()
            if float(weight.detach()[0, 0]) > 1e-6:
                break
        assert (float(weight.detach()[0, 0]) > 1e-6) is grows


def test_optimizers_that_no_formula_covers_are_refused() -> None:
    network, meter, _ = setting("plain")
    own = list(network.parameters())
    for optimizer, fault in (
        (torch.optim.RMSprop(own, lr=0.1), "must be torch.optim.SGD, Adam or AdamW, got RMSprop"),
        (torch.optim.NAdam(own, lr=0.1), "got NAdam"),
        (torch.optim.Adam(own, lr=0.1, amsgrad=True), "must not use amsgrad"),
        (torch.optim.SGD(own, lr=0.1, maximize=True), "must not use maximize"),
        (torch.optim.Adam(own, lr=0.1), "must have taken a step .* got none with '0.weight'"),
        (torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=0.1), "got one of another network"),
        ("sgd", "got str"),
    ):
        with pytest.raises(SgdlineError, match=fault):
            meter.sharpness(optimizer=optimizer)  # type: ignore[arg-type]
    _, meter, _, optimizer = trained_setting(lambda network: torch.optim.Adam(network.parameters(), lr=0.1, eps=0.0))
    next(iter(optimizer.state.values()))["exp_avg_sq"].zero_()
    with pytest.raises(SgdlineError, match="preconditioner must be finite and above 0"):
        meter.sharpness(optimizer=optimizer)


def test_a_wrapped_optimizer_is_the_one_inside() -> None:
    accelerate = pytest.importorskip("accelerate")
    _, meter, _, optimizer = trained_setting(lambda network: torch.optim.AdamW(network.parameters(), lr=0.1))
    wrapped = accelerate.Accelerator(cpu=True).prepare(optimizer)
    assert type(wrapped).__name__ == "AcceleratedOptimizer"
    found, expected = (meter.sharpness(optimizer=used) for used in (wrapped, optimizer))
    assert found.largest == pytest.approx(expected.largest, rel=1e-2)
    assert found.threshold == expected.threshold


def test_groups_have_one_threshold_or_none() -> None:
    network, meter, _ = setting("plain", chunk_size=SAMPLES)
    own = list(network.parameters())

    def threshold(*groups: dict[str, Any], kind: Any = torch.optim.SGD) -> float | None:
        both = [{"params": part} | group for part, group in zip((own[:2], own[2:]), groups, strict=True)]
        optimizer = kind(both, lr=0.1)
        if kind is torch.optim.Adam:
            for parameter in own:
                state = {"step": torch.tensor(9.0), "exp_avg_sq": torch.ones_like(parameter)}
                optimizer.state[parameter] = state
        return meter.sharpness(optimizer=optimizer).threshold

    assert threshold({}, {"lr": 0.2}) is None
    assert threshold({}, {"momentum": 0.9}) is None
    assert threshold({"weight_decay": 0.5}, {"weight_decay": 0.0}) == pytest.approx(19.5)
    assert threshold({"lr": 0.0}, {"lr": 0.0}) is None
    assert threshold({}, {}, kind=torch.optim.Adam) == pytest.approx(380)
    assert threshold({}, {"weight_decay": 0.1}, kind=torch.optim.Adam) is None  # through the preconditioner


# --- noise ------------------------------------------------------------------------------------------------------------


def noise_setting(rows: list[int], *, weights: Tensor | None = None) -> tuple[LineMeter, Tensor]:
    """Return a meter of a linear regression on some rows of five, and the gradients of all five samples."""
    draws = torch.Generator().manual_seed(4)
    inputs = torch.randn(5, 3, dtype=torch.float64, generator=draws)
    targets = 2 * torch.randn(5, dtype=torch.float64, generator=draws)
    network = nn.Linear(3, 1, bias=False).double()
    with torch.no_grad():
        network.weight.fill_(0.5)
    gradients = (inputs.sum(1) / 2 - targets)[:, None] * inputs
    meter = LineMeter(
        network,
        lambda outputs, targets: (outputs.squeeze(1) - targets) ** 2 / 2,
        inputs[rows],
        targets[rows],
        weights=weights,
        check_slope=False,
    )
    return meter, gradients


def test_the_trace_of_all_divisions_of_a_set_is_that_of_its_covariance() -> None:
    """Batches of 2, 2 and 1 without replacement: the mean over all orders is exact, as the estimate is unbiased."""
    found = []
    for first in itertools.combinations(range(5), 2):
        rest = [row for row in range(5) if row not in first]
        for second in itertools.combinations(rest, 2):
            meter, gradients = noise_setting([*first, *second, *(set(rest) - set(second))])
            found.append(meter.noise_scale(batch_size=2))
    full = gradients.mean(0)
    expected = float(((gradients - full) ** 2).sum() / 4)
    assert np.mean([one.trace for one in found]) == pytest.approx(expected, rel=1e-10)
    assert all(one.full_squared_gradient == pytest.approx(float(full @ full), rel=1e-10) for one in found)
    assert {(one.batches, one.batch_size, one.samples) for one in found} == {(3, 2, 5)}


def test_both_estimates_are_unbiased_for_independent_samples() -> None:
    """All 27 draws of three samples out of three."""
    found = []
    for rows in itertools.product(range(3), repeat=3):
        meter, gradients = noise_setting(list(rows))
        found.append(meter.noise_scale(batch_size=2))
    gradients = gradients[:3]
    mean = gradients.mean(0)
    assert np.mean([one.trace for one in found]) == pytest.approx(float(((gradients - mean) ** 2).sum() / 3), rel=1e-10)
    assert np.mean([one.squared_gradient for one in found]) == pytest.approx(float(mean @ mean), rel=1e-10)
    assert any(one.squared_gradient <= 0 for one in found)
    for one in found:
        assert math.isnan(one.scale) == (one.squared_gradient <= 0) == str(one).startswith("no noise scale")


def test_equal_batches_give_the_paper_s_formulas_and_a_naive_jackknife() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Dropout(0.3), nn.Linear(3, 3)).double()
    inputs, targets = torch.randn(30, 4, dtype=torch.float64), torch.randint(0, 3, (30,))
    meter = LineMeter(network, CROSS_ENTROPY, inputs, targets)
    before = everything(network)
    found = meter.noise_scale(batch_size=6)
    assert everything(network) == before
    own, gradients = copy.deepcopy(network), []
    for place in range(5):
        rows = slice(6 * place, 6 * place + 6)
        torch.manual_seed(derive_seed(0, "line_masks", place))
        loss = functional.cross_entropy(own(inputs[rows]), targets[rows])
        gradients.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(own.parameters()))]))

    def estimates(batches: list[Tensor]) -> tuple[float, float]:
        small, big = 6, 6 * len(batches)
        full = torch.stack(batches).mean(0)
        small_square = float(torch.stack([g @ g for g in batches]).mean())
        big_square = float(full @ full)
        square = (big * big_square - small * small_square) / (big - small)
        return (small_square - big_square) / (1 / small - 1 / big), square

    trace, square = estimates(gradients)
    assert found.trace == pytest.approx(trace, rel=1e-10)
    assert found.squared_gradient == pytest.approx(square, rel=1e-10)
    assert found.scale == pytest.approx(trace / square, rel=1e-10)
    left = np.array([estimates(gradients[:j] + gradients[j + 1 :]) for j in range(5)])
    for error, values in (
        (found.trace_error, left[:, 0]),
        (found.squared_gradient_error, left[:, 1]),
        (found.scale_error, left[:, 0] / left[:, 1]),
    ):
        assert error == pytest.approx(float(np.sqrt(0.8 * ((values - values.mean()) ** 2).sum())), rel=1e-8)
    assert found.scale_of_set == pytest.approx(trace / found.full_squared_gradient)


def test_weights_of_samples_enter_the_noise() -> None:
    """A weight of 0 with batches of one: the deviations are w_i (grad l_i - g) / mean w, one per sample."""
    weights = torch.tensor([1.0, 3.0, 0.0, 0.5, 2.0], dtype=torch.float64)
    meter, gradients = noise_setting(list(range(5)), weights=weights)
    full = (weights[:, None] * gradients).sum(0) / weights.sum()
    deviations = weights[:, None] * (gradients - full) / weights.mean()
    found = meter.noise_scale(batch_size=1)
    assert found.trace == pytest.approx(float((deviations**2).sum() / 4), rel=1e-10)
    assert found.full_squared_gradient == pytest.approx(float(full @ full), rel=1e-10)


# --- what must not happen ---------------------------------------------------------------------------------------------


def test_training_does_not_notice() -> None:
    def trained(*, measures: bool) -> list[Any]:
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))
        seen: list[int] = []
        for parameter in network.parameters():
            parameter.register_hook(lambda gradient: seen.append(1) or gradient * 0.5)  # type: ignore[func-returns-value]
        network[4].register_full_backward_hook(lambda *_: seen.append(2))  # type: ignore[arg-type]
        optimizer = torch.optim.AdamW(network.parameters(), lr=0.01)
        inputs, targets = torch.randn(60, 4), torch.randint(0, 3, (60,))
        meter = LineMeter(network, CROSS_ENTROPY, inputs, targets, chunk_size=30)
        for batch in torch.randperm(40).split(20):
            optimizer.zero_grad()
            loss = functional.cross_entropy(network(inputs[batch]), targets[batch])
            if measures:  # between forward and backward, and without gradients
                with torch.no_grad():
                    meter.sharpness()
            loss.backward()
            if measures:
                with torch.inference_mode():
                    meter.directional_sharpness()
            optimizer.step()
            if measures:
                with torch.autocast("cpu", dtype=torch.bfloat16):
                    assert meter.sharpness(optimizer=optimizer).converged
                meter.noise_scale()
        return [seen, everything(network)[0], everything(network)[2:]]

    assert trained(measures=True) == trained(measures=False)


def test_values_depend_on_nothing_around_the_call() -> None:
    values = []
    for seed in range(2):
        network, meter, _ = setting("batch_norm")
        torch.manual_seed(seed)
        network.train(seed == 0)
        values.append(meter.sharpness().values.tolist())
        assert network.training is (seed == 0)
    assert values[0] == values[1]


def test_what_has_not_converged_says_so() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(30, 40), nn.Tanh(), nn.Linear(40, 10))
    inputs, targets = torch.randn(64, 30), torch.randint(0, 10, (64,))
    meter = LineMeter(network, CROSS_ENTROPY, inputs, targets, chunk_size=32)
    found = meter.sharpness(2, tolerance=1e-12, max_products=60)
    assert not found.converged
    assert f"not converged after {found.products} products" in str(found)
    assert found.products <= 60
    tight = [meter.sharpness(2, tolerance=1e-4) for _ in range(2)]
    assert tight[1].products < tight[0].products  # starts where the first one ended
    assert "not converged" not in str(tight[0])
    with torch.no_grad():
        network[0].weight.fill_(float("nan"))
    broken = LineMeter(network, CROSS_ENTROPY, inputs, targets, check_slope=False).sharpness(2)
    assert np.isnan(broken.values).all()
    assert not broken.converged
    assert str(broken) == "nan (residual nan), nan (residual nan), not converged after 1 products"


class _OnceDifferentiable(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor) -> Tensor:
        ctx.save_for_backward(inputs)
        return inputs**2

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        [inputs] = ctx.saved_tensors
        return 2 * inputs * gradient


class _HalfProduct(torch.autograd.Function):
    """A product one of whose gradients is cut off from the other factor, as in torch's fused weight_norm."""

    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor) -> Tensor:
        ctx.save_for_backward(left, right)
        return left * right

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        left, right = ctx.saved_tensors
        return gradient * right.detach(), gradient * left


class Asymmetric(nn.Linear):
    def forward(self, inputs: Tensor) -> Tensor:
        weight: Tensor = _HalfProduct.apply(self.weight, self.bias[:, None].expand(3, 4))  # type: ignore[no-untyped-call]
        return functional.linear(inputs, weight)


class WithoutSecondDerivative(nn.Linear):
    def forward(self, inputs: Tensor) -> Tensor:
        found: Tensor = _OnceDifferentiable.apply(super().forward(inputs))  # type: ignore[no-untyped-call]
        return found


class Merging(nn.Linear):
    """Merges a low-rank part into its weight in eval mode."""

    def __init__(self) -> None:
        super().__init__(4, 3)
        self.left, self.right = nn.Parameter(torch.randn(3, 1)), nn.Parameter(torch.randn(1, 4))
        self.weight.requires_grad = False
        self.merged = False

    def train(self, mode: bool = True) -> Merging:
        super().train(mode)
        if mode == self.merged:
            self.weight.data += (-1 if mode else 1) * self.left.data @ self.right.data
            self.merged = not mode
        return self

    def forward(self, inputs: Tensor) -> Tensor:
        weight = self.weight if self.merged else self.weight + self.left @ self.right
        return functional.linear(inputs, weight, self.bias)


def test_what_cannot_be_measured_is_refused_in_one_sentence() -> None:
    torch.manual_seed(0)
    inputs, targets = torch.randn(21, 4), torch.randint(0, 3, (21,))

    def meter(network: nn.Module, **options: Any) -> LineMeter:
        return LineMeter(network, CROSS_ENTROPY, inputs, targets, **({"chunk_size": 10} | options))

    normal = nn.Linear(4, 3)
    for measure, fault in (
        (lambda: meter(Asymmetric(4, 3)).sharpness(), "Hessian must be symmetric"),
        (lambda: meter(WithoutSecondDerivative(4, 3)).sharpness(), "must have second derivatives"),
        (
            lambda: meter(Merging(), mode="eval").sharpness(),
            "must leave its weights alone in eval mode, .*weight",
        ),
        (lambda: meter(nn.Sequential(normal, nn.BatchNorm1d(3))).sharpness(), "at least two samples for BatchNorm"),
        (lambda: meter(normal, weights=torch.zeros(21)).sharpness(), "must add up to more than 0"),
        (lambda: meter(normal).sharpness(15), "k must be below .* \\(15\\), got 15"),
        (lambda: meter(normal).sharpness(0), "k must be a whole number above 0"),
        (
            lambda: meter(normal).sharpness(torch.optim.SGD(normal.parameters(), lr=0.1)),  # type: ignore[arg-type]
            "k must be a whole number above 0, got SGD. Pass it by name: optimizer=",
        ),
        (lambda: meter(normal).sharpness(tolerance=-1.0), "tolerance must be a finite number above 0"),
        (lambda: meter(normal).sharpness(max_products=10), "max_products must be at least 52"),
        (lambda: meter(normal).directional_sharpness(), "must have a finite length above 0, got 0"),
        (lambda: meter(normal).directional_sharpness({"weight": torch.ones(3, 4)}), "got a difference at 'bias'"),
        (lambda: meter(normal).directional_sharpness(lr=0.0), "lr must be a finite number above 0"),
        (lambda: meter(normal, chunk_size=None).noise_scale(), "batch_size must be below .* \\(21\\), got 21"),
        (lambda: meter(normal).noise_scale(batch_size=2.5), "batch_size must be a whole number"),  # type: ignore[arg-type]
        (lambda: meter(nn.Sequential(nn.Unflatten(1, (5, 2)), normal)).sharpness(), "must take the inputs"),
    ):
        with pytest.raises(SgdlineError, match=fault):
            measure()
    merged = Merging()
    before = everything(merged)
    with pytest.raises(SgdlineError):
        meter(merged, mode="eval").sharpness()
    assert everything(merged) == before
    adapted = meter(Merging(), mode="train").sharpness()
    assert adapted.converged
