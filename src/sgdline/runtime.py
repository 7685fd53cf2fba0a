"""What every job needs: a log, a thread limit, a device, a progress report. Imports torch only when asked."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import logging
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

from sgdline.errors import SgdlineError

if TYPE_CHECKING:
    import torch

logger = logging.getLogger("sgdline")

# Options of glibc's mallopt (malloc.h).
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
T = TypeVar("T")

# Workspaces with which cuBLAS is deterministic.
_WORKSPACES = (":4096:8", ":16:8")

# What the machine, and not the code, is to blame for; what to do about it.
_MACHINE_FAULTS = {
    errno.ENOSPC: "Free some space on its disk",
    errno.EDQUOT: "Free some space within your quota",
    errno.EFBIG: "Raise the limit on the size of files (ulimit -f), or free some space",
    errno.EROFS: "Choose another folder for results, or make its disk writable",
    errno.EACCES: "Give yourself the right to read and write it",
    errno.EPERM: "Give yourself the right to read and write it",
    errno.EIO: "Check its disk",
    errno.ESTALE: "Check the file server",
    errno.EMFILE: "Raise the limit on open files (ulimit -n)",
    errno.ENFILE: "Raise the limit on open files (ulimit -n)",
}

_MISTAKES = (AssertionError, AttributeError, LookupError, NameError, TypeError)

# By the devices' UUIDs. Locks live as long as the process: a killed job cannot leave one behind.
_device_locks: dict[str, TextIO] = {}
# On the host itself, whatever TMPDIR says: a scheduler may give every job another one.
_LOCK_FOLDER = Path("/tmp", f"sgdline-devices-{os.getuid()}")
_PATIENCE = 3600.0
# With other workspaces cuBLAS adds up in an order that changes, and torch refuses it.
_WORKSPACES = (":4096:8", ":16:8")
_LOOK_AGAIN = 0.2
# Between two lines of progress, and before the first one; seconds.
_LONGEST_SILENCE = 30.0
_FIRST_LINE = 5.0


@dataclass(frozen=True)
class _Device:
    """A visible GPU."""

    uuid: str
    name: str


@contextmanager
def job(*, log: str | Path, threads: int = 1) -> Iterator[None]:
    """Run a rule's script: log to its file, limit its threads, end known faults with one sentence.

    Args:
        log: The rule's log file. Gets all messages, warnings and tracebacks; warnings go to stderr as well.
        threads: CPU threads that the job may use; more than it was given slows its neighbours down.

    Raises:
        SystemExit: With status 1 after a known fault, whose sentence stands on stderr. A full disk and the like are
            known faults too; what is finished stays, and so does what the job can go on from.
    """
    # Read by OpenMP at the first import of torch, hence before it.
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(threads)
    to_file = _LogFile(log)
    to_file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    to_stderr = logging.StreamHandler()
    to_stderr.setLevel(logging.WARNING)
    to_stderr.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.INFO)
    root.addHandler(to_file)
    root.addHandler(to_stderr)
    logging.captureWarnings(True)
    try:
        yield
    except SgdlineError as error:
        print(f"Error: {error}", file=sys.stderr)
        _write_traceback(to_file)
        raise SystemExit(1) from None
    except BaseException as error:
        _write_traceback(to_file)
        words = machine_fault(error) if isinstance(error, Exception) else None
        if words is None:
            raise
        print(f"Error: {words}", file=sys.stderr)
        raise SystemExit(1) from None
    finally:
        logging.captureWarnings(False)
        for handler in (to_file, to_stderr):
            root.removeHandler(handler)
            handler.close()
        root.setLevel(level)


class _LogFile(logging.FileHandler):
    """A log that does without what a full disk cannot take: the job's own fault is what the user has to see."""

    def __init__(self, path: str | Path) -> None:
        with suppress(OSError):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).write_text("")
        super().__init__(path, encoding="utf-8", errors="backslashreplace", delay=True)

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError):
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        pass

    def close(self) -> None:
        with suppress(OSError):
            super().close()


def _write_traceback(handler: logging.FileHandler) -> None:
    with (
        suppress(OSError),
        Path(handler.baseFilename).open("a", encoding="utf-8", errors="backslashreplace") as file,
    ):
        file.write(traceback.format_exc())


def machine_fault(error: BaseException) -> str | None:
    """Return one sentence for a fault of the machine, however many libraries have passed it on; None for others."""
    seen: BaseException | None = error
    while seen is not None:
        number = seen.errno if isinstance(seen, OSError) else None
        if number is None:  # Arrow and safetensors tell the number in words only
            found = re.search(r"\[errno (\d+)\]|\(os error (\d+)\)", str(seen))
            number = int(found[1] or found[2]) if found else None
        if number in _MACHINE_FAULTS:
            name = getattr(seen, "filename", None)
            what = f"{name} must be readable and writable" if name else "The files of this job must be writable"
            mend = f"{_MACHINE_FAULTS[number]}, then start again: what is finished stays"
            return f"{what}, got: {os.strerror(number)}. {mend}."
        # torch has an error of its own for GPUs, and only words for CPUs.
        of_torch = type(seen).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(seen)
        if isinstance(seen, MemoryError) or of_torch:
            return (
                "This job must fit into the memory, got less than it asked for. Give it more, run fewer jobs at once, "
                "or make the network, its batches or its data set smaller."
            )
        # A mistake in the handling of a fault is a mistake.
        passed_on = not (seen.__suppress_context__ or isinstance(seen, _MISTAKES))
        seen = seen.__cause__ or (seen.__context__ if passed_on else None)
    return None


def share_package() -> None:
    """Make this very copy of the package the one that child processes import."""
    source = str(Path(__file__).parents[1])
    others = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path not in ("", source)]
    os.environ["PYTHONPATH"] = os.pathsep.join([source, *others])


def set_threads(threads: int) -> None:
    """Limit torch to `threads` CPU threads within an operation."""
    import torch

    torch.set_num_threads(threads)


def keep_freed_memory() -> None:
    """Make the C library hold on to freed blocks instead of handing each one back to the system.

    Every layer of a forward pass allocates a block of megabytes. By default glibc asks the system for each of them
    and gives it back, and the system clears its pages every time: a quarter of the time of large passes on a CPU.
    Does nothing where the C library is another one.
    """
    import ctypes

    try:
        tune = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    tune(_M_MMAP_THRESHOLD, 2**30)
    tune(_M_TRIM_THRESHOLD, 2**31 - 1)


def use_deterministic_kernels() -> None:
    """Make torch refuse kernels whose result depends on the order of execution, and compute in true float32.

    TF32, torch's default for convolutions on recent GPUs, rounds to about 1e-3; losses along a line would be noisy.

    Raises:
        SgdlineError: If a GPU is visible and CUBLAS_WORKSPACE_CONFIG makes cuBLAS not deterministic.
    """
    import torch

    workspace = os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", _WORKSPACES[0])
    if workspace not in _WORKSPACES and torch.cuda.is_available():
        raise SgdlineError(
            f"CUBLAS_WORKSPACE_CONFIG must be {' or '.join(_WORKSPACES)} for deterministic products on a GPU, "
            f"got {workspace!r}. Unset it or set it to one of them."
        )
    # The same switch as use_deterministic_algorithms, which imports torch's compiler: over a second in every job.
    torch.set_deterministic_debug_mode("error")
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    set_tf32(False)


@dataclass(frozen=True)
class Tf32Settings:
    """What torch may compute in TF32, by its old switches and by those of torch 2.9 and later."""

    matmul: bool
    cudnn: bool
    precision: str | None  # torch.get_float32_matmul_precision; None: unknown to torch, as switches contradict
    # fp32_precision of the places that `_named_precisions` lists; None: as the old switches set it.
    named: tuple[str | None, ...]


def set_tf32(allowed: bool) -> Tf32Settings:
    """Allow or forbid TF32 in products, convolutions and RNNs on a GPU.

    Returns:
        What was set before, for `restore_tf32`.
    """
    before = _tf32_settings()
    name = "tf32" if allowed else "ieee"
    precision = "high" if allowed else "highest"
    # torch.set_float32_matmul_precision also sets the CPU's products, and torch demands that they agree.
    named = (name, name, name, None) if before.named else ()
    _set_tf32(Tf32Settings(allowed, allowed, precision, named))
    return before


def restore_tf32(settings: Tf32Settings) -> None:
    """Put back what `set_tf32` returned."""
    _set_tf32(settings)


def _tf32_settings() -> Tf32Settings:
    import torch

    places = _named_precisions()
    named = tuple(place.fp32_precision for place in places)

    def old(read: Callable[[], Any]) -> Any:
        # torch refuses to read an old switch that contradicts the new ones.
        try:
            return read()
        except RuntimeError:
            return None

    matmul = old(lambda: torch.backends.cuda.matmul.allow_tf32)
    cudnn = old(lambda: torch.backends.cudnn.allow_tf32)
    precision = old(torch.get_float32_matmul_precision)
    if places:
        matmul = named[0] == "tf32" if matmul is None else matmul
        cudnn = named[1] == "tf32" if cudnn is None else cudnn
    return Tf32Settings(bool(matmul), bool(cudnn), precision, named)


def _set_tf32(settings: Tf32Settings) -> None:
    """Set the old switches, which overwrite the new ones, then the new ones."""
    import torch

    if settings.precision is not None:
        torch.set_float32_matmul_precision(settings.precision)
    else:
        torch.backends.cuda.matmul.allow_tf32 = settings.matmul
    torch.backends.cudnn.allow_tf32 = settings.cudnn
    for place, name in zip(_named_precisions(), settings.named, strict=True):
        if name is not None:
            place.fp32_precision = name


def _named_precisions() -> list[Any]:
    """Return where the new switches are: products, convolutions, RNNs, the CPU's products; [] before torch 2.9."""
    import torch

    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    if not hasattr(matmul, "fp32_precision"):
        return []
    return [matmul, cudnn.conv, cudnn.rnn, torch.backends.mkldnn.matmul]  # type: ignore[attr-defined]


def set_up_torch(threads: int) -> torch.device:
    """Prepare torch for a job that trains or measures, the same for all of them, and return its device.

    Args:
        threads: CPU threads that the job may use.
    """
    set_threads(threads)
    keep_freed_memory()
    use_deterministic_kernels()
    return pick_device()


def pick_device() -> torch.device:
    """Take a free GPU for the life of this process, or fall back to the CPU with one log line.

    The local executor of Snakemake hands out no device numbers, so jobs agree by file locks. CUDA_VISIBLE_DEVICES is
    obeyed, as torch shows only the devices that it names, and so is a scheduler that sets it.

    Raises:
        SgdlineError: If no device became free (see `take_device`).
    """
    import torch

    devices = _visible_devices()
    if not devices:
        granted = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        if granted not in ("", "-1", "NoDevFiles"):  # the last is what Slurm says to a job without a GPU
            logger.warning(
                "PyTorch sees no GPU although CUDA_VISIBLE_DEVICES is %s; this job runs on the CPU.", granted
            )
        else:
            logger.info("No GPU is visible; this job runs on the CPU.")
        return torch.device("cpu")
    index = take_device([device.uuid for device in devices])
    # Streams, graphs and synchronisation that name no device mean the current one.
    torch.cuda.set_device(index)
    logger.info("This job runs on GPU %d (%s).", index, devices[index].name)
    return torch.device("cuda", index)


def _visible_devices() -> list[_Device]:
    """Return the GPUs that this process may use, in torch's order."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    found = [torch.cuda.get_device_properties(index) for index in range(count)]
    return [_Device(uuid=str(device.uuid), name=device.name) for device in found]


def take_device(uuids: Sequence[str], *, patience: float = _PATIENCE) -> int:
    """Lock one of several devices for the life of this process; wait for one if all are taken.

    A process that has one of them already keeps to it.

    One lock file per device and user, in a folder of the host: named by UUID, because a scheduler may call every job's
    own device 0. The kernel lets go of the lock when the process ends, however it ends.

    Args:
        uuids: The devices to choose from.
        patience: Seconds to wait for a free one. Whoever starts snakemake with --resources gpu=N, N the number of
            devices, waits for no longer than a process takes to end.

    Returns:
        Place of the device among `uuids`.

    Raises:
        SgdlineError: If all of them stayed taken for so long, or the locks cannot be written.
    """
    for index, uuid in enumerate(uuids):
        if uuid in _device_locks:
            return index
    started = time.monotonic()
    told = False
    while True:
        try:
            for index, uuid in enumerate(uuids):
                lock = _lock_device(uuid)
                if lock:
                    _device_locks[uuid] = lock
                    return index
            holders = " and ".join(_holder(uuid) for uuid in uuids)
        except OSError as error:
            raise SgdlineError(
                f"Locks of devices must be writable, got {error}. Free space for {_LOCK_FOLDER}, or mend its rights."
            ) from error
        if time.monotonic() - started > patience:
            raise SgdlineError(
                f"One of {len(uuids)} visible GPUs must become free within {patience / 60:.3g} minutes, got none "
                f"(taken by {holders}). Wait for the others to end and run again with --resources gpu={len(uuids)}."
            )
        if not told:
            logger.warning(
                "Every visible GPU is taken (by %s); this job waits up to %.3g minutes. "
                "Start snakemake with --resources gpu=%d.",
                holders,
                patience / 60,
                len(uuids),
            )
            told = True
        time.sleep(_LOOK_AGAIN)


def _lock_file(uuid: str) -> Path:
    return _LOCK_FOLDER / f"{uuid}.lock"


def _holder(uuid: str) -> str:
    """Return who has a device, as its lock says."""
    with suppress(FileNotFoundError):
        return f"process {_lock_file(uuid).read_text(encoding='utf-8') or 'unknown'}"
    return "nobody any more"


def _lock_device(uuid: str) -> TextIO | None:
    """Lock a device and write this process into the lock's file; None if another one has it."""
    _LOCK_FOLDER.mkdir(mode=0o700, exist_ok=True)
    path = _lock_file(uuid)
    lock = path.open("a", encoding="utf-8")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # A file that was removed meanwhile (who cleans the folder locks it first, too) would lock nothing for others.
        if os.path.samestat(os.fstat(lock.fileno()), path.stat()):
            with suppress(OSError):  # a full disk; who has the device is for a message only
                lock.truncate(0)
                lock.write(str(os.getpid()))
                lock.flush()
            return lock
    except (BlockingIOError, FileNotFoundError):
        pass
    lock.close()
    return None


def write_text(path: str | Path, text: str) -> None:
    """Write a text file atomically, its folder included."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(target.name + ".writing")
    try:
        unfinished.write_text(text, encoding="utf-8", newline="\n")
        unfinished.replace(target)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def file_digest(path: str | Path) -> str:
    """Return a digest of a file's content, sixteen hexadecimal digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def device_name(device: torch.device) -> str:
    """Return the name of a device for the metadata: the GPU's own name, or cpu."""
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def progress(items: Iterable[T], *, total: int, label: str) -> Iterator[T]:
    """Yield the items of a job's main loop, with log lines by time and a progress bar on a terminal.

    The first line comes after some seconds, then one at least every 30 s, whatever an item takes: with the number
    done, the rate and the time left, of this loop and of those inside it (`inner_progress`, `counting`, `beat`).

    Args:
        items: What to iterate over.
        total: Their number.
        label: What is going on, for the reader.
    """
    from tqdm import tqdm

    with (
        tqdm(total=total, desc=label, leave=False, mininterval=1.0, disable=not sys.stderr.isatty()) as bar,
        _running(_Loop(label, total, _now(), bar)) as loop,
    ):
        for item in items:
            yield item
            bar.update()
            loop.advance()
        seconds = loop.reached - loop.started
        logger.info("%s: %d in %s, %s", label, loop.done, _duration(seconds), _rate(loop.done, seconds))


def inner_progress(items: Iterable[T], *, total: int, label: str) -> Iterator[T]:
    """Yield the items of a loop inside a job's main loop, or of one that others call: it has lines, but no end and bar.

    Args:
        items: What to iterate over.
        total: Their number.
        label: What an item is, in the plural.
    """
    with _running(_Loop(label, total, _now())) as loop:
        for item in items:
            yield item
            loop.advance()


@contextmanager
def counting(label: str, *, total: int | None = None) -> Iterator[Callable[..., None]]:
    """Yield a function that counts work which no loop of ours goes through, such as the products of a Lanczos run.

    Args:
        label: What is counted, in the plural.
        total: Their number; None if nobody knows it beforehand.
    """
    with _running(_Loop(label, total, _now())) as loop:
        yield loop.advance


def beat() -> None:
    """Write a line on all running loops if one is due: for every piece of work that may take seconds.

    Costs a fraction of a microsecond. A line is due before the next piece, if that took as long as the last one, would
    end more than 30 s after the last line.
    """
    if _loops:
        _beat_at(_now())


def _beat_at(now: float) -> None:
    piece = now - _times.beat
    _times.beat = now
    if now + piece <= _times.due:
        return
    _times.due = now + _LONGEST_SILENCE
    logger.info("%s", "; ".join(loop.words(now) for loop in _loops))
    bar, inner = _loops[0].bar, [loop.words(now) for loop in _loops[1:]]
    if bar is not None and not bar.disable:
        bar.set_postfix_str("; ".join(inner))


@dataclass(eq=False)
class _Loop:
    """A loop that is under way."""

    label: str
    total: int | None
    started: float
    bar: Any = None  # on a terminal
    done: int = 0
    reached: float = 0.0  # when it came so far

    def advance(self, done: int = 1) -> None:
        """Count some pieces of work as done."""
        self.done += done
        self.reached = _now()
        _beat_at(self.reached)

    def words(self, now: float) -> str:
        of_all = "" if self.total is None else f" of {self.total}"
        text = f"{self.label}: {self.done}{of_all}"
        seconds = self.reached - self.started  # what an unfinished piece takes says nothing about the others
        if not self.done or seconds <= 0:
            return text
        text += f", {_rate(self.done, seconds)}"
        if self.total is None:
            return text
        left = (self.total - self.done) * seconds / self.done - (now - self.reached)
        return f"{text}, {_duration(max(left, 0.0))} left"


@dataclass
class _Times:
    """Of this process, as there is one log."""

    beat: float = 0.0
    due: float = 0.0  # the next line


_loops: list[_Loop] = []  # the outermost first
_times = _Times()


def _now() -> float:
    return time.monotonic()


@contextmanager
def _running(loop: _Loop) -> Iterator[_Loop]:
    if not _loops:
        _times.beat = loop.started
        _times.due = loop.started + _FIRST_LINE
    _loops.append(loop)
    try:
        yield loop
    finally:
        _loops.remove(loop)


def _rate(done: int, seconds: float) -> str:
    per_second = done / max(seconds, 1e-9)
    for unit, length in (("second", 1), ("minute", 60)):
        if per_second * length >= 1:
            return f"{per_second * length:.3g} a {unit}"
    return f"{per_second * 3600:.3g} an hour"


def _duration(seconds: float) -> str:
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.3g} s"
