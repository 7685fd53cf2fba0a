# Helper functions and wildcard constraints. No torch is imported here: a dry run has to stay fast.
import re
import sys
from dataclasses import asdict
from functools import cache
from pathlib import Path

from snakemake.exceptions import WorkflowError

SCRIPTS = Path(workflow.basedir).joinpath("workflow", "scripts")

from sgdline import config as settings
from sgdline import expected, figures
from sgdline.digests import code_digest, entry_digest
from sgdline.errors import SgdlineError
from sgdline.runtime import share_package
from sgdline.train.leftovers import forget_training
from sgdline.workflow import layout, runs as runs_, slices

# The package comes with the workflow: scripts find it without an installation, in any environment, on any node.
share_package()

FIGURES = {figure: figures.spec(figure) for figure in figures.available()}

OVERLAYS = [Path(path) for path in workflow.overwrite_configfiles]

try:
    CONFIG = settings.resolve_config(
        config,
        files=settings.ConfigFiles(
            [path for path in map(Path, workflow.configfiles) if path not in OVERLAYS]
            + OVERLAYS,
            command_line=workflow.config_settings.config,
        ),
        schema=settings.load_schema(
            Path(workflow.basedir) / "workflow" / "schemas" / "config.schema.yaml"
        ),
        **figures.facts_for_config(),
    )
except settings.ConfigError as error:
    again = ["To check a change without Snakemake: sgdline check", *map(str, OVERLAYS)]
    in_files = any(not fault.startswith("--config: ") for fault in error.faults)
    raise WorkflowError(f"{error}\n{' '.join(again) if in_files else ''}".rstrip())
except SgdlineError as error:
    raise WorkflowError(str(error))

RESULTS = CONFIG["results"]
RUNS = runs_.runs(CONFIG)
# The folder of a run, with wildcards where its key has values.
RUN = f"{RESULTS}/{layout.run_path(layout.RUN)}"
IMPORTED = [
    name for name, block in CONFIG["experiments"].items() if block["import_lines"]
]
RUN_LABEL = layout.run_label(layout.RUN)
# The tables that the analysis makes of a probe's.
ANALYSES = {
    "line": ("line_fits", "line_metrics", "line_distances", "line_strategies"),
    "mline": ("mline_metrics",),
    "one_step": ("one_step_metrics",),
}
# Papers whose claims are tested, by rules judge_<paper>.
JUDGED = ["linesearch", "walk", "curious", "sparse"]
# The largest eigenvalue where runs start: the same for all that start alike.
SHARPNESS = f"{RESULTS}/sharpness/{{start}}.json"
LOGS = f"{RESULTS}/logs"
BENCHMARKS = f"{RESULTS}/benchmarks"


def lift_rate_limit():
    """Let jobs on this machine start without a limit per second.

    Snakemake 9 has one, and each look at it orders another look a second later: after some hundred jobs it goes through
    all ready jobs without a pause.
    """
    if workflow.local_exec and hasattr(workflow, "scheduler"):
        workflow.scheduler.job_rate_limiter = None


def write_expected():
    """Leave in the results folder what it is going to hold, for `sgdline status`."""
    files = {
        "tables": analysis_files(),
        "figures": figure_files(),
        "claims": claim_files(),
    }
    asked = {str(file) for job in workflow.dag.jobs for file in job.output}
    try:
        expected.write_expected(RESULTS, config=CONFIG, files=files, asked=asked)
    except SgdlineError as error:
        raise WorkflowError(str(error))


def forget_trainings():
    """Remove what trainings could go on from: all have ended, and Snakemake knows it."""
    for run in runs_.runs(CONFIG | {"run": list(CONFIG["experiments"])}):
        forget_training(RUN.format(**asdict(run)))


def one_of(names):
    """Return a regular expression that matches exactly these names."""
    listed = sorted(set(names), key=str)
    # An empty expression would match an empty name.
    return "|".join(re.escape(str(name)) for name in listed) or "(?!)"


wildcard_constraints:
    dataset=one_of(CONFIG["datasets"]),
    experiment=one_of(CONFIG["experiments"]),
    model=one_of(CONFIG["models"]),
    lr=one_of(
        layout.format_lr(lr)
        for block in CONFIG["experiments"].values()
        for lr in block["lr"]
    ),
    batch_size=r"\d+",
    seed=r"\d+",
    segment=r"\d+",
    probe=one_of(
        probe for block in CONFIG["experiments"].values() for probe in block["probes"]
    ),
    comparison=one_of(CONFIG["comparisons"]),
    toy=one_of(CONFIG["toys"]),
    start=r"[^/]+/[^/]+/[^/]+",
    paper="[a-z0-9]+",
    figure="[a-z0-9_]+",


def experiment_of(wildcards):
    """Return the config block of the experiment that the wildcards name."""
    return CONFIG["experiments"][wildcards.experiment]


def update_rule(wildcards):
    """Return the module of the update rule that an experiment trains with; rules are found by name."""
    return f"sgdline.train.update_rules.{experiment_of(wildcards)['optimizer']['name']}"


def threads_of(wildcards):
    """Return the CPU threads of a training or probing job."""
    return experiment_of(wildcards)["threads"]


def digest(script, *roots):
    """Return the digest of a script and of what it imports from the package."""
    return code_digest(SCRIPTS / script, *roots)


def model_code(wildcards):
    """Return the digest of the factory of the wildcards' network."""
    return entry_digest(CONFIG["models"][wildcards.model]["entry"])


def training_settings(wildcards):
    """Return the slice of the config that a training depends on."""
    return slices.training_slice(CONFIG, layout.run_key(wildcards))


def parent_checkpoints(wildcards):
    """Return the checkpoints of the run that a run continues, by name; nothing for one from random parameters."""
    parent = runs_.parent_run(CONFIG, layout.run_key(wildcards))
    return {"start": f"{RUN}/checkpoints".format(**asdict(parent))} if parent else {}


def chunk_of(run):
    """Return how many samples share a forward pass in the training of a run."""
    return min(int(run.batch_size), experiment_of(run)["micro_batch"] or sys.maxsize)


def start_of(run):
    """Return the name of where a run starts: runs that differ in how they go on from there share it."""
    block, parent = experiment_of(run), runs_.parent_run(CONFIG, layout.run_key(run))
    name = f"{block['dataset']}/{run.model}/chunk{chunk_of(run)}_seed{run.seed}"
    if parent is None:
        return name
    own = f"lr{parent.lr}_bs{parent.batch_size}_step{continued(block)['step']}"
    return f"{name}_from_{parent.experiment}_{own}"


def sharp_runs():
    """Return one run for each start whose largest eigenvalue some learning rates are multiples of the inverse of."""
    every = runs_.runs(CONFIG | {"run": list(CONFIG["experiments"])})
    sharp = [run for run in every if experiment_of(run)["lr_unit"] == "sharpness"]
    return {start_of(run): run for run in reversed(sharp)}


def parent_of_start(wildcards):
    """Return the checkpoints of the run that runs of this start continue, by name; nothing for random parameters."""
    return parent_checkpoints(SHARP_RUNS[wildcards.start])


def starting_settings(wildcards):
    """Return the slice of the config that the start of a run and the chunks to measure it on depend on."""
    run = SHARP_RUNS[wildcards.start]
    whole = slices.training_slice(CONFIG, layout.run_key(run))
    whole.pop("micro_batch", None)
    whole.pop("label_noise", None)
    # What says how a run goes on from its start: Snakemake need not measure that again.
    fixed = {"lr": 1.0, "steps": 1, "segments": [[0, 1]], "drop_last": True}
    fixed["augmentation"] = {"crop_padding": 0, "flip": False}
    fixed["optimizer"] = {"name": "sgd", "momentum": 0.0, "weight_decay": 0.0}
    return {
        **whole,
        **fixed,
        "batch_size": chunk_of(run),
        "schedule": {"name": "constant"},
    }


def start_code(wildcards):
    """Return the digest of the factory of a start's network."""
    return entry_digest(CONFIG["models"][SHARP_RUNS[wildcards.start].model]["entry"])


def start_dataset(wildcards):
    """Return the prepared data set of a start."""
    return dataset_file(SHARP_RUNS[wildcards.start])


def start_threads(wildcards):
    """Return the CPU threads of the job that measures a start."""
    return threads_of(SHARP_RUNS[wildcards.start])


def sharpness_file(wildcards):
    """Return the file that says what a run's learning rates are multiples of, by name; nothing if it is 1."""
    if experiment_of(wildcards)["lr_unit"] == "absolute":
        return {}
    return {"sharpness": SHARPNESS.format(start=start_of(wildcards))}


def probe_settings(wildcards):
    """Return the slice of the config that a probe depends on."""
    return probe_slice_of(wildcards.probe, layout.run_key(wildcards))


@cache
def probe_slice_of(probe, run):
    """Return the slice of a probe of a run: one for all of its segments, which may be many."""
    return slices.probe_slice(CONFIG, layout.run_key(run), probe)


def plan_settings(wildcards):
    """Return the slice of the config that the choice of a probe's plan depends on."""
    return slices.plan_slice(CONFIG, layout.run_key(wildcards), wildcards.probe)


def analysis_settings(*keys):
    """Return a params function with these entries of the analysis slice."""

    return lambda wildcards: slices.analysis_slice(
        CONFIG, wildcards.experiment, keys=keys
    )


def dataset_file(wildcards):
    """Return the prepared data set of the wildcards' experiment."""
    return f"{RESULTS}/datasets/{experiment_of(wildcards)['dataset']}.arrow"


def plan_file(wildcards):
    """Return the plan of a run's probe by name; nothing for a probe that has none."""
    planned = runs_.planned_by(CONFIG, wildcards.experiment, wildcards.probe)
    return {"plan": f"{RUN.format(**wildcards)}/{planned}/plan.json"} if planned else {}


def segment_files(wildcards):
    """Return a run's segment tables of one probe, in order; a sequential probe has one."""
    folder = f"{RUN.format(**wildcards)}/{wildcards.probe}"
    count = runs_.probe_segments(CONFIG, wildcards.experiment, wildcards.probe)
    return [f"{folder}/segment{segment}.arrow" for segment in range(count)]


def run_labels(run):
    """Return what names a run, for tables and figures; from wildcards or a key."""
    return {
        "dataset": experiment_of(run)["dataset"],
        "experiment": run.experiment,
        "model": run.model,
        "lr": run.lr,
        "batch_size": int(run.batch_size),
        "seed": int(run.seed),
    }


def figures_of(subject):
    """Return a regular expression for the figures that draw a run, a comparison or a toy."""
    return one_of(
        figure.partition("/")[2]
        for figure, spec in FIGURES.items()
        if spec.subject == subject
    )


def figure_of(wildcards):
    """Return the spec of the figure that the wildcards name."""
    return FIGURES[f"{wildcards.paper}/{wildcards.figure}"]


def kinds_drawn(run, spec):
    """Return the kinds of tables that a figure reads of a run; optional ones where its experiment measures them."""
    made = {
        kind
        for probe in experiment_of(run)["probes"]
        for kind in (probe, *ANALYSES.get(probe, ()))
    }
    return [*spec.tables, *(kind for kind in spec.optional_tables if kind in made)]


def figure_tables(wildcards):
    """Return the tables that a figure reads, by kind."""
    spec, folder = figure_of(wildcards), RUN.format(**wildcards)
    return {kind: f"{folder}/{kind}.arrow" for kind in kinds_drawn(wildcards, spec)}


def continued(block):
    """Return experiment, lr and update at which an experiment's runs start; None if they start from scratch."""
    start = block.get("start_from")
    if start is None or start["step"] is not None:
        return start
    return {**start, "step": CONFIG["experiments"][start["experiment"]]["steps"]}


def drawn_with(run, spec):
    """Return the labels and settings of a run that a figure is drawn with."""
    block = experiment_of(run)
    shown = {
        "steps": block["steps"],
        "lr_unit": block["lr_unit"],
        "optimizer": slices.optimizer_in_use(block["optimizer"]),
        "schedule": slices.optimizer_in_use(block["schedule"]),
        "start_from": continued(block),
        "analysis": {key: block["analysis"][key] for key in spec.analysis},
        "probes": {
            probe: slices.measurement(runs_.probe_block(CONFIG, run.experiment, probe))
            for probe in spec.probes
            if probe in block["probes"]  # lines of every update stand in for interp
        },
    }
    noise = slices.label_noise_in_use(block)
    return run_labels(run) | shown | ({"label_noise": noise} if noise else {})


def figure_settings(wildcards):
    """Return the labels and settings that a figure is drawn with."""
    return drawn_with(wildcards, figure_of(wildcards))


def compared_runs(wildcards):
    """Return the runs of a comparison, in the order of its experiments."""
    names = CONFIG["comparisons"][wildcards.comparison]["experiments"]
    chosen = CONFIG | {"run": names}
    return runs_.runs(chosen)


def comparison_tables(wildcards):
    """Return the tables that a comparison reads, by kind, one of each run; of optional kinds fewer."""
    spec, found = figure_of(wildcards), {}
    for run in compared_runs(wildcards):
        folder = RUN.format(**asdict(run))
        for kind in kinds_drawn(run, spec):
            found.setdefault(kind, []).append(f"{folder}/{kind}.arrow")
    return found


def comparison_settings(wildcards):
    """Return the labels and settings of every run of a comparison."""
    spec = figure_of(wildcards)
    return [drawn_with(run, spec) for run in compared_runs(wildcards)]


def toy_module(wildcards):
    """Return the module of a toy; toys are found by name."""
    return f"sgdline.toys.{CONFIG['toys'][wildcards.toy]['toy']}"


def toy_settings(wildcards):
    """Return the slice of the config that a toy depends on, its kind apart."""
    return slices.toy_slice(CONFIG, wildcards.toy)


def toy_files():
    """Return the table of every toy."""
    return [f"{RESULTS}/toys/{toy}.arrow" for toy in runs_.toys(CONFIG)]


def drawing_digest(script):
    """Return a params function with the digest of a figure's module and of the tables that it reads by name."""

    def code(wildcards):
        spec = figure_of(wildcards)
        kinds = spec.tables
        if spec.optional_tables:
            tables = comparison_tables if spec.compares else figure_tables
            kinds = tables(wildcards)
        drawing = f"sgdline.figures.{wildcards.paper}.{wildcards.figure}"
        return digest(
            script, drawing, *(f"sgdline.tables.kinds.{kind}" for kind in kinds)
        )

    return code


def figure_caption(wildcards):
    """Return the caption of a figure; the report knows no wildcards in the name of a caption's file."""
    folder = Path(workflow.basedir).joinpath("workflow", "report", wildcards.paper)
    return folder.joinpath(wildcards.figure).with_suffix(".rst").read_text()


def trace_files():
    """Return the trace of every run."""
    return [f"{RUN}/trace.arrow".format(**asdict(run)) for run in RUNS]


@cache
def measured_runs(probe="line"):
    """Return the runs whose experiment measures a probe."""
    return [run for run in RUNS if probe in experiment_of(run)["probes"]]


@cache
def runs_of(paper):
    """Return the runs of the experiments that figures of a paper draw, alone or compared."""
    drawn = {
        name: list(block["figures"]) for name, block in CONFIG["experiments"].items()
    }
    for block in CONFIG["comparisons"].values():
        for name in block["experiments"]:
            drawn[name].append(block["figure"])
    return [
        run
        for run in RUNS
        if any(figure.startswith(f"{paper}/") for figure in drawn[run.experiment])
    ]


@cache
def interval_runs(paper):
    """Return the runs of a paper whose intervals between iterates are known."""
    return [run for run in runs_of(paper) if interval_source(run)]


def interval_places(paper):
    """Return where these are among all runs of the paper."""
    return [index for index, run in enumerate(runs_of(paper)) if interval_source(run)]


def walk_run(run):
    """Return what the claims of walk have to know of a run beside its tables."""
    images = settings.training_images(CONFIG, run.experiment)
    return asdict(run) | {
        "lr": float(run.lr),
        "lr_unit": experiment_of(run)["lr_unit"],
        "optimizer": slices.optimizer_in_use(experiment_of(run)["optimizer"]),
        "whole_batches": run.batch_size == images,
        "continued": experiment_of(run)["start_from"] is not None,
    }


def curious_run(run):
    """Return what the claims of curious have to know of a run beside its tables."""
    block = experiment_of(run)
    return asdict(run) | {
        "dataset": block["dataset"],
        "lr": float(run.lr),
        "lr_unit": block["lr_unit"],
        "steps": block["steps"],
        "optimizer": slices.optimizer_in_use(block["optimizer"]),
        "schedule": slices.optimizer_in_use(block["schedule"]),
        "start_from": continued(block),
    }


def sparse_run(run):
    """Return what the claims of sparse have to know of a run beside its tables."""
    block = experiment_of(run)
    return asdict(run) | {
        "dataset": block["dataset"],
        "lr": float(run.lr),
        "lr_unit": block["lr_unit"],
        "steps": block["steps"],
        "optimizer": slices.optimizer_in_use(block["optimizer"]),
        "schedule": slices.optimizer_in_use(block["schedule"]),
        "label_noise": slices.label_noise_in_use(block),
    }


def toys_of(*kinds):
    """Return the names of the toys of these kinds."""
    return [toy for toy in runs_.toys(CONFIG) if CONFIG["toys"][toy]["toy"] in kinds]


def runs_with(paper, *probes):
    """Return the runs of a paper that measure all of these probes."""
    return [
        run
        for run in runs_of(paper)
        if all(probe in experiment_of(run)["probes"] for probe in probes)
    ]


def places_with(paper, probe):
    """Return where these are among all runs of the paper."""
    return [
        index
        for index, run in enumerate(runs_of(paper))
        if probe in experiment_of(run)["probes"]
    ]


def keeps_samples(run):
    """Return whether the lines of a run come with the loss of every sample."""
    return experiment_of(run)["probes"]["line"]["sample_losses"]


def sampled_runs():
    """Return the runs whose lines come with the loss of every sample."""
    return [run for run in measured_runs() if keeps_samples(run)]


def interval_source(run):
    """Return the probe that a run's intervals between iterates are taken from; None if nothing covers them."""
    probes = experiment_of(run)["probes"]
    if "interp" in probes:
        return "interp"
    return "line" if probes.get("line", {}).get("every") == 1 else None


def interval_file(wildcards):
    """Return the table that a run's intervals are taken from."""
    # Without any, Snakemake says which file it misses.
    return f"{RUN.format(**wildcards)}/{interval_source(wildcards) or 'interp'}.arrow"


def run_tables(kind, runs):
    """Return one kind of table of these runs."""
    return [f"{RUN}/{kind}.arrow".format(**asdict(run)) for run in runs]


def analysis_files():
    """Return every table of the analysis, those of the probes and of the toys, and the traces."""
    found = trace_files()
    for run in RUNS:
        for probe in experiment_of(run)["probes"]:
            for kind in (probe, *ANALYSES.get(probe, ())):
                found += run_tables(kind, [run])
        if interval_source(run):
            for kind in ("intervals", "interval_epochs"):
                found += run_tables(kind, [run])
        if {"averages", "spectrum"} <= set(experiment_of(run)["probes"]):
            found += run_tables("predicted_gains", [run])
    return found + run_tables("line_batch_sizes", sampled_runs()) + toy_files()


def claim_files():
    """Return the tables over all runs."""
    names = ("claims.csv", "claims_over_seeds.csv", "summary.md")
    return [f"{RESULTS}/tables/{name}" for name in names]


def figure_files():
    """Return every figure of every run, every comparison and every toy, as PNG and PDF."""
    found = [
        f"{RESULTS}/figures/{figure}/{RUN_LABEL}".format(**asdict(run))
        for run in RUNS
        for figure in CONFIG["experiments"][run.experiment]["figures"]
    ]
    found += [
        f"{RESULTS}/figures/{block['figure']}/{name}"
        for name, block in CONFIG["comparisons"].items()
        if set(block["experiments"]) <= set(CONFIG["run"])
    ]
    found += [
        f"{RESULTS}/figures/{figure}/{toy}"
        for toy in runs_.toys(CONFIG)
        for figure in CONFIG["toys"][toy]["figures"]
    ]
    return [f"{stem}.{suffix}" for stem in found for suffix in ("png", "pdf")]


def experiments_with(*, imported_lines, several_segments=None):
    """Return a regular expression of the experiments whose lines are imported, or of the others; by segments if asked."""
    return one_of(
        name
        for name, block in CONFIG["experiments"].items()
        if (name in IMPORTED) == imported_lines
        and several_segments in (None, block["segments"] > 1)
    )


def import_settings(wildcards):
    """Return what an import depends on, the files apart."""
    line = experiment_of(wildcards)["probes"]["line"]
    return {
        "interval": line["interval"],
        "sample_losses": line["sample_losses"],
        "batch_size": int(wildcards.batch_size),
        "lr": float(wildcards.lr),
    }


def imported_files(wildcards):
    """Return a digest of the files to import: ten thousand inputs would slow down every start of Snakemake."""
    # Here and not above: most configurations import nothing.
    from sgdline.data.published_lines import folder_digest

    return folder_digest(experiment_of(wildcards)["import_lines"])


SHARP_RUNS = sharp_runs()
