"""Keys of the averages of iterates in the configuration: the probe, and the schedule that stands for an average."""

from __future__ import annotations

from typing import Any

import pytest

from sgdline.config import ConfigError, resolve_config
from sgdline.workflow.layout import RunKey
from sgdline.workflow.slices import probe_slice, training_slice


def resolved(**changes: Any) -> dict[str, Any]:
    experiment = {"dataset": "digits", "models": ["mlp"], "lr": [0.5], "batch_size": [16], "seed": [1], "steps": 40}
    return resolve_config(
        {
            "datasets": {"digits": {"source": "digits", "train": 100}},
            "models": {"mlp": {"entry": "sgdline.models:mlp"}},
            "experiments": {"one": experiment | changes},
        },
    )


def fault(**changes: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        resolved(**changes)
    [text] = caught.value.faults
    return text


RUN = RunKey("one", "mlp", "0.5", 16, 1)


def test_the_probe_has_a_default_for_every_key() -> None:
    found = probe_slice(resolved(probes={"averages": {}}), RUN, "averages")["settings"]
    assert found == {
        "every": 100, "ema": [0.9, 0.99, 0.999], "swa": [10, 50, 200], "swa_spacing": 1, "two_point": [1, 10, 100],
    }  # fmt: skip
    empty: dict[str, Any] = {"ema": [], "swa": [], "two_point": []}
    assert probe_slice(resolved(probes={"averages": empty}), RUN, "averages")["settings"] == found | empty


@pytest.mark.parametrize(
    ("block", "key", "words"),
    [
        ({"ema": [1]}, "ema[0]", "below 1"),
        ({"ema": [0.9, 0.9]}, "ema[1]", "0.9 twice"),
        ({"swa": [1]}, "swa[0]", "at least 2"),
        ({"swa_spacing": 0}, "swa_spacing", "at least 1"),
        ({"two_point": [0]}, "two_point[0]", "at least 1"),
        ({"decay": 0.9}, "decay", "not a known key"),
    ],
)
def test_faults_of_the_probe_are_told(block: dict[str, Any], key: str, words: str) -> None:
    text = fault(probes={"averages": block})
    assert text.startswith(f"experiments.one.probes.averages.{key} ")
    assert words in text


def test_a_training_depends_on_the_average_that_its_schedule_stands_for() -> None:
    block = {"average": "swa", "parameter": 10, "spacing": 4}
    found = training_slice(resolved(schedule={"name": "equivalent", **block}), RUN)["schedule"]
    assert found == {"name": "equivalent", **block, "relative_lr": 0.1}
    defaults = training_slice(resolved(schedule={"name": "equivalent"}), RUN)["schedule"]
    assert defaults == {"name": "equivalent", "average": "ema", "parameter": 0.99, "spacing": 1, "relative_lr": 0.1}


@pytest.mark.parametrize(
    ("block", "key", "words"),
    [
        ({"average": "ema", "parameter": 1}, "parameter", ["a decay below 1", "got 1"]),
        ({"average": "swa"}, "parameter", ["a number of iterates of at least 2", "got 0.99"]),
        ({"average": "swa", "parameter": 1}, "parameter", ["at least 2", "got 1"]),
        ({"average": "swa", "parameter": 12, "spacing": 4}, "parameter", ["40 steps", "reaches back 44"]),
        ({"average": "two_point", "parameter": 1.5}, "parameter", ["a distance in updates", "got 1.5"]),
        ({"average": "two_point", "parameter": 41}, "parameter", ["40 steps", "got 41", "Lower it"]),
        ({"relative_lr": 1.9, "average": "two_point", "parameter": 3}, "relative_lr", ["keep all steps in [0, 2]"]),
        ({"relative_lr": 2}, "relative_lr", ["below 2"]),
        ({"relative_lr": 0}, "relative_lr", ["above 0"]),
        ({"average": "median"}, "average", ["two_point", "got 'median'"]),
    ],
)
def test_faults_of_the_schedule_are_told(block: dict[str, Any], key: str, words: list[str]) -> None:
    text = fault(schedule={"name": "equivalent", **block})
    assert text.startswith(f"experiments.one.schedule.{key} must ")
    assert all(word in text for word in words), text


@pytest.mark.parametrize(
    "block", [{"average": "swa", "parameter": 11, "spacing": 4}, {"average": "two_point", "parameter": 40}]
)
def test_the_longest_average_that_fits_is_allowed(block: dict[str, Any]) -> None:
    resolved(schedule={"name": "equivalent", **block})
