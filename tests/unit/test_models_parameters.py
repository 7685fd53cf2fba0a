"""The flat parameter vector against torch.autograd.grad, and buffers bit for bit."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call
from torch.nn import functional

from sgdline.errors import SgdlineError
from sgdline.models import (
    ParameterVector,
    buffers_of,
    build_model,
    count_parameters,
    restore_buffers,
)


def _model(name="tiny_resnet", **kwargs):
    return build_model(f"sgdline.models:{name}", kwargs, input_shape=(1, 8, 8), num_classes=10, seed=3)


def _batch(count=16, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(count, 1, 8, 8, generator=generator, dtype=dtype)
    return images, torch.randint(0, 10, (count,), generator=generator)


def _loss(model, batch):
    return functional.cross_entropy(model(batch[0]), batch[1])


class _Tied(nn.Module):
    """Encoder and decoder share one weight; one bias is frozen."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(64, 64)
        self.second = nn.Linear(64, 64)
        self.second.weight = self.first.weight
        self.second.bias.requires_grad_(False)
        self.last = nn.Linear(64, 10)

    def forward(self, images):
        return self.last(torch.tanh(self.second(torch.tanh(self.first(images.flatten(1))))))


def _tied():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return _Tied()


@pytest.mark.parametrize("make", [_model, lambda: _model("mlp", hidden=[9]), lambda: _model("vgg11", width=2), _tied])
def test_gradient_equals_autograd_of_an_untouched_copy(make):
    model = make().double()
    twin = copy.deepcopy(model)
    batch = _batch(dtype=torch.float64)
    theta = ParameterVector(model)
    _loss(model, batch).backward()
    wanted = [parameter for parameter in twin.parameters() if parameter.requires_grad]
    expected = torch.cat([part.flatten() for part in torch.autograd.grad(_loss(twin, batch), wanted)])
    torch.testing.assert_close(theta.gradient, expected, rtol=1e-12, atol=1e-14)
    assert theta.gradient.abs().max() > 0
    other = _batch(count=5, dtype=torch.float64, seed=1)
    _loss(model, other).backward()  # accumulates
    added = torch.cat([part.flatten() for part in torch.autograd.grad(_loss(twin, other), wanted)])
    torch.testing.assert_close(theta.gradient, expected + added, rtol=1e-12, atol=1e-14)
    theta.zero_gradient()
    assert not theta.gradient.any()
    assert not any(parameter.grad.any() for parameter in wanted if parameter.grad is not None)


def test_training_through_the_vector_equals_torch_sgd():
    model = _model("mlp", hidden=[9])
    twin = copy.deepcopy(model)
    optimizer = torch.optim.SGD(twin.parameters(), lr=0.1)
    theta = ParameterVector(model)
    for step in range(5):
        batch = _batch(seed=step)
        theta.zero_gradient()
        _loss(model, batch).backward()
        theta.value.sub_(theta.gradient, alpha=0.1)
        optimizer.zero_grad()
        _loss(twin, batch).backward()
        optimizer.step()
    expected = torch.cat([parameter.detach().flatten() for parameter in twin.parameters()])
    torch.testing.assert_close(theta.value, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(_loss(model, _batch()), _loss(twin, _batch()))


def test_order_names_shapes_and_size():
    model = _model()
    expected = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    before = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
    theta = ParameterVector(model)
    assert list(theta.names_and_shapes().items()) == list(expected.items())
    assert theta.size == count_parameters(model) == before.numel() == theta.value.numel()
    assert torch.equal(theta.value, before)
    assert theta.value.is_contiguous()
    assert not theta.value.requires_grad


def test_parameters_are_views_in_both_directions():
    model = _model()
    objects = list(model.parameters())
    theta = ParameterVector(model)
    assert all(old is new for old, new in zip(objects, model.parameters(), strict=True))
    theta.value.zero_()
    assert not any(parameter.any() for parameter in model.parameters())
    with torch.no_grad():
        next(model.parameters()).fill_(2.0)
    assert (theta.value[: objects[0].numel()] == 2).all()
    assert not theta.value[objects[0].numel() :].any()


def test_tied_weights_count_once_and_stay_tied():
    model = _tied()
    theta = ParameterVector(model)
    assert theta.size == count_parameters(model) == 64 * 64 + 64 + 64 * 10 + 10
    assert set(theta.names_and_shapes()) == {"first.weight", "first.bias", "last.weight", "last.bias"}
    assert model.first.weight is model.second.weight
    theta.release()
    assert model.first.weight is model.second.weight


def test_frozen_parameters_are_left_alone():
    model = _tied()
    frozen = model.second.bias
    storage, value = frozen.data_ptr(), frozen.detach().clone()
    theta = ParameterVector(model)
    _loss(model, _batch()).backward()
    theta.value.add_(1.0)
    assert frozen.data_ptr() == storage
    assert torch.equal(frozen, value)
    assert frozen.grad is None


def test_zero_gradient_puts_dropped_views_back():
    model = _model("mlp", hidden=[9])
    theta = ParameterVector(model)
    model.zero_grad()  # sets the gradients to None
    _loss(model, _batch()).backward()
    assert not theta.gradient.any()
    theta.zero_gradient()
    _loss(model, _batch()).backward()
    assert theta.gradient.any()


def test_release_gives_separate_tensors_with_the_present_values():
    model = _model()
    with ParameterVector(model) as theta:
        _loss(model, _batch()).backward()
        theta.value.mul_(1.5)
        expected = theta.value.clone()
    assert torch.equal(torch.cat([parameter.detach().flatten() for parameter in model.parameters()]), expected)
    storages = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    assert len(storages) == len(list(model.parameters()))
    assert all(parameter.grad is None for parameter in model.parameters())
    theta.value.zero_()
    assert all(parameter.any() for parameter in model.parameters() if parameter.ndim > 1)
    theta.release()  # again: nothing happens
    with pytest.raises(RuntimeError, match="released"):
        theta.zero_gradient()
    again = ParameterVector(model)
    assert torch.equal(again.value, expected)


def test_the_block_releases_after_an_error():
    model = _model("mlp", hidden=[3])
    with pytest.raises(KeyError), ParameterVector(model):
        raise KeyError
    assert len({parameter.untyped_storage().data_ptr() for parameter in model.parameters()}) == 6


def test_an_old_gradient_and_channels_last_weights_do_no_harm():
    model = _model()
    plain = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    model = model.to(memory_format=torch.channels_last)
    layout = {name: parameter.stride() for name, parameter in model.named_parameters()}
    _loss(model, _batch()).backward()
    expected = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    theta = ParameterVector(model)
    assert not theta.gradient.any()
    assert {name: parameter.stride() for name, parameter in model.named_parameters()} == layout
    assert any(not parameter.is_contiguous() for parameter in model.parameters()), "the layout is kept"
    for name, part in theta.split(theta.value).items():
        assert torch.equal(part, plain[name])
    _loss(model, _batch()).backward()
    for name, part in theta.split(theta.gradient).items():
        torch.testing.assert_close(part, expected[name])
    theta.value.add_(1.0)
    assert torch.equal(dict(model.named_parameters())["stem.0.weight"], plain["stem.0.weight"] + 1.0)


def test_split_fits_functional_call():
    model = _model("mlp", hidden=[9], batch_norm=False)
    theta = ParameterVector(model)
    moved = theta.value + 0.01
    images, _ = _batch()
    elsewhere = functional_call(model, theta.split(moved), (images,))
    theta.value.copy_(moved)
    torch.testing.assert_close(model(images), elsewhere, rtol=0, atol=0)
    with pytest.raises(ValueError, match="vector must have the shape"):
        theta.split(moved[:-1])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_any_shared_precision(dtype):
    model = _model("mlp", hidden=[9], batch_norm=False).to(dtype)
    theta = ParameterVector(model)
    assert theta.value.dtype == theta.gradient.dtype == dtype
    _loss(model, _batch(dtype=dtype)).backward()
    assert theta.gradient.any()


def test_faults_are_named():
    mixed = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).double())
    with pytest.raises(SgdlineError, match=r"Parameter '1.weight' must have the dtype and device of '0.weight'"):
        ParameterVector(mixed)
    mixed[1].requires_grad_(False)
    assert ParameterVector(mixed).size == 6
    with pytest.raises(SgdlineError, match="must be at least one, got none"):
        ParameterVector(nn.Linear(2, 2).requires_grad_(False))
    with pytest.raises(SgdlineError, match=r"floating-point dtype, got torch\.complex64"):
        ParameterVector(nn.Linear(2, 2, dtype=torch.complex64))


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**31), scale=st.floats(-3, 3), width=st.integers(1, 5))
def test_going_away_and_coming_back_from_a_copy_restores_bits(seed, scale, width):
    model = _model("mlp", hidden=[width])
    theta = ParameterVector(model)
    start = theta.value.clone()
    direction = torch.randn(theta.size, generator=torch.Generator().manual_seed(seed))
    theta.value.copy_(start + scale * direction)
    theta.value.copy_(start)
    theta.release()
    assert torch.equal(torch.cat([parameter.detach().flatten() for parameter in model.parameters()]), start)


# --- buffers --------------------------------------------------------------------------------------------------------


def test_buffers_come_back_bit_for_bit_in_place():
    model = _model()
    model(_batch()[0])
    places = {name: buffer.data_ptr() for name, buffer in model.named_buffers()}
    saved = buffers_of(model)
    assert set(saved) == set(places)
    kept = {name: value.clone() for name, value in saved.items()}
    model(_batch(seed=1)[0])
    changed = dict(model.named_buffers())
    assert all(not torch.equal(changed[name], saved[name]) for name in saved)
    assert all(torch.equal(saved[name], kept[name]) for name in saved), "the copies must not follow the model"
    restore_buffers(model, saved)
    for name, buffer in model.named_buffers():
        assert torch.equal(buffer, kept[name])
        assert buffer.data_ptr() == places[name]


class _Cache(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("cache", None, persistent=False)
        self.register_buffer("table", torch.tensor([1.0, float("nan")]), persistent=False)


def test_buffers_that_were_replaced_or_made_meanwhile():
    model = nn.Sequential(_Cache())
    saved = buffers_of(model)
    assert set(saved) == {"0.table"}
    model[0].cache = torch.ones(3)
    model[0].table = torch.zeros(5, dtype=torch.float64)
    restore_buffers(model, saved)
    assert model[0].cache is None
    assert model[0].table.dtype == torch.float32
    assert torch.equal(model[0].table.view(torch.int32), saved["0.table"].view(torch.int32))
    model[0].table.zero_()
    assert saved["0.table"][0] == 1


def test_buffers_of_another_model_are_refused():
    with pytest.raises(ValueError, match=r"'1\.running_mean', which it does not have"):
        restore_buffers(nn.Linear(2, 2), {"1.running_mean": torch.zeros(2)})


def test_count_leaves_out_buffers_and_frozen_ones():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2).requires_grad_(False))
    assert count_parameters(model) == 3 * 4 + 4 + 4 + 4
