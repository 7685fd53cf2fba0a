"""Every way of making forward passes against a naive loop in float64: fresh copies, chunk by chunk."""

from __future__ import annotations

import pytest
import torch
from networks import (
    MIXING,
    NETWORKS,
    RANDOM,
    STATEFUL,
    cross_entropy,
    images,
    make_network,
    naive_losses,
    unit_direction,
)

from sgdline.engine.lines import LineEngine, chunk_means, mean_losses
from sgdline.engine.plan import Plan

SIZES = [16, 16, 16, 5]
SEEDS = [11, 12, 13, 14]
POSITIONS = [-0.4, 0.0, 0.15, 0.6]
PLANS = {
    "plain": Plan(in_place=True),
    "copy": Plan(),
    "grouped": Plan(reseed=False, chunks_per_pass=4),
    "grouped_view": Plan(reseed=False, chunks_per_pass=3, statistics="view"),
    "positions": Plan(reseed=False, positions_per_pass=3, chunks_per_pass=2),
    "channels_last": Plan(channels_last=True),
    "float64": Plan(precision="float64"),
    "float64_grouped": Plan(precision="float64", reseed=False, chunks_per_pass=2, positions_per_pass=2),
}
# Networks that mix samples or draw random numbers go chunk by chunk (the trial sees to it).
ALONE = RANDOM | MIXING
CASES = [
    (name, plan)
    for name in sorted(NETWORKS)
    for plan, ways in sorted(PLANS.items())
    if (ways.reseed or name not in ALONE) and (ways.positions_per_pass == 1 or name not in STATEFUL)
]


@pytest.mark.parametrize("batch_norm", ["train", "eval"])
@pytest.mark.parametrize(("name", "plan"), CASES)
def test_losses_agree_with_the_naive_loop(name: str, plan: str, batch_norm: str) -> None:
    network = make_network(name)
    inputs, targets = images(sum(SIZES))
    direction = unit_direction(network)
    engine = LineEngine(network, cross_entropy, batch_norm=batch_norm, plan=PLANS[plan])
    measured = engine.prepare(inputs, targets, chunk_size=16, mask_seeds=SEEDS)
    with engine.line(direction) as line:
        found = line.losses(POSITIONS, measured)
    exact = torch.stack(
        [
            naive_losses(
                network,
                direction,
                position,
                inputs,
                targets,
                chunk_size=16,
                mask_seeds=SEEDS,
                train_mode=batch_norm == "train",
            )
            for position in POSITIONS
        ]
    )
    # In float64 only the rounding of the random masks' scale to float32 and of sums is left.
    tolerance = 1e-12 if PLANS[plan].precision == "float64" else 1e-5
    torch.testing.assert_close(mean_losses(found), mean_losses(exact), rtol=0, atol=tolerance)
    torch.testing.assert_close(chunk_means(found, SIZES), chunk_means(exact, SIZES), rtol=0, atol=4 * tolerance)
    torch.testing.assert_close(found.double(), exact, rtol=0, atol=100 * tolerance)
