"""Tables of runs: what probes and analyses make of each."""

from __future__ import annotations

from sgdline.analysis.made import Analysed, analyses_of
from sgdline.declare.registry import label
from sgdline.workflow.runs import Config, named


def analyses(config: Config, experiment: str) -> dict[str, Analysed]:
    """Return the analyses of an experiment's runs by the kinds of their tables: each after those whose tables it reads.

    Raises:
        SgdlineError: If the configuration has no such experiment, or an analysis of the user's cannot be imported.
    """
    block = named(config, "experiments", experiment, kind="experiments")
    return analyses_of(block["probes"], block["analysis"]["extra"], optimizer=block["optimizer"])


def kinds_made(config: Config, experiment: str) -> list[str]:
    """Return the kinds of tables of an experiment's runs beside the trace: of its probes, then of its analyses."""
    block = named(config, "experiments", experiment, kind="experiments")
    return [*map(label, block["probes"]), *analyses(config, experiment)]
