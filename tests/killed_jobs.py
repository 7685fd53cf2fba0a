"""Jobs of a small run for tests that end them at random moments, each in a process of its own."""

from __future__ import annotations

import multiprocessing
import multiprocessing.process
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from small_runs import line_settings, probe_segment, training_settings
from tqdm import tqdm

from sgdline.train.settings import TrainingSettings

# How many kills of each kind of job a test looks for.
KILLS = int(os.environ.get("SGDLINE_KILLS", "6"))
INTERVAL = 30  # updates between two checkpoints
STEPS = 6 * INTERVAL
EVERY = 3  # updates between two lines

# Processes are forked from a server that has imported torch, which takes longer than the jobs themselves.
_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["sgdline.train.run", "sgdline.probes.segment", "sgdline.probes.line.probe"])


def settings() -> TrainingSettings:
    return training_settings(steps=STEPS, segments=[[first, first + INTERVAL] for first in range(0, STEPS, INTERVAL)])


def train(dataset: Path, folder: Path, work: Path) -> None:
    """Train the run; write down every update that is computed."""
    from sgdline.train.loop import Trainer
    from sgdline.train.run import train_run

    _note_calls(Trainer, "_compute", work, lambda step: step)
    train_run(dataset, trace=folder / "trace.arrow", checkpoints=folder / "checkpoints", settings=settings(), facts={})


def probe(dataset: Path, folder: Path, work: Path) -> None:
    """Measure lines of the run's second segment; write down every one that is measured."""
    from sgdline.probes.line.probe import LineProbe

    _note_calls(LineProbe, "measure", work, lambda update: update.step)
    probe_segment(
        dataset,
        folder.parent / "whole" / "checkpoints",
        output=folder / "line.arrow",
        settings=line_settings(settings(), every=EVERY, resolution=0.05),
        segment=1,
        facts={},
    )


def _note_calls(owner: type, name: str, work: Path, step_of: Callable[[Any], int]) -> None:
    tqdm.set_lock(threading.RLock())  # its own kind of lock is a file that a killed process leaves behind
    function = getattr(owner, name)
    notes = os.open(work, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def noting(self: Any, argument: Any) -> Any:
        result = function(self, argument)
        os.write(notes, f"{step_of(argument)}\n".encode())
        return result

    setattr(owner, name, noting)


def start(job: Callable[[Path, Path, Path], None], *paths: Path) -> multiprocessing.process.BaseProcess:
    process = _SERVER.Process(target=job, args=paths)
    process.start()
    return process


@contextmanager
def small_disk(folder: Path, *, megabytes: int) -> Iterator[Path]:
    """Mount a small disk; skip the test where the machine does not allow it."""
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "sgdline-test", str(folder)]
    if shutil.which("mount") is None:
        pytest.skip("a small disk needs the command mount")
    mounted = subprocess.run(command, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"this machine does not allow to mount a small disk: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill_disk(folder: Path, *, leaving: int = 0) -> Path:
    """Fill a disk up to some bytes and return the file to remove."""
    ballast = folder / "ballast"
    free = os.statvfs(folder)
    size = max(free.f_bavail * free.f_frsize - leaving, 0)
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, size) if size else None
    return ballast
