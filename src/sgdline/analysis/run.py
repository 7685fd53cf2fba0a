"""One analysis of one run, as a job makes it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sgdline.analysis.kinds.base import Analysis
from sgdline.declare.build import build
from sgdline.declare.registry import declaration
from sgdline.entries import working_directory_importable


def analyse_run(
    analysis: str,
    files: Mapping[str, str | Path],
    output: str | Path,
    *,
    options: Mapping[str, Any],
    settings: Mapping[str, Any],
    provenance: Mapping[str, Any],
) -> None:
    """Make the table of one analysis.

    Args:
        analysis: Name or entry of its declaration.
        files: The tables that it reads, by kind.
        output: The table to write.
        options: Of the analysis itself.
        settings: Those of the run that it uses.
        provenance: Facts for the metadata.
    """
    declared = build(declaration("analysis", analysis), options)
    assert isinstance(declared, Analysis)
    with working_directory_importable(analysis):  # one of the user's may import modules beside its file while it runs
        declared.analyse(files, output, settings=settings, provenance=provenance)
