"""Claims of papers and of the configuration: which runs, toys and tables they are judged on."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, cast

from sgdline.config import training_images
from sgdline.declare.registry import code_of, declaration, label
from sgdline.papers.asked import asked
from sgdline.workflow.layout import OWN_CLAIMS, RunKey
from sgdline.workflow.runs import Config, experiment_of, runs, runs_of, starting_point, toys
from sgdline.workflow.slices import toy_slice

if TYPE_CHECKING:
    from sgdline.claims.base import ClaimOptions
    from sgdline.claims.judging.summary import Judged

Made = Callable[[str], Collection[str]]  # from an experiment to the kinds of tables of its runs beside the trace


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What one job of the rule `judge` is about.

    Attributes:
        name: A paper, or a claim of the configuration with `OWN_CLAIMS` before it: a value of the wildcard `judged`.
        runs: Runs, with the kinds of their tables that are read, the trace first.
        toys: Names of toys.
        code: Modules, or entries, that hold the claims.
        claim: Of a claim of the configuration its name or entry; None: a paper's.
    """

    name: str
    runs: tuple[tuple[RunKey, tuple[str, ...]], ...]
    toys: tuple[str, ...] = ()
    code: tuple[str, ...]
    claim: str | None = None


def run_settings(config: Config, run: RunKey) -> dict[str, Any]:
    """Return the fields of `sgdline.claims.judging.measured.RunSettings` of a run, as JSON."""
    block = experiment_of(config, run)
    copied = ("dataset", "steps", "optimizer", "schedule", "label_noise", "lr_unit")
    return {
        **asdict(run),
        "lr": float(run.lr),
        **{key: block[key] for key in copied},
        "start_from": starting_point(config, run),
        "whole_batches": run.batch_size == training_images(config, run.experiment),
    }


def toy_facts(config: Config, toy: str) -> dict[str, Any]:
    """Return the fields of `sgdline.claims.judging.job.AskedToy` of a toy, as JSON."""
    return {"name": toy, "kind": config["toys"][toy]["toy"], "settings": toy_slice(config, toy)}


def judgements(config: Config, *, drawing: Collection[str], made: Made) -> dict[str, Judgement]:
    """Return what is judged, by name: papers that a run or a toy serves, then claims about experiments that run.

    Args:
        config: A checked configuration.
        drawing: Papers that have figures; another one cannot say by them which runs are its own.
        made: From an experiment to the kinds of tables of its runs beside the trace.
    """
    # Imported lazily: papers import numpy, which many callers of this module do without.
    from sgdline.papers import claimed

    found = []
    for paper in claimed.papers():
        claims = claimed.judged(paper)
        among = runs(config) if claims.of_every_run or paper not in drawing else drawn_runs(config, paper)
        judgement = _of_paper(config, claims, among, code=tuple(claimed.modules(paper)), made=made)
        found += [judgement] if judgement is not None else []
    running = set(config["run"])
    for name, block in config["claims"].items():
        if set(block["experiments"]) <= running:
            kinds = kinds_read(name)
            about = tuple((run, kinds) for run in runs_of(config, block["experiments"]))
            own = f"{OWN_CLAIMS}/{label(name)}"
            found.append(Judgement(name=own, runs=about, code=(code_of("claim", name),), claim=name))
    return {judgement.name: judgement for judgement in found}


def _of_paper(
    config: Config, claims: Judged, among: Sequence[RunKey], *, code: tuple[str, ...], made: Made
) -> Judgement | None:
    """Return what a paper is judged on; None if no run and no toy serves one of its claims."""
    abouts = [claim.about for claim in claims.claims]
    summary, about, served = claims.summary, [], False
    for run in among:
        kinds = {"trace", *made(run.experiment)}
        serving = [each for each in abouts if each.reads and kinds.issuperset(each.reads)]
        asked = [kind for each in serving for kind in (*each.reads, *each.optional)]
        if kinds.issuperset(summary.reads):
            asked += [*summary.reads, *summary.optional]
        asked = [kind for kind in asked if kind in kinds]
        if asked:
            about.append((run, tuple(dict.fromkeys(["trace", *asked]))))
        served = served or bool(serving)
    kinds_of_toys = {kind for each in abouts for kind in each.toys}
    simulated = tuple(toy for toy in toys(config) if config["toys"][toy]["toy"] in kinds_of_toys)
    if not served and not simulated:
        return None
    return Judgement(name=claims.name, runs=tuple(about), toys=simulated, code=code)


def drawn_runs(config: Config, paper: str) -> list[RunKey]:
    """Return the runs of the experiments that figures of a paper draw, alone or compared."""
    drawn = {name: list(block["figures"]) for name, block in config["experiments"].items()}
    for block in config["comparisons"].values():
        for name in block["experiments"]:
            drawn[name].append(block["figure"])
    return [run for run in runs(config) if any(asked(figure).is_of == paper for figure in drawn[run.experiment])]


def kinds_read(name: str) -> tuple[str, ...]:
    """Return the kinds of tables that a claim of the configuration reads of every run, the trace first."""
    claim = cast("type[ClaimOptions]", declaration("claim", name))
    return tuple(dict.fromkeys(["trace", *claim.reads]))


def claim_settings(config: Config, judgement: Judgement) -> Mapping[str, Any] | None:
    """Return the options of a claim of the configuration; None of a paper's claims."""
    settings: Mapping[str, Any] | None = None if judgement.claim is None else config["claims"][judgement.claim]
    return settings
