"""The papers' networks: parameter counts, shapes, initialisation and structure against independent constructions."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from sgdline import models
from sgdline.models.preact_resnet import PreActivationBlock
from sgdline.models.resnet_cifar import ShortcutA
from sgdline.models.vgg import AveragePool

CIFAR = {"input_shape": (3, 32, 32), "num_classes": 10}


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        yield


# papers.md section 6; vgg16 from 14 714 688 weights and biases of its convolutions (the same in every published
# VGG-16) plus 5 130; densenet-bc from Huang et al.'s 0.77 M, exactly 769 162 in the public implementations.
COUNTS = [
    ("resnet20", {}, 269_722),
    ("resnet32", {}, 464_154),
    ("resnet56", {}, 853_018),
    ("resnet18", {}, 11_173_962),
    ("mobilenet_v2", {}, 2_236_682),
    ("resnet18_plain", {}, 11_173_962),
    ("resnet18_plain", {"num_classes": 100}, 11_220_132),
    ("resnet18_plain", {"width": 16}, 701_466),
    ("resnet18_plain", {"width": 8}, 176_402),
    ("preact_resnet18", {}, 11_172_170),
    ("resnet34_plain", {}, 21_282_122),
    ("preact_resnet34", {}, 21_280_330),
    ("preact_resnet10", {}, 4_901_450),
    ("wide_resnet28", {}, 36_479_194),
    ("vgg11", {}, 9_756_426),
    ("preact_resnet56", {}, 855_578),
    ("mlp", {"input_shape": (1, 28, 28)}, 573_060),
    ("vgg16", {}, 14_714_688 + 5_130),
    ("densenet", {"bottleneck": True}, 769_162),
    ("tiny_resnet", {}, 19_218),
]


@pytest.mark.parametrize(("name", "kwargs", "expected"), COUNTS)
def test_parameter_count_is_the_published_one(name, kwargs, expected):
    with torch.device("meta"):  # shapes without memory: 36 million parameters in no time
        model = getattr(models, name)(**{**CIFAR, **kwargs})
    assert models.count_parameters(model) == expected


def test_tiny_imagenet_classifier_is_2048_1024_512_200():
    model = models.vgg11_tiny_imagenet(input_shape=(3, 64, 64), num_classes=200, width=64)
    sizes = [(m.in_features, m.out_features) for m in model.modules() if isinstance(m, nn.Linear)]
    assert sizes == [(2048, 1024), (1024, 512), (512, 200)]
    features = model.eval().features(torch.zeros(1, 3, 64, 64))
    torch.testing.assert_close(model.pool(features), features, rtol=0, atol=0)


def test_group_norm_version_has_half_width_groups_and_no_batch_norm():
    model = models.resnet18_plain(**CIFAR, width=8, norm="group")
    groups = {m.num_groups for m in model.modules() if isinstance(m, nn.GroupNorm)}
    assert groups == {4}
    assert not any(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    assert models.count_parameters(model) == 176_402


SMALL = {
    "resnet20": {"width": 4},
    "resnet32": {"width": 4},
    "resnet56": {"width": 4},
    "preact_resnet56": {"width": 4},
    "preact_resnet10": {"width": 4},
    "preact_resnet18": {"width": 4, "norm": "group"},
    "preact_resnet34": {"width": 4},
    "wide_resnet28": {"widening": 1, "width": 4},
    "resnet18": {"width": 8},
    "resnet18_plain": {"width": 4},
    "resnet34_plain": {"width": 4},
    "mobilenet_v2": {"width_multiplier": 0.25},
    "vgg11": {"width": 4, "dropout": 0.3},
    "vgg11_tiny_imagenet": {"width": 4},
    "vgg16": {"width": 4},
    "mlp": {"hidden": [12, 6], "dropout": 0.2},
    "tiny_resnet": {},
    "tiny_preact_resnet": {},
    "tiny_mobilenet": {},
    "tiny_vgg": {},
    "densenet": {"depth": 13, "growth": 4},
}


def test_every_factory_is_in_the_table_of_small_versions():
    not_factories = {"build_model", "check_model", "count_parameters", "buffers_of", "restore_buffers"}
    exported = {name for name in vars(models) if name.islower() and callable(getattr(models, name))}
    assert exported - not_factories == set(SMALL)


@pytest.mark.parametrize("input_shape", [(1, 8, 8), (3, 9, 14), (1, 28, 28), (3, 32, 32), (3, 64, 64)])
@pytest.mark.parametrize("name", SMALL)
def test_forward_gives_finite_logits_and_reaches_every_parameter(name, input_shape):
    model = getattr(models, name)(input_shape=input_shape, num_classes=7, **SMALL[name])
    images = torch.randn(3, *input_shape)
    logits = model.train()(images)
    assert logits.shape == (3, 7)
    nn.functional.cross_entropy(logits, torch.tensor([0, 3, 6])).backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())
    with torch.no_grad():
        evaluated = model.eval()(images)
        alone = model(images[1:2])
    assert evaluated.shape == (3, 7)
    assert torch.isfinite(evaluated).all()
    torch.testing.assert_close(alone, evaluated[1:2], rtol=1e-4, atol=1e-4)  # eval mode: samples do not interact


# --- initialisation -------------------------------------------------------------------------------------------------


def _assert_normal(weights, std):
    """Mean, standard deviation and fourth moment of N(0, std), each within five standard errors."""
    standardised = weights.detach().double().flatten() / std
    n = standardised.numel()
    assert abs(standardised.mean()) < 5 / math.sqrt(n)
    assert abs(standardised.square().mean() - 1) < 5 * math.sqrt(2 / n)
    assert abs(standardised.pow(4).mean() - 3) < 5 * math.sqrt(96 / n)  # a uniform law has 1.8


def _assert_uniform(weights, bound):
    values = weights.detach().double().flatten() / bound
    n = values.numel()
    assert values.abs().max() <= 1
    assert abs(values.mean()) < 5 * math.sqrt(1 / 3 / n)
    assert abs(values.square().mean() - 1 / 3) < 5 * math.sqrt(4 / 45 / n)


@pytest.mark.parametrize(
    ("name", "kwargs", "fan"),
    [
        ("resnet20", {}, "in"),
        ("tiny_resnet", {}, "in"),
        ("resnet18", {"width": 16}, "out"),
        ("resnet18_plain", {"width": 16}, "out"),
        ("mobilenet_v2", {}, "out"),
        ("tiny_mobilenet", {}, "out"),
        ("vgg11", {"width": 16}, "out"),
        ("preact_resnet56", {}, "out"),
    ],
)
def test_convolutions_are_kaiming_normal_and_batch_norm_is_one_and_zero(name, kwargs, fan):
    model = getattr(models, name)(**CIFAR, **kwargs)
    pooled = []
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            area = module.kernel_size[0] * module.kernel_size[1]
            channels = module.in_channels // module.groups if fan == "in" else module.out_channels
            std = math.sqrt(2 / (area * channels))
            _assert_normal(module.weight, std)
            pooled.append(module.weight.flatten() / std)
            assert module.bias is None or not module.bias.any()
        elif isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            assert (module.weight == 1).all()
            assert (module.bias == 0).all()
    _assert_normal(torch.cat(pooled), 1.0)


def test_linear_layers_follow_the_table():
    classes = {"input_shape": (3, 32, 32), "num_classes": 400}  # many classes, so that statistics are sharp
    resnet = models.resnet20(**classes).classifier
    _assert_normal(resnet.weight, math.sqrt(2 / 64))
    _assert_uniform(resnet.bias, 1 / 8)
    framework = models.resnet18(**classes, width=16).classifier
    _assert_uniform(framework.weight, 1 / math.sqrt(128))
    _assert_uniform(framework.bias, 1 / math.sqrt(128))
    plain = models.resnet18_plain(**classes, width=16).classifier
    _assert_uniform(plain.weight, 1 / math.sqrt(128))
    assert not plain.bias.any()
    mobile = models.mobilenet_v2(**classes).classifier
    _assert_normal(mobile.weight, 0.01)
    assert not mobile.bias.any()
    hidden = models.mlp(input_shape=(1, 28, 28), num_classes=10)[1]
    _assert_uniform(hidden.weight, 1 / 28)
    _assert_uniform(hidden.bias, 1 / 28)
    vgg = models.vgg11(**CIFAR).classifier[1]
    _assert_uniform(vgg.weight, 1 / math.sqrt(512))


# --- structure ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("in_channels", "out_channels", "stride"), [(16, 32, 2), (32, 64, 2), (3, 6, 2), (5, 5, 2)])
@pytest.mark.parametrize("side", [1, 7, 8])
def test_shortcut_a_equals_a_naive_construction(in_channels, out_channels, stride, side):
    images = torch.randn(2, in_channels, side, side + 1)
    naive = np.zeros((2, out_channels, -(-side // stride), -(-(side + 1) // stride)), dtype=np.float32)
    offset = (out_channels - in_channels) // 2
    for sample, channel, row, column in np.ndindex(2, in_channels, *naive.shape[2:]):
        naive[sample, channel + offset, row, column] = images[sample, channel, stride * row, stride * column]
    made = ShortcutA(in_channels, out_channels, stride=stride)(images)
    np.testing.assert_array_equal(made.numpy(), naive)
    if out_channels == 2 * in_channels and in_channels % 2 == 0:
        quarter = out_channels // 4  # papers.md: out/4 zeros on each side
        assert not made[:, :quarter].any()
        assert not made[:, -quarter:].any()
        assert made[:, quarter:-quarter].any()


def _randomise(model):
    """Give normalisation layers values that differ from 1 and 0, so that a missing one shows."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model


def _copy_in_order(source, target):
    """Copy parameters and buffers by order; both nets list them block by block."""
    with torch.no_grad():
        pairs = zip(source.state_dict().values(), target.state_dict().values(), strict=True)
        for value, place in pairs:
            assert value.shape == place.shape
            place.copy_(value)


def test_resnet20_equals_a_functional_network_written_from_the_table():
    model = _randomise(models.resnet20(**CIFAR)).eval()
    weights = iter(model.state_dict().values())

    def norm(images):
        gamma, beta, mean, variance, _ = (next(weights) for _ in range(5))
        scale = gamma / torch.sqrt(variance + 1e-5)
        return images * scale[:, None, None] + (beta - mean * scale)[:, None, None]

    def conv(images, stride=1):
        return nn.functional.conv2d(images, next(weights), stride=stride, padding=1)

    images = torch.randn(2, 3, 32, 32)
    state = torch.relu(norm(conv(images)))
    for stage in range(3):
        for block in range(3):
            stride = 2 if stage and not block else 1
            inner = torch.relu(norm(conv(state, stride)))
            inner = norm(conv(inner))
            shortcut = state
            if stride == 2:
                shortcut = torch.zeros_like(inner)
                quarter = inner.shape[1] // 4
                shortcut[:, quarter:-quarter] = state[:, :, ::2, ::2]
            state = torch.relu(inner + shortcut)
    expected = state.mean(dim=(2, 3)) @ next(weights).T + next(weights)
    assert next(weights, None) is None
    with torch.no_grad():
        torch.testing.assert_close(model(images), expected, rtol=1e-4, atol=1e-4)


def test_preactivation_block_equals_the_table():
    block = _randomise(PreActivationBlock(4, 8, stride=2, norm="batch", width=4)).eval()
    keeping = _randomise(PreActivationBlock(4, 4, stride=1, norm="batch", width=4)).eval()
    images = torch.randn(2, 4, 6, 6)
    with torch.no_grad():
        for member, stride in ((block, 2), (keeping, 1)):
            first, second = (m for m in member.modules() if isinstance(m, nn.BatchNorm2d))
            convolutions = [m for m in member.modules() if isinstance(m, nn.Conv2d)]
            activated = torch.relu(first(images))
            inner = nn.functional.conv2d(activated, convolutions[0].weight, stride=stride, padding=1)
            inner = nn.functional.conv2d(torch.relu(second(inner)), convolutions[1].weight, padding=1)
            if stride == 2:
                assert len(convolutions) == 3
                shortcut = nn.functional.conv2d(activated, convolutions[2].weight, stride=2)
            else:
                assert len(convolutions) == 2
                shortcut = images
            torch.testing.assert_close(member(images), inner + shortcut, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("name", "keeps_pool"), [("resnet18", True), ("resnet18_plain", False)])
def test_resnet18_equals_torchvisions_with_a_small_stem(name, keeps_pool):
    torchvision = pytest.importorskip("torchvision")
    reference = torchvision.models.resnet18(num_classes=10)
    reference.conv1 = nn.Conv2d(3, 64, 3, stride=1, padding=1, bias=False)
    if not keeps_pool:
        reference.maxpool = nn.Identity()
    model = _randomise(getattr(models, name)(**CIFAR)).eval()
    _copy_in_order(model, reference)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(model(images), reference.eval()(images), rtol=1e-4, atol=1e-4)


def test_mobilenet_equals_torchvisions_with_two_strides_changed():
    torchvision = pytest.importorskip("torchvision")
    reference = torchvision.models.mobilenet_v2(num_classes=10)
    reference.features[0][0].stride = (1, 1)
    reference.features[2].conv[1][0].stride = (1, 1)
    model = _randomise(models.mobilenet_v2(**CIFAR)).eval()
    _copy_in_order(model, reference)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(model(images), reference.eval()(images), rtol=1e-4, atol=1e-4)
    rates = [m.p for m in model.modules() if isinstance(m, nn.Dropout)]
    assert rates == [0.2]


@pytest.mark.slow
def test_vgg11_equals_torchvisions_features_and_the_published_classifier():
    torchvision = pytest.importorskip("torchvision")
    features = torchvision.models.vgg11_bn(num_classes=2).features
    model = _randomise(models.vgg11(**CIFAR)).eval()
    features.load_state_dict(model.features.state_dict())
    images = torch.randn(2, 3, 32, 32)
    first, second, last = (m for m in model.classifier if isinstance(m, nn.Linear))
    with torch.no_grad():
        state = features.eval()(images).flatten(1)
        expected = last(torch.relu(second(torch.relu(first(state)))))
        torch.testing.assert_close(model(images), expected, rtol=1e-4, atol=1e-4)


def test_pooling_of_other_image_sizes_is_adaptive_pooling():
    """With cells of its own, as torch's gradient of several cells is not deterministic on a GPU."""
    for height, width, side in [(1, 1, 2), (3, 3, 2), (4, 6, 2), (7, 5, 3), (5, 8, 1), (2, 2, 2)]:
        images = torch.randn(2, 3, height, width, requires_grad=True)
        pooled, expected = AveragePool(side)(images), nn.functional.adaptive_avg_pool2d(images, side)
        torch.testing.assert_close(pooled, expected)
        weights = torch.randn_like(pooled)
        ours, theirs = (torch.autograd.grad((found * weights).sum(), images)[0] for found in (pooled, expected))
        torch.testing.assert_close(ours, theirs)
    model = models.vgg11_tiny_imagenet(input_shape=(3, 96, 96), num_classes=10, width=4)
    assert not any(isinstance(module, nn.AdaptiveAvgPool2d) for module in model.modules())


def test_mlp_equals_its_formula():
    model = _randomise(models.mlp(input_shape=(1, 4, 4), num_classes=3, hidden=[6, 5])).eval()
    first, second, last = (m for m in model if isinstance(m, nn.Linear))
    norms = [m for m in model if isinstance(m, nn.BatchNorm1d)]
    images = torch.randn(5, 1, 4, 4)
    with torch.no_grad():
        state = torch.relu(norms[0](first(images.reshape(5, 16))))
        expected = last(torch.relu(norms[1](second(state))))
        torch.testing.assert_close(model(images), expected)
    bare = models.mlp(input_shape=(1, 4, 4), num_classes=3, hidden=[], batch_norm=False)
    assert models.count_parameters(bare) == 16 * 3 + 3


def test_tiny_resnet_of_width_16_with_three_blocks_is_resnet20():
    wide = models.tiny_resnet(**CIFAR, width=16, blocks_per_stage=3)
    twin = models.resnet20(**CIFAR)
    twin.load_state_dict(copy.deepcopy(wide.state_dict()))
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(wide.eval()(images), twin.eval()(images), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("name", "kwargs", "message"),
    [
        ("resnet20", {"width": 0}, "width must be a whole number of at least 1, got 0"),
        ("tiny_resnet", {"width": 8.0}, "width must be a whole number of at least 1, got 8.0"),
        ("tiny_resnet", {"blocks_per_stage": True}, "blocks_per_stage must be a whole number"),
        ("resnet18_plain", {"norm": "layer"}, "norm must be one of batch, group, got 'layer'"),
        ("resnet18_plain", {"norm": "group", "width": 5}, "width must be even with norm 'group', got 5"),
        ("mlp", {"hidden": [64, -1]}, "hidden must be a whole number of at least 1, got -1"),
        ("mlp", {"hidden": "64"}, "hidden must be a list of whole numbers, got '64'"),
        ("mlp", {"dropout": 1.0}, "dropout must be at least 0 and below 1, got 1.0"),
        ("mobilenet_v2", {"width_multiplier": -1}, "width_multiplier must be above 0, got -1"),
        ("densenet", {"depth": 99}, r"depth must be 3n \+ 4, got 99"),
    ],
)
def test_bad_arguments_are_named(name, kwargs, message):
    with pytest.raises(ValueError, match=message):
        getattr(models, name)(**CIFAR, **kwargs)
