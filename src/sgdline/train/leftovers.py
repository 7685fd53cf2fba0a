"""What a finished training leaves beside its outputs, and its removal (no torch)."""

from __future__ import annotations

import shutil
from pathlib import Path


def forget_training(run: str | Path) -> None:
    """Remove what a finished training could go on from; one that is not finished is left alone.

    To be called when it is certain that Snakemake has noted the training's end: until then it may delete the outputs.

    Args:
        run: Folder of the run.
    """
    folder = Path(run)
    if folder.joinpath("trace.arrow").exists() and folder.joinpath("checkpoints").is_dir():
        shutil.rmtree(folder / "checkpoints.part", ignore_errors=True)
        folder.joinpath("trace.arrow.part").unlink(missing_ok=True)
