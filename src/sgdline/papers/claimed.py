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
from typing import Any

from sgdline.claims.base import Claim
from sgdline.claims.judging.summary import Judged, Published, Summary
from sgdline.declare.faults import value_words
from sgdline.errors import SgdlineError
from sgdline.papers.base import has_part, papers_with, part_of

_PARTS = ("claims", "summary", "published")


@cache
def papers() -> tuple[str, ...]:
    """Return the names of the papers that claim something, sorted."""
    return papers_with("claims")


def modules(paper: str) -> list[str]:
    """Return the modules of a paper that its claims and its page are made of."""
    return [f"sgdline.papers.{paper}.{part}" for part in _parts(paper)]


def _parts(paper: str) -> list[str]:
    return [part for part in _PARTS if has_part(paper, part)]


def judged(paper: str) -> Judged:
    """Return what a paper claims, what its page shows, and its numbers.

    Args:
        paper: One of `papers()`.

    Raises:
        SgdlineError: If a module of the paper cannot be imported, or does not hold what it is for.
    """
    contents: dict[str, Any] = {}
    for part in _parts(paper):
        contents |= part_of(paper, part)
    claims, published = contents.get("CLAIMS"), contents.get("PUBLISHED", ())
    summary = contents.get("SUMMARY", Summary(title=paper, reads=()))
    for part, things, kind in (("claims", claims, Claim), ("published", published, Published)):
        if not isinstance(things, tuple) or not all(isinstance(thing, kind) for thing in things):
            got = value_words(things)
            if isinstance(things, tuple):
                got = f"one with {value_words(next(thing for thing in things if not isinstance(thing, kind)))}"
            place = f"{part.upper()} of sgdline/papers/{paper}/{part}.py"
            raise SgdlineError(f"{place} must be a tuple of {kind.__name__}, got {got}. Correct it.")
    if not isinstance(summary, Summary):
        place = f"SUMMARY of sgdline/papers/{paper}/summary.py"
        raise SgdlineError(f"{place} must be a Summary, got {value_words(summary)}. Correct it.")
    return Judged(
        name=paper,
        claims=tuple(claims or ()),
        of_every_run=bool(contents.get("OF_EVERY_RUN")),
        summary=summary,
        published=published,
    )
