"""The line engine leaves everything as it was, shares its draws along a line and gives one answer under any plan."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import MIXING, NETWORKS, RANDOM, STATEFUL, cross_entropy, images, make_network, unit_direction
from torch import Tensor, nn

from sgdline.engine.lines import LineEngine, chunk_means, mean_losses
from sgdline.engine.plan import Plan, PlanReport, read_plan, write_plan
from sgdline.errors import SgdlineError
from sgdline.models.parameters import buffers_of

PLANS = {
    "plain": Plan(in_place=True),
    "copy": Plan(),
    "grouped": Plan(reseed=False, chunks_per_pass=3),
    "grouped_view": Plan(reseed=False, chunks_per_pass=2, statistics="view"),
    "positions": Plan(reseed=False, positions_per_pass=2),
    "positions_and_chunks": Plan(reseed=False, positions_per_pass=4, chunks_per_pass=2, statistics="view"),
    "channels_last": Plan(channels_last=True),
    "float64": Plan(precision="float64"),
}
SIZES = [16, 16, 16, 2]
POSITIONS = [-0.5, 1e-3, 0.0, 7.0, 0.25]


def measure(network: nn.Module, plan: Plan, *, batch_norm: str = "train", count: int = 50) -> Tensor:
    inputs, targets = images(count)
    engine = LineEngine(network, cross_entropy, batch_norm=batch_norm, plan=plan)
    measured = engine.prepare(inputs, targets, chunk_size=16, mask_seeds=[5, 6, 7, 8])
    assert list(measured.sizes) == SIZES[: len(measured.sizes)]
    with engine.line(unit_direction(network)) as line:
        return line.losses(POSITIONS, measured)


@pytest.mark.parametrize("batch_norm", ["train", "eval"])
@pytest.mark.parametrize("name", sorted(NETWORKS))
@pytest.mark.parametrize("plan", ["plain", "copy", "positions_and_chunks"])
@pytest.mark.parametrize("fails", [False, True])
def test_measuring_leaves_the_network_bit_for_bit(name: str, batch_norm: str, plan: str, fails: bool) -> None:
    if name in RANDOM | STATEFUL and not PLANS[plan].reseed:
        plan = "copy"
    network = make_network(name)
    next(iter(network.children())).eval()  # a mixture of modes has to come back as well
    values = {key: value.clone() for key, value in network.state_dict().items()}
    before = buffers_of(network), torch.get_rng_state()
    modes = [module.training for module in network.modules()]
    types = [type(module) for module in network.modules()]
    needs = [parameter.requires_grad for parameter in network.parameters()]
    engine = LineEngine(network, cross_entropy, batch_norm=batch_norm, plan=PLANS[plan])
    measured = engine.prepare(*images(50), chunk_size=16, mask_seeds=[1, 2, 3, 4])
    try:
        with engine.line(unit_direction(network)) as line:
            line.losses(POSITIONS, measured)
            if fails:
                raise ArithmeticError
    except ArithmeticError:
        assert fails
    assert all(torch.equal(value, values[key]) for key, value in network.state_dict().items())
    assert all(torch.equal(tensor, before[0][key]) for key, tensor in buffers_of(network).items())
    assert torch.equal(torch.get_rng_state(), before[1])
    assert [module.training for module in network.modules()] == modes
    assert [type(module) for module in network.modules()] == types
    assert [parameter.requires_grad for parameter in network.parameters()] == needs


@pytest.mark.parametrize("name", sorted(set(NETWORKS) - RANDOM - MIXING))
@pytest.mark.parametrize("plan", ["grouped", "grouped_view", "positions", "positions_and_chunks", "channels_last"])
@pytest.mark.parametrize("batch_norm", ["train", "eval"])
def test_every_plan_gives_the_losses_of_the_plain_way(name: str, plan: str, batch_norm: str) -> None:
    if name in STATEFUL and PLANS[plan].positions_per_pass > 1:
        with pytest.raises(RuntimeError):
            measure(make_network(name), PLANS[plan])
        return
    # Four chunks of 16, 16, 16 and 2: passes end with the small one, alone or in company.
    expected = measure(make_network(name), PLANS["plain"], batch_norm=batch_norm)
    found = measure(make_network(name), PLANS[plan], batch_norm=batch_norm)
    for ours, theirs in (
        (mean_losses(found), mean_losses(expected)),
        (chunk_means(found, SIZES), chunk_means(expected, SIZES)),
    ):
        assert float(((ours - theirs).abs() / theirs.abs().clamp(min=1.0)).max()) < 1e-6


def test_chunks_in_one_pass_give_the_very_bits_of_chunks_alone_where_the_kernels_are_the_same() -> None:
    inputs = torch.randn(50, 6, 5, 5)
    from sgdline.engine.batchnorm import normalise_per_chunk

    alone, together = nn.BatchNorm2d(6), nn.BatchNorm2d(6)
    with torch.no_grad():
        alone.weight.copy_(torch.rand(6))
        alone.bias.copy_(torch.rand(6))
    together.load_state_dict(alone.state_dict())
    layout = normalise_per_chunk(together)
    layout.sizes = (16, 16, 16, 2)
    expected = torch.cat([alone(part) for part in inputs.split(16)])
    assert torch.equal(together(inputs), expected)
    assert torch.equal(together.running_mean, torch.zeros(6))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_a_position_gives_the_same_losses_whatever_came_before(name: str) -> None:
    network = make_network(name)
    engine = LineEngine(network, cross_entropy, batch_norm="train", plan=Plan())
    measured = engine.prepare(*images(40), chunk_size=16, mask_seeds=[1, 2, 3])
    with engine.line(unit_direction(network)) as line:
        first = line.losses([0.3], measured)
        line.losses([-1.0, 0.2, 5.0], measured)
        assert torch.equal(line.losses([0.3], measured), first)
    with engine.line(unit_direction(network)) as line:
        assert torch.equal(line.losses([0.3], measured), first)


def test_a_line_follows_the_network() -> None:
    # The engine holds a copy: parameters, frozen ones and buffers have to be taken over at every line.
    network = make_network("frozen")
    inputs, targets = images(32)
    engine = LineEngine(network, cross_entropy, batch_norm="eval", plan=Plan())
    measured = engine.prepare(inputs, targets, chunk_size=16, mask_seeds=[0, 0])
    with torch.no_grad():
        for tensor in (*network.parameters(), *(b for b in network.buffers() if b.is_floating_point())):
            tensor.mul_(1.1)
        network.eval()
        expected = cross_entropy(network(inputs), targets)
    with engine.line(unit_direction(network)) as line:
        torch.testing.assert_close(line.losses([0.0], measured)[0], expected, rtol=1e-5, atol=1e-6)


def test_exchanged_parameters_are_found() -> None:
    network = make_network("mlp")
    inputs, targets = images(32)
    engine = LineEngine(network, cross_entropy, batch_norm="eval", plan=Plan())
    measured = engine.prepare(inputs, targets, chunk_size=16, mask_seeds=[0, 0])
    other = {key: value * 1.2 if value.is_floating_point() else value for key, value in network.state_dict().items()}
    network.load_state_dict(other, assign=True)
    with engine.line(unit_direction(network)) as line:
        found = line.losses([0.0], measured)[0]
    network.eval()
    torch.testing.assert_close(found, cross_entropy(network(inputs), targets).detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("plan", ["plain", "copy", "positions"])
def test_an_autocast_around_the_call_stays_outside(plan: str) -> None:
    expected = measure(make_network("mlp"), PLANS[plan])
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(measure(make_network("mlp"), PLANS[plan]), expected)


@pytest.mark.parametrize("plan", ["plain", "copy", "grouped_view"])
def test_layers_in_eval_mode_of_a_training_network_stay_so(plan: str) -> None:
    network = make_network("resnet")
    frozen = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)][:2]
    for module in frozen:
        module.eval()
    inputs, targets = images(32)
    engine = LineEngine(network, cross_entropy, batch_norm="train", plan=PLANS[plan])
    measured = engine.prepare(inputs, targets, chunk_size=16, mask_seeds=[0, 0])
    with engine.line(unit_direction(network)) as line:
        found = line.losses([0.0], measured)[0]
    with torch.no_grad():
        expected = torch.cat(
            [cross_entropy(network(x), y) for x, y in zip(inputs.split(16), targets.split(16), strict=True)]
        )
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_complex_parameters_are_refused() -> None:
    network = nn.Linear(3, 2, dtype=torch.complex64)
    for plan in (Plan(), Plan(in_place=True)):
        with pytest.raises(SgdlineError, match="real floating-point"):
            LineEngine(network, cross_entropy, batch_norm="train", plan=plan)


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(4)))
def test_the_order_of_chunks_does_not_matter(order: list[int]) -> None:
    network = make_network("resnet")
    inputs, targets = images(64)
    engine = LineEngine(network, cross_entropy, batch_norm="train", plan=Plan(reseed=False, chunks_per_pass=2))
    rows = torch.cat([torch.arange(16) + 16 * index for index in order])
    with engine.line(unit_direction(network)) as line:
        expected = line.losses([0.1], engine.prepare(inputs, targets, chunk_size=16, mask_seeds=[0] * 4))[0]
        shuffled = engine.prepare(inputs[rows], targets[rows], chunk_size=16, mask_seeds=[0] * 4)
        torch.testing.assert_close(line.losses([0.1], shuffled)[0], expected[rows], rtol=1e-5, atol=1e-6)


def test_random_masks_differ_between_chunks_and_stay_along_the_line() -> None:
    network = make_network("mlp_dropout")
    inputs, targets = images(16)
    engine = LineEngine(network, cross_entropy, batch_norm="train", plan=Plan())
    measured = engine.prepare(torch.cat([inputs] * 3), torch.cat([targets] * 3), chunk_size=16, mask_seeds=[1, 2, 1])
    with engine.line({name: torch.zeros_like(p) for name, p in network.named_parameters()}) as line:
        losses = line.losses([0.0, 1.0], measured)
    assert torch.equal(losses[0, :16], losses[0, 32:])
    assert not torch.equal(losses[0, :16], losses[0, 16:32])
    assert torch.equal(losses[0], losses[1])


def test_losses_at_parameters_are_those_of_the_moved_network() -> None:
    network = make_network("resnet")
    engine = LineEngine(network, cross_entropy, batch_norm="train", plan=Plan(channels_last=True))
    measured = engine.prepare(*images(32), chunk_size=16, mask_seeds=[0, 0])
    direction = unit_direction(network)
    moved = {name: p.detach() + 0.5 * direction[name] for name, p in network.named_parameters()}
    with engine.line(direction) as line:
        found = line.losses_at(engine.network.flatten(moved), measured)[0]
        torch.testing.assert_close(found, line.losses([0.5], measured)[0], rtol=1e-5, atol=1e-6)


def test_a_mean_is_over_samples_not_over_chunks() -> None:
    assert mean_losses(torch.tensor([[1.0, 1.0, 1.0, 5.0]])).tolist() == [2.0]
    assert chunk_means(torch.tensor([[1.0, 1.0, 1.0, 5.0]]), [3, 1]).tolist() == [[1.0, 5.0]]
    # float32 accumulation of these would be off in the seventh digit
    values = torch.full((1, 300_000), 0.1)
    assert float(mean_losses(values)[0]) == pytest.approx(float(torch.tensor(0.1).double()), rel=1e-12)


def test_a_loss_may_have_several_values_per_sample_but_must_have_one_at_least() -> None:
    network = nn.Linear(3, 2)
    inputs, targets = torch.randn(10, 3), torch.randn(10, 2)
    engine = LineEngine(network, nn.MSELoss(reduction="none"), batch_norm="train", plan=Plan())
    measured = engine.prepare(inputs, targets, chunk_size=4, mask_seeds=[0] * 3)
    with engine.line(unit_direction(network)) as line:
        found = line.losses([0.0], measured)
    torch.testing.assert_close(found[0], ((network(inputs) - targets) ** 2).mean(1).detach())
    engine = LineEngine(network, nn.MSELoss(), batch_norm="train", plan=Plan())
    with engine.line(unit_direction(network)) as line, pytest.raises(SgdlineError, match="one value per sample"):
        line.losses([0.0], measured)


@pytest.mark.parametrize("fault", ["missing", "shape"])
def test_a_direction_that_does_not_fit_is_refused(fault: str) -> None:
    network = make_network("mlp")
    direction: dict[str, Any] = unit_direction(network)
    name = next(iter(direction))
    direction = {key: value for key, value in direction.items() if key != name}
    if fault == "shape":
        direction[name] = torch.zeros(3)
    engine = LineEngine(network, cross_entropy, batch_norm="train", plan=Plan())
    with pytest.raises(SgdlineError, match=name), engine.line(direction):
        pass


def test_plans_come_back_from_their_file_and_exclude_what_cannot_be(tmp_path: Any) -> None:
    report = PlanReport(Plan(reseed=False, chunks_per_pass=4, statistics="view"), 1e-6, 1e4, ("a note",))
    write_plan(tmp_path / "plan.json", report)
    assert read_plan(tmp_path / "plan.json") == report
    (tmp_path / "plan.json").write_text('{"plan": {"chunks": 3}}')
    with pytest.raises(SgdlineError, match="chunks"):
        read_plan(tmp_path / "plan.json")
    for wrong in ({"chunks_per_pass": 2}, {"in_place": True, "reseed": False, "positions_per_pass": 2}):
        with pytest.raises(SgdlineError):
            Plan(**wrong)
    numbers = ("chunks_per_pass", "positions_per_pass", "threads")
    wrongs: dict[str, list[Any]] = {name: [0, -1, 1.5, "2", True, 10**6] for name in numbers}
    wrongs |= {"precision": ["float8", np.ones(2)], "statistics": ["sums", None], "channels_last": ["no", None]}
    wrongs |= {name: ["no", 1, None] for name in ("compiled", "cuda_graphs", "reseed", "hooks", "in_place")}
    for name, values in wrongs.items():
        for value in values:
            with pytest.raises(SgdlineError, match=rf"^A plan's {name} must"):
                Plan(**{"reseed": False, name: value})


@pytest.mark.slow
def test_compiled_passes_agree_and_odd_sizes_go_without(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    expected = measure(make_network("mlp"), PLANS["plain"])
    found = measure(make_network("mlp"), Plan(reseed=False, chunks_per_pass=2, statistics="view", compiled=True))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
