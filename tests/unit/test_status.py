"""What `sgdline status` says of a results folder: real tables, real logs of jobs that ended well or badly."""

from __future__ import annotations

import copy
import json
import logging
import os
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml

from sgdline import config as settings
from sgdline.cli import main
from sgdline.errors import SgdlineError
from sgdline.expected import write_expected
from sgdline.runtime import job
from sgdline.status import State, report, survey
from sgdline.tables import kind_of, write_table
from sgdline.workflow.layout import RECORD, RunKey, run_path
from sgdline.workflow.runs import runs
from sgdline.workflow.slices import probe_slice, training_slice

ROOT = Path(__file__).parents[2]
STEPS, SEGMENTS = 12, 3
PROBES = ("line", "evaluation")


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    """Two models at one learning rate: two runs of three segments with two probes."""
    whole = yaml.safe_load((ROOT / "config/config.yaml").read_text(encoding="utf-8"))
    whole |= {"run": ["short"], "comparisons": {}}
    whole["experiments"] = {
        "short": {
            "dataset": "digits",
            "models": ["mlp", "tiny_resnet"],
            "lr": [0.1],
            "batch_size": [64],
            "seed": [1],
            "steps": STEPS,
            "segments": SEGMENTS,
            "probes": {probe: {"every": 2} for probe in PROBES},
            "figures": [],
        }
    }
    return settings.resolve_config(whole)


def rows_of(kind: str, steps: range) -> dict[str, list[Any]]:
    """Return columns that a kind of table needs, with one row per step."""
    columns: dict[str, list[Any]] = {}
    for column in kind_of(kind).schema:
        if pa.types.is_list(column.type):
            value: Any = [0.5, 1.0]
        elif pa.types.is_string(column.type):
            value = "ok"
        else:
            value = 1 if pa.types.is_integer(column.type) else 1.0
        if not column.nullable:
            columns[column.name] = list(steps) if column.name == "step" else [value] * len(steps)
    return columns


class Results:
    """A results folder as the workflow leaves it."""

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        self.folder = folder / "results"
        self.config = config
        self.keys = runs(config)
        tables = [f"{run_path(key)}/{kind}.arrow" for key in self.keys for kind in ("trace", *PROBES)]
        self.files = {"tables": [*tables, "datasets/digits.arrow"], "figures": ["figures/linesearch/fig/one.png"]}
        self.record()

    def record(self, *, asked: Collection[str] | None = None) -> None:
        """Leave the record of a start of Snakemake for these files, for all if None."""
        files = {kind: [f"{self.folder}/{path}" for path in paths] for kind, paths in self.files.items()}
        every = [path for paths in self.files.values() for path in paths]
        wanted = {f"{self.folder}/{path}" for path in (every if asked is None else asked)}
        write_expected(self.folder, config=self.config, files=files, asked=wanted)

    def complete(self) -> Results:
        write_table(self.folder / "datasets/digits.arrow", "trace", rows_of("trace", range(1)), provenance={})
        for key in self.keys:
            self.train(key)
            for probe in PROBES:
                for segment in range(SEGMENTS):
                    self.probe(key, probe, segment)
                self.gather(key, probe)
        self.picture().write_bytes(b"picture")
        return self

    def picture(self) -> Path:
        path = self.folder / self.files["figures"][0]
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def path(self, key: RunKey, name: str) -> Path:
        return self.folder / run_path(key) / name

    def train(self, key: RunKey, *, diverged_at: int | None = None) -> None:
        facts = {"slice": training_slice(self.config, key), "diverged_at": diverged_at}
        steps = range(STEPS if diverged_at is None else diverged_at + 1)
        write_table(self.path(key, "trace.arrow"), "trace", rows_of("trace", steps), provenance=facts)
        checkpoints = self.path(key, "checkpoints")
        checkpoints.mkdir(exist_ok=True)
        (checkpoints / "step00000000.safetensors").write_bytes(bytes(5000))

    def facts(self, key: RunKey, probe: str, drift: float) -> dict[str, Any]:
        return {"slice": probe_slice(self.config, key, probe), "replay_drift": drift}

    def probe(self, key: RunKey, probe: str, segment: int, *, drift: float = 0.0) -> Path:
        path = self.path(key, f"{probe}/segment{segment}.arrow")
        steps = range(segment * 4, segment * 4 + 4, 2)
        write_table(path, probe, rows_of(probe, steps), provenance=self.facts(key, probe, drift))
        return path

    def gather(self, key: RunKey, probe: str) -> Path:
        path = self.path(key, f"{probe}.arrow")
        write_table(path, probe, rows_of(probe, range(0, STEPS, 2)), provenance=self.facts(key, probe, 0.0))
        return path

    def log(self, name: str, error: BaseException | None) -> None:
        """Leave the log of a job that ended with an error, or was killed."""
        try:
            with job(log=self.folder / "logs" / name):
                logging.getLogger("sgdline").info("line 0 to 4: 2 of 4, 1 a second, 2 s left")
                if error is not None:
                    raise error
        except (Exception, SystemExit, KeyboardInterrupt):
            pass

    def ungather(self, key: RunKey, probe: str, segment: int) -> None:
        self.path(key, f"{probe}.arrow").unlink()
        self.path(key, f"{probe}/segment{segment}.arrow").unlink()


@pytest.fixture
def results(tmp_path: Path, config: dict[str, Any]) -> Results:
    return Results(tmp_path, copy.deepcopy(config)).complete()


def words(results: Results, capsys: pytest.CaptureFixture[str], *, status: int) -> str:
    """Return what the command prints; its exit status must be as given."""
    capsys.readouterr()
    assert main(["status", str(results.folder)]) == status
    return capsys.readouterr().out


MLP = "short/mlp/lr0.1_bs64_seed1"
LABEL = "short_mlp_lr0.1_bs64_seed1"


def test_all_there(results: Results, capsys: pytest.CaptureFixture[str]) -> None:
    found = survey(results.folder)
    assert found.complete
    assert found.runs == {"done": 2}
    assert found.segments == {State.DONE: 2 * 2 * SEGMENTS}
    assert found.rows == {"trace": 24, "line": 12, "evaluation": 12}
    assert found.files == {"tables": (7, 7), "figures": (1, 1)}
    assert found.drift is not None
    assert found.drift[0] == 0.0
    sizes = sum(path.stat().st_blocks * 512 for path in results.folder.rglob("*") if path.is_file())
    assert found.disk.total() == sizes
    assert found.disk["checkpoints"] >= 2 * 5000
    assert found.oldest is not None
    assert found.newest is not None
    assert found.oldest[0] <= found.newest[0]
    text = words(results, capsys, status=0)
    assert "All there." in text
    assert "2: 2 done" in text
    assert len(text.splitlines()) < 24


def test_missing_running_and_waiting_segments(results: Results, capsys: pytest.CaptureFixture[str]) -> None:
    key = results.keys[0]
    results.ungather(key, "line", 0)
    results.path(key, "line/segment2.arrow").unlink()
    results.log(f"probe_segment/{LABEL}_line_2.log", None)
    results.path(key, "evaluation.arrow").unlink()
    found = survey(results.folder)
    assert found.runs == {"done": 1, "not finished": 1}
    assert found.segments == {State.DONE: 10, State.MISSING: 1, State.STARTED: 1}
    assert found.rows["line"] == 6 + 2  # of the segment that is there
    text = words(results, capsys, status=1)
    assert f"{MLP}: evaluation to be gathered; line 1 of 3, 1 missing, 1 running or cut off" in text


def test_a_training_under_way_says_how_far(results: Results, capsys: pytest.CaptureFixture[str]) -> None:
    key = results.keys[0]
    results.path(key, "trace.arrow").unlink()  # the folder of checkpoints alone is no finished training
    results.log(f"train_run/{LABEL}.log", None)
    assert f"{MLP}: training running or cut off (line 0 to 4: 2 of 4" in words(results, capsys, status=1)
    results.log(f"train_run/{LABEL}.log", KeyboardInterrupt())
    assert "training running or cut off" in words(results, capsys, status=1)


def test_failures_come_with_their_reason(results: Results, capsys: pytest.CaptureFixture[str]) -> None:
    key = results.keys[0]
    results.ungather(key, "line", 1)
    results.log(f"probe_segment/{LABEL}_line_1.log", SgdlineError("The replay must end at the checkpoint, got 1."))
    results.picture().unlink()
    results.log("plot_figure/linesearch_fig2_lines_" + LABEL + ".log", ZeroDivisionError("division by zero"))
    results.log(
        "plot_figure/linesearch_fig2_lines_short_gone_lr9_bs1_seed1.log", ValueError("of another configuration")
    )
    results.log("analyse_run/" + LABEL + "2_line_fits.log", ValueError("of another configuration"))
    found = survey(results.folder)
    assert found.runs == {"done": 1, "failed": 1}
    assert found.segments == {State.DONE: 11, State.FAILED: 1}
    assert [finding.words for finding in found.failed] == [
        "The replay must end at the checkpoint, got 1.",
        "ZeroDivisionError: division by zero",
    ]
    text = words(results, capsys, status=1)
    assert f"{MLP}: line, segment 1 (of 3, from 0): The replay must end at the checkpoint, got 1." in text
    assert f"logs/probe_segment/{LABEL}_line_1.log" in text
    assert "missing: 1" in text


def test_a_failed_sharpness_is_reported_for_the_starts_of_the_configuration(results: Results) -> None:
    results.config["experiments"]["short"]["lr_unit"] = "sharpness"
    results.record()
    error = SgdlineError("No eigenvalue converged.")
    for start in ("digits/mlp/chunk64_seed1", "digits/mlp/chunk32_seed1", "digits/gone/chunk64_seed1"):
        results.log(f"measure_sharpness/{start}.log", error)
    assert [(finding.subject, finding.words) for finding in survey(results.folder).failed] == [
        ("measure_sharpness: digits/mlp/chunk64_seed1", str(error))
    ]


def test_a_failure_that_was_mended_is_forgotten(results: Results, capsys: pytest.CaptureFixture[str]) -> None:
    results.log(f"probe_segment/{LABEL}_line_1.log", SgdlineError("An old fault."))
    assert "An old fault" not in words(results, capsys, status=0)


def test_divergence_is_a_result(results: Results, capsys: pytest.CaptureFixture[str]) -> None:
    results.train(results.keys[0], diverged_at=5)
    found = survey(results.folder)
    assert found.complete
    assert found.runs == {"done": 1, "diverged": 1}
    assert found.segments == {State.DONE: 8, State.DIVERGED: 4}  # the segments 4 to 8 and 8 to 12 of two probes
    assert f"{MLP}: at update 5 of 12" in words(results, capsys, status=0)


def test_the_largest_drift(results: Results) -> None:
    key = results.keys[1]
    results.path(key, "line.arrow").unlink()
    path = results.probe(key, "line", 2, drift=3e-7)
    found = survey(results.folder)
    assert found.drift == (3e-7, str(path.relative_to(results.folder)))
    assert "3e-07 at most, in short/tiny_resnet" in report(found)


@pytest.mark.parametrize("damage", ["truncated", "empty", "garbage", "foreign"])
@pytest.mark.parametrize("table", [f"{MLP}/line.arrow", f"{MLP}/trace.arrow", "datasets/digits.arrow"])
def test_a_damaged_table_is_named(
    results: Results, capsys: pytest.CaptureFixture[str], table: str, damage: str
) -> None:
    path = results.folder / table
    whole = path.read_bytes()
    if damage == "foreign":
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, pa.schema([("a", pa.int64())])):
            pass
    else:
        path.write_bytes({"truncated": whole[: len(whole) // 2], "empty": b"", "garbage": bytes(len(whole))}[damage])
    text = words(results, capsys, status=1)
    assert "damaged: 1" in text
    assert path.name in text
    assert "no whole table" in text


def test_tables_of_other_settings_do_not_count(results: Results, capsys: pytest.CaptureFixture[str]) -> None:
    results.config["experiments"]["short"]["probes"]["line"]["every"] = 4
    results.record()
    found = survey(results.folder)
    assert found.segments == {State.DONE: 6, State.OUTDATED: 6}
    assert "line 0 of 3, 3 of other settings" in words(results, capsys, status=1)


def test_what_the_folder_holds_besides(results: Results, capsys: pytest.CaptureFixture[str]) -> None:
    inner = Results(results.folder, results.config).complete()  # results/results
    results.config["experiments"]["short"]["models"] = ["mlp"]
    results.files["tables"] = [path for path in results.files["tables"] if "tiny_resnet" not in path]
    results.record()
    found = survey(results.folder)
    assert found.complete
    assert found.nested == [inner.folder.name]
    assert found.left_over == ["short/tiny_resnet/lr0.1_bs64_seed1"]
    text = words(results, capsys, status=0)
    assert "runs that the configuration does not name: 1, short/tiny_resnet" in text
    assert "results (results folders of their own)" in text


def test_times_that_do_not_fit_are_reported(results: Results, capsys: pytest.CaptureFixture[str]) -> None:
    results.config["experiments"]["short"]["figures"] = ["linesearch/fig2_lines", "linesearch/of_another_version"]
    results.config["experiments"]["short"]["lr_unit"] = "sharpness"
    results.complete().record()
    paths = {
        "dataset": "datasets/digits.arrow",
        "trace": f"{MLP}/trace.arrow",
        "checkpoints": f"{MLP}/checkpoints/.snakemake_timestamp",
        "sharpness": "sharpness/digits/mlp/chunk64_seed1.json",
        "plan": f"{MLP}/line/plan.json",
        "segment": f"{MLP}/line/segment1.arrow",
        "line": f"{MLP}/line.arrow",
        "fits": f"{MLP}/line_fits.arrow",
        "figure": f"figures/linesearch/fig2_lines/{LABEL}.png",
        "claims of a paper": "tables/walk/claims.csv",
        "claims": "tables/claims.csv",
    }
    for path in [*results.folder.rglob("*"), *(results.folder / path for path in paths.values())]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.utime(path, (1e9, 1e9))
    assert "Times" not in words(results, capsys, status=0)
    for source, made in (
        ("dataset", "trace"), ("sharpness", "trace"), ("checkpoints", "segment"), ("plan", "segment"),
        ("segment", "line"), ("line", "fits"), ("line", "figure"), ("trace", "figure"), ("claims of a paper", "claims"),
    ):  # fmt: skip
        for name, path in paths.items():
            os.utime(results.folder / path, (1e9, 1e9 - (name == made) + (name == source)))
        found = survey(results.folder)
        assert (paths[made], paths[source].removesuffix("/.snakemake_timestamp")) in found.untimely
        assert found.complete
    text = " ".join(words(results, capsys, status=0).split())
    assert "Times do not fit: tables/claims.csv is older than tables/walk/claims.csv, which it is made from, so" in text
    assert "cp -a or rsync -a" in text


def test_runs_that_others_continue_are_expected_too(results: Results) -> None:
    child = copy.deepcopy(results.config["experiments"]["short"])
    child |= {"probes": {}, "models": ["mlp"], "start_from": {"experiment": "parent", "lr": 0.1}}
    child["start_from"] |= {"batch_size": None, "step": None}
    parent = copy.deepcopy(results.config["experiments"]["short"])
    results.config["experiments"] |= {"child": child, "parent": parent}
    results.config["run"] = ["short", "child"]
    results.files["tables"].append("child/mlp/lr0.1_bs64_seed1/trace.arrow")
    results.record()
    found = survey(results.folder)
    assert {finding.subject: finding.words for finding in found.unfinished} == {
        f"{name}/mlp/lr0.1_bs64_seed1": "training missing" for name in ("child", "parent")
    }


def test_imported_lines(results: Results) -> None:
    key = results.keys[0]
    results.config["experiments"]["short"] |= {"import_lines": "lines", "segments": 1, "models": ["mlp"]}
    results.config["experiments"]["short"]["probes"].pop("evaluation")
    results.files["tables"] = [f"{MLP}/trace.arrow", f"{MLP}/line.arrow"]
    results.record()
    assert survey(results.folder).complete
    results.path(key, "line.arrow").unlink()
    results.log(f"import_lines/{LABEL}.log", SgdlineError("A pickle must hold arrays."))
    found = survey(results.folder)
    assert [(finding.subject, finding.words) for finding in found.failed] == [
        (f"{MLP}: import", "A pickle must hold arrays.")
    ]


def test_many_findings_fit_on_a_screen(results: Results) -> None:
    results.config["experiments"]["short"]["seed"] = list(range(1, 101))
    results.files["tables"] = [f"{run_path(key)}/trace.arrow" for key in runs(results.config)]
    results.record()
    found = survey(results.folder)
    assert len(found.unfinished) == 198
    assert len(report(found).splitlines()) < 40
    assert "and 193 more (--all)" in report(found)
    assert report(found, everything=True).count("training missing") == 198


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "must say what to expect, found nothing"),
        ("{", "must be a whole record"),
        ('{"config": {}}', "must be a whole record"),
        ('{"config": {"experiments": 3, "toys": {}}, "files": {}}', "must be a record of this version"),
    ],
)
def test_without_a_record_nothing_can_be_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None, sentence: str
) -> None:
    if content is not None:
        (tmp_path / RECORD).write_text(content)
    assert main(["status", str(tmp_path)]) == 2
    assert sentence in capsys.readouterr().err
    assert main(["status", str(tmp_path / "nowhere")]) == 2
    assert "must be a folder" in capsys.readouterr().err


def test_it_needs_neither_torch_nor_snakemake(results: Results) -> None:
    program = (
        "import sys\n"
        "from sgdline.cli import main\n"
        f"status = main(['status', {str(results.folder)!r}])\n"
        "heavy = {'torch', 'snakemake', 'matplotlib', 'pandas', 'scipy'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else status)\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "All there." in result.stdout


def test_the_record_holds_paths_below_its_folder(results: Results) -> None:
    """A folder that is copied to another machine can be asked there."""
    record = json.loads((results.folder / RECORD).read_text())
    assert record["files"]["tables"][0] == f"{MLP}/trace.arrow"
    moved = results.folder.rename(results.folder.with_name("moved"))
    assert survey(moved).complete


def test_what_nobody_asked_for_is_not_expected(results: Results, capsys: pytest.CaptureFixture[str]) -> None:
    for key in results.keys:
        results.ungather(key, "evaluation", 0)
    (results.folder / RECORD).unlink()
    traces = [f"{run_path(key)}/trace.arrow" for key in results.keys]
    results.record(asked=traces)
    assert survey(results.folder).files == {"tables": (2, 2), "figures": (0, 0)}
    assert survey(results.folder).complete
    results.record(asked=[f"{MLP}/line.arrow"])  # another start, for another target
    found = survey(results.folder)
    assert found.complete
    assert found.segments == {State.DONE: SEGMENTS}
    results.record(asked=[f"{MLP}/evaluation.arrow"])
    assert f"{MLP}: evaluation 2 of 3, 1 missing" in words(results, capsys, status=1)
