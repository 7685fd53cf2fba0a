"""What papers claim, found by their folders.

A paper is a folder `papers/<paper>/`. What it claims is in `claims.py`: `CLAIMS`, a tuple of
`sgdline.claims.base.Claim`. They are judged on the runs that figures of the paper draw; on every run that makes their
tables if the paper has no figures, or says `OF_EVERY_RUN = True`. Beside it may be `summary.py` with `SUMMARY`, tables
of runs for the paper's page, and `published.py` with `PUBLISHED`, the paper's own numbers; their forms are in
`sgdline.claims.judging.summary`.

Reading a paper imports neither torch nor scipy, so that a workflow can ask for all of them at its start.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from sgdline.claims.base import Claim
from sgdline.claims.judging.summary import Judged, Published, Summary

_ROOT = Path(__file__).parent
_PARTS = ("claims", "summary", "published")


@cache
def papers() -> tuple[str, ...]:
    """Return the names of the papers that claim something, sorted."""
    return tuple(sorted(file.parent.name for file in _ROOT.glob("[!_]*/claims.py")))


def modules(paper: str) -> list[str]:
    """Return the modules of a paper that its claims and its page are made of."""
    return [f"sgdline.papers.{paper}.{part}" for part in _parts(paper)]


def _parts(paper: str) -> list[str]:
    return [part for part in _PARTS if _ROOT.joinpath(paper, f"{part}.py").is_file()]


def judged(paper: str) -> Judged:
    """Return what a paper claims, what its page shows, and its numbers.

    Args:
        paper: One of `papers()`.

    Raises:
        TypeError: If a module of the paper does not hold what it is for.
    """
    contents: dict[str, Any] = {}
    for part in _parts(paper):
        contents |= vars(import_module(f"sgdline.papers.{paper}.{part}"))
    claims, published = contents.get("CLAIMS"), contents.get("PUBLISHED", ())
    summary = contents.get("SUMMARY", Summary(title=paper, reads=()))
    for name, things, kind in (("CLAIMS", claims, Claim), ("PUBLISHED", published, Published)):
        if not isinstance(things, tuple) or not all(isinstance(thing, kind) for thing in things):
            raise TypeError(f"{name} of paper {paper!r} must be a tuple of {kind.__name__}, got {things!r}.")
    if not isinstance(summary, Summary):
        raise TypeError(f"SUMMARY of paper {paper!r} must be a Summary, got {summary!r}.")
    return Judged(
        name=paper,
        claims=claims or (),
        of_every_run=bool(contents.get("OF_EVERY_RUN")),
        summary=summary,
        published=published,
    )
