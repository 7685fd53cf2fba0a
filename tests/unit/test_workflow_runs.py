"""Runs, their names, their segments, and the slices that decide what is made again."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sgdline.config import resolve_config
from sgdline.errors import SgdlineError
from sgdline.probes.fixed_batches.options import FixedBatchesOptions
from sgdline.probes.hvp.options import HvpOptions
from sgdline.probes.interp.options import InterpOptions
from sgdline.probes.mline.options import MlineOptions
from sgdline.probes.settings import ProbeSettings
from sgdline.probes.stationarity.options import StationarityOptions
from sgdline.workflow.layout import RunKey, format_lr, run_path
from sgdline.workflow.runs import planned_by, probe_segments, runs, toys
from sgdline.workflow.segments import measured_steps, segment_bounds
from sgdline.workflow.slices import (
    analysis_slice,
    dataset_slice,
    measurement,
    plan_slice,
    probe_slice,
    toy_slice,
    training_slice,
)

ROOT = Path(__file__).parents[2]
CONFIG = resolve_config(yaml.safe_load((ROOT / "config/config.yaml").read_text(encoding="utf-8")))
CONFIG["run"] = ["digits"]
CONFIG["experiments"]["digits"] |= {"segments": 2, "seed": [1, 2]}
CONFIG["experiments"]["digits"]["probes"]["mline"] = {"every": 60, "directions": "all"}
RUN = RunKey("digits", "mlp", "0.1", 64, 1)


def test_runs_are_the_product_in_the_order_of_the_config() -> None:
    keys = runs(CONFIG)
    assert keys[0] == RunKey(experiment="digits", model="mlp", lr="0.1", batch_size=64, seed=1)
    assert [run_path(key) for key in keys] == [
        f"digits/{model}/lr{lr}_bs64_seed{seed}"
        for model in ("mlp", "tiny_resnet")
        for lr in ("0.1", "0.3")
        for seed in (1, 2)
    ]


def test_only_the_named_experiments_run() -> None:
    config = copy.deepcopy(CONFIG)
    config["experiments"]["other"] = {**CONFIG["experiments"]["digits"], "seed": [9]}
    assert len(runs(config)) == 8
    config["run"] = ["other", "digits"]
    assert [key.seed for key in runs(config)] == [9] * 4 + [1, 2] * 4
    assert toys(config) == []
    config["run"] = ["other", "quadratic", "digits"]
    assert [key.seed for key in runs(config)] == [9] * 4 + [1, 2] * 4
    assert toys(config) == ["quadratic"]


def test_run_keys_are_frozen_and_hashable() -> None:
    key = runs(CONFIG)[0]
    with pytest.raises(FrozenInstanceError):
        key.seed = 3  # type: ignore[misc]
    assert len(set(runs(CONFIG))) == 8


@pytest.mark.parametrize(
    ("lr", "text"), [(0.1, "0.1"), (1.0, "1"), (1, "1"), (1e-5, "1e-05"), (10.0, "10"), (1e20, "1e20"), (0.30, "0.3")]
)
def test_format_lr(lr: float, text: str) -> None:
    assert format_lr(lr) == text


@given(st.floats(min_value=0, exclude_min=True, allow_infinity=False))
def test_formatted_lr_reads_back_and_is_fit_for_a_file_name(lr: float) -> None:
    text = format_lr(lr)
    assert float(text) == lr
    assert re.fullmatch(r"[0-9.]+(e-?[0-9]+)?", text)


@given(st.data())
def test_segments_are_equal_parts(data: st.DataObject) -> None:
    steps = data.draw(st.integers(1, 2000))
    segments = data.draw(st.integers(1, steps))
    bounds = segment_bounds(steps, segments)
    assert [step for first, after in bounds for step in range(first, after)] == list(range(steps))
    lengths = {after - first for first, after in bounds}
    assert len(bounds) == segments
    assert min(lengths) >= 1
    assert max(lengths) - min(lengths) <= 1


@pytest.mark.parametrize(("steps", "segments"), [(3, 4), (3, 0), (0, 1)])
def test_impossible_segments_are_refused(steps: int, segments: int) -> None:
    with pytest.raises(SgdlineError, match="segments must be from 1 to steps"):
        segment_bounds(steps, segments)


def test_measured_steps_start_at_the_first_update() -> None:
    assert list(measured_steps(10, 4)) == [0, 4, 8]
    assert list(measured_steps(8, 4)) == [0, 4]


# --- slices -----------------------------------------------------------------------------------------------------------


def slices(config: dict[str, Any]) -> dict[str, Any]:
    return {
        "dataset": dataset_slice(config, "digits"),
        "training": training_slice(config, RUN),
        "other_training": training_slice(config, replace(RUN, model="tiny_resnet")),
        "probe": probe_slice(config, RUN, "line"),
        "plan": plan_slice(config, RUN, "line"),
        "analysis": analysis_slice(config, RUN),
        "toy": toy_slice(config, "quadratic"),
        "fits": analysis_slice(config, RUN, keys=["window", "degrees", "interval", "resolution"]),
    }


def changed_by(change: Callable[[dict[str, Any]], object]) -> set[str]:
    before, config = slices(CONFIG), copy.deepcopy(CONFIG)
    change(config)
    after = slices(config)
    return {name for name in before if before[name] != after[name]}


TRAININGS = {"training", "other_training", "probe", "plan"}


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("results", "elsewhere", set()),
        ("data_dir", "elsewhere", set()),
        ("download", True, set()),
        ("datasets.digits.train", 512, {"dataset"}),
        ("models.mlp.kwargs.hidden", [7], {"training", "probe", "plan"}),
        ("models.tiny_resnet.entry", "a:b", {"other_training"}),
        ("experiments.digits.lr", [0.1, 0.5], set()),
        ("experiments.digits.seed", [1, 2, 3], set()),
        ("experiments.digits.models", ["mlp"], set()),
        ("experiments.digits.steps", 241, TRAININGS | {"analysis"}),
        ("experiments.digits.segments", 3, TRAININGS),
        ("experiments.digits.threads", 2, TRAININGS),
        ("experiments.digits.drop_last", False, TRAININGS),
        ("experiments.digits.optimizer.momentum", 0.9, TRAININGS),
        ("experiments.digits.schedule.name", "step", TRAININGS),
        ("experiments.digits.augmentation.flip", True, TRAININGS),
        ("experiments.digits.replay_tolerance", 1e-6, {"probe"}),
        ("experiments.digits.probes.line.every", 4, {"probe", "plan"}),
        ("experiments.digits.probes.line.interval", 0.6, {"probe", "plan", "analysis", "fits"}),
        # What only the choice of the plan reads: what is measured depends on the plan, not on how it came about.
        ("experiments.digits.probes.line.precision", "float64", {"plan"}),
        ("experiments.digits.probes.line.precision_tolerance", 1e-6, {"plan"}),
        ("experiments.digits.probes.line.memory_gb", 2.0, {"plan"}),
        ("experiments.digits.probes.line.plan", {"threads": 1}, {"plan"}),
        ("experiments.digits.analysis.smoothing", 5, {"analysis"}),
        ("experiments.digits.analysis.window", 0.1, {"analysis", "fits"}),
        ("experiments.digits.figures", [], set()),
        ("toys.quadratic.steps", 31, {"toy"}),
        ("toys.quadratic.relative_lr", [0.5], {"toy"}),
        ("toys.quadratic.figures", [], set()),
    ],
)
def test_a_key_changes_exactly_the_slices_that_depend_on_it(path: str, value: Any, expected: set[str]) -> None:
    *parents, last = path.split(".")

    def change(config: dict[str, Any]) -> None:
        block = config
        for parent in parents:
            block = block[parent]
        assert block[last] != value
        block[last] = value

    assert changed_by(change) == expected


def test_slices_are_plain_json_and_share_nothing_with_the_config() -> None:
    config = copy.deepcopy(CONFIG)
    for part in slices(config).values():
        assert json.loads(json.dumps(part, allow_nan=False)) == part
    training_slice(config, RUN)["model"]["kwargs"]["hidden"].append(1)
    dataset_slice(config, "digits")["train"] = 0
    probe_slice(config, RUN, "line")["settings"]["every"] = 0
    plan_slice(config, RUN, "line")["settings"]["plan"]["threads"] = 1
    analysis_slice(config, RUN)["degrees"].append(9)
    toy_slice(config, "quadratic")["start"].append(9.0)
    assert config == CONFIG


def test_what_is_measured_leaves_out_how() -> None:
    line = CONFIG["experiments"]["digits"]["probes"]["line"]
    assert line.keys() - measurement(line).keys() == {
        "precision",
        "precision_tolerance",
        "check_slope",
        "memory_gb",
        "plan",
    }
    # The lines are adaptive: the spacing of a grid does not touch them.
    assert probe_slice(CONFIG, RUN, "line")["settings"].keys() == measurement(line).keys() - {"resolution"}


def test_a_probe_without_the_entry_plan_has_none() -> None:
    assert planned_by(CONFIG, "digits", "line") == "line"
    assert planned_by(CONFIG, "digits", "mline") == "line"
    assert planned_by(CONFIG, "digits", "evaluation") is None
    assert planned_by(CONFIG, "walk_gd", "interp") == "interp"


def test_many_lines_are_measured_as_single_ones() -> None:
    line = probe_slice(CONFIG, RUN, "line")["settings"]
    sliced = probe_slice(CONFIG, RUN, "mline")
    shared = {key: entry for key, entry in line.items() if key not in ("every", "validation", "sample_losses")}
    assert sliced["settings"] == {"every": 60, "directions": "all", "line": shared}
    options = ProbeSettings.from_json(sliced).options
    assert isinstance(options, MlineOptions)
    assert (options.every, options.line.every, options.line.tolerance) == (60, 1, line["tolerance"])


def test_options_say_where_a_probe_measures_and_in_how_many_jobs() -> None:
    due = [[step for step in range(12) if options.due(step, updates_per_epoch=4)] for options in (
        HvpOptions(every=5), FixedBatchesOptions(every=5, first=2), StationarityOptions(start=3, every=4),
        InterpOptions(every=3, epochs=(2, 3), updates=3),
    )]  # fmt: skip
    assert due == [[0, 5, 10], [0, 1, 5, 10], [3, 7, 11], [6, 9]]
    config = copy.deepcopy(CONFIG)
    config["experiments"]["digits"]["segments"] = 3
    config["experiments"]["digits"]["probes"] |= {probe: {} for probe in ("hvp", "stationarity", "feat")}
    jobs = {probe: probe_segments(config, "digits", probe) for probe in ("hvp", "mline", "stationarity", "feat")}
    assert jobs == {"hvp": 3, "mline": 3, "stationarity": 1, "feat": 1}


def test_analysis_without_lines_has_no_interval() -> None:
    config = copy.deepcopy(CONFIG)
    config["experiments"]["digits"]["probes"] = {}
    assert analysis_slice(config, RUN, keys=["interval"]) == {"interval": None}


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: dataset_slice(CONFIG, "digit"), "Did you mean 'digits'"),
        (lambda: training_slice(CONFIG, replace(RUN, model="mlpp")), "Did you mean 'mlp'"),
        (lambda: training_slice(CONFIG, replace(RUN, experiment="x")), "Known experiments: [a-z]"),
        (lambda: probe_slice(CONFIG, RUN, "lin"), "Did you mean 'line'"),
        (lambda: plan_slice(CONFIG, RUN, "lin"), "Did you mean 'line'"),
        (lambda: analysis_slice(CONFIG, RUN, keys=["windw"]), "Did you mean 'window'"),
        (lambda: toy_slice(CONFIG, "quadratc"), "Did you mean 'quadratic'"),
    ],
)
def test_unknown_names_are_told(call: Callable[[], object], words: str) -> None:
    with pytest.raises(SgdlineError, match=words):
        call()
