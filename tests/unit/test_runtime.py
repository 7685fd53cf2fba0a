"""Job log, device choice, progress."""

from __future__ import annotations

import errno
import io
import itertools
import logging
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from sgdline import runtime
from sgdline.errors import SgdlineError


def test_a_known_fault_is_one_sentence_with_the_traceback_in_the_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end, runtime.job(log=tmp_path / "logs" / "rule.log"):
        raise SgdlineError("lr must be positive, got -1. Change it.")
    assert end.value.code == 1
    assert capsys.readouterr().err == "Error: lr must be positive, got -1. Change it.\n"
    assert "Traceback" in (tmp_path / "logs" / "rule.log").read_text()


def test_an_unknown_fault_keeps_its_traceback(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), runtime.job(log=tmp_path / "rule.log"):
        _ = 1 / 0
    assert "ZeroDivisionError" in (tmp_path / "rule.log").read_text()


def test_messages_and_warnings_reach_the_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with runtime.job(log=tmp_path / "rule.log", threads=2):
        logging.getLogger("sgdline").info("quiet")
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            logging.captureWarnings(True)
            warnings.warn("loud", stacklevel=1)
        assert os.environ["OMP_NUM_THREADS"] == "2"
    text = (tmp_path / "rule.log").read_text()
    assert "quiet" in text
    assert "loud" in text
    error = capsys.readouterr().err
    assert "loud" in error
    assert "quiet" not in error


class Clock:
    """Time that passes only where a test says so, and the lines that are logged meanwhile."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
        self.now = 1000.0
        self._caplog = caplog
        self.lines: list[tuple[float, str]] = []
        monkeypatch.setattr(runtime, "_now", lambda: self.now)
        monkeypatch.setattr(runtime.logger, "info", self._note)

    def _note(self, text: str, *arguments: object) -> None:
        self.lines.append((self.now - 1000.0, text % arguments))

    def spend(self, seconds: float, items: range) -> Iterator[int]:
        for item in items:
            self.now += seconds
            yield item

    def longest_silence(self) -> float:
        times = [0.0, *(at for at, _ in self.lines)]
        return max(late - early for early, late in itertools.pairwise(times))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Clock:
    return Clock(monkeypatch, caplog)


@pytest.mark.parametrize("seconds", [0.01, 1.0, 7.0, 16.0, 25.0, 29.0])
def test_progress_is_reported_at_least_every_30_seconds(clock: Clock, seconds: float) -> None:
    count = round(400 / seconds)
    assert list(runtime.progress(clock.spend(seconds, range(count)), total=count, label="updates")) == list(
        range(count)
    )
    assert clock.longest_silence() <= 30.0 + 1e-6
    assert len(clock.lines) <= 400 / max(seconds, 15.0) + 3
    assert clock.lines[0][0] <= max(5.0, seconds) + 1e-6
    assert re.fullmatch(rf"updates: {count} in 6\.[67]\d* min, [\d.e+]+ a (second|minute)", clock.lines[-1][1])


def test_a_line_says_done_total_rate_and_time_left(clock: Clock) -> None:
    for step in runtime.progress(range(100), total=100, label="updates 0 to 100"):
        clock.now += 10.0
        if step == 40:
            break
    assert clock.lines[:2] == [
        (10.0, "updates 0 to 100: 1 of 100, 6 a minute, 16.5 min left"),
        (40.0, "updates 0 to 100: 4 of 100, 6 a minute, 16 min left"),
    ]
    assert runtime._loops == []


def test_a_slow_item_reports_what_goes_on_inside_it(clock: Clock) -> None:
    for _ in runtime.progress(range(3), total=3, label="line 0 to 3"):
        with runtime.counting("positions") as report:
            for _ in range(4):
                for _ in runtime.inner_progress(range(30), total=30, label="passes"):
                    clock.now += 10.0
                report(8)
        for _ in range(12):  # work that nobody counts
            clock.now += 10.0
            runtime.beat()
    assert clock.longest_silence() <= 30.0
    assert clock.lines[0] == (10.0, "line 0 to 3: 0 of 3; positions: 0; passes: 1 of 30, 6 a minute, 4.83 min left")
    words = [text for _, text in clock.lines]
    assert any(text.startswith("line 0 to 3: 0 of 3; positions: 24, 1.6 a minute") for text in words)
    assert any(re.fullmatch(r"line 0 to 3: 1 of 3, 2.73 an hour, 2\d(\.\d)? min left", text) for text in words)


def test_quick_loops_inside_a_loop_do_not_add_lines(clock: Clock) -> None:
    for _ in runtime.progress(range(1000), total=1000, label="updates"):
        for _ in runtime.inner_progress(range(10), total=10, label="micro-batches"):
            clock.now += 0.006
    assert len(clock.lines) <= 4  # of a minute: after 5 s, after 35 s, the last one
    # Alone, as in a notebook, an inner loop that is quick says nothing.
    clock.lines.clear()
    list(runtime.inner_progress(clock.spend(0.1, range(20)), total=20, label="passes"))
    assert clock.lines == []


def test_a_loop_that_fails_is_no_longer_reported(clock: Clock) -> None:
    def fail(count: int) -> int:
        raise ValueError("enough")

    with pytest.raises(ValueError, match="enough"), runtime.counting("products"):
        fail(1)
    with pytest.raises(ValueError, match="enough"):
        list(map(fail, runtime.progress(range(2), total=2, label="lines")))
    for _ in runtime.progress(range(2), total=2, label="updates"):
        clock.now += 40.0
    assert all(text.startswith("updates") for _, text in clock.lines)


def test_a_terminal_shows_a_bar_with_what_goes_on_inside(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stderr", terminal)
    for _ in runtime.progress(range(2), total=2, label="updates"):
        with runtime.counting("products") as report:
            clock.now += 20.0
            report()
    assert "updates:" in terminal.getvalue()
    assert "products: 1, 3 a minute" in terminal.getvalue()


def test_without_a_gpu_the_job_runs_on_the_cpu(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with caplog.at_level(logging.INFO, logger="sgdline"):
        assert runtime.pick_device() == torch.device("cpu")
    assert len(caplog.records) == 1


def pretend(monkeypatch: pytest.MonkeyPatch, folder: Path, *uuids: str) -> list[int]:
    """Make the job see devices with these UUIDs and no lock; return the list of those that torch is told to use."""
    used: list[int] = []
    devices = [runtime._Device(uuid=uuid, name=f"pretended {uuid}") for uuid in uuids]
    monkeypatch.setattr(runtime, "_visible_devices", lambda: devices)
    monkeypatch.setattr(torch.cuda, "set_device", used.append)
    monkeypatch.setattr(runtime, "_LOCK_FOLDER", folder)
    monkeypatch.setattr(runtime, "_device_locks", {})
    return used


def let_go() -> None:
    for lock in runtime._device_locks.values():
        lock.close()
    runtime._device_locks.clear()


def taken_by_another(uuid: str) -> Any:
    """Lock a device as another process does; close what is returned to give it back."""
    lock = runtime._lock_device(uuid)
    assert lock is not None
    return lock


def test_a_device_that_a_scheduler_gave_and_torch_does_not_see_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(runtime, "_visible_devices", list)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert runtime.pick_device() == torch.device("cpu")
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "CUDA_VISIBLE_DEVICES is 1" in caplog.text


def test_devices_are_taken_once_and_a_job_waits_for_a_free_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    used = pretend(monkeypatch, tmp_path, "GPU-a", "GPU-b")
    others = [taken_by_another("GPU-a"), taken_by_another("GPU-b")]
    rounds: list[float] = []

    def free_the_second_after_three_rounds(seconds: float) -> None:
        rounds.append(seconds)
        if len(rounds) == 3:
            others[1].close()

    monkeypatch.setattr(runtime.time, "sleep", free_the_second_after_three_rounds)
    assert runtime.pick_device().index == 1
    assert used == [1]
    assert len(rounds) == 3
    assert [record.levelname for record in caplog.records].count("WARNING") == 1
    assert "--resources gpu=2" in caplog.text
    assert f"process {os.getpid()}" in caplog.text
    others[0].close()
    let_go()


def test_a_job_that_finds_no_device_for_long_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pretend(monkeypatch, tmp_path, "GPU-a")
    other = taken_by_another("GPU-a")
    with pytest.raises(SgdlineError, match=f"taken by process {os.getpid()}.*run again with --resources gpu=1"):
        runtime.take_device(["GPU-a"], patience=0.3)
    other.close()


def test_a_process_keeps_to_the_device_that_it_has(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pretend(monkeypatch, tmp_path, "GPU-a", "GPU-b")
    other = taken_by_another("GPU-a")
    assert [runtime.pick_device().index for _ in range(3)] == [1, 1, 1]
    other.close()
    assert runtime.pick_device().index == 1
    let_go()


def test_a_full_disk_does_not_keep_a_job_from_its_device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pretend(monkeypatch, tmp_path, "GPU-a")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(runtime.os, "getpid", full)
    assert runtime.take_device(["GPU-a"]) == 0
    let_go()


def test_a_lock_that_was_removed_locks_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pretend(monkeypatch, tmp_path, "GPU-a")
    lock_file = tmp_path / "GPU-a.lock"
    lock = runtime.fcntl.flock

    def cleaned_away_before_the_lock(file: Any, how: int) -> None:
        monkeypatch.setattr(runtime.fcntl, "flock", lock)
        lock_file.unlink()
        lock(file, how)

    monkeypatch.setattr(runtime.fcntl, "flock", cleaned_away_before_the_lock)
    assert runtime.take_device(["GPU-a"]) == 0
    with lock_file.open() as same, pytest.raises(BlockingIOError):
        lock(same, runtime.fcntl.LOCK_EX | runtime.fcntl.LOCK_NB)
    let_go()


def test_a_folder_of_locks_that_is_a_file_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "locks").write_text("")
    pretend(monkeypatch, tmp_path / "locks", "GPU-a")
    with pytest.raises(SgdlineError, match="Locks of devices must be writable"):
        runtime.take_device(["GPU-a"])


def test_devices_that_a_cluster_numbers_from_0_in_every_job_are_told_apart(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    held = []
    for uuid in ("GPU-a", "GPU-b"):
        pretend(monkeypatch, tmp_path, uuid)
        assert runtime.pick_device().index == 0
        held += runtime._device_locks.values()
    for lock in held:
        lock.close()
    assert sorted(path.name for path in tmp_path.glob("*.lock")) == ["GPU-a.lock", "GPU-b.lock"]


@pytest.mark.slow
def test_rooms_without_torch_stay_without_it() -> None:
    modules = ["config", "tables", "runtime", "digests", "interpolation", "claims.judging.job"]
    modules += ["papers.sparse.summary", "analysis.distances", "analysis.fits", "analysis.metrics", "figures"]
    modules += ["data.prepare", "probes.gather", "engine.plan", "engine.positions", "toys", "toys.quadratic_descent"]
    modules += ["quadratic_model", "toys.averaged_variance", "toys.quadratic_spectrum", "toys.equivalent_schedule"]
    program = "import sys\n" + "\n".join(f"import sgdline.{name}" for name in modules)
    program += "\nprint([name for name in ('torch', 'torchvision', 'snakemake') if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def tf32_switches() -> dict[str, Any]:
    """Return all switches of TF32; reading one that contradicts another is an error of torch's."""
    cuda, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    found = {"matmul": cuda.allow_tf32, "cudnn": cudnn.allow_tf32, "precision": torch.get_float32_matmul_precision()}
    if hasattr(cuda, "fp32_precision"):
        found |= {"new": [place.fp32_precision for place in (cuda, cudnn.conv, cudnn.rnn)]}
        found |= {"cpu": torch.backends.mkldnn.matmul.fp32_precision}
    return found


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
@pytest.mark.parametrize("convolutions", [True, False])
def test_switches_of_tf32_agree_and_come_back(precision: str, convolutions: bool) -> None:
    saved = runtime.set_tf32(False)
    try:
        torch.set_float32_matmul_precision(precision)
        torch.backends.cudnn.allow_tf32 = convolutions
        before = tf32_switches()
        outer = runtime.set_tf32(False)
        off = tf32_switches()
        inner = runtime.set_tf32(True)
        on = tf32_switches()
        runtime.restore_tf32(inner)
        assert tf32_switches() == off
        runtime.restore_tf32(outer)
        assert tf32_switches() == before
    finally:
        runtime.restore_tf32(saved)
    assert (off["matmul"], off["cudnn"], off["precision"]) == (False, False, "highest")
    assert (on["matmul"], on["cudnn"], on["precision"]) == (True, True, "high")
    if "new" in off:
        assert (off["new"], on["new"]) == (["ieee"] * 3, ["tf32"] * 3)


@pytest.mark.skipif(not hasattr(torch.backends.cudnn, "rnn"), reason="torch before 2.9 has one set of switches")
def test_switches_that_contradict_are_set_all_the_same() -> None:
    saved = runtime.set_tf32(False)
    try:
        torch.backends.cudnn.rnn.fp32_precision = "tf32"
        with pytest.raises(RuntimeError, match="allow_tf32"):
            tf32_switches()
        before = runtime.set_tf32(False)
        assert tf32_switches()["new"] == ["ieee"] * 3
        runtime.restore_tf32(before)
        assert torch.backends.cudnn.rnn.fp32_precision == "tf32"
    finally:
        runtime.restore_tf32(saved)


@pytest.mark.parametrize(("given", "gpu", "fine"), [
    (None, True, True), (":16:8", True, True), (":4096:2:16:8", True, False), ("", True, False), ("x", False, True)
])  # fmt: skip
def test_a_workspace_with_which_products_are_not_deterministic_is_refused(
    monkeypatch: pytest.MonkeyPatch, given: str | None, gpu: bool, fine: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "remembered by monkeypatch")
    if given is None:
        monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    else:
        monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", given)
    mode, saved = torch.get_deterministic_debug_mode(), runtime.set_tf32(False)
    try:
        if fine:
            runtime.use_deterministic_kernels()
            assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == (given or ":4096:8")
        else:
            with pytest.raises(SgdlineError, match=r"^CUBLAS_WORKSPACE_CONFIG must be :4096:8 or :16:8 .*Unset it or"):
                runtime.use_deterministic_kernels()
    finally:
        torch.set_deterministic_debug_mode(mode)
        runtime.restore_tf32(saved)
