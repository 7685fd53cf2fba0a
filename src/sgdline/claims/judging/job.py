"""Judge claims on all runs and toys that they are about, from files to files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sgdline.claims.judging.measured import MeasuredRun, MeasuredToy, RunSettings, Tables
from sgdline.claims.judging.pages import page, write_claims
from sgdline.claims.judging.summary import Judged, Summary
from sgdline.claims.judging.verdicts import judge_all
from sgdline.declare.build import build, build_thing
from sgdline.declare.registry import declaration, label
from sgdline.markdown import sentence
from sgdline.papers import claimed
from sgdline.runtime import write_text


@dataclass(frozen=True, kw_only=True)
class AskedRun:
    """A run to judge, and the kinds of its tables that are read, the trace first."""

    settings: RunSettings
    kinds: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class AskedToy:
    """A toy to judge."""

    name: str
    kind: str
    settings: dict[str, Any]  # its slice of the configuration, by its kind


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a job of the rule `judge` is about.

    Attributes:
        claim: Name or entry of a claim of the configuration; None: a paper's claims.
        settings: Options of that claim.
        runs: Runs that claims are judged on.
        toys: Toys.
    """

    claim: str | None
    settings: dict[str, Any] | None
    runs: tuple[AskedRun, ...]
    toys: tuple[AskedToy, ...]

    def judged(self, name: str) -> Judged:
        """Return the claims.

        Args:
            name: Of the paper.
        """
        if self.claim is None:
            return claimed.judged(name)
        options: Any = build(declaration("claim", self.claim), self.settings or {})
        claim = options.claim(label(self.claim))
        return Judged(name="own", claims=(claim,), summary=Summary(title=sentence(claim.meaning), reads=()))


def judge_claims(
    judged: Judged,
    asked: Asked,
    tables: Sequence[str | Path],
    *,
    claims_output: str | Path,
    pooled_output: str | Path,
    summary_output: str | Path,
) -> None:
    """Write the claims of all runs and toys as CSV, the same over seeds, and a page that a person can read.

    Args:
        judged: The claims, and what their page shows beside them.
        asked: The runs and toys that they are judged on.
        tables: Their files: of each run its kinds, then of each toy its table.
        claims_output: CSV with one row per subject and claim; see `pages.write_claims`.
        pooled_output: The same over seeds.
        summary_output: Markdown page: per toy and experiment its tables and its claims.

    Raises:
        SgdlineError: If a table is missing or damaged.
    """
    waiting = iter(tables)
    runs = [
        MeasuredRun(settings=run.settings, tables=Tables({kind: next(waiting) for kind in run.kinds}))
        for run in asked.runs
    ]
    toys = [
        MeasuredToy(
            name=toy.name,
            kind=toy.kind,
            options=build_thing("toy", {"toy": toy.kind, **toy.settings}, tag="toy"),
            tables=Tables({toy.kind: next(waiting)}),
        )
        for toy in asked.toys
    ]
    runs.sort(key=lambda run: run.order)
    entries = judge_all(judged.claims, runs, toys, paper=judged.name)
    text = page(judged, entries, runs, toys)
    write_claims(entries, judged, claims=claims_output, pooled_claims=pooled_output)
    write_text(summary_output, text)
