"""The workflow, killed at random moments - a job, Snakemake, or the disk is full - and started again each time."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from killed_jobs import fill_disk, small_disk
from warm_python import PROGRAM
from workflow_copy import Workflow, copy_workflow

pytestmark = pytest.mark.workflow

KILLS = int(os.environ.get("SGDLINE_WORKFLOW_KILLS", "2"))
SEGMENTS, INTERVAL = 2, 60
_COLD = 3.0  # times as long as from the server, which has the libraries imported
RUN = Path("results/kills/small/counted/lr0.1_bs32_seed1")
TARGET = str(RUN / "own_direction.arrow")

# A network that counts the forward passes of updates, in a file for each process.
COUNTED_NET = """
import os
import sys
from pathlib import Path

import torch
from torch import nn

FOLDER = Path(__file__).parent.parent / "counted"


class Net(nn.Sequential):
    def forward(self, inputs):
        if torch.is_grad_enabled():
            script = Path(sys.argv[0]).name.removesuffix(".py").split(".")[-1]
            with (FOLDER / f"{script}_{os.getpid()}").open("ab", buffering=0) as file:
                file.write(b".")
        return super().forward(inputs)


def net(*, input_shape, num_classes):
    channels, height, width = input_shape
    return Net(nn.Flatten(), nn.Linear(channels * height * width, 48), nn.ReLU(), nn.Linear(48, num_classes))
"""


def prepare(folder: Path) -> Workflow:
    workflow = copy_workflow(folder)
    (folder / "counted").mkdir()
    (folder / "nets").mkdir()
    (folder / "nets" / "counted.py").write_text(COUNTED_NET)
    probe = {"every": 1, "batch_sizes": [8, 16], "draws": 8}
    config = {
        "results": "results/kills",
        "run": ["small"],
        "datasets": {"few_digits": {"source": "digits", "train": 128, "validation": 32, "test": 32}},
        "models": {"counted": {"entry": "nets/counted.py:net"}},
        "experiments": {
            "small": {
                "dataset": "few_digits",
                "models": ["counted"],
                "lr": [0.1],
                "batch_size": [32],
                "seed": [1],
                "steps": SEGMENTS * INTERVAL,
                "segments": SEGMENTS,
                "probes": {"own_direction": probe},
                "figures": [],
            }
        },
    }
    (folder / "config" / "kills.yaml").write_text(yaml.safe_dump(config))
    return workflow


@dataclass(frozen=True)
class Undisturbed:
    """A finished run that nothing interrupted. Treat it as read-only."""

    folder: Path
    seconds: float  # that a start takes whose processes are found and killed, about
    overhead: int  # forward passes of a training job before its first update

    def copy(self, folder: Path) -> Workflow:
        shutil.copytree(self.folder, folder, copy_function=shutil.copy2, dirs_exist_ok=True)
        for counted in (folder / "counted").iterdir():
            counted.unlink()
        return Workflow(folder)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    workflow = prepare(tmp_path_factory.mktemp("undisturbed") / "workflow")
    harness = Harness(workflow, {}, 0, os.environ[PROGRAM])
    began = time.monotonic()
    assert harness.start().wait() == 0, harness.log()
    seconds = _COLD * (time.monotonic() - began)
    [counted] = (workflow.folder / "counted").glob("train_run_*")
    return Undisturbed(workflow.folder, seconds, counted.stat().st_size - SEGMENTS * INTERVAL)


@dataclass
class Harness:
    """A workflow that is started over and over, and what is known of the work it did."""

    workflow: Workflow
    expected: dict[str, bytes]  # finished tables and checkpoints by name
    overhead: int  # forward passes of a training job before its first update
    python: str = sys.executable  # whose jobs are processes of its session, to be found and killed
    reached: int = 0  # the update that a training can go on from
    kills: dict[str, int] = field(default_factory=dict)
    repeated: int = 0  # most updates of a training that a kill undid
    seen: set[str] = field(default_factory=set)

    def start(self, target: str = TARGET) -> subprocess.Popen[str]:
        command = [self.python, "-m", "snakemake", target, "--cores", "1", "--configfile", "config/kills.yaml"]
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        with (self.workflow.folder / "snakemake.log").open("w") as log:
            return subprocess.Popen(
                command,
                cwd=self.workflow.folder,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )

    def log(self) -> str:
        return (self.workflow.folder / "snakemake.log").read_text()

    def unlock(self) -> None:
        if list((self.workflow.folder / ".snakemake" / "locks").glob("*")):
            self.workflow.snakemake("--unlock", "--configfile", "config/kills.yaml")

    def account(self) -> None:
        """Compare what is there with an uninterrupted run, and count the updates that have to be made again."""
        for name, content in finished(self.workflow.folder).items():
            assert content == self.expected[name], f"{name} is there and must be whole"
        run = self.workflow.folder / RUN
        now = max((int(path.stem.removeprefix("step")) for path in run.glob("checkpoints*/*.safetensors")), default=0)
        jobs = [path for path in (self.workflow.folder / "counted").glob("train_run_*") if path.name not in self.seen]
        assert len(jobs) <= 1
        for path in jobs:
            self.seen.add(path.name)
            made = max(path.stat().st_size - self.overhead, 0)
            self.repeated = max(self.repeated, self.reached + made - now)
            assert self.reached + made >= now
        self.reached = now

    def start_over(self) -> None:
        shutil.rmtree(self.workflow.folder / RUN)
        self.reached = 0


def finished(folder: Path) -> dict[str, bytes]:
    files = [path for kind in ("*.arrow", "checkpoints/*.safetensors") for path in (folder / RUN).rglob(kind)]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def session(leader: int) -> Iterator[tuple[int, str]]:
    """Yield the processes of a session and their command lines."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if os.getsid(int(entry.name)) == leader:
                yield int(entry.name), (entry / "cmdline").read_text().replace("\0", " ")
        except (ProcessLookupError, FileNotFoundError):
            continue


def kill_session(leader: int) -> None:
    for process, _ in session(leader):
        try:
            os.kill(process, signal.SIGKILL)
        except ProcessLookupError:
            continue


def job_of(controller: subprocess.Popen[str]) -> int | None:
    """Wait for a job of Snakemake's and return its process; None if Snakemake ends without another one."""
    while controller.poll() is None:
        for process, command in session(controller.pid):
            if "/.snakemake/scripts/" in command and command.startswith(sys.executable):
                return process
        time.sleep(0.05)
    return None


def kill(
    kind: str, controller: subprocess.Popen[str], moments: random.Random, *, seconds: float, disk: Path | None
) -> bool:
    """End a start of Snakemake in one of four ways at a random moment; return whether it was still at work.

    Args:
        kind: Of its end.
        controller: Snakemake.
        moments: Draws the moment.
        seconds: That an undisturbed start took.
        disk: The disk to fill.
    """
    ballast: Path | None = None
    if kind == "job":
        job = job_of(controller)
        time.sleep(moments.uniform(0, seconds / 4))
        hit = job is not None and Path(f"/proc/{job}").exists()
        if job is not None and hit:
            os.kill(job, signal.SIGKILL)
    else:
        time.sleep(moments.uniform(0, seconds / 2))
        hit = controller.poll() is None
        if kind == "controller":
            kill_session(controller.pid)
        elif kind == "terminate" and hit:
            os.kill(controller.pid, signal.SIGTERM)
        elif kind == "full disk" and hit and disk is not None:
            ballast = fill_disk(disk)
    try:
        controller.wait(timeout=300)
    finally:
        kill_session(controller.pid)
        if ballast is not None:
            ballast.unlink()
    return hit


def test_the_workflow_survives_kills_at_random_moments(undisturbed: Undisturbed, tmp_path: Path) -> None:
    if not Path("/proc/self/cmdline").exists():
        pytest.skip("finds jobs in /proc")
    kinds = ["job", "controller", "terminate"]
    with ExitStack() as stack:
        disk = None
        if len(kinds) < KILLS:
            try:
                disk = stack.enter_context(small_disk(tmp_path / "workflow" / "results", megabytes=16))
                kinds.append("full disk")
            except pytest.skip.Exception as reason:
                print(reason)
        workflow = undisturbed.copy(tmp_path / "workflow")
        harness = Harness(workflow, finished(workflow.folder), undisturbed.overhead)
        assert len(harness.expected) == 1 + (SEGMENTS + 1) + SEGMENTS + 1
        harness.start_over()
        seconds = undisturbed.seconds
        moments = random.Random(3)
        rounds = attempts = 0
        complete = False
        began = time.monotonic()
        while sum(harness.kills.values()) < KILLS or not complete:
            last = sum(harness.kills.values()) >= KILLS
            controller = harness.start()
            attempts += 1
            if last:
                assert controller.wait() == 0, harness.log()
            else:
                kind = kinds[sum(harness.kills.values()) % len(kinds)]
                if kill(kind, controller, moments, seconds=seconds, disk=disk):
                    harness.kills[kind] = harness.kills.get(kind, 0) + 1
            harness.account()
            harness.unlock()
            complete = controller.returncode == 0 and (workflow.folder / TARGET).exists()
            if complete:
                assert finished(workflow.folder) == harness.expected
                # What a training goes on from goes with the next start that has something to do.
                kinds_left = ["*.writing"] if "Nothing to be done" in harness.log() else ["*.writing", "*.part"]
                assert not [path for name in kinds_left for path in workflow.folder.glob(f"results/**/{name}")]
                harness.start_over()
                rounds += 1
    print(
        f"{harness.kills} survived in {attempts} starts and {rounds} whole runs, {time.monotonic() - began:.0f} s (one "
        f"run undisturbed: {seconds:.0f} s); at most {harness.repeated} of {SEGMENTS * INTERVAL} updates made again "
        "after one"
    )
    assert harness.repeated <= INTERVAL


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 8
    path.write_bytes(content)


def test_damaged_files_are_named_and_what_the_sentence_says_makes_them_again(
    undisturbed: Undisturbed, tmp_path: Path
) -> None:
    harness = Harness(undisturbed.copy(tmp_path / "workflow"), {}, 0, os.environ[PROGRAM])
    folder = harness.workflow.folder
    expected = finished(folder)
    segment = RUN / "own_direction" / "segment0.arrow"
    checkpoint = RUN / "checkpoints" / "step00000000.safetensors"

    flip_a_bit(folder / segment)
    (folder / TARGET).unlink()
    assert harness.start().wait() == 1
    [words] = {line for line in harness.log().splitlines() if line.startswith("Error: ")}
    assert words.startswith(f"Error: Table {segment} must be a whole Arrow file, got a damaged one")
    assert words.endswith("Run the rule probe_segment again (delete the file and start snakemake).")
    assert "Traceback" not in harness.log()
    (folder / segment).unlink()
    assert harness.start().wait() == 0, harness.log()
    assert finished(folder) == expected

    flip_a_bit(folder / checkpoint)
    (folder / segment).unlink()
    assert harness.start(str(segment)).wait() == 1
    [words] = {line for line in harness.log().splitlines() if line.startswith("Error: ")}
    assert words.startswith(f"Error: Checkpoint {checkpoint} must be a whole safetensors file, got other content")
    assert words.endswith("Delete the run's checkpoints folder and start snakemake, which trains the run again.")
    assert "Traceback" not in harness.log()
    shutil.rmtree(folder / RUN / "checkpoints")
    assert harness.start(str(segment)).wait() == 0, harness.log()
    assert finished(folder) == expected
