"""One analysis of one run, as a job makes it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sgdline.analysis.kinds.base import Analysis, Files, Settings
from sgdline.declare.build import build
from sgdline.declare.registry import declaration
from sgdline.entries import working_directory_importable

if TYPE_CHECKING:
    from sgdline.tables import Facts


def analyse_run(
    analysis: str,
    files: Files,
    output: str | Path,
    *,
    options: Settings,
    settings: Settings,
    provenance: Facts,
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
