"""What jobs read, depend on and are called, on a small configuration with a run of every kind."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sgdline import digests
from sgdline.claims.judging.job import Asked
from sgdline.config import ConfigError, resolve_config
from sgdline.declare.build import build
from sgdline.declare.registry import declaration, name_of
from sgdline.errors import SgdlineError
from sgdline.papers.asked import asked
from sgdline.workflow import claims, constraints, drawing, jobs, starts, tables
from sgdline.workflow.jobs import Jobs
from sgdline.workflow.layout import RunKey, run_label, run_path
from sgdline.workflow.runs import every_run, runs

ROOT = Path(__file__).parents[2]


def resolved() -> dict[str, Any]:
    """Lines of three segments; a run that continues one of them; lines that are imported; nothing but a training."""
    common = {"dataset": "digits", "models": ["mlp"], "batch_size": [64], "seed": [1], "steps": 12}
    line = {"every": 2, "positions": "grid", "interval": 0.5, "resolution": 0.01}
    experiments = {
        "lines": {
            **common,
            "lr": [0.1, 0.2],
            "segments": 3,
            "probes": {"line": {**line, "sample_losses": True}, "hvp": {}, "mline": {"every": 6}},
            "figures": ["linesearch/fig2_lines"],
        },
        "child": {
            **common,
            "lr": [0.1],
            "start_from": {"experiment": "lines", "lr": 0.2},
            "probes": {"interp": {}, "hvp": {}, "one_step": {"every": 4}},
            "figures": [{"name": "trajectory", "place": 2}, "walk/fig9_barriers_vgg11"],
        },
        "published": {**common, "lr": [0.1], "import_lines": "folder", "probes": {"line": line}},
        "plain": {**common, "lr": [0.3], "optimizer": {"name": "pal"}, "label_noise": {"probability": 0.0}},
    }
    whole = {
        "results": "out",
        "datasets": {"digits": {"source": "digits", "train": 640}},
        "models": {"mlp": {"entry": "sgdline.models:mlp"}},
        "experiments": experiments,
        "comparisons": {"both": {"figure": "walk/fig4_roles_vgg11", "experiments": ["child", "lines"]}},
    }
    return resolve_config(whole)


CONFIG = resolved()
FIRST = RunKey("lines", "mlp", "0.1", 64, 1)
SECOND = replace(FIRST, lr="0.2")
CHILD = replace(FIRST, experiment="child")
PUBLISHED = replace(FIRST, experiment="published")
PLAIN = RunKey("plain", "mlp", "0.3", 64, 1)


def changed(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    config = copy.deepcopy(CONFIG)
    change(config)
    return config


def asking(config: dict[str, Any] = CONFIG) -> Jobs:
    return Jobs(config, folder=ROOT / "workflow")


def wildcards(run: RunKey | None = None, **texts: str) -> Any:
    named = {} if run is None else {name: str(value) for name, value in asdict(run).items()}
    return SimpleNamespace(**named, **texts)


# --- tables and targets -----------------------------------------------------------------------------------------------


def test_all_tables_are_those_of_the_probes_and_what_is_made_of_them() -> None:
    of_lines = [
        *("line", "line_fits", "line_metrics", "line_distances", "line_strategies"),
        *("hvp", "mline", "mline_metrics", "line_batch_sizes", "trace"),
    ]
    expected = [(run, kind) for run in (FIRST, SECOND) for kind in of_lines]
    of_child = ("trace", "interp", "hvp", "one_step", "one_step_metrics", "intervals", "interval_epochs")
    expected += [(CHILD, kind) for kind in of_child]
    expected += [(PUBLISHED, kind) for kind in ("trace", *of_lines[:5])]
    expected += [(PLAIN, "trace")]
    assert sorted(asking().analysis_files()) == sorted(f"out/{run_path(run)}/{kind}.arrow" for run, kind in expected)


@pytest.mark.parametrize(
    ("probes", "reads"),
    [({"line": {"every": 1}}, ("line", "trace")), ({"line": {"every": 2}}, None), ({}, None), ({"hvp": {}}, None)],
)
def test_intervals_come_from_interp_or_from_lines_of_every_update(
    probes: dict[str, Any], reads: tuple[str, ...] | None
) -> None:
    config = changed(lambda config: config["experiments"]["plain"].update(probes=probes))
    found = tables.analyses(config, "plain")
    assert (found["intervals"].reads if "intervals" in found else None) == reads
    assert ("interval_epochs" in found) == (reads is not None)
    config["experiments"]["plain"]["probes"] = {"interp": {}, **probes}
    found = tables.analyses(config, "plain")
    assert found["intervals"].reads == ("interp", "trace")
    assert list(found).index("intervals") < list(found).index("interval_epochs")


OWN_ANALYSIS = '''
from dataclasses import dataclass
from typing import ClassVar

from sgdline.analysis.kinds.base import Analysis
from sgdline.declare.run_facts import Fault


@dataclass(frozen=True, kw_only=True)
class Highest(Analysis):
    """The highest intervals."""

    reads: ClassVar[tuple[str, ...]] = ("intervals", "trace")
    uses: ClassVar[tuple[str, ...]] = ("smoothing", "steps")
    last: int = 2

    def faults(self):
        if self.last == 13:
            yield Fault(("last",), "must not be 13, got 13. Take 12.")

    def columns(self, tables, settings):
        return {}

    def table(self):
        return None


@dataclass(frozen=True, kw_only=True)
class Unfinished(Analysis):
    pass


@dataclass(frozen=True, kw_only=True)
class Misspelt(Highest):
    uses: ClassVar[tuple[str, ...]] = ("smothing",)


@dataclass(frozen=True, kw_only=True)
class Lost(Highest):
    reads: ClassVar[tuple[str, ...]] = ("intrvals",)


class line_fits(Highest):
    pass
'''


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Resolve a configuration whose child adds analyses of a file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(OWN_ANALYSIS)
    declaration.cache_clear()

    def resolve(experiment: str = "child", **extra: dict[str, Any]) -> dict[str, Any]:
        config = changed(lambda config: None)
        block = {f"mine.py:{name}": options for name, options in extra.items()}
        config["experiments"][experiment]["analysis"]["extra"] = block
        return resolve_config(config)

    return resolve


def test_an_analysis_of_ones_own_is_a_job_like_any(own: Callable[..., dict[str, Any]]) -> None:
    asked = Jobs(own(Highest={"last": 3}), folder=ROOT / "workflow")
    of_own = wildcards(CHILD, analysis="Highest")
    folder = f"out/{run_path(CHILD)}"
    assert asked.analysed(of_own) == {kind: f"{folder}/{kind}.arrow" for kind in ("intervals", "trace")}
    assert asked.analysis_options(of_own) == {"last": 3}
    assert asked.analysis_settings(of_own) == {"smoothing": "auto", "steps": 12}
    assert f"{folder}/Highest.arrow" in asked.analysis_files()
    assert re.fullmatch(constraints.wildcard_constraints(asked.config)["analysis"], "Highest")
    of_file, of_package = (
        asked.analysis_code("analyse_run.py")(wildcards(CHILD, analysis=kind)) for kind in ("Highest", "intervals")
    )
    assert re.fullmatch(r"[0-9a-f]{16} [0-9a-f]{16}", of_file)
    assert re.fullmatch(r"[0-9a-f]{16}", of_package)
    assert "Highest" not in asked.analyses("lines")


@pytest.mark.parametrize(
    ("experiment", "extra", "key", "words"),
    [
        ("child", {"Highest": {"lsat": 3}}, "['mine.py:Highest'].lsat", ["Did you mean 'last'?"]),
        ("child", {"Highest": {"last": 13}}, "['mine.py:Highest'].last", ["must not be 13"]),
        ("plain", {"Highest": {}}, "['mine.py:Highest']", ["tables of this experiment, got 'intervals'"]),
        ("child", {"Lost": {}}, "['mine.py:Lost']", ["Did you mean 'intervals'?"]),
        ("child", {"Unfinished": {}}, "['mine.py:Unfinished']", ["must define table(self) and columns(self"]),
        ("child", {"Misspelt": {}}, "['mine.py:Misspelt']", ["settings of a run, got 'smothing'", "mean 'smoothing'?"]),
        ("child", {"line_fits": {}}, "['mine.py:line_fits']", ["must have a name of its own"]),
        ("child", {"Nothing": {}}, "['mine.py:Nothing']", ["must name a declaration of an analysis"]),
    ],
)
def test_what_is_wrong_with_an_analysis_of_ones_own_is_said(
    own: Callable[..., dict[str, Any]], experiment: str, extra: dict[str, Any], key: str, words: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        own(experiment, **extra)
    path = f"experiments.{experiment}.analysis.extra{key} "
    for part in words:
        assert any(fault.startswith(path) and part in fault for fault in caught.value.faults), caught.value.faults


def test_only_entries_are_analyses_of_ones_own() -> None:
    config = changed(lambda config: config["experiments"]["child"]["analysis"].update(extra={"line_fits": {}}))
    with pytest.raises(ConfigError, match=r"extra\.line_fits must be an entry, folder/file\.py:Name, got 'line_fits'"):
        resolve_config(config)


def test_gains_are_predicted_from_averages_and_spectrum_together() -> None:
    def analysed(run: RunKey, *probes: str) -> list[str]:
        own = {probe: {} for probe in probes}
        config = changed(lambda config: config["experiments"][run.experiment].update(probes=own))
        return list(tables.analyses(config, run.experiment))

    assert analysed(FIRST, "averages") == analysed(FIRST, "spectrum") == []
    assert analysed(FIRST, "averages", "spectrum") == ["predicted_gains"]
    assert analysed(PLAIN, "averages", "spectrum") == []  # there is no theory of pal


def test_a_probes_segments_in_order_or_one_for_what_goes_along_with_a_run() -> None:
    folder = f"out/{run_path(FIRST)}"
    assert asking().segments(wildcards(FIRST, probe="line")) == [
        f"{folder}/line/segment{part}.arrow" for part in range(3)
    ]
    config = changed(lambda config: config["experiments"]["lines"]["probes"].update(averages={}))
    assert asking(config).segments(wildcards(FIRST, probe="averages")) == [f"{folder}/averages/segment0.arrow"]


def test_many_lines_use_the_plan_of_lines_and_hvp_has_none() -> None:
    plan = {"plan": f"out/{run_path(FIRST)}/line/plan.json"}
    assert [asking().plan(wildcards(FIRST, probe=probe)) for probe in ("line", "mline", "hvp")] == [plan, plan, {}]


def test_what_status_expects_holds_what_all_targets_ask_for() -> None:
    expected = asking().expected_files()
    assert set(asking().traces()) <= set(expected["tables"])
    assert expected["claims"] == ["out/tables/claims.csv", "out/tables/claims_over_seeds.csv", "out/tables/summary.md"]
    assert expected["figures"][:2] == [
        f"out/figures/linesearch/fig2_lines/lines_mlp_lr0.1_bs64_seed1.{s}" for s in ("png", "pdf")
    ]


def test_what_may_have_been_trained_includes_runs_that_nobody_names() -> None:
    config = changed(lambda config: config.update(run=["child"]))
    assert runs(config) == [CHILD]
    assert asking(config).trained_folders() == [f"out/{run_path(run)}" for run in every_run(CONFIG)]
    assert set(every_run(config)) == {FIRST, SECOND, CHILD, PUBLISHED, PLAIN}


# --- starts and continued runs ----------------------------------------------------------------------------------------


def test_a_continued_run_reads_the_checkpoints_of_its_parent() -> None:
    assert asking().parent(wildcards(CHILD)) == {"start": f"out/{run_path(SECOND)}/checkpoints"}
    assert asking().parent(wildcards(FIRST)) == {}


def test_runs_that_start_alike_share_a_start() -> None:
    assert starts.start_of(CONFIG, FIRST) == starts.start_of(CONFIG, PLAIN) == "digits/mlp/chunk64_seed1"
    assert starts.start_of(CONFIG, replace(FIRST, seed=2)) == "digits/mlp/chunk64_seed2"
    # Continued runs start at the last update of their parent unless they say another.
    assert starts.start_of(CONFIG, CHILD) == "digits/mlp/chunk64_seed1_from_lines_lr0.2_bs64_step12"
    early = changed(lambda config: config["experiments"]["child"]["start_from"].update(step=4))
    assert starts.start_of(early, CHILD).endswith("_step4")


@pytest.mark.parametrize(("micro_batch", "chunk"), [(None, 64), (16, 16), (100, 64)])
def test_a_chunk_is_a_micro_batch_or_a_whole_batch(micro_batch: int | None, chunk: int) -> None:
    config = changed(lambda config: config["experiments"]["lines"].update(micro_batch=micro_batch))
    assert starts.samples_per_pass(config, FIRST) == chunk


def test_a_start_is_measured_once_for_all_its_runs_and_not_again_for_how_they_go_on() -> None:
    def in_units_of_sharpness(config: dict[str, Any]) -> None:
        config["experiments"]["lines"].update(lr_unit="sharpness")
        config["experiments"]["child"].update(lr_unit="sharpness")

    config = changed(in_units_of_sharpness)
    asked = asking(config)
    assert asked.starts == {starts.start_of(config, FIRST): FIRST, starts.start_of(config, CHILD): CHILD}
    assert asked.sharpness(wildcards(SECOND)) == {"sharpness": "out/sharpness/digits/mlp/chunk64_seed1.json"}
    assert asked.sharpness(wildcards(PLAIN)) == {}
    start = wildcards(start=starts.start_of(config, CHILD))
    assert asked.start_parent(start) == asked.parent(wildcards(CHILD))
    assert asked.start_dataset(start) == "out/datasets/digits.arrow"
    assert starts.start_slice(config, FIRST) == starts.start_slice(config, SECOND)
    changes: dict[str, Any] = {"steps": 20, "segments": 2, "label_noise": {"probability": 0.5}}
    changes["optimizer"] = {**config["experiments"]["lines"]["optimizer"], "momentum": 0.9}
    other = copy.deepcopy(config)
    other["experiments"]["lines"].update(changes)
    assert starts.start_slice(other, FIRST) == starts.start_slice(config, FIRST)
    other["models"]["mlp"]["kwargs"] = {"hidden": [3]}
    assert starts.start_slice(other, FIRST) != starts.start_slice(config, FIRST)


# --- figures ----------------------------------------------------------------------------------------------------------


def picture(figure: str, subject: RunKey | str) -> Any:
    return wildcards(figure=figure, subject=subject if isinstance(subject, str) else run_label(subject))


def test_a_figure_reads_more_tables_of_runs_that_have_them() -> None:
    asked_for, folder = asking(), f"out/{run_path(CHILD)}"
    assert asked_for.drawn_tables(picture("trajectory", CHILD)) == {
        kind: f"{folder}/{kind}.arrow" for kind in ("intervals", "trace", "hvp")
    }
    several = picture("walk/fig4_roles_vgg11", "both")
    without = changed(lambda config: config["experiments"]["child"]["probes"].pop("hvp"))
    assert asking(without).drawn_tables(several) == {
        "trace": [f"out/{run_path(run)}/trace.arrow" for run in (CHILD, FIRST, SECOND)],
        "hvp": [f"out/{run_path(run)}/hvp.arrow" for run in (FIRST, SECOND)],
    }
    assert [block["lr"] for block in asked_for.drawn_settings(several)] == ["0.1", "0.1", "0.2"]


def test_a_job_gets_a_figures_kind_and_options_whatever_its_id() -> None:
    asked_for = asking()
    assert asked_for.figure(picture("trajectory", CHILD)) == {
        "name": "trajectory", "called": None, "title": None, "width": "page", "panel": None, "marks": [], "place": 2,
    }  # fmt: skip
    # Of a figure that the configuration does not ask for, too.
    assert asked_for.figure(picture("walk/fig16_sgd_vgg11_e25", CHILD)) == {"name": "trajectory", "place": 3}
    assert asked_for.drawn_tables(picture("trajectory", FIRST)).keys() == {"intervals", "trace", "hvp"}
    with pytest.raises(SgdlineError, match=r"must show a run that the configuration has, got 'lines_mlp_lr9"):
        asked_for.figure(picture("trajectory", replace(FIRST, lr="9")))
    labels = asked_for.report_labels(picture("trajectory", CHILD))
    assert (labels["lr"], labels["batch size"], labels["experiment"]) == ("0.1", "64", "child")


def test_a_figure_is_drawn_with_what_it_uses_and_no_more() -> None:
    lines, trajectory = asked("lines").figure, asked("trajectory").figure
    shown = drawing.figure_settings(CONFIG, FIRST, lines)
    assert {key: shown[key] for key in ("dataset", "model", "lr", "batch_size", "steps", "start_from")} == {
        "dataset": "digits", "model": "mlp", "lr": "0.1", "batch_size": 64, "steps": 12, "start_from": None,
    }  # fmt: skip
    assert shown["analysis"].keys() == {"figure_lines"}
    assert shown["probes"].keys() == {"line"}
    assert "plan" not in shown["probes"]["line"]  # how it is measured redraws nothing
    plain = drawing.figure_settings(CONFIG, PLAIN, trajectory)
    assert plain["label_noise"] == {"probability": 0.0, "schedule": "constant"}
    # What the update rule declares: pal takes its lr for a length, and no theory of the stationary state is for it.
    assert (shown["lr_is_length"], shown["theory"]) == (False, {"momentum": 0.0})
    assert (plain["lr_is_length"], plain["theory"]) == (True, None)
    child = drawing.figure_settings(CONFIG, CHILD, trajectory)
    assert child["start_from"]["step"] == 12
    assert child["probes"].keys() == {"interp", "hvp"}  # at second hand: what the intervals are made from


def test_comparisons_and_figures_of_what_does_not_run_are_left_out() -> None:
    assert ("walk/fig4_roles_vgg11", "both") in [
        (figure.named, subject) for figure, subject in drawing.pictures(CONFIG)
    ]
    config = changed(lambda config: config.update(run=["child"]))
    drawn = [(figure.folder, subject) for figure, subject in drawing.pictures(config)]
    assert drawn == [("trajectory", CHILD), ("walk/fig9_barriers_vgg11", CHILD)]


# --- code -------------------------------------------------------------------------------------------------------------


def test_a_digest_covers_what_a_script_finds_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "code_digest", lambda script, *modules: " ".join([script.name, *modules]))
    asked_for = asking()
    rest = "sgdline.train.schedules.constant sgdline.losses.cross_entropy"
    assert asked_for.training_code("train_run.py")(wildcards(PLAIN)) == f"train_run.py sgdline.train.rules.pal {rest}"
    assert asked_for.probing_code("probe_segment.py")(wildcards(FIRST, probe="line")) == (
        f"probe_segment.py sgdline.probes.line.options sgdline.train.rules.sgd {rest}"
    )
    planned = asked_for.planning_code("plan_probe.py")(wildcards(FIRST, probe="line"))
    assert planned == f"plan_probe.py sgdline.probes.line.trial sgdline.train.rules.sgd {rest}"
    assert asked_for.gathering_code("gather_segments.py")(wildcards(probe="hvp")).split()[1:] == [
        "sgdline.probes.hvp.table"
    ]
    prepared = asked_for.preparing_code("prepare_dataset.py")(wildcards(dataset="digits"))
    assert prepared == "prepare_dataset.py sgdline.data.sources.digits"
    drawn = asked_for.drawing_code("plot_figure.py")(picture("walk/fig9_barriers_vgg11", CHILD)).split()
    kinds = ("intervals", "interval_epochs", "trace")
    assert drawn[1:] == ["sgdline.figures.barriers", *(f"sgdline.tables.kinds.{kind}" for kind in kinds)]
    compared = asked_for.drawing_code("plot_figure.py")(picture("walk/fig4_roles_vgg11", "both"))
    assert compared.split()[2:] == ["sgdline.tables.kinds.trace", "sgdline.probes.hvp.table"]


def test_a_rule_and_a_schedule_of_the_users_have_digests_of_their_own_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rates.py").write_text("x = 1\n")
    config = changed(lambda config: config["experiments"]["lines"]["schedule"].update(name="rates.py:Mine"))
    own = asking(config).training_code("train_run.py")(wildcards(FIRST))
    plain = asking().training_code("train_run.py")(wildcards(FIRST))
    assert len(plain.split()) == 1
    assert own.split()[1:] == [digests.entry_digest("rates.py:Mine")]
    assert "unreadable" not in own


# --- claims -----------------------------------------------------------------------------------------------------------


def asked_of(judged: str, config: dict[str, Any] = CONFIG) -> Asked:
    """Return what a job of the rule `judge` gets as params, built as the job does it."""
    return build(Asked, asking(config).judged(wildcards(judged=judged)))


def test_settings_of_a_run_are_values_that_touch_it() -> None:
    by_run = {
        (run.settings.experiment, run.settings.lr): run.settings
        for judged in ("linesearch", "walk")
        for run in asked_of(judged).runs
    }
    child, plain = by_run["child", 0.1], by_run["lines", 0.1]
    assert (child.continued, child.whole_batches, child.batch_size, child.seed) == (True, False, 64, 1)
    assert child.start_from is not None
    assert (child.start_from.step, child.start_from.lr, child.start_from.experiment) == (12, 0.2, "lines")
    assert (plain.continued, plain.dataset, plain.steps, plain.lr_unit) == (False, "digits", 12, "absolute")
    assert (plain.label_noise.probability, name_of(type(plain.schedule))) == (0.0, "constant")
    assert claims.run_settings(CONFIG, replace(FIRST, batch_size=640))["whole_batches"] is True
    assert claims.run_settings(CONFIG, PLAIN)["optimizer"].keys() == {"name", "beta", "adaptation", "max_step"}


def test_a_papers_runs_are_those_that_its_figures_draw_alone_or_compared() -> None:
    assert claims.drawn_runs(CONFIG, "walk") == [FIRST, SECOND, CHILD]
    assert claims.drawn_runs(CONFIG, "linesearch") == [FIRST, SECOND]
    assert claims.drawn_runs(CONFIG, "sparse") == []
    only = changed(lambda config: config.update(run=["child"]))
    assert claims.drawn_runs(only, "walk") == [CHILD]


def test_claims_are_judged_on_the_tables_that_they_declare_and_runs_make() -> None:
    judgements = asking().judgements
    # No figure of sparse or of curious is drawn; linesearch is judged on every run with lines.
    assert list(judgements) == ["linesearch", "walk"]
    kinds = ("trace", "line_fits", "line_metrics", "line_strategies")
    sampled = ("trace", "line_fits", "line_metrics", "line_strategies", "line_batch_sizes", "line")
    assert {run: set(read) for run, read in judgements["linesearch"].runs} == {
        FIRST: set(sampled), SECOND: set(sampled), PUBLISHED: {*kinds, "line"},
    }  # fmt: skip
    assert dict(judgements["walk"].runs) == {
        FIRST: ("trace",), SECOND: ("trace",), CHILD: ("trace", "intervals", "interval_epochs"),
    }  # fmt: skip
    tables = asking().judged_tables(wildcards(judged="walk"))
    assert tables == [
        f"out/{run_path(run)}/{kind}.arrow" for run, kinds in judgements["walk"].runs for kind in kinds
    ]  # fmt: skip
    assert asking().claim_parts("summary") == ["out/tables/linesearch/summary.md", "out/tables/walk/summary.md"]


def test_papers_that_no_run_and_no_toy_serves_are_skipped() -> None:
    assert asking(changed(lambda config: config.update(run=["plain"]))).judgements == {}
    with pytest.raises(SgdlineError, match=r"that a run or a toy serves, got 'wakl'\. Did you mean 'walk'\?"):
        asking().judged(wildcards(judged="wakl"))

    def with_toy(config: dict[str, Any]) -> None:
        config["toys"]["bowl"] = {"toy": "quadratic_descent", "figures": []}
        config["toys"]["nets"] = {"toy": "diagonal_networks", "updates": 2000, "figures": []}
        config["run"] = ["plain", "bowl", "nets"]

    judgements = asking(changed(with_toy)).judgements
    assert [(name, one.runs, one.toys) for name, one in judgements.items()] == [("sparse", (), ("nets",))]
    [toy] = asked_of("sparse", changed(with_toy)).toys
    assert (toy.name, toy.kind, toy.settings) == ("nets", "diagonal_networks", {"updates": 2000})


def test_a_paper_without_figures_is_judged_on_every_run() -> None:
    made = partial(tables.kinds_made, CONFIG)
    drawn, every = (claims.judgements(CONFIG, drawing=papers, made=made)["walk"] for papers in (["walk"], ["curious"]))
    assert [run for run, _ in drawn.runs] == [FIRST, SECOND, CHILD]
    assert [run for run, _ in every.runs] == [FIRST, SECOND, CHILD, PUBLISHED, PLAIN]


def test_a_judgement_depends_on_its_own_papers_code() -> None:
    asked = asking()
    code = asked.judging_code("judge.py")
    assert code(wildcards(judged="walk")) != code(wildcards(judged="linesearch"))
    assert asked.judgements["walk"].code == tuple(
        f"sgdline.papers.walk.{part}" for part in ("claims", "summary", "published")
    )


# --- wildcards --------------------------------------------------------------------------------------------------------


def test_names_are_matched_as_they_are() -> None:
    assert re.fullmatch(constraints.one_of(["1e-05", "0.1"]), "0.1")
    assert not re.fullmatch(constraints.one_of(["1e-05", "0.1"]), "0x1")
    for name in ("", "a"):
        assert not re.fullmatch(constraints.one_of([]), name)


def test_every_experiment_is_for_one_of_the_rules_that_make_a_probes_table() -> None:
    of_rules = [
        constraints.experiments_with(CONFIG, imported_lines=True),
        constraints.experiments_with(CONFIG, imported_lines=False, several_segments=True),
        constraints.experiments_with(CONFIG, imported_lines=False, several_segments=False),
    ]
    assert of_rules == ["published", "lines", "child|plain"]
    assert constraints.experiments_with(CONFIG, imported_lines=False) == "child|lines|plain"


def test_pictures_of_every_figure_may_be_asked_for() -> None:
    folders = asking().figure_folders().split("|")
    assert {"trajectory", "walk/fig9_barriers_vgg11", "walk/fig36_quadratic"} <= set(folders)


def test_constraints_admit_every_file_of_the_configuration() -> None:
    admitted = constraints.wildcard_constraints(CONFIG)
    for run in runs(CONFIG):
        assert all(re.fullmatch(admitted[name], str(value)) for name, value in asdict(run).items())
    assert all(re.fullmatch(admitted["start"], starts.start_of(CONFIG, run)) for run in runs(CONFIG))
    assert admitted["probe"] == "hvp|interp|line|mline|one_step"
    assert admitted["toy"] == "(?!)"
