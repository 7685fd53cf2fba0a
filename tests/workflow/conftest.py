"""Private copies of the workflow, and one smoke run that the tests share."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import pytest
from workflow_copy import Workflow, copy_workflow


@pytest.fixture(scope="session")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    """A finished run of config/smoke.yaml. Treat it as read-only; `edited` gives a copy to change."""
    workflow = copy_workflow(tmp_path_factory.mktemp("smoke") / "workflow")
    workflow.snakemake("--cores", "2", "--configfile", "config/smoke.yaml")
    return workflow


@pytest.fixture
def edited(smoke: Workflow, tmp_path: Path) -> Workflow:
    """A copy of the finished smoke run, times of change included, whose files a test may edit."""
    folder = tmp_path / "workflow"
    shutil.copytree(smoke.folder, folder, copy_function=shutil.copy2)
    return Workflow(folder)


@pytest.fixture(scope="session")
def planned_as_cloned(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, int]]:
    """Plan with the workflow as cloned; what several tests ask for is planned once."""
    return cache(copy_workflow(tmp_path_factory.mktemp("cloned") / "workflow").planned)


@pytest.fixture
def fresh(tmp_path: Path) -> Workflow:
    """The workflow as cloned."""
    return copy_workflow(tmp_path / "workflow")


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.workflow)
