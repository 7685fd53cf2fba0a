"""Claims of papers as numbers held against thresholds, for one run and over seeds.

Each paper has a module beside this one with its statements and with functions from tables to claims.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Statement:
    """What a paper says, as a number with a threshold."""

    paper: str
    claim: str  # its short name, as in papers.md
    number: str  # what is computed
    meaning: str  # what holds where the number is within the threshold; a sentence of the summary
    relation: str  # < | <= | > | >= | from
    threshold: float | tuple[float, float]  # two for the relation "from"

    @property
    def threshold_text(self) -> str:
        """The threshold as text: a number, or two with "to" between them."""
        if isinstance(self.threshold, tuple):
            low, high = self.threshold
            return f"{low:g} to {high:g}"
        return f"{self.threshold:g}"


@dataclass(frozen=True)
class Claim:
    """One number of one run, or of runs compared, beside the threshold that it is held against."""

    paper: str
    claim: str
    statement: str
    value: float | None  # None: the number does not exist
    threshold: str  # a number, or two with "to" between them
    relation: str  # < | <= | > | >= | from
    verdict: str  # holds | fails | undetermined
    observations: int  # lines, intervals, updates or runs that the number rests on


def judge(statement: Statement, value: float, *, observations: int) -> Claim:
    """Hold a value against the threshold; NaN is undetermined, infinity is a value.

    Args:
        statement: What is claimed.
        value: Its number.
        observations: Lines, intervals, updates or runs that the number rests on.
    """
    threshold = statement.threshold
    low, high = threshold if isinstance(threshold, tuple) else (threshold, threshold)
    verdict = "undetermined"
    if not math.isnan(value):
        holds = {
            "<": value < low,
            "<=": value <= low,
            ">": value > low,
            ">=": value >= low,
            "from": low <= value <= high,
        }[statement.relation]
        verdict = "holds" if holds else "fails"
    return Claim(
        paper=statement.paper,
        claim=statement.claim,
        statement=statement.number,
        value=None if math.isnan(value) else value,
        threshold=statement.threshold_text,
        relation=statement.relation,
        verdict=verdict,
        observations=observations,
    )


@dataclass(frozen=True)
class PooledClaim:
    """One claim over the runs that differ in their seed only."""

    paper: str
    claim: str
    statement: str
    value: float | None  # median over the seeds that are judged
    lowest: float | None
    highest: float | None
    threshold: str
    relation: str
    verdict: str  # holds | fails: in every judged seed; mixed; undetermined: no seed is judged
    holds: int  # seeds
    fails: int
    undetermined: int
    seeds: int
    observations: int  # in all seeds together


def pool_claims(claims: Sequence[Claim]) -> PooledClaim:
    """Pool the same claim of several seeds.

    Args:
        claims: At least one, all of the same name.
    """
    first = claims[0]
    judged = [claim for claim in claims if claim.verdict != "undetermined" and claim.value is not None]
    values = np.array([claim.value for claim in judged], dtype=np.float64)
    verdicts = [claim.verdict for claim in claims]
    found = {claim.verdict for claim in judged}
    return PooledClaim(
        paper=first.paper,
        claim=first.claim,
        statement=first.statement,
        value=float(np.median(values)) if judged else None,
        lowest=float(values.min()) if judged else None,
        highest=float(values.max()) if judged else None,
        threshold=first.threshold,
        relation=first.relation,
        verdict="undetermined" if not found else "mixed" if len(found) > 1 else found.pop(),
        holds=verdicts.count("holds"),
        fails=verdicts.count("fails"),
        undetermined=verdicts.count("undetermined"),
        seeds=len(claims),
        observations=sum(claim.observations for claim in claims),
    )
