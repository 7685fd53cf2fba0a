"""The record that a results folder keeps of what it is going to hold (no torch, no pyarrow)."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sgdline.errors import SgdlineError
from sgdline.runtime import write_text
from sgdline.workflow.layout import RECORD

if TYPE_CHECKING:
    from sgdline.workflow.runs import Config

_AGAIN = "Delete it and start Snakemake."


@dataclass(frozen=True)
class Expected:
    """What a results folder is going to hold."""

    config: dict[str, Any]  # resolved
    files: dict[str, list[str]]  # kind of file, in the reader's words -> paths below the folder
    recorded: float  # when it was written down, seconds since the epoch


def write_expected(
    results: str | Path, *, config: Config, files: Mapping[str, Sequence[str]], asked: Collection[str]
) -> None:
    """Write down what a results folder is going to hold.

    That is what the configuration names and Snakemake has been started for, now or at an earlier start: a table that no
    figure and no claim reads is made only if somebody asks for it.

    Args:
        results: The folder.
        config: The resolved configuration.
        files: Kind of file, in the reader's words -> paths of all that the configuration names, `results` included.
        asked: Paths of all that Snakemake makes now.

    Raises:
        SgdlineError: If the file cannot be written.
    """
    try:
        before = {path for paths in read_expected(results).files.values() for path in paths}
    except SgdlineError:
        before = set()
    below = {
        kind: [
            relative
            for relative, path in ((os.path.relpath(path, results), path) for path in paths)
            if path in asked or relative in before
        ]
        for kind, paths in files.items()
    }
    try:
        write_text(Path(results) / RECORD, json.dumps({"config": config, "files": below}, indent=1) + "\n")
    except OSError as error:
        raise SgdlineError(
            f"results must be a folder that can be written to, got {results} ({error.strerror}). "
            "Choose another, or make room."
        ) from error


def read_expected(results: str | Path) -> Expected:
    """Return what a results folder is going to hold.

    Raises:
        SgdlineError: If there is no such folder, or no sound record in it.
    """
    root = Path(results)
    if not root.is_dir():
        raise SgdlineError(f"The results must be a folder, got {root}. Name the one that the configuration names.")
    path = root / RECORD
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        config, files = record["config"], record["files"]
        sound = all(isinstance(config[key], dict) for key in ("experiments", "toys")) and isinstance(files, dict)
        recorded = path.stat().st_mtime
    except FileNotFoundError as error:
        raise SgdlineError(
            f"{path} must say what to expect, found nothing. It is written whenever Snakemake starts jobs; for results "
            "that are finished let one job run again: snakemake --cores 1 --forcerun gather_claims"
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SgdlineError(f"{path} must be a whole record, got a damaged one ({error!r}). {_AGAIN}") from error
    if not sound:
        raise SgdlineError(f"{path} must be a record of this version, got another. {_AGAIN}")
    return Expected(config, files, recorded)
