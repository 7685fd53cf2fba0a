"""Training and probing jobs that are killed, or out of disk, at random moments: same bytes, little work repeated."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import killed_jobs
import pytest
from killed_jobs import EVERY, INTERVAL, KILLS, STEPS, fill_disk, small_disk
from small_runs import prepare_digits

Job = Callable[[Path, Path, Path], None]
# Outputs, and how much work a kill may undo: the updates since a checkpoint; the line that was being measured.
JOBS: dict[str, tuple[Job, list[str], int, list[int]]] = {
    "train": (killed_jobs.train, ["trace.arrow", "checkpoints"], INTERVAL, list(range(STEPS))),
    "probe": (killed_jobs.probe, ["line.arrow"], 1, list(range(INTERVAL, 2 * INTERVAL, EVERY))),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a data set and, in `whole`, what uninterrupted jobs make of it."""
    folder = tmp_path_factory.mktemp("runs")
    prepare_digits(folder, train=100)
    for name in JOBS:
        assert run(name, folder, folder / "whole") == 0
    return folder


def run(name: str, runs: Path, folder: Path, *, seconds: float | None = None, work: Path | None = None) -> int | None:
    """Run a job, for some seconds at most, and return its exit code; None if it was killed."""
    job, outputs, _, _ = JOBS[name]
    folder.mkdir(exist_ok=True)
    for output in outputs:  # as Snakemake does before it starts a job
        path = folder / output
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    process = killed_jobs.start(job, runs / "digits.arrow", folder, work or folder.with_suffix(".work"))
    process.join(seconds)
    alive = process.is_alive()
    process.kill()
    process.join()
    return None if alive else process.exitcode


def content(folder: Path, outputs: list[str]) -> dict[str, bytes]:
    files = [file for output in outputs for file in sorted([folder / output, *(folder / output).glob("*")])]
    return {str(file.relative_to(folder)): file.read_bytes() for file in files if file.is_file()}


def done(folder: Path, outputs: list[str]) -> bool:
    return all((folder / output).exists() for output in outputs) and not list(folder.glob("*.part"))


@pytest.mark.parametrize("name", JOBS)
def test_a_job_that_is_killed_at_random_moments_gives_the_same_bytes(
    runs: Path, name: str, record_property: Callable[[str, object], None]
) -> None:
    _, outputs, may_repeat, steps = JOBS[name]
    expected = content(runs / "whole", outputs)
    assert len(expected) == (1 if name == "probe" else 1 + STEPS // INTERVAL + 1)
    began = time.monotonic()
    run(name, runs, runs / "timed")
    duration = time.monotonic() - began
    shutil.rmtree(runs / "timed")
    moments = random.Random(1)
    kills = repeated = rounds = 0
    while kills < KILLS:
        folder = runs / f"{name}{rounds}"
        rounds += 1
        computed: set[int] = set()
        over = False
        while not over:
            work = runs / f"{name}.work"
            work.write_text("")
            killed = run(name, runs, folder, seconds=moments.uniform(0.02, duration), work=work) is None
            over = not killed or done(folder, outputs)
            kills += killed
            if killed and not over:
                whole = content(folder, outputs)
                assert {file: expected[file] for file in whole} == whole, "a file that is there is whole"
            again = [int(line) for line in work.read_text().split()]
            assert len(again) == len(set(again))
            repeated = max(repeated, len(computed & set(again)))
            computed |= set(again)
        assert sorted(computed) == steps, "nothing left out"
        assert content(folder, outputs) == expected
        assert not list(folder.rglob("*.writing"))
    record_property("kills", kills)
    record_property("most work repeated after a kill", repeated)
    print(f"{name}: {kills} kills in {rounds} runs, at most {repeated} of {len(steps)} repeated after one")
    assert repeated <= may_repeat


@pytest.mark.parametrize("name", JOBS)
def test_a_job_on_a_full_disk_ends_and_goes_on_to_the_same_bytes(runs: Path, tmp_path: Path, name: str) -> None:
    _, outputs, may_repeat, steps = JOBS[name]
    expected = content(runs / "whole", outputs)
    needed = sum(len(file) for file in expected.values())
    space = random.Random(2)
    failed = 0
    with small_disk(tmp_path / "disk", megabytes=4) as disk:
        (disk / "whole").symlink_to(runs / "whole")
        for index in range(KILLS // 2):
            folder = disk / f"{name}{index}"
            work = [runs / f"{name}.full.work", runs / f"{name}.more.work"]
            for file in work:
                file.write_text("")
            ballast = fill_disk(disk, leaving=space.randrange(needed))
            code = run(name, runs, folder, work=work[0])
            assert code in (0, 1)
            failed += code == 1
            assert not list(folder.rglob("*.writing")), "half-written files only take the space away"
            ballast.unlink()
            if code == 1:
                assert run(name, runs, folder, work=work[1]) == 0
            first, second = ({int(line) for line in file.read_text().split()} for file in work)
            assert sorted(first | second) == steps
            assert len(first & second) <= may_repeat
            assert content(folder, outputs) == expected
            shutil.rmtree(folder)
    print(f"{name}: {failed} of {KILLS // 2} jobs met a full disk")
    assert failed > KILLS // 4
