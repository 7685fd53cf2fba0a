"""The configuration as users write it: what is filled in, what is refused, and in which words."""

from __future__ import annotations

import copy
import datetime
import json
import math
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_configs import part_of

from sgdline.chosen_updates import is_chosen
from sgdline.config import ConfigError, resolve_config
from sgdline.config.declarations import configuration_schema
from sgdline.declare import registry
from sgdline.engine.plan import PRECISIONS, Plan
from sgdline.errors import SgdlineError
from sgdline.workflow.layout import run_path
from sgdline.workflow.runs import runs, toys

ROOT = Path(__file__).parents[2]
SCHEMA = configuration_schema()
OVERLAYS = sorted(path for path in (ROOT / "config").rglob("*.yaml") if path.name != "config.yaml")
VARIATIONS = ("fashion_mnist_walk", "sparse_networks")  # of the default's experiments: they say nothing without it

with (ROOT / "config/config.yaml").open(encoding="utf-8") as _file:
    DEFAULT: dict[str, Any] = yaml.safe_load(_file)
# Its first experiment alone: what is changed in its data set is at fault once.
SINGLE: dict[str, Any] = {**DEFAULT, "experiments": {"digits": DEFAULT["experiments"]["digits"]}, "comparisons": {}}


def merged(base: dict[str, Any], overlay: dict[Any, Any]) -> dict[str, Any]:
    """Merge as Snakemake does: mappings key by key, everything else replaces."""
    result: dict[Any, Any] = copy.deepcopy(base)
    for key, value in overlay.items():
        below = result.get(key)
        if isinstance(value, dict):
            result[key] = merged(below if isinstance(below, dict) else {}, value)
        else:
            result[key] = value
    return result


def faults_of(overlay: str) -> tuple[str, ...]:
    """Return the faults of the default configuration with an overlay in YAML on top."""
    config = merged(SINGLE, yaml.load(overlay, Loader=yaml.FullLoader))
    with pytest.raises(ConfigError) as caught:
        resolve_config(config)
    return caught.value.faults


def line_overlay(text: str) -> str:
    return f"experiments: {{digits: {{probes: {{line: {text}}}}}}}"


def interp_overlay(text: str) -> str:
    return f"experiments: {{digits: {{probes: {{interp: {text}}}}}}}"


def probes_overlay(text: str) -> str:
    return f"experiments: {{digits: {{probes: {text}}}}}"


def experiment_overlay(text: str) -> str:
    return f"experiments: {{digits: {text}}}"


# --- the default and the overlays -------------------------------------------------------------------------------------


def test_a_resolved_configuration_is_complete() -> None:
    resolved = resolve_config(DEFAULT)
    assert resolved["run"] == [*DEFAULT["experiments"], *DEFAULT["toys"]]
    jsonschema.Draft202012Validator(SCHEMA).validate(resolved)
    assert resolve_config(resolved) == resolved


@pytest.mark.parametrize("path", OVERLAYS, ids=lambda path: path.stem)
def test_overlays_merge_and_resolve(path: Path) -> None:
    overlay = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.FullLoader)
    resolved = resolve_config(merged(DEFAULT, overlay))
    assert resolved["run"] == [*overlay["experiments"], *overlay.get("toys", {})]
    if path.stem in VARIATIONS:
        return
    assert resolved["results"] not in ("results", "")
    assert "digits" not in {key.experiment for key in runs(resolved)}
    # Started in a folder without config/config.yaml, Snakemake reads the overlay alone: it must give the same runs.
    alone = resolve_config(overlay)
    assert runs(alone) == runs(resolved)
    assert alone["experiments"] == {name: resolved["experiments"][name] for name in alone["experiments"]}


def test_merging_is_that_of_snakemake() -> None:
    from snakemake.utils import update_config

    for path in OVERLAYS:
        overlay = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.FullLoader)
        theirs = copy.deepcopy(DEFAULT)
        update_config(theirs, overlay)
        assert theirs == merged(DEFAULT, overlay)


def test_paper_overlay_has_the_published_scale() -> None:
    overlay = yaml.load((ROOT / "config/paper/linesearch.yaml").read_text(encoding="utf-8"), Loader=yaml.FullLoader)
    experiments = resolve_config(merged(DEFAULT, overlay))["experiments"]
    scale = {
        name: (block["models"], block["optimizer"]["momentum"], block["steps"], block["analysis"]["sgd_lr"])
        for name, block in experiments.items()
        if name in overlay["experiments"] and "line" in block["probes"]
    }
    # papers.md 2.1 and the table of 2.4
    assert scale == {
        "linesearch_resnet20": (["resnet20"], 0.0, 10_000, [0.05]),
        "linesearch_resnet18": (["resnet18"], 0.0, 10_000, [0.05]),
        "linesearch_resnet18_momentum": (["resnet18"], 0.9, 10_000, [0.05]),
        "linesearch_mobilenet": (["mobilenet_v2"], 0.0, 5_500, [0.05]),
        "linesearch_mobilenet_momentum": (["mobilenet_v2"], 0.9, 5_000, [0.07]),
    }
    for name in scale:
        assert experiments[name]["augmentation"] == {"crop_padding": 4, "flip": True}
        assert experiments[name]["probes"]["line"]["augment"] is True
        assert experiments[name]["probes"]["line"]["every"] == 1


def test_defaults_are_filled_in_at_every_level() -> None:
    resolved = resolve_config(
        {
            "datasets": {"noise": {"source": "random", "train": 100}},
            "models": {"net": {"entry": "timm:create_model"}},
            "experiments": {
                "a": {"dataset": "noise", "models": ["net"], "lr": [1], "batch_size": [10], "seed": [0], "steps": 5},
                "b": {
                    **{"dataset": "noise", "models": ["net"], "lr": [0.1], "batch_size": [10], "seed": [0], "steps": 5},
                    "probes": {"line": {}},
                    "optimizer": {"momentum": 0.5},
                },
                "c": {
                    **{"dataset": "noise", "models": ["net"], "lr": [0.1], "batch_size": [10], "seed": [0], "steps": 5},
                    "optimizer": {"name": "pal"},
                },
            },
        },
    )
    assert resolved["run"] == ["a", "b", "c"]
    assert resolved["results"] == "results"
    assert resolved["datasets"]["noise"]["images"] == 2048
    assert resolved["models"]["net"]["kwargs"] == {}
    a, b = resolved["experiments"]["a"], resolved["experiments"]["b"]
    assert a["probes"] == {}
    assert b["probes"]["line"]["interval"] == 0.5
    assert b["probes"]["line"]["precision"] == b["probes"]["line"]["memory_gb"] == "auto"
    assert set(b["probes"]["line"]["plan"].values()) == {None}
    assert b["optimizer"]["momentum"] == 0.5
    assert resolved["experiments"]["c"]["optimizer"] == {  # linesearch M6
        "name": "pal", "beta": 0.4, "adaptation": 1 / 0.6, "max_step": 3.16,
    }  # fmt: skip
    assert a["analysis"]["degrees"] == [1, 2, 3, 4]
    assert isinstance(a["lr"][0], float)


def test_resolving_leaves_the_input_alone_and_is_idempotent() -> None:
    config = copy.deepcopy(DEFAULT)
    first = resolve_config(config)
    assert config == DEFAULT
    first["experiments"]["digits"]["lr"].append(7.0)
    second = resolve_config(config)
    assert second == resolve_config(second)
    assert second["experiments"]["digits"]["lr"] == [0.1, 0.3]


# --- broken configurations --------------------------------------------------------------------------------------------

BROKEN = [
    # keys and names
    ("downlod: true", "downlod", ["not a known key", "Did you mean 'download'?"]),
    (line_overlay("{evry: 3}"), "experiments.digits.probes.line.evry", ["Did you mean 'every'?"]),
    (experiment_overlay("{momentum: 0.9}"), "experiments.digits.momentum", ["'optimizer.momentum'"]),
    (experiment_overlay("{interval: 0.9}"), "experiments.digits.interval", ["belongs under 'probes.line'"]),
    (experiment_overlay("{probes: {lines: {}}}"), "experiments.digits.probes.lines", ["Did you mean 'line'?"]),
    ("1: 2", "[1]", ["not a known key"]),
    ("? !!python/tuple [1, 2]\n: 3", "[the list [1, 2]]", ["not a known key"]),
    ("datasets: {2: {source: digits, train: 10}}", "datasets[2]", ["as its key", "quotes"]),
    ("models: {on: {entry: 'a:b'}}", "models[true]", ["yes, no, on, off", "quotes"]),
    ("models: {my net: {entry: 'a:b'}}", "models['my net']", ["Did you mean 'my_net'?"]),
    ("models: {MLP: {entry: 'a:b'}}", "models.MLP", ["'mlp'", "upper and lower case"]),
    ("experiments: {a;b: {}}", "experiments['a;b']", ["a name used in file names"]),
    ("experiments: {Figures: {}}", "experiments.Figures", ["figures, logs", "Rename it"]),
    (
        "models: {resnet: {entry: 'a:b'}}\nexperiments: {digits_tiny: {models: [resnet]}}",
        "experiments.digits_tiny.models[0]",
        ["file names of its own", "digits and tiny_resnet"],
    ),
    ("run: [digit]", "run[0]", ["name of an experiment", "Did you mean 'digits'?"]),
    ("run: digits", "run", ["all, or a list", "Write [digits]."]),
    ("run: []", "run", ["at least 1 entry"]),
    (experiment_overlay("{dataset: digit}"), "experiments.digits.dataset", ["data set", "Did you mean 'digits'?"]),
    (experiment_overlay("{models: [resnet]}"), "experiments.digits.models[0]", ["model", "tiny_resnet"]),
    (experiment_overlay("{models: [mlp, mlp]}"), "experiments.digits.models[1]", ["twice", "Remove one"]),
    # numbers
    (experiment_overlay("{lr: [0.1, -0.1]}"), "experiments.digits.lr[1]", ["a number above 0", "got -0.1"]),
    (experiment_overlay("{lr: [.nan]}"), "experiments.digits.lr[0]", ["a number above 0", "got nan"]),
    (experiment_overlay("{lr: [.inf]}"), "experiments.digits.lr[0]", ["got inf"]),
    (experiment_overlay("{lr: [1e-3]}"), "experiments.digits.lr[0]", ["got the text '1e-3'; write 1.0e-3"]),
    (experiment_overlay("{lr: ['0.1']}"), "experiments.digits.lr[0]", ["the text '0.1'; write 0.1", "quotes"]),
    (experiment_overlay("{lr: [yes]}"), "experiments.digits.lr[0]", ["got true"]),
    (experiment_overlay("{lr: [null]}"), "experiments.digits.lr[0]", ["got null"]),
    (experiment_overlay("{lr: 0.1}"), "experiments.digits.lr", ["a list", "Write [0.1]."]),
    (experiment_overlay("{lr: []}"), "experiments.digits.lr", ["at least 1 entry", "an empty list"]),
    (experiment_overlay("{lr: [0.1, 1.0e-1]}"), "experiments.digits.lr[1]", ["got 0.1 twice"]),
    (experiment_overlay("{lr: [1, 1.0]}"), "experiments.digits.lr[1]", ["got 1 twice"]),
    (experiment_overlay("{lr: [2024-01-01]}"), "experiments.digits.lr[0]", ["the date 2024-01-01"]),
    (experiment_overlay("{steps: 1e3}"), "experiments.digits.steps", ["the text '1e3'; write 1000"]),
    (experiment_overlay("{steps: 240.0}"), "experiments.digits.steps", ["whole number", "Write 240."]),
    (experiment_overlay("{steps: true}"), "experiments.digits.steps", ["whole number", "got true"]),
    (experiment_overlay("{seed: [0x" + "f" * 5000 + "]}"), "experiments.digits.seed[0]", ["20000 bits"]),
    (experiment_overlay("{optimizer: {momentum: 1}}"), "experiments.digits.optimizer.momentum", ["to below 1"]),
    (experiment_overlay("{drop_last: 1}"), "experiments.digits.drop_last", ["true or false", "got 1"]),
    # whole blocks of the wrong kind
    ("datasets:", "datasets", ["a mapping", "got null"]),
    ("datasets: {digits: null}", "datasets.digits", ["got null. Write its keys below it, source among them."]),
    ("models: []", "models", ["a mapping", "got the list []"]),
    ("experiments: {digits: 3}", "experiments.digits", ["a mapping", "got 3"]),
    ("experiments: {new: {}}", "experiments.new.steps", ["is missing", "a whole number"]),
    (experiment_overlay("{optimizer: null}"), "experiments.digits.optimizer", ["got null", "Write {}"]),
    ("models: {mlp: {kwargs: {1: 2}}}", "models.mlp.kwargs[1]", ["a text as its key", "got 1"]),
    ("models: {mlp: {kwargs: {p: [.nan]}}}", "models.mlp.kwargs.p[0]", ["finite"]),
    ("models: {mlp: {kwargs: {p: 2024-01-01}}}", "models.mlp.kwargs.p", ["the date 2024-01-01"]),
    ("models: {mlp: {kwargs: {p: &a [*a]}}}", "models.mlp.kwargs.p[0]", ["nested"]),
    ("models: {mlp: {entry: resnet20}}", "models.mlp.entry", ["package.module:factory", "got 'resnet20'"]),
    # folders
    ("results: /", "results", ["a folder of its own"]),
    ("results: .", "results", ["a folder of its own"]),
    ("results: a/../..", "results", ["without '..'"]),
    ("results: my results", "results", ["no spaces"]),
    ("results: $HOME/x", "results", ["special to a shell"]),
    ("results: 'a;rm'", "results", ["special to a shell"]),
    ("results: '-rf'", "results", ["folder path"]),
    ("results: 'a{b}'", "results", ["folder path"]),
    ("results: ~/x", "results", ["full path instead of ~"]),
    ('results: "a\\nb"', "results", ["on one line"]),
    ("data_dir: 'a`b`'", "data_dir", ["special to a shell"]),
    ("data_dir: 3", "data_dir", ["a text", "quotes"]),
    # data sets
    ("datasets: {digits: {source: digit}}", "datasets.digits.source", ["Did you mean 'digits'?"]),
    ("datasets: {digits: {train: 0}}", "datasets.digits.train", ["Training needs images"]),
    ("datasets: {digits: {train: some}}", "datasets.digits.train", ["a number of images, or all"]),
    ("datasets: {digits: {train: 1500}}", "datasets.digits.test", ["at most 41", "1797 images"]),
    ("datasets: {digits: {train: all, test: all}}", "datasets.digits.test", ["when train is all"]),
    ("datasets: {digits: {source: cifar10, test: 10001}}", "datasets.digits.test", ["at most 10000"]),
    ("datasets: {digits: {source: image_folder}}", "datasets.digits.path", ["is missing", "train/<class>/*"]),
    (
        "datasets: {digits: {source: image_folder, path: 'a*'}}",
        "datasets.digits.path",
        ["wildcard characters", "got 'a*'", "link to it"],
    ),
    ("datasets: {digits: {path: x}}", "datasets.digits.path", ["is not a known key", "an option of image_folder"]),
    ("datasets: {digits: {source: random, random: {}}}", "datasets.digits.random", ["Known keys here", "images"]),
    ("datasets: {digits: {source: random, images: 9}}", "datasets.digits.train", ["at most 9", "images of random"]),
    ("datasets: {digits: {source: random, size: 8192}}", "datasets.digits.images", ["at most 2147483647 pixel values"]),
    ("datasets: {digits: {mean: [0.1, 0.2]}}", "datasets.digits.mean", ["one number per channel (1 here)", "got 2"]),
    ("datasets: {digits: {std: [0]}}", "datasets.digits.std[0]", ["above 0"]),
    ("datasets: {digits: {std: Auto}}", "datasets.digits.std", ["Did you mean 'auto'?"]),
    ("datasets: {digits: {channels: 2}}", "datasets.digits.channels", ["null, 1 or 3"]),
    ("datasets: {digits: {channels: 1.0}}", "datasets.digits.channels", ["Write 1."]),
    ("datasets: {digits: {image_size: 0}}", "datasets.digits.image_size", ["from 1 to 8192", "null"]),
    # training
    (experiment_overlay("{batch_size: [2000]}"), "experiments.digits.batch_size[0]", ["at most", "1024", "got 2000"]),
    (experiment_overlay("{batch_size: [64, 64]}"), "experiments.digits.batch_size[1]", ["got 64 twice"]),
    (experiment_overlay("{seed: [1, 2, 1]}"), "experiments.digits.seed[2]", ["got 1 twice"]),
    (experiment_overlay("{segments: 241}"), "experiments.digits.segments", ["at most steps (240)"]),
    (experiment_overlay("{schedule: {milestones: [9]}}"), "experiments.digits.schedule.milestones", ["option of step"]),
    (
        experiment_overlay("{schedule: {name: step, milestones: [9, 240]}}"),
        "experiments.digits.schedule.milestones[1]",
        ["below steps (240)"],
    ),
    (
        experiment_overlay("{schedule: {name: step, milestones: []}}"),
        "experiments.digits.schedule.milestones",
        ["1 entry"],
    ),
    (experiment_overlay("{optimizer: {name: adam}}"), "experiments.digits.optimizer.name", ["sgd", "got 'adam'"]),
    # the line probe and what draws it
    (line_overlay("{interval: [0.1, 0.5]}"), "experiments.digits.probes.line.interval", ["half-width around 0"]),
    (line_overlay("{interval: -0.5}"), "experiments.digits.probes.line.interval", ["above 0", "half-width"]),
    (line_overlay("{resolution: 0.3}"), "experiments.digits.probes.line.resolution", ["half of interval (0.25)"]),
    (line_overlay("{resolution: 1.0e-9}"), "experiments.digits.probes.line.resolution", ["coarser"]),
    (line_overlay("{every: 241}"), "experiments.digits.probes.line.every", ["at most steps (240)"]),
    (line_overlay("{every: 240}"), "experiments.digits.probes.line.every", ["at least two lines"]),
    (line_overlay("{positions: gird}"), "experiments.digits.probes.line.positions", ["Did you mean 'grid'?"]),
    (line_overlay("{batch_norm: 'off'}"), "experiments.digits.probes.line.batch_norm", ["one of train or eval"]),
    # the plan
    (line_overlay("{precision: bfloat8}"), "experiments.digits.probes.line.precision", ["auto, float32", "'bfloat16'"]),
    (line_overlay("{precision_tolerance: 0}"), "experiments.digits.probes.line.precision_tolerance", ["above 0"]),
    (
        line_overlay("{precision_tolerance: 1e-5}"),
        "experiments.digits.probes.line.precision_tolerance",
        ["the text '1e-5'; write 1.0e-5"],
    ),
    (line_overlay("{memory_gb: 0}"), "experiments.digits.probes.line.memory_gb", ["a number above 0", "got 0"]),
    (line_overlay("{memory_gb: Auto}"), "experiments.digits.probes.line.memory_gb", ["Did you mean 'auto'?"]),
    (line_overlay("{memory_gb: '2'}"), "experiments.digits.probes.line.memory_gb", ["the text '2'; write 2.0"]),
    (line_overlay("{plan: auto}"), "experiments.digits.probes.line.plan", ["a mapping", "got 'auto'"]),
    (line_overlay("{plan: null}"), "experiments.digits.probes.line.plan", ["got null", "Write {}"]),
    (
        line_overlay("{plan: {chunk_per_pass: 4}}"),
        "experiments.digits.probes.line.plan.chunk_per_pass",
        ["not a known key", "Did you mean 'chunks_per_pass'?"],
    ),
    (
        line_overlay("{plan: {chunks_per_pass: 0}}"),
        "experiments.digits.probes.line.plan.chunks_per_pass",
        ["from 1 to"],
    ),
    (line_overlay("{plan: {threads: auto}}"), "experiments.digits.probes.line.plan.threads", ["a whole number"]),
    (line_overlay("{plan: {threads: 2}}"), "experiments.digits.probes.line.plan.threads", ["experiment's threads (1)"]),
    (line_overlay("{plan: {statistics: views}}"), "experiments.digits.probes.line.plan.statistics", ["'view'"]),
    (line_overlay("{plan: {compiled: 1}}"), "experiments.digits.probes.line.plan.compiled", ["true or false"]),
    (line_overlay("{chunks_per_pass: 4}"), "experiments.digits.probes.line.chunks_per_pass", ["belongs under 'plan'"]),
    (
        line_overlay("{plan: {reseed: true, chunks_per_pass: 2, compiled: true}}"),
        "experiments.digits.probes.line.plan.reseed",
        ["false beside chunks_per_pass: 2, compiled: true"],
    ),
    (
        line_overlay("{plan: {in_place: true, positions_per_pass: 2, channels_last: true}}"),
        "experiments.digits.probes.line.plan.in_place",
        ["false beside positions_per_pass: 2, channels_last: true"],
    ),
    (
        line_overlay("{precision: float64, plan: {in_place: true}}"),
        "experiments.digits.probes.line.plan.in_place",
        ["false beside precision: float64"],
    ),
    # the interpolation probe: 240 steps of 16 updates an epoch
    (interp_overlay("{alphas: 2}"), "experiments.digits.probes.interp.alphas", ["from 3 to 1001", "got 2"]),
    (interp_overlay("{epochs: all}"), "experiments.digits.probes.interp.epochs", ["null, or a list of epochs"]),
    (interp_overlay("{epochs: []}"), "experiments.digits.probes.interp.epochs", ["at least 1 entry"]),
    (interp_overlay("{epochs: [0]}"), "experiments.digits.probes.interp.epochs[0]", ["of at least 1", "got 0"]),
    (interp_overlay("{epochs: [1, 1]}"), "experiments.digits.probes.interp.epochs[1]", ["got 1 twice"]),
    (interp_overlay("{epochs: [15, 16]}"), "experiments.digits.probes.interp.epochs[1]", ["run (15), got 16"]),
    (interp_overlay("{updates: 0}"), "experiments.digits.probes.interp.updates", ["of at least 1", "null"]),
    (interp_overlay("{augment: true}"), "experiments.digits.probes.interp.augment", ["Set crop_padding or flip"]),
    (
        interp_overlay("{every: 30, epochs: [3, 5], updates: 2}"),
        "experiments.digits.probes.interp.every",
        ["an update to measure in the chosen epochs", "got 30 with 240 steps"],
    ),
    (interp_overlay("{plan: {threads: 2}}"), "experiments.digits.probes.interp.plan.threads", ["threads (1)"]),
    (
        "datasets: {digits: {train: 1025}}\nexperiments: {digits: {probes: {line: {batch_norm: eval}, interp: {}}}}",
        "experiments.digits.batch_size[0]",
        ["probes.interp.batch_norm is train", "datasets.digits.train to 1024, or use another batch size"],
    ),
    # chunks of one sample, and numbers that the source has images for
    (
        probes_overlay("{line: {batch_norm: eval}, stationarity: {samples: 1}}"),
        "experiments.digits.batch_size[0]",
        ["Set probes.stationarity.samples to 2."],
    ),
    (
        "datasets: {digits: {train: 961}}\nexperiments: {digits: {probes: {line: {batch_norm: eval}, spectrum: {}}}}",
        "experiments.digits.batch_size[0]",
        ["one of the 961 train images over. Set probes.spectrum.samples to 960, or"],
    ),
    (
        "datasets: {digits: {train: 961}}",
        "experiments.digits.batch_size[0]",
        ["Set datasets.digits.train to 960 or 962, or"],
    ),
    (
        "datasets: {digits: {validation: 1, test: all}}",
        "experiments.digits.batch_size[0]",
        ["one of the 1 validation images over. Set datasets.digits.validation to 2."],
    ),
    (
        experiment_overlay("{batch_size: [100], micro_batch: 23, drop_last: false}"),
        "experiments.digits.micro_batch",
        ["one of the 24 samples of an epoch's last batch over. Set drop_last: true, or use another micro_batch."],
    ),
    (
        experiment_overlay("{batch_size: [341], micro_batch: 50, drop_last: false}"),
        "experiments.digits.micro_batch",
        ["one of the 1 samples of an epoch's last batch over. Set drop_last: true, or use another batch size."],
    ),
    # the other probes
    (
        probes_overlay("{feat: {samples: 1025}}"),
        "experiments.digits.probes.feat.samples",
        ["at most the training images of digits (1024), got 1025. Lower it, or set it to null."],
    ),
    (probes_overlay("{jac: {samples: 1025}}"), "experiments.digits.probes.jac.samples", ["got 1025. Lower it."]),
    (
        probes_overlay("{hessian_covariance: {samples: 1025, augment: true}}"),
        "experiments.digits.probes.hessian_covariance.augment",
        ["false without an augmentation"],
    ),
    (
        probes_overlay("{own_direction: {batch_sizes: [8, 1025]}}"),
        "experiments.digits.probes.own_direction.batch_sizes[1]",
        ["at most the training images of digits (1024)"],
    ),
    (
        "datasets: {digits: {train: 15}}\nexperiments: {digits: {batch_size: [5], probes: {own_direction: {}}}}",
        "experiments.digits.probes.own_direction.batch_sizes",
        ["a list for fewer than 16 training images, got auto and 15 of digits"],
    ),
    # imported lines
    (
        experiment_overlay("{import_lines: x, probes: {line: {evry: 1}}}"),
        "experiments.digits.probes.evaluation",
        ["left out where lines are imported"],
    ),
    (experiment_overlay("{analysis: {window: 0.6}}"), "experiments.digits.analysis.window", ["interval (0.5)"]),
    (experiment_overlay("{analysis: {window: 0.01}}"), "experiments.digits.analysis.window", ["resolution (0.012)"]),
    (
        experiment_overlay("{analysis: {window: 0.012, degrees: [2, 5]}}"),
        "experiments.digits.analysis.degrees[1]",
        ["grid points in the window (5)"],
    ),
    (experiment_overlay("{analysis: {sgd_lr: [best]}}"), "experiments.digits.analysis.sgd_lr[0]", ["auto"]),
    (
        experiment_overlay("{analysis: {figure_updates: 0}}"),
        "experiments.digits.analysis.figure_updates",
        ["at least 1"],
    ),
    ("datasets: {digits: {train: 1025}}", "experiments.digits.batch_size[0]", ["one sample", "train to 1024, or use"]),
    ("datasets: {digits: {validation: 193}}", "experiments.digits.batch_size[0]", ["validation", "192 or 194"]),
    (experiment_overlay("{batch_size: [1]}"), "experiments.digits.batch_size[0]", ["batch_norm: eval"]),
    (experiment_overlay("{figures: [linesearch/fig3]}"), "experiments.digits.figures[0]", ["fig3_distance_matrix"]),
    (experiment_overlay("{figures: [Fig 2]}"), "experiments.digits.figures[0]", ["name of a figure"]),
    (experiment_overlay("{figures: [unknown/xyz1]}"), "experiments.digits.figures[0]", ["Known figures: "]),
    (
        experiment_overlay("{figures: [walk/fig36_quadratic]}"),
        "experiments.digits.figures[0]",
        [
            "which draws the toy quadratic_descent",
            "toys: {a_name: {toy: quadratic_descent, figures: [walk/fig36_quadratic]}}",
        ],
    ),
    (
        "comparisons: {a: {figure: walk/fig36_quadratic, experiments: [digits]}}",
        "comparisons.a.figure",
        ["compares runs", "got walk/fig36_quadratic"],
    ),
    # toys
    ("run: [quadratc]", "run[0]", ["a toy or a paper", "Did you mean 'quadratic'?"]),
    ("run: [curios]", "run[0]", ["or a paper", "Did you mean 'curious'?"]),
    ("experiments: {walk: {}}", "experiments.walk", ["must not be the name of a paper", "Rename it"]),
    ("toys: {sparse: {toy: quadratic_descent}}", "toys.sparse", ["must not be the name of a paper"]),
    ("experiments: {toys: {}}", "experiments.toys", ["tables, toys", "Rename it"]),
    ("toys: {Digits: {toy: quadratic_descent}}", "toys.Digits", ["beside experiments.digits", "run names both"]),
    ("toys: {Quadratic: {toy: quadratic_descent}}", "toys.Quadratic", ["'quadratic'", "upper and lower case"]),
    ("toys: {a/b: {toy: quadratic_descent}}", "toys['a/b']", ["a name used in file names", "Did you mean 'a_b'?"]),
    ("toys: {quadratic: {toy: quadratic}}", "toys.quadratic.toy", ["quadratic_descent", "got 'quadratic'. Did you"]),
    (
        "toys: {quadratic: {toy: [1]}}",
        "toys.quadratic.toy",
        ["must be one of averaged_variance, ", ", got the list [1]"],
    ),
    ("toys: {new: {steps: 3}}", "toys.new.toy", ["is missing. It must be one of averaged_variance, "]),
    ("toys: {new: quadratic_descent}", "toys.new", ["a mapping with the key toy", "got 'quadratic_descent'"]),
    ("toys: []", "toys", ["a mapping", "got the list []"]),
    ("toys: {quadratic: {step: 3}}", "toys.quadratic.step", ["not a known key", "Did you mean 'steps'?"]),
    ("toys: {quadratic: {steps: 0}}", "toys.quadratic.steps", ["from 1 to", "got 0"]),
    ("toys: {quadratic: {eigenvalues: [1]}}", "toys.quadratic.eigenvalues", ["at least 2 entries, got 1"]),
    ("toys: {quadratic: {eigenvalues: [1, -1]}}", "toys.quadratic.eigenvalues[1]", ["a number from 1e-06", "got -1"]),
    ("toys: {quadratic: {start: [1, 2, 3]}}", "toys.quadratic.start", ["at most 2 entries, got 3"]),
    ("toys: {quadratic: {start: [0, 1]}}", "toys.quadratic.start[0]", ["largest eigenvalue", "over-damped"]),
    (
        "toys: {quadratic: {eigenvalues: [1, 2], start: [1, 0]}}",
        "toys.quadratic.start[1]",
        ["must not be 0 along the largest eigenvalue"],
    ),
    ("toys: {quadratic: {relative_lr: [1, 1.0]}}", "toys.quadratic.relative_lr[1]", ["twice", "Remove one"]),
    ("toys: {quadratic: {relative_lr: [0]}}", "toys.quadratic.relative_lr[0]", ["a number from 0.0005"]),
    (
        "toys: {m: {toy: averaged_variance, relative_lr: [2]}}",
        "toys.m.relative_lr[0]",
        ["a number from 0.0005 to below 2", "got 2"],
    ),
    ("toys: {m: {toy: momentum_variance, momentum: [1]}}", "toys.m.momentum[0]", ["from 0 to 0.999", "got 1"]),
    (
        "toys: {m: {toy: equivalent_schedule, updates: 59}}",
        "toys.m.two_point_distance[0]",
        ["within the 59 updates, got one that reaches 60 back", "Raise updates"],
    ),
    (
        "toys: {m: {toy: equivalent_schedule, swa_spacing: [1, 10]}}",
        "toys.m.swa_spacing[1]",
        ["within the 400 updates, got one that reaches 590 back"],
    ),
    ("toys: {m: {toy: quadratic_spectrum, lr: 0.2}}", "toys.m.lr", ["below 2/largest_eigenvalue = 0.2", "got 0.2"]),
    (
        "toys: {m: {toy: quadratic_spectrum, smallest_eigenvalue: 11}}",
        "toys.m.smallest_eigenvalue",
        ["at most largest_eigenvalue = 10, got 11. Swap them."],
    ),
    (
        "toys: {m: {toy: quadratic_spectrum, updates: 100}}",
        "toys.m.two_point_distance",
        ["at most updates = 100, got 2000"],
    ),
    ("toys: {quadratic: {figures: [fig36]}}", "toys.quadratic.figures[0]", ["draws the toy", "walk/fig36_quadratic"]),
    (
        "toys: {quadratic: {figures: [linesearch/fig2_lines]}}",
        "toys.quadratic.figures[0]",
        ["figure of the toy quadratic_descent", "got linesearch/fig2_lines"],
    ),
]
JARGON = ["is not valid under", "^[", "is not of type", "additionalProperties", "Traceback", "<class '", "$ref"]


@pytest.mark.parametrize(("overlay", "key_path", "words"), BROKEN, ids=[case[0][:60] for case in BROKEN])
def test_fault_names_key_value_and_rule(overlay: str, key_path: str, words: list[str]) -> None:
    faults = faults_of(overlay)
    told = [fault for fault in faults if fault.startswith(f"{key_path} ")]
    assert len(told) == 1, faults
    assert [word for word in words if word not in told[0]] == []
    assert [word for word in JARGON if any(word in fault for fault in faults)] == []
    assert all("\n" not in fault and len(fault) < 500 for fault in faults)


def test_all_faults_come_at_once_and_only_those() -> None:
    faults = faults_of(
        """
        downlod: true
        datasets: {digits: {train: many}}
        experiments:
          digits:
            lr: [-1, 0.1, 1e-3]
            models: [mlpp, mlp]
            segments: 300
            probes: {line: {evry: 1, interval: [0, 1]}}
            figures: [linesearch/fig7]
        """
    )
    assert sorted(fault.split()[0] for fault in faults) == [
        "datasets.digits.train",
        "downlod",
        "experiments.digits.figures[0]",
        "experiments.digits.lr[0]",
        "experiments.digits.lr[2]",
        "experiments.digits.models[0]",
        "experiments.digits.probes.line.evry",
        "experiments.digits.probes.line.interval",
        "experiments.digits.segments",
    ]


@pytest.mark.parametrize(
    ("changes", "keys"),
    [
        ("{lr: [-1], probes: {interp: {epochs: [16]}}}", ["lr[0]", "probes.interp.epochs[0]"]),
        ("{batch_size: [64, -3], probes: {interp: {epochs: [16]}}}", ["batch_size[1]"]),
        ("{batch_size: [64, 2000], probes: {interp: {epochs: [16]}}}", ["batch_size[1]"]),
        ("{drop_last: 1, probes: {interp: {epochs: [16]}}}", ["drop_last"]),
        ("{micro_batch: 1, batch_size: [1023]}", ["micro_batch"]),
        ("{batch_size: [2000], probes: {one_step: {}}}", ["batch_size[0]"]),
        ("{augmentation: {flip: 1}, probes: {line: {augment: true}}}", ["augmentation.flip"]),
        ("{steps: 0, analysis: {window: 0.6}, probes: {line: {every: 999}}}", ["steps", "analysis.window"]),
    ],
)
def test_a_fault_neither_hides_nor_makes_others(changes: str, keys: list[str]) -> None:
    """What depends on a value that is at fault may be right once that is; everything else is reported at once."""
    assert [fault.split()[0] for fault in faults_of(experiment_overlay(changes))] == [
        f"experiments.digits.{key}" for key in keys
    ]


def test_imported_lines_need_the_line_probe() -> None:
    config = copy.deepcopy(SINGLE)
    config["experiments"]["digits"] |= {"figures": [], "probes": {"jac": {"samples": 5000}}, "import_lines": "lines"}
    config["experiments"]["digits"] |= {"lr": [0.1], "seed": [1], "models": ["mlp"], "batch_size": [1]}
    with pytest.raises(ConfigError) as caught:
        resolve_config(config)
    assert [fault.partition(" must ")[2][:20] for fault in caught.value.faults] == [
        "hold line where line", "be left out where li",
    ]  # fmt: skip
    config["experiments"]["digits"]["probes"] = {"line": {}}  # chunks of one sample were no matter elsewhere
    resolve_config(config)


def test_message_lists_one_fault_a_line() -> None:
    with pytest.raises(SgdlineError) as caught:
        resolve_config({})
    head, *lines = str(caught.value).splitlines()
    assert head == "The configuration has 3 faults:"
    assert [line.split()[0] for line in lines] == ["datasets", "models", "experiments"]


@pytest.mark.parametrize("value", [None, [], "text", 3, {"a": 1}, {None: {None: None}}, {(1, 2): b"x"}])
def test_anything_but_a_config_is_refused(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"must be a mapping|is missing"):
        resolve_config(value)


def test_size_of_an_unbounded_split_is_known_for_known_sources() -> None:
    # 1797 - 256 - 516 = 1025 training images: one is left over by batches of 64.
    faults = faults_of("datasets: {digits: {train: all, test: 516}}")
    assert len(faults) == 1
    assert "got 64" in faults[0]
    assert "datasets.digits.train to 1024," in faults[0]


def test_many_lines_need_the_line_probe() -> None:
    config = copy.deepcopy(SINGLE)
    config["experiments"]["digits"] |= {"figures": [], "probes": {"mline": {}}}
    with pytest.raises(ConfigError, match=r"probes\.mline needs `probes\.line`, whose settings it shares\. Add `line"):
        resolve_config(config)
    # It has no block of lines of its own.
    config["experiments"]["digits"]["probes"] = {"line": {}, "mline": {"line": {}}}
    with pytest.raises(ConfigError, match=r"probes\.mline\.line is not a known key"):
        resolve_config(config)


def test_figures_need_their_probes() -> None:
    config = copy.deepcopy(SINGLE)
    drawn = config["experiments"]["digits"]["figures"]
    config["experiments"]["digits"]["probes"] = {}
    with pytest.raises(ConfigError) as caught:
        resolve_config(config)
    assert len(caught.value.faults) == len(drawn)
    assert all("no probes.line in this experiment" in fault for fault in caught.value.faults)
    # A table that two probes make together, and one that an option of a probe keeps from being made.
    block = config["experiments"]["digits"]
    block |= {"figures": ["predicted_gains"], "probes": {"averages": {}}}
    with pytest.raises(ConfigError, match=r"no probes\.spectrum"):
        resolve_config(config)
    block |= {"figures": ["emulated_batches"], "probes": {"line": {"sample_losses": False}}}
    with pytest.raises(
        ConfigError, match=r"got emulated_batches with probes\.line\.sample_losses: false. Set it to true"
    ):
        resolve_config(config)


def test_figures_have_options() -> None:
    config = copy.deepcopy(SINGLE)
    block = config["experiments"]["digits"]
    block["probes"] = {"line": {}, "interp": {}}
    second = {"name": "trajectory", "place": 2, "called": "second"}
    block["figures"] = ["trajectory", second]
    assert resolve_config(config)["experiments"]["digits"]["figures"] == [
        "trajectory",
        {"title": None, "width": "page", "panel": None, "marks": [], **second},
    ]
    for figure, fault in (
        ({"name": "trajectory", "place": 2}, r"must have a folder of its own, got trajectory, .* Add called: a_name"),
        ({"name": "trajectory", "plase": 2}, r"plase is not a known key of trajectory. Did you mean 'place'"),
        ({"name": "trajectory", "place": 0}, r"figures\[1\]\.place must be a whole number from 1 to 4, got 0"),
        ({"name": "trajektory"}, r"figures\[1\]\.name must be the name of a figure, got .* Did you mean 'trajectory'"),
        ({"name": "walk/fig2_sgd_vgg11_e1"}, r"name must be .* got walk/fig2_sgd_vgg11_e1, an id that has its options"),
        ({"place": 2}, r"figures\[1\]\.name is missing"),
        (3, r"figures\[1\] must be the name of a figure, an id, paper/figure, an entry"),
        ("trajektory", r"figures\[1\] must be the name of a figure, got 'trajektory'\. Did you mean 'trajectory'"),
        (
            "roles",
            r"must be a figure of a single run, got roles, which compares runs\. Move it to the top level's comp",
        ),
    ):
        block["figures"] = ["trajectory", figure]
        with pytest.raises(ConfigError, match=fault):
            resolve_config(config)
    # Pictures of a comparison and of a toy of one name would be one file.
    block["figures"] = []
    config["comparisons"] = {"a": {"figure": {"name": "roles", "called": "b"}, "experiments": ["digits"]}}
    config["toys"] = {"a": {"toy": "quadratic_descent", "figures": [{"name": "quadratic_descent", "called": "B"}]}}
    with pytest.raises(ConfigError, match=r"a\.figure\.called must give a folder of its own, got b: roles, "):
        resolve_config(config)


PINS = [
    *({"reseed": seeded, "chunks_per_pass": chunks} for seeded in (True, False) for chunks in (1, 2)),
    *({"reseed": seeded, "positions_per_pass": count} for seeded in (True, False) for count in (1, 2)),
    *({"reseed": seeded, "compiled": compiled} for seeded in (True, False) for compiled in (True, False)),
    *({"in_place": placed, "chunks_per_pass": chunks} for placed in (True, False) for chunks in (1, 2)),
    *({"in_place": placed, "positions_per_pass": count} for placed in (True, False) for count in (1, 2)),
    *({"in_place": placed, "channels_last": last} for placed in (True, False) for last in (True, False)),
    *({"in_place": placed, "precision": kind} for placed in (True, False) for kind in ("float32", "float64")),
]


@pytest.mark.parametrize("pinned", PINS, ids=str)
def test_pinned_plans_are_refused_here_if_the_engine_refuses_them(pinned: dict[str, Any]) -> None:
    entries = dict(pinned)
    line = {"precision": entries.pop("precision", "auto"), "plan": entries}
    config = merged(DEFAULT, {"experiments": {"digits": {"probes": {"line": line}}}})
    # What is not pinned takes the value that goes with everything.
    fits = True
    try:
        Plan(**{"reseed": False, **pinned})
    except SgdlineError:
        fits = False
    if fits:
        resolve_config(config)
    else:
        with pytest.raises(ConfigError, match=r"line\.plan\.(reseed|in_place) must be false"):
            resolve_config(config)


def test_the_schema_knows_every_entry_of_a_plan() -> None:
    assert set(SCHEMA["$defs"]["PlanOptions"]["properties"]) | {"precision"} == {entry.name for entry in fields(Plan)}
    line = SCHEMA["$defs"]["LineOptions"]["properties"]
    assert set(line["precision"]["enum"]) == {"auto", *PRECISIONS}


def test_eval_mode_takes_chunks_of_one_sample() -> None:
    config = merged(SINGLE, {"datasets": {"digits": {"train": 1023, "validation": 257}}})
    config["experiments"]["digits"].update(batch_size=[1, 73], probes={"line": {"batch_norm": "eval"}}, figures=[])
    assert resolve_config(config)["experiments"]["digits"]["batch_size"] == [1, 73]


def test_absolute_folders_are_allowed() -> None:
    config = {**DEFAULT, "results": "/scratch/me/results", "data_dir": "/scratch/data"}
    assert resolve_config(config)["results"] == "/scratch/me/results"


def test_a_toy_is_of_the_kind_that_it_names() -> None:
    """Two kinds side by side: each block is filled in and checked by the keys of its own kind."""
    blocks = {"a": {"toy": "quadratic_descent"}, "b": {"toy": "equivalent_schedule", "chains": 5}}
    resolved = resolve_config({**SINGLE, "toys": blocks})
    assert resolved["toys"]["a"]["steps"] == 30
    assert (resolved["toys"]["b"]["toy"], resolved["toys"]["b"]["chains"]) == ("equivalent_schedule", 5)
    blocks = {
        "a": {"toy": "quadratic_descent", "chains": 5},
        "b": {"toy": "equivalent_schedule", "chains": 0},
        "c": {"toy": "diagonal_network"},
        "d": {},
    }
    *others, last = registry.names("toy")
    listed = f"{', '.join(others)} or {last}"
    with pytest.raises(ConfigError) as caught:
        resolve_config({**SINGLE, "toys": blocks})
    assert caught.value.faults == (
        "toys.a.chains is not a known key of quadratic_descent. Known keys here: eigenvalues, figures, relative_lr, "
        "start, steps, toy.",
        "toys.b.chains must be a whole number from 1 to 1000000, got 0.",
        f"toys.c.toy must be one of {listed}, got 'diagonal_network'. Did you mean 'diagonal_networks'?",
        f"toys.d.toy is missing. It must be one of {listed}.",
    )


def test_a_toy_of_an_unknown_kind_is_one_fault_and_its_name_stays_known() -> None:
    faults = faults_of("{run: [digits, quadratic], toys: {quadratic: {toy: cubic}}}")
    assert [fault.split()[0] for fault in faults] == ["toys.quadratic.toy"]


def test_toys_alone_are_enough_to_run() -> None:
    resolved = resolve_config({**SINGLE, "run": ["quadratic"]})
    assert resolved["run"] == ["quadratic"]
    assert runs(resolved) == []
    assert toys(resolved) == ["quadratic"]


def test_a_paper_that_nothing_is_drawn_for_cannot_be_run() -> None:
    changed = {**SINGLE, "toys": {}, "run": ["curious"]}
    with pytest.raises(ConfigError, match=r"run\[0\] must be a paper that the configuration draws, got curious. Add"):
        resolve_config(changed)


def test_a_paper_stands_for_all_that_its_figures_draw() -> None:
    changed = copy.deepcopy(DEFAULT) | {"run": ["digits", "sparse"]}
    changed["comparisons"] = {"a": {"figure": "sparse/ext_label_noise", "experiments": ["sparse_valley", "walk_gd"]}}
    for name, block in changed["experiments"].items():
        block.pop("figures", None)
        if name in ("sparse_valley", "walk_gd"):
            block["probes"] = {"evaluation": {"every": 50}, "feat": {"every": 50}}
    changed["toys"] = {name: block for name, block in changed["toys"].items() if name in ("quadratic", "diagonal_gd")}
    resolved = resolve_config(changed)
    experiments = [name for name in changed["experiments"] if name in ("sparse_valley", "walk_gd")]
    assert resolved["run"] == ["digits", *experiments, "diagonal_gd"]


# --- whatever YAML may hold -------------------------------------------------------------------------------------------


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    if isinstance(value, dict):
        for key, entry in value.items():
            yield from places(entry, (*path, key))
    elif isinstance(value, list):
        for position, entry in enumerate(value):
            yield from places(entry, (*path, position))


PLACES = list(places(DEFAULT))
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=-2, max_value=300),
    st.integers(min_value=2**64, max_value=2**4000),
    st.floats(),
    st.floats(min_value=0, max_value=2),
    st.text(max_size=12),
    st.sampled_from(["all", "auto", "none", "digits", "mlp", "1e-3", "linesearch/fig2_lines", "step", "a b", "é"]),
    st.dates(),
    st.datetimes(),
    st.binary(max_size=4),
)
KEYS = st.one_of(
    st.text(max_size=8), st.integers(), st.booleans(), st.none(), st.floats(), st.dates(), st.tuples(st.integers())
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(KEYS, inner, max_size=3)),
    max_leaves=6,
)


def mutated(path: tuple[Any, ...], action: str, key: Any, value: Any) -> Any:
    config = copy.deepcopy(part_of(DEFAULT, [path]))
    if not path:
        return {**config, key: value} if action == "insert" else value
    parent: Any = config
    for part in path[:-1]:
        parent = parent[part]
    if action == "delete":
        del parent[path[-1]]
    elif action == "insert" and isinstance(parent, dict):
        parent[key] = value
    elif action == "insert":
        parent.append(value)
    else:
        parent[path[-1]] = value
    return config


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    path=st.sampled_from(PLACES),
    action=st.sampled_from(["replace", "replace", "replace", "delete", "insert"]),
    key=KEYS,
    value=VALUES,
)
def test_any_yaml_resolves_or_raises_a_config_error(path: tuple[Any, ...], action: str, key: Any, value: Any) -> None:
    config = mutated(path, action, key, value)
    resolved: dict[str, Any] | None = None
    faults: tuple[str, ...] = ()
    lines = 0
    try:
        resolved = resolve_config(config)
    except ConfigError as error:
        faults, lines = error.faults, str(error).count("\n")
    assert (resolved is None) == bool(faults)
    assert lines == len(faults)
    if resolved is not None:
        # The oracle: an independent implementation accepts what ours has filled in.
        jsonschema.Draft202012Validator(SCHEMA).validate(resolved)
        json.dumps(resolved, allow_nan=False)
        assert runs(resolved) or toys(resolved)
        assert len({run_path(run).casefold() for run in runs(resolved)}) == len(runs(resolved))


@settings(max_examples=100, deadline=None)
@given(path=st.sampled_from([place for place in PLACES if place]), value=SCALARS)
@pytest.mark.slow
def test_nothing_passes_that_jsonschema_refuses(path: tuple[Any, ...], value: Any) -> None:
    config = mutated(path, "replace", None, value)
    if jsonschema.Draft202012Validator(SCHEMA).is_valid(config):
        return
    with pytest.raises(ConfigError):
        resolve_config(config)


def test_dates_and_floats_are_told_in_plain_words() -> None:
    config = merged(DEFAULT, {"results": datetime.datetime(2024, 1, 1), "download": math.nan})
    with pytest.raises(ConfigError) as caught:
        resolve_config(config)
    results, download = caught.value.faults
    assert "the date 2024-01-01T00:00:00" in results
    assert "true or false, got nan" in download


def test_config_is_importable_without_torch_or_numpy() -> None:
    code = "import sys, sgdline.config; print([name for name in ('torch', 'numpy') if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("nets/mine.py:make", ["There is no file nets/mine.py"]),
        ("net.py:make_nett", ["Did you mean 'make_net'?"]),
        ("broken.py:make_net", ["broken.py has a syntax error in line 1"]),
        ("sgdline.models:tiny_resnt", ["Did you mean 'tiny_resnet'?"]),
        ("sgdline.modells:mlp", ["Did you mean 'sgdline.models'?"]),
    ],
)
def test_a_factory_that_does_not_exist_is_found_without_importing_it(entry, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text("raise RuntimeError('imported')\n\ndef make_net(num_classes): ...\n")
    (tmp_path / "broken.py").write_text("def make_net(:\n")
    config = copy.deepcopy(DEFAULT)
    config["models"]["mlp"] = {"entry": entry}
    with pytest.raises(ConfigError) as caught:
        resolve_config(config)
    assert "models.mlp.entry" in str(caught.value)
    assert all(word in str(caught.value) for word in words)
    config["models"]["mlp"] = {"entry": "net.py:make_net"}
    resolve_config(config)


def test_fixed_augmentation_needs_an_augmentation():
    config = copy.deepcopy(SINGLE)
    config["experiments"]["digits"]["probes"]["line"]["augment"] = True
    with pytest.raises(ConfigError, match=r"digits\.probes\.line\.augment must be false without an augmentation"):
        resolve_config(config)
    config["experiments"]["digits"]["augmentation"] = {"flip": True}
    resolve_config(config)


@pytest.mark.parametrize(
    ("every", "epochs", "updates"),
    [(1, None, None), (7, [2], None), (15, [1, 3], 1), (16, [15], 1), (17, [4], 3), (17, [3, 4], 2), (239, None, 4)],
)
@pytest.mark.parametrize("drop_last", [True, False])
def test_intervals_that_the_config_lets_pass_are_measured(
    every: int, epochs: list[int] | None, updates: int | None, drop_last: bool
) -> None:
    config = copy.deepcopy(SINGLE)
    config["datasets"]["digits"]["train"] = 1000  # epochs of 15 updates and a rest
    block: dict[str, Any] = {"every": every, "epochs": epochs, "updates": updates}
    config["experiments"]["digits"] |= {"probes": {"interp": block}, "figures": [], "drop_last": drop_last}
    if any(is_chosen(step, **block, updates_per_epoch=15 if drop_last else 16) for step in range(240)):
        resolve_config(config)
    else:
        with pytest.raises(ConfigError, match=r"interp\.every must leave an update to measure"):
            resolve_config(config)


def test_an_epoch_may_be_reached_with_some_batch_sizes_only() -> None:
    config = copy.deepcopy(SINGLE)
    probes = {"interp": {"epochs": [15, 60]}}
    config["experiments"]["digits"] |= {"probes": probes, "figures": [], "batch_size": [64, 256]}
    resolve_config(config)
    config["experiments"]["digits"]["batch_size"] = [64]
    with pytest.raises(ConfigError, match=r"interp\.epochs\[1\] must be at most the epochs of the run \(15\), got 60"):
        resolve_config(config)
