# Helper functions and wildcard constraints. No torch is imported here: a dry run has to stay fast.
import re
import sys
from dataclasses import asdict, fields
from pathlib import Path

from snakemake.exceptions import WorkflowError

SCRIPTS = Path(workflow.basedir).joinpath("workflow", "scripts")
sys.path.insert(0, Path(workflow.basedir).joinpath("src").as_posix())

from sgdline import config as settings
from sgdline import figures
from sgdline.digests import code_digest, entry_digest
from sgdline.errors import SgdlineError
from sgdline.runtime import share_package

# The package comes with the workflow: scripts find it without an installation, in any environment, on any node.
share_package()

try:
    CONFIG = settings.resolve_config(
        config,
        schema=settings.load_schema(
            Path(workflow.basedir) / "workflow" / "schemas" / "config.schema.yaml"
        ),
        known_figures=figures.available(),
        figure_probes={
            figure: figures.spec(figure).probes for figure in figures.available()
        },
    )
except SgdlineError as error:
    raise WorkflowError(str(error))

RESULTS = CONFIG["results"]
RUNS = settings.runs(CONFIG)
# The folder of a run, with wildcards where its key has values.
WILDCARDS = [f"{{{field.name}}}" for field in fields(settings.RunKey)]
RUN = f"{RESULTS}/{settings.run_path(settings.RunKey(*WILDCARDS))}"
RUN_LABEL = "{experiment}_{model}_lr{lr}_bs{batch_size}_seed{seed}"
LOGS = f"{RESULTS}/logs"
BENCHMARKS = f"{RESULTS}/benchmarks"


def one_of(names):
    """Return a regular expression that matches exactly these names."""
    return "|".join(re.escape(str(name)) for name in sorted(set(names), key=str))


wildcard_constraints:
    dataset=one_of(CONFIG["datasets"]),
    experiment=one_of(CONFIG["experiments"]),
    model=one_of(CONFIG["models"]),
    lr=one_of(run.lr for run in RUNS),
    batch_size=r"\d+",
    seed=r"\d+",
    segment=r"\d+",
    probe=one_of(
        probe for block in CONFIG["experiments"].values() for probe in block["probes"]
    )
    or "none",
    paper="[a-z0-9]+",
    figure="[a-z0-9_]+",


def experiment_of(wildcards):
    """Return the config block of the experiment that the wildcards name."""
    return CONFIG["experiments"][wildcards.experiment]


def threads_of(wildcards):
    """Return the CPU threads of a training or probing job."""
    return experiment_of(wildcards)["threads"]


def digest(script, *roots):
    """Return the digest of a script and of what it imports from the package."""
    return code_digest(SCRIPTS / script, *roots)


def run_labels(wildcards):
    """Return what names a run, for tables and figures."""
    return {
        "dataset": experiment_of(wildcards)["dataset"],
        "experiment": wildcards.experiment,
        "model": wildcards.model,
        "lr": wildcards.lr,
        "batch_size": int(wildcards.batch_size),
        "seed": int(wildcards.seed),
    }


def run_of(wildcards):
    """Return the wildcards that name a run, as they stand."""
    return {field.name: wildcards[field.name] for field in fields(settings.RunKey)}


def training_settings(wildcards):
    """Return the slice of the config that a training depends on."""
    return settings.training_slice(CONFIG, **run_of(wildcards))


def probe_settings(wildcards):
    """Return the slice of the config that a probe depends on."""
    return settings.probe_slice(CONFIG, probe=wildcards.probe, **run_of(wildcards))


def plan_settings(wildcards):
    """Return the slice of the config that the choice of a probe's plan depends on."""
    return settings.plan_slice(CONFIG, probe=wildcards.probe, **run_of(wildcards))


def analysis_settings(*keys):
    """Return a params function with these entries of the analysis slice."""

    return lambda wildcards: settings.analysis_slice(
        CONFIG, wildcards.experiment, keys=keys
    )


def dataset_file(wildcards):
    """Return the prepared data set of the wildcards' experiment."""
    return f"{RESULTS}/datasets/{experiment_of(wildcards)['dataset']}.arrow"


def plan_file(wildcards):
    """Return the plan of a run's probe by name; nothing for a probe that has none."""
    if not settings.has_plan(CONFIG, wildcards.experiment, wildcards.probe):
        return {}
    return {"plan": f"{RUN.format(**wildcards)}/{wildcards.probe}/plan.json"}


def segment_files(wildcards):
    """Return a run's segment tables of one probe, in order."""
    folder = RUN.format(**wildcards)
    return [
        f"{folder}/{wildcards.probe}/segment{segment}.arrow"
        for segment in range(experiment_of(wildcards)["segments"])
    ]


def figure_tables(wildcards):
    """Return the tables that a figure reads, by kind."""
    folder = RUN.format(**wildcards)
    spec = figures.spec(f"{wildcards.paper}/{wildcards.figure}")
    return {kind: f"{folder}/{kind}.arrow" for kind in spec.tables}


def figure_settings(wildcards):
    """Return the labels and settings that a figure is drawn with."""
    block = experiment_of(wildcards)
    line = block["probes"].get("line")
    shown = {
        "steps": block["steps"],
        "optimizer": block["optimizer"],
        "analysis": block["analysis"],
        "line": None if line is None else settings.measurement(line),
    }
    return run_labels(wildcards) | shown


def figure_caption(wildcards):
    """Return the caption of a figure; the report knows no wildcards in the name of a caption's file."""
    folder = Path(workflow.basedir).joinpath("workflow", "report", wildcards.paper)
    return folder.joinpath(wildcards.figure).with_suffix(".rst").read_text()


def trace_files():
    """Return the trace of every run."""
    return [f"{RUN}/trace.arrow".format(**asdict(run)) for run in RUNS]


def measured_runs():
    """Return the runs whose experiment measures lines."""
    return [
        run for run in RUNS if "line" in CONFIG["experiments"][run.experiment]["probes"]
    ]


def run_tables(kind):
    """Return one kind of table of every run with lines."""
    return [f"{RUN}/{kind}.arrow".format(**asdict(run)) for run in measured_runs()]


def analysis_files():
    """Return every table of the analysis, and the traces."""
    kinds = ("line_fits", "line_metrics", "line_distances")
    return trace_files() + [path for kind in kinds for path in run_tables(kind)]


def claim_files():
    """Return the tables over all runs."""
    return [f"{RESULTS}/tables/claims.csv", f"{RESULTS}/tables/summary.md"]


def figure_files():
    """Return every figure of every run, as PNG and PDF."""
    return [
        f"{RESULTS}/figures/{figure}/{RUN_LABEL}.{suffix}".format(**asdict(run))
        for run in RUNS
        for figure in CONFIG["experiments"][run.experiment]["figures"]
        for suffix in ("png", "pdf")
    ]
