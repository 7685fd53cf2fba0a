"""The claims of sparse on toys and networks: tables, the same over seeds, and a page for a reader."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sgdline.analysis.claims import sparse, sparse_networks, sparse_relu
from sgdline.analysis.claims.judging import Claim
from sgdline.analysis.claims.pages import (
    RUN_HEADER,
    JudgedRun,
    claim_matrix,
    claim_sentences,
    count,
    markdown_table,
    median,
    number,
    seed_table,
    statement_list,
    write_claims,
)
from sgdline.analysis.claims.sparse_networks import SparseRun, final_error, final_sparsity, judged_networks
from sgdline.analysis.columns import as_floats
from sgdline.declare.build import build
from sgdline.declare.schema import as_json
from sgdline.runtime import write_text
from sgdline.tables import read_table
from sgdline.toys._relu_nets import iterations_of
from sgdline.toys.teacher_student import simulate as teacher_student
from sgdline.toys.teacher_student.options import TeacherStudentOptions

STATEMENTS = sparse.STATEMENTS | sparse_relu.STATEMENTS | sparse_networks.STATEMENTS
KINDS = ("trace", "evaluation", "feat")  # that claims are read from, of networks

_COLUMNS = ("train_loss", "test_loss", "rank")  # of toys, shown at the end


def judge_sparse(
    runs: Sequence[Mapping[str, Any]],
    tables: Sequence[Mapping[str, str | Path]],
    *,
    toys: Sequence[Mapping[str, Any]],
    toy_tables: Sequence[str | Path],
    claims_output: str | Path,
    pooled_output: str | Path,
    summary_output: str | Path,
) -> None:
    """Write the claims of all toys and networks as CSV and a summary that a person can read as Markdown.

    Args:
        runs: Of each run the fields of `SparseRun` that are no tables.
        tables: Of each run kind of table -> file, all of `KINDS`.
        toys: Of each toy `name`, `toy` (`diagonal_networks`, `relu_regression` or `teacher_student`) and `settings`,
            its slice of the config.
        toy_tables: Their tables.
        claims_output: CSV with one row per seed and claim; see `pages.write_claims`. The toy's name stands for the
            experiment, the kind of its networks for the model.
        pooled_output: The same over seeds.
        summary_output: Markdown page: each toy's settings and its claims, then the networks'.

    Raises:
        SgdlineError: If a table is missing or damaged.
    """
    simulated = [_Toy(**toy, path=path) for toy, path in zip(toys, toy_tables, strict=True)]
    read = [
        SparseRun(**run, **{kind: read_table(files[kind], kind) for kind in KINDS})
        for run, files in zip(runs, tables, strict=True)
    ]
    read.sort(key=lambda run: (run.experiment, run.model, run.lr, run.batch_size, run.seed))
    of_networks = judged_networks(read)
    judged = [*(entry for toy in simulated for entry in toy.judged()), *of_networks]
    write_claims(judged, claims_output=claims_output, pooled_output=pooled_output)
    write_text(summary_output, _page(simulated, read, of_networks))


class _Toy:
    """One toy of the config with its table and its settings, each by its place in the config's list."""

    def __init__(self, *, name: str, toy: str, settings: Mapping[str, Any], path: str | Path) -> None:
        resolved = dict(settings)
        if toy == "teacher_student":
            resolved |= as_json(teacher_student.resolved(build(TeacherStudentOptions, settings)), complete=True)
        self.name = name
        self.table = read_table(path, toy)
        self.diagonal = toy == "diagonal_networks"
        self.networks = resolved["network"] if toy == "teacher_student" else toy
        self.settings: Sequence[Mapping[str, Any]] = resolved["settings" if self.diagonal else "runs"]
        self.updates = resolved["updates"] if self.diagonal else iterations_of(resolved["log10_iterations"])

    def judged(self) -> list[JudgedRun]:
        """Return the claims of every seed; none where the settings do not differ as the claims need it."""
        claims: dict[int, tuple[Claim, ...]]
        if self.diagonal:
            claims = sparse.diagonal_claims(self.table, updates=self.updates)
        else:
            claims = sparse_relu.relu_claims(self.table, runs=self.settings, iterations=self.updates)
        return [
            JudgedRun(experiment=self.name, model=self.networks, lr=None, batch_size=None, seed=seed, claims=own)
            for seed, own in sorted(claims.items())
        ]

    def section(self) -> list[str]:
        """Return the lines about the toy."""
        judged = self.judged()
        lines = [f"## {self.name}", "", *self._setting_table(), ""]
        if not judged:
            return [*lines, "No claims: they need settings that differ in the length of their large-step phase.", ""]
        return [*lines, *_claim_tables(judged), ""]

    def _setting_table(self) -> list[str]:
        present = [name for name in _COLUMNS if name in self.table.column_names]
        header = ["learning rate", "decayed at", "by", "chains", "diverged", *(f"median {name}" for name in present)]
        setting_of = as_floats(self.table, "setting" if self.diagonal else "run")
        iterations = as_floats(self.table, "iteration")
        values = {name: as_floats(self.table, name) for name in present}
        diverged = self._diverged()
        rows = []
        for place, setting in enumerate(self.settings):
            last = (setting_of == place) & (iterations == iterations[setting_of == place].max())
            kept = last & ~diverged
            method = f"{setting['method']} " if self.diagonal else ""
            rows.append(
                [
                    f"{method}{setting['lr']:g}",
                    "-" if setting["decay_at"] is None else f"{setting['decay_at']:g}",
                    f"{setting['decay_factor']:g}",
                    str(int(last.sum())),
                    str(int((last & diverged).sum())),
                    *(number(median(values[name][kept]), 4) for name in present),
                ]
            )
        return markdown_table(header, rows)

    def _diverged(self) -> npt.NDArray[np.bool_]:
        """Return of each row whether its chain has diverged by then."""
        if self.diagonal:
            return np.array([status == "diverged" for status in self.table["status"].to_pylist()])
        return np.isfinite(as_floats(self.table, "diverged_at"))


def _page(toys: Sequence[_Toy], runs: Sequence[SparseRun], judged: Sequence[JudgedRun]) -> str:
    diverged = sum(run.diverged for run in runs)
    page = ["# Large step sizes and sparse features", ""]
    page += [f"{count(len(toys), 'toy')}; {count(len(runs), 'run')} of networks, {diverged} diverged.", ""]
    page += [
        "Values at the end, medians over the chains that have not diverged. Claims are about unchanged starts, seed by "
        "seed; chains are as chaotic as the paper's, so one seed says little.",
        "",
    ]
    for toy in toys:
        page += toy.section()
    for experiment, group in groupby(runs, key=lambda run: run.experiment):
        page += [f"## {experiment}", "", *_run_table(list(group)), ""]
        own = [entry for entry in judged if entry.experiment == experiment]
        if own:
            page += [*_claim_tables(own), ""]
    page += ["## How the claims are measured", "", *statement_list(STATEMENTS)]
    return "\n".join(page).rstrip() + "\n"


def _claim_tables(judged: Sequence[JudgedRun]) -> list[str]:
    return [
        "### Claims",
        "",
        *claim_matrix(judged),
        "",
        *seed_table(judged),
        "",
        *claim_sentences(judged, STATEMENTS),
    ]


def _run_table(runs: Sequence[SparseRun]) -> list[str]:
    header = [*RUN_HEADER, "updates", "share with large steps", "diverged", "error", "sparsity coefficient"]
    rows = [
        [
            run.model,
            f"{run.lr:g}",
            str(run.batch_size),
            str(run.seed),
            str(run.steps),
            number(math.nan if run.large_phase is None else run.large_phase),
            "yes" if run.diverged else "no",
            number(final_error(run), 4),
            number(final_sparsity(run), 4),
        ]
        for run in runs
    ]
    return markdown_table(header, rows)
