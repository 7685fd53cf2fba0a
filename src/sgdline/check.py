"""A configuration read as the workflow reads it, without Snakemake (no torch)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from sgdline import config as settings
from sgdline.errors import SgdlineError
from sgdline.papers import claimed
from sgdline.workflow.runs import runs as runs_named
from sgdline.workflow.runs import toys as toys_named

_BASE = Path("config/config.yaml")


def check_configuration(overlays: Iterable[str | Path]) -> str:
    """Check `config/config.yaml` of the working directory with overlays, as `--configfile` would give them.

    Args:
        overlays: YAML or JSON files, the later one wins.

    Returns:
        One line that says what the configuration runs.

    Raises:
        ConfigError: If the configuration has faults.
        SgdlineError: If a file cannot be read.
    """
    given = [Path(path) for path in overlays]
    # Snakemake does without its own file if it gets others.
    files = settings.ConfigFiles([*([_BASE] if _BASE.exists() or not given else []), *given])
    if not files.readable:
        files.faults.raise_if_any()
    if files.merged.pop("__use_yte__", False):
        raise SgdlineError(
            "The configuration must be plain YAML, got a template (__use_yte__: true), which only Snakemake runs. "
            "Remove that line, or check with snakemake --dry-run."
        )
    config = settings.resolve_config(files.merged, files=files)
    for paper in claimed.papers():  # those that are being written may be at fault, and a job is late to say so
        claimed.judged(paper)
    runs, toys = runs_named(config), toys_named(config)
    experiments = {run.experiment for run in runs}
    updates = sum(config["experiments"][run.experiment]["steps"] for run in runs)
    counts = {"experiment": len(experiments), "run": len(runs), "update": updates, "toy": len(toys)}
    words = [f"{count:,} {name}{'' if count == 1 else 's'}" for name, count in counts.items()]
    return f"Sound: {', '.join(words)}; results go to {config['results']}."
