"""Runs that continue runs of other experiments."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sgdline.config._draft import Block, Draft, entry, sound_entries
from sgdline.declare.faults import Faults, KeyPath
from sgdline.workflow.layout import format_lr
from sgdline.workflow.segments import segment_bounds


def check_starts(draft: Draft) -> None:
    """Check that continued runs are ones of the configuration, with a checkpoint where the others are to start."""
    experiments = draft.blocks("experiments")
    for name, experiment in experiments.items():
        start, here = experiment.get("start_from"), ("experiments", name, "start_from")
        parent = entry(start, "experiment")
        if not isinstance(parent, str):
            continue
        if experiment.get("import_lines") is not None:
            draft.faults.add(here, "must be null where lines are imported, got a mapping. Nothing is trained there.")
            continue
        followed: list[Any] = [name]
        while followed[-1] is not None and followed[-1] not in followed[:-1]:
            followed.append(entry(experiments, followed[-1], "start_from", "experiment"))
        if followed[-1] == name:
            text = f"must not lead back to {name}, got {parent!r}. Continue another experiment."
            draft.faults.add((*here, "experiment"), text)
        if followed[-1] is None and parent in experiments and not draft.faults.under(("experiments", parent)):
            _check_start(name, experiment, parent, experiments[parent], draft.faults)


def _check_start(name: str, experiment: Block, parent: str, block: Block, faults: Faults) -> None:
    path: KeyPath = ("experiments", name)
    here, start = (*path, "start_from"), experiment["start_from"]
    for key, kind in (("models", str), ("seed", int)):
        for position, value in sound_entries(experiment.get(key), kind):
            if value not in block[key]:
                faults.add(
                    (*path, key, position),
                    f"must be one of {parent}, which start_from continues ({_few(block[key])}), got {value}. "
                    f"Remove it, or add it to experiments.{parent}.{key}.",
                )
    if block["import_lines"] is not None:
        faults.add((*here, "experiment"), f"must be an experiment that trains, got {parent}, whose lines are imported.")
    elif experiment.get("dataset", block["dataset"]) != block["dataset"]:
        faults.add(
            (*here, "experiment"),
            f"must be an experiment on the same data set, got {parent}, which is on {block['dataset']}.",
        )
    lr = start.get("lr")
    if lr is not None and lr not in block["lr"]:
        rates = _few([format_lr(rate) for rate in block["lr"]])
        faults.add((*here, "lr"), f"must be a learning rate of {parent} ({rates}), got {format_lr(lr)}.")
    if not faults.under((*here, "batch_size")) and None not in block["batch_size"]:  # all, of an unknown data set
        own = [size for _, size in sound_entries(experiment.get("batch_size"), int)]
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
