"""The core claims of linesearch as numbers with a verdict, for one run and for all runs of a workflow.

A claim compares one number of a run with a threshold. All of them take the lines of a run in the order of their
steps, T of them:

C1  A parabola describes the lines, a straight line does not: the median over lines of MAE_2 / MAE_1 (mean absolute
    residuals of the fits of degree 2 and 1, M12) is below 0.2. Lines without both fits, or with MAE_1 = 0, do not
    count.
C2  One learning rate fits all lines: over the middle half of the lines (indices T//4 to T - T//4 - 1) the quartiles
    of the ratio M10 lie within a factor 2 of its median, q25 >= median/2 and q75 <= 2*median. The value is
    max(q75/median, median/q25); infinite where q25 or the median is not positive. At least 4 ratios are needed.
C5  The full-batch minimum lies farther out where the gradient is larger: Pearson's correlation of s_opt (vertex, M1)
    with ||g_t|| is above 0.5. Lines of status ok and edge count. At least 3 lines, and neither series constant.
C6  Line shapes settle: the median consecutive distance (M11) of the last T//4 lines is at most 0.1 times that of the
    first 50 lines. The two parts must not overlap (T >= 66), and the second median must be positive.

A claim whose number does not exist is undetermined, and so is every claim of a run that diverged: its lines are
those of another, shorter run. The value stays where it exists. C3 and C4 need the strategies and the batch sizes of
M6 to M9 and M13.

Source: papers.md 2.4, core claims.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from sgdline.analysis.columns import as_floats
from sgdline.analysis.curves import BoolArray, FloatArray
from sgdline.analysis.divergence import diverged_at
from sgdline.tables import provenance, read_table

PAPER = "linesearch"
STATEMENTS: dict[str, str] = {
    "C1": "Median MAE of the parabola over MAE of the straight line",
    "C2": "Quartiles of s_opt/||m_t|| within this factor of the median, middle half of the run",
    "C5": "Correlation of s_opt with the gradient norm",
    "C6": "Consecutive line distance, last quarter over first 50 lines",
}
# What a claim says where it holds; sentences of the summary.
_MEANINGS: dict[str, str] = {
    "C1": "the full-batch loss along update directions is close to a parabola",
    "C2": "one fixed learning rate makes SGD an almost exact line search on the full-batch loss",
    "C5": "the full-batch minimum lies farther out where the gradient is larger",
    "C6": "line shapes differ much at the start and little at the end",
}
_FIRST_LINES = 50  # C6


@dataclass(frozen=True)
class Claim:
    """One number of one run beside the threshold that it is held against."""

    paper: str
    claim: str
    statement: str
    value: float | None  # None: the number does not exist
    threshold: float
    relation: str  # < | <= | >
    verdict: str  # holds | fails | undetermined
    lines: int  # lines that the number rests on


_RUN_COLUMNS = ("experiment", "model", "lr", "batch_size", "seed")
CLAIM_COLUMNS = (*_RUN_COLUMNS, *(field.name for field in dataclasses.fields(Claim)))


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
    median_evaluations: float
    median_interpolation_error: float  # nats
    largest_interpolation_error: float  # nats
    quarter_ratios: tuple[tuple[float, float, float], ...]  # quartiles of M10 in each quarter of the lines
    median_mae: tuple[float, float]  # degrees 1 and 2, nats
    replay_drift: float
    batch_norm: str
    dataset: str
    samples: str


def judge(claim: str, value: float, *, threshold: float, relation: str, lines: int) -> Claim:
    """Hold a value against its threshold; NaN is undetermined, infinity is a value."""
    if math.isnan(value):
        return Claim(PAPER, claim, STATEMENTS[claim], None, threshold, relation, "undetermined", lines)
    holds = {"<": value < threshold, "<=": value <= threshold, ">": value > threshold}[relation]
    return Claim(PAPER, claim, STATEMENTS[claim], value, threshold, relation, "holds" if holds else "fails", lines)


def claim_parabolic(line_fits: pa.Table) -> Claim:
    """Return C1: median over lines of MAE_2 / MAE_1, below 0.2."""
    straight, parabola = _mae_by_step(line_fits, 1), _mae_by_step(line_fits, 2)
    ratios = [parabola[step] / error for step, error in straight.items() if error > 0 and step in parabola]
    return judge("C1", _median(np.array(ratios)), threshold=0.2, relation="<", lines=len(ratios))


def claim_constant_ratio(line_metrics: pa.Table) -> Claim:
    """Return C2: quartiles of M10 within a factor 2 of the median over the middle half of the run's lines."""
    ratios = as_floats(line_metrics, "line_search_ratio")
    quarter = len(ratios) // 4
    middle = _finite(ratios[quarter : len(ratios) - quarter])
    factor = math.nan
    if middle.size >= 4:
        low, median, high = (float(value) for value in np.quantile(middle, [0.25, 0.5, 0.75]))
        factor = max(high / median, median / low) if low > 0 else math.inf
    return judge("C2", factor, threshold=2.0, relation="<=", lines=middle.size)


def claim_step_follows_gradient(line_metrics: pa.Table, trace: pa.Table) -> Claim:
    """Return C5: correlation of s_opt with the gradient norm over the run, above 0.5."""
    norm_at = dict(zip(trace.column("step").to_pylist(), as_floats(trace, "gradient_norm").tolist(), strict=True))
    norms = np.array([norm_at.get(step, math.nan) for step in line_metrics.column("step").to_pylist()], dtype=float)
    minima = as_floats(line_metrics, "minimum_position_vertex")
    used = _measurable(line_metrics) & np.isfinite(minima) & np.isfinite(norms)
    correlation = math.nan
    if used.sum() >= 3 and np.ptp(minima[used]) > 0 and np.ptp(norms[used]) > 0:
        correlation = float(np.corrcoef(minima[used], norms[used])[0, 1])
    return judge("C5", correlation, threshold=0.5, relation=">", lines=int(used.sum()))


def claim_shapes_settle(line_metrics: pa.Table) -> Claim:
    """Return C6: median consecutive distance of the last quarter over that of the first 50 lines, at most 0.1."""
    distances = as_floats(line_metrics, "consecutive_distance")
    quarter = len(distances) // 4
    first = _finite(distances[:_FIRST_LINES])
    last = _finite(distances[len(distances) - quarter :])
    change = math.nan
    if len(distances) - quarter >= _FIRST_LINES and quarter and _median(first) > 0:
        change = _median(last) / _median(first)
    return judge("C6", change, threshold=0.1, relation="<=", lines=first.size + last.size)


def run_claims(*, trace: pa.Table, line_fits: pa.Table, line_metrics: pa.Table) -> tuple[Claim, ...]:
    """Return the claims C1, C2, C5 and C6 of one run.

    Args:
        trace: Table of kind `trace`.
        line_fits: Table of kind `line_fits`, with the degrees 1 and 2 (else C1 is undetermined).
        line_metrics: Table of kind `line_metrics`.

    Source: papers.md 2.4; definitions in the docstring of this module.
    """
    claims = (
        claim_parabolic(line_fits),
        claim_constant_ratio(line_metrics),
        claim_step_follows_gradient(line_metrics, trace),
        claim_shapes_settle(line_metrics),
    )
    if diverged_at(trace) is None:
        return claims
    return tuple(dataclasses.replace(claim, verdict="undetermined") for claim in claims)


def aggregate_claims(runs: Sequence[RunTables], *, claims_output: str | Path, summary_output: str | Path) -> None:
    """Write the claims of all runs as CSV and a summary that a person can read as Markdown.

    Args:
        runs: Runs of any number of experiments, in any order.
        claims_output: CSV with one row per run and claim, columns `CLAIM_COLUMNS`; an undefined value is empty.
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
    _write_text(summary_output, _summary_page(summaries))


def _finite(values: FloatArray) -> FloatArray:
    return values[np.isfinite(values)]


def _median(values: FloatArray) -> float:
    finite = _finite(values)
    return float(np.median(finite)) if finite.size else math.nan


def _measurable(line_metrics: pa.Table) -> BoolArray:
    status = line_metrics.column("status").to_pylist()
    return np.array([value in ("ok", "edge") for value in status], dtype=np.bool_)


def _mae_by_step(line_fits: pa.Table, degree: int) -> dict[int, float]:
    """Return the residual of every line that is resolved, by step."""
    rows = zip(*(line_fits.column(name).to_pylist() for name in ("step", "degree", "mae", "status")), strict=True)
    return {step: mae for step, fitted, mae, status in rows if fitted == degree and mae is not None and status == "ok"}


def _quartiles(values: FloatArray) -> tuple[float, float, float]:
    finite = _finite(values)
    low, median, high = np.quantile(finite, [0.25, 0.5, 0.75]).tolist() if finite.size else [math.nan] * 3
    return low, median, high


def _summarise(run: RunTables) -> _RunSummary:
    trace = read_table(run.trace, "trace")
    line = read_table(run.line, "line", columns=["step", "evaluations", "interpolation_error", "status"])
    line_fits = read_table(run.line_fits, "line_fits")
    line_metrics = read_table(run.line_metrics, "line_metrics")
    errors = _finite(as_floats(line, "interpolation_error"))
    ratios = as_floats(line_metrics, "line_search_ratio")
    at_zero = _finite(as_floats(line_metrics, "loss_at_zero"))
    batch_loss = as_floats(trace, "batch_loss")
    facts = {**provenance(trace), **provenance(line)}
    return _RunSummary(
        run=run,
        claims=run_claims(trace=trace, line_fits=line_fits, line_metrics=line_metrics),
        updates=trace.num_rows,
        full_batch_loss=float(at_zero[-1]) if at_zero.size else math.nan,
        batch_loss=float(batch_loss[-1]) if batch_loss.size else math.nan,
        diverged_at=diverged_at(trace),
        lines=line.num_rows,
        unresolved=line.column("status").to_pylist().count("unresolved"),
        median_evaluations=_median(as_floats(line, "evaluations")),
        median_interpolation_error=_median(errors),
        largest_interpolation_error=float(errors.max()) if errors.size else math.nan,
        quarter_ratios=tuple(_quartiles(part) for part in np.array_split(ratios, 4)),
        median_mae=(_median_mae(line_fits, 1), _median_mae(line_fits, 2)),
        replay_drift=math.nan if facts.get("replay_drift") is None else float(facts["replay_drift"]),
        batch_norm=_named(facts.get("batch_norm")),
        dataset=_named(facts.get("dataset")),
        samples=_named(facts.get("samples")),
    )


def _median_mae(line_fits: pa.Table, degree: int) -> float:
    return _median(np.array(list(_mae_by_step(line_fits, degree).values()), dtype=np.float64))


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
    page += [f"- {claim}: {statement}; {_MEANINGS[claim]}." for claim, statement in STATEMENTS.items()]
    return "\n".join(page).rstrip() + "\n"


def _experiment_section(experiment: str, summaries: Sequence[_RunSummary]) -> list[str]:
    settings = sorted({(entry.dataset, entry.samples, entry.batch_norm) for entry in summaries})
    section = [f"## {experiment}", ""]
    section += [
        f"Measured on data set {dataset}, N = {samples}, BatchNorm mode {mode}."
        for dataset, samples, mode in settings
        if (dataset, samples, mode) != ("-", "-", "-")
    ]
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
    header = [*_RUN_HEADER, *(f"{claim.claim} ({claim.relation} {claim.threshold:g})" for claim in summaries[0].claims)]
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
    for _, group in groupby(summaries, key=lambda entry: (entry.run.model, entry.run.lr, entry.run.batch_size)):
        pooled = list(group)
        cells = []
        for claims in zip(*(entry.claims for entry in pooled), strict=True):
            judged = [claim for claim in claims if claim.verdict != "undetermined"]
            values = np.array([claim.value for claim in judged], dtype=np.float64)
            middle = float(np.median(values)) if values.size else math.nan
            holding = sum(claim.verdict == "holds" for claim in claims)
            cells.append(f"{holding} of {len(pooled)} (median {_number(middle)})")
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
            f"- {name} ({_MEANINGS[name]}) holds in {verdicts.count('holds')} of {_count(total, 'run')}, fails in "
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
