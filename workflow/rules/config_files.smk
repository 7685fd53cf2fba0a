# Before Snakemake reads config/config.yaml: its own words about a file that is no YAML name no line.
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

sys.path.insert(0, Path(workflow.basedir).joinpath("src").as_posix())

from sgdline.config import check_files
from sgdline.errors import SgdlineError

try:
    check_files(["config/config.yaml"])
except SgdlineError as error:
    raise WorkflowError(str(error))
