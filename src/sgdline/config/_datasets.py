"""Data sets of a configuration: what their declarations say of their options and sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any

from sgdline.config._asked import faults_of, made_soundly
from sgdline.config._draft import Block, Draft
from sgdline.data.dataset_checks import images_of, most_images
from sgdline.data.sources.base import Source
from sgdline.declare.build import build_thing
from sgdline.declare.faults import Faults, KeyPath
from sgdline.declare.registry import declaration

_SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Sizes:
    """What is known of a data set's sizes before it is read; splits of which nothing is known are left out.

    Attributes:
        images: Split -> its number of images.
        most: Split -> the most images that it could have.
    """

    images: Mapping[str, int] = field(default_factory=dict)
    most: Mapping[str, int] = field(default_factory=dict)


def sizes_of(block: Block) -> Sizes:
    """Return the sizes of a sound data set."""
    return _sizes(build_thing("source", block, tag="source"))


def check_datasets(draft: Draft) -> dict[str, Sizes]:
    """Let sound data sets say what is wrong with their options together.

    Returns:
        Name -> what is known of its sizes.
    """
    return {name: _checked(block, ("datasets", name), draft.faults) for name, block in draft.blocks("datasets").items()}


def _checked(block: Block, path: KeyPath, faults: Faults) -> Sizes:
    here, said = (*path, "source"), Sizes({split: block[split] for split in _SPLITS if type(block.get(split)) is int})
    declared: Any = declaration("source", block["source"])
    if not {option.name for option in fields(declared)} <= block.keys():
        return said
    if any(faults.under((*path, option)) for option in block):
        return said
    source = made_soundly(partial(build_thing, "source", block, tag="source"), block["source"], here, faults)
    sizes = (
        None
        if source is None
        else made_soundly(partial(_sizes, source), block["source"], here, faults, what="answer facts(self)")
    )
    if sizes is None:
        return said
    for fault in faults_of(source, named_at=("source",)):
        faults.add((*path, *fault.path), fault.text)
    found: Sizes = sizes
    return found


def _sizes(source: Source) -> Sizes:
    images = {split: images_of(source, split) for split in _SPLITS}
    return Sizes({split: count for split, count in images.items() if count is not None}, most_images(source))
