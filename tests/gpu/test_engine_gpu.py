"""The line engine's ways on a GPU against the naive float64 loop on the CPU."""

from __future__ import annotations

import pytest
import torch
from networks import RANDOM, cross_entropy, images, make_network, naive_losses, unit_direction

from sgdline.engine.lines import LineEngine, chunk_means, mean_losses
from sgdline.engine.plan import Plan
from sgdline.engine.trial import Subject, Wishes, Work, choose_plan
from sgdline.runtime import use_deterministic_kernels

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


@pytest.mark.parametrize("name", ["mlp", "resnet", *sorted(RANDOM)])
def test_the_trial_finds_a_plan(name: str) -> None:
    network = make_network(name).cuda()
    inputs, targets = (part.cuda() for part in images(72))
    direction = {key: part.cuda() for key, part in unit_direction(network.cpu()).items()}
    network.cuda()
    report = choose_plan(
        Subject(
            model=network,
            loss=cross_entropy,
            batch_norm="train",
            inputs=inputs,
            targets=targets,
            chunk_size=16,
            mask_seeds=list(range(5)),
            direction=direction,
            interval=0.5,
        ),
        Wishes(),
        Work(lines=10, positions=20, samples=72),
    )
    assert report.plan.reseed == (name in RANDOM)
    assert report.precision_error is not None
    assert report.precision_error <= 3e-5
