"""The built package beside what it depends on, and nothing else: what `pip install .` gives."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, distribution, packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from sgdline.extras import EXTRAS

ROOT = Path(__file__).parents[2]
# What users of the instrument alone must not have to install.
WORKFLOW_ONLY = ("snakemake", "pandas", "matplotlib", "torchvision", "sklearn", "yaml")


@dataclass(frozen=True)
class Installed:
    """The wheel, and an environment with it and its dependencies without extras."""

    wheel: Path
    bin: Path
    folder: Path  # empty, to run in

    def run(self, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        settings = {name: text for name, text in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
        return subprocess.run(
            [self.bin / command, *arguments], cwd=self.folder, env=settings, capture_output=True, text=True
        )

    def python(self, code: str) -> subprocess.CompletedProcess[str]:
        return self.run("python", "-c", code)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp("wheel")
    wheel = build_wheel(folder)
    environment = folder / "environment"
    venv.create(environment, symlinks=True)
    python = environment / "bin" / "python"
    # Copies of the libraries would take minutes and gigabytes.
    link_distributions(required_by(wheel), next(environment.glob("lib/python*/site-packages")))
    pip("--python", str(python), "install", "--no-deps", "--no-index", "--no-compile", str(wheel))
    (folder / "empty").mkdir()
    return Installed(wheel, python.parent, folder / "empty")


def build_wheel(folder: Path) -> Path:
    """Build from a copy, because setuptools writes beside the sources."""
    sources = folder / "sources"
    shutil.copytree(ROOT / "src", sources / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, sources / name)
    pip("wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(folder), str(sources))
    return next(folder.glob("*.whl"))


def pip(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments], check=True)


def required_by(wheel: Path) -> list[Distribution]:
    """Return the installed distributions that a wheel needs without extras, directly or not."""
    with zipfile.ZipFile(wheel) as archive:
        metadata = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        lines = re.findall(r"^Requires-Dist: (.*)$", archive.read(metadata).decode(), re.MULTILINE)
    found: dict[str, Distribution] = {}
    waiting = [Requirement(line) for line in lines]
    while waiting:
        requirement = waiting.pop()
        if requirement.name in found or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        found[requirement.name] = distribution(requirement.name)
        waiting += [Requirement(line) for line in found[requirement.name].requires or []]
    return list(found.values())


def link_distributions(wanted: list[Distribution], site_packages: Path) -> None:
    """Make the files of distributions, and of no others, importable from another folder."""
    for owner in wanted:
        for name in {file.parts[0] for file in owner.files or [] if file.parts[0] not in ("..", "__pycache__")}:
            link = site_packages / name
            if not link.is_symlink():  # of a namespace that several distributions share
                link.symlink_to(Path(str(owner.locate_file(name))))


def test_the_wheel_holds_the_package_and_nothing_else(installed: Installed) -> None:
    with zipfile.ZipFile(installed.wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
        licences = [name for name in archive.namelist() if name.endswith("LICENSE")]
    package = ROOT / "src" / "sgdline"
    sources = {
        file.relative_to(package.parent).as_posix() for file in package.rglob("*") if "__pycache__" not in file.parts
    }
    assert packed == {name for name in sources if (package.parent / name).is_file()}
    assert "sgdline/py.typed" in packed
    assert licences


def test_a_line_is_measured_with_the_instrument_alone(installed: Installed) -> None:
    (example,) = re.findall(r"```python\n(import torch\n.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    refused = "".join(
        f"assert importlib.util.find_spec({name!r}) is None, {name!r}\n" for name in (*WORKFLOW_ONLY, "lightning")
    )
    done = installed.python(f"import importlib.util\n{refused}{example}")
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"^step \d\.\d{3}, best ", done.stdout, re.MULTILINE)) == 16


def test_commands_that_need_no_extra_run(installed: Installed) -> None:
    usage = installed.run("sgdline", "--help")
    assert usage.returncode == 0
    assert "import-lines" in usage.stdout
    status = installed.run("sgdline", "status", ".")
    assert status.returncode == 2
    assert "extra" not in status.stderr
    assert "Traceback" not in status.stderr
    lines = installed.run("sgdline", "import-lines", ".", "out")
    assert lines.returncode == 1
    assert "line_data" in lines.stderr


@pytest.mark.parametrize("command", ["check", "describe", "papers"])
def test_commands_name_the_extra_that_they_need(installed: Installed, command: str) -> None:
    done = installed.run("sgdline", command)
    assert done.returncode != 0
    assert done.stderr == (
        "Error: This part of sgdline needs the package yaml, which is not installed. "
        'Install it with: pip install "sgdline[workflow]"\n'
    )


def test_modules_name_the_extra_that_they_need(installed: Installed) -> None:
    def reading(module: str, name: str) -> str:
        return f"from sgdline.data.sources.{module} import {name} as S; S(train=9).read(data_dir=None, download=False)"

    drawing = "sgdline.figures._plot(None, {}, settings={}, pdf='a.pdf', png='a.png')"
    uses = {
        "import sgdline.config": ("yaml", "workflow"),
        "import sgdline.claims.judging.pages": ("pandas", "workflow"),
        reading("digits", "Digits"): ("sklearn", "workflow"),
        reading("svhn", "Svhn"): ("torchvision", "workflow"),
        reading("cifar10", "Cifar10"): ("torchvision", "workflow"),
        f"import sgdline.figures; {drawing}": ("matplotlib", "plot"),
    }
    done = installed.python(
        "from sgdline.errors import SgdlineError\n"
        f"for use in {list(uses)!r}:\n"
        "    try: exec(use)\n"
        "    except SgdlineError as error: print(error)\n"
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        f"This part of sgdline needs the package {package}, which is not installed. "
        f'Install it with: pip install "sgdline[{extra}]"'
        for package, extra in uses.values()
    ]


@pytest.fixture(scope="module")
def declared() -> dict[str, set[str]]:
    """Names of distributions by extra, those of the package itself under an empty name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    written = {"": project["dependencies"], **project["optional-dependencies"]}

    def names(extra: str) -> Iterator[str]:
        for requirement in map(Requirement, written[extra]):
            if requirement.name == project["name"]:
                yield from (name for included in requirement.extras for name in names(included))
            else:
                yield requirement.name

    return {extra: set(names(extra)) for extra in written}


def test_the_extra_that_a_sentence_names_brings_the_package(declared: dict[str, set[str]]) -> None:
    owners = packages_distributions()
    for package, extra in EXTRAS.items():
        assert {name.lower() for name in owners[package]} & declared[extra], package


def test_the_environment_of_rules_holds_what_they_import(declared: dict[str, set[str]]) -> None:
    environment = yaml.safe_load((ROOT / "envs" / "sgdline.yaml").read_text("utf-8"))["dependencies"]
    renamed = {"pytorch": "torch", "matplotlib-base": "matplotlib"}
    names = {renamed.get(line.split()[0], line.split()[0]) for line in environment}
    # Snakemake brings itself, and pygments is for its report.
    assert names - {"python"} == (declared[""] | declared["workflow"]) - {"snakemake", "pygments"}


def test_the_tests_have_every_extra(declared: dict[str, set[str]]) -> None:
    assert (
        set().union(*(declared[extra] for extra in ("plot", "workflow", "lightning", "transformers")))
        <= declared["test"]
    )
    assert declared["test"] | declared["slurm"] <= declared["dev"]
    assert declared["workflow"] <= declared["slurm"]
