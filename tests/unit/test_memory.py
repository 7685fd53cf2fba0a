"""Measuring many lines needs no more memory than measuring a few, per-sample losses included."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from small_runs import line_settings, prepare_digits, training_settings

from sgdline.declare.schema import as_json

# Runs in a process of its own: the memory of a test process has many owners.
SCRIPT = """
import json, sys
from pathlib import Path
from sgdline.data.images import load_images
from sgdline.engine.plan import Plan
from sgdline.probes.settings import ProbeSettings
from sgdline.runtime import keep_freed_memory, use_deterministic_kernels
from sgdline.tables import TableWriter
from sgdline.train.loop import Trainer
import torch

def resident():
    line = next(l for l in Path("/proc/self/status").read_text().splitlines() if l.startswith("VmRSS"))
    return int(line.split()[1]) * 1024

dataset, output, settings, plan, leaks = sys.argv[1], sys.argv[2], *map(json.loads, sys.argv[3:6])
keep_freed_memory()
use_deterministic_kernels()
images = load_images(dataset, device="cpu")
settings = ProbeSettings.from_json(settings)
training = settings.training
trainer = Trainer(training, images, device=torch.device("cpu"))
probe = settings.options.probe(trainer, images, training, Plan.from_json(plan))
kept = []
with TableWriter(output, "line", provenance={}) as writer:
    for update in trainer.updates(0, 220):
        rows = probe.measure(update)
        writer.append(rows)
        if leaks:
            kept.append(rows)
        if update.step == 19:
            early = resident()
    print(resident() - early)
"""


def growth(folder: Path, *, plan: dict[str, object], leaks: bool = False) -> int:
    """Return by how many bytes the resident memory grows from the 20th to the 220th line."""
    import json

    dataset = prepare_digits(folder, train=500)
    training = training_settings(
        lr=0.01,
        batch_size=250,  # the fewer passes the better: it is the rows that count
        steps=220,
        segments=[[0, 220]],
    )
    settings = line_settings(training, every=1, sample_losses=True)
    settings["training"] = as_json(training, complete=True)
    arguments = [str(dataset), str(folder / "line.arrow"), *map(json.dumps, (settings, plan, leaks))]
    done = subprocess.run([sys.executable, "-c", SCRIPT, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[-1])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("plan", [{}, {"reseed": False, "chunks_per_pass": 2, "positions_per_pass": 4}])
def test_two_hundred_lines_need_no_more_memory_than_twenty(tmp_path: Path, plan: dict[str, object]) -> None:
    # 200 lines of 11 positions of 500 samples are 4.4 MB of losses; what is allowed is less than keeping them.
    assert growth(tmp_path, plan=plan) < 3e6


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_the_measure_sees_rows_that_are_kept(tmp_path: Path) -> None:
    assert growth(tmp_path, plan={}, leaks=True) > 4e6
