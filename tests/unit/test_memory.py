"""Measuring many lines needs no more memory than measuring a few, per-sample losses included."""

from __future__ import annotations

import json
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

dataset, folder, settings = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])
keep_freed_memory()
use_deterministic_kernels()
images = load_images(dataset, device="cpu")
settings = ProbeSettings.from_json(settings)
training = settings.training
kept = []  # until the end: what is freed would hide what the next plan keeps
for plan in sys.argv[4:]:
    trainer = Trainer(training, images, device=torch.device("cpu"))
    probe = settings.options.probe(trainer, images, training, Plan.from_json(json.loads(plan)))
    with TableWriter(folder / f"{len(kept)}.arrow", "line", provenance={}) as writer:
        for update in trainer.updates(0, 90):
            if update.step in (10, 50):
                before = resident()
            rows = probe.measure(update)
            writer.append(rows)
            if update.step > 49:
                kept.append(rows)
            if update.step in (49, 89):
                print(resident() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
@pytest.mark.slow
def test_fifty_lines_need_no_more_memory_than_ten(tmp_path: Path) -> None:
    dataset = prepare_digits(tmp_path, train=1500, image_size=4)
    training = training_settings(
        lr=0.01,
        batch_size=750,  # the fewer passes the better: it is the rows that count
        steps=90,
        segments=[[0, 90]],
    )
    settings = line_settings(training, every=1, sample_losses=True)
    settings["training"] = as_json(training, complete=True)
    plans = [{}, {"reseed": False, "chunks_per_pass": 2, "positions_per_pass": 4}]
    arguments = [str(dataset), str(tmp_path), *map(json.dumps, (settings, *plans))]
    done = subprocess.run([sys.executable, "-c", SCRIPT, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    # 40 lines of 11 positions of 1500 samples are 2.6 MB of losses; what is allowed is less than keeping them.
    grown = list(map(int, done.stdout.split()))
    assert len(grown) == 2 * len(plans)
    for growth, with_rows_kept in zip(grown[::2], grown[1::2], strict=True):
        assert growth < 1.8e6
        assert with_rows_kept > 2.3e6  # the measure sees them
