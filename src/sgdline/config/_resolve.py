"""From what Snakemake merged to a complete, checked configuration."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import fields
from functools import partial
from typing import Any

from sgdline.config._analyses import check_analyses
from sgdline.config._asked import faults_of, made_soundly
from sgdline.config._figures import check_tables, draws, figure_hint, own_figures
from sgdline.config._files import ConfigFiles
from sgdline.config._toys import check_toys
from sgdline.config.declarations import AnalysisOptions, configuration_schema
from sgdline.data.dataset_checks import images_of, most_images
from sgdline.data.sources.base import Source
from sgdline.declare.build import build, build_thing
from sgdline.declare.faults import Faults, Index, KeyPath, name_hint, value_words
from sgdline.declare.paths import too_long
from sgdline.declare.registry import declaration, is_entry, label, name_of
from sgdline.declare.run_facts import RunFacts
from sgdline.declare.schema import shared_fields
from sgdline.declare.walker import Walker
from sgdline.digests import Parameters, names_in, parameters_of
from sgdline.entries import where_words
from sgdline.errors import cause_words
from sgdline.figures.spec import FigureSpec
from sgdline.losses.base import Loss
from sgdline.probes.base import PlannedOptions
from sgdline.table_modules import table_modules
from sgdline.train.rules.base import UpdateRule
from sgdline.train.settings import LabelNoiseOptions
from sgdline.workflow.layout import figure_folder, format_lr
from sgdline.workflow.runs import probe_options
from sgdline.workflow.segments import measured_steps, segment_bounds

Block = Mapping[str, Any]

_SPLITS = ("train", "validation", "test")
# Folders beside those of the experiments.
_RESERVED_NAMES = ("benchmarks", "datasets", "figures", "logs", "sharpness", "tables", "toys")
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
        known_figures: Ids of the package's figures; None leaves ids unchecked. Figures by entry are always checked.
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
        own = own_figures(resolved, faults)
        papers = sorted({figure.partition("/")[0] for figure in known_figures or ()})
        _check_run_names(resolved, raw, faults, papers)
        for name, experiment in _mapping(resolved, "experiments").items():
            path = ("experiments", name)
            _check_references(experiment, resolved, raw, path, faults)
            _number_batches(experiment, resolved, path, faults)
            _check_training(experiment, resolved, path, faults)
            _check_probe_names(experiment, path, faults)
            _check_shared_options(experiment, path, faults)
            _check_import(experiment, path, faults)
            run = _ask_things(experiment, resolved, path, faults)
            _check_lr_unit(experiment, run, path, faults)
            _ask_analysis(experiment, run, path, faults)
            check_analyses(experiment, path, faults)
            _check_own_figures(name, experiment, path, faults, own=own)
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
        _check_comparisons(
            resolved, raw, faults, known=known_figures, probes=figure_probes or {}, comparing=comparing, own=own
        )
        _check_claims(resolved, raw, faults)
        check_toys(
            _mapping(resolved, "toys"),
            _mapping(raw, "toys"),
            faults,
            experiments=_names(raw, "experiments"),
            known=known_figures,
            drawn=toy_figures,
            own=own,
        )
        _check_run(resolved, raw, faults, papers)
    faults.raise_if_any()
    # A round trip through JSON: what is handed out shares nothing with the input and fits into the tables' metadata.
    complete: dict[str, Any] = json.loads(json.dumps(resolved))
    return complete | {"run": _names_to_run(complete)}


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
    imported = _mapping(config, "experiments").items()
    paths += [(("experiments", name, "import_lines"), _entry(block, "import_lines")) for name, block in imported]
    for path, text in paths:
        length = too_long(text) if isinstance(text, str) and not faults.under(path) else None
        if length:
            faults.add(path, length)
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
    """Let a sound data set say what is wrong with its options together."""
    try:
        source = _source(dataset)
        if source is None or any(faults.under((*path, option)) for option in dataset):
            return
        for fault in source.faults():
            faults.add((*path, *fault.path), fault.text)
    except Exception as error:
        if not is_entry(dataset["source"]):
            raise
        faults.add(
            (*path, "source"),
            f"must check its options without an error, got {cause_words(error)}{where_words(error)}. Correct "
            f"{dataset['source']}.",
        )


def _source(dataset: Block) -> Source | None:
    """Return the declaration of a data set; None where an option is left out because it is at fault."""
    declared: Any = declaration("source", dataset["source"])
    if not {field.name for field in fields(declared)} <= dataset.keys():
        return None
    source: Source = build_thing("source", dataset, tag="source")
    return source


def _images(dataset: Any, split: str) -> int | None:
    """Return the number of images of a split, `all` counted where the source says how many it has."""
    size = dataset.get(split) if isinstance(dataset, Mapping) else None
    if isinstance(size, int):
        return size
    found: int | None = _said_of(dataset, lambda source: images_of(source, split), otherwise=None)
    return found


def _most_images(dataset: Any) -> dict[str, int]:
    """Return the most images that each split could have; splits of an unknown source are left out."""
    found: dict[str, int] = _said_of(dataset, most_images, otherwise={})
    return found


def _said_of(dataset: Any, question: Callable[[Source], Any], *, otherwise: Any) -> Any:
    """Return what a data set's declaration answers, or something else where it is at fault."""
    if not isinstance(dataset, Mapping) or "source" not in dataset:
        return otherwise
    try:
        source = _source(dataset)
        return otherwise if source is None else question(source)
    except Exception:
        if not is_entry(dataset["source"]):
            raise
        return otherwise  # _check_dataset has reported it


def _check_run(config: Block, raw: Block, faults: Faults, papers: Collection[str]) -> None:
    """Note unknown names of what to run, and papers that nothing is drawn for."""
    known = _names(raw, "experiments") + _names(raw, "toys")
    if not isinstance(config.get("run"), list) or not _are_named(raw, "experiments", "toys"):
        return
    for position, name in _sound(config["run"], str):
        if name in papers and name not in known:
            if not faults.any() and not _names_of_paper(config, name):
                rule = f"must be a paper that the configuration draws, got {name}. Add figures of it to an experiment."
                faults.add(("run", Index(position)), rule)
        elif name not in known:
            hint = name_hint(name, [*known, *papers], kind="experiments, toys and papers")
            rule = f"must be the name of an experiment, a toy or a paper, got {value_words(name)}. {hint}"
            faults.add(("run", Index(position)), rule)


def _names_of_paper(config: Block, paper: str) -> list[str]:
    """Return the experiments and toys that figures of a paper draw, alone or compared, in the configuration's order."""
    figures = {name: list(block["figures"]) for kind in ("experiments", "toys") for name, block in config[kind].items()}
    for block in config["comparisons"].values():
        for name in block["experiments"]:
            figures[name].append(block["figure"])
    return [
        name
        for name, drawn in figures.items()
        if any(figure_folder(figure).startswith(f"{paper}/") for figure in drawn)
    ]


def _names_to_run(config: Block) -> list[str]:
    """Return the experiments and toys to run: all of them, or those that `run` names, with those of its papers."""
    everything = [*config["experiments"], *config["toys"]]
    if config["run"] == "all":
        return everything
    return list(
        dict.fromkeys(
            name
            for asked in config["run"]
            for name in ([asked] if asked in everything else _names_of_paper(config, asked))
        )
    )


def _check_run_names(config: Block, raw: Block, faults: Faults, papers: Collection[str]) -> None:
    """Files of a run are named `<experiment>_<model>_...`: no two pairs of names may join to the same text."""
    experiments, models = _names(raw, "experiments"), _names(raw, "models")
    joined: dict[str, list[tuple[str, str]]] = {}
    for experiment in experiments:
        for model in models:
            joined.setdefault(f"{experiment}_{model}".casefold(), []).append((experiment, model))
    for kind in ("experiments", "toys"):
        for name in _mapping(config, kind):
            if name in papers:
                rule = f"must not be the name of a paper, got {name!r}. Rename it: run names papers as well."
                faults.add((kind, name), rule)
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
            f"must be absolute when the optimizer is {name_of(type(run.rule))}, got sharpness. Its lr is a measuring "
            "step, a length.",
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


def _check_import(experiment: Block, path: KeyPath, faults: Faults) -> None:
    """Imported lines were measured elsewhere: there is no network to train or to probe any further."""
    if experiment.get("import_lines") is None:
        return
    measures: dict[str, Any] = {probe: declaration("probe", probe) for probe in _mapping(experiment, "probes")}
    if not faults.under((*path, "probes")) and not any(found.takes_imported_lines for found in measures.values()):
        hint = "Add it, with the interval and resolution of the imported lines."
        faults.add((*path, "probes"), f"must hold line where lines are imported, got none. {hint}")
    for probe, found in measures.items():
        if not found.takes_imported_lines and not faults.under((*path, "probes", probe)):
            faults.add((*path, "probes", probe), "must be left out where lines are imported. Remove it.")
    for key in ("models", "lr", "batch_size", "seed"):
        entries = experiment.get(key)
        if isinstance(entries, list) and len(entries) > 1 and not faults.under((*path, key)):
            faults.add(
                (*path, key),
                f"must hold one entry where lines are imported, got {len(entries)}. One folder holds one run.",
            )


def _check_probe_names(experiment: Block, path: KeyPath, faults: Faults) -> None:
    """Each probe has a table of its own, which has the name of the probe, or of an entry's declaration."""
    called: dict[str, str] = {}
    for name in _mapping(experiment, "probes"):
        own = label(name)
        twin = called.setdefault(own, name)
        if is_entry(name) and (own in table_modules() or twin != name):
            rule = (
                f"must be called otherwise than the package's table {own}" if twin == name else f"is called as {twin}"
            )
            faults.add((*path, "probes", name), f"{rule}, got the declaration {own}. Rename it.")
        elif is_entry(name) and issubclass(probe_options(name), PlannedOptions):
            rule = "must not derive from PlannedOptions, whose plans are tried by modules of the package"
            faults.add((*path, "probes", name), f"{rule}, got {own}. Derive it from EveryOptions.")


def _check_shared_options(experiment: Block, path: KeyPath, faults: Faults) -> None:
    """A probe that measures as another one says needs that one."""
    probes = _mapping(experiment, "probes")
    if faults.under((*path, "probes")):
        return
    for probe in probes:
        for other in shared_fields(probe_options(probe)):
            if other not in probes:
                rule = f"needs `probes.{other}`, whose settings it shares. Add `{other}: {{}}`."
                faults.add((*path, "probes", probe), rule)


def _ask_things(experiment: Block, config: Block, path: KeyPath, faults: Faults) -> RunFacts:
    """Let what declares itself, as far as it is sound, say what is wrong with its options in this experiment.

    Returns:
        RunFacts: What they know of it.
    """
    things: dict[KeyPath, Any] = {}
    for key, kind in (("optimizer", "update_rule"), ("schedule", "schedule"), ("loss", "loss")):
        if key in experiment and not faults.under((*path, key)):
            block = experiment[key]
            make = partial(build_thing, kind, block, tag="name")
            things[(key,)] = made_soundly(make, block["name"], (*path, key, "name"), faults)
    if "label_noise" in experiment and not faults.under((*path, "label_noise")):
        things[("label_noise",)] = build(LabelNoiseOptions, experiment["label_noise"])
    probes: dict[str, Any] = {
        probe: made_soundly(
            partial(build, declaration("probe", probe), options), probe, (*path, "probes", probe), faults
        )
        for probe, options in _mapping(experiment, "probes").items()
        if not faults.under((*path, "probes", probe))
    }
    probes = {probe: options for probe, options in probes.items() if options is not None}
    things = {place: thing for place, thing in things.items() if thing is not None}
    run = _run_facts(
        experiment, config, path, faults, rule=things.get(("optimizer",)), loss=things.get(("loss",)), probes=probes
    )
    for place, thing in (things | {("probes", probe): options for probe, options in probes.items()}).items():
        for fault in faults_of(thing, run):
            faults.add((*path, *(() if fault.of_experiment else place), *fault.path), fault.text)
    return run


def _run_facts(
    experiment: Block,
    config: Block,
    path: KeyPath,
    faults: Faults,
    *,
    rule: UpdateRule | None,
    loss: Loss | None,
    probes: Mapping[str, Any],
) -> RunFacts:
    """Return what things may ask of an experiment; what has a fault so far is left out."""
    dataset = experiment.get("dataset")
    block = _entry(config, "datasets", dataset) if isinstance(dataset, str) else None
    images = {split: _images(block, split) for split in _SPLITS}
    augmentation = _mapping(experiment, "augmentation")
    listed: dict[str, dict[int, Any]] = {
        key: {
            position: value
            for position, value in _sound(experiment.get(key), kind)
            if not faults.under((*path, key, Index(position)))
        }
        for key, kind in (("lr", float), ("batch_size", int))
    }
    incomplete = {key for key, kept in listed.items() if len(kept) < len(experiment.get(key) or [None])}
    return RunFacts(
        dataset=dataset,
        images={split: count for split, count in images.items() if count is not None},
        most_images=_most_images(block),
        learning_rates=listed["lr"],
        batch_sizes=listed["batch_size"],
        micro_batch=experiment.get("micro_batch"),
        steps=experiment.get("steps"),
        threads=experiment.get("threads"),
        drop_last=experiment.get("drop_last"),
        augments=None if len(augmentation) < 2 else augmentation["crop_padding"] > 0 or augmentation["flip"],
        imports_lines=experiment.get("import_lines") is not None,
        rule=rule,
        loss=loss,
        probes=probes,
        incomplete=frozenset([*incomplete, *([] if "micro_batch" in experiment else ["micro_batch"])]),
    )


def _ask_analysis(experiment: Block, run: RunFacts, path: KeyPath, faults: Faults) -> None:
    here, line, block = (*path, "analysis"), run.probes.get("line"), experiment.get("analysis")
    if line is None or block is None or faults.under(here):
        return
    same_position = "mline" in _mapping(experiment, "probes")
    for fault in build(AnalysisOptions, block).faults(line, same_position=same_position):
        faults.add((*here, *fault.path), fault.text)


def _measures(experiment: Block, probe: str) -> bool:
    """Return whether an experiment measures a probe; lines of every update cover what `interp` measures."""
    probes = _mapping(experiment, "probes")
    return probe in probes or (probe == "interp" and _entry(probes, "line", "every") == 1)


def _check_own_figures(
    name: str, experiment: Block, path: KeyPath, faults: Faults, *, own: Mapping[str, FigureSpec]
) -> None:
    """A figure of the user's draws runs, and reads tables that the experiment makes."""
    for position, figure in _sound(experiment.get("figures"), str):
        here = (*path, "figures", Index(position))
        if figure in own and not faults.under(here) and draws(own[figure], "run", here, faults):
            check_tables(own[figure].tables, own[figure].id, experiment, name, here, faults)


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
        if is_entry(figure):
            continue
        if known is not None and figure not in known:
            # Better than the schema's words about the form of an id.
            hint = figure_hint(figure, known, kind="figures")
            faults.add(here, f"must be the id of a figure, got {value_words(figure)}. {hint}", replace=True)
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


def _check_claims(config: Block, raw: Block, faults: Faults) -> None:
    """A claim is about experiments that there are and that measure what it reads."""
    known = _names(raw, "experiments")
    labels: dict[str, str] = {}
    for name, block in _mapping(config, "claims").items():
        twin = labels.setdefault(label(name).casefold(), name)
        if twin != name:
            rule = (
                f"must have another name than {twin} in more than upper and lower case, got {label(name)}. Rename it."
            )
            faults.add(("claims", name), rule)
        claim: Any = declaration("claim", name)
        said, options = ("reads", "number", "meaning", "relation", "threshold"), {field.name for field in fields(claim)}
        missing = [key for key in said if not hasattr(claim, key) and key not in options]
        if missing or not isinstance(claim.reads, tuple):
            what = f"{', '.join(missing)}" if missing else "reads as a tuple of kinds of tables"
            faults.add(("claims", name), f"must declare {what}, got a claim without. Add it as a ClassVar.")
            continue
        for position, experiment in _sound(block.get("experiments"), str):
            if experiment not in known and _are_named(raw, "experiments"):
                hint = name_hint(experiment, known, kind="experiments")
                text = f"must be the name of an experiment, got {value_words(experiment)}. {hint}"
                faults.add(("claims", name, "experiments", Index(position)), text)
            elif isinstance(_entry(config, "experiments", experiment), Mapping):
                here: KeyPath = ("claims", name, "experiments", Index(position))
                check_tables(claim.reads, name, config["experiments"][experiment], experiment, here, faults)


def _check_comparisons(
    config: Block,
    raw: Block,
    faults: Faults,
    *,
    known: Collection[str] | None,
    probes: Mapping[str, Collection[str]],
    comparing: Collection[str],
    own: Mapping[str, FigureSpec],
) -> None:
    experiments = _names(raw, "experiments")
    for name, block in _mapping(config, "comparisons").items():
        path: KeyPath = ("comparisons", name)
        figure = _entry(block, "figure")
        if is_entry(figure):
            if figure not in own or faults.under((*path, "figure")):
                continue
            if not draws(own[figure], "comparison", (*path, "figure"), faults):
                continue
        elif isinstance(figure, str) and known is not None and figure not in comparing:
            hint = figure_hint(figure, comparing, kind="figures that compare runs")
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
            if is_entry(figure) and measured:
                check_tables(own[figure].tables, own[figure].id, measured, experiment, here, faults)
            missing = [probe for probe in probes.get(str(figure), ()) if not _measures(measured, probe)]
            if missing and not faults.under(("experiments", experiment)):
                faults.add(
                    here,
                    f"must measure what the figure draws, got no probes.{missing[0]} in {experiment}. Add it there, or "
                    "remove the experiment here.",
                )
