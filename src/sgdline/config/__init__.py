"""The configuration: filled in, checked as a whole, and cut into the slices that rules depend on.

Snakemake merges `config/config.yaml` and the overlays; what comes out goes through `resolve_config` once, before
any job. Nothing here imports torch or numpy, so that a dry run stays quick.
"""

from sgdline.config._files import ConfigFiles, check_files
from sgdline.config._resolve import resolve_config, training_images
from sgdline.config._runs import (
    RunKey,
    analysis_slice,
    dataset_slice,
    format_lr,
    label_noise_in_use,
    measured_steps,
    measurement,
    optimizer_in_use,
    parent_run,
    plan_slice,
    planned_by,
    probe_block,
    probe_segments,
    probe_slice,
    run_label,
    run_path,
    runs,
    segment_bounds,
    toy_slice,
    toys,
    training_slice,
)
from sgdline.declare.faults import ConfigError

__all__ = [
    "ConfigError",
    "ConfigFiles",
    "RunKey",
    "analysis_slice",
    "check_files",
    "dataset_slice",
    "format_lr",
    "label_noise_in_use",
    "measured_steps",
    "measurement",
    "optimizer_in_use",
    "parent_run",
    "plan_slice",
    "planned_by",
    "probe_block",
    "probe_segments",
    "probe_slice",
    "resolve_config",
    "run_label",
    "run_path",
    "runs",
    "segment_bounds",
    "toy_slice",
    "toys",
    "training_images",
    "training_slice",
]
