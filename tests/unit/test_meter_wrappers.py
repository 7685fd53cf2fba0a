"""Wrapped networks: data-parallel ones, of which one process alone measures, and compiled ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from networks import cross_entropy, unit_direction
from torch import Tensor, nn
from two_processes import run_two

from sgdline.engine.plan import Plan
from sgdline.lines import LineMeter

# Both processes train two networks; the first one alone measures one of them. SyncBatchNorm trains on GPUs only, but
# is measured everywhere.
PROCESS = """
import sys
from datetime import timedelta

import torch
import torch.distributed as distributed
from torch import nn

from sgdline.lines import LineMeter, Plan

rank, store = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
distributed.init_process_group(
    "gloo", init_method=f"file://{store}", rank=rank, world_size=2, timeout=timedelta(seconds=30)
)
loss = nn.CrossEntropyLoss(reduction="none")
torch.manual_seed(0)
inputs, targets = torch.randn(32, 6), torch.randint(0, 3, (32,))
options = {"chunk_size": 8, "interval": 0.2, "resolution": 0.1, "plan": Plan()}
networks = [nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 3)) for _ in range(2)]
networks[1].load_state_dict(networks[0].state_dict())
wrapped = [nn.parallel.DistributedDataParallel(network) for network in networks]
optimizers = [torch.optim.SGD(each.parameters(), lr=0.1) for each in wrapped]
meters = [LineMeter(each, loss, inputs, targets, **options) for each in (wrapped[0], networks[0])]
for update in range(3):
    for each, optimizer in zip(wrapped, optimizers):
        optimizer.zero_grad()
        rows = slice(16 * rank, 16 * rank + 16)
        loss(each(inputs[rows]), targets[rows]).mean().backward()
    optimizers[1].step()
    if rank == 0:
        lines = [meter.measure() for meter in meters]
        assert (lines[0].losses == lines[1].losses).all()
        meters[0].measure_step(optimizers[0])
    else:
        optimizers[0].step()
if rank == 0:
    synchronised = nn.SyncBatchNorm.convert_sync_batchnorm(networks[0])
    ones = {name: torch.ones_like(p) for name, p in synchronised.named_parameters()}
    assert type(synchronised[1]) is nn.SyncBatchNorm
    lines = [
        LineMeter(each, loss, inputs, targets, **{**options, "plan": plan}).measure(ones).losses
        for each in (networks[1], synchronised)
        for plan in (Plan(), Plan(in_place=True))
    ]
    assert max(abs(line - lines[0]).max() for line in lines) < 1e-6
    assert type(synchronised[1]) is nn.SyncBatchNorm
distributed.barrier()
states = [network.state_dict() for network in networks]
assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
distributed.destroy_process_group()
print("all the same")
"""


def test_one_process_measures_and_the_group_trains_on(tmp_path: Path) -> None:
    run_two(PROCESS, tmp_path / "store", says="all the same", seconds=60)


class Outer(nn.Module):
    """A network with a compiled part inside."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body, self.head = body, nn.Linear(4, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(torch.tanh(self.body(inputs)))


@pytest.mark.filterwarnings("ignore")  # torch's own, at its first compilation
def test_compiled_networks_are_measured_without_compiling() -> None:
    torch.manual_seed(0)
    inputs, targets = torch.randn(22, 6), torch.randint(0, 3, (22,))
    bare = Outer(nn.Linear(6, 4))
    runs: list[int] = []

    def backend(graph: torch.fx.GraphModule, _examples: list[Tensor]) -> torch.fx.GraphModule:
        runs.append(1)
        return graph

    def line(network: nn.Module, plan: Plan | None) -> np.ndarray:
        meter = LineMeter(
            network, cross_entropy, inputs, targets, chunk_size=8, interval=0.2, resolution=0.1, max_rings=1, plan=plan
        )
        direction = unit_direction(network)
        return np.stack([meter.measure(direction).losses for _ in range(2)])

    expected = line(bare, Plan())
    whole = torch.compile(bare, backend=backend)
    np.testing.assert_allclose(line(whole, Plan()), expected, atol=1e-6)
    bare.body = torch.compile(bare.body, backend=backend)  # type: ignore[assignment]
    for plan in (Plan(), Plan(in_place=True), None):
        np.testing.assert_allclose(line(bare, plan), expected, atol=1e-6)
    assert runs == []
    bare(inputs)
    assert runs == [1]  # the network itself still compiles
