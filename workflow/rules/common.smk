# The checked configuration, its jobs, and what holds for all rules. No torch is imported here: a dry run has to stay fast.
from pathlib import Path

from snakemake.exceptions import WorkflowError

from sgdline import config as settings
from sgdline import expected
from sgdline.errors import SgdlineError
from sgdline.runtime import share_package
from sgdline.train.leftovers import forget_training
from sgdline.workflow import claims, constraints
from sgdline.workflow.jobs import Jobs
from sgdline.workflow.layout import RUN

# The package comes with the workflow: scripts find it without an installation, in any environment, on any node.
share_package()

FOLDER = Path(workflow.basedir) / "workflow"
OVERLAYS = [Path(path) for path in workflow.overwrite_configfiles]

try:
    CONFIG = settings.resolve_config(
        config,
        files=settings.ConfigFiles(
            [path for path in map(Path, workflow.configfiles) if path not in OVERLAYS]
            + OVERLAYS,
            command_line=workflow.config_settings.config,
        ),
    )
except settings.ConfigError as error:
    again = ["To check a change without Snakemake: sgdline check", *map(str, OVERLAYS)]
    in_files = any(not fault.startswith("--config: ") for fault in error.faults)
    raise WorkflowError(f"{error}\n{' '.join(again) if in_files else ''}".rstrip())
except SgdlineError as error:
    raise WorkflowError(str(error))

JOBS = Jobs(
    CONFIG,
    folder=FOLDER,
)
try:
    JOBS.judgements
except SgdlineError as error:
    raise WorkflowError(str(error))
LAYOUT = JOBS.layout


wildcard_constraints:
    **constraints.wildcard_constraints(CONFIG),


def lift_rate_limit():
    """Let jobs on this machine start without a limit per second.

    Snakemake 9 has one, and each look at it orders another look a second later: after some hundred jobs it goes through
    all ready jobs without a pause.
    """
    if workflow.local_exec and hasattr(workflow, "scheduler"):
        workflow.scheduler.job_rate_limiter = None


def write_expected():
    """Leave in the results folder what it is going to hold, for `sgdline status`."""
    asked = {str(file) for job in workflow.dag.jobs for file in job.output}
    try:
        expected.write_expected(
            CONFIG["results"], config=CONFIG, files=JOBS.expected_files(), asked=asked
        )
    except SgdlineError as error:
        raise WorkflowError(str(error))


def forget_trainings():
    """Remove what trainings could go on from: all have ended, and Snakemake knows it."""
    for folder in JOBS.trained_folders():
        forget_training(folder)
