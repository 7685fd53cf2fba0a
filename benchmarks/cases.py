"""What is measured: a network, its images and a place in its training."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from sgdline.losses.cross_entropy import CrossEntropy
from sgdline.train.rules.sgd import Sgd
from sgdline.train.schedules.constant import Constant
from sgdline.train.settings import ModelOptions, TrainingSettings

INTERVAL = 0.5  # half-width of every line, Euclidean length
RESOLUTION = 0.006  # spacing of the same grid
GRID_EVALUATIONS = 168  # 167 positions and the step itself
TOLERANCES = (3e-3, 1e-3, 3e-4)  # of adaptive lines, nats; the last one is the default of the configuration
# Size of the published experiment: lines, and samples per position (training, validation, direction batch).
PUBLISHED_LINES, PUBLISHED_SAMPLES = 10_000, 3_968 + 896 + 128


@dataclass(frozen=True)
class Case:
    """One network on one data set."""

    name: str
    entry: str  # factory of the network
    source: str  # of the images
    train: int
    validation: int
    batch_size: int  # of the training, and chunk of the measuring
    first: int  # first measured update
    every: int  # measure at every n-th update
    lines_per_job: int  # what a plan is chosen for
    kwargs: dict[str, Any] = field(default_factory=dict)
    image_size: int | None = None
    channels: int | None = None
    large: bool = False  # too large for whole grids on a CPU: parts of them are timed there
    adaptive_lines: int = 5  # whole adaptive lines of a large case on a CPU
    checked_lines: int = 3  # lines whose interpolant is compared with a dense grid
    checked_spacing: float = RESOLUTION  # of that grid, for a large case on a CPU
    job_lines: int = 0  # lines of the timed job; 0: none


_SMALL = Case(
    name="mlp",
    entry="sgdline.models:mlp",
    kwargs={"hidden": [64, 48]},
    source="digits",
    train=1_024,
    validation=256,
    batch_size=64,
    first=120,
    every=3,
    lines_per_job=40,
)

CASES = (
    Case(
        name="resnet20",
        entry="sgdline.models:resnet20",
        source="fashion_mnist",
        image_size=32,
        channels=3,
        train=4_000,
        validation=1_000,
        batch_size=128,
        first=60,
        every=2,
        lines_per_job=200,
        large=True,
        checked_lines=2,
        checked_spacing=0.04,
        job_lines=3,
    ),
    replace(_SMALL, name="tiny_resnet", entry="sgdline.models:tiny_resnet", kwargs={"width": 8}),
    _SMALL,
)

_QUICK = {"train": 40, "validation": 24, "batch_size": 16, "lines_per_job": 2, "checked_lines": 1}


def quick(case: Case) -> Case:
    """Return a case that takes seconds: a small network, a few small images, the first lines of the run."""
    size = {"image_size": 8, "entry": "sgdline.models:tiny_resnet", "kwargs": {"width": 4}} if case.image_size else {}
    return replace(case, **_QUICK | size, first=2 * case.every, adaptive_lines=2, job_lines=min(case.job_lines, 2))


def dataset_block(case: Case, *, source: str) -> dict[str, Any]:
    """Return the data set's slice of a configuration."""
    block = {
        "source": source,
        "train": case.train,
        "validation": case.validation,
        "test": 10,
        "image_size": case.image_size,
        "channels": case.channels,
    }
    noise = {"images": case.train + case.validation + 10, "size": case.image_size}
    return block | noise if source == "random" else block


def training_settings(case: Case, *, segments: list[tuple[int, int]], threads: int) -> TrainingSettings:
    """Return the settings of a training."""
    return TrainingSettings(
        model=ModelOptions(entry=case.entry, kwargs=case.kwargs),
        lr=0.1,
        batch_size=case.batch_size,
        seed=1,
        steps=segments[-1][1],
        segments=tuple(segments),
        threads=threads,
        loss=CrossEntropy(),
        optimizer=Sgd(),
        schedule=Constant(),
    )


def line_block(case: Case, **changes: Any) -> dict[str, Any]:
    """Return the line probe's block of a configuration: one ring, adaptive at the default tolerance."""
    block: dict[str, Any] = {
        "every": case.every,
        "positions": "adaptive",
        "interval": INTERVAL,
        "resolution": RESOLUTION,
        "tolerance": TOLERANCES[-1],
        "max_rings": 1,
        "batch_norm": "train",
        "augment": False,
        "validation": True,
        "sample_losses": False,
    }
    return block | changes
