"""The house grows by one file and a line of configuration: things of one's own, by entry and inside the package.

The things are the examples of docs/extending.md, as they are.
"""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml
from workflow_copy import ROOT, Workflow, copy_workflow

from sgdline.declare import registry

PAGE = ROOT / "docs" / "extending.md"
EXAMPLES = dict(
    re.findall(r"<!-- file: (\S+) -->\n```\w+\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
)
# What people have before they grow: one run of the package's own things.
PLAIN = """
results: results/own
run: [plain]
experiments:
  plain:
    dataset: digits
    models: [mlp_tiny]
    lr: [0.1]
    batch_size: [64]
    seed: [0]
    steps: 20
    probes: {evaluation: {every: 10}, line: {every: 10}}
"""
# Where a thing goes to become part of the package: kind, name there, module of its folder or none.
PLACES = {
    "own/stripes.py": ("source", "stripes"),
    "own/focal.py": ("loss", "focal"),
    "own/lion.py": ("update_rule", "lion"),
    "own/inverse_root.py": ("schedule", "inverse_root"),
    "own/gradient_noise.py": ("probe", "gradient_noise"),
    "own/rises.py": ("analysis", "loss_rises"),
    "own/loss_falls.py": ("claim", "loss_falls"),
    "own/batch_and_noise.py": ("figure", "batch_and_noise"),
}


def tables(folder: Path) -> dict[str, pa.Table]:
    return {path.name: pa.ipc.open_file(path).read_all() for path in sorted(folder.rglob("*.arrow"))}


def planned_files(workflow: Workflow, *arguments: str) -> str:
    result = workflow.snakemake("--dry-run", "--quiet", "rules", *arguments)
    return result.stdout + result.stderr


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    """A finished run of the package's own things, then the examples beside it, run too."""
    workflow = copy_workflow(tmp_path_factory.mktemp("growth") / "workflow")
    workflow.folder.joinpath("plain.yaml").write_text(PLAIN)
    workflow.snakemake("all_tables", "--cores", "2", "--configfile", "plain.yaml")
    for name, text in EXAMPLES.items():
        workflow.folder.joinpath(name).parent.mkdir(exist_ok=True)
        workflow.folder.joinpath(name).write_text(text)
    assert workflow.planned("all_tables", "--configfile", "plain.yaml") == {}
    both = yaml.safe_load(EXAMPLES["own/config.yaml"]) | {"run": ["plain", "own", "walks"]}
    both["experiments"] |= yaml.safe_load(PLAIN)["experiments"]
    workflow.folder.joinpath("both.yaml").write_text(yaml.safe_dump(both))
    jobs = workflow.planned("all_figures", "all_tables", "--configfile", "both.yaml")
    assert {jobs[rule] for rule in ("prepare_dataset", "train_run", "simulate_toy")} == {1}
    assert jobs["judge"] == 2  # the claim of one's own, and linesearch, which has a run more
    workflow.snakemake("all_figures", "all_tables", "--cores", "2", "--configfile", "both.yaml")
    return workflow


def test_things_by_entry_do_what_they_say(grown: Workflow) -> None:
    run = next(grown.folder.joinpath("results/own/own").iterdir())
    found = tables(run)
    trace = found["trace.arrow"]
    lr, steps = np.array(trace["lr"]), np.arange(40)
    np.testing.assert_allclose(lr, 0.003 * np.minimum((steps + 1) / 10, np.sqrt(10 / (steps + 1))))
    # Lion moves every parameter by the same amount, unless its gradient is 0.
    norms = np.array(trace["direction_norm"]) ** 2
    np.testing.assert_allclose(norms, np.round(norms), atol=1e-2)
    rises = np.diff(np.array(trace["batch_loss"])) > 0
    assert found["Rises.arrow"].to_pydict() == {
        "step": [13, 26, 39],
        "share": [rises[first : first + 13].mean() for first in (0, 13, 26)],
    }
    [walks] = tables(grown.folder / "results/own/toys").values()
    np.testing.assert_allclose(walks["squared_distance"], walks["step"], rtol=0.2)
    noise = found["GradientNoise.arrow"]
    assert noise["step"].to_pylist() == [0, 20]
    assert min(noise["noise_trace"].to_pylist()) > 0.0
    # The line's loss at 0 is the focal loss of the network; at the start it is below the cross-entropy log 2.
    assert 0.2 < found["evaluation.arrow"]["train_loss"][0].as_py() < 0.6
    [picture] = grown.folder.joinpath("results/own/figures/own/BatchAndNoise").glob("own_*.png")
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size > 10_000
    with grown.folder.joinpath("results/own/tables/claims.csv").open() as file:
        claims = [row for row in csv.DictReader(file) if row["claim"] == "LossFalls"]
    losses = np.array(trace["batch_loss"])
    assert float(claims[0]["value"]) == pytest.approx(losses[-4:].mean() / losses[:4].mean())
    assert claims[0]["verdict"] == ("holds" if losses[-4:].mean() < losses[:4].mean() else "fails")


@pytest.mark.parametrize(
    ("name", "old", "new", "made"),
    [
        ("own/gradient_noise.py", "len(gradients) - 1", "(len(gradients) - 1.0)", ["probe_run", "plot_figure"]),
        ("own/batch_and_noise.py", "highest", "at most", ["plot_figure"]),
    ],
)
def test_a_change_of_a_thing_makes_what_it_makes_again_and_nothing_else(
    grown: Workflow, name: str, old: str, new: str, made: list[str]
) -> None:
    file = grown.folder / name
    text = file.read_text()
    try:
        file.write_text(text.replace(old, new))
        jobs = grown.planned("all_figures", "all_tables", "--configfile", "both.yaml")
    finally:
        file.write_text(text)
    assert jobs.pop("all_tables", 1) == 1
    assert jobs == dict.fromkeys(made, 1)


PAPER = '''
"""A paper of one claim."""

from sgdline.claims.base import Claim, EachRun, Value


def last_loss(run):
    return Value(run.tables["trace"]["batch_loss"][-1].as_py(), run.settings.steps, "no update")


CLAIMS = (
    Claim(
        name="L1",
        number="the last batch loss",
        meaning="the loss becomes small",
        relation="<",
        threshold=0.1,
        about=EachRun(reads=("trace",)),
        value=last_loss,
    ),
)
'''


def test_a_paper_is_a_folder(grown: Workflow) -> None:
    asked = ("all_tables", "--configfile", "both.yaml")
    folder = grown.folder / "src/sgdline/papers/last_loss"
    folder.mkdir()
    folder.joinpath("claims.py").write_text(PAPER)
    assert grown.planned(*asked) == {"judge": 1, "gather_claims": 1, "all_tables": 1}
    grown.snakemake(*asked, "--cores", "1")
    with grown.folder.joinpath("results/own/tables/claims.csv").open() as file:
        claims = [row for row in csv.DictReader(file) if row["paper"] == "last_loss"]
    assert [(row["experiment"], row["claim"]) for row in claims] == [("own", "L1"), ("plain", "L1")]
    for row in claims:
        [run] = grown.folder.joinpath("results/own", row["experiment"]).iterdir()
        assert float(row["value"]) == tables(run)["trace.arrow"]["batch_loss"][-1].as_py()
    assert "The loss becomes small (L1)" in grown.folder.joinpath("results/own/tables/summary.md").read_text()


def test_inside_the_package_a_thing_has_a_name(grown: Workflow, tmp_path: Path) -> None:
    for name, (kind, inside) in PLACES.items():
        place = registry.KINDS[kind]
        folder = grown.folder.joinpath("src/sgdline", *place.package.split("."))
        target = folder / inside / f"{place.module}.py" if place.module else folder / f"{inside}.py"
        target.parent.mkdir(exist_ok=True)
        text = EXAMPLES[name].replace('"GradientNoise"', '"gradient_noise"').replace('"Rises"', '"loss_rises"')
        target.write_text(text)
        if place.module:
            target.with_name("__init__.py").write_text("")
    # The new analysis is made of the runs that there are; what is there stays.
    assert grown.planned("all_tables", "--configfile", "both.yaml").keys() <= {"all_tables", "loss_rises"}
    paper = grown.folder / "src/sgdline/papers/novel"
    paper.mkdir()
    paper.joinpath("figures.py").write_text(EXAMPLES["novel/figures.py"])
    assert grown.planned("all_figures", "--configfile", "both.yaml") == {}
    text = EXAMPLES["own/config.yaml"]
    for name, (_, inside) in PLACES.items():
        text = re.sub(rf'"{re.escape(name)}:\w+"', inside, text)
    # An analysis of the package is made of every run, with its declared options.
    text = text.replace("analysis: {extra: {loss_rises: {window: 13}}}", "").replace("  own:\n", "  inside:\n")
    text = text.replace("[own, walks]", "[inside]").replace("experiments: [own]", "experiments: [inside]")
    text = text.replace("      line: {every: 20}\n", "      line: {every: 20}\n      interp: {every: 10}\n")
    text = text.replace("figures: [lines, ", "figures: [novel/fig1, novel/fig2, ")
    grown.folder.joinpath("inside.yaml").write_text(text)
    grown.snakemake("all_figures", "all_tables", "--cores", "2", "--configfile", "inside.yaml")
    drawn = ("novel/fig1", "novel/fig2", "batch_and_noise")
    for figure in drawn:
        [picture] = grown.folder.joinpath("results/own/figures", figure).glob("inside_*.png")
        assert picture.stat().st_size > 10_000
    by_entry, by_name = (
        tables(next(grown.folder.joinpath("results/own", name).iterdir())) for name in ("own", "inside")
    )
    by_entry["gradient_noise.arrow"] = by_entry.pop("GradientNoise.arrow")
    assert by_entry.pop("Rises.arrow").num_rows == by_name.pop("loss_rises.arrow").num_rows == 3
    of_interp = {"interp.arrow", "intervals.arrow", "interval_epochs.arrow"}
    assert by_entry.keys() == by_name.keys() - of_interp
    for name, table in by_entry.items():
        assert table.cast(table.schema.remove_metadata()).equals(
            by_name[name].cast(by_name[name].schema.remove_metadata())
        ), name


@pytest.mark.parametrize("name", [name for _, name in PLACES.values()])
def test_a_new_thing_is_in_schema_manual_and_messages(grown: Workflow, name: str) -> None:
    def python(program: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=grown.folder,
            env={"PYTHONPATH": str(grown.folder / "src"), "PATH": ""},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    shown = python(
        "from sgdline.config.reference import reference_files\n"
        f"print(*reference_files({str(grown.folder)!r}).values(), sep='\\n=====\\n')"
    )
    manual, schema = shown.split("\n=====\n")
    assert f"#### {name}\n" in manual or f"| `{name}` |" in manual
    if name != "loss_rises":  # the analyses of the package need no name in a configuration
        assert f'"{name}"' in schema
    assert f"Did you mean {name!r}?" in python(
        "from sgdline.declare.faults import Faults\n"
        "from sgdline.config.declarations import configuration_schema\n"
        "from sgdline.declare.walker import Walker\n"
        "faults, schema = Faults(), configuration_schema()\n"
        f"slip = {name[:-1] + 'x'!r}\n"
        "block = {key: {'name': slip} for key in ('optimizer', 'schedule', 'loss')} | {'probes': {slip: {}}}\n"
        "Walker(schema, faults).walk({'experiments': {'a': block}, 'datasets': {'b': {'source': slip}}, "
        "'claims': {slip: {}}}, schema, ())\n"
        "from sgdline.config.reference import describe\n"
        "for asked in (faults.raise_if_any, lambda: describe(slip)):\n"
        "    try: asked()\n"
        "    except Exception as error: print(error)\n"
    )
