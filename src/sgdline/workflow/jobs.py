"""The jobs of one configuration: what rules ask for when Snakemake plans, by the wildcards of a job."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from sgdline.analysis.made import Analysed
from sgdline.declare.faults import name_hint
from sgdline.declare.registry import code_of, is_entry, label, names
from sgdline.digests import code_digest, entry_digest
from sgdline.errors import SgdlineError
from sgdline.papers.asked import Asked, asked, known
from sgdline.papers.base import figure_ids, papers
from sgdline.workflow import claims, code, constraints, drawing, slices, starts, tables
from sgdline.workflow.layout import CLAIM_FILES, PICTURES, Layout, RunKey, run_key, run_label
from sgdline.workflow.runs import (
    Config,
    every_run,
    experiment_of,
    parent_run,
    planned_by,
    probe_segments,
    run_labels,
    runs,
    toys,
)


class Wildcards(Protocol):
    """Wildcards of a job as Snakemake hands them over: texts. A job has those that its rule's outputs name."""

    experiment: str
    model: str
    lr: str
    batch_size: str
    seed: str
    probe: str
    analysis: str
    figure: str
    subject: str
    toy: str
    judged: str
    start: str
    dataset: str


@dataclass(frozen=True, eq=False)
class Jobs:
    """Answers to the questions of rules; those that take wildcards are input and params functions.

    Attributes:
        config: The checked configuration.
        folder: Where the scripts and the captions of the workflow are.
    """

    config: Config
    folder: Path
    # One slice for all segments of a run's probe, which may be many.
    _probe_slices: dict[tuple[RunKey, str], dict[str, Any]] = field(default_factory=dict, init=False, repr=False)
    _analyses: dict[str, Mapping[str, Analysed]] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def layout(self) -> Layout:
        """Names of the files of the results folder."""
        return Layout(self.config["results"])

    @cached_property
    def runs(self) -> list[RunKey]:
        """All runs that are asked for."""
        return runs(self.config)

    @cached_property
    def _pictures(self) -> Mapping[tuple[str, str], tuple[Asked, RunKey | str]]:
        """Figures that are asked for, each with what it shows, by folder and by the name of the picture."""
        return {
            (figure.folder, subject if isinstance(subject, str) else run_label(subject)): (figure, subject)
            for figure, subject in drawing.pictures(self.config)
        }

    @cached_property
    def starts(self) -> Mapping[str, RunKey]:
        """One run for each start whose sharpness is measured."""
        return starts.measured_starts(self.config)

    # --- constraints of wildcards: regular expressions ----------------------------------------------------------------

    def experiments_with(self, *, imported_lines: bool, several_segments: bool | None = None) -> str:
        """Return which experiments a rule is for; see `sgdline.workflow.constraints`."""
        return constraints.experiments_with(
            self.config, imported_lines=imported_lines, several_segments=several_segments
        )

    def figure_folders(self) -> str:
        """Return the folders of figures: all kinds, the ids of papers, and what the configuration names."""
        own = [figure.folder for figure, _ in self._pictures.values()]
        return constraints.one_of([*names("figure"), *figure_ids(), *own])

    # --- code: digests for params -------------------------------------------------------------------------------------

    def code(self, script: str, *modules: str) -> str:
        """Return the digest of a script, of what it imports, and of modules and entries that it finds by name."""
        own = [module for module in modules if not is_entry(module)]
        digest = code_digest(self.folder / "scripts" / script, *own)
        entries = [entry_digest(module) for module in modules if is_entry(module)]
        return " ".join([digest, *entries]) if entries else digest

    def preparing_code(self, script: str) -> Callable[[Wildcards], str]:
        """Return a params function with the digest of a script that prepares one data set."""
        return lambda wildcards: self.code(script, code.source_code(self.config, wildcards.dataset))

    def thing_code(self, script: str, kind: str, name: str) -> str:
        """Return the digest of a script and of a thing that makes a table, which its name or an entry names."""
        if is_entry(name):
            return f"{self.code(script)} {entry_digest(name)}"
        return self.code(script, code_of(kind, name), *code.table_modules_of(name))

    def training_code(self, script: str) -> Callable[[Wildcards], str]:
        """Return a params function with the digest of a script that trains or repeats a training."""
        return lambda wildcards: self.code(script, *code.training_modules(self.config, run_key(wildcards)))

    def probing_code(self, script: str) -> Callable[[Wildcards], str]:
        """Return a params function with the digest of a script that measures one probe."""
        return lambda wildcards: self.code(
            script,
            code.probe_code(self.config, wildcards.experiment, wildcards.probe),
            *code.training_modules(self.config, run_key(wildcards)),
        )

    def planning_code(self, script: str) -> Callable[[Wildcards], str]:
        """Return a params function with the digest of a script that chooses the plan of one probe."""
        return lambda wildcards: self.code(
            script,
            code.trial_module(wildcards.probe),
            *code.training_modules(self.config, run_key(wildcards)),
        )

    def gathering_code(self, script: str) -> Callable[[Wildcards], str]:
        """Return a params function with the digest of a script that reads and writes the table of one probe."""
        return lambda wildcards: self.code(script, *code.table_modules_of(wildcards.probe))

    def analysis_code(self, script: str) -> Callable[[Wildcards], str]:
        """Return a params function with the digest of a script that makes the table of one analysis."""
        return lambda wildcards: self.thing_code(script, "analysis", self._analysis(wildcards).name)

    def toy_code(self, script: str) -> Callable[[Wildcards], str]:
        """Return a params function with the digest of a script that simulates one toy."""
        return lambda wildcards: self.thing_code(script, "toy", self.toy_kind(wildcards))

    def drawing_code(self, script: str) -> Callable[[Wildcards], str]:
        """Return a params function with the digest of a script that draws one figure, from tables that it reads."""

        def digest(wildcards: Wildcards) -> str:
            figure, _ = self._picture(wildcards)
            modules = [module for kind in self.drawn_tables(wildcards) for module in code.table_modules_of(kind)]
            return self.code(script, code_of("figure", figure.block["name"]), *modules)

        return digest

    def model_code(self, wildcards: Wildcards) -> str:
        """Return the digest of the factory of a run's network."""
        return entry_digest(self.config["models"][wildcards.model]["entry"])

    # --- data, training, probes ---------------------------------------------------------------------------------------

    def threads(self, wildcards: Wildcards) -> int:
        """Return the CPU threads of a training or probing job."""
        return self._threads(run_key(wildcards))

    def labels(self, wildcards: Wildcards) -> dict[str, Any]:
        """Return what names a run, for its tables and figures."""
        return run_labels(self.config, run_key(wildcards))

    def dataset(self, wildcards: Wildcards) -> str:
        """Return the prepared data set of a run."""
        return self._dataset(run_key(wildcards))

    def steps(self, wildcards: Wildcards) -> int:
        """Return the number of updates of a run."""
        steps: int = experiment_of(self.config, run_key(wildcards))["steps"]
        return steps

    def dataset_settings(self, wildcards: Wildcards) -> dict[str, Any]:
        """Return the slice of the configuration that a prepared data set depends on."""
        return slices.dataset_slice(self.config, wildcards.dataset)

    def training(self, wildcards: Wildcards) -> dict[str, Any]:
        """Return the slice of the configuration that a training depends on."""
        return slices.training_slice(self.config, run_key(wildcards))

    def parent(self, wildcards: Wildcards) -> dict[str, str]:
        """Return the checkpoints of the run that a run continues, by name; nothing for one from random parameters."""
        return self._parent(run_key(wildcards))

    def sharpness(self, wildcards: Wildcards) -> dict[str, str]:
        """Return the file that says what a run's learning rates are multiples of, by name; nothing if it is 1."""
        run = run_key(wildcards)
        if experiment_of(self.config, run)["lr_unit"] == "absolute":
            return {}
        return {"sharpness": self.layout.sharpness(starts.start_of(self.config, run))}

    def plan_settings(self, wildcards: Wildcards) -> dict[str, Any]:
        """Return the slice of the configuration that the choice of a probe's plan depends on."""
        return slices.plan_slice(self.config, run_key(wildcards), wildcards.probe)

    def plan(self, wildcards: Wildcards) -> dict[str, str]:
        """Return the plan of a run's probe by name; nothing for a probe that has none."""
        run = run_key(wildcards)
        planned = planned_by(self.config, run.experiment, wildcards.probe)
        return {"plan": self.layout.plan(run, planned)} if planned else {}

    def probe(self, wildcards: Wildcards) -> dict[str, Any]:
        """Return the slice of the configuration that a probe depends on."""
        key = run_key(wildcards), wildcards.probe
        if key not in self._probe_slices:
            self._probe_slices[key] = slices.probe_slice(self.config, *key)
        return self._probe_slices[key]

    def segments(self, wildcards: Wildcards) -> list[str]:
        """Return a run's segment tables of one probe, in order."""
        run = run_key(wildcards)
        count = probe_segments(self.config, run.experiment, wildcards.probe)
        return [self.layout.segment(run, wildcards.probe, segment) for segment in range(count)]

    def imported(self, wildcards: Wildcards) -> str:
        """Return the folder that the lines of a run are imported from."""
        folder: str = experiment_of(self.config, run_key(wildcards))["import_lines"]
        return folder

    def imported_files(self, wildcards: Wildcards) -> str:
        """Return a digest of the files to import: ten thousand inputs would slow down every start of Snakemake."""
        # Imported lazily: it imports numpy, and most configurations import nothing.
        from sgdline.data.published_lines import folder_digest

        return folder_digest(self.imported(wildcards))

    def import_settings(self, wildcards: Wildcards) -> dict[str, Any]:
        """Return what an import depends on, the files apart."""
        return slices.import_slice(self.config, run_key(wildcards))

    # --- starts: the sharpness where runs begin -----------------------------------------------------------------------

    def start_parent(self, wildcards: Wildcards) -> dict[str, str]:
        """Return the checkpoints that runs of this start continue, by name; nothing for random parameters."""
        return self._parent(self.starts[wildcards.start])

    def start_dataset(self, wildcards: Wildcards) -> str:
        """Return the prepared data set of a start."""
        return self._dataset(self.starts[wildcards.start])

    def start_threads(self, wildcards: Wildcards) -> int:
        """Return the CPU threads of the job that measures a start."""
        return self._threads(self.starts[wildcards.start])

    def start_settings(self, wildcards: Wildcards) -> dict[str, Any]:
        """Return the slice of the configuration that the sharpness of a start depends on."""
        return starts.start_slice(self.config, self.starts[wildcards.start])

    def start_code(self, script: str) -> Callable[[Wildcards], str]:
        """Return a params function with the digest of a script that measures the sharpness of a start."""
        return lambda wildcards: self.code(
            script,
            *code.START,
            code.loss_code(self.config, self.starts[wildcards.start]),
        )

    def start_model_code(self, wildcards: Wildcards) -> str:
        """Return the digest of the factory of a start's network."""
        return entry_digest(self.config["models"][self.starts[wildcards.start].model]["entry"])

    # --- analysis and toys --------------------------------------------------------------------------------------------

    def analyses(self, experiment: str) -> Mapping[str, Analysed]:
        """Return the analyses of an experiment's runs by the kinds of their tables."""
        if experiment not in self._analyses:
            self._analyses[experiment] = tables.analyses(self.config, experiment)
        return self._analyses[experiment]

    def analysed(self, wildcards: Wildcards) -> dict[str, str]:
        """Return the tables that an analysis reads of a run, by kind."""
        return {kind: self.layout.table(run_key(wildcards), kind) for kind in self._analysis(wildcards).reads}

    def analysis_name(self, wildcards: Wildcards) -> str:
        """Return the name or the entry of an analysis."""
        return self._analysis(wildcards).name

    def analysis_options(self, wildcards: Wildcards) -> dict[str, Any]:
        """Return the options of an analysis itself."""
        return dict(self._analysis(wildcards).options)

    def analysis_settings(self, wildcards: Wildcards) -> dict[str, Any]:
        """Return the settings of a run that an analysis uses."""
        return slices.analysis_slice(self.config, run_key(wildcards), keys=self._analysis(wildcards).uses)

    def toy_kind(self, wildcards: Wildcards) -> str:
        """Return the kind of a toy."""
        kind: str = self.config["toys"][wildcards.toy]["toy"]
        return kind

    def toy_settings(self, wildcards: Wildcards) -> dict[str, Any]:
        """Return the slice of the configuration that a toy depends on, its kind apart."""
        return slices.toy_slice(self.config, wildcards.toy)

    # --- figures ------------------------------------------------------------------------------------------------------

    def figure(self, wildcards: Wildcards) -> dict[str, Any]:
        """Return the name, or the entry, of a figure, and its options."""
        figure, _ = self._picture(wildcards)
        return dict(figure.block)

    def drawn_tables(self, wildcards: Wildcards) -> dict[str, str | list[str]]:
        """Return the tables that a figure reads, by kind: of a run, of each run compared, or of a toy."""
        asked_for, subject = self._picture(wildcards)
        figure = asked_for.figure
        if isinstance(subject, RunKey):
            kinds = drawing.kinds_drawn(self.config, subject, figure)
            return {kind: self.layout.table(subject, kind) for kind in kinds}
        if figure.toy is not None:
            return {label(figure.toy): self.layout.toy(subject)}
        found: dict[str, list[str]] = {}
        for run in drawing.compared_runs(self.config, subject):
            for kind in drawing.kinds_drawn(self.config, run, figure):
                found.setdefault(kind, []).append(self.layout.table(run, kind))
        return dict(found)

    def drawn_settings(self, wildcards: Wildcards) -> dict[str, Any] | list[dict[str, Any]]:
        """Return the labels and settings that a figure is drawn with; a list where it compares."""
        figure, subject = self._picture(wildcards)
        return drawing.settings_of(self.config, subject, figure.figure)

    def caption(self, wildcards: Wildcards) -> str:
        """Return the caption of a figure; the report knows no wildcards in the name of a caption's file."""
        figure, _ = self._picture(wildcards)
        return figure.caption

    def report_category(self, wildcards: Wildcards) -> str:
        """Return where a figure is in the report: its paper, or `figures`."""
        return wildcards.figure.partition("/")[0] if "/" in wildcards.figure else "figures"

    def report_labels(self, wildcards: Wildcards) -> dict[str, str]:
        """Return what tells the pictures of a figure apart in the report."""
        figure, subject = self._picture(wildcards)
        if isinstance(subject, RunKey):
            return {name.replace("_", " "): str(value) for name, value in asdict(subject).items()}
        return {figure.figure.subject: subject}

    def _picture(self, wildcards: Wildcards) -> tuple[Asked, RunKey | str]:
        """Return the figure of a picture and what it shows; it need not be one that the configuration asks for."""
        found = self._pictures.get((wildcards.figure, wildcards.subject))
        if found is not None:
            return found
        drawn = [subject for folder, subject in self._pictures if folder == wildcards.figure]
        if wildcards.figure not in known():  # a folder that the configuration names: what it draws there, and no more
            rule = "The picture must be one that the configuration asks for"
            hint = name_hint(wildcards.subject, drawn, kind="pictures of it")
            raise SgdlineError(f"{rule}, got {wildcards.subject!r} for {wildcards.figure}. {hint}")
        figure = asked(wildcards.figure)
        subjects: Mapping[str, RunKey | str] = {
            "run": {run_label(run): run for run in every_run(self.config)},
            "comparison": {name: name for name in self.config["comparisons"]},
            "toy": {name: name for name, block in self.config["toys"].items() if block["toy"] == figure.figure.toy},
        }[figure.figure.subject]
        if wildcards.subject not in subjects:
            rule = f"The picture must show a {figure.figure.subject} that the configuration has"
            hint = name_hint(wildcards.subject, subjects, kind="such names")
            raise SgdlineError(f"{rule}, got {wildcards.subject!r} for {wildcards.figure}. {hint}")
        return figure, subjects[wildcards.subject]

    # --- claims -------------------------------------------------------------------------------------------------------

    @cached_property
    def judgements(self) -> Mapping[str, claims.Judgement]:
        """What is judged, by the wildcard `judged`."""
        return claims.judgements(self.config, drawing=papers(), made=self._kinds_made)

    def judged(self, wildcards: Wildcards) -> dict[str, Any]:
        """Return what the judgement of claims depends on, beside tables and code."""
        asked = self._judgement(wildcards)
        return {
            "claim": asked.claim,
            "settings": claims.claim_settings(self.config, asked),
            "runs": [
                {"settings": claims.run_settings(self.config, run), "kinds": list(kinds)} for run, kinds in asked.runs
            ],
            "toys": [claims.toy_facts(self.config, toy) for toy in asked.toys],
        }

    def judged_tables(self, wildcards: Wildcards) -> list[str]:
        """Return the tables that claims are judged on: of each run its kinds, then of each toy its table."""
        asked = self._judgement(wildcards)
        of_runs = [self.layout.table(run, kind) for run, kinds in asked.runs for kind in kinds]
        return of_runs + self.toy_files(asked.toys)

    def judging_code(self, script: str) -> Callable[[Wildcards], str]:
        """Return a params function with the digest of a script that judges the claims of a paper, or one claim."""
        return lambda wildcards: self.code(script, *self._judgement(wildcards).code)

    def claim_parts(self, name: str) -> list[str]:
        """Return one kind of file of all that is judged."""
        return [self.layout.claims(name, judged) for judged in self.judgements]

    # --- targets ------------------------------------------------------------------------------------------------------

    def traces(self) -> list[str]:
        """Return the trace of every run."""
        return [self.layout.table(run, "trace") for run in self.runs]

    def analysis_files(self) -> list[str]:
        """Return every table of the analysis, those of the probes and of the toys, and the traces."""
        found = self.traces()
        for run in self.runs:
            found += [self.layout.table(run, kind) for kind in self._kinds_made(run.experiment)]
        return found + self.toy_files(toys(self.config))

    def toy_files(self, names: Iterable[str]) -> list[str]:
        """Return the tables of these toys."""
        return [self.layout.toy(toy) for toy in names]

    def figure_files(self) -> list[str]:
        """Return every figure of every run, every comparison and every toy, as PNG and PDF."""
        return [
            self.layout.figure(figure.folder, subject, suffix)
            for figure, subject in drawing.pictures(self.config)
            for suffix in PICTURES
        ]

    def claim_files(self) -> list[str]:
        """Return the tables over all runs."""
        return [self.layout.claims(name) for name in CLAIM_FILES]

    def expected_files(self) -> dict[str, list[str]]:
        """Return all that the results folder is going to hold, by kind in a reader's words."""
        return {"tables": self.analysis_files(), "figures": self.figure_files(), "claims": self.claim_files()}

    def trained_folders(self) -> Sequence[str]:
        """Return the folders of all runs that may have been trained."""
        return [self.layout.run(run) for run in every_run(self.config)]

    # --- of a run -----------------------------------------------------------------------------------------------------

    def _kinds_made(self, experiment: str) -> list[str]:
        return [*map(label, self.config["experiments"][experiment]["probes"]), *self.analyses(experiment)]

    def _judgement(self, wildcards: Wildcards) -> claims.Judgement:
        found = self.judgements.get(wildcards.judged)
        if found is None:
            rule = "Claims must be those of a paper, or of the configuration, that a run or a toy serves"
            hint = name_hint(wildcards.judged, self.judgements, kind="such claims")
            raise SgdlineError(f"{rule}, got {wildcards.judged!r}. {hint}")
        return found

    def _analysis(self, wildcards: Wildcards) -> Analysed:
        analysis, experiment = wildcards.analysis, wildcards.experiment
        found = self.analyses(experiment).get(analysis)
        if found is None:
            raise SgdlineError(
                f"experiments.{experiment} must measure what {analysis} is made of, got probes "
                f"{', '.join(self.config['experiments'][experiment]['probes']) or 'none'}. Add the probes that "
                f"sgdline describe {analysis} names."
            )
        return found

    def _threads(self, run: RunKey) -> int:
        threads: int = experiment_of(self.config, run)["threads"]
        return threads

    def _dataset(self, run: RunKey) -> str:
        return self.layout.dataset(experiment_of(self.config, run)["dataset"])

    def _parent(self, run: RunKey) -> dict[str, str]:
        parent = parent_run(self.config, run)
        return {} if parent is None else {"start": self.layout.checkpoints(parent)}
