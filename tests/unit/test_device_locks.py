"""Many jobs on few pretended devices, some of them killed: never two on one device, never a lost device."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from sgdline import runtime

# SGDLINE_DEVICE_JOBS=2000 pytest tests/unit/test_device_locks.py: the same at length.
JOBS = int(os.environ.get("SGDLINE_DEVICE_JOBS", "50"))
AT_ONCE = 10
DEVICES = ["GPU-a", "GPU-b"]
KILLED = -9

# A job as Snakemake starts it, without torch: it takes a device, works for a moment with a child of its own, and ends.
# What it says goes to the end of one journal in one write each, so the journal tells what came first.
_JOB = """
import os, subprocess, sys, time
from pathlib import Path
from sgdline import runtime

number, journal, folder, seconds, *devices = sys.argv[1:]
runtime._LOCK_FOLDER = Path(folder)
runtime._LOOK_AGAIN = 0.01
end = os.open(journal, os.O_WRONLY | os.O_APPEND)
os.write(end, f"starts {number} -\\n".encode())
device = runtime.take_device(devices, patience=300)
os.write(end, f"takes {number} {device}\\n".encode())
child = subprocess.Popen(["sleep", "2"])  # outlives a killed job, and must not keep its device
time.sleep(float(seconds))
child.kill()
child.wait()
os.write(end, f"leaves {number} {device}\\n".encode())
"""


def start(number: int, journal: Path, folder: Path, seconds: float) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(Path(runtime.__file__).parents[1])}
    command = [sys.executable, "-c", _JOB, str(number), str(journal), str(folder), str(seconds), *DEVICES]
    return subprocess.Popen(command, env=environment)


def check(journal: Path) -> Counter[str]:
    """Read the journal in its order; fail where a device is taken that another job has. Return the counts of events."""
    holders: dict[str, str] = {}
    killed: set[str] = set()
    counts: Counter[str] = Counter()
    for line in journal.read_text().splitlines():
        event, job, device = line.split()
        counts[event] += 1
        if event == "kills":
            killed.add(job)
            counts["kills of holders"] += job in holders.values()
        elif event == "takes":
            counts[f"device {device}"] += 1
            other = holders.get(device)
            assert other is None or other in killed, f"jobs {other} and {job} on device {device}"
            holders[device] = job
        elif event == "leaves":
            assert holders.pop(device) == job
    return counts


@pytest.mark.slow
def test_never_two_jobs_on_one_device_and_never_a_lost_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal, folder = tmp_path / "journal", tmp_path / "locks"
    journal.touch()
    chance = random.Random(8)
    running: dict[int, subprocess.Popen[bytes]] = {}
    ended: list[int] = []
    started = kills = 0
    until = time.monotonic() + 60 + JOBS
    with journal.open("a", buffering=1) as notes:
        while len(ended) < JOBS:
            assert time.monotonic() < until, f"{len(ended)} of {JOBS} jobs ended, {list(running)} hang"
            while started < JOBS and len(running) < AT_ONCE:
                running[started] = start(started, journal, folder, chance.uniform(0, 0.2))
                started += 1
            if kills < JOBS * 2 // 5 and chance.random() < 0.1:
                kills += 1
                # Mostly one that has a device, if any does.
                having = [number for number in holders(journal) if number in running]
                victim = chance.choice(having if having and chance.random() < 0.7 else list(running))
                notes.write(f"kills {victim} -\n")  # before the kill: the device may be taken right behind it
                running[victim].kill()
                running[victim].wait()
            for number, job in list(running.items()):
                if job.poll() is not None:
                    ended.append(running.pop(number).returncode)
            time.sleep(0.02)
    assert set(ended) == {0, KILLED}
    counts = check(journal)
    assert counts["kills"] >= JOBS // 10
    assert counts["kills of holders"] >= 1
    assert min(counts["device 0"], counts["device 1"]) > JOBS // 10
    assert counts["leaves"] >= ended.count(0)
    print(f"{JOBS} jobs: {dict(counts)}")  # shown with -s
    # Both devices are free again at once, whatever became of the jobs.
    monkeypatch.setattr(runtime, "_LOCK_FOLDER", folder)
    monkeypatch.setattr(runtime, "_device_locks", {})
    assert [runtime.take_device([device], patience=0) for device in DEVICES] == [0, 0]
    for lock in runtime._device_locks.values():
        lock.close()


def holders(journal: Path) -> list[int]:
    """Return the jobs that have a device by now, those that were killed with it included."""
    having: set[int] = set()
    for line in journal.read_text().splitlines():
        event, job, _ = line.split()
        if event == "takes":
            having.add(int(job))
        elif event == "leaves":
            having.discard(int(job))
    return sorted(having)
