"""The claims of linesearch on all runs: tables, the same over seeds, and a page for a reader."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from sgdline.analysis.claims.linesearch import STATEMENTS, mae_by_step, run_claims
from sgdline.analysis.claims.pages import (
    RUN_HEADER,
    JudgedRun,
    claim_matrix,
    claim_sentences,
    count,
    finite,
    markdown_table,
    median,
    number,
    run_cells,
    seed_table,
    statement_list,
    write_claims,
)
from sgdline.analysis.columns import as_floats
from sgdline.analysis.curves import FloatArray
from sgdline.analysis.divergence import diverged_at
from sgdline.probes.line.table import LINE
from sgdline.runtime import write_text
from sgdline.tables import provenance, read_table
from sgdline.tables.kinds.line_batch_sizes import LINE_BATCH_SIZES
from sgdline.tables.kinds.line_fits import LINE_FITS
from sgdline.tables.kinds.line_metrics import LINE_METRICS
from sgdline.tables.kinds.line_strategies import LINE_STRATEGIES
from sgdline.tables.kinds.trace import TRACE


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

    judged: JudgedRun
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


def judge_runs(
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
    write_claims([entry.judged for entry in summaries], claims_output=claims_output, pooled_output=pooled_output)
    write_text(summary_output, _summary_page(summaries))


def _quartiles(values: FloatArray) -> tuple[float, float, float]:
    some = finite(values)
    low, middle, high = np.quantile(some, [0.25, 0.5, 0.75]).tolist() if some.size else [math.nan] * 3
    return low, middle, high


def _summarise(run: RunTables) -> _RunSummary:
    trace = read_table(run.trace, TRACE)
    line = read_table(run.line, LINE, columns=["step", "evaluations", "interpolation_error", "status"])
    line_fits = read_table(run.line_fits, LINE_FITS)
    line_metrics = read_table(run.line_metrics, LINE_METRICS)
    line_strategies = read_table(run.line_strategies, LINE_STRATEGIES)
    line_batch_sizes = None
    if run.line_batch_sizes is not None:
        line_batch_sizes = read_table(run.line_batch_sizes, LINE_BATCH_SIZES)
    errors = finite(as_floats(line, "interpolation_error"))
    ratios = as_floats(line_metrics, "line_search_ratio")
    at_zero = finite(as_floats(line_metrics, "loss_at_zero"))
    batch_loss = as_floats(trace, "batch_loss")
    facts = {**provenance(trace), **provenance(line)}
    return _RunSummary(
        judged=JudgedRun(
            experiment=run.experiment,
            model=run.model,
            lr=run.lr if facts.get("imported_lr") is None else facts["imported_lr"],  # the config's is a label
            batch_size=run.batch_size,
            seed=run.seed,
            claims=run_claims(
                trace=trace,
                line_fits=line_fits,
                line_metrics=line_metrics,
                line_strategies=line_strategies,
                line_batch_sizes=line_batch_sizes,
            ),
        ),
        updates=trace.num_rows,
        full_batch_loss=float(at_zero[-1]) if at_zero.size else math.nan,
        batch_loss=float(batch_loss[-1]) if batch_loss.size else math.nan,
        diverged_at=diverged_at(trace),
        lines=line.num_rows,
        unresolved=line.column("status").to_pylist().count("unresolved"),
        edges=line.column("status").to_pylist().count("edge"),
        median_evaluations=median(as_floats(line, "evaluations")),
        median_interpolation_error=median(errors),
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
    return median(np.array(list(mae_by_step(line_fits, degree).values()), dtype=np.float64))


def _optimizer(facts: Mapping[str, Any]) -> str:
    """Return the update rule of a run and its options that are not zero, from the config slice in its metadata."""
    if facts.get("imported"):
        return "imported lines"
    block = facts.get("slice", {}).get("training", {}).get("optimizer", {})
    name = block.get("name", "-")
    words = [
        f"{key} {value}"
        for key, value in block.items()
        if key != "name" and value and value != "mean" and not isinstance(value, Mapping)
    ]
    return ", ".join([name, *words])


def _named(fact: Any) -> str:
    return "-" if fact is None else str(fact)


def _summary_page(summaries: Sequence[_RunSummary]) -> str:
    page = ["# Line search", ""]
    diverged = sum(summary.diverged_at is not None for summary in summaries)
    experiments = len({summary.judged.experiment for summary in summaries})
    page += [
        f"{count(len(summaries), 'run')} in {count(experiments, 'experiment')}; {diverged} diverged.",
        "",
    ]
    for experiment, group in groupby(summaries, key=lambda summary: summary.judged.experiment):
        page += _experiment_section(experiment, list(group))
    page += ["## How the claims are measured", "", *statement_list(STATEMENTS)]
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
    section += ["### Claims", "", *claim_matrix([entry.judged for entry in summaries]), ""]
    section += ["### Over seeds", "", *_seed_table(summaries), ""]
    section += [*_sentences(summaries), ""]
    return section


def _run_table(summaries: Sequence[_RunSummary]) -> list[str]:
    header = [
        *RUN_HEADER,
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
            *run_cells(entry.judged),
            str(entry.updates),
            number(entry.full_batch_loss, 4),
            number(entry.batch_loss, 4),
            "no" if entry.diverged_at is None else str(entry.diverged_at),
            str(entry.lines),
            str(entry.unresolved),
            str(entry.edges),
            number(entry.median_evaluations),
            number(entry.median_interpolation_error, 2),
            number(entry.largest_interpolation_error, 2),
            number(entry.replay_drift, 2),
        ]
        for entry in summaries
    ]
    return markdown_table(header, rows)


def _line_table(summaries: Sequence[_RunSummary]) -> list[str]:
    header = [
        *RUN_HEADER,
        *(f"s_opt/||m_t|| (quartiles), quarter {quarter}" for quarter in (1, 2, 3, 4)),
        "median MAE degree 1",
        "median MAE degree 2",
    ]
    rows = [
        [
            *run_cells(entry.judged),
            *(
                "-" if math.isnan(middle) else f"{number(middle)} ({number(low)} to {number(high)})"
                for low, middle, high in entry.quarter_ratios
            ),
            *(number(mae, 2) for mae in entry.median_mae),
        ]
        for entry in summaries
    ]
    return markdown_table(header, rows)


def _seed_table(summaries: Sequence[_RunSummary]) -> list[str]:
    """Pool runs that differ in their seed only, with their losses beside the claims."""
    by_run = {entry.judged: entry for entry in summaries}

    def cells(group: Sequence[JudgedRun]) -> list[str]:
        pooled = [by_run[run] for run in group]
        diverged = sum(entry.diverged_at is not None for entry in pooled)
        losses = np.array([entry.full_batch_loss for entry in pooled])
        return [str(diverged), number(median(losses), 4)]

    header = ("diverged", "median full-batch loss at last line")
    return seed_table([entry.judged for entry in summaries], header=header, cells=cells)


def _sentences(summaries: Sequence[_RunSummary]) -> list[str]:
    sentences = claim_sentences([entry.judged for entry in summaries], STATEMENTS)
    bad = [entry for entry in summaries if entry.diverged_at is not None]
    if bad:
        listed = ", ".join(
            f"{entry.judged.model} lr {entry.judged.lr:g} batch size {entry.judged.batch_size} seed "
            f"{entry.judged.seed} (step {entry.diverged_at})"
            for entry in bad
        )
        sentences.append(f"- {count(len(bad), 'run')} of {len(summaries)} diverged: {listed}.")
    return sentences
