"""Names and folders of a configuration: they become names of files."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping

from sgdline.config._draft import Block, Draft, entry, sound_entries
from sgdline.declare.faults import Faults, KeyPath, name_hint, value_words
from sgdline.declare.paths import too_long
from sgdline.papers.asked import asked
from sgdline.papers.base import papers as papers_drawn
from sgdline.workflow.layout import FOLDERS


def check_names(draft: Draft) -> None:
    """Note names that would share a file or a folder, and folders that cannot be used."""
    _check_folders(draft)
    for section in ("datasets", "models", "experiments", "comparisons", "toys"):
        _check_distinct(draft.sound.get(section) or (), (section,), draft.faults)
    _check_names_of_runs(draft)
    folded = {name.casefold(): name for name in draft.names("experiments")}
    for name in draft.names("toys"):
        twin = folded.get(name.casefold())
        if twin is not None:
            rule = f"must differ from the names of the experiments, got {name!r} beside experiments.{twin}."
            draft.faults.add(("toys", name), f"{rule} Rename one of them: run names both.")


def _check_folders(draft: Draft) -> None:
    paths: list[tuple[KeyPath, object]] = [((key,), draft.sound.get(key)) for key in ("results", "data_dir")]
    imported = draft.blocks("experiments").items()
    paths += [(("experiments", name, "import_lines"), entry(block, "import_lines")) for name, block in imported]
    for path, text in paths:
        length = too_long(text) if isinstance(text, str) and not draft.faults.under(path) else None
        if length:
            draft.faults.add(path, length)
    for key in ("results", "data_dir"):
        folder = draft.sound.get(key)
        if not isinstance(folder, str) or draft.faults.under((key,)):
            continue
        got = f"got {value_words(folder)}"
        if not re.fullmatch(r"[\w./+@=,][\w./+@=,-]*", folder):
            hint = "Write the full path instead of ~." if folder.startswith("~") else "Choose another folder name."
            draft.faults.add(
                (key,),
                "must be a folder path of letters, digits and _ - . / + @ = , only (no spaces, no characters special "
                f"to a shell), {got}. {hint}",
            )
        elif ".." in folder.split("/"):
            draft.faults.add((key,), f"must be a folder path without '..', {got}. Write the full path instead.")
        elif posixpath.normpath(folder) in ("/", "//", "."):
            draft.faults.add((key,), f"must be a folder of its own, {got}. Name a folder inside it.")


def _check_distinct(names: Iterable[str], path: KeyPath, faults: Faults) -> None:
    """Note names that differ from one before them in upper and lower case only."""
    seen: dict[str, str] = {}
    for name in names:
        twin = seen.setdefault(name.casefold(), name)
        if twin != name:
            rule = f"must differ from {twin!r} in more than upper and lower case, got {name!r}. Rename one of them:"
            faults.add((*path, name), f"{rule} they would share a folder on some file systems.")


def _check_names_of_runs(draft: Draft) -> None:
    """Files of a run are named `<experiment>_<model>_...`: no two pairs of names may join to the same text."""
    papers = papers_drawn()
    for section in ("experiments", "toys"):
        for name in draft.blocks(section):
            if name in papers:
                rule = f"must not be the name of a paper, got {name!r}. Rename it: run names papers as well."
                draft.faults.add((section, name), rule)
    joined: dict[str, list[tuple[str, str]]] = {}
    for experiment in draft.names("experiments"):
        for model in draft.names("models"):
            joined.setdefault(f"{experiment}_{model}".casefold(), []).append((experiment, model))
    for name, block in draft.blocks("experiments").items():
        if name.casefold() in FOLDERS:
            rule = f"must not be one of {', '.join(FOLDERS)}, got {name!r}."
            draft.faults.add(
                ("experiments", name), f"{rule} Rename it: the results folder has a folder of that name already."
            )
        for position, model in sound_entries(block.get("models"), str):
            pairs = joined.get(f"{name}_{model}".casefold(), [])
            twins = [pair for pair in pairs if pair[0].casefold() != name.casefold()]
            if twins:
                draft.faults.add(
                    ("experiments", name, "models", position),
                    f"must give file names of its own, got {model!r}: {name} and {model} join to the same text as "
                    f"{twins[0][0]} and {twins[0][1]}. Rename one of them.",
                )


def check_run(draft: Draft) -> None:
    """Note unknown names of what to run, and papers that nothing is drawn for."""
    sections = (draft.raw.get("experiments"), draft.raw.get("toys", {}))
    if not isinstance(draft.sound.get("run"), list) or not all(isinstance(blocks, Mapping) for blocks in sections):
        return  # a section that is no mapping is one fault, not one for each name
    known, papers = [*draft.names("experiments"), *draft.names("toys")], papers_drawn()
    for position, name in sound_entries(draft.sound["run"], str):
        if name in papers and name not in known:
            if not draft.faults.any() and not _names_of_paper(draft.sound, name):
                rule = f"must be a paper that the configuration draws, got {name}. Add figures of it to an experiment."
                draft.faults.add(("run", position), rule)
        elif name not in known:
            hint = name_hint(name, [*known, *papers], kind="experiments, toys and papers")
            rule = f"must be the name of an experiment, a toy or a paper, got {value_words(name)}. {hint}"
            draft.faults.add(("run", position), rule)


def names_to_run(config: Block) -> list[str]:
    """Return the experiments and toys to run: all of them, or those that `run` names, with those of its papers."""
    everything = [*config["experiments"], *config["toys"]]
    if config["run"] == "all":
        return everything
    asked = [[name] if name in everything else _names_of_paper(config, name) for name in config["run"]]
    return list(dict.fromkeys(name for names in asked for name in names))


def _names_of_paper(config: Block, paper: str) -> list[str]:
    """Return the experiments and toys that figures of a paper draw, alone or compared, in the configuration's order."""
    figures = {name: list(block["figures"]) for kind in ("experiments", "toys") for name, block in config[kind].items()}
    for block in config["comparisons"].values():
        for name in block["experiments"]:
            figures[name].append(block["figure"])
    return [name for name, drawn in figures.items() if any(asked(figure).is_of == paper for figure in drawn)]
