"""The line engine's ways on a GPU against the naive float64 loop on the CPU."""

from __future__ import annotations

import pytest
import torch
from networks import RANDOM, cross_entropy, images, make_network, naive_losses, unit_direction
from torch import nn

from sgdline.engine.lines import LineEngine, chunk_means, mean_losses
from sgdline.engine.plan import Plan
from sgdline.engine.trial import Subject, Wishes, Work, _Trial, choose_plan
from sgdline.runtime import use_deterministic_kernels
from sgdline.seeds import seed_masks

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

SIZES = [16, 16, 16, 5]
SEEDS = [11, 12, 13, 14]
POSITIONS = [-0.4, 0.0, 0.15, 0.6]
PLANS = {
    "plain": Plan(in_place=True),
    "grouped": Plan(reseed=False, chunks_per_pass=4),
    "grouped_view": Plan(reseed=False, chunks_per_pass=3, statistics="view"),
    "positions": Plan(reseed=False, positions_per_pass=3, chunks_per_pass=2),
    "channels_last": Plan(channels_last=True),
    "float64": Plan(precision="float64"),
    "graphs": Plan(reseed=False, chunks_per_pass=2, statistics="view", cuda_graphs=True),
    "compiled": Plan(reseed=False, chunks_per_pass=2, statistics="view", compiled=True),
    "compiled_graphs": Plan(reseed=False, chunks_per_pass=2, statistics="view", compiled=True, cuda_graphs=True),
}


@pytest.mark.parametrize("name", ["mlp", "resnet", "group_norm", "tied", "frozen"])
@pytest.mark.parametrize("plan", sorted(PLANS))
def test_losses_agree_with_the_naive_loop(name: str, plan: str) -> None:
    use_deterministic_kernels()
    network = make_network(name)
    inputs, targets = images(sum(SIZES))
    direction = unit_direction(network)
    exact = torch.stack(
        [
            naive_losses(network, direction, position, inputs, targets, chunk_size=16, mask_seeds=SEEDS)
            for position in POSITIONS
        ]
    )
    network.cuda()
    engine = LineEngine(network, cross_entropy, batch_norm="train", plan=PLANS[plan])
    measured = engine.prepare(inputs.cuda(), targets.cuda(), chunk_size=16, mask_seeds=SEEDS)
    along = {key: part.cuda() for key, part in direction.items()}
    for _ in range(2):  # the second line replays what the first one recorded
        with engine.line(along) as line:
            found = line.losses(POSITIONS, measured).cpu()
        tolerance = 1e-12 if PLANS[plan].precision == "float64" else 2e-5
        torch.testing.assert_close(mean_losses(found), mean_losses(exact), rtol=0, atol=tolerance)
        torch.testing.assert_close(chunk_means(found, SIZES), chunk_means(exact, SIZES), rtol=0, atol=4 * tolerance)


def test_graphs_follow_the_parameters() -> None:
    network = make_network("resnet").cuda()
    inputs, targets = (part.cuda() for part in images(64))
    plan = Plan(reseed=False, chunks_per_pass=2, statistics="view", cuda_graphs=True)
    engine = LineEngine(network, cross_entropy, batch_norm="train", plan=plan)
    measured = engine.prepare(inputs, targets, chunk_size=16, mask_seeds=[0] * 4)
    direction = unit_direction(network.cpu())
    network.cuda()
    along = {key: part.cuda() for key, part in direction.items()}
    with engine.line(along) as line:
        first = line.losses([0.0, 0.3], measured)
        assert not torch.equal(first[0], first[1])
        assert torch.equal(line.losses([0.0], measured)[0], first[0])
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.05)
    plain = LineEngine(network, cross_entropy, batch_norm="train", plan=Plan(in_place=True))
    expected_set = plain.prepare(inputs, targets, chunk_size=16, mask_seeds=[0] * 4)
    with engine.line(along) as line, plain.line(along) as other:
        torch.testing.assert_close(
            mean_losses(line.losses([0.3], measured)),
            mean_losses(other.losses([0.3], expected_set)),
            rtol=1e-5,
            atol=1e-5,
        )


def subject(network: nn.Module, device: torch.device) -> Subject:
    """Return a subject of 72 samples, with its network moved to a device."""
    inputs, targets = (part.to(device) for part in images(72))
    direction = {key: part.to(device) for key, part in unit_direction(network).items()}
    return Subject(
        model=network.to(device),
        loss=cross_entropy,
        batch_norm="train",
        inputs=inputs,
        targets=targets,
        chunk_size=16,
        mask_seeds=list(range(5)),
        direction=direction,
        interval=0.5,
    )


WORK = Work(lines=10, positions=20, samples=72)


@pytest.mark.parametrize("name", ["mlp", "resnet", *sorted(RANDOM)])
def test_the_trial_finds_a_plan(name: str) -> None:
    report = choose_plan(subject(make_network(name), torch.device("cuda")), Wishes(), WORK)
    assert report.plan.reseed == (name in RANDOM)
    # Masks of another precision would look like an error of float32.
    assert report.plan.precision != "float64"
    assert report.precision_error is not None
    assert report.precision_error <= 3e-5


@pytest.mark.parametrize("name", sorted(RANDOM))
def test_masks_are_those_of_the_step_in_every_precision(name: str) -> None:
    use_deterministic_kernels()
    network = make_network(name).cuda()
    inputs, targets = (part.cuda() for part in images(sum(SIZES)))
    along = {key: part.cuda() for key, part in unit_direction(make_network(name)).items()}
    seed_masks(SEEDS[0], inputs.device)
    with torch.no_grad():
        step = cross_entropy(network.train()(inputs[: SIZES[0]]), targets[: SIZES[0]])
    for precision, tolerance in (("float32", 1e-5), ("float64", 1e-4), ("bfloat16", 0.1)):
        engine = LineEngine(network, cross_entropy, batch_norm="train", plan=Plan(precision=precision))
        measured = engine.prepare(inputs, targets, chunk_size=16, mask_seeds=SEEDS)
        with engine.line(along) as line:
            found = line.losses([0.0], measured)[0, : SIZES[0]]
        torch.testing.assert_close(found.float(), step, rtol=0, atol=tolerance)


@pytest.mark.parametrize("computes", [True, False])
def test_a_captured_graph_is_replayed_before_it_is_believed(monkeypatch: pytest.MonkeyPatch, computes: bool) -> None:
    if not computes:
        monkeypatch.setattr(torch.cuda.CUDAGraph, "replay", lambda _: None)
    trial = _Trial(subject(make_network("resnet"), torch.device("cuda")), Wishes(), WORK, lambda *_: None)
    found = trial._tried(Plan(reseed=False, cuda_graphs=True), label="graphs")
    assert (found is not None) == computes
    assert any("graphs left out" in note for note in trial._notes) != computes


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two CUDA devices")
@pytest.mark.parametrize("plan", ["plain", "graphs", "compiled_graphs"])
def test_a_device_that_is_not_current_works(plan: str) -> None:
    use_deterministic_kernels()
    other = torch.device("cuda", (torch.cuda.current_device() + 1) % torch.cuda.device_count())
    there = subject(make_network("resnet"), other)
    losses = []
    for each in (PLANS[plan], Plan(in_place=True)):
        engine = LineEngine(there.model, cross_entropy, batch_norm="train", plan=each)
        measured = engine.prepare(there.inputs, there.targets, chunk_size=16, mask_seeds=there.mask_seeds)
        with engine.line(there.direction) as line:
            losses.append(line.losses([0.0, 0.3, 0.0], measured))
    torch.testing.assert_close(*(mean_losses(each) for each in losses), rtol=0, atol=2e-5)
    assert torch.cuda.current_device() != other.index
    assert choose_plan(there, Wishes(), WORK).precision_error is not None
