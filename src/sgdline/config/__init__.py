"""The configuration: read, filled in and checked as a whole; `sgdline.workflow` cuts it into jobs.

Snakemake merges `config/config.yaml` and the overlays; what comes out goes through `resolve_config` once, before
any job. Nothing here imports torch or numpy, so that a dry run stays quick.
"""

from sgdline.config._files import ConfigFiles, check_files
from sgdline.config.resolve import resolve_config, training_images
from sgdline.declare.faults import ConfigError

__all__ = [
    "ConfigError",
    "ConfigFiles",
    "check_files",
    "resolve_config",
    "training_images",
]
