"""All runs of a workflow together: the table of claims, the same over seeds, and a page for a reader."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from sgdline.analysis.claims import MEANINGS, STATEMENTS, Claim, PooledClaim, mae_by_step, pool_claims, run_claims
from sgdline.analysis.columns import as_floats
from sgdline.analysis.curves import FloatArray
from sgdline.analysis.divergence import diverged_at
from sgdline.tables import provenance, read_table
from sgdline.tables.kinds.line import LINE
from sgdline.tables.kinds.line_batch_sizes import LINE_BATCH_SIZES
from sgdline.tables.kinds.line_fits import LINE_FITS
from sgdline.tables.kinds.line_metrics import LINE_METRICS
from sgdline.tables.kinds.line_strategies import LINE_STRATEGIES
from sgdline.tables.kinds.trace import TRACE

_RUN_COLUMNS = ("experiment", "model", "lr", "batch_size", "seed")
CLAIM_COLUMNS = (*_RUN_COLUMNS, *(field.name for field in dataclasses.fields(Claim)))
POOLED_COLUMNS = (*_RUN_COLUMNS[:-1], *(field.name for field in dataclasses.fields(PooledClaim)))


@dataclass(frozen=True)
class RunTables:
    """One run and the tables that its claims are read from."""

    experiment: str
    model: str
    lr: float
    batch_size: int
    seed: int
    trace: Path
    line: Path
    line_fits: Path
    line_metrics: Path
    line_strategies: Path
    line_batch_sizes: Path | None = None  # None: no losses of samples were kept


@dataclass(frozen=True)
class _RunSummary:
    """What the summary says about one run; NaN or None where it does not exist."""

    run: RunTables
    claims: tuple[Claim, ...]
    updates: int
    full_batch_loss: float  # at the last measured line with a finite loss at 0, nats
    batch_loss: float  # of the last update, nats
    diverged_at: int | None  # see sgdline.analysis.divergence
    lines: int
    unresolved: int  # lines above the tolerance of adaptive positions
    edges: int  # lines with a minimum at the end of what was measured
    median_evaluations: float
    median_interpolation_error: float  # nats
    largest_interpolation_error: float  # nats
    quarter_ratios: tuple[tuple[float, float, float], ...]  # quartiles of M10 in each quarter of the lines
    median_mae: tuple[float, float]  # degrees 1 and 2, nats
    replay_drift: float
    batch_norm: str
    dataset: str
    samples: str
    optimizer: str
    compat: bool  # strategies and batch sizes by the released rules


def aggregate_claims(
    runs: Sequence[RunTables], *, claims_output: str | Path, pooled_output: str | Path, summary_output: str | Path
) -> None:
    """Write the claims of all runs as CSV and a summary that a person can read as Markdown.

    Args:
        runs: Runs of any number of experiments, in any order.
        claims_output: CSV with one row per run and claim, columns `CLAIM_COLUMNS`; an undefined value is empty.
        pooled_output: CSV with one row per claim and group of runs that differ in their seed only, columns
            `POOLED_COLUMNS`.
        summary_output: Markdown page: per experiment a table of runs, a matrix of claims, and what holds how often.

    Raises:
        SgdlineError: If a table is missing or damaged.
    """
    ordered = sorted(runs, key=lambda run: (run.experiment, run.model, run.lr, run.batch_size, run.seed))
    summaries = [_summarise(run) for run in ordered]
    rows = [
        (*(getattr(run, name) for name in _RUN_COLUMNS), *dataclasses.astuple(claim))
        for run, summary in zip(ordered, summaries, strict=True)
        for claim in summary.claims
    ]
    frame = pd.DataFrame(rows, columns=list(CLAIM_COLUMNS))
    _write_text(claims_output, frame.to_csv(index=False, lineterminator="\n"))
    pooled = [
        (*(getattr(group[0].run, name) for name in _RUN_COLUMNS[:-1]), *dataclasses.astuple(claim))
        for group in _seed_groups(summaries)
        for claim in _pooled(group)
    ]
    frame = pd.DataFrame(pooled, columns=list(POOLED_COLUMNS))
    _write_text(pooled_output, frame.to_csv(index=False, lineterminator="\n"))
    _write_text(summary_output, _summary_page(summaries))


def _seed_groups(summaries: Sequence[_RunSummary]) -> Iterator[list[_RunSummary]]:
    """Yield the runs that differ in their seed only; the runs come in order."""
    for _, group in groupby(summaries, key=lambda entry: dataclasses.astuple(entry.run)[: len(_RUN_COLUMNS) - 1]):
        yield list(group)


def _pooled(group: Sequence[_RunSummary]) -> list[PooledClaim]:
    return [pool_claims(claims) for claims in zip(*(entry.claims for entry in group), strict=True)]


def _finite(values: FloatArray) -> FloatArray:
    return values[np.isfinite(values)]


def _median(values: FloatArray) -> float:
    finite = _finite(values)
    return float(np.median(finite)) if finite.size else math.nan


def _quartiles(values: FloatArray) -> tuple[float, float, float]:
    finite = _finite(values)
    low, median, high = np.quantile(finite, [0.25, 0.5, 0.75]).tolist() if finite.size else [math.nan] * 3
    return low, median, high


def _summarise(run: RunTables) -> _RunSummary:
    trace = read_table(run.trace, TRACE)
    line = read_table(run.line, LINE, columns=["step", "evaluations", "interpolation_error", "status"])
    line_fits = read_table(run.line_fits, LINE_FITS)
    line_metrics = read_table(run.line_metrics, LINE_METRICS)
    line_strategies = read_table(run.line_strategies, LINE_STRATEGIES)
    line_batch_sizes = None
    if run.line_batch_sizes is not None:
        line_batch_sizes = read_table(run.line_batch_sizes, LINE_BATCH_SIZES)
    errors = _finite(as_floats(line, "interpolation_error"))
    ratios = as_floats(line_metrics, "line_search_ratio")
    at_zero = _finite(as_floats(line_metrics, "loss_at_zero"))
    batch_loss = as_floats(trace, "batch_loss")
    facts = {**provenance(trace), **provenance(line)}
    return _RunSummary(
        run=run,
        claims=run_claims(
            trace=trace,
            line_fits=line_fits,
            line_metrics=line_metrics,
            line_strategies=line_strategies,
            line_batch_sizes=line_batch_sizes,
        ),
        updates=trace.num_rows,
        full_batch_loss=float(at_zero[-1]) if at_zero.size else math.nan,
        batch_loss=float(batch_loss[-1]) if batch_loss.size else math.nan,
        diverged_at=diverged_at(trace),
        lines=line.num_rows,
        unresolved=line.column("status").to_pylist().count("unresolved"),
        edges=line.column("status").to_pylist().count("edge"),
        median_evaluations=_median(as_floats(line, "evaluations")),
        median_interpolation_error=_median(errors),
        largest_interpolation_error=float(errors.max()) if errors.size else math.nan,
        quarter_ratios=tuple(_quartiles(part) for part in np.array_split(ratios, 4)),
        median_mae=(_median_mae(line_fits, 1), _median_mae(line_fits, 2)),
        replay_drift=math.nan if facts.get("replay_drift") is None else float(facts["replay_drift"]),
        batch_norm=_named(facts.get("batch_norm")),
        dataset=_named(facts.get("dataset")),
        samples=_named(facts.get("samples")),
        optimizer=_optimizer(facts),
        compat=bool(provenance(line_strategies).get("compat")),
    )


def _median_mae(line_fits: pa.Table, degree: int) -> float:
    return _median(np.array(list(mae_by_step(line_fits, degree).values()), dtype=np.float64))


def _optimizer(facts: Mapping[str, Any]) -> str:
    """Return the update rule of a run and its options that are not zero, from the config slice in its metadata."""
    if facts.get("imported"):
        return "imported lines"
    block = facts.get("slice", {}).get("training", {}).get("optimizer", {})
    name = block.get("name", "-")
    options = {**block, **block.get(name, {})}
    words = [f"{key} {value}" for key, value in options.items() if key not in ("name", name) and value]
    return ", ".join([name, *words])


def _named(fact: Any) -> str:
    return "-" if fact is None else str(fact)


def _write_text(path: str | Path, text: str) -> None:
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(target.name + ".writing")
    unfinished.write_text(text, encoding="utf-8", newline="\n")
    unfinished.replace(target)


def _number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.{digits}g}"


def _markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    # A vertical bar would end the cell.
    lines = [[cell.replace("|", "\\|") for cell in row] for row in (header, *rows)]
    rule = ["---"] * len(header)
    return ["| " + " | ".join(row) + " |" for row in (lines[0], rule, *lines[1:])]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _summary_page(summaries: Sequence[_RunSummary]) -> str:
    page = ["# Summary of all runs", ""]
    diverged = sum(summary.diverged_at is not None for summary in summaries)
    experiments = len({summary.run.experiment for summary in summaries})
    page += [
        f"{_count(len(summaries), 'run')} in {_count(experiments, 'experiment')}; "
        f"{diverged} diverged. Losses in nats, lengths Euclidean. `-`: the number does not exist.",
        "",
    ]
    for experiment, group in groupby(summaries, key=lambda summary: summary.run.experiment):
        page += _experiment_section(experiment, list(group))
    page += ["## How the claims are measured", ""]
    page += [f"- {claim}: {statement}; {MEANINGS[claim]}." for claim, statement in STATEMENTS.items()]
    return "\n".join(page).rstrip() + "\n"


def _experiment_section(experiment: str, summaries: Sequence[_RunSummary]) -> list[str]:
    settings = sorted({(entry.dataset, entry.samples, entry.batch_norm, entry.optimizer) for entry in summaries})
    section = [f"## {experiment}", ""]
    section += [
        f"Measured on data set {dataset}, N = {samples}, BatchNorm mode {mode}. Optimizer: {optimizer}."
        for dataset, samples, mode, optimizer in settings
        if (dataset, samples, mode) != ("-", "-", "-")
    ]
    if any(entry.compat for entry in summaries):
        section += ["C3, C3-PAL and C4 by the rules of the released code (analysis.compat)."]
    section += ["", "### Runs", "", *_run_table(summaries), ""]
    section += ["### Lines", "", *_line_table(summaries), ""]
    section += ["### Claims", "", *_claim_matrix(summaries), ""]
    section += ["### Over seeds", "", *_seed_table(summaries), ""]
    section += [*_sentences(summaries), ""]
    return section


_RUN_HEADER = ("model", "lr", "batch size", "seed")


def _run_cells(run: RunTables) -> list[str]:
    return [run.model, f"{run.lr:g}", str(run.batch_size), str(run.seed)]


def _run_table(summaries: Sequence[_RunSummary]) -> list[str]:
    header = [
        *_RUN_HEADER,
        "updates",
        "full-batch loss at last line",
        "last batch loss",
        "diverged at step",
        "lines",
        "of these unresolved",
        "with a minimum on the edge",
        "median evaluations per line",
        "median interpolation error",
        "max interpolation error",
        "max replay drift",
    ]
    rows = [
        [
            *_run_cells(entry.run),
            str(entry.updates),
            _number(entry.full_batch_loss, 4),
            _number(entry.batch_loss, 4),
            "no" if entry.diverged_at is None else str(entry.diverged_at),
            str(entry.lines),
            str(entry.unresolved),
            str(entry.edges),
            _number(entry.median_evaluations),
            _number(entry.median_interpolation_error, 2),
            _number(entry.largest_interpolation_error, 2),
            _number(entry.replay_drift, 2),
        ]
        for entry in summaries
    ]
    return _markdown_table(header, rows)


def _line_table(summaries: Sequence[_RunSummary]) -> list[str]:
    header = [
        *_RUN_HEADER,
        *(f"s_opt/||m_t|| (quartiles), quarter {quarter}" for quarter in (1, 2, 3, 4)),
        "median MAE degree 1",
        "median MAE degree 2",
    ]
    rows = [
        [
            *_run_cells(entry.run),
            *(
                "-" if math.isnan(median) else f"{_number(median)} ({_number(low)} to {_number(high)})"
                for low, median, high in entry.quarter_ratios
            ),
            *(_number(mae, 2) for mae in entry.median_mae),
        ]
        for entry in summaries
    ]
    return _markdown_table(header, rows)


def _claim_matrix(summaries: Sequence[_RunSummary]) -> list[str]:
    header = [*_RUN_HEADER, *(f"{claim.claim} ({claim.relation} {claim.threshold})" for claim in summaries[0].claims)]
    rows = [
        [
            *_run_cells(entry.run),
            *(
                f"{claim.verdict} ({_number(claim.value)})" if claim.value is not None else claim.verdict
                for claim in entry.claims
            ),
        ]
        for entry in summaries
    ]
    return _markdown_table(header, rows)


def _seed_table(summaries: Sequence[_RunSummary]) -> list[str]:
    """Pool runs that differ in their seed only: how many hold each claim, and the median judged value."""
    rows = []
    for pooled in _seed_groups(summaries):
        cells = [f"{claim.holds} of {claim.seeds} (median {_number(claim.value)})" for claim in _pooled(pooled)]
        diverged = sum(entry.diverged_at is not None for entry in pooled)
        losses = np.array([entry.full_batch_loss for entry in pooled])
        rows.append(
            [*_run_cells(pooled[0].run)[:3], str(len(pooled)), str(diverged), _number(_median(losses), 4), *cells]
        )
    names = [f"{claim.claim} holds" for claim in summaries[0].claims]
    header = [*_RUN_HEADER[:3], "seeds", "diverged", "median full-batch loss at last line", *names]
    return _markdown_table(header, rows)


def _sentences(summaries: Sequence[_RunSummary]) -> list[str]:
    total = len(summaries)
    sentences = []
    for claims in zip(*(entry.claims for entry in summaries), strict=True):
        verdicts = [claim.verdict for claim in claims]
        name = claims[0].claim
        sentences.append(
            f"- {name} ({MEANINGS[name]}) holds in {verdicts.count('holds')} of {_count(total, 'run')}, fails in "
            f"{verdicts.count('fails')}, is undetermined in {verdicts.count('undetermined')}."
        )
    bad = [entry for entry in summaries if entry.diverged_at is not None]
    if bad:
        listed = ", ".join(
            f"{entry.run.model} lr {entry.run.lr:g} batch size {entry.run.batch_size} seed {entry.run.seed} "
            f"(step {entry.diverged_at})"
            for entry in bad
        )
        sentences.append(f"- {_count(len(bad), 'run')} of {total} diverged: {listed}.")
    return sentences
