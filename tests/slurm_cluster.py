"""A Slurm cluster of one node with two pretended GPUs: two ordinary processes in a folder of their own."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

# Daemons are not on everybody's search path.
_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
_PROGRAMS = ("slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "scontrol")
_ACTIVE = ("PENDING", "RUNNING", "COMPLETING", "CONFIGURING")
_NAME = re.compile(r"^rule_|_wildcards_.*$")  # what stands around it in the comment that the plugin gives a job
_FACT = re.compile(r"(\w+)=(\S*)")
_GPUS = re.compile(r"gpu(?::\w+)?[:=](\d+)")
_SECONDS_TO_START = 60
_SECONDS_TO_STOP = 20

# Without accounting, authentication and control groups. A node reports what the file says, not what it has: more CPUs
# and memory than the machine, so that GPUs are what jobs wait for.
_CONFIGURATION = """
ClusterName=pretended
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/none
CredType=cred/none
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
TaskProlog={folder}/bin/note_device
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SwitchType=switch/none
GresTypes=gpu
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/none
MinJobAge=3600
KillWait=5
ReturnToService=2
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
NodeName={host} NodeAddr=127.0.0.1 CPUs=8 RealMemory=128000 Gres=gpu:2 State=UNKNOWN
PartitionName=gpu Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""

# Slurm hands out only devices whose file exists; these exist everywhere.
_DEVICES = """
NodeName={host} Name=gpu File=/dev/null
NodeName={host} Name=gpu File=/dev/zero
"""

# The plugin's step inside of a job drops every SLURM_ variable, and with it where this configuration is.
_SRUN = """#!/bin/sh
SLURM_CONF={folder}/slurm.conf exec {srun} "$@"
"""

# What Slurm runs at the start of every step, with the step's own environment.
_NOTE_DEVICE = """#!/bin/sh
echo "$SLURM_JOB_ID ${{CUDA_VISIBLE_DEVICES:-none}}" >> {folder}/devices
"""


@dataclass(frozen=True)
class Job:
    """A job as the controller remembers it; times in seconds, `stop` is None while it runs."""

    number: str
    state: str
    name: str  # of the rule or group
    gpus: int
    start: float | None
    stop: float | None


@dataclass(frozen=True)
class Cluster:
    """A running cluster. `environment` is what its commands need."""

    folder: Path
    environment: dict[str, str]

    def ask(self, *command: str) -> str:
        result = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=True, timeout=_SECONDS_TO_START
        )
        return result.stdout

    def jobs(self) -> list[Job]:
        """Return all jobs since the start of the cluster."""
        found = []
        for line in self.ask("scontrol", "--oneliner", "show", "job").splitlines():
            facts = dict(_FACT.findall(line))
            if "JobId" not in facts:
                continue
            gpus = _GPUS.search(facts.get("TresPerJob", ""))
            found.append(
                Job(
                    number=facts["JobId"],
                    state=facts["JobState"],
                    name=_NAME.sub("", facts.get("Comment", "")),
                    gpus=int(gpus.group(1)) if gpus else 0,
                    start=_seconds(facts["StartTime"]),
                    # What runs or waits has an expected end.
                    stop=None if facts["JobState"] in _ACTIVE else _seconds(facts["EndTime"]),
                )
            )
        return found

    def devices(self) -> dict[str, set[str]]:
        """Return the values of CUDA_VISIBLE_DEVICES in the steps of each job, by number."""
        found: dict[str, set[str]] = {}
        for line in (self.folder / "devices").read_text().splitlines():
            number, devices = line.split()
            found.setdefault(number, set()).add(devices)
        return found


def missing_programs() -> list[str]:
    """Return what has to be installed for a cluster on this machine."""
    return [program for program in _PROGRAMS if shutil.which(program, path=_PATH) is None]


@contextmanager
def started_cluster(folder: Path) -> Iterator[Cluster]:
    """Start a cluster and stop it at the end, with all that it runs."""
    for name in ("state", "spool", "bin"):
        (folder / name).mkdir(parents=True)
    host = socket.gethostname().split(".")[0]
    user = os.environ.get("USER") or ("root" if os.getuid() == 0 else str(os.getuid()))
    controller_port, node_port = _free_ports()
    values = {"folder": folder, "host": host, "user": user, "srun": shutil.which("srun", path=_PATH)}
    values |= {"controller_port": controller_port, "node_port": node_port}
    (folder / "slurm.conf").write_text(_CONFIGURATION.format(**values))
    (folder / "gres.conf").write_text(_DEVICES.format(**values))
    for name, text in (("srun", _SRUN), ("note_device", _NOTE_DEVICE)):
        (folder / "bin" / name).write_text(text.format(**values))
        (folder / "bin" / name).chmod(0o755)
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM_", "SBATCH_"))}
    environment["PATH"] = os.pathsep.join([str(folder / "bin"), _PATH])
    environment["SLURM_CONF"] = str(folder / "slurm.conf")
    cluster = Cluster(folder, environment)
    with ExitStack() as stack:
        for command in (["slurmctld", "-D", "-c"], ["slurmd", "-D", "-N", host]):
            stack.enter_context(_daemon(command, cluster))
        until = time.monotonic() + _SECONDS_TO_START
        while "idle" not in _answer(cluster, "sinfo", "--noheader", "--format=%T"):
            if time.monotonic() > until:
                logs = "".join((folder / f"{name}.log").read_text() for name in ("slurmctld", "slurmd"))
                raise AssertionError(f"The node did not come up within {_SECONDS_TO_START} s:\n{logs}")
            time.sleep(0.2)
        try:
            yield cluster
        finally:
            cluster.ask("scancel", "--partition=gpu")
            until = time.monotonic() + _SECONDS_TO_STOP
            while cluster.ask("squeue", "--noheader") and time.monotonic() < until:
                time.sleep(0.2)


@contextmanager
def _daemon(command: list[str], cluster: Cluster) -> Iterator[None]:
    program = shutil.which(command[0], path=_PATH)
    assert program is not None
    process = subprocess.Popen(
        [program, *command[1:]],
        env=cluster.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(_SECONDS_TO_STOP)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answer(cluster: Cluster, *command: str) -> str:
    """Return what a command says; nothing while the controller does not answer."""
    try:
        return cluster.ask(*command)
    except subprocess.CalledProcessError:
        return ""


def _free_ports() -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(closing(socket.socket())) for _ in range(2)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _seconds(text: str) -> float | None:
    """Return a time of Slurm in seconds; None for one that is not known."""
    return None if text in ("N/A", "Unknown") else time.mktime(time.strptime(text, "%Y-%m-%dT%H:%M:%S"))
