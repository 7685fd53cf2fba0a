"""The benchmark: its yardstick measures what the engine measures, and it runs from end to end."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from networks import cross_entropy, images, make_network, unit_direction
from warm_python import PROGRAM

from sgdline.engine.lines import LineEngine, mean_losses
from sgdline.engine.plan import Plan

ROOT = Path(__file__).parents[2]


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"benchmarks_{name}", ROOT / "benchmarks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


reference = load("reference")
report = load("report")


def test_the_published_positions_are_the_irregular_ones() -> None:
    positions = reference.published_positions(0.1234)
    assert len(positions) == 169
    assert np.all(np.diff(positions) > 0)
    assert positions[0] == -0.5
    assert positions[-1] == pytest.approx(0.498)
    others = positions[np.abs(positions - 0.1234) > 1e-12]
    assert len(others) == 168
    np.testing.assert_allclose(others[:84], -0.5 + 0.006 * np.arange(84), rtol=0, atol=1e-12)
    np.testing.assert_allclose(others[84:], 0.006 * np.arange(84), rtol=0, atol=1e-12)
    assert others[84] - others[83] == pytest.approx(0.002)


@pytest.mark.parametrize("name", ["mlp", "resnet"])
@pytest.mark.slow
def test_the_yardstick_measures_what_the_engine_measures(name: str) -> None:
    network, direction = make_network(name), unit_direction(make_network(name))
    state = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    sets = {"train": images(50, seed=1), "validation": images(21, seed=2), "direction_batch": images(16, seed=4)}
    positions = reference.published_positions(0.2)
    found = reference.sample_line(network, direction, positions=positions, batch_size=16, **sets)
    for key, tensor in network.state_dict().items():
        assert torch.equal(tensor, state[key]), key

    engine = LineEngine(network, cross_entropy, batch_norm="train", plan=Plan(reseed=False, chunks_per_pass=3))
    for part, (inputs, targets) in sets.items():
        measured = engine.prepare(inputs, targets, chunk_size=16, mask_seeds=[0] * 4)
        with engine.line(direction) as line:
            expected = mean_losses(line.losses(positions.tolist(), measured)).numpy()
        ours = getattr(found, part)
        assert ours.shape == (169, len(targets))
        np.testing.assert_allclose(ours.astype(np.float64).mean(axis=1), expected, rtol=0, atol=1e-4)


def test_a_part_of_a_line_is_the_same_as_in_the_whole() -> None:
    network, direction = make_network("mlp"), unit_direction(make_network("mlp"))
    options: dict[str, Any] = {"train": images(32), "validation": images(8), "direction_batch": images(16)}
    options |= {"batch_size": 16}
    whole = reference.sample_line(network, direction, positions=[-0.2, 0.0, 0.3], **options)
    part = reference.sample_line(network, direction, positions=[0.3], **options)
    np.testing.assert_allclose(part.train[0], whole.train[2], rtol=0, atol=1e-5)


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} in the results")


def numbers(entry: Any) -> list[float]:
    if isinstance(entry, dict):
        return [number for value in entry.values() for number in numbers(value)]
    if isinstance(entry, list):
        return [number for value in entry for number in numbers(value)]
    return [float(entry)] if isinstance(entry, int | float) else []


# Its processes are forked from one that has imported torch, whose import takes longer than what they measure.
PROGRAM_OF_FORKS = """
import multiprocessing
import sys

folder, python, *arguments = sys.argv[1:]
sys.path.insert(0, folder)
multiprocessing.set_executable(python)
import measuring

measuring._SPAWN = multiprocessing.get_context("forkserver")
measuring._SPAWN.set_forkserver_preload(["torch", "sgdline.probes.segment"])
import bench

sys.exit(bench.main(arguments))
"""


@pytest.mark.slow
def test_a_quick_run_gives_results_and_a_page_with_all_sections(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    command = [os.environ[PROGRAM], "-c", PROGRAM_OF_FORKS, str(ROOT / "benchmarks"), sys.executable]
    command += ["--quick", "--threads", "1", "--repeats", "1"]
    command += [
        "--cases",
        "resnet20",
        "mlp",
        "landscapes",
        "scaling",
        "checks",
        "tables",
    ]  # tiny_resnet is measured as mlp is
    done = subprocess.run(
        [*command, "--output", str(tmp_path)],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    [path] = (tmp_path / "results").glob("*.json")
    document = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    assert {"environment", "resnet20", "mlp", "landscapes", "scaling", "checks", "tables"} == document.keys()
    found = numbers(document)
    assert len(found) > 150
    assert all(map(math.isfinite, found))
    for name in ("resnet20", "mlp"):
        case = document[name]
        assert set(case["ways"]) == set(report.WAYS)
        assert case["largest_difference"] < 1e-4 or document["environment"]["device"] != "cpu"
        for way in report.WAYS:
            assert case["ways"][way]["seconds_per_line"]["median"] > 0
    for row in document["landscapes"]["rows"]:
        assert row["largest_difference"] < 1e-4 or document["environment"]["device"] != "cpu"
    page = (tmp_path / "README.md").read_text(encoding="utf-8")
    headings = [
        "## Targets",
        "### Lines",
        "### Distance from the device's limit",
        "### A job",
        "### Beside loss-landscapes",
    ]
    headings += ["### The published experiment", "### How it grows", "### Fits and tables"]
    headings += ["## How it was measured", "## Limits"]
    for heading in headings:
        assert f"\n{heading}\n" in page, heading
    assert "--quick" in page
    assert "nan" not in page.lower().split()

    # Several devices stand side by side, and what was not measured is not printed.
    other = {"environment": document["environment"] | {"device": "A GPU"}, "tables": document["tables"]}
    both = report.render([document, other])
    assert re.search(r"\| cpu \(.+\) \| A GPU \|", both)
    assert both.count("### Lines") == 1
    assert both.count("### Fits and tables") == 2
