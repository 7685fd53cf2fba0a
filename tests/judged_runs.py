"""Runs and toys to judge, made up of tables in memory or of files, and what is claimed of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from sgdline.claims.judging.job import Asked, AskedRun, AskedToy, judge_claims
from sgdline.claims.judging.measured import MeasuredRun, RunSettings, Tables
from sgdline.claims.judging.verdicts import Entry, JudgedClaim, judge_all
from sgdline.declare.build import build
from sgdline.papers import claimed
from sgdline.tables import kind_of

SETTINGS: dict[str, Any] = {
    "experiment": "e",
    "model": "mlp",
    "lr": 0.1,
    "batch_size": 64,
    "seed": 1,
    "dataset": "digits",
    "steps": 100,
    "optimizer": {"name": "sgd"},
    "schedule": {"name": "constant"},
    "start_from": None,
    "label_noise": {"probability": 0.0},
    "lr_unit": "absolute",
    "whole_batches": False,
}


def filled(kind: str, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Return a table whose other columns are null or, where that is not allowed, zero."""
    zero: dict[Any, Any] = {pa.string(): "ok", pa.list_(pa.float64()): []}
    columns = {
        field.name: [row.get(field.name, None if field.nullable else zero.get(field.type, 0)) for row in rows]
        for field in kind_of(kind).schema
    }
    return pa.table(columns, schema=kind_of(kind).schema)


def of_columns(kind: str, count: int, **columns: Sequence[Any]) -> pa.Table:
    """Return such a table from its columns."""
    listed = {name: list(values) for name, values in columns.items()}
    return filled(kind, [{name: values[row] for name, values in listed.items()} for row in range(count)])


def whole_trace() -> pa.Table:
    return of_columns("trace", 20, step=range(20), batch_loss=[1.0] * 20)


def lost_trace() -> pa.Table:
    return of_columns("trace", 2, step=[0, 1], batch_loss=[1.0, float("nan")], status=["ok", "non_finite"])


def a_run(tables: Mapping[str, pa.Table | Path] | None = None, **changes: Any) -> MeasuredRun:
    """Return a run; without a trace among its tables it has one that did not diverge."""
    settings = build(RunSettings, SETTINGS | changes)
    return MeasuredRun(settings=settings, tables=Tables({"trace": whole_trace(), **(tables or {})}))


def changed(run: MeasuredRun, tables: Mapping[str, pa.Table] | None = None, **changes: Any) -> MeasuredRun:
    """Return a run with some of its settings and tables replaced."""
    own = build(RunSettings, SETTINGS | changes)
    merged = {name: getattr(own if name in changes else run.settings, name) for name in SETTINGS}
    return MeasuredRun(settings=RunSettings(**merged), tables=Tables({**dict(run.tables), **(tables or {})}))


def judged(paper: str, runs: Sequence[MeasuredRun]) -> list[Entry]:
    """Return what a paper claims of runs."""
    return judge_all(claimed.judged(paper).claims, runs, paper=paper)


def by_name(entries: Sequence[Entry]) -> dict[str, JudgedClaim]:
    """Return claims by their names."""
    return {claim.claim: claim for entry in entries for claim in entry.claims}


def claim_of(paper: str, name: str, run: MeasuredRun) -> JudgedClaim:
    """Return one claim of one run."""
    return by_name(judged(paper, [run]))[name]


def judged_files(
    paper: str,
    folder: Path,
    runs: Sequence[tuple[Mapping[str, Any], Mapping[str, Path]]],
    toys: Sequence[tuple[Mapping[str, Any], Path]] = (),
) -> tuple[pd.DataFrame, pd.DataFrame, str]:
    """Judge a paper from files to files, and return claims, the same over seeds, and the page.

    Args:
        paper: Its name.
        folder: Where `claims.csv`, `pooled.csv` and `summary.md` are written.
        runs: Settings that are not those of `SETTINGS`, and files by kind.
        toys: Name, kind and settings of each toy, and its file.
    """
    asked = Asked(
        claim=None,
        settings=None,
        runs=tuple(
            AskedRun(settings=build(RunSettings, SETTINGS | dict(settings)), kinds=tuple(files))
            for settings, files in runs
        ),
        toys=tuple(AskedToy(**toy) for toy, _ in toys),
    )
    judge_claims(
        claimed.judged(paper),
        asked,
        [*(path for _, files in runs for path in files.values()), *(path for _, path in toys)],
        claims_output=folder / "claims.csv",
        pooled_output=folder / "pooled.csv",
        summary_output=folder / "summary.md",
    )
    page = (folder / "summary.md").read_text()
    return pd.read_csv(folder / "claims.csv"), pd.read_csv(folder / "pooled.csv"), page
