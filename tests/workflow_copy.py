"""A copy of the workflow in a folder of its own, started as a user would; shared by the workflow tests."""

from __future__ import annotations

import compileall
import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from warm_python import PROGRAM

ROOT = Path(__file__).parents[1]
_PARTS = ("Snakefile", "config", "workflow", "src", "profiles", "envs")


@dataclass(frozen=True)
class Workflow:
    """A folder that holds a copy of the workflow, started as a user would.

    `python` is the program to start; that of the tests has the libraries imported already (`warm_python`).
    `environment` replaces that of the tests; after `seconds` Snakemake is killed and the test fails.
    """

    folder: Path
    python: str = field(default_factory=lambda: os.environ[PROGRAM])
    environment: Mapping[str, str] | None = None
    seconds: float | None = None

    def snakemake(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        command = [self.python, "-m", "snakemake", *arguments]
        given = os.environ if self.environment is None else self.environment
        environment = {key: value for key, value in given.items() if key != "PYTHONPATH"}
        result = subprocess.run(
            command, cwd=self.folder, capture_output=True, text=True, env=environment, timeout=self.seconds
        )
        if check and result.returncode:
            raise AssertionError(f"{' '.join(command)} ended with {result.returncode}:\n{result.stdout}{result.stderr}")
        return result

    def status(self, results: str) -> subprocess.CompletedProcess[str]:
        """Return what `sgdline status` says of a results folder."""
        command = [self.python, "-m", "sgdline", "status", results]
        environment = {**os.environ, "PYTHONPATH": str(self.folder / "src")}
        return subprocess.run(command, cwd=self.folder, capture_output=True, text=True, env=environment)

    def planned(self, *arguments: str) -> dict[str, int]:
        """Return the jobs of a dry run by rule, those of analyses by table, targets apart; empty if none is to do."""
        result = self.snakemake("--dry-run", *arguments)
        text = result.stdout + result.stderr
        if "Nothing to be done" in text:
            return {}
        table = text.split("Job stats:")[1].split("total")[0]
        jobs = {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", table, flags=re.MULTILINE)}
        jobs.pop("all_figures", None)
        analyses = Counter(re.findall(r"^Job \d+: Making (\w+) of ", text, flags=re.MULTILINE))
        assert jobs.pop("analyse_run", 0) == analyses.total()
        jobs |= analyses
        assert jobs, text
        return jobs

    def edit(self, path: str, old: str, new: str) -> None:
        file = self.folder / path
        text = file.read_text()
        assert old in text, f"{path} holds no {old!r}"
        file.write_text(text.replace(old, new))


def copy_workflow(folder: Path) -> Workflow:
    """Return a copy of the workflow as cloned. Its modules come compiled, as those of a second start are."""
    template = _template()
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copytree(template, folder, dirs_exist_ok=True)
    return Workflow(folder)


@cache
def _template() -> Path:
    folder = Path(os.environ[PROGRAM]).parent / f"template{os.getpid()}"
    folder.mkdir()
    for part in _PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy2(ROOT / part, folder / part)
    compileall.compile_dir(folder / "src", quiet=1)
    return folder
