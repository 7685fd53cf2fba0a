"""From what Snakemake merged to a complete, checked configuration.

What a block must hold, it declares (`sgdline.config.declarations`, and what has a name declares itself). What holds
between blocks is checked by the modules beside this one, one for each section.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sgdline.config._claims import check_claims
from sgdline.config._datasets import check_datasets, sizes_of
from sgdline.config._draft import Draft, names_given
from sgdline.config._experiments import check_experiments
from sgdline.config._figures import check_comparisons, known_figures
from sgdline.config._files import ConfigFiles
from sgdline.config._models import check_models
from sgdline.config._names import check_names, check_run, names_to_run
from sgdline.config._starts import check_starts
from sgdline.config._toys import check_toys
from sgdline.config.declarations import configuration_schema
from sgdline.declare.faults import Faults
from sgdline.declare.walker import Walker


def resolve_config(
    config: Mapping[str, Any],
    *,
    files: ConfigFiles | None = None,
) -> dict[str, Any]:
    """Fill in the defaults of a configuration and check all of it.

    Args:
        config: The merged YAML files, as Snakemake hands them over. Left as it is.
        files: The files that it was merged from; their own faults are reported as well, and all with file and line.

    Returns:
        dict: A new configuration with every key of the schema, `run` a list of names of experiments and toys, batch
            sizes as numbers, and numbers of type number as floats. Of the probes only those that the configuration
            names are there.

    Raises:
        ConfigError: If anything is wrong; its text lists all faults, one line each.
    """
    faults = Faults() if files is None else files.faults
    schema, raw = configuration_schema(), config if isinstance(config, Mapping) else {}
    _, sound = Walker(schema, faults, names=names_given(raw)).walk(config, schema, ())
    if isinstance(sound, dict):
        draft = Draft(sound=sound, raw=raw, faults=faults, figures=known_figures(sound, faults))
        check_names(draft)
        check_models(draft)
        check_experiments(draft, check_datasets(draft))
        check_starts(draft)  # once it is known which experiments are sound
        check_comparisons(draft)
        check_claims(draft)
        check_toys(draft)
        check_run(draft)
    faults.raise_if_any()
    # A round trip through JSON: what is handed out shares nothing with the input and fits into the tables' metadata.
    complete: dict[str, Any] = json.loads(json.dumps(sound))
    return complete | {"run": names_to_run(complete)}


def training_images(config: Mapping[str, Any], experiment: str) -> int | None:
    """Return the number of an experiment's training images; None where the configuration does not say.

    Args:
        config: A resolved configuration.
        experiment: Name of an experiment.
    """
    return sizes_of(config["datasets"][config["experiments"][experiment]["dataset"]]).images.get("train")
