"""The line engine leaves everything as it was and shares its draws along a line."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from sgdline.data.images import ImageSet
from sgdline.models import mlp, tiny_mobilenet, tiny_resnet
from sgdline.models.parameters import ParameterVector, buffers_of
from sgdline.probes.line import Chunk, LineEngine, cut_into_chunks, mean_of

SHAPE = (1, 8, 8)
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "mlp": lambda: mlp(input_shape=SHAPE, num_classes=10, hidden=[12], dropout=0.5),
    "resnet": lambda: tiny_resnet(input_shape=SHAPE, num_classes=10, width=4),
    "mobilenet": lambda: tiny_mobilenet(input_shape=SHAPE, num_classes=10, dropout=0.3),
}


def images(count: int, *, seed: int = 0) -> ImageSet:
    generator = torch.Generator().manual_seed(seed)
    return ImageSet(
        torch.randn(count, *SHAPE, generator=generator), torch.randint(0, 10, (count,), generator=generator)
    )


def opened(name: str, *, batch_norm: str = "train") -> tuple[nn.Module, ParameterVector, LineEngine, Tensor]:
    torch.manual_seed(1)
    network = NETWORKS[name]()
    vector = ParameterVector(network)
    direction = torch.randn(vector.size)
    return network, vector, LineEngine(network, vector, batch_norm=batch_norm), direction / direction.norm()


@pytest.mark.parametrize("batch_norm", ["train", "eval"])
@pytest.mark.parametrize("name", sorted(NETWORKS))
@pytest.mark.parametrize("fails", [False, True])
def test_measuring_leaves_the_network_bit_for_bit(name: str, batch_norm: str, fails: bool) -> None:
    network, vector, engine, direction = opened(name, batch_norm=batch_norm)
    network.train()
    next(iter(network.children())).eval()  # a mixture of modes has to come back as well
    before = vector.value.clone(), buffers_of(network), torch.get_rng_state()
    modes = [module.training for module in network.modules()]
    chunks = cut_into_chunks(images(50), chunk_size=16, seed=0, purpose="test")
    try:
        with engine.line(direction) as line:
            for position in (-0.5, 1e-3, 0.0, 7.0):
                line.losses(position, chunks)
            if fails:
                raise ArithmeticError
    except ArithmeticError:
        assert fails
    assert torch.equal(vector.value, before[0])
    assert all(torch.equal(tensor, before[1][key]) for key, tensor in buffers_of(network).items())
    assert torch.equal(torch.get_rng_state(), before[2])
    assert [module.training for module in network.modules()] == modes


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_a_position_gives_the_same_losses_whatever_came_before(name: str) -> None:
    _, _, engine, direction = opened(name)
    chunks = cut_into_chunks(images(40), chunk_size=16, seed=0, purpose="test")
    with engine.line(direction) as line:
        first = torch.cat(line.losses(0.3, chunks))
        for position in (-1.0, 0.2, 5.0):
            line.losses(position, chunks)
        assert torch.equal(torch.cat(line.losses(0.3, chunks)), first)
    with engine.line(direction) as line:
        assert torch.equal(torch.cat(line.losses(0.3, chunks)), first)


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(4)))
def test_the_order_of_chunks_does_not_matter(order: list[int]) -> None:
    _, _, engine, direction = opened("mlp")
    chunks = cut_into_chunks(images(50), chunk_size=16, seed=0, purpose="test")
    with engine.line(direction) as line:
        expected = line.losses(0.1, chunks)
        for index, losses in zip(order, line.losses(0.1, [chunks[index] for index in order]), strict=True):
            assert torch.equal(losses, expected[index])


def test_chunks_hold_every_sample_once_in_order() -> None:
    part = images(50)
    chunks = cut_into_chunks(part, chunk_size=16, seed=3, purpose="test")
    assert [len(chunk.targets) for chunk in chunks] == [16, 16, 16, 2]
    assert torch.equal(torch.cat([chunk.inputs for chunk in chunks]), part.inputs)
    assert torch.equal(torch.cat([chunk.targets for chunk in chunks]), part.targets)
    assert len({chunk.mask_seed for chunk in chunks}) == 4


def test_dropout_masks_differ_between_chunks() -> None:
    _, _, engine, direction = opened("mlp")
    part = images(16)
    first, second = (Chunk(part.inputs, part.targets, mask) for mask in (1, 2))
    with engine.line(direction) as line:
        losses = line.losses(0.0, [first, second, first])
    assert torch.equal(losses[0], losses[2])
    assert not torch.equal(losses[0], losses[1])


def test_a_mean_is_over_samples_not_over_chunks() -> None:
    assert mean_of([torch.tensor([1.0, 1.0, 1.0]), torch.tensor([5.0])]) == 2.0
    # float32 accumulation of these would be off in the seventh digit
    values = torch.full((300_000,), 0.1)
    assert mean_of([values]) == pytest.approx(float(torch.tensor(0.1).double()), rel=1e-12)
