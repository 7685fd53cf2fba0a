"""From what Snakemake merged to a complete, checked configuration."""

from __future__ import annotations

import json
import math
import posixpath
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import fields
from typing import Any

from sgdline.chosen_updates import any_chosen
from sgdline.config._files import ConfigFiles
from sgdline.config._toys import check_toys
from sgdline.config.declarations import ExperimentOptions, configuration_schema
from sgdline.declare.build import build, build_thing
from sgdline.declare.faults import Faults, Index, KeyPath, name_hint, value_words
from sgdline.declare.registry import called, declaration, label
from sgdline.declare.run_facts import RunFacts
from sgdline.declare.walker import Walker
from sgdline.digests import Parameters, names_in, parameters_of
from sgdline.engine.lanczos_budget import smallest_budget
from sgdline.train.settings import LabelNoiseOptions
from sgdline.workflow.layout import format_lr
from sgdline.workflow.segments import measured_steps, segment_bounds

Block = Mapping[str, Any]

_SPLITS = ("train", "validation", "test")
_KEYS = tuple(field.name for field in fields(ExperimentOptions))
# Channels, images in the training and the test set, and side of the sources that are always the same.
_SOURCES = {
    "digits": (1, 1797, 0, 8),
    "fashion_mnist": (1, 60000, 10000, 28),
    "mnist": (1, 60000, 10000, 28),
    "cifar10": (3, 50000, 10000, 32),
    "cifar100": (3, 50000, 10000, 32),
    "svhn": (3, 73257, 26032, 32),
}
# Folders beside those of the experiments.
_RESERVED_NAMES = ("benchmarks", "datasets", "figures", "logs", "sharpness", "tables", "toys")
_FINEST_GRID = 100_000  # grid points on each side of 0
_ROUNDING = 1e-9  # relative; 0.3 / 3 must count as 0.1
_LONGEST_PATH, _LONGEST_NAME = 4096, 255  # bytes, on Linux
_MOST_PIXELS = 2**31 - 1  # sgdline.data.raw_images, which imports numpy
_LARGEST_PIXEL = 1e6  # after normalisation; a network's sums of squares have to stay within float32
# What a model's factory gets without being told, if it asks for it (sgdline.models.loading).
_FACTS_OF_DATA = ("input_shape", "num_classes", "in_channels", "image_size")


def resolve_config(
    config: Mapping[str, Any],
    *,
    files: ConfigFiles | None = None,
    known_figures: Collection[str] | None = None,
    figure_probes: Mapping[str, Collection[str]] | None = None,
    comparing: Collection[str] = (),
    sample_figures: Collection[str] = (),
    theory_figures: Collection[str] = (),
    toy_figures: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Fill in the defaults of a configuration and check all of it.

    Args:
        config: The merged YAML files, as Snakemake hands them over. Left as it is.
        files: The files that it was merged from; their own faults are reported as well, and all with file and line.
        known_figures: Ids of the figures that can be drawn; None leaves the ids unchecked.
        figure_probes: Figure id -> probes that it draws; a figure without an entry needs none.
        comparing: Ids of the figures that compare runs: entries of `comparisons` draw them, and experiments do not.
        sample_figures: Ids of the figures that need the loss of every sample.
        theory_figures: Ids of the figures that need a theory of the update rule's stationary state.
        toy_figures: Figure id -> kind of toy that it draws: entries of `toys` draw them, and experiments do not; None
            leaves unchecked whether a figure draws its toy.

    Returns:
        dict: A new configuration with every key of the schema, `run` a list of names of experiments and toys, batch
            sizes as numbers, and numbers of type number as floats. Of the probes only those that the configuration
            names are there.

    Raises:
        ConfigError: If anything is wrong; its text lists all faults, one line each.
    """
    faults = Faults() if files is None else files.faults
    schema = configuration_schema()
    _, resolved = Walker(schema, faults).walk(config, schema, ())
    if isinstance(resolved, dict):
        raw = config if isinstance(config, Mapping) else {}
        _check_folders(resolved, faults)
        for kind in ("datasets", "models", "experiments", "comparisons", "toys"):
            _check_distinct_names(_mapping(resolved, kind), (kind,), faults)
        for name, model in _mapping(resolved, "models").items():
            _check_entry(model, ("models", name), faults)
        for name, dataset in _mapping(resolved, "datasets").items():
            _check_dataset(dataset, ("datasets", name), faults)
        _check_run(resolved, raw, faults)
        _check_run_names(resolved, raw, faults)
        for name, experiment in _mapping(resolved, "experiments").items():
            path = ("experiments", name)
            _check_references(experiment, resolved, raw, path, faults)
            _number_batches(experiment, resolved, path, faults)
            _check_training(experiment, resolved, path, faults)
            _check_line_probe(experiment, resolved, path, faults)
            _check_own_direction(experiment, resolved, path, faults)
            _check_interp(experiment, resolved, path, faults)
            for probe in ("hvp", "hessian_covariance", "stationarity", "spectrum"):
                _check_hessian_probe(probe, experiment, resolved, path, faults)
            for probe in ("feat", "jac"):
                _check_samples(probe, experiment, resolved, path, faults)
            _check_one_step(experiment, resolved, path, faults)
            _check_followed_runs(experiment, resolved, path, faults)
            _check_import(experiment, path, faults)
            for probe, block in _mapping(experiment, "probes").items():
                _check_plan(block, experiment, (*path, "probes", probe), faults)
            run = _ask_things(experiment, resolved, path, faults)
            _check_figures(
                experiment,
                _entry(raw, "experiments", name, "figures"),
                path,
                faults,
                known=known_figures,
                probes=figure_probes or {},
                comparing=comparing,
                samples=sample_figures,
                theory=() if run.rule is None or run.rule.stationary_theory() is not None else theory_figures,
                toys=toy_figures or {},
            )
        for name, experiment in _mapping(resolved, "experiments").items():  # once it is known which of them are sound
            _check_start(name, experiment, resolved, raw, faults)
        _check_comparisons(resolved, raw, faults, known=known_figures, probes=figure_probes or {}, comparing=comparing)
        check_toys(
            _mapping(resolved, "toys"),
            _mapping(raw, "toys"),
            faults,
            experiments=_names(raw, "experiments"),
            known=known_figures,
            drawn=toy_figures,
        )
    faults.raise_if_any()
    # A round trip through JSON: what is handed out shares nothing with the input and fits into the tables' metadata.
    complete: dict[str, Any] = json.loads(json.dumps(resolved))
    if complete["run"] == "all":
        complete["run"] = [*complete["experiments"], *complete["toys"]]
    return complete


def training_images(config: Mapping[str, Any], experiment: str) -> int | None:
    """Return the number of an experiment's training images; None where the configuration does not say.

    Args:
        config: A resolved configuration.
        experiment: Name of an experiment.
    """
    return _training_images(config["experiments"][experiment], config)


def _mapping(block: Any, key: str) -> Block:
    entry = block.get(key) if isinstance(block, Mapping) else None
    return entry if isinstance(entry, Mapping) else {}


def _entry(block: Any, *keys: str) -> Any:
    for key in keys:
        block = block.get(key) if isinstance(block, Mapping) else None
    return block


def _sound(entries: Any, kind: type) -> Iterator[tuple[int, Any]]:
    """Yield position and value of the list entries that passed the schema."""
    for position, entry in enumerate(entries or []):
        if isinstance(entry, kind):
            yield position, entry


def _names(raw: Any, kind: str) -> list[str]:
    """Names that the user gave, faulty blocks included: a fault inside one must not make its name unknown."""
    return [name for name in _mapping(raw, kind) if isinstance(name, str)]


def _are_named(raw: Any, *kinds: str) -> bool:
    """Tell whether names can be looked up: a block that is no mapping is one fault, not one for each name."""
    return all(isinstance(_entry(raw, kind), Mapping) or (kind == "toys" and kind not in raw) for kind in kinds)


def _check_folders(config: Block, faults: Faults) -> None:
    paths: list[tuple[KeyPath, Any]] = [((key,), config.get(key)) for key in ("results", "data_dir")]
    for kind, key in (("datasets", "path"), ("experiments", "import_lines")):
        paths += [((kind, name, key), _entry(block, key)) for name, block in _mapping(config, kind).items()]
    for path, text in paths:
        if isinstance(text, str) and not faults.under(path):
            _check_length(text, path, faults)
    for key in ("results", "data_dir"):
        folder = config.get(key)
        if not isinstance(folder, str) or faults.under((key,)):
            continue
        got = f"got {value_words(folder)}"
        if not re.fullmatch(r"[\w./+@=,][\w./+@=,-]*", folder):
            hint = "Write the full path instead of ~." if folder.startswith("~") else "Choose another folder name."
            faults.add(
                (key,),
                "must be a folder path of letters, digits and _ - . / + @ = , only (no spaces, no characters special "
                f"to a shell), {got}. {hint}",
            )
        elif ".." in folder.split("/"):
            faults.add((key,), f"must be a folder path without '..', {got}. Write the full path instead.")
        elif posixpath.normpath(folder) in ("/", "//", "."):
            faults.add((key,), f"must be a folder of its own, {got}. Name a folder inside it.")


def _check_length(text: str, path: KeyPath, faults: Faults) -> None:
    whole, longest = len(text.encode()), max(len(part.encode()) for part in text.split("/"))
    if whole > _LONGEST_PATH or longest > _LONGEST_NAME:
        faults.add(
            path,
            f"must be a path of at most {_LONGEST_PATH} bytes, each name in it of at most {_LONGEST_NAME}, got {whole} "
            f"and {longest}. Choose a shorter one, or link to it.",
        )


def _check_distinct_names(blocks: Block, path: KeyPath, faults: Faults) -> None:
    seen: dict[str, str] = {}
    for name in blocks:
        twin = seen.setdefault(name.casefold(), name)
        if twin != name:
            faults.add(
                (*path, name),
                f"must differ from {twin!r} in more than upper and lower case, got {name!r}. Rename one of them: they "
                "would share a folder on some file systems.",
            )


def _check_dataset(dataset: Block, path: KeyPath, faults: Faults) -> None:
    source, folder = dataset.get("source"), dataset.get("path")
    if dataset.get("train") == 0:
        faults.add((*path, "train"), "must be a number of images of at least 1, or all, got 0. Training needs images.")
    if not faults.under((*path, "path")) and source is not None:
        if source == "image_folder" and folder is None:
            faults.add(
                (*path, "path"),
                "must be the folder with train/<class>/* or <class>/* when source is image_folder, got null. Add path.",
            )
        elif source != "image_folder" and folder is not None:
            faults.add(
                (*path, "path"),
                f"must be null unless source is image_folder, got {value_words(folder)}. Remove it, or set source: "
                "image_folder; where downloaded sets lie is said by data_dir.",
            )
        elif folder is not None and re.search(r"[{}*?\[\]]", folder):
            faults.add(
                (*path, "path"),
                f"must be a folder path without the wildcard characters {{ }} * ? [ ], got {value_words(folder)}. "
                "Rename the folder or link to it.",
            )
    _check_split_sizes(dataset, path, faults)
    _check_pixels(dataset, path, faults)
    channels = dataset.get("channels") or _channels(dataset)
    lengths = {key: len(dataset[key]) for key in ("mean", "std") if isinstance(dataset.get(key), list)}
    for key, length in lengths.items():
        if channels is not None and length != channels:
            faults.add(
                (*path, key),
                f"must have one number per channel ({channels} here), got {length}. Give {channels} or write auto.",
            )
    if channels is None and len(set(lengths.values())) == 2:
        faults.add(
            (*path, "std"),
            f"must have as many entries as mean ({lengths['mean']}), got {lengths['std']}. Give both one per channel.",
        )
    if "std" in lengths:
        for position, value in _sound(dataset["std"], float):
            if value <= 0:
                faults.add(
                    (*path, "std", Index(position)),
                    f"must be a number above 0, got {value}. Pixels are divided by it.",
                )
    if not faults.under(path):
        _check_constants(dataset, path, faults)


def _check_constants(dataset: Block, path: KeyPath, faults: Faults) -> None:
    """Given constants must leave normalised pixels that a network can compute with."""
    given = {key: [value for _, value in _sound(dataset.get(key), float)] for key in ("mean", "std")}
    # What is measured instead lies in [0, 1], and a standard deviation is at least one grey level.
    means = given["mean"] or [1.0]
    stds = given["std"] or [1 / 255 if dataset.get("std") == "auto" else 1.0]
    count = max(len(means), len(stds))
    for mean, std in zip(means * (count // len(means)), stds * (count // len(stds)), strict=True):
        if (1.0 + abs(mean)) / std > _LARGEST_PIXEL:
            faults.add(
                (*path, "std" if given["std"] else "mean"),
                f"must leave pixels, (v - mean)/std for v in [0, 1], below {_LARGEST_PIXEL:g}, got {mean:g} as mean "
                f"and {std:g} as std. Write auto, or constants for pixels from 0 to 1.",
            )
            return


def _channels(dataset: Block) -> int | None:
    """Return the channels of a source's images; None if unknown."""
    source = dataset.get("source")
    if source == "random":
        channels = _mapping(dataset, "random").get("channels")
        return channels if isinstance(channels, int) else None
    if source == "image_folder":
        return 3
    return _SOURCES[source][0] if source in _SOURCES else None


def _check_pixels(dataset: Block, path: KeyPath, faults: Faults) -> None:
    """All images lie in one table, whose size is known before they are read if source or settings say it."""
    source, size, channels = dataset.get("source"), dataset.get("image_size"), dataset.get("channels")
    noise = _mapping(dataset, "random")
    counts = [_images(dataset, split) for split in _SPLITS]
    side = size or (noise.get("size") if source == "random" else _SOURCES[source][3] if source in _SOURCES else None)
    depth = channels or _channels(dataset)
    made = math.prod(noise.get(key) or 1 for key in ("images", "channels", "size", "size")) if source == "random" else 0
    kept = sum(count or 0 for count in counts) * (depth or 1) * (side or 1) ** 2
    if max(made, kept) > _MOST_PIXELS and not faults.under(path):
        here = (*path, "random") if made > _MOST_PIXELS else (*path, "train") if size is None else (*path, "image_size")
        faults.add(
            here,
            f"must leave at most {_MOST_PIXELS} pixel values in the data set, got {max(made, kept)}. Take fewer images "
            "or smaller ones.",
        )


def _pools(dataset: Block) -> list[tuple[tuple[str, ...], int]]:
    """Return which splits share how many images; nothing where the source does not say."""
    source = dataset.get("source")
    if source == "random":
        images = _mapping(dataset, "random").get("images")
        return [] if images is None else [(_SPLITS, images)]
    if source not in _SOURCES:
        return []
    _, train, test, _ = _SOURCES[source]
    return [(_SPLITS[:2], train), (_SPLITS[2:], test)] if test else [(_SPLITS, train)]


def _check_split_sizes(dataset: Block, path: KeyPath, faults: Faults) -> None:
    for splits, available in _pools(dataset):
        left = available
        unbounded = [split for split in splits if dataset.get(split) == "all"]
        for split in splits:
            size = dataset.get(split)
            if isinstance(size, int) and size > left:
                faults.add(
                    (*path, split),
                    f"must be at most {left}, got {size}. {', '.join(splits)} share the {available} images of "
                    f"{dataset['source']}."
                    if len(splits) > 1
                    else f"must be at most {left}, got {size}. {dataset['source']} has no more.",
                )
                break
            left -= size if isinstance(size, int) else 0
        if len(unbounded) > 1:
            faults.add(
                (*path, unbounded[-1]),
                f"must be a number of images when {unbounded[0]} is all, got all. They share the {available} images of "
                f"{dataset['source']}.",
            )
        elif unbounded == ["train"] and left < 1 and not faults.under(path):
            faults.add(
                (*path, "train"),
                f"must have images left to take, got all of {max(left, 0)}. Lower validation or test.",
            )


def _images(dataset: Any, split: str) -> int | None:
    """Return the number of images of a split, `all` counted where the source's size is known."""
    size = dataset.get(split) if isinstance(dataset, Mapping) else None
    if isinstance(size, int):
        return size
    for splits, available in _pools(dataset) if size == "all" else []:
        others = [dataset.get(other) for other in splits if other != split]
        if split in splits and all(isinstance(other, int) for other in others):
            return max(available - sum(other for other in others if isinstance(other, int)), 0)
    return None


def _check_run(config: Block, raw: Block, faults: Faults) -> None:
    known = _names(raw, "experiments") + _names(raw, "toys")
    if isinstance(config.get("run"), list) and _are_named(raw, "experiments", "toys"):
        for position, name in _sound(config["run"], str):
            if name not in known:
                faults.add(
                    ("run", Index(position)),
                    f"must be the name of an experiment or of a toy, got {value_words(name)}. "
                    + name_hint(name, known, kind="experiments and toys"),
                )


def _check_run_names(config: Block, raw: Block, faults: Faults) -> None:
    """Files of a run are named `<experiment>_<model>_...`: no two pairs of names may join to the same text."""
    experiments, models = _names(raw, "experiments"), _names(raw, "models")
    joined: dict[str, list[tuple[str, str]]] = {}
    for experiment in experiments:
        for model in models:
            joined.setdefault(f"{experiment}_{model}".casefold(), []).append((experiment, model))
    for name, block in _mapping(config, "experiments").items():
        if name.casefold() in _RESERVED_NAMES:
            faults.add(
                ("experiments", name),
                f"must not be one of {', '.join(_RESERVED_NAMES)}, got {name!r}. Rename it: the results folder has a "
                "folder of that name already.",
            )
        for position, model in _sound(block.get("models"), str):
            twins = [
                pair for pair in joined.get(f"{name}_{model}".casefold(), []) if pair[0].casefold() != name.casefold()
            ]
            if twins:
                faults.add(
                    ("experiments", name, "models", Index(position)),
                    f"must give file names of its own, got {model!r}: {name} and {model} join to the same text as "
                    f"{twins[0][0]} and {twins[0][1]}. Rename one of them.",
                )


def _check_entry(model: Any, path: KeyPath, faults: Faults) -> None:
    """Check the entries whose source can be read without importing it: files, and modules of this package."""
    entry = model.get("entry") if isinstance(model, Mapping) else None
    if not isinstance(entry, str) or faults.under(path):
        return
    module, _, factory = entry.rpartition(":")
    if not module.endswith(".py") and module.split(".")[0] != "sgdline":
        return
    try:
        names = names_in(module)
    except SyntaxError as error:
        hint = f"{module} has a syntax error in line {error.lineno}: {error.msg}."
    except UnicodeDecodeError:
        hint = f"{module} is not in UTF-8."
    else:
        if names is not None and factory in names:
            _check_kwargs(parameters_of(entry), model, path, faults)
            return
        if names is not None:
            hint = name_hint(factory, names, kind=f"names in {module}")
        elif module.endswith(".py"):
            hint = f"There is no file {module}; the path is relative to the folder in which snakemake starts."
        else:
            hint = name_hint(module, ["sgdline.models"], kind="modules")
    faults.add((*path, "entry"), f"must name a factory that exists, got {entry!r}. {hint}")


def _check_kwargs(parameters: Parameters | None, model: Block, path: KeyPath, faults: Faults) -> None:
    """The arguments of a factory whose source can be read must be those that it takes."""
    kwargs = model.get("kwargs")
    if parameters is None or not isinstance(kwargs, Mapping):
        return
    for key in kwargs:
        if key not in parameters.names and not parameters.open_ended:
            hint = name_hint(key, parameters.names, kind=f"arguments of {model['entry']}")
            faults.add((*path, "kwargs", key), f"is not an argument of {model['entry']}. {hint}")
    missing = [name for name in parameters.required if name not in (*kwargs, *_FACTS_OF_DATA)]
    if missing:
        faults.add(
            (*path, "kwargs"),
            f"must hold {', '.join(missing)}, which {model['entry']} asks for, got {value_words(kwargs)}. Add it.",
        )


def _check_references(experiment: Block, config: Block, raw: Block, path: KeyPath, faults: Faults) -> None:
    datasets, models = _names(raw, "datasets"), _names(raw, "models")
    dataset = experiment.get("dataset")
    if isinstance(dataset, str) and dataset not in datasets and _are_named(raw, "datasets"):
        faults.add(
            (*path, "dataset"),
            f"must be the name of a data set, got {value_words(dataset)}. "
            + name_hint(dataset, datasets, kind="data sets"),
        )
    for position, model in _sound(experiment.get("models"), str):
        if model not in models and _are_named(raw, "models"):
            faults.add(
                (*path, "models", Index(position)),
                f"must be the name of a model, got {value_words(model)}. " + name_hint(model, models, kind="models"),
            )


def _training_images(experiment: Block, config: Block) -> int | None:
    dataset = experiment.get("dataset")
    return _images(_entry(config, "datasets", dataset), "train") if isinstance(dataset, str) else None


def _number_batches(experiment: dict[str, Any], config: Block, path: KeyPath, faults: Faults) -> None:
    """Put the number of training images in the place of `all`: a run's folder is named by a number."""
    entries, start, dataset = (
        experiment.get("batch_size") or [],
        experiment.get("start_from"),
        experiment.get("dataset"),
    )
    places: list[tuple[Any, Any, KeyPath]] = [
        (entries, position, (*path, "batch_size", Index(position))) for position in range(len(entries))
    ]
    if isinstance(start, Mapping) and "batch_size" in start:
        places.append((start, "batch_size", (*path, "start_from", "batch_size")))
    images = _training_images(experiment, config) or None
    for holder, key, here in places:
        if holder[key] != "all":
            continue
        known = dataset in _mapping(config, "datasets") and not faults.under(("datasets", dataset))
        if known and images is None:
            faults.add(
                here,
                f"must be a number where the size of the data set is not known beforehand, got all. Count the training "
                f"images, or give datasets.{dataset}.train as a number.",
            )
        elif known and holder is entries and images in entries:
            faults.add(here, f"must differ from the other entries, got all, which is {images}. Remove one of them.")
        holder[key] = images


def _check_training(experiment: Block, config: Block, path: KeyPath, faults: Faults) -> None:
    written: dict[str, int] = {}
    for position, lr in _sound(experiment.get("lr"), float):
        first = written.setdefault(format_lr(lr), position)
        if first != position:
            faults.add(
                (*path, "lr", Index(position)),
                f"must differ from the entries before it, got {format_lr(lr)} twice. Remove one of them.",
            )
    dataset, images = experiment.get("dataset"), _training_images(experiment, config)
    for position, batch_size in _sound(experiment.get("batch_size"), int):
        if images is not None and 0 < images < batch_size:
            faults.add(
                (*path, "batch_size", Index(position)),
                f"must be at most the training images of {dataset} ({images}), got {batch_size}. Use a smaller batch, "
                f"or a larger datasets.{dataset}.train.",
            )
    steps, segments = experiment.get("steps"), experiment.get("segments")
    if steps is None:
        return
    if segments is not None and segments > steps:
        faults.add(
            (*path, "segments"),
            f"must be at most steps ({steps}), got {segments}. A segment holds at least one update.",
        )


def _check_lr_unit(experiment: Block, run: RunFacts, path: KeyPath, faults: Faults) -> None:
    if experiment.get("lr_unit") != "sharpness":
        return
    if run.imports_lines:
        rule = "must be absolute where lines are imported, got sharpness. There is no network to measure it on."
        faults.add((*path, "lr_unit"), rule)
    elif run.rule is not None and run.rule.lr_is_length:
        faults.add(
            (*path, "lr_unit"),
            f"must be absolute when the optimizer is {called(run.rule)}, got sharpness. Its lr is a measuring step, a "
            "length.",
        )


def _check_start(name: str, experiment: Block, config: Block, raw: Block, faults: Faults) -> None:
    """The run that a run continues must be one of the configuration's, with a checkpoint where it is to start."""
    path: KeyPath = ("experiments", name)
    here, start = (*path, "start_from"), experiment.get("start_from")
    parent = _entry(start, "experiment")
    if not isinstance(start, Mapping) or not isinstance(parent, str):
        return
    if experiment.get("import_lines") is not None:
        faults.add(here, "must be null where lines are imported, got a mapping. Nothing is trained there.")
        return
    experiments = _names(raw, "experiments")
    if parent not in experiments:
        hint = name_hint(parent, [other for other in experiments if other != name], kind="experiments")
        faults.add((*here, "experiment"), f"must be the name of an experiment, got {value_words(parent)}. {hint}")
        return
    followed: list[Any] = [name]
    while followed[-1] is not None and followed[-1] not in followed[:-1]:
        followed.append(_entry(config, "experiments", followed[-1], "start_from", "experiment"))
    if followed[-1] == name:
        faults.add((*here, "experiment"), f"must not lead back to {name}, got {parent!r}. Continue another experiment.")
    block = _mapping(_mapping(config, "experiments"), parent)
    if followed[-1] is not None or faults.under(("experiments", parent)):
        return
    for key, kind in (("models", str), ("seed", int)):
        for position, value in _sound(experiment.get(key), kind):
            if value not in block[key]:
                faults.add(
                    (*path, key, Index(position)),
                    f"must be one of {parent}, which start_from continues ({_few(block[key])}), got {value}. "
                    f"Remove it, or add it to experiments.{parent}.{key}.",
                )
    if block["import_lines"] is not None:
        faults.add((*here, "experiment"), f"must be an experiment that trains, got {parent}, whose lines are imported.")
    elif experiment.get("dataset") != block["dataset"]:
        faults.add(
            (*here, "experiment"),
            f"must be an experiment on the same data set, got {parent}, which is on {block['dataset']}.",
        )
    lr = start.get("lr")
    if lr is not None and lr not in block["lr"]:
        rates = _few([format_lr(rate) for rate in block["lr"]])
        faults.add((*here, "lr"), f"must be a learning rate of {parent} ({rates}), got {format_lr(lr)}.")
    if not faults.under((*here, "batch_size")) and None not in block["batch_size"]:  # all, of an unknown data set
        own = [size for _, size in _sound(experiment.get("batch_size"), int)]
        missing = [
            size for size in ([start["batch_size"]] if start["batch_size"] else own) if size not in block["batch_size"]
        ]
        if missing:
            hint = "" if start["batch_size"] else ", the experiment's own"
            faults.add(
                (*here, "batch_size"),
                f"must be a batch size of {parent} ({_few(block['batch_size'])}), got {missing[0]}{hint}.",
            )
    step = start.get("step")
    bounds = [0, *(stop for _, stop in segment_bounds(block["steps"], block["segments"]))]
    if step is not None and step not in bounds:
        faults.add(
            (*here, "step"),
            f"must be a segment boundary of {parent} ({_few(bounds)}), got {step}. Checkpoints lie there only; change "
            f"experiments.{parent}.segments for others.",
        )


def _few(entries: Collection[Any]) -> str:
    """Return a list in words, its middle left out if it is long."""
    words = [str(entry) for entry in entries]
    return ", ".join(words if len(words) <= 8 else [*words[:4], "...", *words[-3:]])


def _check_own_direction(experiment: Block, config: Block, path: KeyPath, faults: Faults) -> None:
    block, dataset = _entry(experiment, "probes", "own_direction"), experiment.get("dataset")
    images = _training_images(experiment, config)
    if not isinstance(block, Mapping) or images is None:
        return
    for position, size in _sound(block.get("batch_sizes"), int):
        if size > images:
            faults.add(
                (*path, "probes", "own_direction", "batch_sizes", Index(position)),
                f"must be at most the training images of {dataset} ({images}), got {size}. Remove it.",
            )


def _check_hessian_probe(probe: str, experiment: Block, config: Block, path: KeyPath, faults: Faults) -> None:
    """Its measuring set is the first part of the training images."""
    block, dataset = _entry(experiment, "probes", probe), experiment.get("dataset")
    if not isinstance(block, Mapping):
        return
    here = (*path, "probes", probe)
    _check_augment(experiment, block, here, faults)
    images = _training_images(experiment, config)
    samples = block.get("samples")
    if images is not None and isinstance(samples, int) and samples > images:
        faults.add(
            (*here, "samples"),
            f"must be at most the training images of {dataset} ({images}), got {samples}. Lower it, or set it to null.",
        )
    elif probe != "hessian_covariance" and block.get("batch_norm") == "train":
        count = samples if isinstance(samples, int) else images
        micro_batch = experiment.get("micro_batch")
        for position, batch_size in _sound(experiment.get("batch_size"), int):
            size = min(batch_size, micro_batch) if isinstance(micro_batch, int) else batch_size
            if count is not None and (size == 1 or count % size == 1):
                faults.add(
                    (*path, "batch_size", Index(position)),
                    f"must not leave a chunk of one sample when probes.{probe}.batch_norm is train, got {batch_size} "
                    f"with {count} samples. Change probes.{probe}.samples, or use another batch size.",
                )


def _check_samples(probe: str, experiment: Block, config: Block, path: KeyPath, faults: Faults) -> None:
    """A probe of features takes the first part of the training images."""
    samples, images = _entry(experiment, "probes", probe, "samples"), _training_images(experiment, config)
    if images is not None and isinstance(samples, int) and samples > images:
        faults.add(
            (*path, "probes", probe, "samples"),
            f"must be at most the training images of {experiment['dataset']} ({images}), got {samples}. Lower it.",
        )


def _check_followed_runs(experiment: Block, config: Block, path: KeyPath, faults: Faults) -> None:
    """Lags and starts must lie within the run, and Lanczos needs its products."""
    probes, steps = _mapping(experiment, "probes"), experiment.get("steps")
    if isinstance(steps, int):
        for position, lag in _sound(_entry(probes, "alignment", "lags"), int):
            if lag >= steps:
                faults.add(
                    (*path, "probes", "alignment", "lags", Index(position)),
                    f"must be below the experiment's steps ({steps}), got {lag}. Remove it.",
                )
        start = _entry(probes, "stationarity", "start")
        if isinstance(start, int) and start >= steps:
            faults.add(
                (*path, "probes", "stationarity", "start"),
                f"must be below the experiment's steps ({steps}), got {start}. Lower it.",
            )
    for probe, key in (("stationarity", "eigenvectors"), ("spectrum", "eigenvalues")):
        count, products = _entry(probes, probe, key), _entry(probes, probe, "max_products")
        if isinstance(count, int) and isinstance(products, int) and products < smallest_budget(count):
            faults.add(
                (*path, "probes", probe, "max_products"),
                f"must be at least {smallest_budget(count)} for {count} {key}, got {products}. Raise it, or ask for "
                f"fewer {key}.",
            )
    images = _training_images(experiment, config)
    if "spectrum" in probes and images is not None:
        for position, batch_size in _sound(experiment.get("batch_size"), int):
            if images // batch_size == 1:
                faults.add(
                    (*path, "batch_size", Index(position)),
                    f"must leave at least two whole batches of {images} training images for the probe spectrum, got "
                    f"{batch_size}. Lower it, or leave the probe out.",
                )


def _check_one_step(experiment: Block, config: Block, path: KeyPath, faults: Faults) -> None:
    """A batch and the others that it is compared with share no image."""
    block = _entry(experiment, "probes", "one_step")
    if not isinstance(block, Mapping):
        return
    here = (*path, "probes", "one_step")
    lowest, highest = block.get("lowest"), block.get("highest")
    if lowest is not None and highest is not None and lowest >= highest:
        faults.add((*here, "lowest"), f"must be below highest ({format_lr(highest)}), got {format_lr(lowest)}.")
    images, others = _training_images(experiment, config), block.get("other_batches")
    sizes = [size for _, size in _sound(experiment.get("batch_size"), int)]
    if images is not None and others is not None and sizes and (others + 1) * max(sizes) > images:
        faults.add(
            (*here, "other_batches"),
            f"must leave {others + 1} batches of {max(sizes)} within the {images} training images, got {others}. "
            "Lower it, or use smaller batches.",
        )


def _check_import(experiment: Block, path: KeyPath, faults: Faults) -> None:
    """Imported lines were measured elsewhere: there is no network to train or to probe any further."""
    if experiment.get("import_lines") is None:
        return
    probes = _mapping(experiment, "probes")
    if not faults.under((*path, "probes")):
        for probe in probes:
            if probe != "line":
                faults.add((*path, "probes", probe), "must be left out where lines are imported. Remove it.")
        if "line" not in probes:
            hint = "Add it, with the interval and resolution of the imported lines."
            faults.add((*path, "probes"), f"must hold line where lines are imported, got none. {hint}")
    for key in ("models", "lr", "batch_size", "seed"):
        entries = experiment.get(key)
        if isinstance(entries, list) and len(entries) > 1 and not faults.under((*path, key)):
            faults.add(
                (*path, key),
                f"must hold one entry where lines are imported, got {len(entries)}. One folder holds one run.",
            )


def _check_mline_probe(experiment: Block, run: RunFacts, path: KeyPath, faults: Faults) -> None:
    """Its lines are measured, and its plan is chosen, as `line` says; its directions are made of other gradients."""
    if "mline" not in _mapping(experiment, "probes"):
        return
    here = (*path, "probes", "mline")
    if "line" not in _mapping(experiment, "probes") and not faults.under((*path, "probes")):
        rule = "must stand beside line, which says how lines are measured, got it alone. Add line: {}."
        faults.add(here, rule)
    elif run.rule is not None and not run.rule.linear_in_gradient:
        faults.add(
            here,
            f"must have an optimizer that declares linear_in_gradient, got {called(run.rule)}. Only there is the "
            "direction of another batch known. Remove the probe, or use sgd.",
        )


def _check_line_probe(experiment: Block, config: Block, path: KeyPath, faults: Faults) -> None:
    line = _entry(experiment, "probes", "line")
    if not isinstance(line, Mapping):
        return
    here = (*path, "probes", "line")
    steps, every = experiment.get("steps"), line.get("every")
    if steps is not None and every is not None and every > steps:
        faults.add(
            (*here, "every"), f"must be at most steps ({steps}), got {every}. Otherwise no second line is measured."
        )
    interval, resolution = line.get("interval"), line.get("resolution")
    if interval is not None and resolution is not None:
        if resolution > interval / 2 * (1 + _ROUNDING):
            faults.add(
                (*here, "resolution"),
                f"must be at most half of interval ({format_lr(interval / 2)}), got {resolution}. Use a finer grid.",
            )
        elif interval / resolution > _FINEST_GRID:
            faults.add(
                (*here, "resolution"),
                f"must be at least interval / {_FINEST_GRID} ({format_lr(interval / _FINEST_GRID)}), got {resolution}. "
                "Use a coarser grid.",
            )
    keys = ["degrees", *(["same_position_degrees"] if "mline" in _mapping(experiment, "probes") else [])]
    _check_window(_mapping(experiment, "analysis"), interval, resolution, (*path, "analysis"), faults, keys=keys)
    _check_augment(experiment, line, here, faults)
    if line.get("batch_norm") == "train" and experiment.get("import_lines") is None:
        _check_chunks(experiment, config, path, faults, probe="line")


def _check_augment(experiment: Block, probe: Block, path: KeyPath, faults: Faults) -> None:
    augmentation = _mapping(experiment, "augmentation")
    if probe.get("augment") is True and augmentation.get("crop_padding") == 0 and augmentation.get("flip") is False:
        faults.add(
            (*path, "augment"), "must be false without an augmentation, got true. Set crop_padding or flip as well."
        )


def _check_interp(experiment: Block, config: Block, path: KeyPath, faults: Faults) -> None:
    """The epochs that it names must be reached, and the updates of theirs that are due must exist."""
    interp = _entry(experiment, "probes", "interp")
    if not isinstance(interp, Mapping):
        return
    here = (*path, "probes", "interp")
    _check_augment(experiment, interp, here, faults)
    if interp.get("batch_norm") == "train":
        _check_chunks(experiment, config, path, faults, probe="interp")
    steps = experiment.get("steps")
    images = _training_images(experiment, config)
    sizes = [size for _, size in _sound(experiment.get("batch_size"), int) if images and 0 < size <= images]
    if steps is None or images is None or not sizes or faults.under(path):
        return
    lengths = [images // size if experiment.get("drop_last") else -(-images // size) for size in sizes]
    most = -(-steps // min(lengths))
    for position, epoch in _sound(interp.get("epochs"), int):
        if epoch > most:
            faults.add(
                (*here, "epochs", Index(position)),
                f"must be at most the epochs of the run ({most}), got {epoch}. Raise steps, or remove it.",
            )
    if faults.under(here):
        return
    choice = {key: interp[key] for key in ("every", "epochs", "updates")}
    if any(any_chosen(steps, **choice, updates_per_epoch=length) for length in lengths):
        return
    rule = "must leave an update to measure in the chosen epochs"
    faults.add((*here, "every"), f"{rule}, got {choice['every']} with {steps} steps. Lower it, or choose other epochs.")


def _ask_things(experiment: Block, config: Block, path: KeyPath, faults: Faults) -> RunFacts:
    """Let what declares itself, as far as it is sound, say what is wrong with its options in this experiment.

    Returns:
        RunFacts: What they know of it.
    """
    things: dict[KeyPath, Any] = {
        ("probes", probe): build(declaration("probe", probe), block)
        for probe, block in _mapping(experiment, "probes").items()
        if not faults.under((*path, "probes", probe))
    }
    probes = {probe: options for (_, probe), options in things.items()}
    for key, kind in (("optimizer", "update_rule"), ("schedule", "schedule")):
        if key in experiment and not faults.under((*path, key)):
            things[(key,)] = build_thing(kind, experiment[key], tag="name")
    if "label_noise" in experiment and not faults.under((*path, "label_noise")):
        things[("label_noise",)] = build(LabelNoiseOptions, experiment["label_noise"])
    run = _run_facts(experiment, config, path, faults, probes=probes, rule=things.get(("optimizer",)))
    for place, thing in things.items():
        for fault in thing.faults(run):
            faults.add((*path, *(() if fault.of_experiment else place), *fault.path), fault.text)
    _check_lr_unit(experiment, run, path, faults)
    _check_mline_probe(experiment, run, path, faults)
    return run


def _run_facts(
    experiment: Block, config: Block, path: KeyPath, faults: Faults, *, probes: Mapping[str, Any], rule: Any
) -> RunFacts:
    dataset = experiment.get("dataset")
    block = _entry(config, "datasets", dataset) if isinstance(dataset, str) else None
    images = {split: _images(block, split) for split in _SPLITS}
    augmentation = _mapping(experiment, "augmentation")
    return RunFacts(
        dataset=dataset,
        images={split: count for split, count in images.items() if count is not None},
        learning_rates=dict(_sound(experiment.get("lr"), float)),
        batch_sizes=dict(_sound(experiment.get("batch_size"), int)),
        micro_batch=experiment.get("micro_batch"),
        steps=experiment.get("steps"),
        threads=experiment.get("threads"),
        drop_last=experiment.get("drop_last"),
        augments=None if len(augmentation) < 2 else augmentation["crop_padding"] > 0 or augmentation["flip"],
        imports_lines=experiment.get("import_lines") is not None,
        rule=rule,
        probes=probes,
        at_fault=frozenset(key for key in _KEYS if key not in experiment or faults.under((*path, key))),
    )


def _check_plan(block: Any, experiment: Block, path: KeyPath, faults: Faults) -> None:
    """Pinned entries of a plan must go together; the rules are those of sgdline.engine.plan.Plan."""
    plan = {key: entry for key, entry in _mapping(block, "plan").items() if entry is not None}
    here = (*path, "plan")
    threads, most = plan.get("threads"), experiment.get("threads")
    if threads is not None and most is not None and threads > most:
        faults.add(
            (*here, "threads"),
            f"must be at most the experiment's threads ({most}), got {threads}. Raise {path[0]}.{path[1]}.threads, "
            "which is what a job gets.",
        )
    several = [key for key in ("chunks_per_pass", "positions_per_pass") if plan.get(key, 1) > 1]
    excluded = {
        "reseed": several + [key for key in ("compiled", "cuda_graphs") if plan.get(key) is True],
        "in_place": several + ["channels_last"] * (plan.get("channels_last") is True),
    }
    reasons = {
        "reseed": "Random masks are drawn chunk by chunk",
        "in_place": "A network that is measured in place goes chunk by chunk in its own precision and layout",
    }
    for key, others in excluded.items():
        if plan.get(key) is True and others:
            pinned = ", ".join(f"{other}: {value_words(plan[other])}" for other in others)
            faults.add((*here, key), f"must be false beside {pinned}, got true. {reasons[key]}.")
    if plan.get("in_place") is True and block.get("precision") == "float64":
        faults.add((*here, "in_place"), f"must be false beside precision: float64, got true. {reasons['in_place']}.")


def _check_window(
    analysis: Block, interval: Any, resolution: Any, path: KeyPath, faults: Faults, *, keys: Collection[str]
) -> None:
    """The window must fit the lines, and the degrees of the polynomials under `keys` the window."""
    window = analysis.get("window")
    if window is None or interval is None or resolution is None:
        return
    if window > interval * (1 + _ROUNDING):
        faults.add(
            (*path, "window"),
            f"must be at most the line probe's interval ({interval}), got {window}. Lines are known up to there only.",
        )
    elif window < 2 * resolution * (1 - _ROUNDING):
        faults.add(
            (*path, "window"),
            f"must be at least twice the line probe's resolution ({format_lr(2 * resolution)}), got {window}. Widen it "
            "or make probes.line.resolution finer.",
        )
    else:
        points = 2 * math.floor(window / resolution * (1 + _ROUNDING)) + 1
        for key in keys:
            for position, degree in _sound(analysis.get(key), int):
                if degree >= points:
                    faults.add(
                        (*path, key, Index(position)),
                        f"must be below the number of grid points in the window ({points}), got {degree}. Widen "
                        "analysis.window or make probes.line.resolution finer.",
                    )


def _check_chunks(experiment: Block, config: Block, path: KeyPath, faults: Faults, *, probe: str) -> None:
    """BatchNorm in train mode has no statistics in a chunk of one sample."""
    dataset, validation = experiment.get("dataset"), _entry(experiment, "probes", probe, "validation")
    block = _mapping(_mapping(config, "datasets"), dataset) if isinstance(dataset, str) else {}
    splits = ["train", *(["validation"] if validation is True else [])]
    rule = f"must not leave a chunk of one sample when probes.{probe}.batch_norm is train"
    micro_batch = experiment.get("micro_batch")
    for position, batch_size in _sound(experiment.get("batch_size"), int):
        size = batch_size if micro_batch is None else min(batch_size, micro_batch)
        here: KeyPath = (*path, "batch_size", Index(position))
        other = "batch size"
        if size < batch_size:
            here, other = (*path, "micro_batch"), "micro_batch"
        if size == 1:
            faults.add(here, f"{rule}, got 1. Use a batch of 2 or more, or set probes.{probe}.batch_norm: eval.")
            continue
        for split in splits:
            images = _images(block, split)
            if images is not None and images % size == 1:
                choices = [images - 1] if block[split] == "all" else [images - 1, images + 1]
                mended = " or ".join(str(choice) for choice in choices if choice > 0)
                faults.add(
                    here,
                    f"{rule}, got {size}, which leaves one of the {images} {split} images over. Set "
                    f"datasets.{dataset}.{split} to {mended}, or use another {other}.",
                )
        if batch_size % size == 1:
            left = f"which leaves one of the {batch_size} samples of a batch over"
            faults.add(here, f"{rule}, got {size}, {left}. Use another micro_batch.")


def _measures(experiment: Block, probe: str) -> bool:
    """Return whether an experiment measures a probe; lines of every update cover what `interp` measures."""
    probes = _mapping(experiment, "probes")
    return probe in probes or (probe == "interp" and _entry(probes, "line", "every") == 1)


def _check_figures(
    experiment: Block,
    raw_figures: Any,
    path: KeyPath,
    faults: Faults,
    *,
    known: Collection[str] | None,
    probes: Mapping[str, Collection[str]],
    comparing: Collection[str],
    samples: Collection[str],
    theory: Collection[str],
    toys: Mapping[str, str],
) -> None:
    if not isinstance(raw_figures, list | tuple):
        return
    steps, line = experiment.get("steps"), _entry(experiment, "probes", "line")
    for position, figure in _sound(raw_figures, str):
        here = (*path, "figures", Index(position))
        if known is not None and figure not in known:
            # Better than the schema's words about the form of an id.
            text = f"must be the id of a figure, got {value_words(figure)}. {name_hint(figure, known, kind='figures')}"
            faults.add(here, text, replace=True)
            continue
        if figure in comparing:
            faults.add(
                here,
                f"must be a figure of a single run, got {figure}, which compares runs. Move it to the top level's "
                f"comparisons: {{a_name: {{figure: {figure}, experiments: [...]}}}}.",
            )
            continue
        if figure in toys:
            faults.add(
                here,
                f"must be a figure of a single run, got {figure}, which draws a toy. Move it to the top level's toys: "
                f"{{a_name: {{toy: {toys[figure]}, figures: [{figure}]}}}}.",
            )
            continue
        if figure in samples and isinstance(line, Mapping) and line.get("sample_losses") is False:
            faults.add(
                here,
                f"must have the loss of every sample, got {figure} with probes.line.sample_losses: false. Set it to "
                "true, or remove the figure.",
            )
        if figure in theory:
            faults.add(
                here,
                f"must be of a run whose optimizer has a theory of its stationary state, got {figure} with "
                f"{label(experiment['optimizer']['name'])}. Remove the figure, or use sgd.",
            )
            continue
        needed = probes.get(figure, ())
        missing = [probe for probe in needed if not _measures(experiment, probe)]
        if missing and not faults.under((*path, "probes")):
            faults.add(
                here,
                f"must have its probe measured, got no probes.{missing[0]} in this experiment. Add it, or remove the "
                f"figure {figure}.",
            )
        every = line.get("every") if isinstance(line, Mapping) else None
        if "line" in needed and steps is not None and every is not None:
            count = len(measured_steps(steps, every))
            if count < 2 and not faults.under((*path, "probes", "line", "every")):
                faults.add(
                    (*path, "probes", "line", "every"),
                    f"must leave at least two lines for the figures, got {every} with {steps} steps. Lower it, or "
                    "raise steps.",
                )


def _check_comparisons(
    config: Block,
    raw: Block,
    faults: Faults,
    *,
    known: Collection[str] | None,
    probes: Mapping[str, Collection[str]],
    comparing: Collection[str],
) -> None:
    experiments = _names(raw, "experiments")
    for name, block in _mapping(config, "comparisons").items():
        path: KeyPath = ("comparisons", name)
        figure = _entry(block, "figure")
        if isinstance(figure, str) and known is not None and figure not in comparing:
            hint = name_hint(figure, comparing, kind="figures that compare runs")
            text = f"must be the id of a figure that compares runs, got {value_words(figure)}. {hint}"
            faults.add((*path, "figure"), text, replace=True)
            continue
        for position, experiment in _sound(_entry(block, "experiments"), str):
            here = (*path, "experiments", Index(position))
            if not _are_named(raw, "experiments"):
                continue
            if experiment not in experiments:
                faults.add(
                    here,
                    f"must be the name of an experiment, got {value_words(experiment)}. "
                    + name_hint(experiment, experiments, kind="experiments"),
                )
                continue
            measured = _mapping(_mapping(config, "experiments"), experiment)
            missing = [probe for probe in probes.get(str(figure), ()) if not _measures(measured, probe)]
            if missing and not faults.under(("experiments", experiment)):
                faults.add(
                    here,
                    f"must measure what the figure draws, got no probes.{missing[0]} in {experiment}. Add it there, or "
                    "remove the experiment here.",
                )
