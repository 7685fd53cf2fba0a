"""The workflow through profiles/slurm on a real Slurm of one node with two pretended GPUs.

One story, told once: in the first run images are missing and one job is cancelled; the images come, and the second run
makes the rest. A job starts Snakemake twice, which costs most of its time, so consecutive jobs share one of Slurm's.
"""

from __future__ import annotations

import re
import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from slurm_cluster import Cluster, Job, missing_programs, started_cluster
from workflow_copy import Workflow, copy_workflow

from sgdline.tables import provenance, read_table

_MISSING = missing_programs()
pytestmark = [
    pytest.mark.workflow,
    pytest.mark.skipif(
        bool(_MISSING),
        reason=f"no {', '.join(_MISSING)} (Debian: apt-get install slurmctld slurmd slurm-client)",
    ),
]

LABEL = "measured_mlp_w8_lr0.1_bs32_seed1"
FIGURE = f"results/cluster/figures/linesearch/fig2_lines/{LABEL}.png"
IMAGES = "results/cluster/datasets/own.arrow"
# The profile as it stands; status checks come sooner than on a cluster whose jobs take minutes.
COMMAND = (FIGURE, IMAGES, "--profile", "profiles/slurm", "--slurm-init-seconds-before-status-checks", "2")
COMMAND += ("--groups", "train_run=begin", "plan_probe=begin", "gather_segments=end", "plot_figure=end")
COMMAND += ("--configfile", "cluster.yaml")
# What a group is called: by its name and its rules.
BEGIN, END = "begin_plan_probe_train_run", "end_gather_segments_plot_figure"
ON_GPUS = {BEGIN, "probe_segment"}
SECONDS_A_RUN = 900


@dataclass(frozen=True)
class Story:
    """What was said and done."""

    workflow: Workflow
    cancelled: str
    first: str
    first_jobs: list[Job]
    second: str
    second_jobs: list[Job]
    devices: dict[str, set[str]]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with started_cluster(tmp_path_factory.mktemp("slurm") / "cluster") as cluster:
        yield cluster


@pytest.fixture(scope="module")
def story(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Story:
    workflow = copy_workflow(tmp_path_factory.mktemp("slurm") / "workflow")
    workflow = replace(workflow, environment=cluster.environment, seconds=SECONDS_A_RUN)
    shutil.copy2(Path(__file__).with_name("config.yaml"), workflow.folder / "cluster.yaml")
    cancelled: list[str] = []
    canceller = threading.Thread(target=cancel_a_running_probe, args=(cluster, cancelled))
    canceller.start()
    first = workflow.snakemake(*COMMAND, check=False)
    canceller.join()
    assert first.returncode == 1, first.stdout + first.stderr
    assert len(cancelled) == 1, first.stdout + first.stderr
    first_jobs = cluster.jobs()
    write_images(workflow.folder / "images")
    second = workflow.snakemake(*COMMAND)
    known = {job.number for job in first_jobs}
    return Story(
        workflow=workflow,
        cancelled=cancelled[0],
        first=first.stdout + first.stderr,
        first_jobs=first_jobs,
        second=second.stdout + second.stderr,
        second_jobs=[job for job in cluster.jobs() if job.number not in known],
        devices=cluster.devices(),
    )


def write_images(folder: Path) -> None:
    """Write sixteen images of two classes to train with."""
    grey = np.random.default_rng(8).integers(0, 256, (16, 8, 8), dtype=np.uint8)
    for number, image in enumerate(grey):
        path = folder / "train" / ("even", "odd")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)


def cancel_a_running_probe(cluster: Cluster, cancelled: list[str]) -> None:
    """Cancel the first probing job that runs, as an administrator would."""
    until = time.monotonic() + SECONDS_A_RUN
    while not cancelled and time.monotonic() < until:
        for job in cluster.jobs():
            if job.name == "probe_segment" and job.state == "RUNNING":
                cluster.ask("scancel", job.number)
                cancelled.append(job.number)
                return
        time.sleep(1)


def names(jobs: list[Job]) -> Counter[str]:
    """Count the jobs by rule or group."""
    return Counter(job.name for job in jobs)


def test_every_job_goes_through_slurm(story: Story) -> None:
    assert names(story.first_jobs) == {"prepare_dataset": 2, BEGIN: 1, "probe_segment": 3}
    assert names(story.second_jobs) == {"prepare_dataset": 1, "probe_segment": 1, END: 1}
    submitted = re.findall(r"submitted with SLURM jobid (\d+)", story.first + story.second)
    assert sorted(submitted) == sorted(job.number for job in story.first_jobs + story.second_jobs)
    assert {job.state for job in story.second_jobs} == {"COMPLETED"}


def test_gpu_jobs_ask_for_one_gpu_and_never_more_than_two_run(story: Story) -> None:
    jobs = story.first_jobs + story.second_jobs
    assert {job.name for job in jobs if job.gpus == 1} == ON_GPUS
    assert {job.gpus for job in jobs if job.name not in ON_GPUS} == {0}
    spans = [(job.start, job.stop) for job in jobs if job.gpus]
    starts = [start for start, _ in spans if start is not None]
    assert len(starts) == len(spans)
    # Slurm tells whole seconds; a job may start in the second in which another one ended.
    at_once = [sum(a is not None and b is not None and a <= moment < b for a, b in spans) for moment in starts]
    assert max(at_once) == 2


def test_both_devices_are_handed_out(story: Story) -> None:
    jobs = story.first_jobs + story.second_jobs
    on_gpus = [story.devices[job.number] for job in jobs if job.gpus and job.number in story.devices]
    assert set.union(*on_gpus) == {"0", "1"}
    assert {len(devices) for devices in on_gpus} == {1}
    assert {*set.union(*(story.devices[job.number] for job in jobs if not job.gpus))} == {"none"}
    log = story.workflow.folder / f"results/cluster/logs/train_run/{LABEL}.log"
    (training,) = [job for job in story.first_jobs if job.name == BEGIN]
    (device,) = story.devices[training.number]
    assert f"CUDA_VISIBLE_DEVICES is {device}" in log.read_text()


def test_a_failing_job_is_reported_with_its_reason(story: Story) -> None:
    (failed,) = [job for job in story.first_jobs if job.state == "FAILED"]
    assert failed.name == "prepare_dataset"
    assert f"SLURM-job '{failed.number}' failed, SLURM status is: 'FAILED'" in story.first
    reason = "path must be a folder with train/<class>/* or <class>/* in it, got images, which is no folder."
    assert reason in story.first


def test_a_cancelled_job_is_reported_as_cancelled(story: Story) -> None:
    (cancelled,) = [job for job in story.first_jobs if job.state == "CANCELLED"]
    assert cancelled.number == story.cancelled
    assert f"SLURM-job '{cancelled.number}' failed, SLURM status is: 'CANCELLED'" in story.first


def test_the_rerun_makes_the_rest(story: Story) -> None:
    run = story.workflow.folder / "results/cluster/measured/mlp_w8/lr0.1_bs32_seed1"
    lines = read_table(run / "line.arrow", "line")
    assert lines["step"].to_pylist() == list(range(0, 12, 2))
    assert provenance(lines)["replay_drift"] == 0.0
    assert (story.workflow.folder / FIGURE).stat().st_size > 20_000
    assert (story.workflow.folder / IMAGES).stat().st_size > 0
