"""Judge one claim on all runs that it is about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sgdline.analysis.claims.judging import Statement, judge
from sgdline.analysis.claims.pages import JudgedRun, claim_matrix, write_claims
from sgdline.claims.base import ClaimOptions
from sgdline.declare.registry import label
from sgdline.runtime import write_text
from sgdline.tables import kind_at, read_table


def judge_claim(
    name: str,
    claim: ClaimOptions,
    *,
    runs: Sequence[Mapping[str, Any]],
    tables: Mapping[str, Sequence[str | Path]],
    claims_output: str | Path,
    pooled_output: str | Path,
    summary_output: str | Path,
) -> None:
    """Write the verdict of every run, the same over seeds, and a page.

    Args:
        name: Name or entry of the claim.
        claim: Its declaration.
        runs: experiment, model, lr, batch_size and seed of each run; runs that differ in their seed only come together.
        tables: Kind -> table of each run, in the order of the runs.
        claims_output: CSV, one row per run.
        pooled_output: CSV, one row per setting, over its seeds.
        summary_output: Markdown.
    """
    statement = Statement("own", label(name), claim.number, claim.meaning, claim.relation, claim.threshold)
    judged = []
    for index, run in enumerate(runs):
        files = {kind: tables[kind][index] for kind in claim.reads}
        value, rows = claim.value({kind: read_table(path, kind_at(path, kind)) for kind, path in files.items()})
        judged.append(JudgedRun(**run, claims=(judge(statement, value, observations=rows),)))
    write_claims(judged, claims_output=claims_output, pooled_output=pooled_output)
    claimed = f"{claim.meaning[:1].upper()}{claim.meaning[1:]}".rstrip(".")
    page = [
        f"## {label(name)}",
        "",
        f"{claimed}: {claim.number} is {claim.relation} {statement.threshold_text}.",
        "",
        *claim_matrix(judged),
    ]
    write_text(summary_output, "\n".join(page) + "\n")
