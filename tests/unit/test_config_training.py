"""Keys of the training in the configuration: whole batches, micro-batches, noise, schedules, continued runs."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from sgdline.config import ConfigError, resolve_config
from sgdline.declare.build import build
from sgdline.train.noise import IsotropicNoise
from sgdline.train.rules.base import NoiseOptions
from sgdline.train.rules.sgd import Sgd
from sgdline.train.schedules.trapezoid import Trapezoid
from sgdline.train.settings import TrainingSettings
from sgdline.workflow.layout import RunKey, run_path
from sgdline.workflow.runs import parent_run, runs
from sgdline.workflow.slices import training_slice

ROOT = Path(__file__).parents[2]
DIGITS = {"source": "digits", "train": 1024, "validation": 256, "test": 517}
BASE: dict[str, Any] = {
    "datasets": {"digits": DIGITS, "others": DIGITS | {"split_seed": 1}},
    "models": {name: {"entry": f"sgdline.models:{name}"} for name in ("mlp", "tiny_resnet")},
    "experiments": {
        "noisy": {
            "dataset": "digits",
            "models": ["mlp", "tiny_resnet"],
            "lr": [0.1, 0.3],
            "batch_size": [64, "all"],
            "micro_batch": 128,
            "seed": [1, 2],
            "steps": 90,
            "segments": 3,
            "optimizer": {"noise": {"factor": 0.01}},
        },
        "child": {
            "dataset": "digits",
            "models": ["mlp"],
            "lr": [0.05],
            "batch_size": [64],
            "seed": [2],
            "steps": 40,
            "start_from": {"experiment": "noisy", "lr": 0.3},
        },
    },
}


def config(change: Callable[[dict[str, Any]], object] = lambda _: None) -> dict[str, Any]:
    changed = copy.deepcopy(BASE)
    change(changed["experiments"])
    return changed


def with_changes(name: str, **changes: Any) -> dict[str, Any]:
    return config(lambda experiments: experiments[name].update(changes))


def resolved(raw: dict[str, Any]) -> dict[str, Any]:
    return resolve_config(raw)


def faults_of(raw: dict[str, Any]) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        resolved(raw)
    return caught.value.faults


# --- whole batches ----------------------------------------------------------------------------------------------------


def test_all_becomes_the_number_of_training_images() -> None:
    complete = resolved(with_changes("child", start_from={"experiment": "noisy", "lr": 0.1, "batch_size": "all"}))
    assert complete["experiments"]["noisy"]["batch_size"] == [64, 1024]
    assert complete["experiments"]["child"]["start_from"]["batch_size"] == 1024
    assert "noisy/mlp/lr0.1_bs1024_seed1" in {run_path(key) for key in runs(complete)}
    assert resolved(complete) == complete


def test_all_counts_what_a_known_source_leaves() -> None:
    raw = config()
    raw["datasets"]["digits"] = {"source": "digits", "train": "all", "validation": 256, "test": 517}
    assert resolved(raw)["experiments"]["noisy"]["batch_size"] == [64, 1797 - 256 - 517]


def test_all_needs_a_known_number_of_images() -> None:
    raw = config()
    raw["datasets"]["digits"] = {"source": "image_folder", "path": "leaves", "train": "all"}
    [fault] = faults_of(raw)
    assert fault.startswith("experiments.noisy.batch_size[1] must be a number where the size of the data set is not")
    assert "datasets.digits.train as a number" in fault


def test_all_beside_the_same_number_is_told() -> None:
    [fault] = faults_of(with_changes("noisy", batch_size=[64, 1024, "all"]))
    assert fault.startswith(
        "experiments.noisy.batch_size[2] must differ from the other entries, got all, which is 1024"
    )


def test_all_of_a_data_set_that_is_at_fault_is_not_told_as_well() -> None:
    raw = config()
    raw["datasets"]["digits"] = DIGITS | {"train": 0}
    [fault] = faults_of(raw)
    assert fault.startswith("datasets.digits.train")


# --- faults -----------------------------------------------------------------------------------------------------------

LINE: dict[str, Any] = {"line": {}}


@pytest.mark.parametrize(
    ("name", "changes", "path", "words"),
    [
        ("noisy", {"batch_size": ["al"]}, "batch_size[0]", ["Did you mean 'all'?"]),
        ("noisy", {"micro_batch": 1}, "micro_batch", ["at least 2", "got 1"]),
        ("noisy", {"micro_batch": 341, "probes": LINE}, "micro_batch", ["one sample", "got 341", "1024 train images"]),
        ("noisy", {"micro_batch": 51, "probes": LINE}, "micro_batch", ["one of the 256 validation images over"]),
        (
            "noisy",
            {"micro_batch": 7, "batch_size": [64], "probes": {"line": {"validation": False}}},
            "micro_batch",
            ["one of the 64 samples of a batch over", "another micro_batch"],
        ),
        # the gradient
        ("child", {"optimizer": {"gradient": "sum"}}, "optimizer.gradient", ["mean without a micro_batch"]),
        (
            "child",
            {"optimizer": {"gradient": "sum", "name": "pal"}, "micro_batch": 32},
            "optimizer.gradient",
            ["is not a known key of pal. It is an option of sgd."],
        ),
        (
            "child",
            {"optimizer": {"gradient": "sum"}, "micro_batch": 32, "probes": {**LINE, "mline": {}}},
            "optimizer.gradient",
            ["beside probes.mline"],
        ),
        (
            "child",
            {"optimizer": {"gradient": "sum"}, "micro_batch": 24},
            "micro_batch",
            ["divide every batch", "got 24 and a batch of 64"],
        ),
        (
            "noisy",
            {"optimizer": {"gradient": "sum"}, "micro_batch": 30, "batch_size": [120], "drop_last": False},
            "micro_batch",
            ["got 30 and a batch of 64"],
        ),
        # noise
        ("noisy", {"optimizer": {"noise": {"factor": -1}}}, "optimizer.noise.factor", ["from 0 to"]),
        ("noisy", {"optimizer": {"noise": {"reading": "std"}}}, "optimizer.noise.reading", ["standard_deviation"]),
        (
            "noisy",
            {"optimizer": {"name": "pal", "noise": {"factor": 0.01}}},
            "optimizer.noise",
            ["is not a known key of pal. It is an option of sgd."],
        ),
        (
            "noisy",
            {"optimizer": {"noise": {"factor": 0.01, "batch_size": 513}}},
            "optimizer.noise.batch_size",
            ["half of the 1024 training images, got 513"],
        ),
        (
            "noisy",
            {"optimizer": {"noise": {"factor": 0.01}}, "batch_size": [64, 600]},
            "optimizer.noise.batch_size",
            ["got auto, which is 600 here"],
        ),
        # units of the learning rate
        ("child", {"lr_unit": "sharpnes"}, "lr_unit", ["absolute or sharpness", "Did you mean 'sharpness'?"]),
        (
            "child",
            {"lr_unit": "sharpness", "optimizer": {"name": "pal"}},
            "lr_unit",
            ["absolute when the optimizer is pal, got sharpness", "a measuring step"],
        ),
        (
            "child",
            {"lr_unit": "sharpness", "optimizer": {"name": "fbpal_sgd"}},
            "lr_unit",
            ["absolute when the optimizer is fbpal_sgd, got sharpness"],
        ),
        (
            "child",
            {"lr_unit": "sharpness", "import_lines": "lines", "probes": LINE, "start_from": None},
            "lr_unit",
            ["absolute where lines are imported, got sharpness"],
        ),
        # schedules
        ("child", {"schedule": {"name": "cyclic"}}, "schedule.name", ["cyclical", "got 'cyclic'"]),
        (
            "child",
            {"schedule": {"name": "cyclical", "period": 9, "milestones": [3]}},
            "schedule.milestones",
            ["is not a known key of cyclical. It is an option of step."],
        ),
        ("child", {"schedule": {"name": "cyclical"}}, "schedule.period", ["at most steps (40), got 100"]),
        ("child", {"schedule": {"name": "cyclical", "period": 1}}, "schedule.period", ["at least 2"]),
        ("child", {"schedule": {"name": "cyclical", "period": 9, "lowest": 1}}, "schedule.lowest", ["below 1"]),
        ("child", {"schedule": {"period": 9}}, "schedule.period", ["It is an option of cyclical."]),
        ("child", {"schedule": {"name": "step"}}, "schedule.milestones", ["is missing", "a list"]),
        ("child", {"optimizer": {"beta": 0.1}}, "optimizer.beta", ["It is an option of pal."]),
        ("child", {"optimizer": {"name": "pal", "momentum": 0}}, "optimizer.momentum", ["of fbpal_sgd or sgd."]),
        ("child", {"optimizer": {"name": "fbpal_sgd", "beta": 0}}, "optimizer.beta", ["It is an option of pal."]),
        ("child", {"optimizer": {"momentun": 0}}, "optimizer.momentun", ["Did you mean 'momentum'?"]),
        (
            "child",
            {"optimizer": {"name": "fbpal_sgd"}, "label_noise": {"probability": 0.1}},
            "label_noise.probability",
            ["must be 0 when the optimizer is fbpal_sgd, got 0.1", "takes_noise"],
        ),
        (
            "child",
            {"schedule": {"name": "trapezoid", "warmup": 21, "cooldown": 20}},
            "schedule",
            ["1 to steps (40)", "got 21 and 20", "Shorten"],
        ),
        ("child", {"schedule": {"name": "trapezoid"}}, "schedule", ["got 0 and 0", "Lengthen"]),
    ],
)
def test_faulty_settings_are_one_fault(name: str, changes: dict[str, Any], path: str, words: list[str]) -> None:
    [fault] = faults_of(with_changes(name, **changes))
    assert fault.startswith(f"experiments.{name}.{path} ")
    for word in words:
        assert word in fault


START = {"experiment": "noisy", "lr": 0.3}


@pytest.mark.parametrize(
    ("changes", "path", "words"),
    [
        ({"start_from": {"experiment": "noisy"}}, "start_from.lr", ["is missing"]),
        ({"start_from": "noisy"}, "start_from", ["null, or a mapping with experiment, lr"]),
        ({"start_from": START | {"update": 3}}, "start_from.update", ["not a known key"]),
        ({"start_from": START | {"experiment": "nosy"}}, "start_from.experiment", ["Did you mean 'noisy'?"]),
        ({"start_from": START | {"experiment": "child"}}, "start_from.experiment", ["not lead back to child"]),
        ({"start_from": START | {"lr": 0.2}}, "start_from.lr", ["a learning rate of noisy (0.1, 0.3), got 0.2"]),
        ({"start_from": START | {"batch_size": 32}}, "start_from.batch_size", ["noisy (64, 1024), got 32."]),
        ({"batch_size": [64, 16]}, "start_from.batch_size", ["got 16, the experiment's own"]),
        ({"start_from": START | {"step": 31}}, "start_from.step", ["boundary of noisy (0, 30, 60, 90), got 31"]),
        ({"start_from": START | {"step": -1}}, "start_from.step", ["at least 0"]),
        ({"seed": [2, 3]}, "seed[1]", ["one of noisy, which start_from continues (1, 2), got 3"]),
        ({"dataset": "others"}, "start_from.experiment", ["the same data set", "which is on digits"]),
    ],
)
def test_a_run_that_cannot_be_continued_is_one_fault(changes: dict[str, Any], path: str, words: list[str]) -> None:
    [fault] = faults_of(with_changes("child", **changes))
    assert fault.startswith(f"experiments.child.{path} ")
    for word in words:
        assert word in fault


def test_models_of_a_continued_run_must_have_been_trained() -> None:
    def change(experiments: dict[str, Any]) -> None:
        experiments["noisy"]["models"] = ["tiny_resnet"]

    [fault] = faults_of(config(change))
    assert fault.startswith("experiments.child.models[0] must be one of noisy")


def test_a_ring_of_continued_runs_is_told_at_each_of_them() -> None:
    def change(experiments: dict[str, Any]) -> None:
        experiments["noisy"]["start_from"] = {"experiment": "child", "lr": 0.05, "batch_size": 64}
        experiments["third"] = experiments["child"] | {"start_from": {"experiment": "child", "lr": 0.05}}

    faults = faults_of(config(change))
    assert [fault.split()[0] for fault in faults] == [
        f"experiments.{name}.start_from.experiment" for name in ("noisy", "child")
    ]


def test_faults_of_the_run_to_continue_are_told_once() -> None:
    [fault] = faults_of(with_changes("noisy", steps=0))
    assert fault.startswith("experiments.noisy.steps")


def test_imported_lines_neither_continue_nor_are_continued() -> None:
    imported: dict[str, Any] = {"import_lines": "lines", "probes": {"line": {}}}
    single = {"models": ["mlp"], "lr": [0.3], "batch_size": [64], "seed": [2], "optimizer": {}}
    [fault] = faults_of(with_changes("noisy", **imported, **single))
    assert fault.startswith("experiments.child.start_from.experiment must be an experiment that trains")
    [fault] = faults_of(with_changes("child", **imported))
    assert fault.startswith("experiments.child.start_from must be null where lines are imported")


# --- slices -----------------------------------------------------------------------------------------------------------

RUN = RunKey("child", "mlp", "0.05", 64, 2)


def test_a_slice_holds_every_setting_of_a_training() -> None:
    plain = with_changes("child", start_from=None)
    assert training_slice(resolved(plain), RUN) == {
        "model": {"entry": "sgdline.models:mlp", "kwargs": {}},
        "lr": 0.05,
        "batch_size": 64,
        "seed": 2,
        "steps": 40,
        "segments": [[0, 40]],
        "threads": 1,
        "drop_last": True,
        "lr_unit": "absolute",
        "micro_batch": None,
        "loss": {"name": "cross_entropy"},
        "optimizer": {
            "name": "sgd", "momentum": 0.0, "weight_decay": 0.0, "gradient": "mean",
            "noise": {"factor": 0.0, "reading": "variance", "batch_size": "auto"},
        },
        "schedule": {"name": "constant"},
        "label_noise": {"probability": 0.0, "schedule": "constant"},
        "augmentation": {"crop_padding": 0, "flip": False},
        "start_from": None,
    }  # fmt: skip
    assert training_slice(resolved(plain), RUN).keys() == {field.name for field in fields(TrainingSettings)}


def test_a_training_depends_on_the_options_that_it_uses() -> None:
    block = with_changes(
        "noisy",
        schedule={"name": "trapezoid", "warmup": 5},
        optimizer={"gradient": "sum", "noise": {"factor": 0.02}},
    )
    found = training_slice(resolved(block), RunKey("noisy", "mlp", "0.1", 1024, 1))
    assert found["micro_batch"] == 128
    assert found["schedule"] == {"name": "trapezoid", "warmup": 5, "cooldown": 0}
    assert found["optimizer"]["gradient"] == "sum"
    assert found["optimizer"]["noise"] == {"factor": 0.02, "reading": "variance", "batch_size": "auto"}
    settings = build(TrainingSettings, json.loads(json.dumps(found)))
    assert settings.optimizer == Sgd(gradient="sum", noise=NoiseOptions(factor=0.02))
    assert (settings.schedule, settings.segments) == (Trapezoid(warmup=5), ((0, 30), (30, 60), (60, 90)))


def test_noise_of_factor_0_is_none() -> None:
    assert Sgd(noise=NoiseOptions(factor=0.0, reading="standard_deviation")).gradient_noise() is None


def test_a_continued_training_depends_on_the_one_before_it() -> None:
    complete = resolved(config())
    found = training_slice(complete, RUN)
    parent = RunKey("noisy", "mlp", "0.3", 64, 2)
    assert parent_run(complete, RUN) == parent
    assert parent_run(complete, replace(RUN, experiment="noisy")) is None
    assert found["start_from"] == {
        "training": training_slice(complete, RunKey("noisy", "mlp", "0.3", 64, 2)),
        "step": 90,
    }

    def grandchild(experiments: dict[str, Any]) -> None:
        start = {"experiment": "child", "lr": 0.05, "step": 0}
        experiments["third"] = experiments["child"] | {"start_from": start}

    complete = resolved(config(grandchild))
    third = training_slice(complete, replace(RUN, experiment="third"))
    assert third["start_from"] == {"training": found, "step": 0}
    complete["experiments"]["noisy"]["optimizer"]["noise"]["factor"] = 0.5
    assert training_slice(complete, replace(RUN, experiment="third")) != third


def test_the_batch_size_of_the_run_to_continue_may_be_another() -> None:
    start = {"experiment": "noisy", "lr": 0.1, "batch_size": "all", "step": 60}
    complete = resolved(with_changes("child", start_from=start, batch_size=[16, 32]))
    assert parent_run(complete, replace(RUN, batch_size=16)) == RunKey("noisy", "mlp", "0.1", 1024, 2)
    assert training_slice(complete, RUN)["start_from"]["step"] == 60


@pytest.mark.parametrize(("batch_size", "samples"), [(64, 1024), (1024, 1024), (512, 1024), (600, 1024), (150, 150)])
def test_the_check_and_the_training_mean_the_same_mini_batches(batch_size: int, samples: int) -> None:
    noise = NoiseOptions(factor=0.01)

    def change(experiments: dict[str, Any]) -> None:
        del experiments["child"]
        experiments["noisy"] |= {"batch_size": [batch_size], "optimizer": {"noise": {"factor": 0.01}}}

    raw = config(change)
    raw["datasets"]["digits"] = DIGITS | {"train": samples}
    own = 100 if batch_size == samples else batch_size
    if 2 * own > samples:
        assert f"which is {own} here" in faults_of(raw)[0]
        with pytest.raises(Exception, match=f"got {own}"):
            IsotropicNoise(noise, seed=1, batch_size=batch_size, samples=samples)
    else:
        resolved(raw)
        assert IsotropicNoise(noise, seed=1, batch_size=batch_size, samples=samples).batch_size == own


def test_the_training_slice_names_the_unit_of_the_learning_rate() -> None:
    for unit, found in ((None, "absolute"), ("absolute", "absolute"), ("sharpness", "sharpness")):
        complete = resolved(with_changes("child", **({} if unit is None else {"lr_unit": unit})))
        assert complete["experiments"]["child"]["lr_unit"] == (unit or "absolute")
        own = training_slice(complete, RunKey("child", "mlp", "0.05", 64, 2))
        assert own["lr_unit"] == found
        assert own["lr"] == 0.05
        assert own["start_from"]["training"]["lr_unit"] == "absolute"
