"""One CPU thread a process, and one server of Python processes for all tests."""

import os
from contextlib import ExitStack

import pytest
from warm_python import PROGRAM, warm_server

# The networks of the tests are too small for more threads, and others may be at work beside them.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_configure(config: pytest.Config) -> None:
    """Start the server, in the process that starts xdist's workers or is alone."""
    if PROGRAM in os.environ:
        return
    stack = ExitStack()
    config.add_cleanup(stack.close)
    os.environ[PROGRAM] = stack.enter_context(warm_server(hash_seed=1))
    stack.callback(os.environ.pop, PROGRAM)
