"""Tables of runs: what probes and the analysis make of each."""

from __future__ import annotations

from sgdline.workflow.layout import RunKey
from sgdline.workflow.runs import Config, experiment_of, measures, rule_of

# The tables that the analysis makes of a probe's.
ANALYSES = {
    "line": ("line_fits", "line_metrics", "line_distances", "line_strategies"),
    "mline": ("mline_metrics",),
    "one_step": ("one_step_metrics",),
}


def probed_kinds(config: Config, run: RunKey) -> list[str]:
    """Return the kinds of tables that come of single probes of a run: each probe's own, then what is made of it."""
    probes = experiment_of(config, run)["probes"]
    return [kind for probe in probes for kind in (probe, *ANALYSES.get(probe, ()))]


def joined_kinds(config: Config, run: RunKey) -> list[str]:
    """Return the kinds of tables that are made of several tables of a run."""
    found: list[str] = []
    if interval_source(config, run):
        found += ["intervals", "interval_epochs"]
    if measures(config, run, "averages", "spectrum") and rule_of(config, run).stationary_theory() is not None:
        found.append("predicted_gains")
    return found


def interval_source(config: Config, run: RunKey) -> str | None:
    """Return the probe that a run's intervals between iterates are taken from; None if nothing covers them."""
    probes = experiment_of(config, run)["probes"]
    if "interp" in probes:
        return "interp"
    return "line" if probes.get("line", {}).get("every") == 1 else None


def keeps_samples(config: Config, run: RunKey) -> bool:
    """Return whether a run has lines that come with the loss of every sample."""
    kept: bool = experiment_of(config, run)["probes"].get("line", {}).get("sample_losses", False)
    return kept
