"""Names of all that lies in a results folder: tables, checkpoints, figures, logs, for rules and for `sgdline status`.

Rules ask for patterns (`RUN`, and texts with wildcards such as "{probe}"), everybody else for files of a run.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol

from sgdline.declare.registry import is_entry, label

# What a results folder is going to hold, see sgdline.expected.
RECORD = "expected.json"
PICTURES = ("png", "pdf")
# Beside the folders of the experiments: no experiment is called so.
FOLDERS = ("benchmarks", "datasets", "figures", "logs", "sharpness", "tables", "toys")
# Beside the tables of a run: no probe is called so.
FOLDERS_OF_A_RUN = ("checkpoints",)
# Where the pictures of figures by entry lie, beside those of the papers.
OWN_FIGURES = "own"
# Where the claims that a configuration names lie, beside those of the papers.
OWN_CLAIMS = "own"
# What the claims of a paper, and of all papers together, are written to.
CLAIM_FILES = {"claims": "claims.csv", "pooled": "claims_over_seeds.csv", "summary": "summary.md"}


class NamesRun(Protocol):
    """What names a run: a `RunKey`, the pattern `RUN`, or wildcards of Snakemake, whose values are texts."""

    @property
    def experiment(self) -> str:
        """Name of the experiment."""

    @property
    def model(self) -> str:
        """Name of the model."""

    @property
    def lr(self) -> str:
        """Learning rate as it is written in file names."""

    @property
    def batch_size(self) -> int | str:
        """Samples per batch."""

    @property
    def seed(self) -> int | str:
        """Seed of the run."""


@dataclass(frozen=True)
class RunKey:
    """One run: the wildcards of its files.

    Attributes:
        experiment: Name of the experiment.
        model: Name of the model.
        lr: Learning rate as it is written in file names, see `format_lr`.
        batch_size: Samples per batch.
        seed: Seed of the run.
    """

    experiment: str
    model: str
    lr: str
    batch_size: int
    seed: int


@dataclass(frozen=True)
class _RunPattern:
    experiment: str = "{experiment}"
    model: str = "{model}"
    lr: str = "{lr}"
    batch_size: str = "{batch_size}"
    seed: str = "{seed}"


RUN: NamesRun = _RunPattern()


def run_key(names: NamesRun) -> RunKey:
    """Return the run that wildcards name."""
    return RunKey(names.experiment, names.model, names.lr, int(names.batch_size), int(names.seed))


def format_lr(lr: float) -> str:
    """Return the shortest text that reads back as the same float: 0.1 -> '0.1', 1.0 -> '1', 1e-5 -> '1e-05'."""
    return repr(float(lr)).removesuffix(".0").replace("e+", "e")


def run_path(run: NamesRun) -> str:
    """Return the folder of a run, below the results folder."""
    return f"{run.experiment}/{run.model}/lr{run.lr}_bs{run.batch_size}_seed{run.seed}"


def run_label(run: NamesRun) -> str:
    """Return the name of a run in the names of files that lie side by side: figures and logs."""
    return f"{run.experiment}_{run.model}_lr{run.lr}_bs{run.batch_size}_seed{run.seed}"


def figure_folder(figure: str) -> str:
    """Return the folder of a figure's pictures, below that of all figures: its name or id, or `own/Name` of an entry.

    Args:
        figure: A kind, "paper/figure", or the entry of a figure of the user's.
    """
    return f"{OWN_FIGURES}/{label(figure)}" if is_entry(figure) else figure


@dataclass(frozen=True)
class Layout:
    """Files of one results folder.

    Attributes:
        results: The folder; empty for paths below it.
    """

    results: str = ""

    def run(self, run: NamesRun) -> str:
        """Return the folder of a run."""
        return self._below(run_path(run))

    def table(self, run: NamesRun, kind: str) -> str:
        """Return a table of a run: its trace, what a probe measured, or what the analysis made of that."""
        return f"{self.run(run)}/{kind}.arrow"

    def checkpoints(self, run: NamesRun) -> str:
        """Return the folder of a run's checkpoints."""
        return f"{self.run(run)}/checkpoints"

    def plan(self, run: NamesRun, probe: str) -> str:
        """Return the plan of a probe's forward passes."""
        return f"{self.run(run)}/{probe}/plan.json"

    def segment(self, run: NamesRun, probe: str, segment: int | str) -> str:
        """Return what a probe measured on one segment of a run."""
        return f"{self.run(run)}/{probe}/segment{segment}.arrow"

    def dataset(self, dataset: str) -> str:
        """Return a prepared data set."""
        return self._below(f"datasets/{dataset}.arrow")

    def sharpness(self, start: str) -> str:
        """Return the largest eigenvalue at a start, which all runs that begin there share."""
        return self._below(f"sharpness/{start}.json")

    def toy(self, toy: str) -> str:
        """Return the table of a toy."""
        return self._below(f"toys/{toy}.arrow")

    def figure(self, figure: str, subject: NamesRun | str, suffix: str) -> str:
        """Return a picture of a run, or of the comparison or toy of that name.

        Args:
            figure: The folder of its pictures, see `figure_folder`.
            subject: What it shows.
            suffix: One of `PICTURES`.
        """
        return self._below(f"figures/{figure}/{_label(subject)}.{suffix}")

    def claims(self, name: str, judged: str | None = None) -> str:
        """Return a file of claims.

        Args:
            name: One of `CLAIM_FILES`.
            judged: Whose claims: a paper, or `own/Name` of a claim that the configuration names; all if None.
        """
        folder = "tables" if judged is None else f"tables/{judged}"
        return self._below(f"{folder}/{CLAIM_FILES[name]}")

    def log(self, rule: str, *subject: NamesRun | str | int) -> str:
        """Return the log of a job: of a rule, and of what the job is about, in parts."""
        return self._below(f"logs/{_job(rule, subject)}.log")

    def benchmark(self, rule: str, *subject: NamesRun | str | int) -> str:
        """Return what Snakemake notes of a job's time and memory; see `log`."""
        return self._below(f"benchmarks/{_job(rule, subject)}.tsv")

    def _below(self, path: str) -> str:
        return f"{self.results}/{path}" if self.results else path


def _label(subject: NamesRun | str | int) -> str:
    return str(subject) if isinstance(subject, str | int) else run_label(subject)


def _job(rule: str, subject: tuple[NamesRun | str | int, ...]) -> str:
    return f"{rule}/{'_'.join(map(_label, subject))}" if subject else rule


# --- from a path below the results folder back to what it is ---------------------------------------------------------

_LOG = re.compile(r"logs/([^/]+?)(?:/(.+))?\.log")
_PART_OF_THE_CLAIMS = re.compile(rf"tables/(?:{OWN_CLAIMS}/)?[^/]+/claims\.csv")
_SEGMENT = re.compile(r"(?:.*/)?segment\d+\.arrow")
_TRACE = re.compile(r"([^/]+/[^/]+/[^/]+)/trace\.arrow")
_CONTENTS = {"figures": "figures", "datasets": "data sets", "logs": "logs", "benchmarks": "logs"}


def job_of_log(path: str) -> tuple[str, str] | None:
    """Return the rule and the subject of a log's job; None of any other file. The subject may be empty."""
    match = _LOG.fullmatch(path)
    return None if match is None else (match[1], match[2] or "")


def is_part_of_the_claims(path: str) -> bool:
    """Return whether a file holds the claims of one paper, or one claim of the configuration."""
    return _PART_OF_THE_CLAIMS.fullmatch(path) is not None


def is_segment(path: str) -> bool:
    """Return whether a file is the table of one segment."""
    return _SEGMENT.fullmatch(path) is not None


def traced_run(path: str) -> str | None:
    """Return the folder of the run whose trace a file is; None of any other file."""
    match = _TRACE.fullmatch(path)
    return None if match is None else match[1]


def contents(path: str) -> str:
    """Return what a file is, in a reader's words, for the disk's account."""
    parts = path.split("/")
    if "checkpoints" in parts or "checkpoints.part" in parts:
        return "checkpoints"
    if path.endswith((".part", ".writing")):
        return "unfinished"
    if is_segment(path):
        return "segments"
    return _CONTENTS.get(parts[0], "tables")
