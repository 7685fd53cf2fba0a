"""Models of a configuration: entries whose source can be read without importing it."""

from __future__ import annotations

from sgdline.config._draft import Block, Draft
from sgdline.declare.faults import Faults, KeyPath, name_hint, value_words
from sgdline.digests import Parameters, names_in, parameters_of

# What a factory gets without being told, if it asks for it (sgdline.models.loading).
_FACTS_OF_DATA = ("input_shape", "num_classes", "in_channels", "image_size")


def check_models(draft: Draft) -> None:
    """Note entries that are not there, of files and of modules of this package, and arguments that they do not take."""
    for name, model in draft.blocks("models").items():
        path: KeyPath = ("models", name)
        if isinstance(model.get("entry"), str) and not draft.faults.under(path):
            _check_entry(model["entry"], model, path, draft.faults)


def _check_entry(entry: str, model: Block, path: KeyPath, faults: Faults) -> None:
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
    if parameters is None:
        return
    kwargs = model["kwargs"]
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
