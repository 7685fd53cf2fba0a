"""Toys in the workflow: alone, beside runs, what reruns after which change, and what a new kind of toy takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from pyarrow import ipc
from workflow_copy import Workflow

from sgdline.tables import provenance, read_table

CORES = ("--cores", "1")
FIGURE = "walk/fig36_quadratic"
SETTINGS = {"relative_lr": [0.5, 2.5], "steps": 4}


OWN = '''
from dataclasses import dataclass
from typing import Annotated

from sgdline.declare.vocabulary import Ge
from sgdline.toys.base import ToyOptions


@dataclass(frozen=True, kw_only=True)
class Powers(ToyOptions):
    """Powers of the first numbers."""

    count: Annotated[int, Ge(1)] = 3
    """How many."""

    def simulate(self):
        from exponent import EXPONENT

        return {"number": list(range(self.count)), "power": [number**EXPONENT for number in range(self.count)]}

    def table(self):
        import pyarrow as pa

        from sgdline.tables.kind import Kind, required

        columns = [required(name, pa.int64()) for name in ("number", "power")]
        return Kind("powers", rule="simulate_toy", schema=pa.schema(columns))
'''


def toys_only(workflow: Workflow, **toys: dict[str, object]) -> Workflow:
    """Let the workflow run these toys and nothing else."""
    config = workflow.folder / "config" / "config.yaml"
    blocks = yaml.safe_load(config.read_text())
    config.write_text(yaml.safe_dump({**blocks, "run": list(toys), "toys": toys}))
    return workflow


def picture(workflow: Workflow, figure: str, toy: str) -> Path:
    return workflow.folder / "results" / "figures" / figure / f"{toy}.png"


@pytest.fixture
def simulated(fresh: Workflow) -> Workflow:
    """A finished run of two toys of one kind and one of another, a copy of it under a new name."""
    copied = {
        **{
            f"src/sgdline/toys/quadratic_descent/{file}.py": f"src/sgdline/toys/novel/{file}.py"
            for file in ("__init__", "options", "simulate", "table")
        },
        "src/sgdline/figures/quadratic_descent.py": "src/sgdline/figures/novel.py",
    }
    for old, new in copied.items():
        text = (fresh.folder / old).read_text().replace("quadratic_descent", "novel")
        text = text.replace("QUADRATIC_DESCENT", "NOVEL")
        (fresh.folder / new).parent.mkdir(exist_ok=True)
        (fresh.folder / new).write_text(text)
    toys_only(
        fresh,
        one={"toy": "quadratic_descent", "figures": [FIGURE], **SETTINGS},
        two={"toy": "quadratic_descent", "figures": [FIGURE], **SETTINGS, "steps": 3},
        new={"toy": "novel", "figures": ["novel"], **SETTINGS},
        own={"toy": "mine/toys.py:Powers", "count": 4},
    )
    (fresh.folder / "mine").mkdir()
    (fresh.folder / "mine/toys.py").write_text(OWN)
    (fresh.folder / "mine/exponent.py").write_text("EXPONENT = 2\n")
    fresh.snakemake("all_figures", "all_tables", *CORES)
    return fresh


def test_toys_run_alone_and_each_change_makes_its_own_again(simulated: Workflow) -> None:
    """One run, then one dry run after another."""
    tables = simulated.folder / "results" / "toys"
    table = read_table(tables / "one.arrow", "quadratic_descent")
    assert table["step"].to_pylist() == list(range(5)) * 2
    facts = provenance(table)
    assert facts["toy"] == "one"
    assert facts["slice"]["relative_lr"] == SETTINGS["relative_lr"]
    assert len(facts["code"]) == 16
    assert sorted(path.name for path in tables.iterdir()) == ["new.arrow", "one.arrow", "own.arrow", "two.arrow"]
    assert ipc.open_file(tables / "own.arrow").read_all().to_pydict() == {
        "number": [0, 1, 2, 3], "power": [0, 1, 4, 9]
    }  # fmt: skip
    for figure, toy in ((FIGURE, "one"), (FIGURE, "two"), ("novel", "new")):
        assert picture(simulated, figure, toy).stat().st_size > 20_000
        assert picture(simulated, figure, toy).with_suffix(".pdf").exists()
    simulated.snakemake("--report", "report.html")
    report = (simulated.folder / "report.html").read_text()
    assert "walk/fig36_quadratic/one.png" in report
    assert simulated.planned() == {}

    # What concerns no toy, or only names and comments.
    simulated.edit("src/sgdline/toys/novel/simulate.py", "def descend(", "# A comment.\ndef descend(")
    simulated.edit("src/sgdline/engine/positions.py", "def choose_positions(", "_UNUSED = 1\n\n\ndef choose_positions(")
    assert simulated.planned() == {}

    # Code: of one kind of toy, then of its table, then of its figure.
    code = "src/sgdline/toys/novel/simulate.py"
    text = (simulated.folder / code).read_text()
    simulated.edit(code, "def descend(", "_UNUSED = 1\n\n\ndef descend(")
    assert simulated.planned() == {"simulate_toy": 1, "plot_figure": 1}
    (simulated.folder / code).write_text(text)
    column = 'required("lr", pa.float64()),'
    simulated.edit("src/sgdline/toys/novel/table.py", column, f'{column} pa.field("extra", pa.float64()),')
    assert simulated.planned() == {"simulate_toy": 1, "plot_figure": 1}
    simulated.edit("src/sgdline/toys/novel/table.py", 'pa.field("extra", pa.float64()),', "")
    assert simulated.planned() == {}
    simulated.edit("src/sgdline/figures/novel.py", "@dataclass", "_UNUSED = 1\n\n\n@dataclass")
    assert simulated.planned() == {"plot_figure": 1}
    simulated.edit("src/sgdline/figures/novel.py", "_UNUSED = 1\n\n\n@dataclass", "@dataclass")
    simulated.edit("src/sgdline/toys/quadratic_descent/simulate.py", "def descend(", "_UNUSED = 1\n\n\ndef descend(")
    assert simulated.planned() == {"simulate_toy": 2, "plot_figure": 2}  # both of this kind
    simulated.edit("src/sgdline/toys/quadratic_descent/simulate.py", "_UNUSED = 1\n\n\ndef descend(", "def descend(")

    simulated.edit("mine/exponent.py", "2", "3")
    jobs = simulated.planned("all_tables")
    assert (jobs.pop("all_tables", 1), jobs) == (1, {"simulate_toy": 1})
    simulated.edit("mine/exponent.py", "3", "2")

    # Configuration: a value of one toy, a figure less, a new toy.
    config = simulated.folder / "config" / "config.yaml"
    whole = config.read_text()

    def change(toy: str, **entries: object) -> None:
        blocks = yaml.safe_load(whole)
        blocks["toys"].setdefault(toy, {"toy": "novel", "figures": ["novel"]}).update(entries)
        blocks["run"] = list(blocks["toys"])
        config.write_text(yaml.safe_dump(blocks))

    change("two", steps=5)
    assert simulated.planned() == {"simulate_toy": 1, "plot_figure": 1}
    change("two", figures=[])
    assert simulated.planned() == {}
    change("three")
    assert simulated.planned() == {"simulate_toy": 1, "plot_figure": 1}


def test_toys_are_targets_by_default_and_left_out_by_run(
    planned_as_cloned: Callable[..., dict[str, int]], fresh: Workflow
) -> None:
    everything = planned_as_cloned()
    count = everything["simulate_toy"]
    assert count > 1
    assert everything["plot_figure"] >= count
    jobs = fresh.planned(*CORES, "--config", "run=[digits]")
    assert "train_run" in jobs
    assert "simulate_toy" not in jobs
    tables = fresh.planned("all_tables", *CORES)
    assert tables["simulate_toy"] == count
    assert "plot_figure" not in tables
    only = fresh.planned("results/figures/walk/fig36_quadratic/quadratic.pdf", *CORES)
    assert only == {"simulate_toy": 1, "plot_figure": 1}


def test_broken_toys_stop_before_any_job(fresh: Workflow) -> None:
    (fresh.folder / "mine.py").write_text(OWN.replace("def table", "def no_table"))
    toys_only(
        fresh,
        one={"toy": "quadratic_descent", "steps": 0, "figures": ["linesearch/fig2_lines"]},
        own={"toy": "mine.py:Powers", "cuont": 4},
        none={"toy": "mine.py:Powers"},
    )
    result = fresh.snakemake(*CORES, check=False)
    assert result.returncode != 0
    assert "Traceback" not in result.stderr
    hint = f"Figures of that toy: quadratic_descent, {FIGURE}."
    for words in ("The configuration has 4 faults", "toys.one.steps must be", "toys.one.figures[0] must be", hint):
        assert words in result.stderr
    assert "toys.own.cuont is not a known key. Did you mean 'count'?" in result.stderr
    assert "toys.none.toy must name a toy that defines table(self)" in result.stderr
    assert not (fresh.folder / "results").exists()
