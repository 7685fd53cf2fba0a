"""All figures and claims that a table of lines gives, without the workflow: analyses are made, figures drawn.

The table is of kind `line`: of a meter's log, imported, or of the workflow's own probe.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from sgdline.analysis.columns import as_floats
from sgdline.analysis.curves import LineCurves
from sgdline.analysis.kinds.base import Analysis
from sgdline.analysis.rates import constant_rate
from sgdline.claims.base import EachRun
from sgdline.claims.judging.measured import MeasuredTables, Tables
from sgdline.claims.judging.verdicts import JudgedClaim, judge
from sgdline.config.declarations import AnalysisOptions
from sgdline.declare import registry
from sgdline.errors import SgdlineError, first_line
from sgdline.extras import extra_packages
from sgdline.figures import plot_figure
from sgdline.figures.base import Figure, needed_options
from sgdline.markdown import markdown_table, number
from sgdline.papers import claimed
from sgdline.probes.line.table import LINES_OF_A_FILE
from sgdline.runtime import write_text
from sgdline.tables import Facts, read_provenance, read_table, write_table
from sgdline.tables.kinds.trace import TRACE

# Of the interval that lines begin with: where its analyses read them, in the shares of the workflow's defaults.
_WINDOW, _RESOLUTION, _MEASURING_STEP = 0.4, 0.012, 0.2
_UNKNOWN = "not recorded"
_NO_EPOCHS = "it needs epochs, which the table does not know: log.write(path, updates_per_epoch=...)"
_OF_EPOCHS = ("intervals", "interval_epochs")
# Tables that lines do not give, and why not.
_WITHOUT = {
    "line_batch_sizes": "it needs the loss of every sample, which these lines do not keep",
    **dict.fromkeys(_OF_EPOCHS, "it needs a line of every update"),
}
_READ = (
    "step", "epoch", "lr", "direction_norm", "step_length", "panel_edges", "positions", "train_loss",
    "direction_batch_loss", "window", "status",
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """What became of one kind of figure."""

    name: str
    files: tuple[Path, ...] = ()
    reason: str = ""  # why it was left out; empty: it was drawn


@dataclass(frozen=True)
class Findings:
    """What a table of lines gives.

    Attributes:
        figures: One outcome for each kind of figure of a run, drawn or left out; each is drawn when it is asked for.
        claims: Of papers that claim something of every run with lines.
        page: The claims as a page.
    """

    figures: Iterator[Outcome]
    claims: tuple[JudgedClaim, ...]
    page: Path


@contextmanager
def draw_figures(path: str | Path, folder: str | Path) -> Iterator[Findings]:
    """Judge the claims and draw every figure that a table of lines is enough for, as PNG and PDF.

    Lengths of the analyses go by the lines: the interval that most of them began with, and the workflow's shares of it.

    Args:
        path: Table of kind `line`.
        folder: Where pictures go, each under the name of its kind, and the page `claims.md`.

    Yields:
        Findings: Figures can be drawn within the block.

    Raises:
        SgdlineError: If the table is missing, damaged, of another kind, or holds no line that could be measured; if
            matplotlib is not installed or the folder cannot be made.
    """
    with extra_packages():
        import matplotlib  # noqa: F401  # before any work
    lines = read_table(path, LINES_OF_A_FILE, columns=_READ)
    facts = {name: fact for name, fact in read_provenance(path, LINES_OF_A_FILE).items() if name != "kind"}
    settings = _settings(Path(path), lines, facts)
    target = Path(folder)
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SgdlineError(
            f"out must be a folder that can be written to, got {target} ({error.strerror}). Choose another."
        ) from error
    with tempfile.TemporaryDirectory() as scratch:
        tables, missing = _tables(Path(path), lines, facts, settings, Path(scratch))
        claims = tuple(_judged(tables))
        page = target / "claims.md"
        write_text(page, _page(Path(path), claims))
        yield Findings(_figures(tables, missing, settings, target), claims, page)


def _judged(tables: Mapping[str, Path]) -> Iterator[JudgedClaim]:
    """Yield what papers claim of every run with such tables."""
    run = MeasuredTables(tables=Tables(tables))
    for paper in claimed.papers():
        of_paper = claimed.judged(paper)
        for claim in of_paper.claims if of_paper.of_every_run else ():
            if isinstance(claim.about, EachRun) and set(claim.about.reads) <= tables.keys():
                value = claim.value(run)
                if value is not None:
                    yield judge(claim, value, paper=paper, diverged=run.diverged)


def _page(path: Path, claims: Sequence[JudgedClaim]) -> str:
    rows = [
        (
            claim.paper,
            claim.claim,
            claim.statement,
            "-" if claim.value is None else number(claim.value),
            f"{claim.relation} {claim.threshold}",
            claim.verdict,
            str(claim.observations),
            claim.reason or "-",
        )
        for claim in claims
    ]
    header = ("paper", "claim", "number", "value", "must be", "verdict", "observations", "because")
    table = markdown_table(header, rows) if rows else ["These lines give none of the tables that a claim reads."]
    return "\n".join([f"# Claims on {path.name}", "", *table]) + "\n"


def _figures(
    tables: Mapping[str, Path], missing: Mapping[str, str], settings: Mapping[str, Any], folder: Path
) -> Iterator[Outcome]:
    for name in registry.names("figure"):
        declared = registry.declaration("figure", name)
        assert issubclass(declared, Figure)
        if declared.toy is None:
            yield _drawn(name, declared, tables, missing, settings, folder)


def _drawn(
    name: str,
    declared: type[Figure],
    tables: Mapping[str, Path],
    missing: Mapping[str, str],
    settings: Mapping[str, Any],
    folder: Path,
) -> Outcome:
    if declared.compares:
        return Outcome(name, reason="it compares several runs")
    absent = [kind for kind in declared.reads if kind not in tables]
    if absent:
        if not set(absent) <= missing.keys():
            return Outcome(name, reason="a workflow measures what it shows")
        return Outcome(name, reason="; ".join(dict.fromkeys(missing[kind] for kind in absent)))
    if needed_options(declared):
        return Outcome(name, reason=f"it needs options: {', '.join(needed_options(declared))}")
    files = tuple(folder / f"{name}.{kind}" for kind in ("png", "pdf"))
    own = {**settings, "analysis": {key: settings["analysis"][key] for key in declared.uses}}
    plot_figure(declared(), tables, settings=own, png=files[0], pdf=files[1])
    return Outcome(name, files)


def _settings(path: Path, lines: pa.Table, facts: Facts) -> dict[str, Any]:
    """Return the settings of the run that figures read, as far as the table knows them."""
    interval, reach = _interval(lines)
    steps = lines["step"].to_numpy()
    rate = constant_rate(lines)
    optimizers = facts.get("optimizers", ["sgd"])
    assert isinstance(optimizers, list)
    gaps = np.diff(steps)
    options = AnalysisOptions(window=_WINDOW * interval, pal_measuring_step=_MEASURING_STEP * interval)
    analysis = {field.name: getattr(options, field.name) for field in fields(options)}
    line = {
        "every": 1 if (gaps == 1).all() else max(2, round(float(gaps.mean()))),
        "interval": reach,  # what figures of single lines show
        "resolution": _RESOLUTION * interval,
        "sample_losses": False,
        "batch_norm": facts.get("batch_norm", _UNKNOWN),
        "positions": facts.get("positions", _UNKNOWN),
    }
    return {
        "experiment": path.name,
        "model": facts.get("model", _UNKNOWN),
        "dataset": facts.get("dataset", _UNKNOWN),
        "lr": "scheduled" if rate is None else f"{rate:g}",
        "batch_size": facts.get("batch_size", _UNKNOWN),
        "seed": facts.get("seed", _UNKNOWN),
        "steps": int(steps[-1]) + 1,
        "lr_unit": "absolute",
        "lr_is_length": False,
        "optimizer": {"name": "+".join(map(str, optimizers)).lower() or "own rule"},
        "schedule": {},
        "label_noise": 0.0,
        "theory": None,
        "start_from": None,
        "analysis": analysis,
        "probes": {"line": line},
    }


def _interval(lines: pa.Table) -> tuple[float, float]:
    """Return the interval that lines began with, and how far they reach in the end: medians."""
    windows, curves = as_floats(lines, "window") / _WINDOW, LineCurves.from_table(lines)
    begun = np.where(np.isfinite(windows), windows, np.minimum(-curves.low, curves.high))
    measured = (curves.low < 0) & np.isfinite(begun)
    if not measured.any():
        raise SgdlineError(
            "A table must hold a line that could be measured to be drawn, got none. Its steps were zero or not finite."
        )
    reach = np.maximum(-curves.low, curves.high)
    medians = (float(f"{np.median(values[measured]):.3g}") for values in (begun, reach))
    return next(medians), next(medians)


def _tables(
    path: Path, lines: pa.Table, facts: Facts, settings: Mapping[str, Any], scratch: Path
) -> tuple[dict[str, Path], dict[str, str]]:
    """Return the tables that the lines give, by kind, and for some of the others why they give none."""
    tables = {"line": path, "trace": scratch / "trace.arrow"}
    write_table(tables["trace"], TRACE, _trace(lines), provenance=facts)
    line, missing = settings["probes"]["line"], dict(_WITHOUT)
    if line["every"] == 1 and not np.isfinite(as_floats(lines, "epoch")).all():
        line, missing = {**line, "every": None}, {**missing, **dict.fromkeys(_OF_EPOCHS, _NO_EPOCHS)}
    values = {**settings["analysis"], **{key: line[key] for key in ("interval", "resolution")}}
    waiting = {name: registry.declaration("analysis", name)() for name in registry.names("analysis")}
    found = True
    while found:
        found = False
        for name, analysis in list(waiting.items()):
            assert isinstance(analysis, Analysis)
            reads = analysis.tables({"line": line})
            known = set(analysis.uses) <= values.keys() and not analysis.needs_stationary_theory
            if not known or reads is None or not set(reads) <= tables.keys():
                continue
            del waiting[name]
            found, made = True, scratch / f"{name}.arrow"
            own = {key: values[key] for key in analysis.uses}
            try:
                analysis.analyse({kind: tables[kind] for kind in reads}, made, settings=own, provenance={})
            except SgdlineError as error:
                missing[name] = first_line(error)
            else:
                tables[name] = made
    return tables, missing


def _trace(lines: pa.Table) -> dict[str, Any]:
    """Return the columns of a trace, as far as lines know them: one row per line."""
    batch, full = (
        LineCurves.from_table(lines, name).at([0.0])[:, 0] for name in ("direction_batch_loss", "train_loss")
    )
    lost = np.array([status == "non_finite" for status in lines["status"].to_pylist()]) & ~np.isfinite(full)
    return {
        **{name: lines[name].to_numpy() for name in ("step", "epoch", "lr", "direction_norm")},
        "batch_loss": batch,
        "status": np.where(lost, "non_finite", "ok").tolist(),
    }
