"""Numbers held against thresholds: of every subject, and over seeds."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from sgdline.claims.base import DIVERGED, About, Claim, EachRun, Key, Subject, Threshold, Value
from sgdline.claims.judging.measured import MeasuredRun, MeasuredToy


@dataclass(frozen=True)
class JudgedClaim:
    """One number beside the threshold that it is held against."""

    paper: str  # or own: a claim of the configuration
    claim: str  # its short name
    statement: str  # what is computed
    value: float | None  # None: the number does not exist
    threshold: str  # a number, or two with "to" between them
    relation: str  # < | <= | > | >= | from
    verdict: str  # holds | fails | undetermined
    observations: int  # lines, intervals, updates, batches or runs that the number rests on
    reason: str  # why it is undetermined; empty where it is not


@dataclass(frozen=True, eq=False)
class Entry:
    """A subject and its claims."""

    key: Key
    runs: tuple[MeasuredRun, ...]
    claims: tuple[JudgedClaim, ...]


def threshold_text(threshold: Threshold) -> str:
    """Return a threshold as text: a number, or two with "to" between them."""
    if isinstance(threshold, tuple):
        low, high = threshold
        return f"{low:g} to {high:g}"
    return f"{threshold:g}"


def judge(claim: Claim[Any], value: Value, *, paper: str, diverged: bool = False) -> JudgedClaim:
    """Hold a value against the threshold; NaN is undetermined, infinity is a value.

    Args:
        claim: What is claimed.
        value: Its number.
        paper: Who claims it.
        diverged: Whether the run diverged: its claims are undetermined, whatever their numbers.
    """
    number = float(value.number)
    low, high = claim.threshold if isinstance(claim.threshold, tuple) else (claim.threshold, claim.threshold)
    holds = {
        "<": number < low,
        "<=": number <= low,
        ">": number > low,
        ">=": number >= low,
        "from": low <= number <= high,
    }[claim.relation]
    reason = DIVERGED if diverged else value.reason if math.isnan(number) else ""
    return JudgedClaim(
        paper=paper,
        claim=claim.name,
        statement=claim.number,
        value=None if math.isnan(number) else number,
        threshold=threshold_text(claim.threshold),
        relation=claim.relation,
        verdict="undetermined" if reason else "holds" if holds else "fails",
        observations=int(value.observations),
        reason=reason,
    )


def judge_all(
    claims: Sequence[Claim[Any]], runs: Iterable[MeasuredRun], toys: Sequence[MeasuredToy] = (), *, paper: str
) -> list[Entry]:
    """Judge claims on all that they are about.

    Args:
        claims: Of one paper, or one of the configuration.
        runs: In any order.
        toys: In the order of the configuration.
        paper: Who claims them.

    Returns:
        One entry per run that a claim is about, then one per comparison and per seed of a toy; those that differ in
        their seed only come one after the other.
    """
    ordered = sorted(runs, key=lambda run: run.order)
    of_runs: dict[MeasuredRun, list[JudgedClaim]] = {run: [] for run in ordered}
    others: dict[tuple[About[Any], Key], tuple[Subject[Any], list[JudgedClaim]]] = {}
    subjects: dict[About[Any], list[Subject[Any]]] = {}
    for claim in claims:
        about = claim.about
        if about not in subjects:
            subjects[about] = list(about.subjects(ordered, toys))
            # In their order, which a claim that passes some of them over does not change.
            if not isinstance(about, EachRun):
                others |= {(about, subject.key): (subject, []) for subject in subjects[about]}
        for subject in subjects[about]:
            value = claim.value(subject.what)
            if value is None:
                continue
            judged = judge(claim, value, paper=paper, diverged=subject.diverged)
            if isinstance(about, EachRun):
                # What is claimed of one run comes together, whichever tables it is read from.
                of_runs[subject.what].append(judged)
            else:
                others[about, subject.key][1].append(judged)
    alone = [Entry(run.key, (run,), tuple(judged)) for run, judged in of_runs.items() if judged]
    return alone + [Entry(subject.key, subject.runs, tuple(judged)) for subject, judged in others.values() if judged]


def seed_groups(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    """Yield the entries that differ in their seed only; they come one after the other."""
    for _, group in groupby(entries, key=lambda entry: entry.key[:-1]):
        yield list(group)


@dataclass(frozen=True)
class PooledClaim:
    """One claim over what differs in its seed only."""

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
    reason: str  # why seeds are undetermined, and how many; empty where none is


def pool(claims: Sequence[JudgedClaim]) -> PooledClaim:
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
        reason=reasons(claims),
    )


def pooled(group: Sequence[Entry]) -> list[PooledClaim]:
    """Return each claim over the seeds of a group."""
    return [pool(claims) for claims in zip(*(entry.claims for entry in group), strict=True)]


def reasons(claims: Iterable[JudgedClaim]) -> str:
    """Return why some claims are undetermined, with the number of them where there are several; empty if none is."""
    counted = Counter(claim.reason for claim in claims if claim.reason)
    return "; ".join(reason if number == 1 else f"{reason} ({number})" for reason, number in counted.items())
