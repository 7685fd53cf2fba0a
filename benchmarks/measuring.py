"""Worker processes, medians and memory: what every part of the benchmark needs. Imports no torch."""

from __future__ import annotations

import multiprocessing
import os
import resource
import statistics
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

_SPAWN = multiprocessing.get_context("spawn")


def median(values: Sequence[float]) -> float:
    """Return the median."""
    return float(statistics.median(values))


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return median, least, largest and number of some values."""
    return {"median": median(values), "min": min(values), "max": max(values), "count": len(values)}


def memory_bytes() -> dict[str, int]:
    """Return the resident memory of this process now and at most."""
    status = Path("/proc/self/status")
    if not status.exists():
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return {"now": peak, "peak": peak}
    fields = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
    # VmHWM belongs to this program alone; ru_maxrss would inherit the parent's.
    return {"now": int(fields["VmRSS"].split()[0]) * 1024, "peak": int(fields["VmHWM"].split()[0]) * 1024}


class WorkerError(Exception):
    """A worker failed; the message is its traceback."""


class Worker:
    """An object in a process of its own; its methods are called from here, one at a time."""

    def __init__(self, factory: Callable[..., Any], *arguments: Any, cores: int, **options: Any) -> None:
        """Start the process; `ready` waits for it.

        Args:
            factory: Makes the object, in the process.
            arguments: Its arguments.
            cores: CPU threads of the process at most.
            options: More arguments.
        """
        # Read by OpenMP when the process loads it.
        os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(cores)
        self._connection, theirs = _SPAWN.Pipe()
        self._process = _SPAWN.Process(target=_serve, args=(theirs, factory, arguments, options), daemon=True)
        self._process.start()
        theirs.close()

    def ready(self) -> None:
        """Wait until the object is made; to be called once, before any other method.

        Raises:
            WorkerError: If making it fails.
        """
        self._receive()

    def call(self, method: str, *arguments: Any, **options: Any) -> Any:
        """Call a method and return its result.

        Raises:
            WorkerError: If it raises, or the process dies.
        """
        self._connection.send((method, arguments, options))
        return self._receive()

    def _receive(self) -> Any:
        try:
            worked, result = self._connection.recv()
        except EOFError:
            self._process.join()
            raise WorkerError(f"the process died with exit status {self._process.exitcode}") from None
        if not worked:
            raise WorkerError(result)
        return result

    def close(self) -> None:
        """End the process."""
        self._connection.close()
        self._process.join(10)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


@contextmanager
def worker(factory: Callable[..., Any], *arguments: Any, cores: int, **options: Any) -> Iterator[Worker]:
    """Yield a `Worker`, not ready yet, and end it."""
    made = Worker(factory, *arguments, cores=cores, **options)
    try:
        yield made
    finally:
        made.close()


class _Caller:
    def call(self, function: Callable[..., Any], arguments: Any, options: Any) -> Any:
        return function(*arguments, **options)


def in_process(function: Callable[..., Any], *arguments: Any, cores: int, **options: Any) -> Any:
    """Call a function in a process of its own and return its result."""
    with worker(_Caller, cores=cores) as process:
        process.ready()
        return process.call("call", function, arguments, options)


def _serve(connection: Connection, factory: Callable[..., Any], arguments: Any, options: Any) -> None:
    def answer(function: Callable[..., Any], arguments: Any, options: Any) -> Any:
        try:
            result = function(*arguments, **options)
        except Exception:
            connection.send((False, traceback.format_exc()))
            return None
        connection.send((True, None if function is factory else result))
        return result

    subject = answer(factory, arguments, options)
    while True:
        try:
            method, arguments, options = connection.recv()
        except EOFError:
            return
        answer(getattr(subject, method), arguments, options)
