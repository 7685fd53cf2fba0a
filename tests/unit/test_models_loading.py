"""Entry strings: what they resolve to, what the global generators see of it, and how they fail."""

import random
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sgdline.errors import SgdlineError
from sgdline.models import buffers_of, build_model, check_model

FACTS = {"input_shape": (3, 32, 32), "num_classes": 10, "seed": 5}

MODEL_FILE = """
from torch import nn
import numpy as np
import random
import torch
from companion_of_my_net import HIDDEN

def net(in_channels, image_size, num_classes, extra=0):
    assert random.random() >= 0
    net = nn.Sequential(nn.Flatten(), nn.Linear(in_channels * image_size**2, HIDDEN + extra),
                        nn.ReLU(), nn.Linear(HIDDEN + extra, num_classes))
    with torch.no_grad():
        net[3].bias.copy_(torch.from_numpy(np.random.standard_normal(num_classes)))
    return net

class Net(nn.Linear):
    def __init__(self, input_shape, num_classes):
        super().__init__(input_shape[2], num_classes)

def frozen(num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(3072, num_classes).requires_grad_(False))

def function(num_classes):
    return lambda images: images

def fails(num_classes):
    raise RuntimeError("first line.\\nsecond line.")

def lazy(num_classes):
    return nn.LazyLinear(num_classes)

number = 3
"""


@pytest.fixture
def model_folder(tmp_path, monkeypatch):
    (tmp_path / "my_models").mkdir()
    (tmp_path / "my_models" / "net.py").write_text(MODEL_FILE)
    (tmp_path / "my_models" / "companion_of_my_net.py").write_text("HIDDEN = 12\n")
    (tmp_path / "my_models" / "broken.py").write_text("def net(:\n")
    (tmp_path / "my_models" / "needy.py").write_text("import a_package_that_nobody_has\n")
    (tmp_path / "sgdline_test_local_module.py").write_text("from sgdline.models import mlp as my_mlp\n")
    monkeypatch.chdir(tmp_path)
    known = set(sys.modules)
    path = list(sys.path)
    yield tmp_path
    assert sys.path == path, "the search path must be put back"
    for name in set(sys.modules) - known:
        if name.startswith(("sgdline_model_", "sgdline_test_", "companion_of_my_net")):
            del sys.modules[name]


def _states():
    return torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002


def _same_states(before, after):
    assert torch.equal(before[0], after[0])
    assert before[1][0] == after[1][0]
    assert (before[1][1] == after[1][1]).all()
    assert before[1][2:] == after[1][2:]
    assert before[2] == after[2]


def _flat(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def test_same_seed_same_bits_whatever_was_drawn_before(model_folder):
    entry = "my_models/net.py:net"  # draws from torch and from numpy
    first = _flat(build_model(entry, {}, **FACTS))
    torch.randn(3)
    np.random.standard_normal(3)  # noqa: NPY002
    random.random()
    before = _states()
    second = _flat(build_model(entry, {}, **FACTS))
    _same_states(before, _states())
    other = _flat(build_model(entry, {}, **{**FACTS, "seed": 6}))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert not torch.equal(first[-10:], other[-10:]), "numpy's draws must follow the seed as well"


def test_generators_are_put_back_after_a_failure(model_folder):
    before = _states()
    with pytest.raises(SgdlineError):
        build_model("my_models/net.py:fails", {}, **FACTS)
    _same_states(before, _states())


def test_a_file_of_the_user_with_a_companion_module(model_folder):
    model = build_model("my_models/net.py:net", {"extra": 3}, **FACTS)
    check_model(model, input_shape=(3, 32, 32), num_classes=10, name="mine")
    assert model[1].in_features == 3 * 32**2
    assert model[1].out_features == 15


def test_a_module_in_the_working_directory(model_folder):
    model = build_model("sgdline_test_local_module:my_mlp", {"hidden": [4]}, **FACTS)
    check_model(model, input_shape=(3, 32, 32), num_classes=10, name="mine")


def test_an_edited_file_is_read_again(model_folder):
    path = model_folder / "my_models" / "edited.py"
    for units in (4, 6):
        # Lines of different length: Python's own cache of compiled files looks at size and time of change.
        path.write_text(f"from torch import nn\ndef net():\n    return nn.Linear(12, {units})  # {'-' * units}\n")
        assert build_model("my_models/edited.py:net", {}, **FACTS).out_features == units


def test_a_class_is_a_factory_and_kwargs_win_over_the_facts(model_folder):
    assert build_model("my_models/net.py:Net", {}, **FACTS).out_features == 10
    assert build_model("my_models/net.py:Net", {"num_classes": 4}, **FACTS).out_features == 4


def test_image_size_of_oblong_images_is_a_pair():
    recorded = {}
    module = type(sys)("sgdline_test_recording_module")

    def record(*, image_size, in_channels):
        recorded.update(image_size=image_size, in_channels=in_channels)
        return nn.Linear(1, 1)

    module.record = record
    sys.modules[module.__name__] = module
    try:
        build_model("sgdline_test_recording_module:record", {}, **{**FACTS, "input_shape": (2, 8, 9)})
    finally:
        del sys.modules[module.__name__]
    assert recorded == {"image_size": (8, 9), "in_channels": 2}


def test_a_torchvision_model():
    pytest.importorskip("torchvision")
    model = build_model("torchvision.models:resnet18", {"num_classes": 10}, **FACTS)
    check_model(model, input_shape=(3, 32, 32), num_classes=10, name="torchvision.models:resnet18")
    assert model.fc.out_features == 10
    with pytest.raises(SgdlineError, match=r"logits of shape \(batch, 10\) for 10 classes, got \(2, 1000\)"):
        check_model(
            build_model("torchvision.models:resnet18", {}, **FACTS),
            input_shape=(3, 32, 32),
            num_classes=10,
            name="torchvision.models:resnet18",
        )


def test_the_default_config_models_fit_the_digits():
    for name, kwargs in (("mlp", {"hidden": [64, 48]}), ("tiny_resnet", {"width": 8})):
        model = build_model(f"sgdline.models:{name}", kwargs, input_shape=(1, 8, 8), num_classes=10, seed=1)
        check_model(model, input_shape=(1, 8, 8), num_classes=10, name=name)


@pytest.mark.parametrize(
    ("entry", "kwargs", "words"),
    [
        ("no_such_package_x.models:net", {}, ["no module 'no_such_package_x'", "Check the spelling"]),
        ("sgdline.models.vgh:net", {}, ["no module 'sgdline.models.vgh'"]),
        ("sgdline.models:mobilnet_v2", {}, ["no 'mobilnet_v2' there", "Did you mean 'mobilenet_v2'?"]),
        ("my_models/absent.py:net", {}, ["name a file that exists", "absent.py", "working directory"]),
        ("my_models/broken.py:net", {}, ["must be importable", "a syntax error", "(line 1 of my_models/broken.py)"]),
        ("my_models/needy.py:net", {}, ["no module 'a_package_that_nobody_has' (line 1 of my_models/needy.py)"]),
        ("my_models/net.py:number", {}, ["must name a callable, got int"]),
        ("my_models/net.py:function", {}, ["must return a torch.nn.Module, got function"]),
        ("my_models/net.py:fails", {}, ["RuntimeError: first line. second line (line 27 of my_models/net.py)"]),
        ("sgdline.models:mlp", {"hiden": [3]}, ["got 'hiden'", "Did you mean 'hidden'?"]),
        ("sgdline.models:tiny_resnet", {"width": 0}, ["width must be a whole number of at least 1, got 0"]),
        ("torch.nn:Linear", {}, ["TypeError", "in_features"]),
        ("net", {}, ["package.module:Name or folder/file.py:Name", "the name of the factory"]),
    ],
)
def test_every_failure_of_building_is_one_line_that_names_the_entry(model_folder, entry, kwargs, words):
    with pytest.raises(SgdlineError) as caught:
        build_model(entry, kwargs, **FACTS)
    text = str(caught.value)
    assert "\n" not in text
    assert repr(entry) in text
    assert text[-1] in ".?"
    for word in words:
        assert word in text


class _Answers(nn.Linear):
    def __init__(self, answer):
        super().__init__(1, 1)
        self.answer = answer

    def forward(self, images):
        return self.answer


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(7, 10)), ["must take images of 3x32x32", "RuntimeError"]),
        (nn.Sequential(nn.Flatten(), nn.Linear(3072, 9)), ["for 10 classes", "got (2, 9)"]),
        (nn.Conv2d(3, 10, 3), ["got (2, 10, 30, 30)"]),
        (nn.Sequential(nn.Flatten(), nn.Linear(3072, 10).requires_grad_(False)), ["trainable parameters, got none"]),
        (nn.Flatten(), ["trainable parameters, got none"]),
        (nn.Sequential(nn.Flatten(), nn.LazyLinear(10)), ["got a lazy layer"]),
        (_Answers((torch.zeros(2, 10),)), ["one tensor of logits, got tuple"]),
        (_Answers(torch.zeros(2, 10, dtype=torch.long)), ["floating-point logits, got torch.int64"]),
        (_Answers(torch.full((2, 10), float("nan"))), ["finite logits", "NaN"]),
    ],
)
@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature")
def test_every_misfit_is_one_line_that_names_the_model(model, words):
    before = _states()
    with pytest.raises(SgdlineError) as caught:
        check_model(model, input_shape=(3, 32, 32), num_classes=10, name="my model")
    text = str(caught.value)
    assert "\n" not in text
    assert "'my model'" in text
    assert text.endswith(".")
    for word in words:
        assert word in text
    _same_states(before, _states())


def test_checking_leaves_buffers_modes_and_generators_as_they_were():
    model = build_model("sgdline.models:mobilenet_v2", {"width_multiplier": 0.25}, **FACTS)
    model.train()
    model.stages[0].eval()
    model(torch.randn(4, 3, 32, 32))  # running statistics other than the initial ones
    modes = [module.training for module in model.modules()]
    buffers = buffers_of(model)
    weights = _flat(model)
    before = _states()
    check_model(model, input_shape=(3, 32, 32), num_classes=10, name="mobilenet_v2")
    _same_states(before, _states())
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(buffers[name], value) for name, value in model.named_buffers())
    assert torch.equal(weights, _flat(model))
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_model_in_another_precision_is_refused_as_the_images_are_float32(dtype):
    model = build_model("sgdline.models:tiny_resnet", {}, **FACTS).to(dtype)
    words = (
        rf"'tiny_resnet' must have parameters in float32, as images are, instead of {str(dtype)[6:]} \(.*Build it in"
    )
    with pytest.raises(SgdlineError, match=words):
        check_model(model, input_shape=(3, 32, 32), num_classes=10, name="tiny_resnet")


def test_a_mistake_in_the_forward_method_is_not_blamed_on_the_size_of_images():
    class Mistaken(nn.Linear):
        def forward(self, images):
            return self.layr(images)

    class Ends(nn.Linear):
        def forward(self, images):
            sys.exit("enough")

    for model, words in (
        (
            Mistaken(1, 1),
            r"must make a forward pass .*'layr' \(line \d+ of .*test_models_loading.py\)\. Fix its forward",
        ),
        (Ends(1, 1), r"must return logits, got sys\.exit\('enough'\) \(line \d+ of .*test_models_loading"),
    ):
        with pytest.raises(SgdlineError, match=words) as caught:
            check_model(model, input_shape=(3, 32, 32), num_classes=10, name="mine")
        assert "image_size" not in str(caught.value)


PROGRAM = """
import argparse, os, sys
import torch
from torch import nn
{at_import}
def net(num_classes):
    {in_factory}
    return nn.Linear(1, num_classes)
"""
PARSE = "options = argparse.ArgumentParser(); options.add_argument('--data', {}); options.parse_args()"
UNDER_MAIN = "under if __name__ == '__main__'."


@pytest.mark.parametrize(
    ("code", "at_import", "in_factory"),
    [
        (PARSE.format("required=True"), f"Move argument parsing {UNDER_MAIN}", "Take the values as arguments"),
        ("sys.exit('no data')", f"Move what ends the program {UNDER_MAIN}", "Return a network, or raise"),
        ("exit()", f"Move what ends the program {UNDER_MAIN}", "Return a network, or raise"),
    ],
)
def test_a_file_that_ends_the_program_is_one_sentence(model_folder, code, at_import, in_factory):
    for place, words in (("at_import", at_import), ("in_factory", in_factory)):
        name = f"program_{place}.py"
        lines = {"at_import": "", "in_factory": "pass", place: code}
        (model_folder / name).write_text(PROGRAM.format(**lines))
        with pytest.raises(SgdlineError) as caught:
            build_model(f"{name}:net", {}, **FACTS)
        assert str(caught.value).startswith(f"Model entry '{name}:net' must ")
        assert f" (line {5 if place == 'at_import' else 7} of {name}). {words}" in str(caught.value)


def test_what_a_file_does_to_its_surroundings_is_undone(model_folder):
    code = "; ".join(
        [
            PARSE.format("default=1"),  # not the arguments of this process
            "sys.argv = ['other']",
            "os.chdir('/')",
            "torch.set_default_dtype(torch.float64)",
            "torch.set_grad_enabled(False)",
            "torch.set_default_device('meta')",
            "torch.set_num_threads(torch.get_num_threads() + 1)",
            "print('hello')",
        ]
    )

    def surroundings():
        return Path.cwd(), sys.argv, torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads()

    before = surroundings()
    for place in ("at_import", "in_factory"):
        (model_folder / f"{place}.py").write_text(
            PROGRAM.format(**{"at_import": "", "in_factory": "pass", place: code})
        )
        build_model(f"{place}.py:net", {}, **FACTS)
        assert surroundings() == before
        assert torch.empty(1).device.type == "cpu"


def test_an_interrupt_is_passed_on(model_folder):
    for place in ("at_import", "in_factory"):
        code = {"at_import": "", "in_factory": "pass", place: "os.chdir('/'); raise KeyboardInterrupt"}
        (model_folder / f"{place}.py").write_text(PROGRAM.format(**code))
        with pytest.raises(KeyboardInterrupt):
            build_model(f"{place}.py:net", {}, **FACTS)
        assert Path.cwd() == model_folder
        assert not any(name.startswith("sgdline_model_at_import") for name in sys.modules)
