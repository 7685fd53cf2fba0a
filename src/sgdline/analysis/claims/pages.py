"""Claims as tables and pages: what all papers' summaries have in common."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sgdline.analysis.claims.judging import Claim, PooledClaim, Statement, pool_claims
from sgdline.analysis.curves import FloatArray
from sgdline.runtime import write_text

_RUN_COLUMNS = ("experiment", "model", "lr", "batch_size", "seed")
CLAIM_COLUMNS = (*_RUN_COLUMNS, *(field.name for field in dataclasses.fields(Claim)))
POOLED_COLUMNS = (*_RUN_COLUMNS[:-1], *(field.name for field in dataclasses.fields(PooledClaim)))
RUN_HEADER = ("model", "lr", "batch size", "seed")


@dataclass(frozen=True, kw_only=True)
class JudgedRun:
    """A run, or what several of them have in common, and its claims. None: the claim compares over that key."""

    experiment: str
    model: str
    lr: float | None
    batch_size: int | None
    seed: int
    claims: tuple[Claim, ...]


def write_claims(judged: Sequence[JudgedRun], *, claims_output: str | Path, pooled_output: str | Path) -> None:
    """Write the claims of runs and the same over seeds as CSV.

    Args:
        judged: In the order of the rows; those that differ in their seed only stand together.
        claims_output: One row per run and claim, columns `CLAIM_COLUMNS`; an undefined value is empty.
        pooled_output: One row per claim and group of runs that differ in their seed only, columns `POOLED_COLUMNS`.
    """
    rows = [
        (*(getattr(run, name) for name in _RUN_COLUMNS), *dataclasses.astuple(claim))
        for run in judged
        for claim in run.claims
    ]
    _write_csv(claims_output, rows, CLAIM_COLUMNS)
    pooled = [
        (*(getattr(group[0], name) for name in _RUN_COLUMNS[:-1]), *dataclasses.astuple(claim))
        for group in seed_groups(judged)
        for claim in pooled_claims(group)
    ]
    _write_csv(pooled_output, pooled, POOLED_COLUMNS)


def _write_csv(path: str | Path, rows: Sequence[Sequence[Any]], columns: Sequence[str]) -> None:
    # Objects: a column of batch sizes with a gap would become one of floats.
    frame = pd.DataFrame(rows, columns=list(columns), dtype=object)
    write_text(path, frame.to_csv(index=False, lineterminator="\n"))


def join_claims(tables: Sequence[str | Path], *, output: str | Path) -> None:
    """Join CSV tables of equal columns, in their order.

    Args:
        tables: Tables of `write_claims`, at least one.
        output: CSV to write.
    """
    texts = [Path(path).read_text(encoding="utf-8") for path in tables]
    header = texts[0].partition("\n")[0]
    write_text(output, "\n".join([header, *(text.partition("\n")[2].rstrip("\n") for text in texts)]).rstrip() + "\n")


def join_pages(pages: Sequence[str | Path], *, output: str | Path) -> None:
    """Join Markdown pages under one heading.

    Args:
        pages: One page per paper.
        output: Page to write.
    """
    texts = [Path(path).read_text(encoding="utf-8").strip() for path in pages]
    note = "Losses in nats, lengths Euclidean. `-`: the number does not exist."
    write_text(output, "\n\n".join(["# Summary of all runs", note, *texts]) + "\n")


def seed_groups(judged: Sequence[JudgedRun]) -> Iterator[list[JudgedRun]]:
    """Yield the runs that differ in their seed only; the runs come in order."""
    for _, group in groupby(judged, key=lambda run: tuple(getattr(run, name) for name in _RUN_COLUMNS[:-1])):
        yield list(group)


def pooled_claims(group: Sequence[JudgedRun]) -> list[PooledClaim]:
    """Return each claim over the seeds of a group."""
    return [pool_claims(claims) for claims in zip(*(run.claims for run in group), strict=True)]


def finite(values: FloatArray) -> FloatArray:
    """Return the finite ones of some values."""
    return values[np.isfinite(values)]


def median(values: FloatArray) -> float:
    """Return the median of the finite values; NaN if there are none."""
    some = finite(values)
    return float(np.median(some)) if some.size else math.nan


def number(value: float | None, digits: int = 3) -> str:
    """Return a number for a cell; a dash if it does not exist."""
    return "-" if value is None or math.isnan(value) else f"{value:.{digits}g}"


def count(number: int, noun: str) -> str:
    """Return a number with its noun in the singular or plural."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table."""
    # A vertical bar would end the cell.
    lines = [[cell.replace("|", "\\|") for cell in row] for row in (header, *rows)]
    rule = ["---"] * len(header)
    return ["| " + " | ".join(row) + " |" for row in (lines[0], rule, *lines[1:])]


def run_cells(run: JudgedRun) -> list[str]:
    """Return the cells under `RUN_HEADER`; `all` where a claim compares over that key."""
    size = "all" if run.batch_size is None else str(run.batch_size)
    return [run.model, "all" if run.lr is None else f"{run.lr:g}", size, str(run.seed)]


def claim_matrix(judged: Sequence[JudgedRun]) -> list[str]:
    """Return a Markdown table with a row per run and a column per claim."""
    header = [*RUN_HEADER, *(f"{claim.claim} ({claim.relation} {claim.threshold})" for claim in judged[0].claims)]
    rows = [
        [
            *run_cells(run),
            *(
                f"{claim.verdict} ({number(claim.value)})" if claim.value is not None else claim.verdict
                for claim in run.claims
            ),
        ]
        for run in judged
    ]
    return markdown_table(header, rows)


def seed_table(
    judged: Sequence[JudgedRun],
    *,
    header: Sequence[str] = (),
    cells: Callable[[Sequence[JudgedRun]], Sequence[str]] = lambda group: (),
) -> list[str]:
    """Return a Markdown table over what differs in its seed only: how many hold each claim, and the median value.

    Args:
        judged: At least one entry, all with the same claims.
        header: Names of further columns.
        cells: Their cells for the entries of one row.
    """
    rows = []
    for group in seed_groups(judged):
        held = [f"{claim.holds} of {claim.seeds} (median {number(claim.value)})" for claim in pooled_claims(group)]
        rows.append([*run_cells(group[0])[:3], str(len(group)), *cells(group), *held])
    names = [f"{claim.claim} holds" for claim in judged[0].claims]
    return markdown_table([*RUN_HEADER[:3], "seeds", *header, *names], rows)


def claim_sentences(judged: Sequence[JudgedRun], statements: Mapping[str, Statement]) -> list[str]:
    """Return one sentence per claim: in how many runs it holds."""
    sentences = []
    for claims in zip(*(run.claims for run in judged), strict=True):
        verdicts = [claim.verdict for claim in claims]
        name = claims[0].claim
        sentences.append(
            f"- {name} ({statements[name].meaning}) holds in {verdicts.count('holds')} of "
            f"{count(len(judged), 'run')}, fails in {verdicts.count('fails')}, is undetermined in "
            f"{verdicts.count('undetermined')}."
        )
    return sentences


def statement_list(statements: Mapping[str, Statement]) -> list[str]:
    """Return one line per claim that says how it is measured."""
    return [f"- {claim}: {statement.number}; {statement.meaning}." for claim, statement in statements.items()]
