"""Two processes of one group of torch.distributed, for tests."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from warm_python import PROGRAM


def run_two(script: str, store: Path, *, says: str, seconds: float) -> None:
    """Run a script as ranks 0 and 1, with the rank and the file to meet at as arguments; require what each says."""
    started = [
        subprocess.Popen(
            [os.environ[PROGRAM], "-c", script, str(rank), str(store)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        for process in started:
            text, errors = process.communicate(timeout=seconds)
            assert text == f"{says}\n", errors
            assert process.returncode == 0, errors
    finally:
        for process in started:
            process.kill()
