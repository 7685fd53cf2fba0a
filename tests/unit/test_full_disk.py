"""A disk that is full, or a limit on the size of files: one sentence, status 1, nothing lost, nothing half done."""

from __future__ import annotations

import errno
import gc
import logging
import os
import re
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn_figures import sheet_of
from sample_lines import polynomials, sample_line, write_sample_lines
from small_runs import line_settings, prepare_digits, probe_segment, training_settings

from sgdline import runtime
from sgdline.analysis.distances import measure_distances
from sgdline.errors import SgdlineError
from sgdline.figures import plot_figure
from sgdline.runtime import job, write_text
from sgdline.tables import TableWriter, write_table
from sgdline.toys import simulate_toy
from sgdline.train.checkpoints import Checkpoint, save_checkpoint
from sgdline.train.run import train_run


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Let every write beyond `size` bytes of a file fail, as on a full disk; the limit is the system's own."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    assert signal.getsignal(signal.SIGXFSZ) == signal.SIG_IGN  # as Python sets it at its start
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def ended(work: Callable[[], object], *, log: Path, size: int, capsys: pytest.CaptureFixture[str]) -> str:
    """Do a job's work under a limit; return the one sentence that it ends with."""
    capsys.readouterr()
    with files_of_at_most(size), pytest.raises(SystemExit) as end, job(log=log):
        work()
    assert end.value.code == 1
    told = capsys.readouterr().err
    assert "Traceback" not in told
    [sentence] = [line for line in told.splitlines() if line.startswith("Error: ")]
    return sentence


def left_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def a_data_set(target: Path) -> None:
    from sgdline.data.prepare import prepare_dataset
    from sgdline.data.sources.random import RandomImages

    noise = RandomImages(train=40, validation=4, test=4, split_seed=1, images=64, classes=4, size=16, seed=2)
    prepare_dataset(noise, target, data_dir=target.parent, download=False, provenance={})


def a_table(target: Path) -> None:
    draws = np.random.default_rng(1).normal(size=(3, 5000))
    columns = {"step": range(5000), "epoch": draws[0], "lr": draws[1], "status": ["ok"] * 5000, "batch_loss": draws[2]}
    write_table(target, "trace", columns | {"direction_norm": draws[0]}, provenance={})


def a_text(target: Path) -> None:
    write_text(target, "x" * 100_000)


QUADRATIC = {"eigenvalues": [1.0, 0.1], "start": [1.0, 1.0], "relative_lr": [0.5], "steps": 3000}


def a_toy(target: Path) -> None:
    simulate_toy("quadratic_descent", target, settings=QUADRATIC, provenance={})


def an_analysis(target: Path) -> None:
    folder = target.parent / "lines"
    if not folder.exists():
        raise AssertionError("lines are written without the limit")
    settings = {"window": 0.2, "resolution": 0.02, "distance_first": 60, "distance_every": 1}
    measure_distances(folder / "line.arrow", target, **settings, provenance={})


def some_lines(folder: Path) -> None:
    folder.mkdir()
    draws = np.random.default_rng(2)
    tables = [draws.normal(size=(6, 3)) for _ in range(60)]
    rows = [sample_line(polynomials(table), polynomials(table[:2]), step=step) for step, table in enumerate(tables)]
    write_sample_lines(folder, rows)


@pytest.mark.parametrize("make", [a_data_set, a_table, a_text, a_toy, an_analysis])
@pytest.mark.parametrize("old", [None, b"finished before"])
def test_a_target_is_whole_or_as_it_was(
    make: Callable[[Path], None], old: bytes | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if make is an_analysis:
        some_lines(tmp_path / "lines")
    target = tmp_path / "results" / "target"
    target.parent.mkdir()
    if make is an_analysis:
        (tmp_path / "lines").rename(target.parent / "lines")
    if old is not None:
        target.write_bytes(old)
    before = left_in(target.parent)
    sentence = ended(lambda: make(target), log=tmp_path / "rule.log", size=4096, capsys=capsys)
    assert f"got: {os.strerror(errno.EFBIG)}. Raise the limit on the size of files" in sentence
    assert sentence.endswith("then start again: what is finished stays.")
    assert left_in(target.parent) == before
    if old is not None:
        assert target.read_bytes() == old
    assert "Traceback" in (tmp_path / "rule.log").read_text()
    with job(log=tmp_path / "rule.log"):
        make(target)
    assert target.stat().st_size > 4096 if make is not a_toy else target.exists()


# matplotlib leaves the file that it could not write to the garbage collector.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.slow
def test_pictures_come_both_or_not_at_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a_toy(tmp_path / "toy.arrow")
    pdf, png = tmp_path / "figures" / "a.pdf", tmp_path / "figures" / "a.png"
    png.parent.mkdir()
    png.write_bytes(b"finished before")
    settings = {"toy": "quadratic", **QUADRATIC}

    def draw() -> None:
        tables = {"quadratic_descent": tmp_path / "toy.arrow"}
        plot_figure(sheet_of("quadratic_descent"), tables, settings=settings, pdf=pdf, png=png)

    sentence = ended(draw, log=tmp_path / "rule.log", size=4096, capsys=capsys)
    gc.collect()
    assert str(png.parent) in sentence or "The files of this job" in sentence
    assert left_in(png.parent) == ["a.png"]
    assert png.read_bytes() == b"finished before"
    draw()
    assert pdf.read_bytes()[:4] == b"%PDF"


@pytest.mark.slow
def test_a_training_and_a_probe_go_on_to_the_same_bytes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = prepare_digits(tmp_path, train=64)
    settings = training_settings(steps=60, segments=[[0, 30], [30, 60]])
    size = 30_000

    def train(folder: Path) -> None:
        train_run(dataset, trace=folder / "trace", checkpoints=folder / "checkpoints", settings=settings, facts={})

    def probe(folder: Path) -> None:
        block = line_settings(settings, every=1)
        checkpoints = tmp_path / "whole" / "checkpoints"
        probe_segment(dataset, checkpoints, output=folder / "line", settings=block, segment=0, facts={})

    for work, name, limit in ((train, "trace", 6000), (probe, "line", size)):
        work(tmp_path / "whole")
        target = tmp_path / "torn" / name
        ended(lambda work=work: work(tmp_path / "torn"), log=tmp_path / "rule.log", size=limit, capsys=capsys)
        assert not target.exists()
        work(tmp_path / "torn")
        assert target.read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not list((tmp_path / "torn").rglob("*.writing"))


def test_rows_that_were_written_before_the_disk_was_full_are_kept(tmp_path: Path) -> None:
    row = {"epoch": 0.0, "lr": 0.1, "batch_loss": 1.0, "direction_norm": 1.0, "status": "ok"}

    def fill(target: Path, start: int) -> int:
        with TableWriter(target, "trace", provenance={"a": 1}) as writer:
            known = writer.recovered.num_rows
            assert writer.recovered["step"].to_pylist() == list(range(known))
            for step in range(known, start):
                writer.append([{**row, "step": step}])
            writer.finish()
        return known

    with files_of_at_most(20_000), pytest.raises(OSError, match="File too large"):
        fill(tmp_path / "torn", 200)
    known = fill(tmp_path / "torn", 200)
    assert 3 < known < 200
    fill(tmp_path / "whole", 200)
    assert (tmp_path / "torn").read_bytes() == (tmp_path / "whole").read_bytes()


def test_a_checkpoint_is_whole_or_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = Checkpoint(step=3, parameters=torch.ones(100_000))
    work = lambda: save_checkpoint(tmp_path / "checkpoints", checkpoint)  # noqa: E731
    ended(work, log=tmp_path / "rule.log", size=4096, capsys=capsys)
    assert not [name for name in left_in(tmp_path / "checkpoints") if name.endswith(".safetensors")]
    work()


# --- faults of the machine --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "results/a"), "results/a must be .* Free some space on its"),
        (OSError(errno.EDQUOT, "Disk quota exceeded", "a"), "within your quota"),
        (PermissionError(errno.EACCES, "Permission denied", "a"), "Give yourself the right"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), "Free some space on its disk"),
        (
            RuntimeError("Detail: [errno 28] No space left on device"),
            "Free some space on its disk",
        ),
        (MemoryError(), "must fit into the memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"), "into the memory"),
        (torch.OutOfMemoryError("CUDA out of memory"), "must fit into the memory"),
    ],
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_faults_of_the_machine_are_one_sentence(
    error: Exception, words: str, wrapped: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        if not wrapped:
            raise error
        try:
            raise error
        except Exception as cause:
            raise ValueError("a library") from cause

    sentence = ended(fail, log=tmp_path / "rule.log", size=2**30, capsys=capsys)
    assert re.search(words, sentence)
    assert "\n" not in sentence


@pytest.mark.parametrize("error", [FileNotFoundError(errno.ENOENT, "No such file", "a"), KeyError("a"), OSError("odd")])
def test_faults_of_the_code_keep_their_traceback(error: Exception, tmp_path: Path) -> None:
    with pytest.raises(type(error)), job(log=tmp_path / "rule.log"):
        raise error
    assert "Traceback" in (tmp_path / "rule.log").read_text()


def test_a_log_that_cannot_be_written_hides_no_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("in the way of a folder")

    def fail() -> None:
        logging.getLogger("sgdline").info("a message")
        raise SgdlineError("lr must be positive, got -1. Change it.")

    for log in (tmp_path / "file" / "rule.log", Path("/dev/full")):
        assert ended(fail, log=log, size=2**30, capsys=capsys) == "Error: lr must be positive, got -1. Change it."


def test_an_unfinished_text_does_not_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with files_of_at_most(10), pytest.raises(OSError, match="File too large"):
        runtime.write_text(tmp_path / "a.json", "x" * 100)
    assert left_in(tmp_path) == []
