"""Claims as tables and pages, the same for all papers."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from sgdline.claims.base import Key
from sgdline.claims.judging.measured import MeasuredRun, MeasuredToy
from sgdline.claims.judging.summary import Judged
from sgdline.claims.judging.verdicts import (
    Entry,
    JudgedClaim,
    PooledClaim,
    pooled,
    reasons,
    seed_groups,
    threshold_text,
)
from sgdline.extras import extra_packages
from sgdline.markdown import count, markdown_table, number, sentence
from sgdline.runtime import write_text

with extra_packages():
    import pandas as pd

CLAIM_COLUMNS = (*Key._fields, *(field.name for field in dataclasses.fields(JudgedClaim)))
POOLED_COLUMNS = (*Key._fields[:-1], *(field.name for field in dataclasses.fields(PooledClaim)), "published")
RUN_HEADER = ("model", "lr", "batch size", "seed")


def write_claims(entries: Sequence[Entry], judged: Judged, *, claims: str | Path, pooled_claims: str | Path) -> None:
    """Write claims, and the same over seeds, as CSV.

    Args:
        entries: In the order of the rows.
        judged: Whose claims they are.
        claims: One row per entry and claim, columns `CLAIM_COLUMNS`; an undefined value is empty.
        pooled_claims: One row per claim and entries that differ in their seed only, columns `POOLED_COLUMNS`.
    """
    rows = [(*entry.key, *dataclasses.astuple(claim)) for entry in entries for claim in entry.claims]
    over_seeds = [
        (*group[0].key[:-1], *dataclasses.astuple(claim), judged.published_for(claim.claim, [group[0].key.model]))
        for group in seed_groups(entries)
        for claim in pooled(group)
    ]
    _write_csv(claims, rows, CLAIM_COLUMNS)
    _write_csv(pooled_claims, over_seeds, POOLED_COLUMNS)


def _write_csv(path: str | Path, rows: Sequence[Sequence[Any]], columns: Sequence[str]) -> None:
    # Objects: a column of batch sizes with a gap would become one of floats.
    frame = pd.DataFrame(rows, columns=list(columns), dtype=object)
    write_text(path, frame.to_csv(index=False, lineterminator="\n"))


def join_claims(tables: Sequence[str | Path], *, output: str | Path, columns: Sequence[str]) -> None:
    """Join CSV tables of equal columns, in their order.

    Args:
        tables: Tables of `write_claims`.
        output: CSV to write.
        columns: Their columns, for a table without rows where there are none.
    """
    texts = [Path(path).read_text(encoding="utf-8").partition("\n")[2] for path in tables]
    write_text(output, "".join([",".join(columns), "\n", *texts]))


def join_pages(pages: Sequence[str | Path], *, output: str | Path) -> None:
    """Join Markdown pages under one heading.

    Args:
        pages: One page per paper.
        output: Page to write.
    """
    texts = [Path(path).read_text(encoding="utf-8").strip() for path in pages]
    note = "Losses in nats, lengths Euclidean. `-`: the number does not exist."
    write_text(output, "\n\n".join(["# Summary of all runs", note, *texts]) + "\n")


def page(
    judged: Judged, entries: Sequence[Entry], runs: Sequence[MeasuredRun], toys: Sequence[MeasuredToy] = ()
) -> str:
    """Return the page of a paper: of each toy and of each experiment its tables and its claims.

    Args:
        judged: Its claims, its tables of runs and its published numbers.
        entries: What was judged.
        runs: All runs, in the order of their keys.
        toys: In the order of the configuration.
    """
    summary = judged.summary
    experiments = [(name, list(group)) for name, group in groupby(runs, key=lambda run: run.settings.experiment)]
    diverged = sum(run.diverged for run in runs)
    counted = [count(len(toys), "toy")] if toys else []
    counted += [f"{count(len(runs), 'run')} in {count(len(experiments), 'experiment')}"]
    lines = [f"# {summary.title}", "", f"{'; '.join([*counted, f'{diverged} diverged'])}.", ""]
    lines += [summary.note, ""] if summary.note else []
    for toy in toys:
        own = [entry for entry in entries if not entry.runs and entry.key.experiment == toy.name]
        lines += [f"## {toy.name}", "", *summary.toy(toy), ""]
        lines += _claims(own, judged) if own else ["No claims: its settings do not differ as they need it.", ""]
    for name, group in experiments:
        lines += [f"## {name}", "", *_paragraph(summary.notes(group))]
        for table in summary.tables:
            rows = [[*run_cells(run.key), *cells] for run in group for cells in table.rows(run)]
            if rows:
                lines += [f"### {table.title}", "", *markdown_table([*RUN_HEADER, *table.header], rows), ""]
        own = [entry for entry in entries if entry.runs and entry.key.experiment == name]
        # Runs, and comparisons over one key or another, have claims of their own.
        for _, same in groupby(own, key=lambda entry: [claim.claim for claim in entry.claims]):
            lines += _claims(list(same), judged)
        lines += _paragraph(_diverged(group))
    lines += ["## How the claims are measured", "", *_statements(judged)]
    return "\n".join(lines).rstrip() + "\n"


def _paragraph(lines: Sequence[str]) -> list[str]:
    return [*lines, ""] if lines else []


def run_cells(key: Key) -> list[str]:
    """Return the cells under `RUN_HEADER`; `all` where a claim compares over that key."""
    size = "all" if key.batch_size is None else str(key.batch_size)
    return [key.model, "all" if key.lr is None else f"{key.lr:g}", size, str(key.seed)]


def _claims(entries: Sequence[Entry], judged: Judged) -> list[str]:
    """Return what is claimed of entries that have the same claims: each claim, each entry, and over seeds."""
    return [
        "### Claims",
        "",
        *_claim_table(entries, judged),
        "",
        *_entry_table(entries),
        "",
        *_seed_table(entries, judged),
        "",
    ]


def _claim_table(entries: Sequence[Entry], judged: Judged) -> list[str]:
    """Return a row per claim: what it says, and how often that is so."""
    meanings = {claim.name: claim.meaning for claim in judged.claims}
    models = [entry.key.model for entry in entries]
    rows = []
    for claims in zip(*(entry.claims for entry in entries), strict=True):
        first, verdicts = claims[0], [claim.verdict for claim in claims]
        rows.append(
            [
                f"{sentence(meanings[first.claim])} ({first.claim})",
                f"{first.relation} {first.threshold}",
                *(f"{verdicts.count(verdict)} of {len(claims)}" for verdict in ("holds", "fails", "undetermined")),
                reasons(claims) or "-",
                judged.published_for(first.claim, models) or "-",
            ]
        )
    return markdown_table(("claim", "must be", "holds", "fails", "undetermined", "because", "published"), rows)


def _entry_table(entries: Sequence[Entry]) -> list[str]:
    """Return a row per entry and a column per claim: verdicts with their numbers and, undetermined, reasons."""
    header = [*RUN_HEADER, *(f"{claim.claim} ({claim.relation} {claim.threshold})" for claim in entries[0].claims)]
    rows = [[*run_cells(entry.key), *map(_verdict, entry.claims)] for entry in entries]
    return markdown_table(header, rows)


def _verdict(claim: JudgedClaim) -> str:
    value = "" if claim.value is None else f" ({number(claim.value)})"
    return f"{claim.verdict}{value}: {claim.reason}" if claim.reason else f"{claim.verdict}{value}"


def _seed_table(entries: Sequence[Entry], judged: Judged) -> list[str]:
    """Return a row per entries that differ in their seed only: how many hold each claim, and the median value."""
    columns = judged.summary.over_seeds if all(len(entry.runs) == 1 for entry in entries) else {}
    rows = []
    for group in seed_groups(entries):
        runs = [run for entry in group for run in entry.runs]
        held = [f"{claim.holds} of {claim.seeds} (median {number(claim.value)})" for claim in pooled(group)]
        further = [cell(runs) for cell in columns.values()]
        rows.append([*run_cells(group[0].key)[:3], str(len(group)), *further, *held])
    names = [f"{claim.claim} holds" for claim in entries[0].claims]
    return markdown_table([*RUN_HEADER[:3], "seeds", *columns, *names], rows)


def _diverged(runs: Sequence[MeasuredRun]) -> list[str]:
    bad = [
        "{} lr {} batch size {} seed {}".format(*run_cells(run.key)) + f" (step {run.diverged_at})"
        for run in runs
        if run.diverged
    ]
    return [f"{count(len(bad), 'run')} of {len(runs)} diverged: {', '.join(bad)}."] if bad else []


def _statements(judged: Judged) -> Iterable[str]:
    """Return one line per claim that says how it is measured."""
    return dict.fromkeys(
        f"- {sentence(claim.meaning)} ({claim.name}): {claim.number}, "
        f"{claim.relation} {threshold_text(claim.threshold)}."
        for claim in judged.claims
    )
