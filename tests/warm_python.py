"""Python processes that start with the libraries already imported.

Importing torch, Snakemake and matplotlib takes seconds of CPU time in each of the hundreds of processes that the tests
of the workflow start. A server imports them once and forks a process for each start of Python. The package itself is
not among them: each process imports it from where it runs, as an ordinary one does.

The processes of one server share their seed of hashes. Tests that compare two runs start them from different servers.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

# The variable that holds the program to start instead of Python; tests/conftest.py sets it.
PROGRAM = "SGDLINE_TESTS_PYTHON"
_PRELOADED = (
    "snakemake.cli",
    "snakemake.scheduling.job_scheduler",
    "snakemake.report",
    "snakemake.script",
    "snakemake_executor_plugin_slurm",
    "torch",
    "torchvision",
    "matplotlib.figure",
    "matplotlib.backends.backend_agg",
    "matplotlib.backends.backend_pdf",
    "scipy.sparse.linalg",
    "scipy.optimize",
    "sklearn.datasets",
    "safetensors.torch",
    "pyarrow.compute",
    "pandas",
    "tqdm",
)
_LENGTH = struct.Struct("!Q")


@contextmanager
def warm_server(*, hash_seed: int) -> Iterator[str]:
    """Start a server and yield the program to start instead of Python."""
    import shlex
    import subprocess
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory(prefix="sgdline_tests_") as folder:
        address, program = f"{folder}/socket", Path(folder, "python")
        # The client does without site's packages, whose lookup would double its 20 ms.
        words = [sys.executable, "-IS", __file__, address]
        program.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
        program.chmod(0o755)
        environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed), "OMP_NUM_THREADS": "1"}
        environment.pop("PYTHONPATH", None)
        with subprocess.Popen(
            [sys.executable, __file__, "--serve", address, program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        ) as server:
            assert server.stdin is not None
            assert server.stdout is not None
            server.stdout.readline()  # it listens
            try:
                yield str(program)
            finally:
                server.stdin.close()  # which ends it, as the end of this process would


def _serve(address: str, program: str) -> None:
    """Fork a process for each request, until the standard input ends. Only forked processes return."""
    import gc
    import importlib
    import select
    import signal

    folders = sys.path[1:]  # without that of this file
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(64)
    os.write(1, b"\n")
    os.dup2(2, 1)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # whose exit nobody waits for
    imported = False
    while True:
        readable, _, _ = select.select([listener, sys.stdin.fileno()], [], [])
        if listener not in readable:
            os.killpg(0, signal.SIGKILL)
        if not imported:  # with the first request: a session may start no workflow at all
            for module in _PRELOADED:
                with suppress(ImportError):  # Slurm's plugin is an extra
                    importlib.import_module(module)
            gc.collect()
            gc.freeze()
            imported = True
        connection, _ = listener.accept()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            listener.close()
            _run(connection, folders, program)
        connection.close()


def _run(connection: socket.socket, folders: list[str], program: str) -> NoReturn:
    """Become the Python process that a client asks for; its exit status goes to the client."""
    import atexit
    import runpy
    import threading
    import traceback

    message, descriptors, _, _ = socket.recv_fds(connection, _LENGTH.size, 3)
    (length,) = _LENGTH.unpack(message)
    text = b""
    while len(text) < length:
        text += connection.recv(length - len(text))
    threading.Thread(target=_end_with_client, args=(connection,), daemon=True).start()
    folder, count, *words = os.fsdecode(text).split("\0")
    arguments, variables = words[: int(count)], words[int(count) :]
    for target, descriptor in enumerate(descriptors):
        os.dup2(descriptor, target)
        os.close(descriptor)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variable.split("=", 1) for variable in variables)
    sys.executable = program
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    status = 1
    try:
        if arguments[0] == "-m":
            sys.argv = arguments[1:]
            sys.path[:] = [folder, *paths, *folders]
            runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        elif arguments[0] == "-c":
            sys.argv = ["-c", *arguments[2:]]
            sys.path[:] = ["", *paths, *folders]
            exec(compile(arguments[1], "<string>", "exec"), {"__name__": "__main__"})
        else:
            sys.argv = arguments
            sys.path[:] = [arguments[0].rpartition("/")[0], *paths, *folders]
            runpy.run_path(arguments[0], run_name="__main__")
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    connection.send(bytes([status]))
    os._exit(status)


def _end_with_client(connection: socket.socket) -> None:
    """End this process when its client is killed."""
    import signal

    connection.recv(1)
    os.kill(os.getpid(), signal.SIGKILL)


def _ask(address: str, arguments: list[str]) -> int:
    """Have a server run Python with these arguments, and return its exit status."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        folder = os.getcwd()  # noqa: PTH109 - the import of pathlib would take longer than the rest
        words = [folder, str(len(arguments)), *arguments, *(f"{key}={value}" for key, value in os.environ.items())]
        text = os.fsencode("\0".join(words))
        socket.send_fds(connection, [_LENGTH.pack(len(text))], [0, 1, 2])
        connection.sendall(text)
        answer = connection.recv(1)
    return answer[0] if answer else 1  # a process that is killed says nothing


if __name__ == "__main__":
    if sys.argv[1] == "--serve":
        _serve(*sys.argv[2:])
    sys.exit(_ask(sys.argv[1], sys.argv[2:]))
