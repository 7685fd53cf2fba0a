"""A bad configuration is told in plain words, and an accepted one does not fail later for what stood in it.

SGDLINE_HOSTILE_CONFIGS=5000 tries that many instead of 150, other ones each time; PYTEST_ADDOPTS=-s shows the counts.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

import pytest
from hostile_configs import CONFIGS, Changed, Follower, Place, Targets, concerned_runs, hostile_configs
from hypothesis import HealthCheck, given, settings

from sgdline.config import ConfigError, resolve_config
from sgdline.workflow.runs import runs

COUNT = int(os.environ.get("SGDLINE_HOSTILE_CONFIGS", "150"))


def resolved(config: Any) -> dict[str, Any]:
    """Resolve as the workflow does."""
    return resolve_config(config)


def checked(config: Any) -> tuple[dict[str, Any] | None, tuple[str, ...]]:
    """Return the resolved configuration, or its faults; nothing else may be raised."""
    try:
        return resolved(config), ()
    except ConfigError as error:
        return None, error.faults


@pytest.fixture(scope="module")
def follower(tmp_path_factory: pytest.TempPathFactory) -> Follower:
    return Follower(tmp_path_factory.mktemp("followed"))


TRIED: Counter[str] = Counter()


@settings(
    max_examples=COUNT, deadline=None, derandomize=COUNT == 150, database=None, suppress_health_check=list(HealthCheck)
)
@given(changed=hostile_configs())
@pytest.mark.slow
def test_a_changed_configuration_is_told_or_works(changed: Changed, follower: Follower) -> None:
    complete, faults = checked(changed.config)
    if complete is None:
        assert faults
        for fault in faults:
            assert "\n" not in fault
            assert len(fault) < 900
            assert fault.rstrip().endswith((".", "?", ")"))
        TRIED["refused"] += 1
        return
    TRIED["accepted"] += 1
    follower.follow(complete, changed.touched)
    if COUNT > 150 or TRIED["accepted"] % 10 == 0:
        plan(complete, changed.touched)
        TRIED["planned"] += 1


def plan(complete: dict[str, Any], touched: list[Place]) -> None:
    targets = Targets(complete)
    files = targets.files()
    assert files
    assert all(len(part.encode()) <= 200 for file in files for part in file.split("/"))  # room for .part and .writing
    for run in concerned_runs(complete, touched):
        targets.evaluate(run)
    targets.compare()


@pytest.mark.slow
def test_enough_were_tried_and_accepted(follower: Follower) -> None:
    print("\n", dict(TRIED), follower.counts)
    assert TRIED["refused"] + TRIED["accepted"] >= min(COUNT, 500)
    assert TRIED["accepted"] >= COUNT // 20
    assert follower.counts["network and batch built"] >= COUNT // 30


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_files_as_they_are_are_planned(name: str) -> None:
    complete = resolved(CONFIGS[name])
    assert runs(complete)
    plan(complete, [("experiments",)])
