"""What can be said of a data set before its images are read (no numpy): its sizes, and faults of its options."""

from __future__ import annotations

from collections.abc import Iterator

from sgdline.data.sources.base import MOST_PIXELS, Source
from sgdline.declare.faults import Index
from sgdline.declare.registry import name_of
from sgdline.declare.run_facts import Fault

_SPLITS = ("train", "validation", "test")
_LARGEST_PIXEL = 1e6  # after normalisation; a network's sums of squares have to stay within float32


def images_of(source: Source, split: str) -> int | None:
    """Return the number of images of a split, `all` counted where the source says how many it has.

    Args:
        source: The data set.
        split: train, validation or test.
    """
    sizes = _sizes(source)
    if sizes[split] is not None:
        return sizes[split]
    for splits, available in _pools(source):
        others = [sizes[other] for other in splits if other != split]
        if split in splits and None not in others:
            return max(available - sum(other or 0 for other in others), 0)
    return None


def most_images(source: Source) -> dict[str, int]:
    """Return the most images that each split could have beside the others; nothing where the source does not say."""
    sizes = _sizes(source)
    return {
        split: available - sum(sizes[other] or 0 for other in splits if other != split)
        for splits, available in _pools(source)
        for split in splits
    }


def dataset_faults(source: Source) -> Iterator[Fault]:
    """Yield what is wrong with the options that all sources share."""
    found = [*_read_faults(source), *_split_faults(source), *_constant_faults(source)]
    yield from found or [*_pixel_faults(source), *_range_faults(source)]


def _sizes(source: Source) -> dict[str, int | None]:
    """Return the images of each split, None for `all`."""
    asked = {"train": source.train, "validation": source.validation, "test": source.test}
    return {split: None if size == "all" else size for split, size in asked.items()}


def _pools(source: Source) -> list[tuple[tuple[str, ...], int]]:
    """Return which splits share how many images; nothing where the source does not say."""
    facts = source.facts()
    if facts.train is None or facts.test is None:
        return []
    return [(_SPLITS[:2], facts.train), (_SPLITS[2:], facts.test)] if facts.test else [(_SPLITS, facts.train)]


def _read_faults(source: Source) -> Iterator[Fault]:
    if type(source).read is Source.read:
        yield Fault(
            ("source",),
            f"must name a source with a method read(self, *, data_dir, download), got {name_of(type(source))} without "
            "one. Write it, as sgdline.data.sources.base.Source says.",
        )


def _split_faults(source: Source) -> Iterator[Fault]:
    sizes, name = _sizes(source), name_of(type(source))
    if sizes["train"] == 0:
        yield Fault(("train",), "must be a number of images of at least 1, or all, got 0. Training needs images.")
    for splits, available in _pools(source):
        left = available
        unbounded = [split for split in splits if sizes[split] is None]
        for split in splits:
            size = sizes[split] or 0
            if size > left:
                shared = f"{', '.join(splits)} share the {available} images of {name}."
                rest = shared if len(splits) > 1 else f"{name} has no more."
                yield Fault((split,), f"must be at most {left}, got {size}. {rest}")
                break
            left -= size
        if len(unbounded) > 1:
            yield Fault(
                (unbounded[-1],),
                f"must be a number of images when {unbounded[0]} is all, got all. They share the {available} images of "
                f"{name}.",
            )
        elif unbounded == ["train"] and left < 1:
            yield Fault(
                ("train",), f"must have images left to take, got all of {max(left, 0)}. Lower validation or test."
            )


def _constant_faults(source: Source) -> Iterator[Fault]:
    channels = source.channels or source.facts().channels
    given = {key: entry for key, entry in (("mean", source.mean), ("std", source.std)) if isinstance(entry, tuple)}
    for key, entry in given.items():
        if channels is not None and len(entry) != channels:
            yield Fault(
                (key,),
                f"must have one number per channel ({channels} here), got {len(entry)}. Give {channels} or write auto.",
            )
    if channels is None and len(given) == 2 and len(given["mean"]) != len(given["std"]):
        yield Fault(
            ("std",),
            f"must have as many entries as mean ({len(given['mean'])}), got {len(given['std'])}. Give both one per "
            "channel.",
        )
    for position, value in enumerate(given.get("std", ())):
        if value <= 0:
            yield Fault(("std", Index(position)), f"must be a number above 0, got {value}. Pixels are divided by it.")


def _range_faults(source: Source) -> Iterator[Fault]:
    """Given constants must leave normalised pixels that a network can compute with."""
    # What is measured instead lies in [0, 1], and a standard deviation is at least one grey level.
    means = source.mean if isinstance(source.mean, tuple) else (1.0,)
    stds = source.std if isinstance(source.std, tuple) else (1 / 255 if source.std == "auto" else 1.0,)
    count = max(len(means), len(stds))
    for mean, std in zip(means * (count // len(means)), stds * (count // len(stds)), strict=True):
        if (1.0 + abs(mean)) / std > _LARGEST_PIXEL:
            yield Fault(
                ("std" if isinstance(source.std, tuple) else "mean",),
                f"must leave pixels, (v - mean)/std for v in [0, 1], below {_LARGEST_PIXEL:g}, got {mean:g} as mean "
                f"and {std:g} as std. Write auto, or constants for pixels from 0 to 1.",
            )
            return


def _pixel_faults(source: Source) -> Iterator[Fault]:
    """All images lie in one table, whose size is known before they are read if source or options say it."""
    facts = source.facts()
    images = sum(images_of(source, split) or 0 for split in _SPLITS)
    kept = images * (source.channels or facts.channels or 1) * (source.image_size or facts.side or 1) ** 2
    if kept > MOST_PIXELS:
        yield Fault(
            ("train",) if source.image_size is None else ("image_size",),
            f"must leave at most {MOST_PIXELS} pixel values in the data set, got {kept}. Take fewer images or smaller "
            "ones.",
        )
