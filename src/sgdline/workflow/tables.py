"""Tables of runs: what probes and analyses make of each."""

from __future__ import annotations

from collections.abc import Iterable

from sgdline.analysis.made import Analysed, analyses_of, read_at_any_hand
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


def probes_read(config: Config, experiment: str, kinds: Iterable[str]) -> list[str]:
    """Return the probes that tables are made from, at first or second hand, in the order of the experiment.

    Args:
        config: A resolved configuration.
        experiment: Name of the experiment.
        kinds: Kinds of the tables; one that the experiment does not make comes from nothing.
    """
    block = named(config, "experiments", experiment, kind="experiments")
    read = read_at_any_hand(kinds, analyses(config, experiment))
    return [probe for probe in map(label, block["probes"]) if probe in read]
